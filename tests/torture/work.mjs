// Mixed work at a modest rate on one object: writes, publishes, presence, signals, readers over HTTP, drops; and what
// memory and storage it takes meanwhile. Demanded: nothing to complain of, and in the end the copies that somebody new
// gets. Whether memory and storage are flat is told by `growth`.
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, start } from "../workerd/harness.mjs";
import { Chance, harder } from "./chance.mjs";
import { Follower } from "./follower.mjs";
import { Meter } from "./measure.mjs";

const SYNC_CHANNELS = {
  todos: { read: "user", write: "user" },
  notes: { read: "user", write: "user", scope: { field: "ownerId", leave: true } },
  "chat:*": { read: "user", write: "user", keep: "every", retain: { count: 300 } },
  "room:*": { read: "user", write: "user", presence: true, signals: true },
};
const users = ["alice", "bob", "carol", "dan", "eve"];
const channels = ["todos", "notes", "chat:1", "room:1"];
const sees = (channel) => channel !== "notes";
const CLIENTS = 15;
/** How long anybody may take to be back, to be answered, or to have the last row. */
const CALM_MS = 20_000;

/** How often each act happens, in a hundred. */
const acts = { write: 60, publish: 20, drop: 4, poll: 3, stream: 1, presence: 6, signal: 6 };

/**
 * Works in a workerd of its own: how much was done, and `samples` of what was held, one more than are asked for, each
 * `sampleMs` after the one before. `rate` are the writes a second; all sockets are closed every so many acts. Who comes
 * and goes does so `hardship` times as often.
 */
export async function work({ seed, rate, samples, sampleMs, closeEvery, hardship = 1, say = () => {} }) {
  const workers = await start({ workers: ["sync"], direct: true, inspector: true, vars: { SYNC_CHANNELS, SYNC_LOG: "none" } });
  const meter = await Meter.open(workers);
  const office = new Office(workers, new Chance(seed), { closeEvery, acts: harder(acts, ["drop", "poll", "stream"], hardship) });
  try {
    await office.open();
    const working = office.work(rate);
    working.catch(() => {});
    const taken = [];
    for (let nth = 0; nth <= samples; nth += 1) {
      const [{ rss, heap, wasm }, { storageBytes }] = [await meter.read(), await office.space.stats()];
      const { counts } = office;
      taken.push({ rss, heap, wasm, storageBytes, each: counts.writes + counts.publishes });
      say(nth, { ...taken.at(-1), cpu: meter.cpu(), counts });
      if (nth < samples) await Promise.race([delay(sampleMs), working]);
    }
    office.isOver = true;
    await working;
    await office.judge();
    assert.deepEqual(workers.givenUp, []);
    return { counts: office.counts, samples: taken };
  } finally {
    meter.close();
    office.close();
    await workers.stop();
  }
}

class Office {
  counts = { acts: 0, writes: 0, publishes: 0, drops: 0, presence: 0, signals: 0, polls: 0, streams: 0, disconnects: 0 };
  isOver = false;

  constructor(workers, chance, { closeEvery, acts }) {
    Object.assign(this, { workers, chance, closeEvery, acts });
    this.space = workers.space("soak");
    this.followers = Array.from({ length: CLIENTS }, (_, at) => this.#follow(users[at % users.length]));
  }

  #follow(identity) {
    const { workers, space } = this;
    const may = (channel, row) => sees(channel) || [row.ownerId].flat().includes(identity);
    return new Follower({ workers, space, identity, channels, sees: may });
  }

  async open() {
    await Promise.all(this.followers.map((one) => one.until(() => one.isLive, CALM_MS, () => "is not live")));
  }

  async work(rate) {
    const began = Date.now();
    const all = Object.values(this.acts).reduce((sum, weight) => sum + weight, 0);
    for (let nth = 1; !this.isOver; nth += 1) {
      await delay(began + (nth * 1_000) / ((rate * all) / this.acts.write) - Date.now());
      await this.#act(this.chance.weigh(this.acts));
      this.counts.acts = nth;
      if (nth % this.closeEvery !== 0) continue;
      // They come back.
      assert.equal((await this.space.post("/disconnect", { all: true })).status, 200);
      this.counts.disconnects += 1;
    }
  }

