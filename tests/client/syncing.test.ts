// Conversations of clients with a server: live rows, optimistic writes, rollback, coming back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { World, fate, storage, type Todo } from "./world.ts";

const ids = (rows: readonly { id: string }[]) => rows.map(({ id }) => id);

test("a client gets what is there, then every change", async () => {
  const world = new World();
  world.server.publish("todos", "create", "a", { title: "milk" });
  const sync = world.client();
  const todos = sync.channel("todos");
  assert.equal(sync.status, "offline");
  assert.equal(await fate(todos.ready), "waits");
  await world.pass();
  assert.equal(await fate(todos.ready), undefined);
  assert.equal(sync.status, "synced");
  assert.equal(sync.identity, "alice");
  assert.deepEqual(todos.rows, [{ id: "a", title: "milk" }]);
  world.server.publish("todos", "update", "a", { done: true });
  await world.pass();
  assert.deepEqual(todos.get("a"), { id: "a", title: "milk", done: true });
  world.server.publish("todos", "delete", "a");
  await world.pass();
  assert.deepEqual(todos.rows, []);
});

test("a write is seen at once, kept, confirmed, and seen by others", async () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [mine, his] = [alice.channel("todos"), bob.channel("todos")];
  await world.pass();
  const { local, confirmed } = mine.create({ id: "a", title: "milk" });
  assert.deepEqual(mine.rows, [{ id: "a", title: "milk" }]);
  assert.equal(alice.status, "syncing");
  assert.equal(mine.pending.length, 1);
  await local;
  assert.equal(await fate(confirmed), "waits");
  await world.pass();
  assert.deepEqual(await confirmed, { id: "a", title: "milk" });
  assert.equal(mine.pending.length, 0);
  assert.equal(alice.status, "synced");
  assert.deepEqual(his.rows, mine.rows);
  his.update("a", { done: true });
  mine.update("a", { title: "beer" });
  await world.pass();
  assert.deepEqual(mine.rows, [{ id: "a", title: "beer", done: true }]);
  assert.deepEqual(his.rows, mine.rows);
  his.delete("a");
  await world.pass();
  assert.deepEqual([mine.rows, his.rows, world.server.rows("todos")], [[], [], []]);
});

test("a refused write is rolled back alone: later ones stay", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  todos.create({ id: "a", title: "milk" });
  await world.pass();
  world.server.reject(({ data }) => (data?.["title"] === "bad" ? { code: "invalid", message: "no", retryable: false, field: "title" } : undefined));
  const bad = todos.update("a", { title: "bad" });
  const good = todos.update("a", { done: true });
  const other = todos.create({ id: "b", title: "tea" });
  assert.deepEqual(todos.get("a"), { id: "a", title: "bad", done: true });
  await world.pass();
  assert.equal(await fate(bad.confirmed), "invalid");
  assert.deepEqual(await good.confirmed, { id: "a", title: "milk", done: true });
  await other.confirmed;
  assert.deepEqual(todos.rows, [{ id: "a", title: "milk", done: true }, { id: "b", title: "tea" }]);
  assert.deepEqual(todos.rejected.map(({ id, error }) => [id, error.code, error.field]), [[bad.id, "invalid", "title"]]);
  assert.equal(sync.status, "synced");
  world.server.accept();
  const again = todos.retry(bad.id);
  assert.equal(todos.rejected.length, 0);
  await world.pass();
  assert.deepEqual(await again?.confirmed, { id: "a", title: "bad", done: true });
});

test("what is written offline is seen, and sent in order on return", async () => {
  const world = new World();
  const [alice, bob] = [world.client("alice"), world.client("bob")];
  const [mine, his] = [alice.channel("todos"), bob.channel("todos")];
  await world.pass();
  alice.disconnect();
  assert.equal(alice.status, "offline");
  mine.create({ id: "a", title: "1" });
  mine.update("a", { title: "2" });
  mine.create({ id: "b", title: "x" });
  mine.delete("b");
  his.create({ id: "c", title: "his" });
  await world.pass();
  assert.deepEqual(mine.rows, [{ id: "a", title: "2" }]);
  alice.connect();
  await world.pass();
  assert.deepEqual(ids(mine.rows).sort(), ["a", "c"]);
  assert.deepEqual(his.get("a"), { id: "a", title: "2" });
  assert.equal(mine.pending.length, 0);
});

