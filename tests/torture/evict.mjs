// The real wasm loses its memory between any two frames and panics at any effect, under clients of the wire,
// publishers, streams and polls.
//
// Demanded of each client: nothing twice, nothing out of order, nothing that it may not see; in the end all
// that there is, events in the order of the log; what was acknowledged is there, and every id was executed once.
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, secrets } from "../workerd/harness.mjs";
import { transports } from "../workerd/transports.mjs";
import { Chance, harder } from "./chance.mjs";
import { Follower } from "./follower.mjs";
import { Journal } from "./journal.mjs";

const identities = ["alice", "alice", "bob", "bob", "carol", "dan"];
const users = [...new Set(identities)];
const channels = ["todos", "notes", "log"];
/** No turn has more effects than that by much. */
const EFFECTS = 40;
const CALM_MS = 60_000;
/** How often something is asked for again that an object amid a crash did not answer. */
const TRIES = 500;
/** How often the object is asked whether its readers have hung up. */
const HANGING_UP = 10;

const SYNC_CHANNELS = {
  todos: { read: "user", write: "user" },
  notes: { read: "user", write: "user", scope: { field: "ownerId", leave: true } },
  log: { read: "user", write: "user", keep: "every" },
};
const SYNC_LIMITS = { messagesPerSecond: 10_000, identityMessagesPerSecond: 10_000, minIntervalMs: 0, maxConcurrentDeltas: 1_000 };
/** What both Workers are started with. */
export const options = { faults: true, vars: { SYNC_CHANNELS, SYNC_LIMITS, SYNC_LOG: "none" } };

/** How often each act happens, relative to each other. */
const acts = { write: 70, publish: 14, drop: 6, sleep: 4, restart: 2, panic: 5 };

/** What workerd says of an object that it does not put away, because it has gone already. */
const HAS_GONE = /it is not currently running/;

const sorted = (rows) => Object.fromEntries([...rows].toSorted(([a], [b]) => (a < b ? -1 : 1)));

/**
 * Plays one game in a space of its own: what it came across. What goes wrong happens `hardship` times as often.
 */
export async function evict({ workers, seed, steps, hardship = 1 }) {
  const game = new Game(workers, new Chance(seed), isPolled(seed));
  try {
    await game.play(steps, harder(acts, ["drop", "sleep", "restart", "panic"], hardship));
    return await game.judge();
  } catch (error) {
    error.message = `SEED=${seed}: ${error.message}`;
    throw error;
  } finally {
    game.stop();
  }
}

/** In every third game somebody polls: there is no eviction in it, for workerd would wait for the poll. */
export const isPolled = (seed) => seed % 3 === 0;

class Game {
  counts = { writes: 0, publishes: 0, drops: 0, sleeps: 0, restarts: 0, panics: 0, comebacks: 0, gone: 0, held: 0 };
  journal = new Journal();
  #nonce = 0;
  #publishing = [];
  #isArmed = false;

  constructor(workers, chance, isPolled) {
    Object.assign(this, { workers, chance, isPolled });
    this.space = workers.space();
    this.followers = identities.map((identity) => this.follow(identity));
    this.readers = [
      new transports.events(workers, this.space, "alice", "todos", { limit: 50 }),
      new transports[isPolled ? "polls" : "events"](workers, this.space, "bob", "notes", { limit: 50 }),
    ];
  }

  follow(identity) {
    const { workers, space, journal } = this;
    const sees = (channel, { ownerId }) => channel !== "notes" || [ownerId].flat().includes(identity);
    return new Follower({ workers, space, identity, channels, events: ["log"], sees, journal });
  }

  async play(steps, weights) {
    const { chance } = this;
    for (let step = 0; step < steps; step += 1) {
      await this.#act(chance.weigh(weights));
      if (chance.maybe(0.4)) await delay(chance.below(6));
    }
  }

