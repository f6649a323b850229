// 6. Waking: 5,000 sleeping sockets, and the first publish that wakes their object. Memory per socket, awake;
// CPU of a connection.
import { inspect } from "../inspector.mjs";
import { settle } from "../pace.mjs";
import { newSpace, row, startPeers } from "../peers.mjs";
import { interleaved } from "../stats.mjs";
import { number, of, spread, table } from "../format.mjs";

export const name = "waking";

export async function run({ rounds, sockets }) {
  const peers = await startPeers(["raw", "tidewire", "partyserver"], { inspector: true });
  const space = newSpace();
  try {
    for (const peer of peers) {
      peer.mark = 0;
      // A socket there already: what the object itself takes is not counted among them.
      await peer.load.open(space, peer.sockets(space, sockets, 1));
      peer.session = await inspect(peer.workerd, peer.kind.worker);
      const [heap, rss, cpu] = [await peer.session.heap(), peer.workerd.rss(), peer.cpu()];
      const { ms } = await peer.load.open(space, peer.sockets(space, 0, sockets));
      await settle();
      peer.connecting = { cpuUs: (peer.cpu() - cpu) / sockets, perSecond: sockets / (ms / 1000) };
      const after = await peer.session.heap();
      peer.memory = {
        rss: (peer.workerd.rss() - rss) / sockets,
        heap: (after.used - heap.used) / sockets,
        wasm: (after.wasm - heap.wasm) / sockets,
        heapOfAll: after.used,
        wasmOfAll: after.wasm,
      };
      peer.session.close();
    }
    const waking = await interleaved(peers, rounds, (peer) => wake(peer, space, sockets + 1));
    const of = (field) => Object.fromEntries(peers.map((peer) => [peer.name, peer[field]]));
    return { sockets, waking, memory: of("memory"), connecting: of("connecting") };
  } finally {
    await Promise.all(peers.map((peer) => peer.stop()));
  }
}

async function wake(peer, space, sockets) {
  const publish = async () => {
    const mark = peer.mark++;
    const began = Number(process.hrtime.bigint()) / 1e6;
    const before = peer.cpu();
    const [{ first, last }] = await Promise.all([
      peer.load.wait(space, mark, sockets),
      peer.publish(space, row(mark, 200)),
    ]);
    await settle();
    return { first: first - began, last: last - began, cpuMs: (peer.cpu() - before) / 1000 };
  };
  const from = peer.mark;
  await publish();
  const awake = await publish();
  await peer.sleep(space);
  const woken = await publish();
  await peer.load.check(space, from, [from, from + 1, from + 2], sockets);
  return {
    firstMs: woken.first,
    lastMs: woken.last,
    cpuMs: woken.cpuMs,
    awakeMs: awake.last,
    awakeFirstMs: awake.first,
    awakeCpuMs: awake.cpuMs,
  };
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
        peers.map((peer) => {
          const { rss, heap, wasm, heapOfAll, wasmOfAll } = memory[peer];
          return [
            peer,
            number(rss / 1000),
            number(heap),
            number(wasm),
            number(heapOfAll / 1e6),
            number(wasmOfAll / 1e6),
          ];
        }),
      ),
      table(
        ["peer", "CPU of a connection, µs", "connections per second"],
        peers.map((peer) => [peer, number(connecting[peer].cpuUs), number(connecting[peer].perSecond)]),
      ),
    ],
    floors: [],
    plots: {},
  };
}
