// One small client for each transport: a copy of one channel that keeps itself complete, whatever
// ends its connection, until its token opens nothing any more.
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, mutation, within } from "./harness.mjs";

/**
 * Who hears nothing over HTTP for so long comes again: open answers are pinged every 10 s. Amid crashes a fetch was
 * seen whose socket was gone, and which nothing had settled: it would be waited for without end.
 */
const SILENCE_MS = 30_000;

/**
 * Such a fetch had its whole answer, packed, and did not unpack it to the end after it was aborted: none is packed here.
 */
export const unpacked = { "accept-encoding": "identity" };

/** What all transports have in common: the copy, and how messages change it. */
class Copy {
  rows = new Map();
  /** Every key that was ever heard of, and how often all was replaced. */
  heard = new Set();
  fulls = 0;
  cursor;
  view;
  #look = new Set();
  #parts = [];
  #away = false;

  constructor(workers, space, user, channel, { limit = 500, ...claims } = {}) {
    Object.assign(this, { workers, space, user, channel, limit });
    this.token = space.token(user, claims);
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.#run();
  }

  /** Comes back until it is told that it may not. */
  async #run() {
    while (!this.#away) {
      const refused = await this.visit().catch(() => undefined);
      if (refused !== undefined) return this.end(refused);
      await delay(20);
    }
  }

  /** Goes away. */
  leave() {
    this.#away = true;
    this.hangUp();
  }

  /** Comes back from where it was. */
  back() {
    this.#away = false;
    this.#run();
  }

  take(message) {
    switch (message.type) {
      case "snapshot":
        if (message.mode === "full") {
          this.rows.clear();
          this.fulls += 1;
        }
        for (const { id, ...row } of message.data) this.#set(id, row);
        for (const key of message.deleted) this.#set(key, null);
        this.view = message.view;
        break;
      case "change":
        this.#change(message);
        break;
      case "batch":
        this.#parts.push(...message.changes);
        if (message.more) return;
        for (const change of this.#parts.splice(0)) this.#change(change);
        break;
      case "authed":
        this.view = message.view;
        break;
      case "channel-reset":
        this.cursor = undefined;
        break;
    }
    this.cursor = message.cursor ?? this.cursor;
    for (const look of this.#look) look();
  }

  #change({ key, data }) {
    if (data === null) return this.#set(key, null);
    const { id: _, ...row } = data;
    this.#set(key, row);
  }

  #set(key, row) {
    this.heard.add(key);
    if (row === null) this.rows.delete(key);
    else this.rows.set(key, row);
  }

  /** Waits until the copy is this, or passes a test. */
  async shows(wanted, ms = 10_000) {
    const test = typeof wanted === "function" ? wanted : () => isDeepStrictEqual(this.copy, wanted);
    let look;
    const shown = new Promise((resolve) => {
      look = () => test() && resolve();
      this.#look.add(look);
      look();
    });
    const what = () => `${this.constructor.name} shows ${JSON.stringify(this.copy).slice(0, 500)}`;
    await within(ms, shown, what).finally(() => this.#look.delete(look));
  }

  get copy() {
    return Object.fromEntries([...this.rows].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }

  query(more) {
    const place = this.cursor === undefined ? {} : { cursor: this.cursor, view: this.view };
    const { channel, limit } = this;
    return new URLSearchParams({ space: this.space.name, channel, limit, ...place, ...more });
  }

  giveUp(why) {
    this.workers.givenUp.push(`${why}: ${this.channel}`);
    return why;
  }

  /** Sends mutations over HTTP. */
  async mutate(...mutations) {
    const { body } = await this.workers.http(`/api/sync/mutate?space=${this.space.name}`, {
      method: "POST",
      headers: bearer(this.token),
      body: JSON.stringify({ mutations }),
    });
    return body.results;
  }
}

class OverWebSocket extends Copy {
  #client;

  async visit() {
    const headers = bearer(this.token);
    const { status, body, client } = await this.workers.upgrade(this.space.path, { headers });
    if (status !== 101) return refusal(status, body);
    this.#client = client;
    client.send({ type: "hello", v: 1 });
    this.#subscribe();
    let refused;
    for (;;) {
      const message = await client.receive({}, 60_000);
      if (message.type === "reject" && message.id === "s") refused = message.error.code;
      if (refused !== undefined) return refused;
      if (message.type === "ack" || message.type === "reject") this.#answers.get(message.id)?.shift()?.(message);
      if (message.channel !== this.channel && message.type !== "authed") continue;
      this.take(message);
      if (message.more && message.type === "snapshot") this.#subscribe();
      if (message.type === "channel-reset") this.#subscribe();
    }
  }

  #subscribe() {
    const { channel, limit, cursor, view } = this;
    this.#client.send({ type: "subscribe", id: "s", channel, limit, cursor, view });
  }

  hangUp() {
    this.#client?.close();
  }

  #answers = new Map();

  async mutate(...mutations) {
    const answer = ({ id }) =>
      new Promise((resolve) => this.#answers.set(id, [...(this.#answers.get(id) ?? []), resolve]));
    const answers = mutations.map(answer);
    this.#client.send(mutations);
    return Promise.all(answers);
  }
}

class OverEvents extends Copy {
  #abort;
  #id = "";

  async visit() {
    const abort = (this.#abort = new AbortController());
    // A stream comes as it is, but its refusal is packed as well.
    const headers = { ...bearer(this.token), ...unpacked, accept: "text/event-stream", "last-event-id": this.#id };
    const query = new URLSearchParams({ space: this.space.name, channel: this.channel, limit: this.limit });
    const url = `${this.workers.origin}/api/sync/changes?${query}`;
    const hear = (promise) => within(SILENCE_MS, promise, () => this.giveUp("a stream is silent"));
    try {
      const response = await hear(fetch(url, { headers, signal: abort.signal }));
      if (response.status !== 200) return refusal(response.status, await hear(response.json()));
      const stream = events(response.body);
      for (;;) {
        const { done, value } = await hear(stream.next());
        if (done) return undefined;
        if (value.data !== undefined) this.take(JSON.parse(value.data));
        if (value.id !== undefined) this.#id = value.id;
      }
    } finally {
      abort.abort();
    }
  }

  hangUp() {
    this.#abort?.abort();
  }
}

class OverPolls extends Copy {
  #abort;

  async visit() {
    const abort = (this.#abort = new AbortController());
    const url = `${this.workers.origin}/api/sync/changes?${this.query({ wait: 5 })}`;
    const ask = async () => {
      const headers = { ...bearer(this.token), ...unpacked };
      const response = await fetch(url, { headers, signal: abort.signal });
      return { status: response.status, body: await response.json() };
    };
    const asked = within(SILENCE_MS, ask(), () => this.giveUp("a poll is not answered")).finally(() => abort.abort());
    const { status, body } = await asked;
    if (status !== 200) return refusal(status, body);
    this.take(body);
    return undefined;
  }

  hangUp() {
    this.#abort?.abort();
  }
}

/** A refusal that coming back will not change. */
function refusal(status, body) {
  return status === 503 || status === 429 ? undefined : body.error.code;
}

/** The events of a stream: id and data, each only where it is given. */
export async function* events(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const [, name, value] = /^(\w*): ?(.*)$/.exec(line) ?? [];
        if (name === "id") event.id = value;
        if (name === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
      }
      yield event;
    }
  }
}

export const transports = { WebSocket: OverWebSocket, events: OverEvents, polls: OverPolls };

/** A mutation with an id of its own. */
export const change = (channel, action, key, data, id = randomUUID()) =>
  mutation(id, channel, action, key, data);
