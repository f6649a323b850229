// Five clients with storage of their own write what chance says, while networks, pages and the object
// fail: in the end everyone holds what the server has, and every write happened once.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { setImmediate as soon, setTimeout as delay } from "node:timers/promises";
import { indexedDatabases } from "../../client/src/indexeddb.ts";
import { memoryDatabases } from "../../client/src/memory.ts";
import { bearer, secrets, within } from "../workerd/harness.mjs";
import { Chance, harder } from "./chance.mjs";
import { Device } from "./device.mjs";
import { Journal } from "./journal.mjs";
import { Streams } from "./streams.mjs";

/** What the sync Worker is started with. */
export const vars = {
  SYNC_CHANNELS: {
    todos: { read: "user", write: "user" },
    notes: { read: "user", write: "user", scope: { field: "ownerId", leave: true } },
    drafts: { read: "user", write: "user", timestamp: "editedAt" },
    log: { read: "user", write: "user", keep: "every" },
    feed: { read: "user", write: "none" },
  },
  // The clients write without a pause: their rates are not what is tried here.
  SYNC_LIMITS: { messagesPerSecond: 10_000, identityMessagesPerSecond: 10_000, minIntervalMs: 10 },
  SYNC_LOG: "none",
};

const channels = ["todos", "notes", "drafts", "log", "feed"];
/** The first two devices are of one user. */
const identities = ["alice", "alice", "bob", "carol", "dan"];
const users = [...new Set(identities)];
const keys = { todos: 25, notes: 20, drafts: 10 };
/** How long the way back to calm may take. */
const CALM_MS = 90_000;

/** How often each act of a client happens, in a thousand. */
const acts = { write: 900, hangUp: 25, comeBack: 25, fail: 30, reload: 12, crash: 8 };
/** And of the world around, for each act of a client, in a thousand. */
const events = { nothing: 930, publish: 35, batch: 15, sleep: 15, restart: 4, reset: 1 };

const without = (weights, usual) => Object.keys(weights).filter((name) => name !== usual);

const byKey = (rows) => Object.fromEntries(rows.toSorted((a, b) => (a.id < b.id ? -1 : 1)).map((row) => [row.id, row]));

/** Plays one game in a space of its own: what it came across. */
export async function converge({ workers, seed, operations, hardship = 1, say = () => {} }) {
  const game = new Game(workers, new Chance(seed), hardship);
  try {
    await game.play(operations, say);
    return await game.end();
  } catch (error) {
    error.message = `SEED=${seed}: ${error.message}`;
    throw error;
  } finally {
    await game.stop();
  }
}

class Game {
  counts = { writes: 0, publishes: 0 };
  #nonce = 0;
  #events = [];
  #publishing = new Set();
  #evicting;
  /** What clients complained of, or did, that nothing here explains. */
  #surprises = [];
  #journal = new Journal();
  /** Clients whose sockets fail again and again read over HTTP. */
  #streams = new Streams();

  constructor(workers, chance, hardship) {
    Object.assign(this, { workers, chance });
    this.acts = harder(acts, without(acts, "write"), hardship);
    this.events = harder(events, without(events, "nothing"), hardship);
    this.space = workers.space();
    this.devices = identities.map((identity, at) => this.#device(identity, at));
  }

  #device(identity, at) {
    const { space, workers } = this;
    const device = new Device({
      identity,
      // Two devices of one user cannot share one browser's IndexedDB.
      databases: at < 2 ? memoryDatabases() : indexedDatabases(),
      options: {
        url: workers.origin,
        space: space.name,
        token: space.token(identity),
        batchSize: 7 + at * 5,
        reconnectInterval: 20,
        maxReconnectInterval: 150,
        onError: ({ code, message }) => {
          this.#count(`error ${code}`);
          if (!["no_answer", "unavailable", "rate_limited"].includes(code)) this.#surprises.push(`${identity}: ${code}: ${message}`);
        },
      },
      fetch: this.#streams.fetch,
      settled: (id) => this.#journal.settled(id),
      opened: (sync) => {
        device.isRestored = false;
        const restored = channels.map((name) => sync.channel(name).restored);
        void Promise.all(restored).then(() => (device.isRestored ||= device.sync === sync), () => {});
        for (const name of channels) {
          const channel = sync.channel(name);
          channel.ready.catch(() => {});
          channel.onOutbox(() => {
            for (const { id, error } of channel.rejected) {
              // What a listener throws is the client's to catch.
              if (!this.#journal.refused(id, error.code)) this.#surprises.push(`${id} was confirmed, or never written, and refused: ${error.code}`);
              channel.dismiss(id);
            }
          });
        }
      },
    });
    device.open();
    return device;
  }

  #count(what, by = 1) {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  async play(operations, say) {
    const { chance } = this;
    for (let done = 0; done < operations; done += 1) {
      await this.#act(chance.pick(this.devices), chance.weigh(this.acts));
      this.#happen(chance.weigh(this.events));
      if (chance.maybe(0.3)) await soon();
      if (chance.maybe(0.05)) await delay(chance.below(8));
      if ((done + 1) % 1_000 === 0) say(`${done + 1} operations`);
    }
  }

