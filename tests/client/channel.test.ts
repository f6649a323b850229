// What else a channel offers: presence, signals, encryption, giving writes up, ids, leaving.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createSync, encrypted, type SealedRow } from "../../client/src/index.ts";
import { createTestServer, testToken } from "../../client/src/testing/index.ts";
import { World, calm, fate, type Todo } from "./world.ts";

test("who is here comes, moves and goes, and is here again after a reconnect", async () => {
  const world = new World({ channels: { room: { presence: true } } });
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [mine, his] = [alice.channel("room").presence, bob.channel("room").presence];
  mine.join({ x: 1 });
  his.watch();
  await world.pass();
  const states = (presence: typeof mine) => presence.members.map(({ identity, state }) => [identity, state]);
  assert.deepEqual([states(mine), states(his), his.total], [[["alice", { x: 1 }]], [["alice", { x: 1 }]], 1]);
  const told: number[] = [];
  his.subscribe((members) => told.push(members.length));
  mine.join({ x: 2 });
  await world.pass();
  assert.deepEqual([states(mine), states(his)], [[["alice", { x: 2 }]], [["alice", { x: 2 }]]]);
  his.join({ y: 1 });
  await world.pass();
  assert.equal(mine.total, 2);
  world.server.restart();
  await world.pass(0);
  assert.equal(mine.total, 0, "nobody is known to be here without a connection");
  await world.pass(10_000);
  assert.deepEqual([mine.total, his.total], [2, 2]);
  mine.leave();
  await world.pass();
  assert.deepEqual(states(his), [["bob", { y: 1 }]]);
  assert.equal(mine.total, 0);
  assert.ok(told.length > 0);
});

test("a signal reaches who is here now, and says who sent it", async () => {
  const world = new World({ channels: { room: { signals: true } } });
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const heard: unknown[] = [];
  bob.channel("room").onSignal((signal) => heard.push(signal));
  const room = alice.channel("room");
  room.signal("too early");
  await world.pass();
  room.signal("typing", { on: true });
  room.signal("wave");
  await world.pass();
  const from = { session: alice.session, identity: "alice" };
  assert.deepEqual(heard, [{ event: "typing", ...from, data: { on: true } }, { event: "wave", ...from, data: null }]);
});

interface Note {
  id: string;
  folder: string;
  text: string;
  stars?: number;
}

/** No cipher for anything but tests. */
const ciphers = encrypted<Note>({
  encrypt: async ({ id, folder, ...hidden }: Note): Promise<SealedRow> => ({ id, folder, ct: btoa(JSON.stringify(hidden)) }),
  decrypt: async ({ id, folder, ct = "" }: SealedRow): Promise<Note> => {
    if (ct === "broken") throw new Error("bad key");
    return { id, folder: String(folder), ...(JSON.parse(atob(ct)) as { text: string }) };
  },
});

test("rows of an encrypted channel are read by clients, and not by the server", async () => {
  const world = new World();
  const errors: string[] = [];
  const options = { onError: ({ message }: Error) => errors.push(message) };
  const [alice, bob] = [world.client("alice", options), world.client("alice", options)];
  const mine = alice.channel<Note>("notes", ciphers);
  const his = bob.channel<Note>("notes", ciphers);
  await world.pass();
  await Promise.all([mine.ready, his.ready]);
  mine.create({ id: "a", folder: "home", text: "secret" });
  const second = mine.update("a", { stars: 1 });
  const third = mine.update("a", { folder: "work", text: "changed" });
  await calm();
  assert.deepEqual(mine.rows, [{ id: "a", folder: "work", text: "changed", stars: 1 }]);
  await world.pass();
  assert.deepEqual([await second.confirmed, await third.confirmed].map((row) => row?.stars), [1, 1]);
  assert.deepEqual(his.rows, mine.rows);
  assert.deepEqual(his.get("a"), { id: "a", folder: "work", text: "changed", stars: 1 });
  const stored = JSON.stringify(world.server.rows("notes"));
  assert.ok(stored.includes('"folder":"work"') && !stored.includes("changed"), stored);
  his.update("a", { text: "by bob" });
  mine.delete("missing");
  await world.pass();
  assert.equal(mine.get("a")?.text, "by bob");
  assert.equal(await fate(mine.update("missing", { text: "x" }).confirmed), "not_found");
  world.server.publish("notes", "create", "b", { folder: "home", ct: "broken" });
  world.server.publish("notes", "delete", "a");
  await world.pass();
  assert.deepEqual(mine.rows, []);
  assert.ok(errors.includes("the row b cannot be decrypted: bad key"), errors.join());
});

