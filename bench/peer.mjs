// A peer that runs, a workerd and a process with its clients, and what can be asked of it: an upgrade, a publish, a
// batch, catch-up, sleep.
import { randomUUID } from "node:crypto";
import { Load } from "./load-client.mjs";

/** One data field of so many bytes of JSON, with a mark. */
export function row(mark, bytes) {
  const data = { id: `k${mark % 100}`, n: `#${mark};`, title: "a change", done: false, text: "" };
  data.text = "x".repeat(Math.max(0, bytes - JSON.stringify(data).length));
  return data;
}

export const newSpace = () => `bench-${randomUUID()}`;

/** A peer that runs: a workerd, and a process with its clients. */
export class Peer {
  /** The mark of the next row that is delivered. */
  mark = 0;

  /** By space: the clients that publish, of libraries with a protocol of their own. */
  #publishers = new Map();

  constructor(kind, workerd) {
    Object.assign(this, { kind, workerd, name: kind.name, load: new Load() });
  }

  cpu() {
    return this.workerd.cpu();
  }

  async post(path, body, headers) {
    const init = {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    };
    const send = () => fetch(this.workerd.origin + path, init);
    // A connection that was idle while others had their turn may close as it is used again.
    const response = await send().catch((error) => {
      if (error.cause?.code !== "UND_ERR_SOCKET") throw error;
      return send();
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${this.name} ${path}: ${response.status} ${text}`);
    return text.startsWith("{") ? JSON.parse(text) : text;
  }

  /** Sockets that are live on a channel of a space, from number `from` on. */
  sockets(space, from, count, options = {}) {
    const url = this.workerd.origin.replace("http", "ws");
    return Array.from({ length: count }, (_, at) => {
      const { path, ...spec } = this.kind.socket(space, from + at, options);
      return { first: [], headers: {}, ...spec, url: url + path };
    });
  }

  get #origin() {
    return this.workerd.origin.replace("http", "ws");
  }

  async #publisher(space) {
    if (!this.#publishers.has(space))
      this.#publishers.set(space, await this.kind.speaks.publisher(this.#origin, space));
    return this.#publishers.get(space);
  }

  async publish(space, data, { channel = "bench", to } = {}) {
    if (this.kind.speaks) return (await this.#publisher(space)).publish(data);
    const { action = "create" } = this.kind;
    const change = { channel, action, key: data.id, data, ...(to ? { to } : {}) };
    return this.post(`${this.kind.broadcast(space)}`, change, this.kind.headers);
  }

  /**
   * Publishes one row and waits until `count` clients have it: ms from the request to the first and the last delivery.
   * `make` gives the row of a mark.
   */
  async deliver(space, count, make = (mark) => row(mark, 200), options = () => ({})) {
    const mark = this.mark++;
    const delivered = this.load.wait(space, mark, count);
    const began = Number(process.hrtime.bigint()) / 1e6;
    const [{ first, last }] = await Promise.all([delivered, this.publish(space, make(mark), options(mark))]);
    return { firstMs: first - began, lastMs: last - began };
  }

  /** Looks whether each of the last `many` rows came `count` times. */
  checkLast(space, many, count) {
    const from = this.mark - many;
    const marks = Array.from({ length: many }, (_, at) => from + at);
    return this.load.check(space, from, marks, count);
  }

  publishBatch(space, list, { channel = "bench" } = {}) {
    const changes = list.map((data) => ({ action: "create", key: data.id, data }));
    return this.post(this.kind.broadcastBatch(space), { channel, changes }, this.kind.headers);
  }

  /** Has a channel hold rows, in batches of 1,000. */
  async fill(space, list, channel = "bench") {
    for (let at = 0; at < list.length; at += 1_000) {
      const part = list.slice(at, at + 1_000);
      if (this.kind.speaks) await (await this.#publisher(space)).fill(part);
      else if (this.kind.name === "raw") await this.post(`/fill?space=${space}`, { channel, rows: part });
      else await this.publishBatch(space, part, { channel });
    }
    // What such a client has sent is there for certain once another has it.
    if (this.kind.speaks) await this.readAll(space, list.length);
  }

  /** Reads all that a channel holds as a client that has nothing. */
  readAll(space, rows, limit, channel = "bench") {
    if (this.kind.speaks) return this.kind.speaks.catchUp(this.#origin, space, rows);
    return this.load.read(space, { channel, limit, rows, times: 1 });
  }

  sleep(space) {
    return this.workerd.sleep(this.kind.worker, this.kind.className, space);
  }

  async stop() {
    for (const one of this.#publishers.values()) await one.stop();
    // Its sockets go first: a server that closes them is a fault.
    try {
      await this.load.stop();
    } finally {
      await this.workerd.stop();
    }
  }
}
