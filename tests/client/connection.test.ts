// When a client connects, how long it waits, when it gives up, and what it does with tokens.
import assert from "node:assert/strict";
import { test } from "node:test";
import { testToken } from "../../client/src/testing/index.ts";
import { scripted, word } from "./scripted.ts";
import { World, fate, storage } from "./world.ts";

test("a hello brings schema, device and all subscriptions in one round trip", async () => {
  const world = new World();
  const { transport, last, welcome } = scripted();
  const sync = world.client("alice", { transports: [transport], schemaVersion: 3, device: "d", batchSize: 50, space: "team" });
  sync.channel("todos");
  sync.channel("notes");
  await world.pass(0);
  welcome();
  assert.equal(last().sent.length, 1);
  assert.deepEqual(word(last().sent[0]), {
    type: "hello",
    v: 1,
    client: "tidewire-js/0.1.0",
    schema: 3,
    device: "d",
    subscribe: [
      { id: "s1", channel: "todos", limit: 50 },
      { id: "s2", channel: "notes", limit: 50 },
    ],
  });
  assert.equal(last().where.space, "team");
  assert.equal(last().where.url.href, "http://sync.test/api/sync");
  assert.equal(sync.status, "syncing");
});

test("pauses are random, double up to the longest, and begin anew only after a stable time", async () => {
  const world = new World();
  world.random = () => 0.999_999;
  const { attempts, transport, last, welcome } = scripted();
  const times: number[] = [];
  world.client("alice", { transports: [transport], reconnectInterval: 1_000, maxReconnectInterval: 5_000 });
  const waited = async () => {
    const [count, began] = [attempts.length, world.clock.time];
    while (attempts.length === count) await world.pass(1);
    times.push(Math.round((world.clock.time - began) / 100) / 10);
  };
  await world.pass(0);
  for (let i = 0; i < 4; i += 1) {
    last().listener.closed({ code: 1006 });
    await waited();
  }
  welcome();
  await world.pass(5_000);
  last().listener.closed({ code: 1006 });
  await waited();
  welcome();
  await world.pass(11_000);
  last().listener.closed({ code: 1006 });
  await waited();
  assert.deepEqual(times, [1, 2, 4, 5, 5, 1]);
});

test("after a restart the first pause is random up to 5 s", async () => {
  const world = new World();
  const { attempts, transport, last, welcome } = scripted();
  world.client("alice", { transports: [transport] });
  await world.pass(0);
  welcome();
  world.random = () => 0.9;
  last().listener.closed({ code: 4000 });
  await world.pass(4_400);
  assert.equal(attempts.length, 1);
  await world.pass(200);
  assert.equal(attempts.length, 2);
});

test("codes of 4500 to 4999 are final until the app says connect; others are not", async () => {
  for (const [code, error] of [[4501, "forbidden"], [4502, "malformed"], [4503, "unsupported_version"], [4504, "schema_outdated"], [4505, "revoked"], [4999, "forbidden"]] as const) {
    const world = new World();
    const { attempts, transport, last, welcome } = scripted();
    const sync = world.client("alice", { transports: [transport] });
    await world.pass(0);
    welcome();
    last().listener.closed({ code, reason: "left the team" });
    assert.equal(sync.status, "error");
    assert.equal(sync.error?.code, error);
    assert.equal(sync.error?.message, "left the team");
    await world.pass(600_000);
    world.wake();
    await world.pass(1_000);
    assert.equal(attempts.length, 1);
    sync.connect();
    await world.pass(0);
    assert.equal(attempts.length, 2);
    assert.equal(sync.error, undefined);
  }
  for (const code of [1000, 1001, 1006, 1011, 3000, 4000, 4001, 4008, 4499, 5000]) {
    const world = new World();
    const { attempts, transport, last, welcome } = scripted();
    world.client("alice", { transports: [transport] });
    await world.pass(0);
    welcome();
    last().listener.closed({ code });
    await world.pass(5_000);
    assert.equal(attempts.length, 2, `${code}`);
  }
});

