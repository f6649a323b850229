// 3. Batch: 100 changes to 1,000 subscribers as one publish, and as 100. CPU of both.
import { interleaved, settle } from "../pace.mjs";
import { newSpace, row } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";
import { floor, number, of, spread, table } from "../format.mjs";

export const name = "batch";

export async function run({ rounds, subscribers, changes }) {
  const peers = await startPeers(["raw", "tidewire", "partyserver"]);
  const space = newSpace();
  try {
    for (const peer of peers) await peer.load.open(space, peer.sockets(space, 0, subscribers));
    const measured = await interleaved(peers, rounds, (peer) => visit(peer, space, subscribers, changes));
    return { subscribers, changes, peers: measured };
  } finally {
    await stopPeers(peers);
  }
}

async function visit(peer, space, subscribers, changes) {
  const rows = () => Array.from({ length: changes }, () => row(peer.mark++, 200));
  const until = (mark) => peer.load.wait(space, mark, subscribers);
  const from = peer.mark;
  await peer.deliver(space, subscribers);
  await settle();

  const began = peer.cpu();
  for (const data of rows()) await peer.publish(space, data);
  await until(peer.mark - 1);
  await settle();
  const singles = peer.cpu() - began;

  // Several batches: one is too little to be measured well.
  const batches = 5;
  const before = peer.cpu();
  for (let at = 0; at < batches; at += 1) {
    const list = rows();
    await Promise.all([until(peer.mark - 1), peer.publishBatch(space, list)]);
  }
  await settle();
  const batch = (peer.cpu() - before) / batches;
  await peer.checkLast(space, peer.mark - from, subscribers);
  return { singlesUs: singles, batchUs: batch, ratio: singles / batch };
}

export function report({ subscribers, changes, peers }) {
  const rows = Object.entries(peers).map(([peer, rounds]) => [
    peer,
    spread(of(rounds, "ratio"), " ×"),
    number(of(rounds, "singlesUs").median / 1000),
    number(of(rounds, "batchUs").median / 1000),
  ]);
  return {
    title: `Batch: ${changes} changes to ${subscribers.toLocaleString("en-US")}`,
    tables: [table(["peer", "less CPU as one batch", `${changes} publishes, ms of CPU`, "one batch, ms of CPU"], rows)],
    floors: [
      floor(
        `3. CPU of ${changes} publishes to that of one batch, ${subscribers.toLocaleString("en-US")} subscribers`,
        of(peers.tidewire, "ratio"),
        30,
        { least: true },
      ),
    ],
    plots: {},
  };
}
