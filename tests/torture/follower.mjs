// A client of the wire that believes nothing: it keeps copies, comes back from its cursors, sends again what
// got no answer, and complains of what comes twice, out of order, or is none of its business.
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { mutation } from "../workerd/harness.mjs";

/** How long an upgrade may take where everybody wants one. */
const UPGRADE_MS = 60_000;

const seqOf = (cursor) => Number(cursor.split(".")[1]);

export class Follower {
  /** By channel: `rows` by key, or on event channels `events` in their order. */
  copies = {};
  complaints = [];
  comebacks = 0;
  received = 0;
  #unanswered = new Map();
  #parts = [];
  #isGone = false;
  #look = new Set();

  /**
   * `sees` says of a channel and row whether this identity may see it; `journal` is told of its writes;
   * `pauseMs` is how long it waits at most before it comes back; `deflate` whether it offers to have frames packed.
   */
  constructor({ workers, space, identity, channels, events = [], sees = () => true, journal, pauseMs = 40, deflate = true }) {
    Object.assign(this, { workers, space, identity, channels, events, sees, journal, pauseMs, deflate });
    for (const channel of channels) this.copies[channel] = { rows: new Map(), events: [], seq: 0, isLive: false };
    void this.#run();
  }

  async #run() {
    for (; !this.#isGone; this.comebacks += 1) {
      await this.#visit().catch((error) => (this.lastError = error));
      for (const copy of Object.values(this.copies)) copy.isLive = false;
      this.#parts = [];
      await delay(5 + Math.random() * this.pauseMs);
    }
  }

  async #visit() {
    // A new token each time: one holds for an hour, and games last longer.
    const token = this.space.token(this.identity);
    const { client } = await this.workers.upgrade(`${this.space.path}?token=${token}`, { ms: UPGRADE_MS, deflate: this.deflate });
    if (client === undefined) return;
    this.client = client;
    client.onText = () => queueMicrotask(() => this.#take());
    const subscribe = this.channels.map((channel) => this.#request(channel));
    client.send({ type: "hello", v: 1, subscribe });
    await client.ended(2 ** 30);
    this.#take();
  }

  #request(channel) {
    const { cursor, view } = this.copies[channel];
    return { id: `s:${channel}`, channel, cursor, view: cursor && view, limit: 200 };
  }

  #complain(what) {
    if (this.complaints.length < 20) this.complaints.push(`${this.identity}: ${what}`);
  }

  #take() {
    const { client } = this;
    client.inbox.length = 0;
    client.frames.length = 0;
    for (const message of client.all.splice(0)) {
      this.received += 1;
      this.#apply(message);
    }
    for (const look of this.#look) look();
  }

  #apply(message) {
    const copy = this.copies[message.channel];
    switch (message.type) {
      case "snapshot":
        return this.#page(copy, message);
      case "change":
        return this.#news(copy, message.channel, [message], message.cursor);
      case "batch":
        this.#parts.push(...message.changes);
        if (!message.more) this.#news(copy, message.channel, this.#parts.splice(0), message.cursor);
        return;
      case "ack":
        return this.#acked(message);
      case "reject":
        return this.#rejected(message);
      case "error":
        return this.#complain(JSON.stringify(message));
    }
  }

  #page(copy, { channel, mode, data, deleted, cursor, view, more }) {
    if (mode === "full") [copy.rows, copy.events] = [new Map(), []];
    for (const row of data) this.#set(copy, channel, row.id, row);
    for (const key of deleted) this.#set(copy, channel, key, null);
    Object.assign(copy, { cursor, view, seq: seqOf(cursor), isLive: !more });
    if (more) this.client.send({ type: "subscribe", ...this.#request(channel) });
    else if (this.channels.every((name) => this.copies[name].isLive)) for (const { message } of this.#unanswered.values()) this.client.send(message);
  }

  #news(copy, channel, changes, cursor) {
    const seq = seqOf(cursor);
    if (!copy.isLive) this.#complain(`a change of ${channel} before its last page`);
    // Whoever writes a row out of its own sight is told of it after the ack.
    const isFarewell = seq === copy.seq && copy.isParting && changes.every(({ data }) => data === null);
    if (seq <= copy.seq && !isFarewell) this.#complain(`${channel}: ${seq} after ${copy.seq}`);
    copy.isParting = false;
    Object.assign(copy, { cursor, seq });
    for (const { key, data } of changes) this.#set(copy, channel, key, data);
  }

  #set(copy, channel, key, row) {
    if (row !== null && !this.sees(channel, row)) this.#complain(`may not see ${JSON.stringify(row)} of ${channel}`);
    if (this.events.includes(channel)) {
      if (copy.events.includes(key, Math.max(0, copy.events.length - 500))) this.#complain(`${channel}: the event ${key} twice`);
      copy.events.push(key);
    } else if (row === null) copy.rows.delete(key);
    else copy.rows.set(key, row);
  }

  #acked({ id, data, cursor, replayed }) {
    const sent = this.#unanswered.get(id);
    // One that was sent again before its first answer came.
    if (sent === undefined) return;
    this.#unanswered.delete(id);
    sent.confirm();
    const { channel, action, key } = sent;
    const copy = this.copies[channel];
    if (copy === undefined) return;
    if (!copy.isLive) return this.#complain(`an ack for ${channel} before its last page`);
    if (data === undefined) this.#complain(`an ack without data of ${JSON.stringify(sent.message)}`);
    const row = action === "delete" && !replayed ? null : data;
    const isEvent = this.events.includes(channel);
    if (!replayed || !isEvent) this.#set(copy, channel, key, row);
    if (replayed) return;
    if (seqOf(cursor) <= copy.seq) this.#complain(`${channel}: ack of ${seqOf(cursor)} after ${copy.seq}`);
    Object.assign(copy, { cursor, seq: seqOf(cursor), isParting: data === null });
  }

  #rejected({ id, channel, error }) {
    if (id === `s:${channel}`) {
      if (!error.retryable) this.#complain(`${channel} is refused: ${error.code}`);
      return void setTimeout(() => this.client.isOpen && this.client.send({ type: "subscribe", ...this.#request(channel) }), error.retryAfterMs ?? 20);
    }
    const sent = this.#unanswered.get(id);
    if (sent === undefined) return;
    if (error.retryable) return void setTimeout(() => this.client.isOpen && this.client.send(sent.message), error.retryAfterMs ?? 20);
    this.#unanswered.delete(id);
    if (this.journal && !this.journal.refused(id, error.code)) this.#complain(`${id} was confirmed and refused: ${error.code}`);
  }

  get isLive() {
    return this.client?.isOpen === true && this.channels.every((name) => this.copies[name].isLive);
  }

  /** Writes, now or when it is back; until it is answered it is sent again. */
  write(channel, action, key, data) {
    const id = randomUUID();
    const { promise: confirmed, resolve: confirm } = Promise.withResolvers();
    const message = mutation(id, channel, action, key, data);
    this.#unanswered.set(id, { channel, action, key, message, confirm });
    this.journal?.write({ identity: this.identity }, channel, action, message.data, { id, key, local: Promise.resolve(), confirmed });
    if (this.isLive) this.client.send(message);
  }

  /** The connection ends without a word. */
  drop() {
    this.client?.drop();
  }

  get unanswered() {
    return this.#unanswered.size;
  }

  /** When something is so; looked at after each message, and now and then. */
  async until(is, ms, what) {
    const end = Date.now() + ms;
    while (!is()) {
      if (Date.now() > end) throw new Error(`${this.identity}: ${what()} (after ${ms} ms; ${this.lastError})`);
      await new Promise((resolve) => {
        const look = () => {
          clearTimeout(timer);
          this.#look.delete(look);
          resolve();
        };
        const timer = setTimeout(look, 200);
        this.#look.add(look);
      });
    }
  }

  stop() {
    this.#isGone = true;
    this.client?.drop();
  }
}
