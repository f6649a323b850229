// 1. Fan-out: one change to all subscribers of a channel. CPU per delivery, and the time from the publisher's
// request to the last delivery.
import { newSpace, row, startPeers } from "../peers.mjs";
import { addRounds, interleaved } from "../stats.mjs";
import { settle } from "../pace.mjs";
import { floor, number, of, ratioOf, spread, table } from "../format.mjs";
import { lines } from "../plot.mjs";

export const name = "fanout";

/** Who is measured at every number of subscribers. */
const PEERS = ["raw", "tidewire", "partyserver"];

/** Where there is a floor, also a raw object that writes what it sends: its frames, too, wait for the commit. */
const LOG = "raw, with a log";

export async function run({ starts, subscribers, messages, ...numbers }) {
  // What has a floor is measured in several starts, see `addRounds`.
  const [least, ...more] = subscribers;
  const results = [];
  for (let start = 0; start < starts; start += 1) {
    for (const one of await once([...PEERS, LOG], { ...numbers, subscribers: [least], messages: 2 * messages })) {
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
  const marks = new Map(peers.map((peer) => [peer, 0]));
  const results = [];
  try {
    let open = 0;
    for (const count of subscribers) {
      for (const peer of peers) await peer.load.open(space, peer.sockets(space, open, count - open));
      open = count;
      for (const size of bytes) {
        const many = Math.max(4, Math.round(messages / count));
        const measured = await interleaved(peers, rounds, (peer) => visit(peer, space, count, many, size, marks));
        results.push({ subscribers: count, bytes: size, messages: many, peers: measured });
      }
    }
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
  }
  return results;
}

/** Publishes of one peer, one after the other: CPU of a delivery in µs, time of each to its last delivery in ms. */
async function visit(peer, space, count, many, size, marks) {
  const publish = async () => {
    const mark = marks.get(peer);
    marks.set(peer, mark + 1);
    const delivered = peer.load.wait(space, mark, count);
    const began = Number(process.hrtime.bigint()) / 1e6;
    const [{ last }] = await Promise.all([delivered, peer.publish(space, row(mark, size))]);
    return last - began;
  };
  // An object that has slept wakes with the first, which is not measured.
  const from = marks.get(peer);
  await publish();
  await settle();
  const before = peer.cpu();
  const times = [];
  for (let at = 0; at < many; at += 1) times.push(await publish());
  await settle();
  const cpu = peer.cpu() - before;
  const sent = Array.from({ length: many + 1 }, (_, at) => from + at);
  await peer.load.check(space, from, sent, count);
  return { cpuUs: cpu / (many * count), ms: times.toSorted((a, b) => a - b)[many >> 1] };
}

export function report(results) {
  const rows = results.flatMap(({ subscribers, bytes, peers }) =>
    Object.entries(peers).map(([peer, rounds]) => [
      number(subscribers).replace(/\.0+$/, ""),
      bytes,
      peer,
      spread(ratioOf(rounds, peers.raw, "cpuUs"), " ×"),
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
        ["subscribers", "bytes of a row", "peer", "CPU, to raw", "CPU of a delivery, µs", "to the last delivery, ms"],
        rows,
      ),
    ],
    floors: results
      .filter(({ subscribers }) => subscribers === 1_000)
      .flatMap(({ bytes, peers }) => [
        floor(
          `1. CPU per delivery to raw, 1,000 subscribers, ${bytes} B`,
          ratioOf(peers.tidewire, peers.raw, "cpuUs"),
          1.05,
        ),
        floor(
          `1. CPU per delivery to raw that also writes it down, 1,000 subscribers, ${bytes} B`,
          ratioOf(peers.tidewire, peers[LOG], "cpuUs"),
          1.05,
        ),
      ]),
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