test("a write whose answer was lost is sent again and happens once", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  let cut = true;
  world.server.faults.cut = (to, text) => to === "client" && text.includes('"ack"') && cut && !(cut = false);
  const written = todos.create({ id: "a", title: "milk" });
  await world.pass(5_000);
  assert.deepEqual(await written.confirmed, { id: "a", title: "milk" });
  assert.equal(world.server.log.seq, 1);
  assert.deepEqual(todos.rows, [{ id: "a", title: "milk" }]);
  assert.equal(todos.pending.length, 0);
});

test("after a reload rows, cursor and outbox are there before any connection", async () => {
  const world = new World();
  const kept = storage();
  world.server.publish("todos", "create", "a", { title: "milk" });
  const before = world.client("alice", { storage: kept });
  before.channel("todos");
  await world.pass();
  before.disconnect();
  before.channel("todos").create({ id: "b", title: "beer" });
  await world.pass();
  await before.close();
  world.server.goOffline();
  const after = world.client("alice", { storage: kept });
  const todos = after.channel("todos");
  await world.pass();
  assert.equal(await fate(todos.restored), undefined);
  assert.deepEqual(ids(todos.rows), ["a", "b"]);
  assert.equal(todos.pending.length, 1);
  const asked: string[] = [];
  world.server.faults.cut = (to, text) => (to === "server" && asked.push(text), false);
  world.server.goOnline();
  await world.pass(5_000);
  assert.equal(todos.pending.length, 0);
  assert.deepEqual(ids(world.server.rows("todos")), ["a", "b"]);
  assert.match(asked[0] ?? "", /"cursor":"epoch1\.1","view":"view-alice"/);
});

test("pages follow one another, and what is stale goes with the last", async () => {
  const world = new World();
  for (let i = 0; i < 5; i += 1) world.server.publish("todos", "create", `k${i}`, { title: `${i}` });
  const sync = world.client("alice", { batchSize: 2 });
  const todos = sync.channel("todos");
  const seen: number[] = [];
  todos.subscribe(({ rows }) => seen.push(rows.length));
  await world.pass();
  assert.deepEqual(seen, [2, 4, 5]);
  // While all is fetched anew nothing vanishes that is still there.
  sync.disconnect();
  world.server.publish("todos", "delete", "k0");
  world.server.newEpoch();
  seen.length = 0;
  sync.connect();
  await world.pass();
  assert.deepEqual(seen, [4]);
  assert.deepEqual(ids(todos.rows), ["k1", "k2", "k3", "k4"]);
});

test("a listener is told once for a batch", async () => {
  const world = new World();
  const todos = world.client().channel("todos");
  await world.pass();
  const batches: string[][] = [];
  todos.subscribe(({ changes }) => batches.push(changes.map(({ key }) => key)));
  world.server.publishAll("todos", [
    { action: "create", key: "a" },
    { action: "create", key: "b" },
    { action: "update", key: "a", data: { done: true } },
  ]);
  await world.pass();
  assert.deepEqual(batches, [["a", "b"]]);
});

test("rows keep their identity where nothing changes", async () => {
  const world = new World();
  const todos = world.client().channel("todos");
  await world.pass();
  todos.create({ id: "a", title: "milk" });
  const [rows, row] = [todos.rows, todos.get("a")];
  await world.pass();
  assert.equal(todos.rows, rows);
  assert.equal(todos.get("a"), row);
});

test("a reset makes the app hear of it and fetches everything", async () => {
  const world = new World();
  const resets: string[][] = [];
  const sync = world.client("alice", { onReset: (channel, reason) => resets.push([channel, reason]) });
  const todos = sync.channel("todos");
  await world.pass();
  world.server.publish("todos", "create", "a", { title: "milk" });
  await world.pass();
  world.server.reset("todos", "topics");
  await world.pass();
  assert.deepEqual(resets, [["todos", "topics"]]);
  assert.deepEqual(ids(todos.rows), ["a"]);
  assert.equal(sync.status, "synced");
});

