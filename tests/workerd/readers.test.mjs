// Readers and writers over HTTP, through both Workers: what is theirs alone. What they have in
// common with sockets is in transports.test.mjs.
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, secrets, start, within } from "./harness.mjs";
import { change, events } from "./transports.mjs";

let workers;
before(async () => (workers = await start({ vars: { SYNC_SPACES: "open-*" } })));
after(() => workers?.stop());

const path = (space, more = {}) =>
  `/api/sync/changes?${new URLSearchParams({ space: space.name, channel: "todos", ...more })}`;

/** A page as a user gets it. */
const page = (space, user, more) => workers.http(path(space, more), { headers: bearer(space.token(user)) });

/** A stream, with what has come of it. */
async function stream(space, user, { headers, last = "", more, from = workers } = {}) {
  const abort = new AbortController();
  const response = await fetch(from.origin + path(space, more), {
    headers: { ...bearer(space.token(user)), accept: "text/event-stream", "last-event-id": last, ...headers },
    signal: abort.signal,
  });
  assert.equal(response.status, 200);
  const source = events(response.body);
  return {
    response,
    abort: () => abort.abort(),
    /** The next event with data. */
    async next() {
      const what = () => "no event";
      for (;;) {
        const { value, done } = await within(10_000, source.next(), what);
        if (done) return undefined;
        if (value.data !== undefined) return { id: value.id, message: JSON.parse(value.data) };
      }
    },
  };
}

/** Waits until a space has so many connections. */
async function connections(space, count, ms = 5_000) {
  const end = Date.now() + ms;
  for (;;) {
    const now = (await space.stats()).connections;
    if (now === count) return;
    assert.ok(Date.now() < end, `${now} connections, not ${count}`);
    await delay(50);
  }
}

describe("GET /api/sync/changes", () => {
  test("answers the body of a snapshot, which nobody stores", async () => {
    const space = workers.space();
    await space.publish("todos", "create", "k1", { n: 1 });
    const { status, headers, body } = await page(space, "bob");
    assert.equal(status, 200);
    assert.deepEqual([headers.get("content-type"), headers.get("cache-control")], ["application/json", "no-store"]);
    has(body, { type: "snapshot", channel: "todos", mode: "full", data: [{ id: "k1", n: 1 }], more: false });
    const { cursor, view } = body;
    has((await page(space, "bob", { cursor, view })).body, { mode: "delta", data: [], cursor });
  });

  test("takes a token as an upgrade does, and refuses with the same status", async () => {
    const space = workers.space();
    const token = space.token("bob");
    const status = async (more, headers = {}) => (await workers.http(path(space, more), { headers })).status;
    assert.equal(await status({ token }), 200);
    assert.equal(await status({}, { cookie: `session=${token}` }), 200);
    assert.equal(await status({ token: "bad" }, { cookie: `session=${token}` }), 401);
    assert.equal(await status({}), 401, "the space opens to tokens alone");
    assert.equal(await status({ token: workers.space().token("bob") }), 403);
    assert.equal(await status({ token, space: "No Space" }), 400);
    assert.equal(await status({ token, channel: "" }), 400);
    assert.equal(await status({ token, wait: "26" }), 400);
    assert.equal(await status({ token, cursor: "no cursor" }), 400);
    assert.equal(await status({ token, channel: "room:1" }), 403);
    assert.equal(await status({ token, channel: "nowhere" }), 400);
    const accept = "text/event-stream";
    assert.equal(await status({ token: "bad" }, { accept }), 401, "before the stream begins");
    assert.equal(await status({ token }, { accept, "last-event-id": "none of ours" }), 400);
  });

  test("takes no other method", async () => {
    const space = workers.space();
    for (const method of ["POST", "HEAD", "PUT", "DELETE"]) {
      const answer = await fetch(workers.origin + path(space), { method, headers: bearer(space.token("bob")) });
      assert.deepEqual([answer.status, answer.headers.get("allow")], [405, "GET"], method);
    }
    const { status, headers } = await workers.http("/api/sync/mutate");
    assert.deepEqual([status, headers.get("allow")], [405, "POST"]);
  });

  test("brings a space into being, which is counted where a visitor chose its name", async (t) => {
    const own = await start({ vars: { SYNC_SPACES: "open-*", SYNC_LIMITS: { newSpacesPerDay: 1 } } });
    t.after(() => own.stop());
    const read = async (name) => {
      const { status } = await own.http(`/api/sync/changes?channel=feed&space=${name}`);
      return status;
    };
    assert.deepEqual([await read("open-1"), await read("open-2"), await read("open-1")], [200, 429, 200]);
    assert.equal(await own.space("open-2").wasWoken(), true);
    assert.equal(await read("closed"), 401);
    const write = await own.http("/api/sync/mutate?space=open-3", { method: "POST", body: "{}" });
    assert.equal(write.status, 429);
  });

  test("a reader that waits is held until a change, or until its time is over", async () => {
    const space = workers.space();
    const { cursor, view } = (await page(space, "bob")).body;
    const held = page(space, "bob", { cursor, view, wait: 20 });
    await connections(space, 1);
    await space.publish("todos", "create", "k1", {});
    const { status, headers, body } = await held;
    assert.deepEqual([status, headers.get("cache-control")], [200, "no-store"]);
    has(body, { mode: "delta", data: [{ id: "k1" }], more: false });
    await connections(space, 0);
    const empty = await page(space, "bob", { cursor: body.cursor, view, wait: 1 });
    has(empty.body, { mode: "delta", data: [], more: false, cursor: body.cursor });
  });

  test("many readers wait for one change", async () => {
    const space = workers.space();
    const { cursor } = (await page(space, "user0")).body;
    const held = Array.from({ length: 100 }, async (_, i) => {
      const { view } = (await page(space, `user${i}`)).body;
      return (await page(space, `user${i}`, { cursor, view, wait: 25 })).body;
    });
    await connections(space, 100, 20_000);
    await space.publish("todos", "create", "k1", {});
    for (const body of await Promise.all(held)) has(body, { data: [{ id: "k1" }], more: false });
    await connections(space, 0);
  });
});

