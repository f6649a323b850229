// Rows in Postgres: a real one, reached as a Hyperdrive binding is, from a Worker and from an object.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { repository, start, within } from "./harness.mjs";
import { programs, startPostgres } from "./postgres.mjs";

const bin = programs();
const schema = readFileSync(`${repository}/examples/rust-postgres/schema.sql`, "utf8");

describe("rows in Postgres", { skip: bin ? false : "no PostgreSQL" }, () => {
  let postgres, workers;
  before(async () => {
    postgres = await startPostgres(bin);
    await postgres.sql(schema);
    workers = await start({ workers: ["postgres"], postgres: postgres.url });
  });
  after(async () => {
    await workers?.stop();
    await postgres?.stop();
  });

  /** Asks the probe: the row, the page or the problem. */
  async function ask(op, table, who, key, data, { from = workers, place = "object", ...more } = {}) {
    const id = randomUUID();
    const hash = JSON.stringify([op, table, key, data]);
    const body = JSON.stringify({ op, table, who, key, data, id, hash, ...more });
    const answer = await from.http(`/${place}`, { method: "POST", body });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const { row, ...rest } = answer.body;
    return row ? JSON.parse(row) : rest;
  }
  const page = (table, who, more) => ask("page", table, who, "", undefined, more);
  const code = async (...asked) => (await ask(...asked)).code;

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

  for (const place of ["worker", "object"]) {
    test(`are written and read from ${place === "worker" ? "a Worker" : "an object"}`, async () => {
      const row = { id: place, title: "it's", done: false };
      assert.deepEqual(await ask("create", "todos", "alice", place, row, { place }), row);
      const { items } = await page("todos", "bob", { place });
      assert.deepEqual(JSON.parse(items.find(([key]) => key === place)[1]), row);
    });
  }

  test("are created over, merged and deleted, and what is not there is not found", async () => {
    await ask("create", "todos", "alice", "a", { id: "a", title: "old", done: true });
    assert.deepEqual(await ask("create", "todos", "bob", "a", { title: "new" }), { id: "a", title: "new" });
    assert.deepEqual(await ask("update", "todos", "bob", "a", { done: true }), { id: "a", title: "new", done: true });
    assert.deepEqual(await ask("update", "todos", "bob", "a", { title: null }), { id: "a", done: true });
    assert.deepEqual(await ask("delete", "todos", "bob", "a"), { id: "a", done: true });
    assert.equal(await code("update", "todos", "bob", "a", { done: true }), "not_found");
    assert.equal(await code("delete", "todos", "bob", "a"), "not_found");
  });

  test("of an owner are nobody else's to see, to change or to replace", async () => {
    const row = { id: "n", text: "mine", ownerId: "alice" };
    assert.deepEqual(await ask("create", "notes", "alice", "n", row), row);
    assert.equal(await code("create", "notes", "bob", "n", { text: "his" }), "forbidden");
    assert.equal(await code("create", "notes", "bob", "m", { text: "his", ownerId: "alice" }), "forbidden");
    assert.equal(await code("update", "notes", "bob", "n", { text: "his" }), "not_found");
    assert.equal(await code("update", "notes", "alice", "n", { ownerId: "bob" }), "forbidden");
    assert.equal(await code("delete", "notes", "bob", "n"), "not_found");
    assert.deepEqual((await page("notes", "bob")).items, []);
    assert.equal((await page("notes", "alice")).items.length, 1);
    await ask("delete", "notes", "alice", "n");
    assert.deepEqual(await ask("create", "notes", "bob", "n", { text: "his" }), { id: "n", text: "his", ownerId: "bob" });
  });

  test("what breaks a rule is refused, by the field's name where that is known", async () => {
    const refused = async (data, key = "bad") => {
      const { code, field } = await ask("create", "todos", "alice", key, data);
      return [code, field];
    };
    assert.deepEqual(await refused({ title: 3 }), ["invalid", "title"]);
    assert.deepEqual(await refused({ done: "yes" }), ["invalid", "done"]);
    assert.deepEqual(await refused({ "title = ''; --": 1 }), ["invalid", "title = ''; --"]);
    assert.deepEqual(await refused({ title: "x".repeat(501) }), ["invalid", "data"]);
    assert.deepEqual(await refused({ title: "a\0b" }), ["invalid", "data"]);
    assert.deepEqual(await refused({ title: "a" }, "a\0b"), ["invalid", "data"]);
  });

  test("a mutation is executed once, and its repeat answered with the row as it is", async () => {
    const first = ["create", "todos", "alice", "once", { title: "1" }];
    const id = "the-id";
    assert.deepEqual(await ask(...first, { id }), { id: "once", title: "1" });
    await ask("update", "todos", "bob", "once", { title: "2" });
    assert.deepEqual(await ask(...first, { id }), { id: "once", title: "2" });
    assert.equal(await code("update", "todos", "alice", "once", { title: "3" }, { id }), "conflict");
    // Another user's ids are others, and what was refused was not executed.
    assert.deepEqual(await ask("update", "todos", "bob", "once", { title: "4" }, { id }), { id: "once", title: "4" });
    const early = ["update", "todos", "alice", "early", { done: true }, { id: "early" }];
    assert.equal(await code(...early), "not_found");
    await ask("create", "todos", "alice", "early", {});
    assert.deepEqual(await ask(...early), { id: "early", done: true });
  });

  test("of two of one mutation at once, one is executed and the other may try again", async () => {
    await ask("create", "todos", "alice", "twins", {});
    const one = () => ask("update", "todos", "alice", "twins", { done: true }, { id: "twins" });
    const both = await locked("SELECT FROM todos WHERE id = 'twins' FOR UPDATE", async () => {
      const both = [one(), one()];
      await waiting(2);
      return both;
    });
    const codes = (await Promise.all(both)).map(({ code }) => code ?? "executed");
    assert.deepEqual(codes.toSorted(), ["executed", "unavailable"]);
    assert.deepEqual(await one(), { id: "twins", done: true });
  });

  test("come in pages, each once, and since a time with those that were deleted", async () => {
    await postgres.sql("INSERT INTO todos (id, title) SELECT 'p' || i, repeat('long ', 90) FROM generate_series(1, 250) AS i");
    const keys = [];
    let next;
    do {
      const got = await page("todos", "alice", { count: 100, after: next });
      keys.push(...got.items.map(([key]) => key));
      next = got.next;
    } while (next);
    const live = await postgres.sql("SELECT id FROM todos WHERE deleted_at IS NULL");
    assert.deepEqual(keys.toSorted(), live.toSorted());
    const since = Number((await postgres.sql("SELECT max(updated_at) + 1 FROM todos"))[0]);
    await ask("update", "todos", "alice", "p7", { title: "short" });
    await ask("delete", "todos", "alice", "p8");
    const { items } = await page("todos", "alice", { since });
    assert.deepEqual(items.map(([key, data]) => [key, data === null]), [["p7", false], ["p8", true]]);
    assert.equal((await page("todos", "alice", { after: "nowhere" })).code, "malformed");
  });

  test("whoever stops waiting leaves no connection, and what still happened is known", async () => {
    const late = ["update", "todos", "alice", "worker", { title: "late" }, { id: "late" }];
    await locked("LOCK todos", async () => {
      const { message } = await ask(...late.slice(0, -1), { id: "late", within: 100 });
      assert.equal(message, "late");
      assert.equal(await code("create", "notes", "alice", "meanwhile", {}), undefined);
    });
    assert.equal((await ask(...late)).title, "late");
    await waiting(0);
    const open = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    const until = Date.now() + 5_000;
    while ((await postgres.sql(open))[0] !== "0") assert.ok(Date.now() < until, "connections stay open");
  });

  test("a statement that is ended or too slow, or a database that is not as it should be, is told as such", async () => {
    const ended = await locked("LOCK todos", async () => {
      const ended = code("update", "todos", "alice", "worker", { title: "ended" });
      await waiting(1);
      await postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
      return ended;
    });
    assert.equal(ended, "unavailable");
    await postgres.sql("ALTER ROLE tester SET statement_timeout = '200ms'");
    const slow = () => code("update", "todos", "alice", "worker", { title: "slow" });
    assert.equal(await locked("LOCK todos", slow), "unavailable");
    await postgres.sql("ALTER ROLE tester RESET statement_timeout");
    await postgres.sql("ALTER TABLE notes RENAME TO gone");
    assert.equal((await page("notes", "alice")).code, "internal");
    await postgres.sql("ALTER TABLE gone RENAME TO notes");
    assert.equal((await page("notes", "alice")).code, undefined);
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
        const from = await start({ workers: ["postgres"], postgres: url });
        try {
          // Twice: the first left the instance whole.
          for (const _ of [1, 2]) assert.equal((await page("todos", "alice", { from, within: 1_000 })).code, expected, url);
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
