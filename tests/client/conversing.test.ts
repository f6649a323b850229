// What a client says on a connection, and what it makes of the answers: subscribing, writing, cursors.
import assert from "node:assert/strict";
import { test } from "node:test";
import { TidewireError, type Net } from "../../client/src/index.ts";
import { Posts } from "../../client/src/posts.ts";
import { scripted, word } from "./scripted.ts";
import { World, calm, fate } from "./world.ts";

test("what an old connection still says is void", async () => {
  const world = new World();
  const { attempts, transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport], reconnectInterval: 1 });
  const todos = sync.channel("todos");
  await world.pass(0);
  welcome();
  const page = { type: "snapshot", channel: "todos", mode: "full", deleted: [], view: "v", more: false };
  const old = last();
  sync.disconnect();
  sync.connect();
  await world.pass(0);
  welcome();
  old.listener.frame(JSON.stringify({ ...page, id: "s1", data: [{ id: "old" }], cursor: "e.1" }));
  old.listener.closed({ code: 4505 });
  say({ ...page, id: "s2", data: [{ id: "new" }], cursor: "e.2" });
  assert.deepEqual(todos.rows.map(({ id }) => id), ["new"]);
  assert.equal(sync.status, "synced");
  assert.equal(attempts.length, 2);
});

test("what is not known is ignored, and a batch in parts is applied at the last", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  const todos = sync.channel("todos");
  const told: string[][] = [];
  todos.subscribe(({ changes }) => told.push(changes.map(({ key }) => key)));
  await world.pass(0);
  welcome({ novelty: 1 });
  last().listener.frame("no JSON");
  last().listener.frame('[1,null,"x",{"type":"novelty"},{"type":"change"},{"type":"constructor"}]');
  say({ type: "snapshot", id: "s1", channel: "todos", mode: "full", data: [], deleted: [], cursor: "e.1", view: "v", more: false, novelty: 2 });
  const change = (key: string) => ({ action: "create", key, data: { id: key }, by: null, at: 1 });
  say({ type: "batch", channel: "todos", changes: [change("a")], more: true });
  assert.deepEqual(told, []);
  say({ type: "batch", channel: "todos", changes: [change("b")], cursor: "e.3" });
  assert.deepEqual(told, [["a", "b"]]);
});

test("an acknowledgement moves the cursor only where the channel is live", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport], reconnectInterval: 1 });
  const todos = sync.channel("todos");
  await world.pass(0);
  welcome();
  const page = { type: "snapshot", channel: "todos", mode: "full", data: [], deleted: [], view: "v" };
  say({ ...page, id: "s1", cursor: "e.2", more: false });
  const live = todos.create({ id: "a", title: "live" });
  const { id } = word(last().sent.at(-1));
  say({ type: "ack", id, data: { id: "a", title: "live" }, cursor: "e.5", replayed: false });
  assert.equal(await fate(live.confirmed) === "waits", false);
  sync.channel("todos").create({ id: "b", title: "paged" });
  const second = word(last().sent.at(-1));
  last().listener.closed({ code: 1006 });
  await world.pass(10);
  last().listener.opened();
  assert.equal((word(last().sent[0]) as { subscribe: { cursor: string }[] }).subscribe[0]?.cursor, "e.5");
  say({ type: "welcome", session: "s", identity: "alice", expiresAt: null });
  // A page says that it is not live yet; an answer that comes now is of no place.
  const subscribed = word(last().sent[0]) as { subscribe: { id: string }[] };
  say({ ...page, mode: "delta", id: subscribed.subscribe[0]?.id, cursor: "e.6.9.v", more: true });
  say({ type: "ack", id: second["id"], data: { id: "b", title: "paged" }, cursor: "e.9", replayed: false });
  assert.equal(word(last().sent.at(-1))["cursor"], "e.6.9.v");
  assert.deepEqual(todos.rows.map(({ id: key }) => key), ["a", "b"]);
});

test("writes wait for one another where they are of one row, and 50 at most are under way", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  const todos = sync.channel("todos");
  for (let i = 0; i < 60; i += 1) todos.create({ id: `k${i}`, title: "" });
  todos.update("k0", { title: "x" });
  await world.pass(0);
  welcome();
  const sent = () => last().sent.slice(1).flatMap((text) => JSON.parse(text) as { type: string; id: string; key?: string }[]).filter(({ type }) => type === "mutate");
  assert.equal(sent().length, 0, "nothing before the channel has caught up");
  say({ type: "snapshot", id: "s1", channel: "todos", mode: "full", data: [], deleted: [], cursor: "e.1", view: "v", more: false });
  assert.equal(sent().length, 50);
  const [first] = sent();
  say({ type: "ack", id: first?.id, data: { id: "k0", title: "" }, cursor: "e.2", replayed: false });
  assert.equal(sent().length, 51);
  assert.equal(todos.pending.length, 60);
});

