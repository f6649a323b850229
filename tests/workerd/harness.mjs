// Both Workers, as built, in workerd; and clients that reach them through sockets from outside.
//
// The settings are those of the wrangler files, so that what is tested is what is deployed; a test
// overrides single ones. Nothing here sleeps: every wait is for a message, a close or an answer,
// and ends with a test failure when that does not come.
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { Log, LogLevel, Miniflare, convertV4MiniflareOptions } from "miniflare";
import { experimental_readRawConfig as readConfig } from "wrangler";
import WebSocket from "ws";

/** How long anything may take that should happen at once. */
const patience = 5_000;

export const repository = fileURLToPath(new URL("../..", import.meta.url));

/** Secrets of this test run: unlike the published ones they need no DEV=true. */
export const secrets = { JWT_SECRET: "secret-of-the-tests", PUBLISH_KEY: "key-of-the-tests" };

/** What questions to an app's hooks are signed with. */
export const HOOK_SECRET = "hook-secret-of-the-tests";

/** The message that the runtime answers by itself. */
export const heartbeat = '{"type":"ping"}';

/**
 * Starts Workers in a workerd of their own, on a free port. `workers` are those to start, the
 * first of which answers the port; `vars` and `appVars` override settings of the sync and the app
 * Worker, where undefined means not set; `binding: false` leaves the service binding out; `faults`
 * takes the sync Worker that can be made to crash; `publisher` overrides the options of an example that publishes; `auth` is the example that takes the sync Worker's place;
 * `postgres` and `handler` are others, the first also as an option, the URL of its database; `amend` changes the sync Worker's options for Miniflare; `others` are those of Workers beside ours;
 * `state` is the folder that keeps what the objects store; `inspector: true` opens the isolates to be looked into;
 * `direct: true` reaches the first Worker past the one that Miniflare puts before all others, which takes as much CPU
 * for each request again, and whose garbage nobody can collect.
 */
export async function start(options = {}) {
  const { workers = ["app", "sync"], vars, appVars, binding = true, faults, publisher } = options;
  const { amend = (sync) => sync, others = [], direct = false } = options;
  const [logs, warnings] = [[], []];
  const made = {
    app: () => {
      const app = worker("wrangler.jsonc", appVars);
      return binding && workers.some((name) => ["sync", "d1", "auth", "postgres", "handler"].includes(name)) ? app : { ...app, serviceBindings: {} };
    },
    sync: () => amend(worker("wrangler.sync.jsonc", { ...secrets, ...vars }, faults ? "build-faults" : "build")),
    d1: () => amend(worker("examples/d1/wrangler.jsonc", { ...secrets, ...vars })),
    auth: () => amend(worker("examples/rust-auth/wrangler.jsonc", { ...secrets, ...vars })),
    postgres: () => ({
      ...amend(worker("examples/rust-postgres/wrangler.jsonc", { ...secrets, ...vars })),
      hyperdrives: { HYPERDRIVE: options.postgres },
    }),
    handler: () => amend(worker("examples/rust-handler/wrangler.jsonc", { ...secrets, ...vars })),
    publisher: () => ({
      ...worker("examples/rust-publisher/wrangler.jsonc", { PUBLISH_KEY: secrets.PUBLISH_KEY }),
      ...publisher,
    }),
    hooks: () => {
      const app = worker("examples/ts-hooks/wrangler.jsonc", { HOOK_SECRET, PUBLISH_KEY: secrets.PUBLISH_KEY });
      return workers.includes("sync") ? app : { ...app, serviceBindings: {} };
    },
    ts: () => ({
      ...worker("examples/ts-publisher/wrangler.jsonc", { PUBLISH_KEY: secrets.PUBLISH_KEY }),
      ...publisher,
    }),
  };
  const [first, ...rest] = [...workers.map((name) => made[name]()), ...others];
  if (direct) first.unsafeDirectSockets = [{ host: "127.0.0.1", port: 0 }];
  const runtime = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      telemetry: { enabled: false },
      logRequests: false,
      resourcePersistencePath: options.state,
      ...(options.inspector && { inspectorPort: 0 }),
      log: new Log(LogLevel.NONE),
      handleStructuredLogs: ({ level, message }) => {
        // What the doctor says of a test's settings comes when an isolate starts, amid anything.
        const said = level === "warn" && /^(risky|wrong): /.test(message) ? warnings : logs;
        said.push(`${level}: ${message}`);
      },
      workers: [first, ...rest],
    }),
  );
  const url = await runtime.ready;
  const { origin } = direct ? await runtime.unsafeGetDirectURL(first.name) : url;
  return new Deployment(runtime, origin, { logs, warnings }, { ...secrets, ...vars });
}

