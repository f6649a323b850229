// What is kept on a device: rows with their cursor, or neither; failures that the app sees.
import "fake-indexeddb/auto";
import { indexedDB } from "fake-indexeddb";
import assert from "node:assert/strict";
import { test } from "node:test";
import { createSync, memoryStorage, storageIn, type Database, type Databases, type TidewireError, type Write } from "../../client/src/index.ts";
import { memoryDatabases } from "../../client/src/memory.ts";
import { indexedDatabases, indexedDbStorage } from "../../client/src/indexeddb.ts";
import { createTestServer } from "../../client/src/testing/index.ts";
import { World, fate, type Todo } from "./world.ts";

const entry = (id: string, nth: number) => ({ row: { id }, nth, gen: 1 });
const place = (cursor: string) => ({ cursor, view: "v", gen: 1, paging: false });
const rows = (version: number, cursor: string, ...changes: Extract<Write, { type: "rows" }>["rows"][number][]): Write => ({
  type: "rows",
  channel: "todos",
  place: place(cursor),
  version,
  rows: changes,
});
const intent = (id: string): Write => ({ type: "intent", intent: { id, channel: "todos", action: "delete", key: "a" } });

for (const [name, make] of [["memory", memoryDatabases], ["IndexedDB", indexedDatabases]] as const) {
  test(`rows, cursor and outbox are kept by identity, in ${name}`, async () => {
    const storage = make();
    const alice = await storage.open("alice", 1);
    assert.equal(await alice.load("todos"), undefined);
    await alice.commit([rows(1, "e.2", ["b", entry("b", 1)], ["a", entry("a", 2)], ["__proto__", entry("__proto__", 3)]), intent("i2"), intent("i1")]);
    await alice.commit([rows(2, "e.3", ["b", undefined]), { type: "settled", id: "i2" }]);
    const kept = await alice.load("todos");
    assert.deepEqual(kept?.place, place("e.3"));
    assert.equal(kept?.version, 2);
    assert.deepEqual([...(kept?.rows ?? [])].map(([key]) => key).sort(), ["__proto__", "a"]);
    assert.deepEqual((await alice.outbox()).map(({ id }) => id), ["i1"]);
    assert.equal(await (await storage.open("bob", 1)).load("todos"), undefined);
    // A channel whose name begins like another's is another.
    assert.equal(await alice.load("todo"), undefined);
    await alice.commit([{ ...rows(3, "e.4", ["c", entry("c", 1)]), all: true } as Write]);
    assert.deepEqual([...((await alice.load("todos"))?.rows ?? [])].map(([key]) => key), ["c"]);
    alice.close();
    const newer = await storage.open("alice", 2);
    assert.equal(await newer.load("todos"), undefined, "rows of another schema are gone");
    assert.equal((await newer.outbox()).length, 1, "writes are not");
    newer.close();
    await storage.destroy("alice");
    assert.equal((await (await storage.open("alice", 2)).outbox()).length, 0);
    await storage.remember("scope", "alice");
    assert.equal((await storage.recall("scope"))?.identity, "alice");
    await storage.remember("scope", null);
    assert.equal((await storage.recall("scope"))?.identity, null);
    await storage.remember("scope", undefined);
    assert.equal(await storage.recall("scope"), undefined);
  });
}

test("a commit to IndexedDB is whole or not at all", async () => {
  const database = await indexedDatabases().open("whole", 1);
  await database.commit([rows(1, "e.1", ["a", entry("a", 1)])]);
  const bad = { id: "b", deep: () => {} };
  await assert.rejects(database.commit([rows(2, "e.2", ["a", undefined], ["b", { row: bad as never, nth: 2, gen: 1 }])]));
  const kept = await database.load("todos");
  assert.deepEqual([kept?.place.cursor, [...(kept?.rows ?? [])].length], ["e.1", 1]);
  database.close();
});