  async #act(device, act) {
    this.#count(act === "write" ? "writes" : act);
    switch (act) {
      case "write":
        return this.#write(device);
      case "hangUp":
        return device.sync.disconnect();
      case "comeBack":
        return device.sync.connect();
      case "fail":
        return device.fail(this.chance.pick(["drop", "deaf", "mute"]), this.chance);
      case "reload":
        // What was written before the storage was open is not promised to be kept: `local` says so.
        if (!device.isRestored) this.#journal.crashed(device);
        await device.close();
        return device.open();
      case "crash":
        this.#crash(device);
    }
  }

  #crash(device) {
    this.#journal.crashed(device);
    device.crash();
    device.open();
  }

  #key(name) {
    return `${name[0]}${this.chance.below(keys[name])}`;
  }

  #write(device) {
    const { chance } = this;
    const name = chance.weigh({ todos: 40, notes: 30, drafts: 15, log: 14, feed: 1 });
    const channel = device.sync.channel(name);
    const nonce = `${device.identity}-${(this.#nonce += 1)}`;
    const wrote = (action, data, written) => this.#journal.write(device, name, action, data, written);
    const create = (row) => wrote("create", row, channel.create(row));
    if (name === "feed") return create({ id: "f", title: nonce });
    if (name === "log") {
      // An event's key is not used twice.
      const id = chance.maybe(0.05) && this.#events.length > 0 ? chance.pick(this.#events) : nonce;
      this.#events.push(id);
      return create({ id, title: nonce });
    }
    const key = this.#key(name);
    const action = chance.weigh({ create: 4, update: 5, delete: 2 });
    const data = { title: nonce, ...this.#more(name, device) };
    if (action === "create") return create({ id: key, ...data });
    if (action === "delete") return wrote("delete", undefined, channel.delete(key));
    // An update of a row that is not to be scoped or dated anew leaves that field as it is.
    if (name === "notes" && chance.maybe(0.7)) delete data.ownerId;
    wrote("update", data, channel.update(key, data));
  }

  #more(name, device) {
    const { chance } = this;
    if (name === "todos") return chance.maybe(0.5) ? { [`by-${device.identity}`]: chance.below(100) } : {};
    if (name === "drafts") return { editedAt: 1_000 + this.#nonce - chance.below(40) };
    // Mostly one's own, at times shared, given away, or another's from the beginning.
    const owners = chance.maybe(0.9) ? [device.identity] : [];
    if (owners.length === 0 || chance.maybe(0.3)) owners.push(chance.pick(users));
    return { ownerId: [...new Set(owners)] };
  }

  #happen(event) {
    const { chance } = this;
    if (event === "nothing") return;
    if (event === "publish") this.#publish("/broadcast", { channel: "todos", ...this.#change("todos") }, 1);
    if (event === "batch") {
      const names = Array.from({ length: 1 + chance.below(12) }, () => chance.pick(["todos", "notes", "log"]));
      const list = names.map((channel) => ({ channel, ...this.#change(channel) }));
      this.#publish("/broadcast-batch", { events: list }, list.length);
    }
    if (event === "reset") this.#publish("/broadcast-reset", { channel: chance.pick(["todos", "notes"]) }, 1);
    if (event === "sleep" || event === "restart") this.#evict(event);
  }

  #change(channel) {
    const { chance } = this;
    const title = `app-${(this.#nonce += 1)}`;
    if (channel === "log") return { action: "create", key: title, data: { title } };
    const action = chance.weigh({ create: 3, update: 5, delete: 2 });
    const owner = chance.pick(users);
    const scope = channel === "notes" ? { ownerId: owner } : {};
    if (action === "delete") return { action, key: this.#key(channel), ...(channel === "notes" && { to: [`user:${owner}`] }) };
    return { action, key: this.#key(channel), data: { title, ...scope } };
  }

  /** Publishes until an answer comes, under one idempotency key. */
  #publish(path, body, count) {
    const headers = { "idempotency-key": `publish-${(this.#nonce += 1)}` };
    const publish = async () => {
      for (let tries = 0; tries < 500; tries += 1) {
        const answer = await this.space.post(path, body, headers).catch(() => undefined);
        if (answer?.status === 200) {
          this.#count("publishes");
          return this.#journal.published(answer.body.seq, count);
        }
        assert.ok(answer === undefined || answer.status >= 500, JSON.stringify(answer?.body));
        this.#count(`publishes repeated after ${answer?.status ?? "no answer"}`);
        await delay(20);
      }
      throw new Error(`${path} is never answered`);
    };
    const published = publish();
    // A failure of it is told at the end.
    published.catch(() => {});
    this.#publishing.add(published);
  }

  /** The object loses its memory, and on a restart its sockets, amid whatever is under way. */
  #evict(how) {
    if (this.#evicting !== undefined) return;
    const done = (what) => {
      this.#count(what);
      this.#evicting = undefined;
    };
    // One that sleeps already cannot be put to sleep.
    const evict = () => (how === "sleep" ? this.space.sleep() : this.space.restart());
    this.#evicting = this.#streams.without(evict).then(() => done(how), () => done(`${how} in vain`));
  }

  async end() {
    await this.#evicting;
    await Promise.all(this.#publishing);
    await this.#calm();
    Object.assign(this.counts, await this.#journal.repeatUncertain(this.space));
    await this.#mark();
    assert.deepEqual(this.#surprises, []);
    const truth = await this.#truth();
    for (const [at, device] of this.devices.entries()) this.#isEqual(device, truth, `client ${at}`);
    const audit = await this.#journal.audit(this.space);
    await Promise.all(this.devices.map((device) => device.close()));
    for (const [at, device] of this.devices.entries()) {
      const sync = device.open({ autoConnect: false });
      await within(CALM_MS, Promise.all(channels.map((name) => sync.channel(name).restored)), () => `client ${at} is not restored`);
      this.#isEqual(device, truth, `client ${at} after a reload, offline`);
    }
    return { ...this.counts, refusals: this.#journal.refusals, ...audit };
  }

  /** Every client is back, and has nothing left to send. */
  async #calm() {
    for (const [at, { sync, trace }] of this.devices.entries()) {
      sync.connect();
      const all = channels.map((name) => sync.channel(name));
      const isCalm = () => sync.status === "synced" && all.every(({ pending }) => pending.length === 0);
      const left = () => JSON.stringify(all.flatMap(({ pending }) => pending)).slice(0, 500);
      const what = () => `client ${at} is ${sync.status} with ${left()}\n${trace.join("\n")}\n`;
      await this.#until(sync, isCalm, what);
    }
  }

  /** Whatever is on its way to somebody comes before a last row of each channel. */
  async #mark() {
    const title = "last";
    for (const channel of ["todos", "drafts", "log", "feed"]) this.#publish("/broadcast", { channel, action: "create", key: "last", data: { title } }, 1);
    this.#publish("/broadcast", { channel: "notes", action: "create", key: "last", data: { title, ownerId: users } }, 1);
    await Promise.all(this.#publishing);
    for (const [at, { sync }] of this.devices.entries()) {
      await this.#until(sync, () => channels.every((name) => sync.channel(name).get("last") !== undefined), () => `client ${at} has no last row`);
    }
  }

  async #until(sync, is, what) {
    const ends = [];
    const so = new Promise((resolve) => {
      const look = () => is() && resolve();
      for (const name of channels) ends.push(sync.channel(name).subscribe(look), sync.channel(name).onOutbox(look));
      ends.push(sync.on("status", look));
      look();
    });
    await within(CALM_MS, so, what).finally(() => ends.forEach((end) => end()));
  }

  /** What somebody new gets, by user and channel; and the same in what an operator exports. */
  async #truth() {
    const truth = {};
    for (const user of users) {
      const client = await this.space.join(user);
      truth[user] = {};
      for (const name of channels) {
        const rows = [];
        for (let page = { more: true }; page.more; ) {
          page = await client.subscribe(name, { cursor: page.cursor, view: page.view, limit: 100 });
          assert.equal(page.type, "snapshot", JSON.stringify(page));
          rows.push(...page.data);
        }
        truth[user][name] = byKey(rows);
        assert.equal(Object.keys(truth[user][name]).length, rows.length, `${name} has a row twice`);
      }
      client.close();
    }
    const { body } = await this.workers.http(`/export?space=${this.space.name}`, { headers: bearer(secrets.PUBLISH_KEY) });
    const exported = Object.fromEntries(channels.map((name) => [name, new Map()]));
    for (const line of body.trimEnd().split("\n").map((text) => JSON.parse(text))) {
      if (line.channel === undefined) continue;
      if (line.data === null) exported[line.channel].delete(line.key);
      else exported[line.channel].set(line.key, line);
    }
    for (const user of users) {
      for (const name of channels) {
        const sees = ({ to }) => to === undefined || to === "all" || to.includes(`user:${user}`);
        const rows = [...exported[name].values()].filter(sees).map(({ key, data }) => ({ id: key, ...data }));
        assert.deepEqual(truth[user][name], byKey(rows), `${user}'s ${name}, and what is exported of it`);
      }
    }
    this.counts.rows = Object.values(exported).reduce((sum, rows) => sum + rows.size, 0);
    return truth;
  }

  #isEqual({ sync, identity }, truth, who) {
    for (const name of channels) {
      const channel = sync.channel(name);
      assert.deepEqual(channel.pending, [], `${who} has writes of ${name} left`);
      assert.deepEqual(byKey(channel.rows), truth[identity][name], `${who}'s ${name}`);
    }
  }

  async stop() {
    await Promise.all(this.devices.map((device) => device.close()));
  }
}
