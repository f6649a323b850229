// The main job over real sockets: subscribe, mutate, publish, resume.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { has, heartbeat, mutation, rows, start } from "./harness.mjs";

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

test("two users see each other's changes live, and what a publisher sends", async () => {
  const space = workers.space("global");
  const alice = await space.join("alice", ["todos"]);
  const bob = await space.join("bob", ["todos"]);
  assert.equal(alice.welcome.identity, "alice");
  assert.notEqual(alice.welcome.session, bob.welcome.session);
  has(alice.snapshots.todos, { mode: "full", isDelta: false, data: [], deleted: [], more: false });

  const ack = await alice.mutate("todos", "create", "k1", { text: "milk" });
  has(ack, { type: "ack", data: { id: "k1", text: "milk" }, replayed: false });
  has(await bob.receive({ type: "change" }), {
    ...{ channel: "todos", action: "create", key: "k1", by: "alice", cursor: ack.cursor },
    data: { id: "k1", text: "milk" },
  });

  const published = await space.publish("todos", "update", "k1", { done: true });
  assert.equal(published.receivers, 2);
  for (const client of [alice, bob]) {
    const change = await client.receive({ type: "change" });
    has(change, { action: "update", by: null, cursor: published.cursor });
    assert.deepEqual(change.data, { id: "k1", text: "milk", done: true });
  }

  const { status, body } = await space.post("/broadcast-batch", {
    channel: "todos",
    changes: [
      { action: "create", key: "k2", data: { n: 2 } },
      { action: "delete", key: "k1" },
      { action: "update", key: "k2", data: { n: 3 } },
    ],
  });
  assert.equal(status, 200);
  has(body, { seq: published.seq + 3, receivers: 2 });
  for (const client of [alice, bob]) {
    const batch = await client.receive({ type: "batch", channel: "todos", cursor: body.cursor });
    const seen = batch.changes.map(({ action, key, data }) => [action, key, data]);
    assert.deepEqual(seen, [
      ["create", "k2", { id: "k2", n: 2 }],
      ["delete", "k1", null],
      ["update", "k2", { id: "k2", n: 3 }],
    ]);
    assert.deepEqual(await client.rest(), [], "nobody gets anything twice, or an echo");
  }
});

test("a client that was away gets exactly what changed, as latest states and gone keys", async () => {
  const space = workers.space();
  const away = await space.join("alice", ["todos"]);
  for (const key of ["kept", "changed", "deleted"]) await space.publish("todos", "create", key, { v: 1 });
  let cursor;
  for (let i = 0; i < 3; i += 1) ({ cursor } = await away.receive({ type: "change" }));
  away.close(1000);
  await away.ended();

  const bob = await space.join("bob", ["todos"]);
  await bob.mutate("todos", "update", "changed", { v: 2 });
  await bob.mutate("todos", "update", "changed", { v: 3 });
  await bob.mutate("todos", "delete", "deleted");
  await bob.mutate("todos", "create", "new", { v: 1 });
  await bob.mutate("todos", "create", "fleeting", { v: 1 });
  await bob.mutate("todos", "delete", "fleeting");

  const back = await space.join("alice");
  const { view } = away.snapshots.todos;
  const delta = await back.subscribe("todos", { cursor, view });
  has(delta, { type: "snapshot", mode: "delta", isDelta: true, more: false });
  assert.deepEqual(rows(delta), { changed: { v: 3 }, new: { v: 1 } });
  assert.deepEqual(delta.deleted.sort(), ["deleted", "fleeting"]);

  const again = await back.subscribe("todos", { cursor: delta.cursor, view });
  has(again, { mode: "delta", data: [], deleted: [] });
  const withoutView = await back.subscribe("todos", { cursor });
  assert.equal(withoutView.mode, "full", "a cursor proves nothing without its view");
  assert.deepEqual(Object.keys(rows(withoutView)).sort(), ["changed", "kept", "new"]);
  const others = await (await space.join("carol")).subscribe("todos", { cursor, view });
  assert.equal(others.mode, "full", "another identity's view is no proof");
});

