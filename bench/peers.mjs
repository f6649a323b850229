// Who is measured, and how each is spoken to: an upgrade, a publish, a batch, sleep.
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { secrets, token, worker } from "../tests/workerd/harness.mjs";
import { Load } from "./load-client.mjs";
import * as livestore from "./livestore.mjs";
import * as tinybase from "./tinybase.mjs";
import { startWorkerd } from "./workerd.mjs";

const COMPATIBILITY_DATE = "2026-06-07";

/** One data field of so many bytes of JSON, with a mark. */
export function row(mark, bytes) {
  const data = { id: `k${mark % 100}`, n: `#${mark};`, title: "a change", done: false, text: "" };
  data.text = "x".repeat(Math.max(0, bytes - JSON.stringify(data).length));
  return data;
}

/** Options of a Worker in JavaScript, with its packages in it. */
export async function script(name, className, binding) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`peers/${name}.mjs`, import.meta.url))],
    bundle: true,
    format: "esm",
    target: "es2022",
    write: false,
    // LiveStore is a project of its own: it brings a hundred packages.
    nodePaths: [fileURLToPath(new URL("livestore/node_modules", import.meta.url))],
    external: ["cloudflare:*", "node:*"],
    logLevel: "error",
  });
  return {
    name,
    compatibilityDate: COMPATIBILITY_DATE,
    compatibilityFlags: ["nodejs_compat"],
    modules: [{ type: "ESModule", path: `${name}.mjs`, contents: outputFiles[0].text }],
    durableObjects: { [binding]: { className, useSQLite: true } },
  };
}

/** A peer that runs: a workerd, and a process with its clients. */
class Peer {
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
    const change = { channel, action: "create", key: data.id, data, ...(to ? { to } : {}) };
    return this.post(`${this.kind.broadcast(space)}`, change, this.kind.headers);
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
    await this.load.stop();
    await this.workerd.stop();
  }
}

/** What Tidewire is set to: no bound that a bench would run into, no line in the log for each operation. */
const tidewireVars = {
  ...secrets,
  SYNC_LOG: "none",
  SYNC_CHANNELS: JSON.stringify({ "*": { read: "user", write: "user" } }),
  SYNC_LIMITS: JSON.stringify({
    messagesPerSecond: 10_000,
    identityMessagesPerSecond: 10_000,
    minIntervalMs: 0,
    maxConcurrentDeltas: 1_000,
  }),
};

const tidewire = {
  name: "tidewire",
  worker: "tidewire-sync",
  className: "SyncEngine",
  headers: { authorization: `Bearer ${secrets.PUBLISH_KEY}` },
  workers: (build) => [worker("wrangler.sync.jsonc", tidewireVars, build)],
  socket(space, at, { channel = "bench", tag, users = Infinity }) {
    const user = `u${at % users}`;
    const claims = { space, ...(tag === undefined ? {} : { topics: [tag(at)] }) };
    const subscribe = channel === null ? [] : [{ id: "s", channel }];
    return {
      path: `/api/sync/${space}`,
      headers: { authorization: `Bearer ${token(user, claims)}` },
      first: [JSON.stringify({ type: "hello", v: 1, subscribe })],
      ready: channel === null ? '"welcome"' : '"more":false',
    };
  },
  broadcast: (space) => `/broadcast?space=${space}`,
  broadcastBatch: (space) => `/broadcast-batch?space=${space}`,
};

const raw = (name, user, log = "") => ({
  name,
  worker: "raw",
  className: "Raw",
  workers: async () => [await script("raw", "Raw", "RAW")],
  socket: (space, at, { tag }) => ({
    path: `/connect?space=${space}&user=${user}${at}${tag === undefined ? "" : `&tag=${tag(at)}`}`,
  }),
  broadcast: (space) => `/broadcast?space=${space}${log}`,
  broadcastBatch: (space) => `/broadcast-batch?space=${space}`,
});

export const kinds = {
  raw: raw("raw", "u"),
  // Looks before it writes, and writes all or nothing.
  "raw, careful": raw("raw, careful", "careful-"),
  // Writes what it sends, as every log must.
  "raw, with a log": raw("raw, with a log", "u", "&log"),
  tidewire,
  "tidewire with its log": {
    ...tidewire,
    name: "tidewire with its log",
    workers: () => [worker("wrangler.sync.jsonc", { ...tidewireVars, SYNC_LOG: "all" })],
  },
  partyserver: {
    name: "partyserver",
    worker: "party",
    className: "Party",
    workers: async () => [await script("party", "Party", "PARTY")],
    socket: (space, at, { tag }) => ({
      path: `/connect?space=${space}&_pk=u${at}${tag === undefined ? "" : `&tag=${tag(at)}`}`,
    }),
    broadcast: (space) => `/broadcast?space=${space}`,
    broadcastBatch: (space) => `/broadcast-batch?space=${space}`,
  },
};

kinds.tinybase = {
  name: "tinybase",
  speaks: tinybase,
  worker: "tinybase",
  className: "Tiny",
  workers: async () => [await script("tinybase", "Tiny", "TINY")],
  socket: (space) => ({ path: `/${space}` }),
};

kinds.livestore = {
  name: "livestore",
  speaks: livestore,
  worker: "livestore",
  className: "LiveStore",
  workers: async () => [await script("livestore", "LiveStore", "LIVESTORE")],
  socket: (space) => ({ path: livestore.path(space), first: [livestore.pull(space, true)], ready: '"pageInfo"' }),
};

/** Starts peers, one workerd each. */
export async function startPeers(names, options = {}) {
  const peers = [];
  for (const name of names) {
    const kind = kinds[name];
    peers.push(new Peer(kind, await startWorkerd(await kind.workers(options.build), options)));
  }
  return peers;
}

export const newSpace = () => `bench-${randomUUID()}`;
