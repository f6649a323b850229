// As many sockets as one object carries here, the object answering all along: what they take, and what the
// next limit is.
import assert from "node:assert/strict";
import { execSync } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { heartbeat, start } from "../workerd/harness.mjs";
import { setting } from "./chance.mjs";
import { MIB, Meter, inMiB } from "./measure.mjs";

/** Each socket takes a descriptor here and two in workerd, whose bound is the same. */
const descriptors = Number(execSync("ulimit -n", { shell: "/bin/bash" })) || 1_000_000;
const count = setting("SOCKETS", Math.min(9_500, Math.floor((descriptors - 500) / 2)));
console.log(`scale: SOCKETS=${count}, ${descriptors} file descriptors`);
const ISOLATE = 128 * MIB;

const workers = await start({ workers: ["sync"], inspector: true, vars: { SYNC_LOG: "none" } });
const space = workers.space();
const users = 100;
const tokens = Array.from({ length: users }, (_, at) => space.token(`u${at}`));
await space.publish("feed", "create", "k", { n: 0 });
const meter = await Meter.open(workers);
const before = { ...(await meter.read()), cpu: meter.cpu() };

/** A publish and a ping each second, whatever goes on: how long they took. */
const waits = [];
let isOver = false;
const asking = (async () => {
  const pinger = await space.join("pinger");
  for (let n = 1; !isOver; n += 1) {
    const asked = Date.now();
    await space.publish("todos", "create", `t${n % 10}`, { n });
    pinger.send(heartbeat);
    await pinger.receive("pong", 30_000);
    waits.push(Date.now() - asked);
    await delay(1_000);
  }
})();
asking.catch(() => {});

const clients = [];
const queue = Array.from({ length: count }, (_, at) => at).values();
const began = Date.now();
await Promise.all(
  Array.from({ length: 40 }, async () => {
    for (const at of queue) {
      const { status, client, body } = await workers.upgrade(`${space.path}?token=${tokens[at % users]}`, { ms: 60_000 });
      assert.equal(status, 101, JSON.stringify(body));
      client.send({ type: "hello", v: 1, subscribe: [{ id: "s", channel: "feed" }] });
      await client.pending(2, 60_000);
      clients.push(client);
      if (clients.length % 2_500 === 0) console.log(`  ${clients.length} sockets after ${Math.round((Date.now() - began) / 1_000)} s`);
    }
  }),
);
const connected = (Date.now() - began) / 1_000;
const published = Date.now();
const { receivers } = await space.publish("feed", "update", "k", { n: 1 });
assert.equal(receivers, count);
await Promise.all(clients.map((client) => client.receive({ type: "change", key: "k" }, 120_000)));
const delivered = Date.now() - published;
const after = { ...(await meter.read()), cpu: meter.cpu() };
isOver = true;
await asking;
const isolate = after.heap + after.wasm;
const each = Object.fromEntries(["rss", "heap", "wasm"].map((name) => [name, Math.round((after[name] - before[name]) / count)]));
const sorted = waits.toSorted((a, b) => a - b);
const counted = {
  sockets: count,
  connectsPerSecond: Math.round(count / connected),
  deliveredToAllMs: delivered,
  mebibytes: { rss: inMiB(after.rss), heap: inMiB(after.heap), wasm: inMiB(after.wasm) },
  bytesEach: each,
  answers: waits.length,
  answerMs: { median: sorted[Math.floor(sorted.length / 2)], worst: sorted.at(-1) },
};
console.log(`  ${JSON.stringify(counted)}`);
const limit = Math.floor((ISOLATE - before.heap - before.wasm) / (each.heap + each.wasm));
console.log(`  the isolate holds ${inMiB(isolate)} of 128 MiB; at this rate it is full at ${limit} sockets`);
assert.ok(isolate < ISOLATE, "more than an isolate may hold");
meter.close();
for (const client of clients) client.drop();
await workers.stop();
process.exit(0);
