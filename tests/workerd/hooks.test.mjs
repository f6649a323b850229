// The example app in TypeScript that keeps its channels' rows, as it is deployed: visitors reach the
// sync Worker through it, and it writes rows of its own.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { App } from "./fake.mjs";
import { HOOK_SECRET, bearer, has, mutation, repository, rows, secrets, start } from "./harness.mjs";

const app = "tidewire-ts-hooks";
let workers, db;
before(async () => {
  // As the comment in its wrangler.jsonc says.
  const rule = { read: "user", write: "user", source: { service: "APP_WORKER" } };
  const SYNC_CHANNELS = { "todos": rule, "todos:*": rule, "notes": rule, "other": rule };
  workers = await start({
    workers: ["hooks", "sync"],
    vars: { HOOK_SECRET, SYNC_CHANNELS },
    amend: (sync) => ({ ...sync, serviceBindings: { APP_WORKER: app } }),
  });
  db = await workers.database(app, "DB", `${repository}/examples/ts-hooks/migrations`);
});
after(() => workers?.stop());

test("visitors go through the app, and hear what it does itself", async () => {
  const space = workers.space("global");
  const [alice, bob] = [await space.join("alice", ["todos"]), await space.join("bob", ["todos"])];
  has(await alice.mutate("todos", "create", "t1", { title: "milk", done: false }), { type: "ack" });
  has(await bob.receive({ type: "change" }), { action: "create", key: "t1" });
  const finish = (id) => workers.http("/finish", { method: "POST", body: JSON.stringify(id) });
  const { status, body } = await finish("t1");
  assert.equal(status, 200, body);
  for (const client of [alice, bob]) {
    has(await client.receive({ type: "change" }), { action: "update", by: null, cursor: body, data: { id: "t1", title: "milk", done: true } });
  }
  // A row that the log does not hold: it is told whole, and nothing of it is lost.
  await db.prepare("INSERT INTO todos VALUES ('global', 'todos', 'old', 'bread', 0, ?, 0)").bind(Date.now()).run();
  const old = await finish("old");
  for (const client of [alice, bob]) {
    const { data } = await client.receive({ type: "change", key: "old", cursor: old.body });
    assert.deepEqual(data, { id: "old", title: "bread", done: true });
  }
  has(await alice.mutate("todos", "delete", "old"), { type: "ack" });
  has(await bob.receive({ type: "change" }), { action: "delete", key: "old" });
  for (const id of ["none", "old"]) assert.equal((await finish(id)).status, 404);
  const headers = bearer(space.token("carol"));
  const page = await workers.http("/api/sync/changes?channel=todos", { headers });
  assert.deepEqual(rows(page.body), { t1: { title: "milk", done: true } });
  const mutations = [mutation("m", "todos", "delete", "t1")];
  const sent = await workers.http("/api/sync/mutate", { method: "POST", headers, body: JSON.stringify({ mutations }) });
  has(sent.body.results[0], { type: "ack", data: { id: "t1" } });
  has(await bob.receive({ type: "change" }), { action: "delete", key: "t1", by: "carol" });
});

test("a channel with a suffix has rows of its own, and what no handler knows is not to be had", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos", "todos:7", "todos:8"]);
  has(await alice.mutate("todos:7", "create", "t", { title: "7" }), { type: "ack" });
  const snapshots = (await space.join("bob", ["todos", "todos:7", "todos:8"])).snapshots;
  const counts = Object.entries(snapshots).map(([channel, { data }]) => [channel, data.length]);
  assert.deepEqual(counts, [["todos", 0], ["todos:7", 1], ["todos:8", 0]]);
  has(await alice.subscribe("other"), { type: "reject", error: { code: "unavailable" } });
  assert.ok(workers.logs.some((line) => line.includes("unknown_channel")), workers.logs.join("\n"));
});

test("a field of another type is refused by its name", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos", "notes"]);
  has(await alice.mutate("todos", "create", "t", { title: "milk", done: null }), { type: "ack" });
  for (const [channel, action, field, value] of [
    ["todos", "create", "title", {}],
    ["todos", "update", "title", [1]],
    ["todos", "update", "done", 1],
    ["notes", "create", "text", true],
    ["notes", "create", "ownerId", {}],
  ]) {
    const data = { ...(channel === "notes" && { ownerId: "alice" }), [field]: value };
    has(await alice.mutate(channel, action, "t", data), { type: "reject", error: { code: "invalid", field } });
  }
});