test("a refused write of an encrypted channel is rolled back", async () => {
  const world = new World();
  const notes = world.client().channel<Note>("notes", ciphers);
  await world.pass();
  world.server.reject({ code: "invalid", message: "no", retryable: false });
  const { confirmed } = notes.create({ id: "a", folder: "home", text: "secret" });
  await calm();
  assert.equal(notes.rows.length, 1);
  await world.pass();
  assert.equal(await fate(confirmed), "invalid");
  assert.deepEqual(notes.rows, []);
  world.server.accept();
  const again = notes.retry(notes.rejected[0]?.id ?? "");
  await world.pass();
  assert.deepEqual(await again?.confirmed, { id: "a", folder: "home", text: "secret" });
});

test("a write that was not sent can be given up", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  sync.disconnect();
  const { id, confirmed } = todos.create({ id: "a", title: "milk" });
  todos.dismiss(id);
  assert.deepEqual([todos.rows.length, todos.pending.length, await fate(confirmed)], [0, 0, "closed"]);
});

test("a row without an id gets one, and its later changes are the app's own no more", async () => {
  const world = new World();
  const todos = world.client().channel("todos");
  const row = { title: "milk", tags: ["a"] };
  const { key } = todos.create(row);
  row.tags.push("b");
  await world.pass();
  assert.deepEqual(todos.rows, [{ id: key, title: "milk", tags: ["a"] }]);
  assert.deepEqual(world.server.rows("todos"), todos.rows);
  assert.throws(() => todos.create({ id: "", title: "x" }), { code: "invalid" });
});

test("rows that were optimistic are the same after a conflict that the server sees", async () => {
  const world = new World({ channels: { timed: { timestamp: "t" } } });
  const sync = world.client("alice", { onConflict: (_, __, ___, { theirs }) => ({ t: Number(theirs["t"]) + 1 }) });
  const timed = sync.channel("timed");
  world.server.publish("timed", "create", "a", { t: 10 });
  await world.pass();
  const { confirmed } = timed.update("a", { title: "mine", t: 5 });
  await world.pass();
  assert.deepEqual(await fate(confirmed), { id: "a", title: "mine", t: 11 });
});

test("a channel that is closed is left, and comes back from what was kept", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  await todos.create({ id: "a", title: "milk" }).local;
  await world.pass();
  todos.close();
  world.server.publish("todos", "create", "b", { title: "beer" });
  await world.pass();
  const again = sync.channel("todos");
  assert.notEqual(again, todos);
  await world.pass();
  assert.deepEqual(again.rows.map(({ id }) => id), ["a", "b"]);
  assert.equal(sync.channel("todos"), again);
});

/** Mistakes of the app that reach it as uncaught, while something runs. */
async function uncaught(run: () => Promise<void>): Promise<string[]> {
  const failures: string[] = [];
  const original = globalThis.queueMicrotask;
  globalThis.queueMicrotask = (task) =>
    original(() => {
      try {
        task();
      } catch (error) {
        failures.push((error as Error).message);
      }
    });
  await run();
  globalThis.queueMicrotask = original;
  return failures;
}

