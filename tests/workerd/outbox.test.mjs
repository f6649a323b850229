// The outbox on a real D1: whatever crashes, every change is published once and in order.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, mock, test } from "node:test";
import { drainOutbox, intoOutbox } from "tidewire/server";
import { has, repository, secrets, start } from "./harness.mjs";

const example = "tidewire-ts-publisher";
const PUBLISH_KEY = secrets.PUBLISH_KEY;
const crash = new Error("crash");
const todo = (id, more) => ({ id, title: "milk", done: false, ...more });
const create = (id, more) => ({ channel: "todos", action: "create", key: id, data: todo(id), ...more });
const update = (id, data) => ({ channel: "todos", action: "update", key: id, data });
const bad = (id, more) => ({ ...create(id, more), channel: "nobody-knows" });

let workers, db;
before(async () => {
  workers = await start({ workers: ["ts", "sync"] });
  db = await workers.database(example, "DB", `${repository}/examples/ts-publisher/migrations`);
});
after(() => workers?.stop());

const told = [];
beforeEach(async () => {
  await db.batch(["outbox", "outbox_batches", "outbox_refused"].map((table) => db.prepare(`DELETE FROM ${table}`)));
  told.length = 0;
  for (const level of ["error", "warn"]) mock.method(console, level, (line) => told.push(line));
});
afterEach(() => mock.restoreAll());

/** Counts the steps of a run, and crashes before or after one of them. */
function steps(at = Infinity, isAfter = false) {
  let taken = 0;
  const step = async (run) => {
    const mine = taken++;
    if (mine > at || (mine === at && !isAfter)) throw crash;
    const result = await run();
    if (mine === at) throw crash;
    return result;
  };
  return { step, taken: () => taken };
}

/** The database and the sync Worker, seen through steps. `asked` has each call's key and changes. */
function seen({ step } = steps(), answered = (response) => response) {
  const asked = [];
  const around = (statement) => ({
    statement,
    bind: (...values) => around(statement.bind(...values)),
    all: () => step(() => statement.all()),
  });
  const wrapped = {
    prepare: (sql) => around(db.prepare(sql)),
    batch: (statements) => step(() => db.batch(statements.map(({ statement }) => statement))),
  };
  const fetch = (url, { method, headers, body }) =>
    step(async () => {
      const { pathname, search, searchParams } = new URL(url);
      const changes = body.length > 100_000 ? [] : JSON.parse(body).events.map(({ key }) => key);
      asked.push({ key: headers["idempotency-key"], space: searchParams.get("space"), changes });
      const answer = await workers.ask("tidewire-sync", pathname + search, { method, headers, body });
      return answered(Response.json(answer.body, { status: answer.status }), asked.length);
    });
  return { asked, options: { db: wrapped, platform: { env: { SYNC_WORKER: { fetch }, PUBLISH_KEY } }, retry: { attempts: 1 } } };
}

const drain = (options, world = seen()) => drainOutbox({ ...world.options, ...options });
const put = (...changes) => db.batch(changes.map((change) => intoOutbox(db, change)));
const count = async (table) => (await db.prepare(`SELECT COUNT(*) AS n FROM ${table}`).first()).n;
const left = async () => [await count("outbox"), await count("outbox_batches"), await count("outbox_refused")];
/** As if the time of all leases and pauses were over. */
const wait = () => db.prepare("UPDATE outbox_batches SET leased = 0").run();
/** What the server refuses without saying where it is. */
const deep = JSON.parse(`${'{"a":'.repeat(150)}1${"}".repeat(150)}`);
/** All changes that have come to a client since it was asked last. */
const heard = async (client) => {
  const messages = await client.rest();
  return messages.flatMap((message) => message.changes ?? [message]).map(({ action, key }) => `${action} ${key}`);
};
const nothing = { published: 0, refused: 0, postponed: 0, more: false };

describe("the outbox of the example", () => {
  test("is written with the app's own row, or neither is, and emptied by the cron trigger", async () => {
    const bob = await workers.space("global").join("bob", ["todos"]);
    const id = randomUUID();
    const keep = () => workers.http("/kept", { method: "POST", body: JSON.stringify(todo(id)) });
    assert.equal((await keep()).body, "kept");
    assert.equal((await keep()).status, 500);
    assert.deepEqual(await left(), [1, 0, 0]);
    assert.equal(await workers.trigger(example), "ok");
    assert.deepEqual(await left(), [0, 0, 0]);
    has(await bob.receive({ type: "change" }), { action: "create", key: id, data: todo(id) });
    assert.equal(await workers.trigger(example), "ok");
    assert.deepEqual(await bob.rest(), []);
  });
});