test("a channel that is refused says so, and the others go on", async () => {
  const world = new World({ channels: { todos: {}, secret: { read: "none" } } });
  const sync = world.client();
  const [todos, secret, nowhere] = [sync.channel("todos"), sync.channel("secret"), sync.channel("nowhere")];
  await world.pass();
  assert.deepEqual([await fate(todos.ready), await fate(secret.ready), await fate(nowhere.ready)], [undefined, "forbidden", "unknown_channel"]);
  assert.equal(secret.error?.code, "forbidden");
  assert.equal(sync.status, "synced");
});

test("rows of others are not seen, and one that leaves sight goes", async () => {
  const world = new World({ channels: { notes: { scope: { field: "for" } } } });
  const [alice, bob] = [world.client("alice").channel("notes"), world.client("bob").channel("notes")];
  world.server.publish("notes", "create", "n", { for: ["alice", "bob"], title: "x" });
  await world.pass();
  assert.deepEqual([ids(alice.rows), ids(bob.rows)], [["n"], ["n"]]);
  world.server.publish("notes", "update", "n", { for: "bob" });
  await world.pass();
  assert.deepEqual([ids(alice.rows), ids(bob.rows)], [[], ["n"]]);
  const refused = alice.create({ id: "m", title: "x", for: "bob" });
  await world.pass();
  assert.equal(await fate(refused.confirmed), "forbidden");
  assert.deepEqual(ids(alice.rows), []);
});

test("a write that the server cannot take now is tried again", async () => {
  const world = new World();
  const todos = world.client().channel("todos");
  await world.pass();
  world.server.reject({ code: "unavailable", message: "later", retryable: true, retryAfterMs: 3_000 });
  const { confirmed } = todos.create({ id: "a", title: "milk" });
  await world.pass(2_900);
  assert.equal(await fate(confirmed), "waits");
  assert.equal(todos.rejected.length, 0);
  world.server.accept();
  await world.pass(2_000);
  assert.deepEqual(await confirmed, { id: "a", title: "milk" });
});

test("somebody else's change of the same field is the app's to decide", async () => {
  const world = new World();
  const asked: unknown[] = [];
  let answer: "mine" | "theirs" | { title: string } = "mine";
  const sync = world.client("alice", {
    onConflict(channel, key, fields, { mine, theirs, base }) {
      asked.push([channel, key, fields, mine, theirs["title"], base?.["title"]]);
      return answer;
    },
  });
  const todos = sync.channel("todos");
  world.server.publish("todos", "create", "a", { title: "base" });
  await world.pass();
  const outcomes: unknown[] = [];
  for (answer of ["mine", "theirs", { title: "merged" }] as const) {
    sync.disconnect();
    const { confirmed } = todos.update("a", { title: "mine", done: true });
    world.server.publish("todos", "update", "a", { title: `theirs ${JSON.stringify(answer)}` });
    sync.connect();
    await world.pass();
    outcomes.push(await fate(confirmed));
  }
  assert.deepEqual(asked[0], ["todos", "a", ["title"], { title: "mine", done: true }, 'theirs "mine"', "base"]);
  assert.deepEqual(outcomes, [
    { id: "a", title: "mine", done: true },
    { id: "a", title: 'theirs "theirs"', done: true },
    { id: "a", title: "merged", done: true },
  ]);
});

test("catchUp is done when everything new is here", async () => {
  const world = new World();
  const sync = world.client();
  const todos = sync.channel("todos");
  await world.pass();
  const caught = sync.catchUp();
  assert.equal(sync.status, "syncing");
  await world.pass();
  await caught;
  assert.deepEqual(todos.rows, []);
});

test("keys and fields with dangerous names are only names", async () => {
  const world = new World();
  const todos = world.client().channel("todos");
  await world.pass();
  world.server.publishAll("todos", [{ action: "create", key: "__proto__", data: { title: "x" } }, { action: "create", key: "constructor" }]);
  await world.pass();
  assert.deepEqual(ids(todos.rows), ["__proto__", "constructor"]);
  assert.equal(todos.get("toString"), undefined);
  const refused = todos.create(JSON.parse('{"id":"a","title":"","__proto__":{"x":1}}') as Todo);
  assert.equal((todos.get("a") as { x?: number }).x, undefined);
  todos.create({ id: "b", title: "", deep: JSON.parse('{"__proto__":{"x":1}}') });
  await world.pass();
  assert.equal(await fate(refused.confirmed), "invalid");
  assert.equal(JSON.stringify(todos.get("b")), '{"id":"b","title":"","deep":{"__proto__":{"x":1}}}');
});