test("an app's own mistakes are told to it, and keep nobody else from being told", async () => {
  const world = new World();
  const sync = world.client("alice", {
    onConflict: () => {
      throw new Error("in a conflict");
    },
    onReset: () => {
      throw new Error("in a reset");
    },
  });
  const todos = sync.channel("todos");
  let told = 0;
  const failures = await uncaught(async () => {
    todos.subscribe(() => {
      throw new Error("in a listener");
    });
    todos.subscribe(() => (told += 1));
    todos.create({ id: "a", title: "x" });
    await world.pass();
    assert.equal(told, 1);
    sync.disconnect();
    todos.update("a", { title: "mine" });
    world.server.publish("todos", "update", "a", { title: "theirs" });
    sync.connect();
    await world.pass();
    world.server.reset("todos");
    await world.pass();
  });
  assert.deepEqual([...new Set(failures)].sort(), ["in a conflict", "in a listener", "in a reset"]);
  assert.deepEqual([sync.status, todos.get("a")?.title], ["synced", "mine"]);
});

test("the server for tests works with real timers, as an app's tests use it", async () => {
  const server = createTestServer({ channels: { todos: {}, notes: { scope: { field: "ownerId" } } } });
  const sync = createSync<{ todos: Todo }>(server.client("alice"));
  const todos = sync.channel("todos");
  await todos.ready;
  server.delay(5);
  const { confirmed } = todos.create({ id: "a", title: "milk" });
  assert.equal(sync.status, "syncing");
  assert.deepEqual(await confirmed, { id: "a", title: "milk" });
  server.reject({ code: "forbidden", message: "not yours", retryable: false });
  await assert.rejects(todos.delete("a").confirmed, { code: "forbidden" });
  server.accept();
  server.goOffline();
  todos.update("a", { done: true });
  assert.deepEqual(todos.get("a"), { id: "a", title: "milk", done: true });
  server.goOnline();
  sync.connect();
  while (todos.pending.length > 0) await new Promise((resolve) => todos.onOutbox(() => resolve(undefined)));
  assert.deepEqual(server.rows<Todo>("todos"), [{ id: "a", title: "milk", done: true }]);
  const ended = new Promise<string>((resolve) => sync.on("status", (status) => status === "error" && resolve(status)));
  server.revoke("alice");
  assert.equal(await ended, "error");
  assert.equal(sync.error?.code, "revoked");
  await sync.close();
  assert.equal(testToken("alice"), server.client("alice").token);
});

test("a write that is still being encrypted when somebody else signs in is not made in their name", async () => {
  const world = new World();
  const sync = world.client();
  let go = () => {};
  const ciphers = {
    encrypt: ({ id }: Todo) => new Promise<{ id: string; ct: string }>((resolve) => (go = () => resolve({ id, ct: "x" }))),
    decrypt: ({ id }: { id: string }) => ({ id, title: "" }),
  };
  const notes = sync.channel("notes", encrypted<Todo>(ciphers));
  await world.pass();
  const { confirmed } = notes.create({ id: "a", title: "alice's" });
  await world.pass();
  sync.setToken(testToken("bob"));
  await world.pass();
  go();
  await world.pass();
  assert.deepEqual([await fate(confirmed), world.server.rows("notes")], ["closed", []]);
});

test("an id that is given as undefined is made, too", async () => {
  const world = new World();
  const todos = world.client().channel("todos");
  await world.pass();
  const { key, confirmed } = todos.create({ id: undefined as unknown as string, title: "milk" });
  await world.pass();
  assert.deepEqual([await fate(confirmed), todos.rows], [{ id: key, title: "milk" }, [{ id: key, title: "milk" }]]);
});

test("a client of the server for tests does not spin while that is offline, and is back at once when it is not", async () => {
  const world = new World();
  const { server } = world;
  let attempts = 0;
  const transport = { ...server.transport, open: (...given: Parameters<typeof server.transport.open>) => ((attempts += 1), server.transport.open(...given)) };
  const sync = world.client(null, { ...server.client("alice"), transports: [transport] });
  await world.pass();
  world.random = () => 0.5;
  server.goOffline();
  await world.pass(1_000);
  assert.ok(attempts > 50 && attempts < 150, `${attempts}`);
  server.goOnline();
  await world.pass(20);
  assert.equal(sync.status, "synced");
  server.restart();
  await world.pass(20);
  assert.equal(sync.status, "synced");
});
