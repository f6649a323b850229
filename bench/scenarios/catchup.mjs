// 5. Catch-up and snapshots: whole channels of 10,000 and 100,000 rows, read page by page over a socket, and a
// cursor 100 rows behind in a channel of 100,000, beside a channel of 100 rows. CPU per answer.
import { interleaved, settle } from "../pace.mjs";
import { newSpace, row } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";
import { addRounds } from "../stats.mjs";
import { floor, number, of, ratioOf, spread, table } from "../format.mjs";

export const name = "catchup";

/** Rows behind, and on a page. */
const BEHIND = 100;
const PAGE = 1_000;
/** Bytes of a row. */
const BYTES = 200;

export async function run({ starts, ...numbers }) {
  const all = await once(numbers);
  for (let start = 1; start < starts; start += 1) {
    const { results } = await once(numbers);
    for (const [kind, peers] of Object.entries(results)) addRounds(all.results[kind], peers);
  }
  return all;
}

async function once({ rounds, sizes, times, warm }) {
  const peers = await startPeers(["raw", "tidewire"]);
  const space = newSpace();
  const large = Math.max(...sizes);
  try {
    for (const peer of peers) {
      await peer.load.open(space, peer.sockets(space, 0, 1, { channel: null }));
      for (const size of sizes)
        await peer.fill(space, rowsFrom(0, size - (size === large ? BEHIND : 0)), `full-${size}`);
      const there = await peer.load.read(space, {
        channel: `full-${large}`,
        limit: PAGE,
        rows: large - BEHIND,
        times: 1,
      });
      await peer.fill(space, rowsFrom(large - BEHIND, BEHIND), `full-${large}`);
      await peer.fill(space, rowsFrom(0, BEHIND), "small");
      // Until the compilers have done with what is hot: wasm too begins as slow code.
      await peer.load.read(space, { channel: "small", limit: PAGE, rows: BEHIND, times: warm });
      // What this channel holds, whatever happened in the others since.
      peer.behind = { cursor: there.cursor, view: there.view };
    }
    const kinds = {
      ...Object.fromEntries(sizes.map((size) => [`full ${size}`, { channel: `full-${size}`, rows: size, times: 1 }])),
      [`behind in ${large}`]: { channel: `full-${large}`, rows: BEHIND, times, behind: true },
      [`all of ${BEHIND}`]: { channel: "small", rows: BEHIND, times },
    };
    // All kinds in one visit: they are compared with each other too.
    const visits = await interleaved(peers, rounds, async (peer) => {
      const measured = {};
      for (const [kind, what] of Object.entries(kinds)) measured[kind] = await read(peer, space, what);
      return measured;
    });
    const pick = (kind) =>
      Object.fromEntries(peers.map(({ name }) => [name, visits[name].map((measured) => measured[kind])]));
    const results = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, pick(kind)]));
    return { rows: Object.fromEntries(Object.entries(kinds).map(([kind, { rows }]) => [kind, rows])), results };
  } finally {
    await stopPeers(peers);
  }
}

/** Reads a channel some times: CPU of once in µs. */
async function read(peer, space, { behind, ...what }) {
  const question = { ...what, limit: PAGE, ...(behind ? peer.behind : {}) };
  if (what.times > 1) await peer.load.read(space, { ...question, times: 5 });
  const before = peer.cpu();
  const { ms } = await peer.load.read(space, question);
  await settle();
  return { cpuUs: (peer.cpu() - before) / what.times, ms: ms / what.times };
}

/** Rows with marks from `from` on. */
const rowsFrom = (from, count) =>
  Array.from({ length: count }, (_, n) => ({ ...row(from + n, BYTES), id: `k${from + n}` }));

export function report({ rows: counts, results }) {
  const rows = Object.entries(results).flatMap(([kind, peers]) =>
    Object.entries(peers).map(([peer, rounds]) => [
      kind,
      peer,
      spread(ratioOf(rounds, peers.raw, "cpuUs"), " ×"),
      spread(of(rounds, "cpuUs")),
      (of(rounds, "cpuUs").median / counts[kind]).toFixed(2),
      spread(of(rounds, "ms")),
    ]),
  );
  // What a page costs beside its rows: two pages of unlike many rows tell.
  const whole = Object.keys(results).find((kind) => kind.startsWith("full") && counts[kind] % PAGE === 0);
  const parts = Object.keys(results[whole]).map((peer) => {
    const page = (kind) => of(results[kind][peer], "cpuUs").median / Math.ceil(counts[kind] / PAGE);
    const few = `all of ${BEHIND}`;
    const row = (page(whole) - page(few)) / (Math.min(PAGE, counts[whole]) - BEHIND);
    return [peer, number(page(few) - BEHIND * row), number(row)];
  });
  const kinds = Object.keys(results);
  const [behind, small] = [
    kinds.find((kind) => kind.startsWith("behind")),
    kinds.find((kind) => kind.startsWith("all")),
  ];
  return {
    title: "Catch-up and snapshots",
    tables: [
      table(["what is read", "peer", "CPU, to raw", "CPU, µs", "CPU of a row, µs", "to the last page, ms"], rows),
      table(["peer", "a page beside its rows, µs of CPU", "a row more, µs"], parts),
    ],
    floors: [
      ...Object.entries(results)
        .filter(([kind]) => kind !== small)
        .map(([kind, peers]) =>
          floor(
            `5. CPU to raw \`JSON.stringify(sql.exec().toArray())\`, ${kind}`,
            ratioOf(peers.tidewire, peers.raw, "cpuUs"),
            1.2,
          ),
        ),
      floor(
        `5. CPU ${behind}, to a channel of ${BEHIND} rows`,
        ratioOf(results[behind].tidewire, results[small].tidewire, "cpuUs"),
        1.2,
      ),
    ],
    plots: {},
  };
}
