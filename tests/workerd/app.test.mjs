// The example app whose rows are its own, in workerd and on a real D1, asked as the sync Worker asks.
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { HOOK_SECRET, repository, start } from "./harness.mjs";

let workers, db;
before(async () => {
  workers = await start({ workers: ["hooks"] });
  db = await workers.database("tidewire-ts-hooks", "DB", `${repository}/examples/ts-hooks/migrations`);
});
after(() => workers?.stop());

/** Asks the app, as alice on `todos` if nothing else is said. */
async function ask(operation, more = {}, { secret = HOOK_SECRET } = {}) {
  const identity = more.identity ?? "alice";
  const body = JSON.stringify({
    v: 1,
    operation,
    space: "global",
    channel: "todos",
    session: "s1",
    identity,
    topics: [`user:${identity}`],
    claims: { sub: identity },
    context: null,
    request: { url: "https://app.example.com/api/sync", headers: { cookie: "session=x" } },
    ...(operation === "fetch" ? { since: null, page: { token: null, limit: 500 } } : { id: randomUUID() }),
    authorize: true,
    ...more,
  });
  const [id, timestamp] = [randomUUID(), Math.floor(Date.now() / 1_000)];
  const signature = createHmac("sha256", secret).update(`${id}.${timestamp}.${body}`).digest("base64");
  const headers = {
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    "webhook-signature": `v1,${signature}`,
  };
  const { status, body: answer } = await workers.http(`/sync-hooks/${operation}`, { method: "POST", body, headers });
  return status === 200 ? answer : [status, answer.error.code];
}

const todo = (id, more) => ({ id, title: "milk", done: false, ...more });
const note = (id, more) => ({ id, text: "hi", ownerId: "alice", ...more });
const notes = (more) => ({ channel: "notes", ...more });
const bob = (more) => notes({ identity: "bob", ...more });
const create = (row, more) => ask("create", { key: row.id, data: row, ...more });
const update = (key, data, more) => ask("update", { key, data, ...more });
const remove = (key, more) => ask("delete", { key, data: null, ...more });
/** A row as whoever asks gets it. */
const held = async (id, more) => (await ask("fetch", more)).rows.find((row) => row.id === id);
const noted = async (id) => (await db.prepare("SELECT COUNT(*) AS n FROM mutations WHERE id = ?").bind(id).first()).n;

test("nobody is answered whose signature is of another secret", async () => {
  assert.deepEqual(await ask("fetch", {}, { secret: "guess" }), [401, "bad_signature"]);
});

describe("a todo of the app", () => {
  test("is created, replaced, merged and deleted, for all to see", async () => {
    const id = randomUUID();
    assert.deepEqual(await create(todo(id)), { row: todo(id), to: "all" });
    assert.deepEqual(await create(todo(id, { title: "tea" })), { row: todo(id, { title: "tea" }), to: "all", before: "all" });
    const done = todo(id, { title: null, done: true });
    assert.deepEqual(await update(id, { title: null, done: true }), { row: done, to: "all", before: "all" });
    assert.deepEqual(await held(id), done);
    assert.deepEqual(await remove(id), { row: null, to: "all", before: "all" });
    assert.equal(await held(id), undefined);
    assert.deepEqual(await update(id, { done: true }), [404, "not_found"]);
    assert.deepEqual(await remove(id), [404, "not_found"]);
    assert.deepEqual(await create(todo(id)), { row: todo(id), to: "all" });
  });

  test("is of its space and of its channel", async () => {
    const id = randomUUID();
    await create(todo(id));
    await create(todo(id, { title: "there" }), { space: "team-7" });
    await create(todo(id, { title: "below" }), { channel: "todos:x" });
    const title = async (more) => (await held(id, more)).title;
    assert.deepEqual([await title(), await title({ space: "team-7" }), await title({ channel: "todos:x" })], ["milk", "there", "below"]);
  });

  test("is fetched in pages, all of it or what has changed since", async () => {
    const channel = `todos:${randomUUID()}`;
    for (const id of ["c", "a", "b"]) await create(todo(id), { channel });
    const all = await ask("fetch", { channel, page: { token: null, limit: 2 } });
    assert.deepEqual(all, { rows: [todo("a"), todo("b")], deleted: [], next: "b", full: true });
    const rest = await ask("fetch", { channel, page: { token: "b", limit: 2 } });
    assert.deepEqual(rest, { rows: [todo("c")], deleted: [], next: null, full: true });
    const since = Date.now();
    while (Date.now() === since);
    await remove("b", { channel });
    await update("c", { done: true }, { channel });
    const changed = { rows: [todo("c", { done: true })], deleted: ["b"], next: null, full: false };
    assert.deepEqual(await ask("fetch", { channel, since }), changed);
    assert.deepEqual(await ask("fetch", { channel, page: { token: null, limit: 2 } }), { rows: [todo("a"), todo("c", { done: true })], deleted: [], next: null, full: true });
  });
});