  async #act(act) {
    const { chance } = this;
    switch (act) {
      case "write":
        return this.#write(chance.pick(this.followers));
      case "publish":
        return this.#begin(this.#publish());
      case "drop":
        this.counts.drops += 1;
        if (chance.maybe(0.2)) return chance.pick(this.readers).hangUp();
        return chance.pick(this.followers).drop();
      case "sleep":
        return this.#evict("sleeps", () => this.space.sleep());
      case "restart":
        return this.#evict("restarts", () => this.space.restart());
      case "panic":
        await this.#armed(chance.below(EFFECTS));
    }
  }

  /** What fails of it is told at the end. */
  #begin(publishing) {
    publishing.catch(() => {});
    this.#publishing.push(publishing);
  }

  /** Arms a panic at the effect after `at` others, or none; the one before has happened where nothing is armed. */
  async #armed(at) {
    const query = at === undefined ? "" : `&at=${at}`;
    const ask = () => this.workers.ask("tidewire-sync", `/faults?space=armed${query}`, { headers: bearer(secrets.PUBLISH_KEY) });
    let answer = await ask();
    // The panic that was armed before may reset the isolate amid this.
    for (let tries = 1; answer.status === 503 && tries < TRIES; tries += 1) {
      await delay(10);
      answer = await ask();
    }
    const { status, body } = answer;
    assert.equal(status, 200, JSON.stringify(body));
    if (this.#isArmed && body.left < 0) this.counts.panics += 1;
    this.#isArmed = at !== undefined;
  }

  /**
   * workerd's eviction, made for tests, waits for open requests, this process with it, and lets nobody in: readers hang
   * up before, and where the object still holds one of them after a while it stays.
   */
  async #evict(what, how) {
    if (this.isPolled) return;
    for (const reader of this.readers) reader.leave();
    if (await this.#hasHungUp()) {
      await how().then(
        () => (this.counts[what] += 1),
        (error) => {
          if (!HAS_GONE.test(error.message)) throw error;
          this.counts.gone += 1;
        },
      );
    } else this.counts.held += 1;
    for (const reader of this.readers) reader.back();
  }

  /** Whether the object holds nobody but sockets. */
  async #hasHungUp() {
    for (let tries = 0; tries < HANGING_UP; tries += 1) {
      // Until they have noticed, and do not come back by themselves.
      await delay(40);
      // One that panics does not answer, and is asked again.
      const stats = await this.space.stats().catch(() => undefined);
      if (stats?.connections <= this.followers.length) return true;
    }
    return false;
  }

  #change(channel, owner) {
    const { chance } = this;
    const title = `${owner}-${(this.#nonce += 1)}`;
    if (channel === "log") return { action: "create", key: title, data: { title } };
    const action = chance.weigh({ create: 4, update: 5, delete: 2 });
    const key = `${channel[0]}${chance.below(15)}`;
    const data = { title, ...(channel === "notes" && { ownerId: chance.maybe(0.7) ? owner : chance.pick(users) }) };
    return { action, key, data: action === "delete" ? undefined : data };
  }

  #write(one) {
    this.counts.writes += 1;
    const channel = this.chance.weigh({ todos: 4, notes: 4, log: 3 });
    const { action, key, data } = this.#change(channel, one.identity);
    one.write(channel, action, key, data);
  }

  async #publish() {
    const { chance } = this;
    const events = Array.from({ length: 1 + chance.below(6) }, () => {
      const channel = chance.pick(channels);
      const owner = chance.pick(users);
      const change = this.#change(channel, owner);
      return { channel, ...change, ...(change.action === "delete" && channel === "notes" && { to: [`user:${owner}`] }) };
    });
    const key = { "idempotency-key": `publish-${(this.#nonce += 1)}` };
    for (let tries = 0; tries < TRIES; tries += 1) {
      const answer = await this.space.post("/broadcast-batch", { events }, key).catch(() => undefined);
      if (answer?.status === 200) {
        this.counts.publishes += 1;
        return this.journal.published(answer.body.seq, events.length);
      }
      assert.ok(answer === undefined || answer.status >= 500, JSON.stringify(answer?.body));
      await delay(10);
    }
    throw new Error("a publish is never answered");
  }

  async judge() {
    await this.#armed(undefined);
    await Promise.all(this.#publishing);
    const calm = (one) => one.until(() => one.isLive && one.unanswered === 0, CALM_MS, () => `${one.unanswered} writes are unanswered`);
    await Promise.all(this.followers.map(calm));
    const events = channels.map((channel) => ({ channel, action: "create", key: "last", data: { title: "last", ownerId: users } }));
    const { status, body } = await this.space.post("/broadcast-batch", { events });
    assert.equal(status, 200, JSON.stringify(body));
    this.journal.published(body.seq, events.length);
    const hasLast = ({ copies }) => copies.todos.rows.has("last") && copies.notes.rows.has("last") && copies.log.events.includes("last");
    await Promise.all(this.followers.map((one) => one.until(() => hasLast(one), CALM_MS, () => "the last rows do not come")));
    const truth = {};
    for (const user of users) {
      const one = this.follow(user);
      await one.until(() => one.isLive, CALM_MS, () => "somebody new is not live");
      truth[user] = one.copies;
      one.stop();
    }
    for (const { identity, copies, complaints, comebacks } of this.followers) {
      assert.deepEqual(complaints, []);
      for (const name of ["todos", "notes"]) assert.deepEqual(sorted(copies[name].rows), sorted(truth[identity][name].rows), `${identity}'s ${name}`);
      assert.deepEqual(copies.log.events, truth[identity].log.events, `${identity}'s log`);
      this.counts.comebacks += comebacks;
    }
    const bare = (rows) => Object.fromEntries(Object.entries(sorted(rows)).map(([key, { id: _, ...row }]) => [key, row]));
    await this.readers[0].shows(bare(truth.alice.todos.rows), CALM_MS);
    await this.readers[1].shows(bare(truth.bob.notes.rows), CALM_MS);
    const { seq } = await this.journal.audit(this.space);
    return { ...this.counts, changes: seq };
  }

  stop() {
    for (const one of this.followers) one.stop();
    for (const reader of this.readers) reader.leave();
  }
}