test("what comes in while a client pages is neither lost nor doubled", async () => {
  const space = workers.space();
  const changes = Array.from({ length: 25 }, (_, i) => ({ action: "create", key: `k${i}`, data: { v: 0 } }));
  await space.post("/broadcast-batch", { channel: "todos", changes });
  const alice = await space.join("alice");

  const replica = {};
  let page = { more: true };
  let pages = 0;
  while (page.more) {
    page = await alice.subscribe("todos", { cursor: page.cursor, view: page.view, limit: 10 });
    assert.equal(page.mode, pages === 0 ? "full" : "delta");
    assert.ok(page.data.length + page.deleted.length <= 10);
    Object.assign(replica, rows(page));
    for (const key of page.deleted) delete replica[key];
    pages += 1;
    if (pages <= 2) {
      const { receivers } = await space.publish("todos", "update", `k${pages}`, { v: pages });
      assert.equal(receivers, 0, "a paging client is not live yet");
      await space.publish("todos", "delete", `k${20 + pages}`);
    }
  }
  const { receivers } = await space.publish("todos", "create", "live", { v: 0 });
  assert.equal(receivers, 1);
  const live = await alice.receive({ type: "change", key: "live" });
  replica[live.key] = { v: live.data.v };
  assert.deepEqual(await alice.rest(), []);

  const bob = await space.join("bob", ["todos"]);
  assert.deepEqual(replica, rows(bob.snapshots.todos));
  assert.equal(Object.keys(replica).length, 24);
});

test("frames sent in one go are answered in their order, arrays too", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos"]);
  for (let i = 0; i < 50; i += 1) alice.send(mutation(`m${i}`, "todos", "create", `k${i}`, { i }));
  alice.send(Array.from({ length: 50 }, (_, i) => mutation(`n${i}`, "todos", "update", "k0", { i })));
  await alice.pending(100);
  const ids = (await alice.rest()).map(({ type, id }) => `${type} ${id}`);
  const expected = ["m", "n"].flatMap((batch) => Array.from({ length: 50 }, (_, i) => `ack ${batch}${i}`));
  assert.deepEqual(ids, expected);
  const { data } = await alice.mutate("todos", "update", "k0", {});
  assert.deepEqual(data, { id: "k0", i: 49 });
});

test("users of a scoped channel see their own rows, live and after being away", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["notes"]);
  const bob = await space.join("bob", ["notes"]);

  await alice.mutate("notes", "create", "a1", { ownerId: "alice" });
  assert.equal((await space.publish("notes", "create", "b1", { ownerId: "bob" })).receivers, 1);
  await space.publish("notes", "create", "ab", { ownerId: ["alice", "bob"] });
  has(await bob.receive({ type: "change" }), { key: "b1" });
  has(await bob.receive({ type: "change" }), { key: "ab" });
  has(await alice.receive({ type: "change" }), { key: "ab" });

  has(await bob.mutate("notes", "update", "a1", { x: 1 }), { error: { code: "not_found" } });
  has(await bob.mutate("notes", "update", "nothing", { x: 1 }), { error: { code: "not_found" } });
  has(await bob.mutate("notes", "create", "a1", { ownerId: "bob" }), { error: { code: "forbidden" } });
  has(await bob.mutate("notes", "create", "x", { ownerId: "alice" }), { error: { code: "forbidden" } });
  has(await bob.mutate("notes", "create", "x", {}), { error: { code: "invalid", field: "ownerId" } });

  // A row changes hands: to one it is gone, to the other it is new, and neither learns more.
  const { cursor, view } = bob.snapshots.notes;
  await space.publish("notes", "update", "ab", { ownerId: "alice" });
  const gone = await bob.receive({ type: "change" });
  has(gone, { action: "delete", key: "ab", data: null, by: null });
  has(await alice.receive({ type: "change" }), { action: "update", data: { ownerId: "alice" } });
  await space.publish("notes", "update", "a1", { ownerId: "bob" });
  has(await alice.receive({ type: "change" }), { action: "delete", key: "a1", data: null });
  has(await bob.receive({ type: "change" }), { action: "create", data: { id: "a1", ownerId: "bob" } });
  for (const client of [alice, bob]) assert.deepEqual(await client.rest(), []);

  const back = await space.join("bob");
  const delta = await back.subscribe("notes", { cursor, view });
  has(delta, { mode: "delta" });
  assert.deepEqual(Object.keys(rows(delta)).sort(), ["a1", "b1"]);
  assert.deepEqual(delta.deleted, ["ab"]);
  const carol = await space.join("carol", ["notes"]);
  has(carol.snapshots.notes, { data: [], deleted: [] });
});

