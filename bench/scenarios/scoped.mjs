// 2. Scoped: one change for 10 of N connections. CPU per publish, and how it grows with N. Each N has a workerd
// of its own, so that all are measured in the same minutes.
import { inTurns } from "../pace.mjs";
import { newSpace, row } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";
import { addRounds, median } from "../stats.mjs";
import { floor, of, ratioOf, spread, table } from "../format.mjs";
import { lines } from "../plot.mjs";

export const name = "scoped";

const LOG = "raw, with a log";
const PEERS = ["raw", LOG, "tidewire", "tidewire, merging", "tidewire, with log lines", "partyserver"];

/** Connections that hold the same topic. */
const TEAM = 10;
const tag = (at) => `team:${Math.floor(at / TEAM)}`;

/** Publishes of a turn: after going from process to process the first find the processor's caches cold. */
const TURN = 50;

export async function run({ starts, ...numbers }) {
  const all = await once(numbers);
  for (let start = 1; start < starts; start += 1) {
    const more = await once(numbers);
    for (const [at, { peers }] of all.entries()) addRounds(peers, more[at].peers);
  }
  return all;
}

async function once({ rounds, subscribers, publishes, warm }) {
  const space = newSpace();
  const all = [];
  try {
    for (const count of subscribers) {
      for (const peer of await startPeers(PEERS)) {
        Object.assign(peer, { count, name: `${peer.name} ${count}` });
        all.push(peer);
        await peer.load.open(space, peer.sockets(space, 0, count, { tag }), { strict: false });
      }
    }
    // Until the compilers have done with what is hot: wasm too begins as slow code.
    await measure(all, space, 1, warm);
    const measured = await measure(all, space, rounds, publishes);
    return subscribers.map((count) => ({
      subscribers: count,
      peers: Object.fromEntries(
        all.filter((peer) => peer.count === count).map(({ name, kind }) => [kind.name, measured[name]]),
      ),
    }));
  } finally {
    await stopPeers(all);
  }
}

/** Publishes of all peers in turn: CPU of one in µs, time of one to its last delivery in ms. */
async function measure(peers, space, rounds, publishes) {
  const turns = Math.ceil(publishes / TURN);
  const many = turns * TURN;
  // Spread over all connections, the same way in each round. A row stays with its team: one that moves is also told,
  // as deleted, to those who had it.
  const team = (peer, mark) => (mark * 7919) % Math.floor(peer.count / TEAM);
  const publish = (peer) =>
    peer.deliver(
      space,
      TEAM,
      (mark) => ({ ...row(mark, 200), id: `k${team(peer, mark)}` }),
      (mark) => ({ to: [`team:${team(peer, mark)}`] }),
    );
  const some = async (peer) => {
    const times = [];
    for (let at = 0; at < TURN; at += 1) times.push((await publish(peer)).lastMs);
    return times;
  };
  const measured = await inTurns(peers, rounds, turns, {
    // An object that has slept wakes with these.
    before: some,
    turn: some,
    after: (peer) => peer.checkLast(space, many + TURN, TEAM),
  });
  const numbers = ({ cpuUs, turns }) => ({ cpuUs: cpuUs / many, ms: median(turns.flat()) });
  return Object.fromEntries(Object.entries(measured).map(([name, list]) => [name, list.map(numbers)]));
}

export function report(results) {
  const rounds = (peer, count) => results.find(({ subscribers }) => subscribers === count).peers[peer];
  const counts = results.map(({ subscribers }) => subscribers);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const growth = (peer) => ratioOf(rounds(peer, most), rounds(peer, least), "cpuUs");
  const names = Object.keys(results[0].peers);
  const rows = results.flatMap(({ subscribers, peers }) =>
    Object.entries(peers).map(([peer, measured]) => [
      subscribers.toLocaleString("en-US"),
      peer,
      spread(ratioOf(measured, peers.raw, "cpuUs"), " ×"),
      spread(ratioOf(measured, peers[LOG], "cpuUs"), " ×"),
      spread(of(measured, "cpuUs")),
      spread(of(measured, "ms")),
    ]),
  );
  const range = `${least.toLocaleString("en-US")} to ${most.toLocaleString("en-US")}`;
  return {
    title: `Scoped: a change for ${TEAM} of N`,
    tables: [
      table(
        ["N", "peer", "CPU, to raw by tag", `to ${LOG}`, "CPU of a publish, µs", "to the last delivery, ms"],
        rows,
      ),
      table(
        ["peer", `growth of CPU from ${range}`],
        names.map((peer) => [peer, spread(growth(peer), " ×")]),
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
    ],
    plots: {
      "scoped.svg": lines({
        title: `CPU of a publish for ${TEAM} of N connections`,
        x: "connections",
        y: "µs of CPU",
        series: names.map((name) => ({
          name,
          points: counts.map((count) => ({ x: count, ...of(rounds(name, count), "cpuUs") })),
        })),
      }),
    },
  };
}