describe("a stream", () => {
  test("has ids from which it resumes, whatever its query says", async () => {
    const space = workers.space();
    await space.publish("todos", "create", "k1", {});
    const { cursor, view } = (await page(space, "bob")).body;
    await space.publish("todos", "create", "k2", {});
    const first = await stream(space, "bob", { more: { cursor, view } });
    assert.equal(first.response.headers.get("content-type"), "text/event-stream");
    assert.equal(first.response.headers.get("cache-control"), "no-store");
    const { id, message } = await first.next();
    has(message, { type: "snapshot", mode: "delta", data: [{ id: "k2" }] });
    assert.equal(id, `${message.cursor};${view}`);
    await space.publish("todos", "create", "k3", {});
    const live = await first.next();
    has(live.message, { type: "change", key: "k3" });
    first.abort();
    await space.publish("todos", "create", "k4", {});
    const second = await stream(space, "bob", { more: { cursor, view }, last: live.id });
    has((await second.next()).message, { mode: "delta", data: [{ id: "k4" }] });
    second.abort();
  });

  test("tells its reader to come back after 1 to 5 s, by chance", async () => {
    const space = workers.space();
    const pauses = new Set();
    for (let i = 0; i < 5; i += 1) {
      const { response, abort } = await stream(space, "bob");
      const { value } = await response.body.getReader().read();
      const [, retry] = /^retry: (\d+)\n\n/.exec(new TextDecoder().decode(value)) ?? [];
      assert.ok(Number(retry) >= 1_000 && Number(retry) <= 5_000, retry);
      pauses.add(retry);
      abort();
    }
    assert.ok(pauses.size > 1, "all would come back at once");
  });

  test("carries rows whose JSON breaks lines", async () => {
    const space = workers.space();
    const bob = await stream(space, "bob");
    await bob.next();
    const text = '{"channel":"todos","action":"create","key":"k","data":{"list":[1,\n2,\r\n{"a":\r3}]}}';
    assert.equal((await space.post("/broadcast", text)).status, 200);
    assert.deepEqual((await bob.next()).message.data, { id: "k", list: [1, 2, { a: 3 }] });
    bob.abort();
  });

  test("frees its place when it is found to be gone: by the next event, or by a ping", async () => {
    const space = workers.space();
    for (const publishes of [true, false]) {
      const bob = await stream(space, "bob");
      await bob.next();
      await connections(space, 1);
      bob.abort();
      for (let i = 0; publishes && i < 2; i += 1) await space.publish("todos", "update", "k", { i });
      await connections(space, 0, 30_000);
    }
    const { cursor, view } = (await page(space, "bob")).body;
    const abort = new AbortController();
    const headers = bearer(space.token("bob"));
    const signal = abort.signal;
    const held = fetch(workers.origin + path(space, { cursor, view, wait: 25 }), { headers, signal });
    await connections(space, 1);
    abort.abort();
    await held.then((response) => response.text()).catch(() => {});
    await connections(space, 0, 22_000);
  });

  test("is ended where its reader does not read, which costs nobody else anything", async () => {
    const space = workers.space();
    const other = await stream(space, "carol");
    await other.next();
    const slow = await new Promise((resolve) => {
      const headers = { ...bearer(space.token("bob")), accept: "text/event-stream" };
      request(workers.origin + path(space), { headers }, resolve).end();
    });
    slow.on("error", () => {});
    await connections(space, 2);
    const text = "x".repeat(250_000);
    let sent = 0;
    // What the sockets between take, and then what the object keeps.
    while ((await space.stats()).connections === 2) {
      assert.ok((sent += 1) < 400, "it is not ended");
      await space.publish("todos", "update", "k", { text, sent });
      has((await other.next()).message, { data: { sent } });
    }
    slow.destroy();
    other.abort();
  });

  test("ends with its token though nothing happens", async () => {
    const space = workers.space();
    const headers = bearer(space.token("bob", { exp: Date.now() / 1000 + 2 }));
    const bob = await stream(space, "bob", { headers });
    await bob.next();
    const began = Date.now();
    const { message } = await bob.next();
    has(message, { type: "error", error: { code: "unauthorized" } });
    assert.ok(Date.now() - began > 500);
    assert.equal(await bob.next(), undefined, "and then it is over");
    await connections(space, 0);
  });

  test("is one of 300, which all get one change", async () => {
    const space = workers.space();
    const users = Array.from({ length: 300 }, (_, i) => `user${i % 3}`);
    const all = await Promise.all(users.map((user) => stream(space, user)));
    await Promise.all(all.map((one) => one.next()));
    const refused = await workers.http(path(space), {
      headers: { ...bearer(space.token("user0")), accept: "text/event-stream" },
    });
    assert.deepEqual([refused.status, refused.body.error.code], [429, "rate_limited"]);
    assert.ok(Number(refused.headers.get("retry-after")) > 0);
    const { receivers } = await space.publish("todos", "create", "k", {});
    assert.equal(receivers, 300);
    for (const one of all) has((await one.next()).message, { key: "k" });
    for (const one of all) one.abort();
  });
});

