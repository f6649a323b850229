// The same conversations wherever the rows live: in the object, in D1, in the app, in Postgres.
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { HOOK_SECRET, repository, settings, start } from "./harness.mjs";
import { programs, startPostgres } from "./postgres.mjs";
import { conversations, outsideConversations } from "./sources.mjs";
import { Talk } from "./talk.mjs";

/** The channels, with what their rows live in. */
const channels = (todos, notes = todos, scope = { field: "ownerId" }) => ({
  todos: { read: "user", write: "user", presence: true, signals: true, ...(todos && { source: todos }) },
  notes: { read: "user", write: "user", ...(scope && { scope }), ...(notes && { source: notes }) },
});

/** The channels of an example, with presence and signals. */
function presented(file) {
  const { SYNC_CHANNELS: channels } = settings(file);
  return { SYNC_CHANNELS: { ...channels, todos: { ...channels.todos, presence: true, signals: true } } };
}

/** Has all conversations in a home. */
function suite(name, { skip = false, isOutside = true }, open) {
  describe(name, { skip }, () => {
    let home;
    const stops = [];
    before(async () => (home = await open(stops)));
    after(async () => {
      for (const stop of stops.toReversed()) await stop();
    });
    for (const [name, converse] of Object.entries(conversations)) {
      test(name, (t) => converse(new Talk(home), t));
    }
    for (const [name, converse] of Object.entries(outsideConversations)) {
      test(name, { skip: isOutside ? false : "nothing is outside" }, (t) => converse(new Talk(home), t));
    }
  });
}

async function started(stops, options) {
  const workers = await start(options);
  stops.push(() => workers.stop());
  return workers;
}

suite("rows in the object", { isOutside: false }, async (stops) => ({
  workers: await started(stops, { vars: { SYNC_CHANNELS: channels() } }),
}));

suite("rows in D1", {}, async (stops) => {
  // The deletes of notes are hard, and their times are texts.
  const workers = await started(stops, { workers: ["app", "d1"], vars: presented("examples/d1/wrangler.jsonc") });
  const db = await workers.database("tidewire-sync", "DB", `${repository}/examples/d1/migrations`);
  const run = (sql, ...values) => db.prepare(sql).bind(...values).run();
  const put = {
    todos: (space, { id, title, done }) =>
      run("INSERT OR REPLACE INTO todos VALUES (?, ?, ?, ?, ?, NULL)", space, id, title, Number(done), Date.now()),
    notes: (space, { id, text, ownerId }) =>
      run("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?)", id, text, ownerId, new Date().toISOString(), space),
  };
  const remove = {
    todos: (key) => run("UPDATE todos SET updated_at = ?1, deleted_at = ?1 WHERE id = ?2", Date.now(), key),
    notes: (key) => run("DELETE FROM notes WHERE id = ?", key),
  };
  return { workers, outside: { put: (space, table, row) => put[table](space, row), remove: (_, table, key) => remove[table](key) } };
});

const app = "tidewire-ts-hooks";
const migrations = `${repository}/examples/ts-hooks/migrations`;

/** Writes of the example's own, past the sync Worker. */
async function inApp(workers) {
  const db = await workers.database(app, "DB", migrations);
  const values = { todos: ({ title, done }) => [title, Number(done)], notes: ({ text, ownerId }) => [text, ownerId] };
  const run = (sql, ...values) => db.prepare(sql).bind(...values).run();
  const put = (space, table, row) =>
    run(`INSERT OR REPLACE INTO ${table} VALUES (?, ?, ?, ?, ?, ?, 0)`, space, table, row.id, ...values[table](row), Date.now());
  const remove = (space, table, key) => {
    const sql = `UPDATE ${table} SET deleted = 1, updated = ? WHERE space = ? AND channel = ? AND id = ?`;
    return run(sql, Date.now(), space, table, key);
  };
  return { put, remove };
}

// Who may see a note is said by the app alone.
suite("rows in the app, through a binding", {}, async (stops) => {
  const vars = { HOOK_SECRET, SYNC_CHANNELS: channels({ service: "APP_WORKER" }, undefined, null) };
  const amend = (sync) => ({ ...sync, serviceBindings: { APP_WORKER: app } });
  const workers = await started(stops, { workers: ["app", "sync", "hooks"], vars, amend });
  return { workers, outside: await inApp(workers) };
});

suite("rows in the app, at a URL", {}, async (stops) => {
  const there = await started(stops, { workers: ["hooks"] });
  const vars = { HOOK_SECRET, SYNC_CHANNELS: channels({ url: there.origin }, undefined, null) };
  return { workers: await started(stops, { vars }), outside: await inApp(there) };
});

const bin = programs();
suite("rows in Postgres", { skip: bin ? false : "no PostgreSQL" }, async (stops) => {
  const postgres = await startPostgres(bin);
  stops.push(() => postgres.stop());
  await postgres.sql(readFileSync(`${repository}/examples/rust-postgres/schema.sql`, "utf8"));
  const source = (handler) => ({ handler, authorize: false });
  const vars = { SYNC_CHANNELS: channels(source("todos"), source("notes")) };
  const workers = await started(stops, { workers: ["app", "postgres"], postgres: postgres.url, vars });
  const text = (value) => `'${value}'`;
  const values = {
    todos: ({ title, done }) => [["title", text(title)], ["done", done]],
    notes: ({ text: words, ownerId }) => [["text", text(words)], ["owner_id", text(ownerId)]],
  };
  const at = (space, key) => `space = ${text(space)} AND id = ${text(key)}`;
  const put = (space, table, row) => {
    const cells = [["space", text(space)], ["id", text(row.id)], ...values[table](row)];
    const [names, given] = [0, 1].map((part) => cells.map((cell) => cell[part]).join(", "));
    return postgres.sql(`DELETE FROM ${table} WHERE ${at(space, row.id)}; INSERT INTO ${table} (${names}) VALUES (${given})`);
  };
  const remove = (space, table, key) =>
    postgres.sql(`UPDATE ${table} SET updated_at = tidewire_now(), deleted_at = tidewire_now() WHERE ${at(space, key)}`);
  return { workers, outside: { put, remove } };
});