test("a server's own pause is kept, also by connect()", async () => {
  const world = new World();
  world.random = () => 0;
  const { attempts, transport, last } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  await world.pass(0);
  last().listener.closed({ code: 1006, status: 429, retryAfterMs: 30_000 });
  sync.connect();
  await world.pass(29_000);
  assert.equal(attempts.length, 1);
  await world.pass(1_500);
  assert.equal(attempts.length, 2);
});

test("the heartbeat is the exact text, and silence after it ends the connection", async () => {
  const world = new World();
  const { attempts, transport, last, welcome } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  await world.pass(0);
  welcome();
  await world.pass(25_000);
  assert.deepEqual(last().sent.slice(1), ['{"type":"ping"}']);
  await world.pass(24_900);
  assert.equal(sync.status, "synced");
  last().isAlive = false;
  await world.pass(200);
  assert.equal(last().sent.length, 3);
  await world.pass(9_800);
  assert.equal(sync.status, "synced");
  await world.pass(400);
  assert.equal(sync.status, "offline");
  assert.ok(last().isClosed);
  await world.pass(2_000);
  assert.equal(attempts.length, 2);
});

test("an upgrade that does not come to an end is given up", async () => {
  const world = new World();
  const { attempts, transport } = scripted();
  world.client("alice", { transports: [transport] });
  await world.pass(20_500);
  assert.ok(attempts[0]?.isClosed);
  await world.pass(2_000);
  assert.equal(attempts.length, 2);
});

test("waking connects at once, and asks a connection whether it lives", async () => {
  const world = new World();
  world.random = () => 0.99;
  const { attempts, transport, last, welcome } = scripted();
  world.client("alice", { transports: [transport], reconnectInterval: 60_000 });
  await world.pass(0);
  last().listener.closed({ code: 1006, status: 0 });
  await world.pass(100);
  world.wake();
  await world.pass(0);
  assert.equal(attempts.length, 2);
  welcome();
  world.wake();
  assert.equal(last().sent.at(-1), '{"type":"ping"}');
});

test("URL and token are asked again for each attempt", async () => {
  const world = new World();
  const { attempts, transport, last } = scripted();
  let nth = 0;
  world.client(null, {
    transports: [transport],
    url: async () => `http://host-${nth}.test/api/sync`,
    token: async () => testToken("alice", { exp: (nth += 1) }),
  });
  await world.pass(0);
  last().listener.closed({ code: 1006, status: 0 });
  await world.pass(1_000);
  const [first, second] = attempts;
  assert.notEqual(first?.where.token, second?.where.token);
  assert.notEqual(first?.where.url.host, second?.where.url.host);
});

test("a token that is refused is asked for once more, then it is an error", async () => {
  const world = new World();
  const { attempts, transport, last, welcome } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  await world.pass(0);
  last().listener.closed({ code: 1006, status: 401 });
  await world.pass(1_000);
  last().listener.closed({ code: 1006, status: 401 });
  assert.equal(sync.status, "error");
  assert.equal(sync.error?.code, "unauthorized");
  await world.pass(100_000);
  assert.equal(attempts.length, 2);
  sync.setToken(testToken("alice", { exp: 1_900_000_000 }));
  await world.pass(0);
  welcome();
  assert.equal(sync.status, "synced");
});

test("where the session is good and no connection opens, the next transport has its turn", async () => {
  const world = new World();
  const [first, second] = [scripted(), scripted(false)];
  world.client("alice", { transports: [first.transport, second.transport] });
  await world.pass(0);
  first.last().listener.closed({ code: 1006, status: 200 });
  await world.pass(1_000);
  first.last().listener.closed({ code: 1006, status: 200 });
  await world.pass(3_000);
  assert.deepEqual([first.attempts.length, second.attempts.length], [2, 1]);
});

