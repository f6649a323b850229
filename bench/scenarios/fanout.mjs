// 1. Fan-out: one change to all subscribers of a channel. CPU per delivery, and the time from the publisher's
// request to the last delivery.
import { inTurns } from "../pace.mjs";
import { newSpace, row } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";
import { addRounds, median } from "../stats.mjs";
import { floor, of, ratioOf, spread, table } from "../format.mjs";
import { lines } from "../plot.mjs";

export const name = "fanout";

/** Who is measured at every number of subscribers. */
const PEERS = ["raw", "tidewire", "partyserver"];

/** A raw object that writes what it sends: its frames, too, wait for the commit. */
const LOG = "raw, with a log";

/** Who is measured where there is a floor. */
const ALL = ["raw", LOG, "tidewire", "tidewire, with log lines", "partyserver"];

export async function run({ starts, subscribers, messages, ...numbers }) {
  // What has a floor is measured in several starts, see `addRounds`.
  const [least, ...more] = subscribers;
  const results = [];
  for (let start = 0; start < starts; start += 1) {
    for (const one of await once(ALL, { ...numbers, subscribers: [least], messages: 2 * messages })) {
      const same = results.find(({ bytes }) => bytes === one.bytes);
      if (!same) results.push(one);
      else addRounds(same.peers, one.peers);
    }
  }
  return [...results, ...(await once(PEERS, { ...numbers, subscribers: more, messages }))];
}

async function once(names, { rounds, subscribers, messages, bytes }) {
  const peers = await startPeers(names);
  const space = newSpace();
  const results = [];
  try {
    let open = 0;
    for (const count of subscribers) {
      for (const peer of peers) await peer.load.open(space, peer.sockets(space, open, count - open));
      open = count;
      for (const size of bytes) {
        const many = Math.max(4, Math.round(messages / count));
        const measured = await publishes(peers, space, { rounds, many, count, size });
        results.push({ subscribers: count, bytes: size, messages: many, peers: measured });
      }
    }
  } finally {
    await stopPeers(peers);
  }
  return results;
}

/** Publishes of all peers in turn: CPU of a delivery in µs, time of a publish to its last delivery in ms. */
async function publishes(peers, space, { rounds, many, count, size }) {
  const publish = (peer) => peer.deliver(space, count, (mark) => row(mark, size));
  const measured = await inTurns(peers, rounds, many, {
    // An object that has slept wakes with this one.
    before: publish,
    turn: async (peer) => (await publish(peer)).lastMs,
    after: (peer) => peer.checkLast(space, many + 1, count),
  });
  const numbers = ({ cpuUs, turns }) => ({ cpuUs: cpuUs / (many * count), ms: median(turns) });
  return Object.fromEntries(Object.entries(measured).map(([name, list]) => [name, list.map(numbers)]));
}

export function report(results) {
  const rows = results.flatMap(({ subscribers, bytes, peers }) =>
    Object.entries(peers).map(([peer, rounds]) => [
      subscribers.toLocaleString("en-US"),
      bytes,
      peer,
      spread(ratioOf(rounds, peers.raw, "cpuUs"), " ×"),
      peers[LOG] ? spread(ratioOf(rounds, peers[LOG], "cpuUs"), " ×") : "",
      spread(of(rounds, "cpuUs")),
      spread(of(rounds, "ms")),
    ]),
  );
  const curve = (peer) => ({
    name: peer,
    points: results
      .filter(({ bytes }) => bytes === 200)
      .map(({ subscribers, peers }) => ({ x: subscribers, ...of(peers[peer], "ms") })),
  });
  return {
    title: "Fan-out: one change to all",
    tables: [
      table(
        [
          "subscribers",
          "bytes of a row",
          "peer",
          "CPU, to raw",
          `to ${LOG}`,
          "CPU of a delivery, µs",
          "to the last delivery, ms",
        ],
        rows,
      ),
    ],
    floors: results
      .filter(({ subscribers }) => subscribers === 1_000)
      .map(({ bytes, peers }) =>
        floor(
          `1. CPU per delivery to raw, 1,000 subscribers, ${bytes} B`,
          ratioOf(peers.tidewire, peers.raw, "cpuUs"),
          1.05,
        ),
      ),
    plots: {
      "fanout.svg": lines({
        title: "From a publisher's request to the last delivery, rows of 200 B",
        x: "subscribers",
        y: "ms",
        series: PEERS.map(curve),
      }),
    },
  };
}
