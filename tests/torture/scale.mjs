// As many SOCKETS as one object carries here (tests/torture/fill.mjs), without and with packed frames: what they take,
// and what the next limit is.
import assert from "node:assert/strict";
import { execSync } from "node:child_process";
import { seedOf, setting } from "./chance.mjs";
import { fill } from "./fill.mjs";
import { MIB, inMiB } from "./measure.mjs";
import { spread } from "./recover.mjs";

const [MOST, LEAST] = [9_500, 9_000];
/** How long a publish or a ping may take at most while sockets are opened: 4.5 s was the worst in a measured run. */
const ANSWER_MS = 10_000;
const ISOLATE = 128 * MIB;

/** Each socket takes a descriptor here and two in workerd, whose bound is the same; some are for other things. */
const needed = (sockets) => 2 * sockets + 500;
const limit = execSync("ulimit -n", { shell: "/bin/bash", encoding: "utf8" }).trim();
const descriptors = limit === "unlimited" ? Infinity : Number(limit);
const count = setting("SOCKETS", Math.min(MOST, Math.floor((descriptors - needed(0)) / 2)));
const least = process.env.SOCKETS ? count : LEAST;
if (count < least || descriptors < needed(count)) {
  console.error(`error: ${least} sockets need ${needed(least)} open files and the limit is ${limit}: raise it (nofile in limits.conf)`);
  process.exit(1);
}
const seed = seedOf();
console.log(`scale: SEED=${seed} SOCKETS=${count}, ${limit} file descriptors`);

for (const deflate of [false, true]) {
  const { seconds, deliveredMs, waits, before, after } = await fill({ seed, count, deflate, answerMs: ANSWER_MS, say: (what) => console.log(`  ${what}`) });
  const each = Object.fromEntries(["rss", "heap", "wasm"].map((name) => [name, Math.round((after[name] - before[name]) / count)]));
  const counted = {
    ...{ frames: deflate ? "packed" : "as they are", sockets: count },
    ...{ connectsPerSecond: Math.round(count / seconds), deliveredToAllMs: deliveredMs },
    mebibytes: { rss: inMiB(after.rss), heap: inMiB(after.heap), wasm: inMiB(after.wasm) },
    ...{ bytesEach: each, answers: waits.length, answerMs: spread(waits) },
  };
  console.log(`  ${JSON.stringify(counted)}`);
  const full = Math.floor((ISOLATE - before.heap - before.wasm) / (each.heap + each.wasm));
  console.log(`  the isolate holds ${inMiB(after.heap + after.wasm)} of 128 MiB; at this rate it is full at ${full} sockets`);
  assert.ok(after.heap + after.wasm < ISOLATE, "more than an isolate may hold");
}
process.exit(0);