test("a session is renewed in place before it ends", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  let nth = 0;
  const tokens: string[] = [];
  const token = () => (tokens.push(testToken("alice", { exp: (nth += 1) })), tokens.at(-1) as string);
  world.client(null, { transports: [transport], token });
  await world.pass(0);
  welcome({ expiresAt: world.clock.time + 300_000 });
  await world.pass(239_000);
  assert.equal(last().sent.filter((text) => text.includes('"auth"')).length, 0);
  await world.pass(1_500);
  assert.deepEqual(word(last().sent.find((text) => text.includes('"auth"'))), { type: "auth", token: tokens.at(-1) });
  say({ type: "authed", identity: "alice", expiresAt: world.clock.time + 300_000, view: "v2" });
  await world.pass(1_000);
  assert.equal(last().sent.filter((text) => text.includes('"auth"')).length, 1);
});

test("a new view replaces that of live channels, and of no others", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport], reconnectInterval: 1 });
  sync.channel("todos");
  sync.channel("notes");
  await world.pass(0);
  welcome();
  const page = { type: "snapshot", mode: "full", data: [], deleted: [], view: "v1" };
  say({ ...page, id: "s1", channel: "todos", cursor: "e.1", more: false });
  say({ ...page, id: "s2", channel: "notes", cursor: "e.1.1.v1", more: true });
  say({ type: "authed", identity: "alice", expiresAt: null, view: "v2" });
  last().listener.closed({ code: 1006 });
  await world.pass(10);
  last().listener.opened();
  const { subscribe } = word(last().sent[0]) as { subscribe: { view: string }[] };
  assert.deepEqual(subscribe.map(({ view }) => view), ["v2", "v1"]);
});

test("a null token disconnects, and deletes what is kept of who was here", async () => {
  const world = new World();
  const sync = world.client("alice");
  const todos = sync.channel("todos");
  await world.pass();
  todos.create({ id: "a", title: "milk" });
  await world.pass();
  sync.disconnect();
  const lost = todos.create({ id: "b", title: "beer" });
  sync.connect();
  sync.setToken(null);
  await world.pass(0);
  assert.deepEqual(todos.rows, []);
  assert.equal(sync.status, "offline");
  assert.equal(sync.identity, undefined);
  assert.equal(await fate(lost.confirmed), "closed");
  assert.equal(await fate(todos.create({ id: "c", title: "tea" }).confirmed), "unauthorized");
  sync.setToken(testToken("bob"));
  await world.pass();
  assert.equal(sync.identity, "bob");
  assert.equal(sync.status, "synced");
  assert.deepEqual(todos.rows, [{ id: "a", title: "milk" }]);
});

test("another identity has another database: nothing of one is seen or sent by the other", async () => {
  const world = new World({ channels: { notes: { scope: { field: "for" } } } });
  const sync = world.client("alice", { storage: storage() });
  const notes = sync.channel("notes");
  await world.pass();
  notes.create({ id: "a", title: "mine", for: "alice" });
  await world.pass();
  sync.disconnect();
  notes.create({ id: "b", title: "unsent", for: "alice" });
  await world.pass();
  sync.setToken(testToken("bob"));
  sync.connect();
  await world.pass();
  assert.equal(sync.identity, "bob");
  assert.deepEqual(notes.rows, []);
  sync.setToken(testToken("alice"));
  await world.pass();
  assert.deepEqual(notes.rows.map(({ id }) => id), ["a", "b"]);
  assert.equal(sync.status, "synced");
});

test("a session that turns out to be another's changes the database before anything is sent", async () => {
  const world = new World();
  const { attempts, transport, last, welcome } = scripted();
  const sync = world.client(null, { transports: [transport], reconnectInterval: 1 });
  const todos = sync.channel("todos");
  await world.pass(0);
  assert.equal(sync.identity, null);
  todos.create({ id: "a", title: "by nobody" });
  welcome({ identity: "carol" });
  await world.pass(10);
  assert.equal(attempts.length, 2);
  assert.equal(attempts[0]?.sent.join().includes("mutate"), false);
  assert.equal(sync.identity, "carol");
  assert.deepEqual(todos.rows, []);
  last().listener.opened();
  assert.equal(last().sent.length, 1);
});