/** The settings in a wrangler file. */
export const settings = (file) => readConfig({ config: `${repository}/${file}` }).rawConfig.vars;

/** A Worker's options for Miniflare, from its wrangler file. */
export function worker(file, overrides, build = "build") {
  const { rawConfig: config } = readConfig({ config: `${repository}/${file}` });
  const folder = dirname(`${repository}/${file}`);
  // What is written in TypeScript is bundled before, and has no wasm.
  const isTypeScript = config.main.endsWith(".ts");
  const main = isTypeScript ? `${folder}/build/index.js` : `${folder}/${config.main.replace("build/", `${build}/`)}`;
  const sqlite = new Set((config.migrations ?? []).flatMap((step) => step.new_sqlite_classes ?? []));
  const objects = (config.durable_objects?.bindings ?? []).map((object) => [
    object.name,
    { className: object.class_name, useSQLite: sqlite.has(object.class_name) },
  ]);
  const services = (config.services ?? []).map(({ binding, service }) => [binding, service]);
  const kv = (config.kv_namespaces ?? []).map(({ binding }) => [binding, binding]);
  const databases = (config.d1_databases ?? []).map(({ binding, database_id: id }) => [binding, id]);
  const settings = Object.entries({ ...config.vars, ...overrides });
  const { producers = [], consumers = [] } = config.queues ?? {};
  return {
    name: config.name,
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags ?? [],
    modules: [
      { type: "ESModule", path: main },
      ...(isTypeScript ? [] : [{ type: "CompiledWasm", path: main.replace("index.js", "index_bg.wasm") }]),
    ],
    modulesRoot: main.replace("/index.js", ""),
    bindings: Object.fromEntries(settings.filter(([, value]) => value !== undefined)),
    durableObjects: Object.fromEntries(objects),
    serviceBindings: Object.fromEntries(services),
    kvNamespaces: Object.fromEntries(kv),
    d1Databases: Object.fromEntries(databases),
    queueProducers: Object.fromEntries(producers.map(({ binding, queue }) => [binding, queue])),
    queueConsumers: Object.fromEntries(consumers.map((consumer) => [consumer.queue, consumption(consumer)])),
  };
}

/** How a queue delivers, in Miniflare's words. */
const consumption = (consumer) => ({
  maxBatchSize: consumer.max_batch_size,
  maxBatchTimeout: consumer.max_batch_timeout,
  maxRetries: consumer.max_retries,
  deadLetterQueue: consumer.dead_letter_queue,
});

/** An HS256 token: a user, an hour, and what else is claimed. */
export function token(sub, { secret = secrets.JWT_SECRET, ...claims } = {}) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const payload = { sub, exp: Date.now() / 1000 + 3600, ...claims };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(payload)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

export const bearer = (credential) => ({ authorization: `Bearer ${credential}` });

/** The answer to an upgrade that was refused. */
async function refusal(response) {
  const body = Buffer.concat(await response.toArray()).toString();
  const isJson = response.headers["content-type"]?.startsWith("application/json");
  return { status: response.statusCode, body: isJson ? JSON.parse(body) : body };
}

/** Running Workers, seen from outside. */
export class Deployment {
  #runtime;
  #settings;
  #clients = new Set();

