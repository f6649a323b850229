import { newSpace, row, startPeers } from "./peers.mjs";
const [what, a, b, rounds = "12"] = process.argv.slice(2);
const peers = [];
for (const build of [a, b]) peers.push((await startPeers(["tidewire"], { build }))[0]);
const [raw] = await startPeers(["raw"], {});
peers.push(raw);
const text = "x".repeat(120);
let mark = 0;
const spaces = peers.map(() => newSpace());
for (const [i, peer] of peers.entries()) {
  if (what === "mutations") await peer.load.open(spaces[i], peer.sockets(spaces[i], 0, 50, { channel: null }));
  else await peer.load.open(spaces[i], peer.sockets(spaces[i], 0, 1000, { tag: (at) => `team:${Math.floor(at / 10)}` }), { strict: false });
}
const marks = peers.map(() => 0);
const step = async (i) => {
  const peer = peers[i];
  if (what === "mutations") { await peer.load.mutate(spaces[i], { each: 20, window: 20, channel: "bench", run: `r${mark++}`, text }); return 1000; }
  for (let k = 0; k < 200; k++) {
    const m = marks[i]++;
    await Promise.all([peer.load.wait(spaces[i], m, 10), peer.publish(spaces[i], row(m, 200), { to: [`team:${(m * 7919) % 100}`] })]);
  }
  return 200;
};
const res = peers.map(() => []);
for (let r = -2; r < Number(rounds); r++) for (let k = 0; k < peers.length; k++) {
  const i = (k + r + 3) % peers.length;
  const c = peers[i].cpu(); const n = await step(i); const us = (peers[i].cpu() - c) / n;
  if (r >= 0) res[i].push(us);
}
const med = (l) => l.toSorted((x, y) => x - y)[l.length >> 1];
console.log(what, [a, b, "raw"].map((n, i) => `${n}: ${med(res[i]).toFixed(0)}`).join("  "), "A/B", med(res[0].map((x, j) => x / res[1][j])).toFixed(3), "A/raw", med(res[0].map((x, j) => x / res[2][j])).toFixed(2), "B/raw", med(res[1].map((x, j) => x / res[2][j])).toFixed(2));
process.exit(0);