test("a client comes back from IndexedDB with everything, also without a network", async () => {
  const server = createTestServer();
  const options = { ...server.client("alice"), tabs: false };
  const first = createSync<{ todos: Todo }>({ ...options, storage: indexedDbStorage() });
  const todos = first.channel("todos");
  await todos.ready;
  await todos.create({ id: "a", title: "milk" }).confirmed;
  server.goOffline();
  await todos.create({ id: "b", title: "beer" }).local;
  await first.close();
  const second = createSync<{ todos: Todo }>({ ...options, storage: indexedDbStorage() });
  const again = second.channel("todos");
  await again.restored;
  assert.deepEqual(again.rows.map(({ id }) => id), ["a", "b"]);
  server.goOnline();
  second.connect();
  await again.ready;
  await second.catchUp();
  while (again.pending.length > 0) await new Promise((resolve) => again.onOutbox(() => resolve(undefined)));
  assert.deepEqual(server.rows<Todo>("todos").map(({ id }) => id), ["a", "b"]);
  second.setToken(null);
  while (second.identity !== undefined) await new Promise((resolve) => setImmediate(resolve));
  await second.close();
  assert.deepEqual((await indexedDB.databases()).filter(({ name }: { name?: string }) => name?.includes("=alice")), []);
});

/** Storage whose commits fail as told. */
function failing() {
  const inner = memoryDatabases();
  const state = { fails: (_: readonly Write[]): boolean => false, opens: true };
  const databases: Databases = {
    ...inner,
    async open(name, schema) {
      if (!state.opens) throw new DOMException("corrupt", "UnknownError");
      const database = await inner.open(name, schema);
      return new Proxy(database, {
        get(target, method: keyof Database) {
          if (method !== "commit") return method in target ? target[method].bind(target as never) : undefined;
          return async (writes: readonly Write[]) => {
            if (state.fails(writes)) throw new DOMException("full", "QuotaExceededError");
            await target.commit(writes);
          };
        },
      });
    },
  };
  return { state, databases, storage: storageIn(databases) };
}

test("a device that is full is told to the app, which goes on; later all is kept again", async () => {
  const world = new World();
  const errors: TidewireError[] = [];
  const { state, storage, databases } = failing();
  const sync = world.client("alice", { storage, onError: (error) => errors.push(error) });
  const todos = sync.channel("todos");
  await world.pass();
  state.fails = () => true;
  const lost = todos.create({ id: "a", title: "milk" });
  assert.equal(await fate(lost.local), "storage");
  assert.equal(errors[0]?.code, "storage");
  assert.equal((errors[0]?.cause as DOMException).name, "QuotaExceededError");
  await world.pass();
  assert.deepEqual(await lost.confirmed, { id: "a", title: "milk" });
  state.fails = () => false;
  world.server.publish("todos", "create", "b", { title: "beer" });
  await world.pass();
  assert.deepEqual(todos.rows.map(({ id }) => id), ["a", "b"]);
  const load = async () => {
    const database = await databases.open("tidewire http://sync.test/api/sync global =alice", 0);
    return database.load("todos");
  };
  // Rows after the gap are not kept without those before: the cursor would lie.
  assert.deepEqual([(await load())?.place.cursor, [...((await load())?.rows ?? [])].length], ["epoch1.0", 0]);
  await world.pass(31_000);
  assert.deepEqual([...((await load())?.rows ?? [])].map(([key]) => key), ["a", "b"]);
});

test("a write that is refused before it is kept is kept all the same, as refused", async () => {
  const world = new World();
  const { databases } = failing();
  let end = () => {};
  const storage = storageIn({
    ...databases,
    async open(name, schema) {
      const database = await databases.open(name, schema);
      return { load: (channel) => database.load(channel), outbox: () => database.outbox(), close() {}, commit: (writes) => new Promise((resolve) => (end = () => resolve(database.commit(writes)))) };
    },
  });
  const todos = world.client("alice", { storage }).channel("todos");
  await world.pass();
  end();
  await world.pass();
  world.server.reject({ code: "invalid", message: "no" });
  const { local, confirmed } = todos.create({ id: "a", title: "bad" });
  await world.pass();
  assert.deepEqual([await fate(confirmed), await fate(local)], ["invalid", "waits"]);
  end();
  assert.equal(await fate(local), undefined);
});