test("a write that is too large for a frame is refused here", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  const { confirmed } = todos.create({ id: "a", title: "x".repeat(262_144) });
  assert.equal(await fate(confirmed), "frame_too_large");
  assert.deepEqual(todos.rows, []);
  assert.equal(sync.status, "synced");
});

test("tokens of channels are asked for, and again when they have ended", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  let nth = 0;
  const doc = sync.channel("doc:1", { token: async () => `token-${(nth += 1)}` });
  await world.pass(0);
  welcome();
  await calm();
  const asked = () => word(last().sent.at(-1));
  assert.deepEqual([asked()["type"], asked()["token"]], ["subscribe", "token-1"]);
  const page = { type: "snapshot", channel: "doc:1", mode: "full", data: [], deleted: [], view: "v" };
  say({ ...page, id: asked()["id"], cursor: "e.1.1.v", more: true });
  assert.deepEqual([asked()["cursor"], asked()["token"]], ["e.1.1.v", "token-1"]);
  say({ ...page, mode: "delta", id: asked()["id"], cursor: "e.1", more: false });
  await doc.ready;
  say({ type: "channel-change", channel: "doc:1" });
  await calm();
  assert.deepEqual([asked()["cursor"], asked()["token"]], ["e.1", "token-2"]);
  const reject = (code: string) => say({ type: "reject", id: asked()["id"], channel: "doc:1", error: { code, message: "no", retryable: false } });
  reject("unauthorized");
  await calm();
  assert.equal(asked()["token"], "token-3");
  reject("unauthorized");
  assert.equal(doc.error?.code, "unauthorized");
  assert.ok(doc.error instanceof TidewireError);
});

test("a subscription that has to wait is asked again at its time", async () => {
  const world = new World();
  world.random = () => 0;
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  sync.channel("todos");
  await world.pass(0);
  welcome();
  say({ type: "reject", id: "s1", channel: "todos", error: { code: "rate_limited", message: "", retryable: true, retryAfterMs: 7_000 } });
  assert.equal(sync.status, "syncing");
  await world.pass(6_900);
  assert.equal(last().sent.length, 1);
  await world.pass(200);
  assert.equal(word(last().sent[1])["id"], "s2");
});

test("a cursor that the server cannot read is given up for everything", async () => {
  const world = new World();
  const { transport, last, welcome, say } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  sync.channel("todos");
  await world.pass(0);
  welcome();
  say({ type: "snapshot", id: "s1", channel: "todos", mode: "full", data: [], deleted: [], cursor: "odd", view: "v", more: false });
  void sync.catchUp();
  assert.equal(word(last().sent.at(-1))["cursor"], "odd");
  say({ type: "reject", id: "s2", channel: "todos", error: { code: "malformed", message: "", retryable: false } });
  assert.deepEqual(word(last().sent.at(-1)), { type: "subscribe", id: "s3", channel: "todos" });
});

test("closing ends everything that waits", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  world.server.goOffline();
  const { confirmed } = todos.create({ id: "a", title: "x" });
  await sync.close();
  assert.equal(await fate(confirmed), "closed");
  assert.equal(await fate(todos.create({ id: "b", title: "x" }).confirmed), "closed");
  await world.pass(0);
  assert.equal(world.clock.next, Infinity);
});

test("writes that are refused together for a while wait together, and no longer than one", async () => {
  const world = new World();
  world.random = () => 0.9;
  const { transport, last, welcome, say } = scripted();
  const todos = world.client("alice", { transports: [transport] }).channel("todos");
  await world.pass(0);
  welcome();
  say({ type: "snapshot", id: "s1", channel: "todos", mode: "full", data: [], deleted: [], cursor: "e.1", view: "v", more: false });
  const ids = Array.from({ length: 40 }, (_, i) => todos.create({ id: `k${i}`, title: "" }).id);
  const error = { code: "rate_limited", message: "", retryable: true, retryAfterMs: 1_000 };
  last().listener.frame(JSON.stringify(ids.map((id) => ({ type: "reject", id, channel: "todos", error }))));
  const before = last().sent.length;
  await world.pass(990);
  assert.equal(last().sent.length, before);
  await world.pass(1_000);
  assert.equal(JSON.parse(last().sent.at(-1) ?? "[]").length, 40);
});