  constructor(runtime, origin, { logs, warnings }, settings) {
    this.#runtime = runtime;
    this.#settings = settings;
    this.origin = origin;
    this.host = new URL(origin).host;
    /** What the Workers wrote to their logs, one text a line. */
    this.logs = logs;
    /** What the doctor warned of, the same way. */
    this.warnings = warnings;
    /** The paths of requests that had no answer in their time, whether or not somebody asked again. */
    this.givenUp = [];
  }

  async stop() {
    for (const client of this.#clients) client.drop();
    await this.#runtime?.dispose();
  }

  /** One request: its status, headers and body, parsed where it is JSON. */
  http(path, { ms = 6 * patience, ...init } = {}) {
    // With a timer of our own: amid crashes a fetch was seen whose socket was gone, and which neither its end nor its
    // signal had settled.
    const late = new AbortController();
    return within(ms, this.#http(path, late.signal, init), () => {
      late.abort();
      this.givenUp.push(path.split("?")[0]);
      return `no answer to ${path}`;
    });
  }

  async #http(path, signal, { headers, ...init }) {
    const response = await fetch(this.origin + path, { redirect: "manual", signal, headers, ...init });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    const body = isJson ? JSON.parse(text) : text;
    return { status: response.status, headers: response.headers, body };
  }

  /** An upgrade as asked: `client` where it succeeds, else the answer's status and body. */
  async upgrade(path, { headers = {}, protocols = [], ms = patience, deflate = true } = {}) {
    const socket = new WebSocket(this.origin.replace("http", "ws") + path, protocols, { headers, perMessageDeflate: deflate });
    const client = new Client(socket);
    this.#clients.add(client);
    socket.once("close", () => this.#clients.delete(client));
    const answered = new Promise((resolve, reject) => {
      socket.once("open", () => resolve({ status: 101, client, protocol: socket.protocol }));
      socket.once("error", reject);
      socket.once("unexpected-response", (_, response) => {
        resolve(refusal(response));
      });
    });
    return within(ms, answered, () => {
      client.drop();
      this.givenUp.push(path.split("?")[0]);
      return `no answer to the upgrade of ${path}`;
    });
  }

  /** Where the isolates can be looked into, if that was asked for. */
  inspector() {
    return this.#runtime.getInspectorURL();
  }

  /** One request to a Worker that does not answer the port, as a binding makes it. */
  async ask(name, path, init) {
    const worker = await this.#runtime.getWorker(name);
    const response = await worker.fetch(`https://${name}${path}`, init);
    const text = await response.text();
    return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : text };
  }

  /** Where a Worker with a socket of its own is reached. */
  async direct(name) {
    return (await this.#runtime.unsafeGetDirectURL(name)).origin;
  }

  /** Delivers messages to a Worker as a queue does: what became of them. */
  async deliver(name, queue, messages) {
    const worker = await this.#runtime.getWorker(name);
    return worker.queue(queue, messages);
  }

  /** Calls a Worker's `scheduled` handler as a cron trigger does: its outcome. */
  async trigger(name) {
    const worker = await this.#runtime.getWorker(name);
    return (await worker.scheduled({ cron: "* * * * *" })).outcome;
  }

  /** A D1 database of a Worker, with the migrations of its folder, if one is given, applied. */
  async database(name, binding, folder) {
    const db = await this.#runtime.getD1Database(binding, name);
    if (folder === undefined) return db;
    for (const file of readdirSync(folder).toSorted()) {
      const sql = readFileSync(`${folder}/${file}`, "utf8").replaceAll(/^--.*$/gm, "");
      const statements = sql.split(";").filter((statement) => statement.trim() !== "");
      await db.batch(statements.map((statement) => db.prepare(statement)));
    }
    return db;
  }

  /** A key-value namespace of a Worker. */
  kv(name, binding) {
    return this.#runtime.getKVNamespace(binding, name);
  }

  /** A space of its own, unless one is named. */
  space(name = randomUUID()) {
    const runtime = this.#runtime;
    const object = ["tidewire-sync", "SyncEngine"];
    return new Space(this, name, this.#settings, {
      evict: (webSockets) => runtime.unsafeEvictDurableObject(...object, { name, webSockets }),
      id: async () => {
        const namespace = await runtime.getDurableObjectNamespace("SYNC_ENGINE", object[0]);
        return namespace.idFromName(name).toString();
      },
      ids: () => runtime.listDurableObjectIds(object[1], object[0]),
    });
  }
}