test("who missed what the log cannot tell gets all of its notes, and none that has left its sight", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["notes"]);
  for (const key of ["kept", "left"]) has(await alice.mutate("notes", "create", key, { text: key, ownerId: "alice" }), { type: "ack" });
  const { cursor } = await alice.mutate("notes", "update", "kept", { text: "mine" });
  const { view } = alice.snapshots.notes;
  await db.prepare("UPDATE notes SET ownerId = 'bob', updated = ? WHERE space = ? AND id = 'left'").bind(Date.now(), space.name).run();
  // The app passes on what visitors ask, and this is not among it.
  const init = { method: "POST", headers: bearer(secrets.PUBLISH_KEY), body: JSON.stringify({ channel: "notes" }) };
  assert.equal((await workers.ask("tidewire-sync", `/broadcast-change?space=${space.name}`, init)).status, 200);
  const again = await alice.subscribe("notes", { cursor, view });
  assert.deepEqual([again.mode, rows(again)], ["full", { kept: { text: "mine", ownerId: "alice" } }]);
});

test("cookies and named headers of an upgrade reach the app, awake and after sleep, and those of a request", async (t) => {
  const fake = new App();
  const workers = await start({
    vars: {
      HOOK_SECRET,
      HANDSHAKE_HEADERS: "X-Tenant, X-Plan",
      HANDSHAKE_COOKIES: "session",
      SYNC_CHANNELS: { todos: { read: "user", write: "user", source: { service: "APP" } } },
    },
    amend: (sync) => ({ ...sync, serviceBindings: { APP: fake.fetch } }),
  });
  t.after(() => workers.stop());
  const space = workers.space();
  const brought = (tenant) => ({
    ...bearer(space.token("alice")),
    "cookie": `theme=dark; session=of-${tenant}`,
    "x-tenant": tenant,
    "x-other": "unnamed",
  });
  const told = (tenant) => ({ "cookie": `session=of-${tenant}`, "x-tenant": tenant });
  /** What the app was told since it was last looked at, by operation. */
  const asked = () => fake.asked.splice(0).map(({ operation, request }) => [operation, request.headers]);
  const path = `${space.path}?lang=de`;
  const { client } = await workers.upgrade(path, { headers: brought("t1") });
  client.send({ type: "hello", v: 1, subscribe: [{ id: "todos", channel: "todos" }] });
  await client.receive({ type: "snapshot" });
  assert.equal(new URL(fake.asked[0].request.url).search, "?lang=de");
  has(await client.mutate("todos", "create", "a", { n: 1 }), { type: "ack" });
  assert.deepEqual(asked(), [["fetch", told("t1")], ["create", told("t1")]]);
  await space.sleep();
  has(await client.mutate("todos", "update", "a", { n: 2 }), { type: "ack" });
  assert.deepEqual(asked(), [["update", told("t1")]]);
  const { body } = await workers.http(`/api/sync/mutate?space=${space.name}`, {
    method: "POST",
    headers: brought("t2"),
    body: JSON.stringify({ mutations: [mutation("m", "todos", "update", "a", { n: 3 })] }),
  });
  has(body.results[0], { type: "ack", data: { n: 3 } });
  assert.deepEqual(asked(), [["update", told("t2")]]);
  has(await client.receive({ type: "change" }), { data: { n: 3 } });
  has(await client.mutate("todos", "delete", "a"), { type: "ack" });
  assert.deepEqual(asked(), [["delete", told("t1")]]);
});

test("nobody asks the app but who has the secret", async () => {
  const ask = (headers) => workers.http("/sync-hooks/fetch", { method: "POST", headers, body: JSON.stringify({ v: 1, operation: "fetch" }) });
  const forged = { "webhook-id": "1", "webhook-timestamp": `${Math.floor(Date.now() / 1000)}`, "webhook-signature": "v1,AAAA" };
  for (const headers of [{}, forged]) {
    const { status, body } = await ask(headers);
    assert.deepEqual([status, body.error.code], [401, "bad_signature"]);
  }
});

test("what was deleted long ago is forgotten by the cron trigger, and nothing else", async () => {
  const long = Date.now() - 8 * 24 * 60 * 60 * 1_000;
  const insert = (id, updated, deleted) => db.prepare("INSERT INTO todos VALUES ('s', 'todos', ?, '', 0, ?, ?)").bind(id, updated, deleted).run();
  await insert("kept", long, 0);
  await insert("late", Date.now(), 1);
  await insert("old", long, 1);
  assert.equal(await workers.trigger(app), "ok");
  const { results } = await db.prepare("SELECT id FROM todos WHERE space = 's' ORDER BY id").all();
  assert.deepEqual(results.map(({ id }) => id), ["kept", "late"]);
});