describe("POST /api/sync/mutate", () => {
  const send = (space, user, body, more = "") =>
    workers.http(`/api/sync/mutate?space=${space.name}${more}`, {
      method: "POST",
      headers: bearer(space.token(user)),
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
    });

  test("answers each mutation, and sockets hear of it", async () => {
    const space = workers.space();
    const bob = await space.join("bob", ["todos"]);
    const create = change("todos", "create", "k1", { n: 1 });
    const { status, headers, body } = await send(space, "alice", { mutations: [create, { id: "x" }] });
    assert.deepEqual([status, headers.get("cache-control")], [200, "no-store"]);
    const [ack, reject] = body.results;
    has(ack, { type: "ack", id: create.id, data: { id: "k1", n: 1 }, replayed: false });
    has(reject, { type: "reject", id: "x", error: { code: "malformed" } });
    has(await bob.receive({ type: "change" }), { key: "k1", by: "alice", cursor: ack.cursor });
    await space.sleep();
    has((await send(space, "alice", { mutations: [create] })).body.results[0], { replayed: true });
    assert.deepEqual(await bob.rest(), []);
  });

  test("refuses a body that is none, or too large", async () => {
    const space = workers.space();
    for (const [body, status] of [
      ["", 400],
      ["{", 400],
      [{ mutations: [] }, 400],
      [Buffer.from([0x7b, 0xff]), 400],
      [`{"mutations":["${"x".repeat(8 * 1024 * 1024)}"]}`, 413],
    ]) {
      const answer = await send(space, "alice", body);
      assert.equal(answer.status, status);
      assert.ok(answer.body.error.code);
    }
    const anonymous = await workers.http("/api/sync/mutate", { method: "POST", body: '{"mutations":[{}]}' });
    assert.deepEqual([anonymous.status, anonymous.body.results[0].error.code], [200, "malformed"]);
    assert.equal((await send(workers.space(), "alice", "{}", "&token=bad")).status, 400, "a header goes first");
  });

  test("takes a channel's token, and no more of it than it opens", async (t) => {
    const own = await start({ vars: { SYNC_CHANNELS: { "vault:*": { read: "token", write: "token" } } } });
    t.after(() => own.stop());
    const space = own.space();
    const pass = space.token("alice", { channel: "vault:1", write: true });
    const call = (name, init) => own.http(`/api/sync/${name}`, { headers: bearer(space.token("alice")), ...init });
    const query = (channelToken) => new URLSearchParams({ space: space.name, channel: "vault:1", channelToken });
    assert.equal((await call(`changes?${query(pass)}`)).status, 200);
    assert.equal((await call(`changes?${query("bad")}`)).status, 401);
    const write = async (token) => {
      const mutations = ["vault:1", "vault:2"].map((channel) => change(channel, "create", "k", {}));
      const body = JSON.stringify({ mutations });
      const { results } = (await call(`mutate?${query(token)}`, { method: "POST", body })).body;
      return results.map(({ type, error }) => error?.code ?? type);
    };
    assert.deepEqual(await write(pass), ["ack", "forbidden"]);
    assert.deepEqual(await write("bad\n{}"), ["forbidden", "forbidden"]);
  });
});

