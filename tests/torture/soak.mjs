// An hour of mixed work at a modest rate: memory and storage are flat once they are warm.
//
// What grows is what the contract keeps: the outcome of each mutation and the key of each publish, for a day.
// The bound on storage is therefore one on bytes for each of these.
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, start } from "../workerd/harness.mjs";
import { Chance, seedOf, setting } from "./chance.mjs";
import { Follower } from "./follower.mjs";
import { MIB, Meter, inMiB } from "./measure.mjs";

/** How much more there may be at the end of the second half than at its beginning, by its line of best fit. */
const bounds = { heap: 1 * MIB, wasm: 1 * MIB, rss: 16 * MIB };
/** Bytes of storage for each mutation and publish of the second half. */
const BYTES_EACH = 400;

/** The distance of two samples. */
const SAMPLE_MS = 60_000;

const minutes = setting("MINUTES", 60);
/** Writes of clients in a second; publishes are a third of them. */
const rate = setting("RATE", 6);
const chance = new Chance(seedOf());
console.log(`soak: SEED=${chance.seed} MINUTES=${minutes} RATE=${rate}`);

const SYNC_CHANNELS = {
  todos: { read: "user", write: "user" },
  notes: { read: "user", write: "user", scope: { field: "ownerId", leave: true } },
  "chat:*": { read: "user", write: "user", keep: "every", retain: { count: 300 } },
  "room:*": { read: "user", write: "user", presence: true, signals: true },
};
const workers = await start({ workers: ["sync"], direct: true, inspector: true, vars: { SYNC_CHANNELS, SYNC_LOG: "none" } });
const space = workers.space("soak");
const users = ["alice", "bob", "carol", "dan", "eve"];
const channels = ["todos", "notes", "chat:1", "room:1"];
const sees = (channel) => channel !== "notes";
const counts = { writes: 0, publishes: 0, drops: 0, presence: 0, signals: 0, polls: 0, streams: 0, disconnects: 0 };
let [isOver, works] = [false, 0];

const followers = Array.from({ length: 15 }, (_, at) => {
  const identity = users[at % users.length];
  const may = (channel, row) => sees(channel) || [row.ownerId].flat().includes(identity);
  return new Follower({ workers, space, identity, channels, sees: may });
});
await Promise.all(followers.map((one) => one.until(() => one.isLive, 20_000, () => "is not live")));

const title = () => "x".repeat(20 + chance.below(400));
const row = (channel) => ({ title: title(), ...(channel === "notes" && { ownerId: chance.pick(users) }) });

function write() {
  const one = chance.pick(followers);
  const channel = chance.weigh({ "todos": 5, "notes": 3, "chat:1": 2 });
  counts.writes += 1;
  if (channel === "chat:1") return one.write(channel, "create", crypto.randomUUID(), row(channel));
  const key = `k${chance.below(300)}`;
  const action = chance.weigh({ create: 4, update: 4, delete: 2 });
  const data = row(channel);
  if (channel === "notes") data.ownerId = one.identity;
  one.write(channel, action, key, action === "delete" ? undefined : data);
}

async function publish() {
  const change = () => {
    const channel = chance.pick(["todos", "notes"]);
    const action = chance.weigh({ create: 3, update: 3 });
    return { channel, action, key: `k${chance.below(300)}`, data: row(channel) };
  };
  const events = Array.from({ length: 1 + chance.below(5) }, change);
  const { status, body } = await space.post("/broadcast-batch", { events }, { "idempotency-key": crypto.randomUUID() });
  assert.ok(status === 200 || status === 503, JSON.stringify(body));
  counts.publishes += 1;
}

/** A reader over HTTP that comes and goes. */
async function read(how) {
  const headers = { ...bearer(space.token(chance.pick(users))), ...(how === "streams" && { accept: "text/event-stream" }) };
  const url = `${workers.origin}/api/sync/changes?space=${space.name}&channel=todos${how === "polls" ? "&limit=50" : ""}`;
  const ended = new AbortController();
  const response = await fetch(url, { headers, signal: ended.signal });
  if (how === "streams") await response.body.getReader().read();
  else await response.text();
  ended.abort();
  counts[how] += 1;
}

