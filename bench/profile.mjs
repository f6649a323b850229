// Where a peer's time goes: a CPU profile while it does one kind of work, of the isolate through the inspector.
//   node bench/profile.mjs mutations|scoped|fanout|waking|connecting [peer] [seconds]
// For names inside the wasm, build once with them kept:
//   KEEP_NAMES=1 scripts/build.sh sync-worker --out sync-worker/build-names
// What the inspector itself makes slow shows too large: promises, microtasks and timers above all.
//
// With PERF=1 of the whole process, by the operating system's own profiler, `perf`, which makes nothing slow: how
// much is JavaScript and wasm, and how much is the runtime, the C library and the kernel.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { functions, inspect } from "./inspector.mjs";
import { settle } from "./pace.mjs";
import { newSpace, row } from "./peer.mjs";
import { startPeers } from "./peers.mjs";

/** Sockets of an object that is put to sleep and woken, and of one step of connecting. */
const SLEEPING = 5_000;
const CONNECTING = 500;

const [what, name = "tidewire", seconds = "4"] = process.argv.slice(2);
const build = name.startsWith("tidewire") && existsSync("sync-worker/build-names/index.js") ? "build-names" : undefined;
const isWhole = process.env.PERF === "1";
const [peer] = await startPeers([name], { inspector: !isWhole, build });
const space = newSpace();
const text = "x".repeat(120);
let step = 0;
const publishes = (subscribers, to, count) => ({
  open: () =>
    peer.load.open(
      space,
      peer.sockets(space, 0, subscribers, to ? { tag: (at) => `team:${Math.floor(at / 10)}` } : {}),
      { strict: !to },
    ),
  step: async () => {
    const options = (mark) => (to ? { to: [`team:${(mark * 7919) % (subscribers / 10)}`] } : {});
    await peer.deliver(space, count, undefined, options);
    return 1;
  },
});
const works = {
  fanout: publishes(1_000, false, 1_000),
  scoped: publishes(1_000, true, 10),
  mutations: {
    open: () => peer.load.open(space, peer.sockets(space, 0, 50, { channel: null })),
    step: async () => {
      await peer.load.mutate(space, { each: 20, window: 20, channel: "bench", run: `r${step++}`, text });
      return 1_000;
    },
  },
  // A unit is one sleep with its waking: all sockets are kept, the object's memory is not, and a publish wakes it.
  waking: {
    ...publishes(SLEEPING, false, SLEEPING),
    step: async () => {
      // An object that has something to do is not put to sleep.
      await settle();
      await peer.sleep(space);
      return publishes(SLEEPING, false, SLEEPING).step();
    },
  },
  // A unit is one connection: accepted, live with its first snapshot, closed again.
  connecting: {
    // One stays, so that the object is awake all along.
    open: () => peer.load.open(space, peer.sockets(space, CONNECTING, 1)),
    step: async () => {
      const group = `connecting ${step++}`;
      await peer.load.open(group, peer.sockets(space, 0, CONNECTING));
      await peer.load.close(group);
      return CONNECTING;
    },
  },
};
const work = works[what];
if (work === undefined) {
  console.error(`no kind ${what}: ${Object.keys(works).join(", ")}`);
  await peer.stop();
  process.exit(2);
}
await work.open();

let units = 0;
const run = async () => {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) units += await work.step();
};
const each = (us) => (us / units).toFixed(1);
// As long again before, until the compilers have done with what is hot.
await run();
units = 0;

async function ofIsolate() {
  const session = await inspect(peer.workerd, peer.kind.worker);
  const cpu = peer.cpu();
  const profile = await session.profile(run);
  const used = peer.cpu() - cpu;
  session.close();
  writeFileSync(join(tmpdir(), `${what}-${name}.cpuprofile`), JSON.stringify(profile));
  const list = functions(profile);
  const idle = list.find(({ name }) => name.startsWith("(idle)"))?.self ?? 0;
  const busy = list.reduce((sum, { self }) => sum + self, 0) - idle;
  console.log(`${what}, ${name}: ${units} units, ${each(used)} µs of CPU each, ${each(busy)} µs of it in the isolate`);
  console.log("   self µs   total µs  a unit");
  for (const { name, self, total } of list.slice(0, 60)) {
    console.log(`${(self / units).toFixed(2).padStart(10)} ${(total / units).toFixed(2).padStart(10)}  ${name}`);
  }
}

async function ofProcess() {
  const file = join(tmpdir(), `${what}-${name}.perf`);
  const options = ["-F", "4000", "-e", "cpu-clock", "-p", String(peer.workerd.pid), "-o", file];
  const perf = spawn("perf", ["record", ...options], { stdio: "ignore" });
  await once(perf, "spawn");
  // Until it samples.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const cpu = peer.cpu();
  await run();
  const used = peer.cpu() - cpu;
  perf.kill("SIGINT");
  await once(perf, "exit");
  console.log(`${what}, ${name}: ${units} units, ${each(used)} µs of CPU each`);
  console.log("         µs  a unit");
  for (const by of ["dso", "symbol"]) {
    const report = execFileSync("perf", ["report", "-i", file, "--no-children", "--sort", by], {
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 1 << 28,
    });
    // A line is as wide as the longest name: the columns that are empty here, and what they are padded with, go first.
    const lines = report.toString().split("\n").map((line) => line.trimEnd().replace(/(\s+-)+$/, ""));
    const shares = lines.map((line) => /^ +([\d.]+)%  (.*)$/.exec(line)).filter(Boolean);
    for (const [, share, where] of shares.slice(0, 40)) {
      console.log(`${each((used * share) / 100).padStart(11)}  ${where}`);
    }
  }
}

await (isWhole ? ofProcess() : ofIsolate());
await peer.stop();
process.exit();