describe("a crash", () => {
  const kinds = {
    "among good changes": {
      changes: (space) => [create("a", { space }), { ...update("a", { done: true }), space }, create("b", { space })],
      heard: ["create a", "update a", "create b"],
      refused: [],
    },
    "while a bad one is set aside": {
      changes: (space) => [create("a", { space }), bad("b", { space }), create("c", { space })],
      heard: ["create a", "create c"],
      refused: ["unknown_channel"],
    },
    "while one is looked for that nobody names": {
      changes: (space) => [create("a", { space }), create("b", { space, data: deep }), create("c", { space })],
      heard: ["create a", "create c"],
      refused: ["malformed"],
    },
  };
  for (const [kind, { changes, heard: expected, refused }] of Object.entries(kinds)) {
    for (const isAfter of [false, true]) {
      test(`${isAfter ? "after" : "before"} each step publishes once, in order, ${kind}`, async () => {
        let at = 0;
        for (let crashed = true; crashed; at += 1) {
          assert.ok(at < 40, "it still crashes");
          const space = workers.space();
          const bob = await space.join("bob", ["todos"]);
          await put(...changes(space.name));
          const broken = steps(at, isAfter);
          const first = drain({}, seen(broken));
          await first.then(() => assert.ok(broken.taken() <= at), (error) => assert.equal(error, crash));
          crashed = broken.taken() > at;
          await wait();
          const again = await drain();
          assert.deepEqual([again.postponed, again.more], [0, false]);
          assert.deepEqual(await left(), [0, 0, refused.length]);
          const { results } = await db.prepare("SELECT code FROM outbox_refused").all();
          assert.deepEqual(results.map(({ code }) => code), refused);
          assert.deepEqual(await heard(bob), expected, `at step ${at}`);
          await db.prepare("DELETE FROM outbox_refused").run();
        }
        // List, claim, read, publish, finish, list: a crash at each of them, and more where one is bad.
        assert.ok(at >= 7, `only ${at - 1} steps`);
      });
    }
  }

  test("repeats the same batch under its key, whatever came in since", async () => {
    const space = workers.space().name;
    await put(create("a", { space }), create("b", { space }));
    const lost = seen(undefined, () => Promise.reject(new Error("lost")));
    assert.deepEqual(await drain({}, lost), { ...nothing, postponed: 1 });
    await put(create("c", { space }));
    await wait();
    const second = seen();
    assert.deepEqual(await drain({}, second), { ...nothing, published: 3 });
    assert.deepEqual(second.asked.map(({ changes }) => changes), [["a", "b"], ["c"]]);
    assert.equal(second.asked[0].key, lost.asked[0].key);
    assert.notEqual(second.asked[1].key, second.asked[0].key);
  });

  test("longer ago than the server knows keys is told", async () => {
    const space = workers.space();
    const bob = await space.join("bob", ["todos"]);
    await put(create("a", { space: space.name }));
    await drain({}, seen(undefined, () => Promise.reject(new Error("lost"))));
    await wait();
    await db.prepare("UPDATE outbox_batches SET claimed = claimed - 86401").run();
    told.length = 0;
    await drain();
    assert.match(told.join(), /is older than 24 hours: if it was published, it is published again$/);
    // The server keeps them longer than it says.
    assert.deepEqual(await heard(bob), ["create a"]);
  });
});