const acts = {
  write: [60, write],
  publish: [20, publish],
  drop: [4, () => (counts.drops++, chance.pick(followers).drop())],
  polls: [3, () => read("polls")],
  streams: [1, () => read("streams")],
  presence: [6, () => say({ type: "presence", channel: "room:1", state: chance.maybe(0.2) ? null : { x: chance.below(100) } }, "presence")],
  signal: [6, () => say({ type: "signal", channel: "room:1", event: "wave", data: chance.below(9) }, "signals")],
};
function say(message, what) {
  const one = chance.pick(followers);
  if (!one.isLive) return;
  one.client.send(message);
  counts[what] += 1;
}

const weights = Object.fromEntries(Object.entries(acts).map(([name, [weight]]) => [name, weight]));
const work = (async () => {
  const began = Date.now();
  for (let nth = 0; !isOver; nth += 1) {
    await delay(began + (nth * 1_000) / (rate / 0.6) - Date.now());
    const act = chance.weigh(weights);
    await acts[act][1]();
    works = nth;
    // Every ten minutes all sockets are closed, and come back.
    if (nth % (rate * 1_000) === rate * 500) {
      assert.equal((await space.post("/disconnect", { all: true })).status, 200);
      counts.disconnects += 1;
    }
  }
})();
work.catch(() => {});

/** The least squares' line through values at equal distances: how much it rises from end to end. */
function rise(values) {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, _, at) => sum + (at - middle) ** 2, 0);
  return (values.reduce((sum, value, at) => sum + (at - middle) * (value - mean), 0) / squares) * (values.length - 1);
}

const meter = await Meter.open(workers);
const samples = [];
for (let minute = 0; minute <= minutes; minute += 1) {
  const { rss, heap, wasm } = await meter.read();
  const { storageBytes } = await space.stats();
  samples.push({ rss, heap, wasm, storageBytes, each: counts.writes + counts.publishes });
  console.log(`  minute ${minute}: rss ${inMiB(rss)} heap ${inMiB(heap)} wasm ${inMiB(wasm)} storage ${inMiB(storageBytes)} MiB, cpu ${meter.cpu().toFixed(1)} s, ${JSON.stringify(counts)}`);
  if (minute < minutes) await Promise.race([delay(SAMPLE_MS), work]);
}
isOver = true;
await work;
await Promise.all(followers.map((one) => one.until(() => one.isLive && one.unanswered === 0, 20_000, () => `has ${one.unanswered} writes unanswered`)));
await space.publish("todos", "create", "last", { title: "last" });
await Promise.all(followers.map((one) => one.until(() => one.copies.todos.rows.has("last"), 20_000, () => "has no last row")));
for (const one of followers) {
  assert.deepEqual(one.complaints, []);
  const fresh = new Follower({ workers, space, identity: one.identity, channels });
  await fresh.until(() => fresh.isLive, 20_000, () => "is not live");
  for (const channel of ["todos", "notes"]) {
    const sorted = ({ rows }) => [...rows].toSorted(([a], [b]) => (a < b ? -1 : 1));
    assert.deepEqual(sorted(one.copies[channel]), sorted(fresh.copies[channel]), `${one.identity}'s ${channel}`);
  }
  fresh.stop();
  one.stop();
}
const half = samples.slice(Math.floor(samples.length / 2));
const rises = Object.fromEntries(["rss", "heap", "wasm"].map((name) => [name, rise(half.map((sample) => sample[name]))]));
const each = (half.at(-1).storageBytes - half[0].storageBytes) / (half.at(-1).each - half[0].each);
console.log(`  second half: rss ${inMiB(rises.rss)} heap ${inMiB(rises.heap)} wasm ${inMiB(rises.wasm)} MiB, ${Math.round(each)} bytes of storage for each write and publish; ${works} acts`);
meter.close();
await workers.stop();
for (const [name, bound] of Object.entries(bounds)) assert.ok(rises[name] <= bound, `${name} rises by ${inMiB(rises[name])} MiB`);
assert.ok(each <= BYTES_EACH, `${each} bytes of storage for each write and publish`);
console.log("  flat");
process.exit(0);
