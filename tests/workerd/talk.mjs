// Who takes part in a conversation about rows, wherever these live: clients that keep copies of them,
// and a backend that writes them.
//
// A home is `{ workers, outside?, tries? }`. Where rows live outside of the object, `outside` writes
// there past the sync Worker: `put(space, table, row)` and `remove(space, table, key)`. Homes may be
// shared by all spaces, so each conversation has keys of its own, and looks at these alone.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { mutation } from "./harness.mjs";

/** One conversation: its space, its keys, who takes part. */
export class Talk {
  #prefix = `${randomUUID().slice(0, 8)}-`;

  /** `tries` is how often a page is asked for at most, where a source may refuse it for now. */
  constructor({ workers, outside, tries = 1 }) {
    Object.assign(this, { workers, outside, tries });
    this.space = workers.space();
  }

  key(name) {
    return this.#prefix + name;
  }

  /** What a key is called here; nothing, if it is another conversation's. */
  name(key) {
    return key.startsWith(this.#prefix) ? key.slice(this.#prefix.length) : undefined;
  }

  /** Somebody's copy of a channel, complete and live. */
  async open(user, channel = "todos") {
    const copy = new Copy(this, user, channel);
    await copy.connect();
    return copy;
  }

  /** What somebody new gets. */
  async newcomer(user = "zoe", channel = "todos") {
    const { client, rows } = await this.open(user, channel);
    client.close();
    return rows;
  }

  /** Writes past the sync Worker, where rows live elsewhere. */
  async write(channel, name, row) {
    const key = this.key(name);
    if (row === null) await this.outside?.remove(this.space.name, channel, key);
    else await this.outside?.put(this.space.name, channel, { id: key, ...row });
  }

  /** What a backend does that has changed a row: `row` is the whole of it, or null. */
  async publish(channel, action, name, row) {
    await this.write(channel, name, row);
    const to = channel === "notes" && row ? { to: [`user:${row.ownerId}`] } : {};
    return this.space.publish(channel, action, this.key(name), row ?? undefined, to);
  }

  /** Everyone holds the same, and so does somebody new. */
  async agree(copies, rows) {
    for (const copy of copies) await copy.settle();
    const expected = rows ?? (await this.newcomer());
    for (const copy of copies) assert.deepEqual(copy.rows, expected, `${copy.user}'s copy`);
    if (rows) assert.deepEqual(await this.newcomer(), rows, "what somebody new gets");
  }
}

/** A client that keeps a copy of a channel, and comes back from where it was. */
export class Copy {
  rows = {};
  /** How often all was replaced, and what was told to be gone by deltas. */
  fulls = 0;
  deleted = [];
  #talk;
  #at = 0;
  #isStale = false;
  #sent = new Map();

  constructor(talk, user, channel) {
    Object.assign(this, { user, channel });
    this.#talk = talk;
  }

  async connect(limit) {
    this.client = await this.#talk.space.join(this.user);
    this.#at = 0;
    await this.ask(limit);
  }

  leave() {
    this.take();
    this.client.drop();
  }

  /** Asks for what has changed, page by page; `between` is called after each but the last. */
  async ask(limit, between = () => {}) {
    for (let pages = 1; ; pages += 1) {
      assert.ok(pages < 2_000, "pages do not end");
      const { channel, cursor, view } = this;
      let page;
      for (let tries = 0; tries < this.#talk.tries && page?.type !== "snapshot"; tries += 1) {
        page = await this.client.subscribe(channel, { cursor, view, limit });
      }
      assert.equal(page.type, "snapshot", JSON.stringify(page));
      this.#isStale = false;
      this.take();
      assert.ok(limit === undefined || page.data.length + page.deleted.length <= limit);
      if (!page.more) return;
      await between(pages, page);
    }
  }

  /** Applies what has come, in its order. */
  take() {
    const { all } = this.client;
    while (this.#at < all.length) this.#apply(all[this.#at++]);
  }

  #apply({ type, id, channel, cursor, view, ...message }) {
    const sent = this.#sent.get(id);
    if (type === "ack" || (type === "reject" && !message.error.retryable)) this.#sent.delete(id);
    if (type === "ack" && sent) {
      this.#set(sent.key, sent.action === "delete" ? null : message.data);
      this.cursor = message.replayed ? this.cursor : cursor;
    }
    if (channel !== this.channel) return;
    if (type === "channel-change") this.#isStale = true;
    if (type === "snapshot") {
      if (message.mode === "full") [this.rows, this.fulls] = [{}, this.fulls + 1];
      for (const row of message.data) this.#set(row.id, row);
      for (const key of message.deleted) {
        this.#set(key, null);
        this.deleted.push(this.#talk.name(key));
      }
      this.view = view;
    } else if (type === "change" || type === "batch") {
      for (const { key, data } of message.changes ?? [message]) this.#set(key, data);
    }
    this.cursor = cursor ?? this.cursor;
  }

  #set(key, row) {
    const name = this.#talk.name(key);
    if (name === undefined) return;
    const { id, ...fields } = row ?? {};
    if (row === null) delete this.rows[name];
    else this.rows[name] = fields;
  }

  /** All that was sent to it until now is applied; where it is told to ask again, it does. */
  async settle() {
    for (let round = 0; round < 5; round += 1) {
      try {
        await this.client.rest();
      } catch (error) {
        // The news of a restart may be slower than the answers before it.
        if (this.client.isOpen) throw error;
        await this.connect();
      }
      this.take();
      if (!this.#isStale) return;
      await this.ask();
    }
    throw new Error(`${this.user} is told to ask again and again`);
  }

  /** Sends a mutation, and does not wait for its answer. */
  send(action, name, data, id = randomUUID()) {
    const message = mutation(id, this.channel, action, this.#talk.key(name), data);
    this.#sent.set(id, message);
    this.client.send(message);
    return id;
  }

  /** Sends a mutation: its answer. */
  async mutate(...asked) {
    const id = this.send(...asked);
    const answer = await this.client.receive({ id });
    this.take();
    return answer;
  }

  /** Has all answered that it ever sent, and comes back and repeats it as often as that takes. */
  async finish() {
    for (let round = 0; this.#sent.size > 0; round += 1) {
      assert.ok(round < 500, `still unanswered: ${JSON.stringify([...this.#sent.values()])}`);
      try {
        if (!this.client.isOpen) {
          this.take();
          await this.connect();
          for (const message of this.#sent.values()) this.client.send(message);
        }
        let rest = 0;
        for (const id of [...this.#sent.keys()]) {
          const { error } = await this.client.receive({ id });
          if (error?.retryable) this.client.send(this.#sent.get(id));
          rest = Math.max(rest, error?.retryAfterMs ?? 0);
        }
        this.take();
        // As it was told, but no test waits that long.
        if (rest > 0) await delay(Math.min(rest, 100));
      } catch (error) {
        if (this.client.isOpen) throw error;
      }
    }
  }

  /** Whether a key of the conversation was ever named to it, on its present socket. */
  knows(name) {
    return JSON.stringify(this.client.all).includes(this.#talk.key(name));
  }
}
