// 7. Size and start: bytes of both Workers, gzipped; from the start of workerd to the first answer, and to the
// first frame of a new space.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { settle } from "../pace.mjs";
import { newSpace } from "../peer.mjs";
import { startPeers } from "../peers.mjs";
import { of, spread, table } from "../format.mjs";

export const name = "size";

const root = new URL("../../", import.meta.url);
const bytes = (path) => {
  const content = readFileSync(new URL(path, root));
  return { plain: content.length, gzipped: gzipSync(content, { level: 9 }).length };
};

export async function run({ rounds }) {
  const files = [
    "sync-worker/build/index_bg.wasm",
    "sync-worker/build/index.js",
    "app-worker/build/index_bg.wasm",
    "app-worker/build/index.js",
  ];
  const names = ["raw", "tidewire", "partyserver"];
  const starts = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (let at = 0; at < names.length; at += 1) {
      const name = names[(at + round) % names.length];
      starts[name].push(await start(name));
    }
  }
  return { files: Object.fromEntries(files.map((file) => [file, bytes(file)])), starts };
}

async function start(name) {
  const [peer] = await startPeers([name]);
  try {
    await settle();
    const [idle, began] = [peer.cpu(), performance.now()];
    const response = await fetch(`${peer.workerd.origin}/healthz`);
    if (!response.ok) throw new Error(`${name}: /healthz answered ${response.status}`);
    await response.text();
    const first = performance.now();
    const { ms } = await peer.load.open("a", peer.sockets(newSpace(), 0, 1));
    await settle();
    return { firstMs: first - began, socketMs: ms, cpuMs: (peer.cpu() - idle) / 1000 };
  } finally {
    await peer.stop();
  }
}

export function report({ files, starts }) {
  const wasm = files["sync-worker/build/index_bg.wasm"].gzipped;
  const kilobytes = { median: wasm / 1000, min: wasm / 1000, max: wasm / 1000 };
  return {
    title: "Size and start",
    tables: [
      table(
        ["file", "bytes", "gzipped"],
        Object.entries(files).map(([file, { plain, gzipped }]) => [
          `\`${file}\``,
          ...[plain, gzipped].map((bytes) => bytes.toLocaleString("en-US")),
        ]),
      ),
      table(
        ["peer", "first answer of a fresh workerd, ms", "first socket of a new space, ms", "CPU of both, ms"],
        Object.entries(starts).map(([peer, rounds]) => [
          peer,
          ...["firstMs", "socketMs", "cpuMs"].map((field) => spread(of(rounds, field))),
        ]),
      ),
    ],
    floors: [
      {
        what: "7. wasm of the sync Worker, gzipped, kB",
        measured: kilobytes,
        bound: "≤ 500",
        met: kilobytes.median <= 500,
        plain: true,
      },
    ],
    plots: {},
  };
}