/** One space: who connects to it, what is published in it, how its object lives. */
class Space {
  #deployment;
  #settings;
  #object;

  constructor(deployment, name, settings, object) {
    this.name = name;
    this.#deployment = deployment;
    this.#settings = settings;
    this.#object = object;
  }

  get path() {
    return this.name === "global" ? "/api/sync" : `/api/sync/${this.name}`;
  }

  token(user, claims) {
    const secret = this.#settings.JWT_SECRET;
    return token(user, { space: this.name, secret, ...claims });
  }

  /** A user's connection that has said nothing yet; `user` null connects without a token. */
  async connect(user, claims) {
    const headers = user === null ? {} : bearer(this.token(user, claims));
    const { status, body, client } = await this.#deployment.upgrade(this.path, { headers });
    assert.equal(status, 101, `the connection was refused: ${JSON.stringify(body)}`);
    client.name = user ?? "anonymous";
    return client;
  }

  /** A user's connection that has said hello and is live on the channels. */
  async join(user, channels = [], claims) {
    const client = await this.connect(user, claims);
    const subscribe = channels.map((channel) => ({ id: channel, channel }));
    client.send({ type: "hello", v: 1, subscribe });
    client.welcome = await client.receive({ type: "welcome" });
    client.snapshots = {};
    for (const channel of channels) {
      client.snapshots[channel] = await client.receive({ type: "snapshot", id: channel });
    }
    return client;
  }

  /** Posts as a publisher: the answer, whatever it is. */
  post(path, body, headers = {}) {
    return this.#deployment.http(`${path}?space=${this.name}`, {
      method: "POST",
      headers: { ...bearer(this.#settings.PUBLISH_KEY), ...headers },
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
    });
  }

  /** Publishes one change, which must succeed. */
  async publish(channel, action, key, data, more = {}) {
    const { status, body } = await this.post("/broadcast", { channel, action, key, data, ...more });
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  }

