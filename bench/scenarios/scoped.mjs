// 2. Scoped: one change for 10 of N connections. CPU per publish, and how it grows with N. Each N has a workerd
// of its own, so that all are measured in the same minutes.
import { settle } from "../pace.mjs";
import { newSpace, row, startPeers } from "../peers.mjs";
import { interleaved } from "../stats.mjs";
import { floor, of, ratioOf, spread, table } from "../format.mjs";
import { lines } from "../plot.mjs";

export const name = "scoped";

/** Connections that hold the same topic. */
const TEAM = 10;
const tag = (at) => `team:${Math.floor(at / TEAM)}`;

export async function run({ starts, ...numbers }) {
  const results = [];
  for (let start = 0; start < starts; start += 1) together(results, await once(numbers));
  return results;
}

/** Adds the rounds of another start, whose processes have other places in memory, which alone is some percent. */
function together(results, more) {
  for (const one of more) {
    const same = results.find(({ peer, subscribers }) => peer === one.peer && subscribers === one.subscribers);
    if (same) same.rounds.push(...one.rounds);
    else results.push(one);
  }
}

async function once({ rounds, subscribers, publishes, warm }) {
  const space = newSpace();
  const all = [];
  try {
    for (const count of subscribers) {
      for (const peer of await startPeers(["raw", "raw, with a log", "tidewire", "partyserver"])) {
        Object.assign(peer, { count, mark: 0, name: `${peer.name} ${count}` });
        all.push(peer);
        await peer.load.open(space, peer.sockets(space, 0, count, { tag }), { strict: false });
      }
    }
    // Until the compilers have done with what is hot: wasm too begins as slow code.
    for (const peer of all) await visit(peer, space, warm);
    const measured = await interleaved(all, rounds, (peer) => visit(peer, space, publishes));
    return all.map(({ name, kind, count }) => ({ peer: kind.name, subscribers: count, rounds: measured[name] }));
  } finally {
    await Promise.all(all.map((peer) => peer.stop()));
  }
}

async function visit(peer, space, publishes) {
  const teams = Math.floor(peer.count / TEAM);
  const publish = async () => {
    const mark = peer.mark++;
    // Spread over all connections, the same way in each round. A row stays with its team: one that moves is
    // also told, as deleted, to those who had it.
    const team = (mark * 7919) % teams;
    const [data, to] = [{ ...row(mark, 200), id: `k${team}` }, [`team:${team}`]];
    const began = Number(process.hrtime.bigint()) / 1e6;
    const [{ last }] = await Promise.all([
      peer.load.wait(space, mark, TEAM),
      peer.publish(space, data, { to }),
    ]);
    return last - began;
  };
  const from = peer.mark;
  for (let at = 0; at < 5; at += 1) await publish();
  await settle();
  const before = peer.cpu();
  const times = [];
  for (let at = 0; at < publishes; at += 1) times.push(await publish());
  await settle();
  const cpu = peer.cpu() - before;
  const sent = Array.from({ length: publishes + 5 }, (_, at) => from + at);
  await peer.load.check(space, from, sent, TEAM);
  return { cpuUs: cpu / publishes, ms: times.toSorted((a, b) => a - b)[publishes >> 1] };
}

export function report(results) {
  const rounds = (peer, subscribers) =>
    results.find((one) => one.peer === peer && one.subscribers === subscribers).rounds;
  const counts = [...new Set(results.map(({ subscribers }) => subscribers))];
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const growth = (peer) => ratioOf(rounds(peer, most), rounds(peer, least), "cpuUs");
  const peers = [...new Set(results.map(({ peer }) => peer))];
  const rows = results.map(({ peer, subscribers, rounds: measured }) => [
    subscribers.toLocaleString("en-US"),
    peer,
    spread(ratioOf(measured, rounds("raw", subscribers), "cpuUs"), " ×"),
    spread(of(measured, "cpuUs")),
    spread(of(measured, "ms")),
  ]);
  const range = `${least.toLocaleString("en-US")} to ${most.toLocaleString("en-US")}`;
  return {
    title: `Scoped: a change for ${TEAM} of N`,
    tables: [
      table(["N", "peer", "CPU, to raw by tag", "CPU of a publish, µs", "to the last delivery, ms"], rows),
      table(
        ["peer", `growth of CPU from ${range}`],
        peers.map((peer) => [peer, spread(growth(peer), " ×")]),
      ),
    ],
    floors: [
      floor(`2. growth of CPU from ${range} connections`, growth("tidewire"), 1.3),
      ...counts.map((count) =>
        floor(
          `2. CPU of a scoped publish to raw by tag, N = ${count.toLocaleString("en-US")}`,
          ratioOf(rounds("tidewire", count), rounds("raw", count), "cpuUs"),
          1.5,
        ),
      ),
      ...counts.map((count) =>
        floor(
          `2. CPU of a scoped publish to raw by tag that also writes it down, N = ${count.toLocaleString("en-US")}`,
          ratioOf(rounds("tidewire", count), rounds("raw, with a log", count), "cpuUs"),
          1.5,
        ),
      ),
    ],
    plots: {
      "scoped.svg": lines({
        title: `CPU of a publish for ${TEAM} of N connections`,
        x: "connections",
        y: "µs of CPU",
        series: peers.map((name) => ({
          name,
          points: counts.map((count) => ({ x: count, ...of(rounds(name, count), "cpuUs") })),
        })),
      }),
    },
  };
}
