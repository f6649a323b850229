// 4. Mutations: 50 clients that write as fast as they are acknowledged, 20 each under way. CPU per mutation; rows
// written per mutation.
import { interleaved, settle } from "../pace.mjs";
import { newSpace } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";
import { floor, of, ratioOf, spread, table } from "../format.mjs";
import { bars } from "../plot.mjs";

export const name = "mutations";

/** Mutations of each client whose written rows are counted. */
const FEW = 3;

export async function run({ rounds, clients, each, window, warm }) {
  const peers = await startPeers(["raw", "raw, careful", "tidewire", "tidewire, with log lines"]);
  const text = "x".repeat(120);
  const space = newSpace();
  try {
    for (const peer of peers) {
      // They are no subscribers: what is measured are writes, not fan-out.
      await peer.load.open(space, peer.sockets(space, 0, clients, { channel: null }));
    }
    // Until the compilers have done with what is hot: wasm too begins as slow code.
    for (const peer of peers)
      await peer.load.mutate(space, { each: warm, window, channel: "bench", run: "warm", text });
    const measured = await interleaved(peers, rounds, async (peer, round) => {
      const mutate = (part, count) =>
        peer.load.mutate(space, { each: count, window, channel: "bench", run: `${part}${round}`, text });
      await mutate("wake", 1);
      // The object counts what it writes from waking on, so this is counted over a short time.
      const before = await rowsWritten(peer, space);
      await mutate("count", FEW);
      const written = ((await rowsWritten(peer, space)) - before) / (clients * FEW);
      await settle();
      const began = peer.cpu();
      const { ms } = await mutate("measure", each);
      await settle();
      const cpu = peer.cpu() - began;
      const count = clients * each;
      return { written, cpuUs: cpu / count, perCpuSecond: count / (cpu / 1e6), perSecond: count / (ms / 1e3) };
    });
    return { clients, window, mutations: clients * each, peers: measured };
  } finally {
    await stopPeers(peers);
  }
}

/** How many rows the object has written, in its own count. */
async function rowsWritten(peer, space) {
  const response = await fetch(`${peer.workerd.origin}/stats?space=${space}`, { headers: peer.kind.headers });
  return (await response.json()).rowsWritten;
}

export function report({ clients, window, peers }) {
  const rows = Object.entries(peers).map(([peer, rounds]) => [
    peer,
    spread(ratioOf(rounds, peers.raw, "cpuUs"), " ×"),
    spread(of(rounds, "perCpuSecond")),
    spread(of(rounds, "cpuUs")),
    spread(of(rounds, "perSecond")),
    of(rounds, "written").median.toFixed(2),
  ]);
  return {
    title: `Mutations: ${clients} clients, ${window} under way each`,
    tables: [
      table(
        [
          "peer",
          "CPU, to raw",
          "acknowledged per second of CPU",
          "CPU of a mutation, µs",
          "acknowledged per second",
          "rows written",
        ],
        rows,
      ),
    ],
    floors: [
      floor("4. CPU of a mutation to raw with the same writes", ratioOf(peers.tidewire, peers.raw, "cpuUs"), 1.5),
    ],
    plots: {
      "mutations.svg": bars({
        title: `Mutations acknowledged per second of CPU, ${clients} clients`,
        x: "mutations per second of CPU",
        bars: Object.entries(peers).map(([name, rounds]) => ({ name, ...of(rounds, "perCpuSecond") })),
      }),
    },
  };
}