test("a crash ends open answers at once, of every space in the isolate, and they resume", async (t) => {
  const own = await start({ faults: true });
  t.after(() => own.stop());
  const [space, neighbour] = [own.space(), own.space()];
  const headers = bearer(secrets.PUBLISH_KEY);
  const arm = (at) => own.ask("tidewire-sync", `/faults?space=armed&at=${at}`, { headers });
  /** A reader that waits, as the promise of how that ends. */
  const waits = async (space, user) => {
    const headers = bearer(space.token(user));
    const { cursor, view } = (await own.http(path(space), { headers })).body;
    return [own.http(path(space, { cursor, view, wait: 25 }), { headers }).catch((error) => error)];
  };
  for (let at = 0; at < 6; at += 1) {
    const [bob, zoe] = [await stream(space, "bob", { from: own }), await stream(neighbour, "zoe", { from: own })];
    const { id } = await bob.next();
    await zoe.next();
    const held = [await waits(space, "carol"), await waits(neighbour, "yves")];
    await Promise.all([connections(space, 2), connections(neighbour, 2)]);
    await arm(at);
    const published = await space.post("/broadcast", { channel: "todos", action: "create", key: `k${at}`, data: {} });
    await arm("");
    assert.equal(published.status, 503, `no crash at ${at}`);
    // The neighbours' answers end with the instance that they waited in, and not by their time.
    assert.equal(await zoe.next().catch(() => undefined), undefined);
    await within(3_000, Promise.all(held.flat()), () => "a reader still waits");
    bob.abort();
    const again = await stream(space, "bob", { from: own, last: id });
    const { data } = (await again.next()).message;
    const committed = (await own.http(path(space), { headers: bearer(space.token("dave")) })).body.data;
    const holds = (list) => list.some(({ id }) => id === `k${at}`);
    assert.equal(holds(data), holds(committed), `crash at ${at}`);
    again.abort();
    // By these two it is found to be gone.
    for (let i = 0; i < 2; i += 1) await space.publish("todos", "update", "k", { i });
    await connections(space, 0);
  }
});
