// The example whose rows live in Postgres, when Postgres is slow, away or of another mind. What it does
// when all is well is held by sources.test.mjs.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { bearer, has, mutation, repository, rows, start, within } from "./harness.mjs";
import { programs, startPostgres } from "./postgres.mjs";

const bin = programs();
const schema = readFileSync(`${repository}/examples/rust-postgres/schema.sql`, "utf8");

/** The example's channels; it is not waited for as long as it would be. */
const channel = (handler, more) => ({ read: "user", write: "user", source: { handler, authorize: false, timeout: 2 }, ...more });
const vars = { SYNC_CHANNELS: { todos: channel("todos"), notes: channel("notes", { scope: { field: "ownerId" } }) } };

/** Asks for a change over HTTP: its `ack` or `reject`. */
async function ask(space, who, action, table, key, data, id = randomUUID()) {
  const { body } = await space.workers.http(`/api/sync/mutate?space=${space.name}`, {
    method: "POST",
    headers: bearer(space.token(who)),
    body: JSON.stringify({ mutations: [mutation(id, table, action, key, data)] }),
  });
  return body.results?.[0] ?? body;
}

/** What asking, or a page, is answered with: "ack", "snapshot", or the error's code. */
const code = async (...asked) => outcome(await ask(...asked));
const outcome = ({ type, error }) => error?.code ?? type;

async function page(space, who, table) {
  const path = `/api/sync/changes?space=${space.name}&channel=${table}`;
  return (await space.workers.http(path, { headers: bearer(space.token(who)) })).body;
}