describe("runs beside each other", () => {
  test("publish each change once, in order", async () => {
    const spaces = [workers.space(), workers.space()];
    const clients = await Promise.all(spaces.map((space) => space.join("bob", ["todos"])));
    const keys = Array.from({ length: 40 }, (_, n) => `k${n}`);
    for (const key of keys) await put(...spaces.map(({ name: space }) => create(key, { space })));
    const runs = await Promise.all(Array.from({ length: 5 }, () => drain()));
    assert.equal(runs.reduce((sum, { published }) => sum + published, 0), 80);
    assert.deepEqual(await left(), [0, 0, 0]);
    for (const client of clients) assert.deepEqual(await heard(client), keys.map((key) => `create ${key}`));
  });

  test("leave a space to who is at it, and where its lease is over publish what it published not again", async () => {
    const space = workers.space();
    const bob = await space.join("bob", ["todos"]);
    await put(create("a", { space: space.name }), bad("b", { space: space.name }), create("c", { space: space.name }));
    const [other, third] = [seen(), seen()];
    // The first run's answers stay away until others have been here.
    const slow = seen(undefined, async (response, nth) => {
      if (nth === 1) {
        assert.deepEqual(await drain({}, other), nothing);
        await wait();
        await drain({}, third);
        await put(create("d", { space: space.name }));
      }
      return response;
    });
    await drain({}, slow);
    assert.deepEqual([other.asked.length, third.asked.length], [0, 2]);
    await wait();
    await drain();
    assert.deepEqual(await left(), [0, 0, 1]);
    assert.deepEqual(await heard(bob), ["create a", "create c", "create d"]);
  });

  test("that come late with a batch find it published, and lose nothing written since", async () => {
    const space = workers.space();
    const bob = await space.join("bob", ["todos"]);
    await put(create("a", { space: space.name }), bad("b", { space: space.name }), create("c", { space: space.name }));
    const late = seen();
    const { fetch } = late.options.platform.env.SYNC_WORKER;
    late.options.platform.env.SYNC_WORKER.fetch = async (url, init) => {
      if (late.asked.length === 0) {
        await wait();
        assert.deepEqual(await drain(), { ...nothing, published: 2, refused: 1 });
        await put(create("d", { space: space.name }));
      }
      return fetch(url, init);
    };
    assert.equal((await drain({}, late)).postponed, 0);
    assert.deepEqual(late.asked.map(({ changes }) => changes), [["a", "b", "c"], ["d"]]);
    assert.deepEqual(await left(), [0, 0, 1]);
    assert.deepEqual(await heard(bob), ["create a", "create c", "create d"]);
  });

  test("lose nothing where a batch was halved in between, and published by who died then", async () => {
    const space = workers.space();
    const bob = await space.join("bob", ["todos"]);
    const inSpace = { space: space.name };
    await put(...[..."abcdefgh"].map((key) => create(key, key === "c" ? { ...inSpace, data: deep } : inSpace)));
    // List, claim; read, publish, halve; the same again; read, publish.
    const dying = seen(steps(9, true));
    const slow = seen(undefined, async (response, nth) => {
      if (nth === 1) {
        await wait();
        await assert.rejects(drain({}, dying), crash);
        assert.deepEqual(dying.asked.map(({ changes }) => changes.join("")), ["abcdefgh", "abcd", "ab"]);
      }
      return response;
    });
    await drain({}, slow);
    await wait();
    await drain();
    assert.deepEqual(await left(), [0, 0, 1]);
    assert.deepEqual(await heard(bob), [..."abdefgh"].map((key) => `create ${key}`));
  });
});

describe("many changes", () => {
  test("go in batches of 1,000, a space in turn, and wait where calls are used up", async () => {
    const [one, two] = [workers.space(), workers.space()];
    const bob = await one.join("bob", ["todos"]);
    const keys = Array.from({ length: 3_500 }, (_, n) => `k${n}`);
    const changes = JSON.stringify(keys.map((key) => create(key)));
    await db.prepare("INSERT INTO outbox (space, change) SELECT ?, value FROM json_each(?)").bind(one.name, changes).run();
    await put(create("z", { space: two.name }));
    const first = seen();
    assert.deepEqual(await drain({ calls: 3 }, first), { ...nothing, published: 2_001, more: true });
    assert.deepEqual(first.asked.map(({ space }) => space), [one.name, two.name, one.name]);
    assert.deepEqual(await drain(), { ...nothing, published: 1_500 });
    const received = [];
    for (let size = 0; size < keys.length; ) {
      const { changes } = await bob.receive({ type: "batch" });
      received.push(...changes.map(({ key }) => key));
      size += changes.length;
    }
    assert.deepEqual(received, keys);
    assert.deepEqual(await heard(bob), []);
  });

  test("go in batches of 8 MiB", async () => {
    const { name: space } = workers.space();
    const text = "x".repeat(200 * 1024);
    for (let n = 0; n < 42; n += 1) await put(create(`k${n}`, { space, data: { text } }));
    const world = seen();
    assert.deepEqual(await drain({}, world), { ...nothing, published: 42 });
    assert.equal(world.asked.length, 2);
  });
});