test("what does not fit does not take others with it", async () => {
  const world = new World();
  const { state, storage } = failing();
  const todos = world.client("alice", { storage, onError: () => {} }).channel("todos");
  await world.pass();
  state.fails = (writes) => JSON.stringify(writes).includes("huge");
  const [small, huge, other] = ["small", "huge", "other"].map((id) => todos.create({ id, title: id }));
  assert.deepEqual([await fate(small!.local), await fate(huge!.local), await fate(other!.local)], [undefined, "storage", undefined]);
});

test("a database that cannot be opened is told, and made up for in memory", async () => {
  const world = new World();
  const errors: string[] = [];
  const { state, storage } = failing();
  state.opens = false;
  const sync = world.client("alice", { storage, onError: ({ code, message }) => errors.push(`${code}: ${message}`) });
  const todos = sync.channel("todos");
  await world.pass();
  assert.deepEqual(errors, ["storage: what is kept on this device cannot be read; nothing is kept until that is mended"]);
  assert.equal(sync.status, "synced");
  await todos.create({ id: "a", title: "milk" }).local;
});

test("another schema drops rows, never writes", async () => {
  const world = new World();
  const storage = memoryStorage();
  world.server.publish("todos", "create", "a", { title: "old" });
  const before = world.client("alice", { storage, schemaVersion: 1 });
  before.channel("todos");
  await world.pass();
  world.server.goOffline();
  before.channel("todos").create({ id: "b", title: "unsent" });
  await world.pass();
  await before.close();
  const after = world.client("alice", { storage, schemaVersion: 2 });
  await world.pass();
  assert.deepEqual(after.channel("todos").rows.map(({ id }) => id), ["b"]);
});

test("what was read too late does not take the place of what has come since", async () => {
  const world = new World();
  const databases = memoryDatabases();
  const late: (() => void)[] = [];
  let isSlow = false;
  const storage = storageIn({
    ...databases,
    async open(name, schema) {
      const database = await databases.open(name, schema);
      const load = database.load.bind(database);
      database.load = async (channel) => {
        const kept = await load(channel);
        if (isSlow) await new Promise<void>((resolve) => late.push(resolve));
        return kept;
      };
      return database;
    },
  });
  const sync = world.client("alice", { storage });
  await world.pass();
  isSlow = true;
  sync.channel("todos");
  await world.pass();
  sync.channel("todos").close();
  isSlow = false;
  const todos = sync.channel("todos");
  await world.pass();
  world.server.publish("todos", "create", "a", { title: "new" });
  await world.pass();
  for (const end of late) end();
  await world.pass();
  assert.deepEqual(todos.rows.map(({ title }) => title), ["new"]);
  world.server.publish("todos", "create", "b", { title: "newer" });
  await world.pass();
  assert.equal(todos.rows.length, 2);
});

test("rows of an old version of the app, in another tab, do not mix with those of the new one", async () => {
  const databases = indexedDatabases();
  const old = await databases.open("versions", 1);
  await old.commit([rows(1, "e.1", ["a", entry("a", 1)])]);
  const newer = await databases.open("versions", 2);
  await old.commit([rows(2, "e.2", ["b", entry("b", 2)]), intent("i1")]);
  assert.equal(await newer.load("todos"), undefined);
  assert.equal((await newer.outbox()).length, 1, "writes are for either");
  await newer.commit([rows(1, "e.2", ["b", entry("b", 2)])]);
  assert.equal((await newer.load("todos"))?.place.cursor, "e.2");
  old.close();
  newer.close();
});