describe("rows in Postgres", { skip: bin ? false : "no PostgreSQL" }, () => {
  let postgres, workers, space;
  before(async () => {
    postgres = await startPostgres(bin);
    await postgres.sql(schema);
    workers = await start({ workers: ["app", "postgres"], postgres: postgres.url, vars });
    space = open(workers);
  });
  after(async () => {
    await workers?.stop();
    await postgres?.stop();
  });
  const open = (workers) => Object.assign(workers.space(), { workers });

  /** Waits until so many statements wait for a lock. */
  async function waiting(count) {
    const until = Date.now() + 5_000;
    const sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while (Number((await postgres.sql(sql))[0]) !== count) {
      assert.ok(Date.now() < until, `not ${count} statements wait for a lock`);
    }
  }

  /** Does something while a statement's locks are held. */
  async function locked(statement, work) {
    const lock = postgres.session();
    await lock.say(`BEGIN; ${statement}`);
    try {
      return await work();
    } finally {
      await lock.end();
    }
  }

  test("what breaks a rule is refused, by the field's name where that is known", async () => {
    const refused = async (data, key = "bad") => {
      const { error } = await ask(space, "alice", "create", "todos", key, data);
      return [error.code, error.field];
    };
    assert.deepEqual(await refused({ title: 3 }), ["invalid", "title"]);
    assert.deepEqual(await refused({ done: "yes" }), ["invalid", "done"]);
    assert.deepEqual(await refused({ "title = ''; --": 1 }), ["invalid", "title = ''; --"]);
    assert.deepEqual(await refused({ title: "x".repeat(501) }), ["invalid", "data"]);
    assert.deepEqual(await refused({ title: "a\0b" }), ["invalid", "data"]);
    assert.equal(await code(space, "alice", "create", "todos", "bad", { title: "it's" }), "ack");
  });

  test("two spaces have rows, keys and ids of their own", async () => {
    const [one, other] = [open(workers), open(workers)];
    for (const [table, data] of [["todos", { title: "one" }], ["notes", { text: "one", ownerId: "alice" }]]) {
      const create = (space, more) => ask(space, "alice", "create", table, "twins", { ...data, ...more }, `twins-${table}`);
      has(await create(one), { type: "ack", replayed: false });
      assert.deepEqual(rows(await page(other, "alice", table)), {});
      for (const [action, fields] of [["update", {}], ["delete", undefined]]) {
        assert.equal(await code(other, "alice", action, table, "twins", fields), "not_found");
      }
      const word = table === "todos" ? "title" : "text";
      has(await create(other, { [word]: "other" }), { type: "ack", replayed: false, data: { [word]: "other" } });
      assert.equal(rows(await page(one, "alice", table)).twins[word], "one");
      assert.equal(await code(other, "alice", "delete", table, "twins"), "ack");
      assert.equal(rows(await page(one, "alice", table)).twins[word], "one");
      assert.deepEqual(await postgres.sql(`SELECT count(*) FROM tidewire_outcomes WHERE id = 'twins-${table}'`), ["2"]);
    }
  });

  test("of two of one mutation at once, one is executed and the other may try again", async () => {
    const update = () => ask(space, "alice", "update", "todos", "once", { done: true }, "once");
    assert.equal(await code(space, "alice", "create", "todos", "once", {}), "ack");
    const [hash] = await postgres.sql(`SELECT hash FROM tidewire_outcomes WHERE space = '${space.name}' AND owner = 'ialice' LIMIT 1`);
    // The other, in a transaction that is not over: the id is alice's, in this space.
    const record = (owner, at = space.name) => `INSERT INTO tidewire_outcomes VALUES ('${at}', '${owner}', 'once', '${hash}', 0)`;
    const other = postgres.session();
    await other.say(`BEGIN; ${record("ialice")}`);
    const asked = update();
    await waiting(1);
    await other.say("COMMIT");
    await other.end();
    assert.equal(outcome(await asked), "unavailable");
    has(await update(), { error: { code: "conflict" } });
    assert.deepEqual(await postgres.sql(`SELECT done IS NULL FROM todos WHERE space = '${space.name}' AND id = 'once'`), ["t"]);
    // Neither that of another space nor of whoever is called like an owner.
    await postgres.sql(`DELETE FROM tidewire_outcomes WHERE id = 'once'; ${record("ialice", "elsewhere")}; ${record("alice")}`);
    has(await update(), { type: "ack", replayed: false, data: { done: true } });
  });

  test("who has no identity has ids of its own, and none that an identity could be called", async () => {
    const open = { read: "anyone", write: "anyone" };
    const SYNC_CHANNELS = { todos: channel("todos", open), notes: channel("notes", open) };
    const from = await start({ workers: ["app", "postgres"], postgres: postgres.url, vars: { SYNC_CHANNELS } });
    try {
      const space = Object.assign(from.space("global"), { workers: from });
      const nobody = await space.join(null, ["todos"]);
      const owner = `session:${nobody.welcome.session}`;
      has(await nobody.mutate("todos", "create", "theirs", { title: "1" }, "same"), { type: "ack", replayed: false });
      has(await ask(space, owner, "create", "todos", "theirs", { title: "1" }, "same"), { type: "ack", replayed: false });
      has(await nobody.mutate("notes", "create", "n", { text: "?" }), { error: { code: "forbidden" } });
    } finally {
      await from.stop();
    }
  });

  test("who missed what the log cannot tell gets all of its notes, and none that has left its sight", async () => {
    const space = open(workers);
    const alice = await space.join("alice", ["notes"]);
    for (const key of ["kept", "left"]) has(await alice.mutate("notes", "create", key, { text: key, ownerId: "alice" }), { type: "ack" });
    const { cursor } = await alice.mutate("notes", "update", "kept", { text: "mine" });
    const { view } = alice.snapshots.notes;
    await postgres.sql(`UPDATE notes SET owner_id = 'bob', updated_at = tidewire_now() WHERE space = '${space.name}' AND id = 'left'`);
    await space.post("/broadcast-change", { channel: "notes" });
    await alice.receive({ type: "channel-change" });
    const again = await alice.subscribe("notes", { cursor, view });
    assert.deepEqual([again.mode, rows(again)], ["full", { kept: { text: "mine", ownerId: "alice" } }]);
  });

  test("whoever stops waiting leaves no connection, and what still happened is known", async () => {
    const late = ["alice", "update", "todos", "late", { title: "late" }, randomUUID()];
    assert.equal(await code(space, "alice", "create", "todos", "late", {}), "ack");
    const bob = await space.join("bob", ["todos"]);
    await locked("LOCK todos", async () => {
      has(await ask(space, ...late), { type: "reject", error: { code: "unavailable", retryable: true } });
      assert.equal(await code(space, "alice", "create", "notes", "meanwhile", { ownerId: "alice" }), "ack");
    });
    has(await bob.receive({ type: "change", key: "late" }), { data: { title: "late" } });
    has(await ask(space, ...late), { type: "ack", replayed: true, data: { title: "late" } });
    await waiting(0);
    const open = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    const until = Date.now() + 5_000;
    while ((await postgres.sql(open))[0] !== "0") assert.ok(Date.now() < until, "connections stay open");
  });

  test("a statement that is ended or too slow, or a database that is not as it should be, is told as such", async () => {
    assert.equal(await code(space, "alice", "create", "todos", "slow", {}), "ack");
    const update = (title) => code(space, "alice", "update", "todos", "slow", { title });
    const ended = await locked("LOCK todos", async () => {
      const ended = update("ended");
      await waiting(1);
      await postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
      return ended;
    });
    assert.equal(ended, "unavailable");
    await postgres.sql("ALTER ROLE tester SET statement_timeout = '200ms'");
    assert.equal(await locked("LOCK todos", () => update("slow")), "unavailable");
    await postgres.sql("ALTER ROLE tester RESET statement_timeout");
    assert.equal(await update("at last"), "ack");
    await postgres.sql("ALTER TABLE notes RENAME TO gone");
    assert.equal(outcome(await page(space, "carol", "notes")), "internal");
    await postgres.sql("ALTER TABLE gone RENAME TO notes");
    assert.equal(outcome(await page(space, "carol", "notes")), "snapshot");
  });

  test("a database that is not there, speaks otherwise, says nothing or refuses is an error", async () => {
    const closed = [];
    const server = async (greet) => {
      const listening = createServer((socket) => {
        socket.on("error", () => {}).resume();
        closed.push(once(socket, "close"));
        greet(socket);
      }).listen(0, "127.0.0.1");
      await once(listening, "listening");
      return listening;
    };
    const silent = await server(() => {});
    const rude = await server((socket) => socket.end("HTTP/1.1 400 no\r\n\r\n"));
    const at = ({ port }) => `postgres://a:b@127.0.0.1:${port}/c`;
    try {
      for (const [url, expected] of [
        [at({ port: 1 }), "unavailable"],
        [at(rude.address()), "unavailable"],
        [at(silent.address()), "unavailable"],
        [postgres.url.replace(/:[^:@]+@/, ":wrong@"), "internal"],
        [postgres.url.replace(/postgres$/, "nowhere"), "internal"],
      ]) {
        const from = await start({ workers: ["app", "postgres"], postgres: url, vars });
        try {
          // Twice: the first left the instance whole.
          const space = open(from);
          for (const _ of [1, 2]) assert.equal(outcome(await page(space, "alice", "todos")), expected, url);
          // A write is waited for longer than its client waits.
          const write = () => code(space, "alice", "create", "todos", "k", {});
          if (!url.includes(silent.address().port)) assert.equal(await write(), expected, url);
          // Whoever gives up hangs up, too.
          await within(5_000, Promise.all(closed), () => "a connection stays open");
        } finally {
          await from.stop();
        }
      }
    } finally {
      silent.close();
      rude.close();
    }
  });
});
