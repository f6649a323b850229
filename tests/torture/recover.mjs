// A recovery storm: clients dropped and returning, again and again, under so many publishes a second.
// Demanded: every publish is answered with 200, those of one publisher are in the log in its order, every client
// ends with every event once and in order.
//
// A machine that is too slow for the rate makes the storm longer, not the queue: who publishes waits for the
// answer before it publishes again, as a backend does, and then makes up for what it is late.
import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { bearer, secrets, start, within } from "../workerd/harness.mjs";
import { Chance } from "./chance.mjs";
import { Follower } from "./follower.mjs";
import { Meter } from "./measure.mjs";

/** Who gets no answer for so long, or is not back, is given up: the game has failed. */
const GIVE_UP_MS = 120_000;
/** Users among whom clients and events are divided. */
const USERS = 50;
/** Clients that come for the first time side by side. */
const AT_ONCE = 50;

const SYNC_CHANNELS = { feed: { read: "user", write: "none", keep: "every", scope: { field: "for" } } };

/** An object in plain JavaScript that does the loop and nothing else, in the place of Tidewire's. */
const raw = (sync) => ({
  ...sync,
  modules: [{ type: "ESModule", path: fileURLToPath(new URL("raw.mjs", import.meta.url)) }],
  modulesRoot: fileURLToPath(new URL(".", import.meta.url)),
});

/**
 * Plays one storm in a workerd of its own: what it came across, and every publish with when it was `due`, `asked` for
 * and `answered`, its `publisher` and its `seq`. `count` clients, who come back after `pauseMs` at most; all are calm
 * for `calmMs` at most between two storms; `state` is the folder of the database.
 */
export async function recover({ seed, count, perSecond, seconds, pauseMs, calmMs, peer = "tidewire", state }) {
  const amend = peer === "raw" ? raw : undefined;
  const vars = { SYNC_CHANNELS, SYNC_LOG: "none", SYNC_LIMITS: { minIntervalMs: 0 } };
  const workers = await start({ workers: ["sync"], direct: true, state, amend, vars });
  const storm = new Storm(workers, new Chance(seed), { perSecond, total: Math.round(perSecond * seconds), pauseMs, calmMs });
  try {
    await storm.gather(count);
    return await storm.play();
  } finally {
    storm.stop();
    await workers.stop();
  }
}

class Storm {
  #followers = [];
  #agents = [];
  #publishes = [];
  #backs = [];

  constructor(workers, chance, numbers) {
    Object.assign(this, { workers, chance, ...numbers });
    this.space = workers.space();
  }

  async gather(count) {
    const { workers, space, pauseMs } = this;
    const join = (at) => {
      const identity = `u${at % USERS}`;
      const sees = (_, row) => row.for === identity;
      // Frames are not packed: thousands of clients in one process would be measured by their zlib.
      return new Follower({ workers, space, identity, channels: ["feed"], events: ["feed"], sees, pauseMs, deflate: false });
    };
    for (let at = 0; at < count; at += AT_ONCE) {
      const some = Array.from({ length: Math.min(AT_ONCE, count - at) }, (_, n) => join(at + n));
      this.#followers.push(...some);
      await Promise.all(some.map((one) => one.until(() => one.isLive, GIVE_UP_MS, () => "is not live")));
    }
  }