test("channels are for those whom the stock rules name", async () => {
  const space = workers.space("global");
  const anonymous = await space.join(null, ["feed"]);
  assert.equal(anonymous.welcome.identity, null);
  const alice = await space.join("alice", ["feed"]);
  const member = await space.join("bob", ["room:1"], { topics: ["room:1"] });
  const refusals = [
    [anonymous, "todos", "unauthorized"],
    [anonymous, "notes", "unauthorized"],
    [anonymous, "room:1", "unauthorized"],
    [alice, "room:1", "forbidden"],
    [member, "room:2", "forbidden"],
    [alice, "rooms", "unknown_channel"],
    [alice, "todos2", "unknown_channel"],
  ];
  for (const [client, channel, code] of refusals) {
    const answer = await client.subscribe(channel);
    has(answer, { type: "reject", channel, error: { code, retryable: false } });
  }
  has(await alice.mutate("feed", "create", "f", {}), { error: { code: "read_only" } });
  has(await alice.mutate("room:1", "create", "r", {}), { error: { code: "forbidden" } });
  has(await anonymous.mutate("todos", "create", "t", {}), { error: { code: "unauthorized" } });
  has(await member.mutate("room:1", "create", "r", {}), { type: "ack" });
  assert.equal((await space.publish("feed", "create", "f", { news: 1 })).receivers, 2);
  await anonymous.receive({ type: "change", channel: "feed" });

  // An event channel keeps what was said.
  const said = await alice.mutate("chat:a", "create", "c1", { text: "hi" });
  assert.equal(said.type, "ack");
  has(await alice.mutate("chat:a", "update", "c1", { text: "ho" }), { error: { code: "invalid" } });
  has(await alice.mutate("chat:a", "create", "c1", { text: "ho" }), { error: { code: "conflict" } });
});

test("a mutation repeated on another socket is executed once", async () => {
  const space = workers.space();
  const watcher = await space.join("bob", ["todos"]);
  const first = await space.join("alice");
  const ack = await first.mutate("todos", "create", "k", { n: 1 }, "m1");
  first.drop();

  const second = await space.join("alice");
  const repeat = await second.mutate("todos", "create", "k", { n: 1 }, "m1");
  assert.deepEqual(repeat, { ...ack, replayed: true });
  has(await second.mutate("todos", "create", "k", { n: 2 }, "m1"), { error: { code: "conflict" } });
  await watcher.receive({ type: "change" });
  assert.deepEqual(await watcher.rest(), []);

  // Somebody else's id of the same text is another one.
  has(await watcher.mutate("todos", "create", "k2", {}, "m1"), { type: "ack", replayed: false });
});

test("copies of a mutation that race on many sockets are executed once", async () => {
  const space = workers.space();
  const watcher = await space.join("bob", ["todos"]);
  const sockets = await Promise.all(Array.from({ length: 10 }, () => space.join("alice")));
  const acks = await Promise.all(sockets.map((socket) => socket.mutate("todos", "create", "k", {}, "m")));
  assert.equal(acks.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(new Set(acks.map(({ cursor }) => cursor)).size, 1);
  await watcher.receive({ type: "change" });
  assert.deepEqual(await watcher.rest(), []);
});

test("200 sockets get every change once and in order", async () => {
  const space = workers.space();
  const clients = await Promise.all(
    Array.from({ length: 200 }, (_, i) => space.join(`user${i}`, ["todos"])),
  );
  const total = 30;
  for (let i = 0; i < total; i += 2) {
    assert.equal((await space.publish("todos", "update", "row", { i })).receivers, clients.length);
    await clients[i].mutate("todos", "update", "row", { i: i + 1 });
  }
  for (const [at, client] of clients.entries()) {
    const own = at < total && at % 2 === 0 ? [at + 1] : [];
    const expected = Array.from({ length: total }, (_, i) => i).filter((i) => !own.includes(i));
    await client.pending(expected.length);
    const seen = (await client.rest()).map(({ type, data }) => (type === "change" ? data.i : type));
    assert.deepEqual(seen, expected, client.name);
  }
  has(await space.stats(), { connections: 200, subscriptions: 200, channels: 1 });
});

test("a batch that no frame can hold comes in parts that are applied at the last", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos"]);
  const text = "x".repeat(200_000);
  const changes = Array.from({ length: 10 }, (_, i) => ({ action: "create", key: `k${i}`, data: { text } }));
  const { body } = await space.post("/broadcast-batch", { channel: "todos", changes });
  const parts = [];
  do parts.push(await alice.receive({ type: "batch" }));
  while (parts.at(-1).more);
  assert.ok(parts.length > 1);
  assert.ok(parts.slice(0, -1).every((part) => part.more === true && !("cursor" in part)));
  assert.equal(parts.at(-1).cursor, body.cursor);
  const keys = parts.flatMap((part) => part.changes.map(({ key }) => key));
  assert.deepEqual(keys, changes.map(({ key }) => key));
  assert.ok(Math.max(...alice.frames) < 900_000);
});

