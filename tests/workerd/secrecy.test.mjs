// Whatever happens, nobody reads a secret: no log line, no answer and no frame of the Workers holds a
// token, a key, a cookie or a secret, nor a piece of one. (Only `/broadcast` and its like say what
// their sender said; none of these holds a secret here.)
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { bearer, start, token as sign } from "./harness.mjs";

/** Characters of a secret that are too many to be shown. */
const piece = 12;

/** All pieces of all secrets of this run. */
const pieces = new Set();

/** Makes a text a secret. */
function secret(text) {
  for (let at = 0; at + piece <= text.length; at += 1) pieces.add(text.slice(at, at + piece));
  return text;
}

const random = () => secret(randomBytes(36).toString("base64url"));
const token = (sub, claims) => secret(sign(sub, { secret: settings.JWT_SECRET, ...claims }));

const keys = { bills: random(), billsBefore: random(), ops: random() };
const settings = {
  JWT_SECRET: random(),
  JWT_SECRET_PREVIOUS: random(),
  PUBLISH_KEY: random(),
  PUBLISH_KEY_PREVIOUS: random(),
  PUBLISH_KEYS: {
    bills: { key: keys.bills, previous: keys.billsBefore, channels: ["todos"] },
    ops: { key: keys.ops, channels: [], operate: true },
  },
  SYNC_SPACES: "team-*",
};

/** What was read of the Workers, by where. */
class Reader {
  texts = [];

  static async start(t, options) {
    const self = new Reader();
    self.workers = await start(options);
    t.after(() => self.workers.stop());
    return self;
  }

  async http(path, init) {
    const answer = await this.workers.http(path, init);
    this.texts.push(JSON.stringify([answer.status, [...answer.headers], answer.body]));
    return answer;
  }

  async upgrade(path, headers) {
    const answer = await this.workers.upgrade(path, { headers });
    this.texts.push(JSON.stringify([answer.status, answer.body ?? ""]));
    return answer;
  }

  /** Looks for pieces of secrets in all that was read, and in the logs. */
  check(atLeast) {
    const { logs } = this.workers;
    assert.ok(this.texts.length >= atLeast, `${this.texts.length} answers were read`);
    for (const [where, texts] of Object.entries({ logs, answers: this.texts })) {
      for (const text of texts) {
        for (let at = 0; at + piece <= text.length; at += 1) {
          const found = pieces.has(text.slice(at, at + piece));
          assert.ok(!found, `a secret shows up in the ${where}, after ${JSON.stringify(text.slice(0, at))}`);
        }
      }
    }
  }

  /** Shows a credential wherever one can be shown. */
  async show(credential, more = {}) {
    const origin = { origin: "https://evil.example" };
    const cookie = { cookie: `a=1; session=${credential}; ${credential}=b` };
    for (const headers of [bearer(credential), { authorization: credential }, cookie, { ...cookie, ...origin }]) {
      const all = { ...headers, ...more };
      await Promise.all([
        ...["/api/sync", "/api/sync/team-a", "/api/sync/else"].map((path) => this.upgrade(path, all)),
        ...reads.map((path) => this.http(path, { headers: all })),
        ...Object.entries(calls).map(([path, body]) =>
          this.http(path, { method: "POST", headers: all, body: JSON.stringify(body) }),
        ),
      ]);
    }
    const query = `token=${credential}&key=${credential}`;
    await this.upgrade(`/api/sync?${query}`, more);
    await this.upgrade(`/api/sync/${credential}`, {});
    for (const path of ["/api/sync/session", "/stats", "/healthz", "/nowhere"]) await this.http(`${path}?${query}`);
    await this.http(`/api/sync/session?space=${credential}`);
    await this.http(`/stats?space=${credential}`, { headers: bearer(credential) });
    await this.http("/broadcast", { method: "POST", headers: bearer(credential), body: credential });
  }

  /** A connection whose frames are read. */
  async connect(headers, hello = true) {
    const { status, client } = await this.upgrade("/api/sync", headers);
    assert.equal(status, 101);
    client.onText = (text) => this.texts.push(text);
    if (hello) {
      client.send({ type: "hello", v: 1 });
      await client.receive({ type: "welcome" });
    }
    return client;
  }
}

const reads = ["/api/sync", "/api/sync/session", "/api/sync/session?space=else", "/stats", "/nowhere"];
const calls = {
  "/broadcast": { channel: "todos", action: "create", key: "k", data: {} },
  "/broadcast-batch": { channel: "notes", changes: [{ action: "create", key: "k", data: {} }] },
  "/broadcast-reset": { channel: "todos" },
  "/disconnect": { identity: "nobody" },
  "/topics": { identity: "nobody", add: ["t"] },
};