  async play() {
    const meter = new Meter();
    const [began, cpu] = [Date.now(), meter.cpu()];
    // Each publishes once a second.
    const publishers = Array.from({ length: this.perSecond }, (_, nth) => this.#publisher(nth, began));
    let isOver = false;
    const publishing = Promise.all(publishers).finally(() => (isOver = true));
    publishing.catch(() => {});
    do await this.#storm(publishing);
    while (!isOver);
    await publishing;
    const [seconds, cpuSeconds] = [(Date.now() - began) / 1_000, meter.cpu() - cpu];
    await this.#judge();
    const sum = (of) => this.#followers.reduce((all, one) => all + of(one), 0);
    return {
      ...{ storms: this.#backs.length, comebacks: sum((one) => one.comebacks) },
      ...{ events: sum((one) => one.copies.feed.events.length), backs: this.#backs },
      ...{ publishes: this.#publishes, seconds, cpuSeconds },
    };
  }

  async #publisher(nth, began) {
    // A connection that stays: a new one would stand in line behind all clients that come back.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    this.#agents.push(agent);
    for (let n = nth; n < this.total; n += this.perSecond) {
      const due = began + (n * 1_000) / this.perSecond;
      await delay(due - Date.now());
      await this.#publish(agent, n, due);
    }
  }

  async #publish(agent, n, due) {
    const asked = performance.now();
    const late = Date.now() - due;
    const change = { channel: "feed", action: "create", key: `e${n}`, data: { for: `u${n % USERS}`, n } };
    const { status, body } = await this.#post(agent, `/broadcast?space=${this.space.name}`, change).catch((cause) => {
      const ms = Math.round(performance.now() - asked);
      throw new Error(`publish ${n} failed after ${ms} ms, ${this.#backs.length} storms: ${cause.message}`, { cause });
    });
    assert.equal(status, 200, JSON.stringify(body));
    this.#publishes[n] = { n, publisher: n % this.perSecond, late, asked, answered: performance.now(), seq: body.seq };
  }

  async #post(agent, path, body) {
    const asked = request(this.workers.origin + path, { agent, method: "POST", headers: bearer(secrets.PUBLISH_KEY) });
    const answered = new Promise((resolve, reject) => asked.once("response", resolve).once("error", reject));
    asked.end(JSON.stringify(body));
    const answer = async (response) => ({ status: response.statusCode, body: JSON.parse(await text(response)) });
    return within(GIVE_UP_MS, answered.then(answer), () => "no answer");
  }

  /** All are dropped at once, or those that chance names; and then it is calm for a while. */
  async #storm(publishing) {
    const share = this.#backs.length % 2 === 0 ? 1 : this.chance.next();
    const dropped = this.#followers.filter(() => this.chance.maybe(share));
    for (const one of dropped) one.drop();
    const at = Date.now();
    await Promise.all(dropped.map((one) => one.until(() => one.isLive, GIVE_UP_MS, () => "is not back")));
    this.#backs.push(Date.now() - at);
    await Promise.race([delay(this.chance.below(this.calmMs)), publishing]);
  }

  async #judge() {
    const all = this.#publishes;
    assert.equal(all.length, this.total);
    assert.equal(new Set(all.map(({ seq }) => seq)).size, this.total);
    for (const own of Map.groupBy(all, ({ publisher }) => publisher).values()) {
      for (const [at, { seq }] of own.entries()) assert.ok(at === 0 || seq > own[at - 1].seq, "a publisher's own are out of order");
    }
    const inOrder = all.toSorted((a, b) => a.seq - b.seq);
    const expected = Map.groupBy(inOrder, ({ n }) => `u${n % USERS}`);
    for (const one of this.#followers) {
      const own = (expected.get(one.identity) ?? []).map(({ n }) => `e${n}`);
      await one.until(() => one.copies.feed.events.length >= own.length, GIVE_UP_MS, () => `has ${one.copies.feed.events.length} of ${own.length} events`);
      assert.deepEqual(one.complaints, []);
      assert.deepEqual(one.copies.feed.events, own, one.identity);
    }
  }

  stop() {
    for (const one of this.#followers) one.stop();
    for (const agent of this.#agents) agent.destroy();
  }
}

/** How long each waited for its answer, in milliseconds. */
export const waitsOf = (publishes) => publishes.map(({ asked, answered }) => answered - asked);

/** The longest wait of each publisher. */
export const worstOfEach = (publishes) =>
  [...Map.groupBy(publishes, ({ publisher }) => publisher).values()].map((own) => Math.max(...waitsOf(own)));

/**
 * How much younger the youngest was that was before each in another order (`answered`, or `seq`), in milliseconds: 0
 * where none has overtaken it.
 */
export function overtaken(publishes, order) {
  let youngest = -Infinity;
  const ages = [];
  for (const { asked } of publishes.toSorted((a, b) => a[order] - b[order])) {
    ages.push(Math.max(0, youngest - asked));
    youngest = Math.max(youngest, asked);
  }
  return ages;
}

/** Median, 99th percentile and worst, rounded. */
export function spread(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
  return { median: at(0.5), p99: at(0.99), worst: at(1) };
}