test("a snapshot that no frame can hold comes in pages", async () => {
  const space = workers.space();
  const alice = await space.join("alice");
  const text = "x".repeat(250_000);
  const keys = Array.from({ length: 8 }, (_, i) => `k${i}`);
  for (const key of keys) await alice.mutate("todos", "create", key, { text });
  const reader = await space.join("bob");
  const pages = [];
  do {
    const { cursor, view } = pages.at(-1) ?? {};
    pages.push(await reader.subscribe("todos", { cursor, view }));
  } while (pages.at(-1).more);
  assert.ok(pages.length > 2);
  assert.deepEqual(pages.flatMap(({ data }) => data.map(({ id }) => id)), keys);
  assert.ok(Math.max(...reader.frames) < 900_000);
});

test("keys come back as they were given, in every answer", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos"]);
  const bob = await space.join("bob", ["todos"]);
  const { cursor, view } = bob.snapshots.todos;
  const keys = [
    ...["__proto__", "constructor", "a.b", " ", "%", "'; DROP TABLE rows; --", '"\\"', "a\u2028b"],
    ...["🌊", "\u{10ffff}", "\ufeffx", "k".repeat(256), "ü".repeat(128)],
  ];
  for (const key of keys) {
    has(await alice.mutate("todos", "create", key, {}), { type: "ack", data: { id: key } });
    has(await bob.receive({ type: "change" }), { key, data: { id: key } });
  }
  const reader = await space.join("carol", ["todos"]);
  assert.deepEqual(reader.snapshots.todos.data.map(({ id }) => id), keys);
  for (const key of keys) await space.publish("todos", "delete", key);
  const delta = await bob.subscribe("todos", { cursor, view });
  assert.deepEqual([delta.data, delta.deleted], [[], keys]);
});

test("values pass through untouched", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos"]);
  const reader = await space.join("bob", ["todos"]);
  let text;
  reader.onText = (frame) => (text = frame);
  const fields = '"big":12345678901234567890,"exact":1.10,"none":null,"half":"\\ud83c","nul":"\\u0000","":[ ]';
  alice.send(`{"type":"mutate","id":"m","channel":"todos","action":"create","data":{"id":"k",${fields}}}`);
  await reader.receive({ type: "change" });
  assert.ok(text.includes(fields), text);
  await alice.mutate("todos", "update", "k", { more: 1 });
  await reader.receive({ type: "change" });
  assert.ok(text.includes(fields), text);
});

test("the heartbeat is answered, before hello and after, however it is written", async () => {
  const space = workers.space();
  const client = await space.connect("alice");
  client.send(heartbeat);
  assert.equal(await client.receive("pong"), "pong");
  client.send({ type: "hello", v: 1 });
  await client.receive({ type: "welcome" });
  client.send('{ "type": "ping" }');
  assert.equal(await client.receive("pong"), "pong");
});

test("a client of another protocol version is told so and sent away", async () => {
  const client = await workers.space().connect("alice");
  client.send({ type: "hello", v: 2 });
  await client.receive({ type: "error", error: { code: "unsupported_version" } });
  assert.equal((await client.ended()).code, 4503);
});

test("a legacy client gets what it knows: no arrays, plain errors", async () => {
  const space = workers.space();
  await space.publish("todos", "create", "k1", { v: 1 });
  const legacy = await space.connect("alice");
  legacy.send({ type: "subscribe", channel: "todos" });
  has(await legacy.receive({ type: "snapshot" }), { isDelta: false, data: [{ id: "k1", v: 1 }] });
  legacy.send(mutation("m1", "todos", "update", "none", {}));
  assert.equal(typeof (await legacy.receive({ type: "reject", id: "m1" })).error, "string");
  legacy.send([{ type: "subscribe", channel: "todos" }]);
  await legacy.receive({ type: "error", error: { code: "malformed" } });
  await space.publish("todos", "update", "k1", { v: 2 });
  has(await legacy.receive({ type: "change" }), { data: { v: 2 } });
});