describe("a note of the app", () => {
  test("is its owner's alone, and out of sight is not there", async () => {
    const id = randomUUID();
    assert.deepEqual(await create(note(id), notes()), { row: note(id), to: ["user:alice"] });
    assert.equal((await ask("fetch", notes())).rows.some((row) => row.id === id), true);
    assert.equal((await ask("fetch", bob())).rows.some((row) => row.id === id), false);
    assert.deepEqual(await update(id, { text: "ho" }, bob()), [404, "not_found"]);
    assert.deepEqual(await update(id, { ownerId: "bob" }, bob()), [404, "not_found"]);
    assert.deepEqual(await remove(id, bob()), [404, "not_found"]);
    assert.deepEqual(await create(note(id, { ownerId: "bob" }), bob()), [403, "forbidden"]);
    assert.deepEqual(await update(id, { text: "ho" }, notes()), { row: note(id, { text: "ho" }), to: ["user:alice"], before: ["user:alice"] });
    assert.deepEqual(await remove(id, notes()), { row: null, to: ["user:alice"], before: ["user:alice"] });
    assert.deepEqual(await create(note(id, { ownerId: "bob" }), bob()), { row: note(id, { ownerId: "bob" }), to: ["user:bob"] });
  });

  test("cannot be given away, nor be without an owner", async () => {
    const id = randomUUID();
    assert.deepEqual(await create(note(id, { ownerId: "bob" }), notes()), [403, "forbidden"]);
    assert.deepEqual(await create(note(id, { ownerId: undefined }), notes()), [400, "invalid"]);
    await create(note(id), notes());
    assert.deepEqual(await update(id, { ownerId: "bob" }, notes()), [403, "forbidden"]);
    assert.deepEqual(await update(id, { ownerId: null }, notes()), [400, "invalid"]);
  });
});

describe("a mutation of the app", () => {
  test("is executed once, however often it is asked for, and not remembered where it is refused", async () => {
    const [key, id] = [randomUUID(), randomUUID()];
    assert.deepEqual(await update(key, { done: true }, { id }), [404, "not_found"]);
    assert.equal(await noted(id), 0);
    await create(todo(key), { id });
    await update(key, { done: true });
    assert.deepEqual(await create(todo(key), { id }), { row: todo(key, { done: true }), to: "all", before: "all", repeated: true });
    assert.equal(await noted(id), 1);
    // The id is another one for somebody else.
    assert.deepEqual(await create(todo(key), { id, identity: "bob" }), { row: todo(key), to: "all", before: "all" });
  });

  test("whose copies race is executed by one of them", async () => {
    const [key, id] = [randomUUID(), randomUUID()];
    const answers = await Promise.all(Array.from({ length: 8 }, () => create(todo(key), { id })));
    assert.deepEqual(answers.map(({ row }) => row), Array.from({ length: 8 }, () => todo(key)));
    assert.equal(answers.filter(({ repeated }) => !repeated).length, 1);
    assert.equal(await noted(id), 1);
  });

  test("that is a delete says so when it comes again", async () => {
    const [key, id] = [randomUUID(), randomUUID()];
    await create(todo(key));
    await remove(key, { id });
    assert.deepEqual(await remove(key, { id }), { row: null, repeated: true });
  });
});