  async stats() {
    const headers = bearer(this.#settings.PUBLISH_KEY);
    const { status, body } = await this.#deployment.http(`/stats?space=${this.name}`, { headers });
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  }

  /** Puts the object to sleep at once; its sockets stay open. Fails where it sleeps already. */
  sleep() {
    return this.#object.evict("hibernate");
  }

  /** Stops the object as a deployment does: its sockets are gone. */
  restart() {
    return this.#object.evict("close");
  }

  /** The object's id, which is the name of its database in the folder `state`. */
  id() {
    return this.#object.id();
  }

  /** Whether the object was ever woken, if only to say no. */
  async wasWoken() {
    return (await this.#object.ids()).includes(await this.id());
  }
}

/** A WebSocket from outside. */
export class Client {
  #socket;
  #waiting = new Set();
  #ended;

  constructor(socket) {
    this.name = "client";
    /** Every message in order, arrays of messages taken apart; texts that are no JSON as texts. */
    this.all = [];
    /** Those that no `receive` has taken. */
    this.inbox = [];
    /** The size of each frame. */
    this.frames = [];
    /** Called with each frame's text. */
    this.onText = undefined;
    this.#socket = socket;
    socket.on("message", (data) => this.#take(data));
    this.#ended = new Promise((resolve) => {
      socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    socket.on("close", () => this.#wake());
    socket.on("error", () => {});
  }

  #take(data) {
    this.frames.push(data.length);
    const text = data.toString();
    this.onText?.(text);
    const frame = text === "pong" ? text : JSON.parse(text);
    for (const message of Array.isArray(frame) ? frame : [frame]) {
      this.all.push(message);
      this.inbox.push(message);
    }
    this.#wake();
  }

  #wake() {
    for (const look of this.#waiting) look();
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends a message; texts and bytes go as they are. */
  send(message, options) {
    const raw = typeof message === "string" || message instanceof Uint8Array;
    this.#socket.send(raw ? message : JSON.stringify(message), options);
  }

  /** Takes the first message that has (at least) these fields with these values. */
  receive(fields, ms = patience) {
    const find = () => {
      const at = this.inbox.findIndex((message) => matches(message, fields));
      if (at >= 0) return this.inbox.splice(at, 1)[0];
      if (!this.isOpen) throw new Error(`${this.name}'s socket is closed`);
      return undefined;
    };
    return this.#until(find, ms, () => {
      const [wanted, had] = [fields, this.inbox].map((value) => JSON.stringify(value));
      return `${this.name} waited for ${wanted}, has ${had.slice(0, 2_000)}`;
    });
  }

  /** Waits until so many messages have come that nobody has taken. */
  pending(count, ms = patience) {
    const enough = () => this.inbox.length >= count || undefined;
    return this.#until(enough, ms, () => `${this.name} has ${this.inbox.length} of ${count} messages`);
  }

  #until(find, ms, what) {
    let look;
    const found = new Promise((resolve, reject) => {
      look = () => {
        try {
          const result = find();
          if (result !== undefined) resolve(result);
        } catch (error) {
          reject(error);
        }
      };
      this.#waiting.add(look);
      look();
    });
    return within(ms, found, what).finally(() => this.#waiting.delete(look));
  }

  /**
   * What has come and was not taken, as soon as the object has answered one more question: all
   * that it sent before is then here, so this also proves that something was not sent.
   */
  async rest() {
    const id = randomUUID();
    // A mutation, because a refused subscription of a legacy client does not give its id back.
    this.send(mutation(id, "no-such-channel", "delete", "k"));
    await this.receive({ type: "reject", id });
    return this.inbox.splice(0);
  }

  subscribe(channel, more = {}) {
    const id = randomUUID();
    this.send({ type: "subscribe", id, channel, ...more });
    return this.receive({ id });
  }

  /** Asks for a change; the `ack` or `reject`. */
  mutate(channel, action, key, data, id = randomUUID()) {
    this.send(mutation(id, channel, action, key, data));
    return this.receive({ id });
  }

  close(code, reason) {
    this.#socket.close(code, reason);
  }

  /** Sends bytes beneath the WebSocket protocol. */
  raw(bytes) {
    this.#socket._socket.write(bytes);
  }

  /** Ends the connection without a word. */
  drop() {
    this.#socket.terminate();
  }

  /** The code and reason with which the connection ended. */
  ended(ms = patience) {
    return within(ms, this.#ended, () => `${this.name}'s socket does not close`);
  }
}

export function mutation(id, channel, action, key, data) {
  const row = action === "create" ? { id: key, ...data } : data;
  return { type: "mutate", id, channel, action, key, data: row };
}

/** The rows of a snapshot by key, without their id. */
export function rows(snapshot) {
  return Object.fromEntries(snapshot.data.map(({ id, ...fields }) => [id, fields]));
}

/** Whether `value` is `wanted`, where objects may have more fields. */
function matches(value, wanted) {
  if (typeof wanted !== "object" || wanted === null || Array.isArray(wanted)) {
    return isDeepStrictEqual(value, wanted);
  }
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(wanted).every(([name, field]) => matches(value[name], field));
}

/** Asserts that a value has (at least) these fields with these values. */
export function has(value, wanted) {
  assert.ok(matches(value, wanted), `${JSON.stringify(value)} has not ${JSON.stringify(wanted)}`);
}

/** A promise's result in bounded time. */
export async function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what()} (after ${ms} ms)`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