test("a token that cannot be had is told, and who was here last is here still", async () => {
  const world = new World();
  const errors: string[] = [];
  const { memoryStorage } = await import("../../client/src/index.ts");
  const storage = memoryStorage();
  const first = world.client("alice", { storage });
  first.channel("todos").create({ id: "a", title: "milk" });
  await world.pass();
  await first.close();
  const sync = world.client(null, {
    storage,
    onError: ({ code }) => errors.push(code),
    token: () => Promise.reject(new Error("the backend is away")),
  });
  const todos = sync.channel("todos");
  await world.pass();
  assert.equal(sync.identity, "alice");
  assert.deepEqual(todos.rows, [{ id: "a", title: "milk" }]);
  assert.equal(errors[0], "no_answer");
});

test("without autoReconnect it stays away, without autoConnect it waits", async () => {
  const world = new World();
  const { attempts, transport, last, welcome } = scripted();
  const sync = world.client("alice", { transports: [transport], autoConnect: false, autoReconnect: false });
  await world.pass(10_000);
  assert.equal(attempts.length, 0);
  sync.connect();
  await world.pass(0);
  welcome();
  last().listener.closed({ code: 1006 });
  await world.pass(100_000);
  assert.equal(attempts.length, 1);
  assert.equal(sync.status, "offline");
});

test("a token that comes late, of before another was set, signs nobody in", async () => {
  for (const [next, identity] of [[testToken("bob"), "bob"], [null, undefined]] as const) {
    const world = new World();
    let give = (_token: string) => {};
    const slow = () => new Promise<string>((resolve) => (give = resolve));
    const sync = world.client(null, { token: slow, storage: storage() });
    await world.pass();
    sync.setToken(next);
    await world.pass();
    give(testToken("alice"));
    await world.pass();
    assert.equal(sync.identity, identity);
    assert.deepEqual([...world.server.sessions].map((session) => session.identity), identity === undefined ? [] : [identity]);
  }
});

test("who signs out and in at once is in, and nothing of theirs is deleted", async () => {
  const world = new World();
  const kept = storage();
  const before = world.client("bob", { storage: kept });
  before.channel("todos");
  await world.pass();
  world.server.goOffline();
  before.channel("todos").create({ id: "a", title: "unsent" });
  await world.pass();
  await before.close();
  const sync = world.client("alice", { storage: kept });
  await world.pass();
  sync.setToken(null);
  sync.setToken(testToken("bob"));
  await world.pass();
  assert.equal(sync.identity, "bob");
  assert.deepEqual(sync.channel("todos").pending.map(({ key }) => key), ["a"]);
});

test("nothing is asked of the app once it is closed", async () => {
  const world = new World();
  let asked = 0;
  let fail = (_error: Error) => {};
  const errors: unknown[] = [];
  const token = () => new Promise<string>((_, reject) => ((asked += 1), (fail = reject)));
  const sync = world.client(null, { token, onError: (error) => errors.push(error) });
  await world.pass();
  await sync.close();
  fail(new Error("too late"));
  await world.pass(60_000);
  assert.deepEqual([asked, errors, world.clock.next], [1, [], Infinity]);
});

test("a pause for writes ends at its time, also where the clock was set back meanwhile", async () => {
  const world = new World();
  world.random = () => 0;
  let back = 0;
  const { transport, last, say, welcome } = scripted();
  const sync = world.client("alice", { transports: [transport], platform: { ...world.platform, now: () => world.clock.time - back } });
  await world.pass();
  welcome();
  const todos = sync.channel("todos");
  await world.pass();
  say({ type: "snapshot", id: "s1", channel: "todos", mode: "full", data: [], deleted: [], cursor: "e.1", view: "v", more: false });
  const { id } = todos.create({ id: "a", title: "milk" });
  const sent = () => last().sent.filter((text) => text.includes('"mutate"')).length;
  say({ type: "reject", id, channel: "todos", error: { code: "rate_limited", message: "later", retryable: true, retryAfterMs: 1_000 } });
  back = 3_600_000;
  await world.pass(900);
  assert.equal(sent(), 1);
  await world.pass(200);
  assert.equal(sent(), 2);
});
