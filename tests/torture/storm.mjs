// A recovery storm: 2,000 clients dropped and returning, again and again, under 200 publishes a second.
// Demanded: every publish is answered with 200, every client ends with every event once and in order.
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, secrets, start } from "../workerd/harness.mjs";
import { Chance, seedOf, setting } from "./chance.mjs";
import { Follower } from "./follower.mjs";

const [count, perSecond, minutes] = [setting("CLIENTS", 2_000), setting("RATE", 200), setting("MINUTES", 1)];
/** Who gets no answer for so long has got none: publishers have starved. */
const ANSWER_MS = 120_000;
/** Between two storms: all have come back by then, on two cores. */
const PAUSE_MS = 10_000;
const chance = new Chance(seedOf());
console.log(`storm: SEED=${chance.seed} CLIENTS=${count} RATE=${perSecond} MINUTES=${minutes}`);

const users = 50;
const SYNC_CHANNELS = { feed: { read: "user", write: "none", keep: "every", scope: { field: "for" } } };
const workers = await start({ workers: ["sync"], vars: { SYNC_CHANNELS, SYNC_LOG: "none", SYNC_LIMITS: { minIntervalMs: 0 } } });
const space = workers.space();
/** Who comes back waits a random time first, as the contract says. */
const pauseMs = setting("PAUSE_MS", 3_000);
const join = (at) => {
  const identity = `u${at % users}`;
  return new Follower({ workers, space, identity, channels: ["feed"], events: ["feed"], sees: (_, row) => row.for === identity, pauseMs });
};
const followers = [];
for (let at = 0; at < count; at += 50) {
  const some = Array.from({ length: Math.min(50, count - at) }, (_, n) => join(at + n));
  await Promise.all(some.map((one) => one.until(() => one.isLive, 60_000, () => "is not live")));
  followers.push(...some);
}

const [began, total] = [Date.now(), Math.round(perSecond * 60 * minutes)];
const waits = [];
let storms = 0;
const publish = async (n) => {
  await delay(began + (n * 1_000) / perSecond - Date.now());
  const asked = Date.now();
  const change = { channel: "feed", action: "create", key: `e${n}`, data: { for: `u${n % users}`, n } };
  const { status, body } = await workers.http(`/broadcast?space=${space.name}`, {
    method: "POST",
    headers: bearer(secrets.PUBLISH_KEY),
    body: JSON.stringify(change),
    signal: AbortSignal.timeout(ANSWER_MS),
  }).catch((cause) => {
    throw new Error(`no answer to publish ${n} after ${Date.now() - asked} ms, ${storms} storms: ${cause.message}`, { cause });
  });
  assert.equal(status, 200, JSON.stringify(body));
  waits.push(Date.now() - asked);
  return body.seq;
};
const publishing = Promise.all(Array.from({ length: total }, (_, n) => publish(n)));
publishing.catch(() => {});
for (; Date.now() < began + minutes * 60_000; storms += 1) {
  // All at once, or those that chance names.
  const share = storms % 2 === 0 ? 1 : chance.next();
  for (const one of followers) if (chance.maybe(share)) one.drop();
  await delay(PAUSE_MS + chance.below(PAUSE_MS));
}
const seqs = await publishing;
assert.deepEqual(new Set(seqs).size, total);
const order = Array.from({ length: total }, (_, n) => n).toSorted((a, b) => seqs[a] - seqs[b]);
const expected = Map.groupBy(order, (n) => `u${n % users}`);
for (const one of followers) {
  const all = expected.get(one.identity).map((n) => `e${n}`);
  await one.until(() => one.copies.feed.events.length >= all.length, 120_000, () => `has ${one.copies.feed.events.length} of ${all.length} events`);
  assert.deepEqual(one.complaints, []);
  assert.deepEqual(one.copies.feed.events, all, one.identity);
}
const sorted = waits.toSorted((a, b) => a - b);
const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const comebacks = followers.reduce((sum, one) => sum + one.comebacks, 0);
const events = followers.reduce((sum, one) => sum + one.copies.feed.events.length, 0);
const answerMs = { median: at(0.5), p99: at(0.99), worst: at(1) };
console.log(`  ${JSON.stringify({ storms, comebacks, publishes: total, answerMs, events })}`);
for (const one of followers) one.stop();
await workers.stop();
process.exit(0);