/** A server of somebody else, which answers as `answer` says. */
let server;
let answer;
before(async () => {
  server = createServer((request, response) => {
    const { status = 200, headers = {}, body = "" } = answer(request);
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
});
after(() => server?.close());

const past = Date.now() / 1000 - 60;

test("tokens of every kind, as header, query, cookie and message", async (t) => {
  const reader = await Reader.start(t, { vars: settings });
  const [header, payload, signature] = token("alice").split(".");
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const credentials = [
    token("alice"),
    token("alice", { secret: settings.JWT_SECRET_PREVIOUS }),
    token("alice", { secret: random() }),
    token("alice", { exp: past }),
    token("alice", { nbf: past + 3_600 }),
    token(undefined),
    token("alice", { topics: ["all"] }),
    token("alice", { topics: Array(65).fill("t") }),
    token("alice", { space: "team-a" }),
    token("alice", { space: "No Space" }),
    token("alice", { channel: "todos" }),
    token("alice", { pad: random().repeat(200) }),
    ...[`${header}.${payload}.`, `${header}.${payload}.${signature}x`, `${header}.${signature}.${payload}`].map(secret),
    secret(`${encode({ alg: "none" })}.${payload}.`),
    secret(`${encode({ alg: "RS256", kid: random() })}.${payload}.${signature}`),
    secret(`${encode({ alg: random(), jku: random() })}.${payload}.${signature}`),
    random(),
    random().replaceAll("_", '"'),
    settings.JWT_SECRET,
    settings.JWT_SECRET_PREVIOUS,
  ];
  for (const credential of credentials) await reader.show(credential);

  for (const hello of [true, false]) {
    const client = await reader.connect(bearer(token("alice")), hello);
    const passes = [token("alice", { channel: "feed" }), token(undefined, { channel: "todos", write: true })];
    for (const credential of [...credentials, ...passes]) {
      for (const message of [
        { type: "auth", token: credential },
        { type: "auth", token: { of: credential } },
        { type: "auth", token: [credential], [credential]: 1 },
        { type: "subscribe", id: "s", channel: "todos", token: credential },
        { type: "subscribe", id: "s", channel: "nowhere", token: credential },
        { type: "subscribe", id: "s", channel: "todos", cursor: credential, view: credential },
        { type: "subscribe", id: "s", channel: "todos", token: { of: credential } },
        { type: credential },
        `{"type":"auth","token":"${credential}`,
        `${credential}`,
      ]) {
        client.send(message);
      }
    }
    await client.rest();
    // Another identity ends the connection.
    client.send({ type: "auth", token: token("bob") });
    assert.equal((await client.ended()).code, 4501);
  }
  reader.check(1_000);
});

test("the eye of these tests is open: it sees a piece of a secret where there is one", async (t) => {
  const reader = await Reader.start(t, { workers: ["sync"] });
  const shown = random();
  await reader.http("/healthz");
  reader.check(1);
  reader.texts.push(`before ${shown.slice(7, 7 + piece)} after`);
  assert.throws(() => reader.check(1), /shows up in the answers/);
  reader.texts.pop();
  reader.workers.logs.push(`log: ${shown}`);
  assert.throws(() => reader.check(1), /shows up in the logs/);
});

test("keys of publishers, right, wrong, and of before", async (t) => {
  for (const workers of [["app", "sync"], ["sync"]]) {
    const reader = await Reader.start(t, { workers, vars: settings });
    const { PUBLISH_KEY, PUBLISH_KEY_PREVIOUS } = settings;
    const near = `${PUBLISH_KEY.slice(0, -1)}!`;
    for (const key of [PUBLISH_KEY, PUBLISH_KEY_PREVIOUS, ...Object.values(keys), random(), near]) {
      const ours = { "x-tidewire-publisher": key, "x-tidewire-auth-grant": key };
      await reader.show(key, { "idempotency-key": "once", ...ours });
    }
    assert.ok(reader.workers.logs.some((line) => line.includes('"key":"bills"')));
    reader.check(300);
  }
});

test("settings that are wrong", async (t) => {
  const wrongUrl = `http://id.example.com/keys?key=${random()}`;
  const password = `https://user:${random()}@id.example.com/`;
  const mistakes = {
    "no secret but the previous": { JWT_SECRET: undefined },
    "no key but the previous": { PUBLISH_KEY: undefined },
    "keys cut off": { PUBLISH_KEYS: JSON.stringify(settings.PUBLISH_KEYS).slice(0, -3) },
    "keys that are a text": { PUBLISH_KEYS: `"${keys.bills}"` },
    "keys that are a list": { PUBLISH_KEYS: [settings.PUBLISH_KEYS.bills] },
    "a key without channels": { PUBLISH_KEYS: { bills: { key: keys.bills } } },
    "a key in place of its channels": { PUBLISH_KEYS: { bills: { key: keys.bills, channels: keys.bills } } },
    "a key as a field": { PUBLISH_KEYS: { bills: { [keys.bills]: "key", channels: [] } } },
    "a key that is no text": { PUBLISH_KEYS: { bills: { key: [keys.bills], channels: [] } } },
    "two equal keys": { PUBLISH_KEYS: { a: { key: keys.ops, channels: [] }, b: { key: keys.ops, channels: [] } } },
    "a key as a channel": { PUBLISH_KEYS: { bills: { key: keys.bills, channels: [`${keys.bills}*x`] } } },
    "keys without a name": { PUBLISH_KEYS: { "": { key: keys.bills, channels: [] } } },
    "an unsafe JWKS_URL": { JWKS_URL: wrongUrl },
    "a JWKS_URL with a password": { JWKS_URL: password },
    "an unsafe AUTH_URL": { AUTH_URL: wrongUrl },
    "an AUTH_PATH that is an URL": { AUTH_PATH: password },
    "AUTH_HEADERS that are headers": { AUTH_HEADERS: `x-key:${random()}` },
  };
  for (const [name, vars] of Object.entries(mistakes)) {
    await t.test(name, async (t) => {
      const reader = await Reader.start(t, { workers: ["sync"], vars: { ...settings, ...vars } });
      await reader.show(settings.PUBLISH_KEY);
      assert.ok(reader.texts.some((text) => text.startsWith("[500,")), "it is told");
      reader.check(30);
    });
  }
});

test("a key server that fails", async (t) => {
  const JWKS_URL = `http://127.0.0.1:${server.address().port}/keys?key=${random()}`;
  const foreign = (alg) => secret(["eyJhbGciOiJ", random(), random()].join("")) && secret(
    [{ alg, kid: "k1" }, { sub: "alice", exp: past + 3_600 }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .concat(random())
      .join("."),
  );
  const answers = {
    "with an error": () => ({ status: 500, body: JWKS_URL }),
    "with no JSON": () => ({ body: `{"keys":[${random()}` }),
    "with a redirect": () => ({ status: 302, headers: { location: JWKS_URL } }),
    "with keys that are none": () => ({ body: { keys: [{ kty: "RSA", kid: "k1", alg: "RS256", n: random(), e: "AQAB", d: random() }] } }),
    "with a key of an unknown kind": () => ({ body: { keys: [{ kty: random(), kid: "k1", k: random() }] } }),
  };
  for (const [name, respond] of Object.entries(answers)) {
    await t.test(name, async (t) => {
      answer = respond;
      const reader = await Reader.start(t, { vars: { ...settings, JWKS_URL } });
      for (const alg of ["RS256", "ES256", "EdDSA"]) await reader.show(foreign(alg));
      reader.check(50);
    });
  }
  await t.test("by not being there", async (t) => {
    const unused = JWKS_URL.replace(/:\d+/, ":1");
    const reader = await Reader.start(t, { vars: { ...settings, JWKS_URL: unused } });
    await reader.show(foreign("RS256"));
    assert.ok(reader.workers.logs.some((line) => line.includes("JWKS_URL")));
    reader.check(20);
  });
});

test("an authentication endpoint that fails, or says what it was told", async (t) => {
  const AUTH_URL = `http://127.0.0.1:${server.address().port}/session?key=${random()}`;
  const told = ({ headers }) => headers.cookie ?? headers.authorization ?? "nothing";
  const answers = {
    "with an error": (request) => ({ status: 500, body: told(request) }),
    "by refusing": (request) => ({ status: 401, body: told(request), headers: { "x-echo": "1" } }),
    "by forbidding": (request) => ({ status: 403, body: told(request) }),
    "by sending elsewhere": (request) => ({ status: 302, headers: { location: `/elsewhere?${encodeURIComponent(told(request))}` } }),
    "with the cookie": (request) => ({ body: told(request) }),
    "with the cookie as identity": (request) => ({ body: { identity: [told(request)], expiresAt: 1 } }),
    "with the cookie as a field": (request) => ({ body: { [told(request)]: 1, identity: "alice", expiresAt: told(request) } }),
    "with the cookie as space": (request) => ({ body: { identity: "alice", expiresAt: Date.now() + 60_000, space: told(request) } }),
    "with the cookie as a topic": (request) => ({ body: { identity: "alice", expiresAt: Date.now() + 60_000, topics: [`user:${told(request)}`] } }),
    "with too much": (request) => ({ body: told(request).repeat(1_000) }),
  };
  for (const [name, respond] of Object.entries(answers)) {
    await t.test(name, async (t) => {
      answer = respond;
      const reader = await Reader.start(t, { vars: { ...settings, AUTH_URL, JWT_SECRET: undefined, JWT_SECRET_PREVIOUS: undefined } });
      await reader.show(random());
      const client = await reader.connect({});
      client.send({ type: "auth", token: random() });
      await client.rest();
      reader.check(30);
    });
  }
  await t.test("by not being there", async (t) => {
    const unused = AUTH_URL.replace(/:\d+/, ":1");
    const reader = await Reader.start(t, { vars: { ...settings, AUTH_URL: unused } });
    await reader.show(random());
    assert.ok(reader.workers.logs.some((line) => line.includes("authentication endpoint")));
    reader.check(20);
  });
});

test("a sync Worker that is not there", async (t) => {
  for (const SYNC_WORKER_URL of ["http://127.0.0.1:1", `nonsense ${random()}`, `ftp://user:${random()}@sync.example`, undefined]) {
    const reader = await Reader.start(t, { workers: ["app"], appVars: { SYNC_WORKER_URL } });
    await reader.show(token("alice"));
    await reader.show(settings.PUBLISH_KEY);
    assert.ok(reader.workers.logs.length > 0);
    reader.check(50);
  }
});

test("a crash at every effect of connecting, renewing and publishing", async (t) => {
  const reader = await Reader.start(t, { faults: true, vars: settings });
  const operator = bearer(settings.PUBLISH_KEY);
  const arm = (at) => reader.workers.ask("tidewire-sync", `/faults?space=armed&at=${at}`, { headers: operator });
  const client = () => reader.connect(bearer(token("alice")));
  const steps = {
    connecting: async () => void (await reader.upgrade("/api/sync", bearer(token("alice")))),
    "by query": async () => void (await reader.upgrade(`/api/sync?token=${token("alice")}`, {})),
    publishing: async () => {
      const body = JSON.stringify(calls["/broadcast"]);
      await reader.http("/broadcast", { method: "POST", headers: bearer(keys.bills), body });
    },
    renewing: (before) => {
      before.send({ type: "auth", token: token("alice") });
      return Promise.race([before.receive({ type: "authed" }), before.ended()]).catch(() => {});
    },
  };
  for (const [name, step] of Object.entries(steps)) {
    await t.test(name, async () => {
      for (let at = 0; at < 4; at += 1) {
        const before = name === "renewing" ? await client() : undefined;
        await arm(at);
        await step(before);
        await arm("");
      }
    });
  }
  assert.ok(reader.workers.logs.some((line) => line.includes("a fault, as asked for")), "nothing crashed");
  reader.check(10);
});

test("rows, states and signals: no log line holds a piece of one, whatever becomes of it", async (t) => {
  const channels = {
    todos: { read: "user", write: "user", presence: true, signals: true },
    log: { read: "user", write: "user", keep: "every", edits: true, retain: { count: 1 } },
  };
  const { PUBLISH_KEY, JWT_SECRET } = settings;
  const vars = { PUBLISH_KEY, JWT_SECRET, SYNC_CHANNELS: channels };
  const reader = await Reader.start(t, { faults: true, vars });
  const operator = bearer(PUBLISH_KEY);
  const row = () => ({ id: random(), x: random(), [random()]: 1 });
  const space = reader.workers.space("global");
  const post = (path, body) => space.post(path, body);
  const reading = await space.join("alice", ["todos", "log"], { space: undefined });
  for (const channel of ["todos", "log"]) {
    const data = row();
    for (const [action, more] of [["create", data], ["update", { x: random() }], ["update", 1], ["delete"], ["delete"]]) {
      const change = { channel, action, key: data.id, data: more };
      reading.send({ type: "mutate", id: random(), ...change });
      await post("/broadcast", { ...change, key: random(), data: more?.id ? undefined : more });
      await post("/broadcast-batch", { events: [change, { ...change, action: random() }] });
      await post("/broadcast-batch", `${JSON.stringify(change)}x`);
    }
    reading.send({ type: "presence", channel, state: { at: random() } });
    reading.send({ type: "signal", channel, event: random(), data: random() });
  }
  reading.send({ type: "mutate", id: "m", channel: "nowhere", action: "create", data: row() });
  reading.send(`{"type":"mutate","data":"${random()}`);
  await reading.rest();
  for (let at = 0; at < 6; at += 1) {
    await reader.workers.ask("tidewire-sync", `/faults?at=${at}`, { headers: operator });
    await post("/broadcast", { channel: "todos", action: "create", key: random(), data: {} });
  }
  await reader.workers.ask("tidewire-sync", "/faults?at=", { headers: operator });
  const { logs } = reader.workers;
  assert.ok(logs.some((line) => line.includes("a fault, as asked for")), "nothing crashed");
  assert.ok(logs.some((line) => line.includes('"path":"/broadcast"')), "calls are logged");
  reader.check(0);
});
