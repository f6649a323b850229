// A recovery storm: 2,000 clients dropped and returning, again and again, under 200 publishes a second.
// Demanded: every publish is answered with 200, every client ends with every event once and in order.
//
// A machine that is too slow for 200 a second makes the storm longer, not the queue: who publishes waits for the
// answer before it publishes again, as a backend does, and then makes up for what it is late.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { bearer, secrets, start, within } from "../workerd/harness.mjs";
import { Chance, seedOf, setting } from "./chance.mjs";
import { Follower } from "./follower.mjs";
import { Meter } from "./measure.mjs";

const [count, perSecond, minutes] = [setting("CLIENTS", 2_000), setting("RATE", 200), setting("MINUTES", 1)];
/** Who gets no answer for so long has got none: publishers have starved. The same for who wants to come back. */
const ANSWER_MS = 120_000;
/** How long all is calm at most between two storms, when all are back. */
const CALM_MS = 10_000;
/** Who comes back waits a random time first, as the contract says: at most this. */
const pauseMs = setting("PAUSE_MS", 3_000);
const chance = new Chance(seedOf());
/** `raw` plays the same against an object in plain JavaScript that does the loop and nothing else. */
const peer = process.env.PEER ?? "tidewire";
/**
 * Where the object's database lies. workerd's one thread stands still while a commit goes to the disk, so 200 of
 * them a second are a matter of the disk alone; in memory they are one of workerd and of the object.
 */
const memory = existsSync("/dev/shm") && process.env.STATE === undefined ? mkdtempSync("/dev/shm/tidewire-storm-") : undefined;
process.on("exit", () => memory && rmSync(memory, { recursive: true, force: true }));
const state = process.env.STATE ?? memory;
console.log(`storm: SEED=${chance.seed} CLIENTS=${count} RATE=${perSecond} MINUTES=${minutes} PAUSE_MS=${pauseMs} PEER=${peer}, the database in ${memory ? "memory" : (state ?? "the folder for temporary files")}`);

const users = 50;
const SYNC_CHANNELS = { feed: { read: "user", write: "none", keep: "every", scope: { field: "for" } } };
const raw = (sync) => ({
  ...sync,
  modules: [{ type: "ESModule", path: fileURLToPath(new URL("raw.mjs", import.meta.url)) }],
  modulesRoot: fileURLToPath(new URL(".", import.meta.url)),
});
const workers = await start({
  workers: ["sync"],
  direct: true,
  state,
  amend: peer === "raw" ? raw : undefined,
  vars: { SYNC_CHANNELS, SYNC_LOG: "none", SYNC_LIMITS: { minIntervalMs: 0 } },
});
const space = workers.space();
const join = (at) => {
  const identity = `u${at % users}`;
  const sees = (_, row) => row.for === identity;
  // Frames are not packed: 2,000 clients in one process would be measured by their zlib.
  return new Follower({ workers, space, identity, channels: ["feed"], events: ["feed"], sees, pauseMs, deflate: false });
};
const followers = [];
for (let at = 0; at < count; at += 50) {
  const some = Array.from({ length: Math.min(50, count - at) }, (_, n) => join(at + n));
  await Promise.all(some.map((one) => one.until(() => one.isLive, ANSWER_MS, () => "is not live")));
  followers.push(...some);
}

const [began, total] = [Date.now(), Math.round(perSecond * 60 * minutes)];
const [waits, late, backs, seqs] = [[], [], [], []];
let storms = 0;
/** Posts on a connection that stays: a new one would stand in line behind all clients that come back. */
async function post(agent, path, body) {
  const asked = request(workers.origin + path, { agent, method: "POST", headers: bearer(secrets.PUBLISH_KEY) });
  const answered = new Promise((resolve, reject) => asked.once("response", resolve).once("error", reject));
  asked.end(JSON.stringify(body));
  const answer = async (response) => ({ status: response.statusCode, body: JSON.parse(await text(response)) });
  return within(ANSWER_MS, answered.then(answer), () => "no answer");
}
async function publish(agent, n) {
  const due = began + (n * 1_000) / perSecond;
  await delay(due - Date.now());
  const asked = Date.now();
  const change = { channel: "feed", action: "create", key: `e${n}`, data: { for: `u${n % users}`, n } };
  const { status, body } = await post(agent, `/broadcast?space=${space.name}`, change).catch((cause) => {
    throw new Error(`publish ${n} failed after ${Date.now() - asked} ms, ${storms} storms: ${cause.message}`, { cause });
  });
  assert.equal(status, 200, JSON.stringify(body));
  waits.push(Date.now() - asked);
  late.push(asked - due);
  seqs[n] = body.seq;
}
/** Each publishes once a second. */
const publishers = Array.from({ length: perSecond }, async (_, first) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let n = first; n < total; n += perSecond) await publish(agent, n);
  agent.destroy();
});
let isOver = false;
const publishing = Promise.all(publishers).finally(() => (isOver = true));
publishing.catch(() => {});
const meter = new Meter();
const cpu = meter.cpu();
for (; !isOver; storms += 1) {
  // All at once, or those that chance names.
  const share = storms % 2 === 0 ? 1 : chance.next();
  const dropped = followers.filter(() => chance.maybe(share));
  for (const one of dropped) one.drop();
  const at = Date.now();
  await Promise.all(dropped.map((one) => one.until(() => one.isLive, ANSWER_MS, () => "is not back")));
  backs.push(Date.now() - at);
  await Promise.race([delay(chance.below(CALM_MS)), publishing]);
}
await publishing;
const [took, used] = [(Date.now() - began) / 1_000, meter.cpu() - cpu];
assert.deepEqual(new Set(seqs).size, total);
const order = Array.from({ length: total }, (_, n) => n).toSorted((a, b) => seqs[a] - seqs[b]);
const expected = Map.groupBy(order, (n) => `u${n % users}`);
for (const one of followers) {
  const all = expected.get(one.identity).map((n) => `e${n}`);
  await one.until(() => one.copies.feed.events.length >= all.length, ANSWER_MS, () => `has ${one.copies.feed.events.length} of ${all.length} events`);
  assert.deepEqual(one.complaints, []);
  assert.deepEqual(one.copies.feed.events, all, one.identity);
}
function spread(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
  return { median: at(0.5), p99: at(0.99), worst: at(1) };
}
const comebacks = followers.reduce((sum, one) => sum + one.comebacks, 0);
const events = followers.reduce((sum, one) => sum + one.copies.feed.events.length, 0);
const counted = { storms, comebacks, publishes: total, events, answerMs: spread(waits), lateMs: spread(late), allBackMs: spread(backs) };
console.log(`  ${JSON.stringify(counted)}`);
console.log(`  ${took.toFixed(0)} s, ${Math.round(total / took)} publishes a second; workerd had ${Math.round((100 * used) / took)} % of a core and used ${used.toFixed(0)} s of it`);
for (const one of followers) one.stop();
await workers.stop();
process.exit(0);