  #act(act) {
    const { chance, counts } = this;
    switch (act) {
      case "write":
        return this.#write();
      case "publish":
        return this.#publish();
      case "drop":
        counts.drops += 1;
        return chance.pick(this.followers).drop();
      case "poll":
        return this.#read("polls");
      case "stream":
        return this.#read("streams");
      case "presence":
        return this.#say({ type: "presence", channel: "room:1", state: chance.maybe(0.2) ? null : { x: chance.below(100) } }, "presence");
      case "signal":
        return this.#say({ type: "signal", channel: "room:1", event: "wave", data: chance.below(9) }, "signals");
    }
  }

  #row(channel) {
    const { chance } = this;
    const title = "x".repeat(20 + chance.below(400));
    return { title, ...(channel === "notes" && { ownerId: chance.pick(users) }) };
  }

  #write() {
    const { chance } = this;
    const one = chance.pick(this.followers);
    const channel = chance.weigh({ "todos": 5, "notes": 3, "chat:1": 2 });
    this.counts.writes += 1;
    if (channel === "chat:1") return one.write(channel, "create", crypto.randomUUID(), this.#row(channel));
    const key = `k${chance.below(300)}`;
    const action = chance.weigh({ create: 4, update: 4, delete: 2 });
    const data = this.#row(channel);
    if (channel === "notes") data.ownerId = one.identity;
    one.write(channel, action, key, action === "delete" ? undefined : data);
  }

  async #publish() {
    const { chance } = this;
    const change = () => {
      const channel = chance.pick(["todos", "notes"]);
      const action = chance.weigh({ create: 3, update: 3 });
      return { channel, action, key: `k${chance.below(300)}`, data: this.#row(channel) };
    };
    const events = Array.from({ length: 1 + chance.below(5) }, change);
    const { status, body } = await this.space.post("/broadcast-batch", { events }, { "idempotency-key": crypto.randomUUID() });
    assert.ok(status === 200 || status === 503, JSON.stringify(body));
    this.counts.publishes += 1;
  }

  /** A reader over HTTP that comes and goes. */
  async #read(how) {
    const { chance, space, workers } = this;
    const headers = { ...bearer(space.token(chance.pick(users))), ...(how === "streams" && { accept: "text/event-stream" }) };
    const url = `${workers.origin}/api/sync/changes?space=${space.name}&channel=todos${how === "polls" ? "&limit=50" : ""}`;
    const ended = new AbortController();
    const response = await fetch(url, { headers, signal: ended.signal });
    if (how === "streams") await response.body.getReader().read();
    else await response.text();
    ended.abort();
    this.counts[how] += 1;
  }

  #say(message, what) {
    const one = this.chance.pick(this.followers);
    if (!one.isLive) return;
    one.client.send(message);
    this.counts[what] += 1;
  }

  async judge() {
    const { followers, space } = this;
    const all = (is, what) => Promise.all(followers.map((one) => one.until(() => is(one), CALM_MS, () => what(one))));
    await all((one) => one.isLive && one.unanswered === 0, (one) => `has ${one.unanswered} writes unanswered`);
    await space.publish("todos", "create", "last", { title: "last" });
    await all((one) => one.copies.todos.rows.has("last"), () => "has no last row");
    const sorted = ({ rows }) => [...rows].toSorted(([a], [b]) => (a < b ? -1 : 1));
    for (const one of followers) {
      assert.deepEqual(one.complaints, []);
      const fresh = this.#follow(one.identity);
      try {
        await fresh.until(() => fresh.isLive, CALM_MS, () => "is not live");
        for (const channel of ["todos", "notes"]) {
          assert.deepEqual(sorted(one.copies[channel]), sorted(fresh.copies[channel]), `${one.identity}'s ${channel}`);
        }
      } finally {
        fresh.stop();
      }
    }
  }

  close() {
    for (const one of this.followers) one.stop();
  }
}

/** The least squares' line through values at equal distances: how much it rises from end to end. */
function rise(values) {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, _, at) => sum + (at - middle) ** 2, 0);
  return (values.reduce((sum, value, at) => sum + (at - middle) * (value - mean), 0) / squares) * (values.length - 1);
}

/** How much more is held at the end of the second half than at its beginning; of storage, for each write and publish. */
export function growth(samples) {
  const half = samples.slice(Math.floor(samples.length / 2));
  const [first, last] = [half[0], half.at(-1)];
  const storageEach = (last.storageBytes - first.storageBytes) / (last.each - first.each);
  return { ...Object.fromEntries(["rss", "heap", "wasm"].map((name) => [name, rise(half.map((sample) => sample[name]))])), storageEach };
}