describe("a bad change", () => {
  test("is set aside with what is wrong, and holds up no other", async () => {
    const space = workers.space();
    const bob = await space.join("bob", ["todos"]);
    const inSpace = { space: space.name };
    await put(create("a", inSpace), bad("b", inSpace), create("c", inSpace), create("d", { ...inSpace, key: "" }), create("e", inSpace));
    assert.deepEqual(await drain(), { ...nothing, published: 3, refused: 2 });
    assert.deepEqual(await heard(bob), ["create a", "create c", "create e"]);
    const { results } = await db.prepare("SELECT * FROM outbox_refused ORDER BY id").all();
    assert.deepEqual(results.map(({ code, space }) => [code, space]), [["unknown_channel", space.name], ["invalid", space.name]]);
    assert.deepEqual(JSON.parse(results[0].change), bad("b"));
    assert.match(results[0].message, /^refused with unknown_channel/);
    assert.equal(told.length, 2);
    assert.match(told[0], new RegExp(`^outbox row ${results[0].id} cannot be published: refused with unknown_channel`));
    assert.ok(!told.some((line) => line.includes("milk") || line.includes(PUBLISH_KEY)));
  });

  test("that is no change is not sent", async () => {
    const { name: space } = workers.space();
    const insert = (change, to = space) => db.prepare("INSERT INTO outbox (space, change) VALUES (?, ?)").bind(to, change);
    await db.batch(["5", "[]", "null", '"text"'].map((change) => insert(change)));
    await insert("{}", "no space").run();
    await put(create("a", { space }));
    const world = seen();
    assert.deepEqual(await drain({}, world), { ...nothing, published: 1, refused: 5 });
    assert.deepEqual(world.asked.map(({ changes }) => changes), [["a"]]);
    await assert.rejects(insert("{").run(), /CHECK constraint failed/);
  });

  test("is told before it is written, as far as it can be", async () => {
    for (const change of [create("a", { data: 5 }), create("a", { space: "no space" }), create("a", { data: { text: "x".repeat(8 << 20) } })]) {
      assert.throws(() => intoOutbox(db, change), { name: "TidewireError" });
    }
    for (const table of ["", "1a", "a b", 'a"b', "a;b", "x".repeat(51)]) {
      assert.throws(() => intoOutbox(db, create("a"), { table }), { code: "misconfigured" });
      await assert.rejects(drain({ table }), { code: "misconfigured" });
    }
    for (const calls of [0, 1.5, 1_001]) await assert.rejects(drain({ calls }), { code: "misconfigured" });
    await assert.rejects(drainOutbox({ db, platform: { env: {} } }), /neither the binding SYNC_WORKER nor/);
  });
});

describe("what is wrong for now", () => {
  test("holds up its space alone, for as long as the server asks", async () => {
    const [one, two] = [workers.space(), workers.space()];
    await put(create("a", { space: one.name }), create("b", { space: two.name }));
    const refusal = (retryAfterMs) => Response.json({ error: { code: "rate_limited", message: "no", retryable: true, retryAfterMs } }, { status: 429 });
    const asks = (ms) => seen(undefined, (response, nth) => (nth === 1 ? refusal(ms) : response));
    const pause = async () => (await db.prepare("SELECT leased - unixepoch() AS pause FROM outbox_batches").first()).pause;
    const first = asks(600_000);
    assert.deepEqual(await drain({}, first), { ...nothing, published: 1, postponed: 1 });
    assert.ok(Math.abs((await pause()) - 600) < 60);
    assert.deepEqual(await drain(), nothing);
    await wait();
    await drain({}, asks(1e12));
    assert.ok(Math.abs((await pause()) - 3_600) < 60);
    await wait();
    assert.deepEqual(await drain(), { ...nothing, published: 1 });
    assert.match(told[0], new RegExp(`^the outbox of the space ${one.name} is postponed: refused with rate_limited`));
  });

  test("such as a wrong key, sets nothing aside", async () => {
    await put(create("a", { space: workers.space().name }));
    const world = seen();
    world.options.platform.env.PUBLISH_KEY = "wrong";
    assert.deepEqual(await drain({}, world), { ...nothing, postponed: 1 });
    assert.deepEqual(await left(), [1, 1, 0]);
  });
});

test("an outbox may have another name", async () => {
  const sql = readFileSync(`${repository}/examples/ts-publisher/migrations/0001_outbox.sql`, "utf8");
  const renamed = sql.replaceAll(/^--.*$/gm, "").replaceAll("outbox", "changes_out").split(";").filter((text) => text.trim());
  await db.batch(renamed.map((statement) => db.prepare(statement)));
  const table = "changes_out";
  await intoOutbox(db, create("a", { space: workers.space().name }), { table }).run();
  assert.deepEqual(await drain(), nothing);
  assert.deepEqual(await drain({ table }), { ...nothing, published: 1 });
});