test("nobody waits for a channel that is closed, or for a client that is", async () => {
  const world = new World();
  world.server.goOffline();
  const sync = world.client();
  const [todos, notes] = [sync.channel("todos"), sync.channel("notes")];
  await world.pass();
  todos.close();
  assert.equal(await fate(todos.ready), "closed");
  const again = sync.channel("todos");
  // An old one has nothing to say of the new one.
  todos.close();
  assert.equal(sync.channel("todos"), again);
  await sync.close();
  for (const waits of [notes.ready, again.ready, sync.catchUp(), sync.channel("room").ready, notes.create({ title: "late" }).confirmed]) {
    assert.equal(await fate(waits), "closed");
  }
});

test("a write that nests deeper than the server reads is refused here, and costs no other", async () => {
  const world = new World();
  const { transport, welcome } = scripted();
  const sync = world.client("alice", { transports: [transport] });
  await world.pass();
  welcome();
  const nested = (depth: number): object => (depth === 0 ? {} : { in: nested(depth - 1) });
  const [deepest, tooDeep, list] = [nested(59), nested(60), Array.from({ length: 100_000 }, () => 0)].map((inner, i) =>
    sync.channel("todos").create({ id: `t${i}`, title: "x", inner }),
  );
  assert.deepEqual([await fate(deepest!.confirmed), await fate(tooDeep!.confirmed), await fate(list!.confirmed)], ["waits", "frame_too_large", "waits"]);
  assert.deepEqual(sync.channel("todos").pending.map(({ key }) => key), ["t0", "t2"]);
});

test("what onConflict makes too large is refused, and keeps the connection", async () => {
  const world = new World();
  world.server.publish("todos", "create", "a", { title: "milk" });
  const sync = world.client("alice", { onConflict: () => ({ title: "x".repeat(300_000) }) });
  const todos = sync.channel("todos");
  await world.pass();
  world.server.goOffline();
  const { confirmed } = todos.update("a", { title: "beer" });
  world.server.publish("todos", "update", "a", { title: "wine" });
  world.server.goOnline();
  await world.pass(5_000);
  assert.deepEqual([await fate(confirmed), sync.status], ["frame_too_large", "synced"]);
});

test("writes over HTTP go in requests that the server takes, each once and in order", async () => {
  const bodies: string[] = [];
  const told: object[] = [];
  const fetch = async (_input: string, init?: RequestInit) => {
    const body = String(init?.body);
    bodies.push(body);
    const { mutations } = JSON.parse(body) as { mutations: { id: string }[] };
    return Response.json({ results: mutations.map(({ id }) => ({ type: "ack", id })) });
  };
  const where = { url: new URL("http://sync.test/api/sync"), space: "global" };
  const posted = { tell: (message: object) => void told.push(message), end: () => {}, tokenOf: () => undefined };
  const posts = new Posts(where, { fetch, after: () => () => {} } as unknown as Net, posted);
  const ids = Array.from({ length: 50 }, (_, i) => `m${i}`);
  for (const id of ids) posts.add({ id, channel: "todos", action: "create", data: { id, text: "x".repeat(250_000) } });
  await calm();
  assert.ok(bodies.every((body) => body.length <= 8 * 1024 * 1024), `${bodies.map((body) => body.length)}`);
  assert.deepEqual(told, ids.map((id) => ({ type: "ack", id })));
});

test("a signal or a state over the bound of a frame is told to the app, and costs no connection", async () => {
  const world = new World({ channels: { room: { presence: true, signals: true } } });
  const errors: string[] = [];
  const sync = world.client("alice", { onError: ({ code }) => void errors.push(code) });
  const room = sync.channel("room");
  await world.pass();
  let deep: unknown = 1;
  for (let depth = 0; depth < 64; depth += 1) deep = [deep];
  for (const data of ["x".repeat(300_000), deep]) {
    room.signal("wave", data);
    room.presence.join(data);
  }
  await world.pass();
  assert.deepEqual([errors, sync.status], [Array(4).fill("frame_too_large"), "synced"]);
  room.presence.join({ x: 1 });
  await world.pass();
  assert.equal(room.presence.members.length, 1);
});
