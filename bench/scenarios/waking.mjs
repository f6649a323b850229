// 6. Waking: 5,000 sleeping sockets, and the first publish that wakes their object. Memory per socket, awake;
// CPU of a connection.
import { inspect } from "../inspector.mjs";
import { interleaved, settle } from "../pace.mjs";
import { newSpace } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";
import { addRounds, summary } from "../stats.mjs";
import { of, spread, table } from "../format.mjs";

export const name = "waking";

export async function run({ starts, ...numbers }) {
  // What a socket takes is measured once in a start, while all are opened.
  const all = await once(numbers, 0);
  for (let start = 1; start < starts; start += 1) {
    const one = await once(numbers, start);
    for (const field of ["waking", "memory", "connecting"]) addRounds(all[field], one[field]);
  }
  return all;
}

async function once({ rounds, sockets }, start) {
  const peers = await startPeers(["raw", "tidewire", "partyserver"], { inspector: true });
  const space = newSpace();
  try {
    const opened = await interleaved(peers, 1, (peer) => connect(peer, space, sockets), start);
    const waking = await interleaved(peers, rounds, (peer) => wake(peer, space, sockets + 1), start);
    const only = (field) => Object.fromEntries(Object.entries(opened).map(([name, [one]]) => [name, [one[field]]]));
    return { sockets, waking, memory: only("memory"), connecting: only("connecting") };
  } finally {
    await stopPeers(peers);
  }
}

/** Opens sockets: CPU and time of a connection, and what it takes of the memory. */
async function connect(peer, space, sockets) {
  // A socket there already: what the object itself takes is not counted among them.
  await peer.load.open(space, peer.sockets(space, sockets, 1));
  const session = await inspect(peer.workerd, peer.kind.worker);
  const [heap, rss, cpu] = [await session.heap(), peer.workerd.rss(), peer.cpu()];
  const { ms } = await peer.load.open(space, peer.sockets(space, 0, sockets));
  await settle();
  const connecting = { cpuUs: (peer.cpu() - cpu) / sockets, perSecond: sockets / (ms / 1000) };
  const after = await session.heap();
  const memory = {
    rss: (peer.workerd.rss() - rss) / sockets,
    heap: (after.used - heap.used) / sockets,
    wasm: (after.wasm - heap.wasm) / sockets,
    heapOfAll: after.used,
    wasmOfAll: after.wasm,
  };
  session.close();
  return { connecting, memory };
}

async function wake(peer, space, sockets) {
  const publish = async () => {
    const before = peer.cpu();
    const { firstMs, lastMs } = await peer.deliver(space, sockets);
    await settle();
    return { firstMs, lastMs, cpuMs: (peer.cpu() - before) / 1000 };
  };
  await publish();
  const awake = await publish();
  await peer.sleep(space);
  const woken = await publish();
  await peer.checkLast(space, 3, sockets);
  return { ...woken, awakeMs: awake.lastMs, awakeCpuMs: awake.cpuMs };
}

export function report({ sockets, waking, memory, connecting }) {
  const peers = Object.keys(waking);
  return {
    title: `Waking, memory and connecting: ${sockets.toLocaleString("en-US")} sockets`,
    tables: [
      table(
        ["peer", "first delivery after waking, ms", "last, ms", "CPU, ms", "the same awake: last, ms", "CPU, ms"],
        peers.map((peer) => [
          peer,
          ...["firstMs", "lastMs", "cpuMs", "awakeMs", "awakeCpuMs"].map((field) => spread(of(waking[peer], field))),
        ]),
      ),
      table(
        [
          "peer",
          "memory of a socket: workerd, kB",
          "JavaScript heap, bytes",
          "wasm memory, bytes",
          "heap of all, MB",
          "wasm of all, MB",
        ],
        peers.map((peer) => [
          peer,
          ...Object.entries({ rss: 1e3, heap: 1, wasm: 1, heapOfAll: 1e6, wasmOfAll: 1e6 }).map(([field, unit]) =>
            spread(summary(memory[peer].map((start) => start[field] / unit))),
          ),
        ]),
      ),
      table(
        ["peer", "CPU of a connection, µs", "connections per second"],
        peers.map((peer) => [
          peer,
          ...["cpuUs", "perSecond"].map((field) => spread(of(connecting[peer], field))),
        ]),
      ),
    ],
    floors: [],
    plots: {},
  };
}
