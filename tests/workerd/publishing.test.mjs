// Publishers over HTTP: keys, bodies, spaces, all or nothing, once, and what it costs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { bearer, has, heartbeat, rows, secrets, start } from "./harness.mjs";

const bodyBytes = 8 * 1024 * 1024;
// Of a body that the object reads as it comes.
const shortBytes = 64 * 1024;

/** A Worker that asks the sync Worker over a binding, and may say of a body's length what it likes. */
const asker = {
  name: "asker",
  compatibilityDate: "2026-06-07",
  modules: true,
  serviceBindings: { SYNC_WORKER: "tidewire-sync" },
  script: `export default {
    async fetch(request, env) {
      const { headers, text, spaces } = await request.json();
      const piece = new TextEncoder().encode(" ".repeat(64 * 1024));
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(text));
          for (let left = spaces; left > 0; left -= piece.length) controller.enqueue(piece.subarray(0, left));
          controller.close();
        },
      });
      const url = request.url.replace("asker", "tidewire-sync");
      return env.SYNC_WORKER.fetch(url, { method: "POST", headers, body });
    },
  };`,
};

let workers;
before(async () => (workers = await start({ others: [asker] })));
after(() => workers?.stop());

const change = { channel: "todos", action: "create", key: "k", data: { v: 1 } };

/** Asserts that an answer is an error of this kind. */
function refused({ status, body }, expectedStatus, code, field) {
  assert.equal(status, expectedStatus, JSON.stringify(body));
  has(body, { error: { code, ...(field && { field }) } });
}

describe("the publish key", () => {
  const calls = [
    ["POST", "/broadcast"],
    ["POST", "/broadcast-batch"],
    ["GET", "/stats"],
  ];
  const bad = {
    "no key": {},
    "an empty key": { authorization: "Bearer " },
    "a wrong key": bearer("wrong"),
    "the key's beginning": bearer(secrets.PUBLISH_KEY.slice(0, -1)),
    "the key and more": bearer(`${secrets.PUBLISH_KEY}x`),
    "the key in another case": bearer(secrets.PUBLISH_KEY.toUpperCase()),
    "the key in another scheme": { authorization: `Basic ${secrets.PUBLISH_KEY}` },
    "the key without a scheme": { authorization: secrets.PUBLISH_KEY },
    "the other secret": bearer(secrets.JWT_SECRET),
    "the key as a cookie": { cookie: `session=${secrets.PUBLISH_KEY}` },
  };
  for (const [name, headers] of Object.entries(bad)) {
    test(`${name} publishes and tells nothing`, async () => {
      const space = workers.space();
      for (const [method, path] of calls) {
        const body = method === "POST" ? JSON.stringify(change) : undefined;
        const url = `${path}?space=${space.name}&token=${secrets.PUBLISH_KEY}`;
        const answer = await workers.http(url, { method, body, headers });
        refused(answer, 401, "unauthorized");
        assert.ok(!JSON.stringify(answer.body).includes(secrets.PUBLISH_KEY));
      }
      assert.equal((await space.stats()).seq, 0);
    });
  }

  test("is judged before the body", async () => {
    const answer = await workers.http("/broadcast", { method: "POST", body: "{", headers: bearer("wrong") });
    refused(answer, 401, "unauthorized");
  });

  test("the right one publishes", async () => {
    const space = workers.space();
    const { status, headers, body } = await space.post("/broadcast", change);
    assert.equal(status, 200);
    assert.equal(headers.get("content-type"), "application/json");
    assert.match(body.cursor, /^[a-z0-9]+\.1$/);
    has(body, { seq: 1, receivers: 0 });
    const lowerCase = { authorization: `bearer ${secrets.PUBLISH_KEY}` };
    assert.equal((await space.post("/broadcast", change, lowerCase)).status, 200);
  });
});

describe("a publish", () => {
  test("means what a mutation means, and more where the row lives elsewhere", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos", "notes"]);
    const sent = async (channel, ...rest) => {
      await space.publish(channel, ...rest);
      const { action, key, data } = await alice.receive({ type: "change", channel });
      return [action, key, data];
    };
    assert.deepEqual(await sent("todos", "create", "k", { a: 1 }), ["create", "k", { id: "k", a: 1 }]);
    assert.deepEqual(await sent("todos", "update", "k", { b: null }), ["update", "k", { id: "k", a: 1, b: null }]);
    assert.deepEqual(await sent("todos", "delete", "k"), ["delete", "k", null]);
    assert.deepEqual(await sent("todos", "update", "k", { c: 1 }), ["update", "k", { id: "k", c: 1 }]);
    assert.deepEqual(await sent("todos", "delete", "unheld"), ["delete", "unheld", null]);
    const to = ["user:alice"];
    assert.deepEqual(await sent("notes", "delete", "unheld", undefined, { to }), ["delete", "unheld", null]);
    refused(await space.post("/broadcast", { channel: "notes", action: "delete", key: "x" }), 400, "invalid", "to");
    refused(await space.post("/broadcast", { ...change, channel: "notes" }), 400, "invalid", "ownerId");
  });

  test("to some goes to them alone, live and later", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    const bob = await space.join("bob", ["todos"], { topics: ["team:a"] });
    assert.equal((await space.publish("todos", "create", "a", {}, { to: ["user:alice"] })).receivers, 1);
    assert.equal((await space.publish("todos", "create", "t", {}, { to: ["team:a", "user:x"] })).receivers, 1);
    assert.equal((await space.publish("todos", "update", "a", { v: 1 })).receivers, 1);
    const keys = (messages) => messages.map(({ key }) => key);
    assert.deepEqual(keys(await alice.rest()), ["a", "a"]);
    assert.deepEqual(keys(await bob.rest()), ["t"]);
    const later = await space.join("alice", ["todos"]);
    assert.deepEqual(rows(later.snapshots.todos), { a: { v: 1 } });
    assert.equal((await space.publish("todos", "update", "a", {}, { to: "all" })).receivers, 3);
    has(await bob.receive({ type: "change" }), { action: "create", key: "a", data: { v: 1 } });
  });

  const bad = {
    "no JSON": ["{", "malformed"],
    "nothing": ["", "malformed"],
    "a list": ["[]", "malformed"],
    "no channel": [{ ...change, channel: undefined }, "invalid", "channel"],
    "an empty channel": [{ ...change, channel: "" }, "invalid", "channel"],
    "an unknown channel": [{ ...change, channel: "none" }, "unknown_channel"],
    "no action": [{ ...change, action: undefined }, "invalid", "action"],
    "an unknown action": [{ ...change, action: "upsert" }, "invalid", "action"],
    "no key": [{ ...change, key: undefined }, "invalid", "key"],
    "two keys": [{ ...change, data: { id: "other" } }, "invalid", "key"],
    "no data": [{ ...change, data: undefined }, "invalid", "data"],
    "data that is a text": [{ ...change, data: "x" }, "invalid", "data"],
    "an empty audience": [{ ...change, to: [] }, "invalid", "to"],
    "an audience that is a topic": [{ ...change, to: "user:alice" }, "invalid", "to"],
    "a space that is no text": [{ ...change, space: 7 }, "invalid", "space"],
    "a row past 256 KiB": [{ ...change, data: { x: "x".repeat(256 * 1024) } }, "invalid"],
    "text nested too deeply": [`{"data":${"[".repeat(100_000)}`, "malformed"],
  };
  for (const [name, [body, code, field]] of Object.entries(bad)) {
    test(`of ${name} is 400 and publishes nothing`, async () => {
      const space = workers.space();
      refused(await space.post("/broadcast", body), 400, code, field);
      assert.equal((await space.stats()).seq, 0);
    });
  }

  test("whose body is no UTF-8 is 400", async () => {
    const space = workers.space();
    const body = Buffer.from(JSON.stringify({ ...change, data: { text: "ü" } }), "latin1");
    refused(await space.post("/broadcast", body), 400, "malformed");
    const cut = Buffer.from('{"channel":"ü').subarray(0, -1);
    refused(await space.post("/broadcast", cut), 400, "malformed");
    const long = Buffer.alloc(bodyBytes, 0xff);
    refused(await space.post("/broadcast", long), 400, "malformed");
  });

  const bodies = {
    "whose body is as long as the object reads as it comes": shortBytes,
    "whose body is one byte longer": shortBytes + 1,
    "whose body does not say its length": undefined,
  };
  for (const [name, length] of Object.entries(bodies)) {
    test(`${name} is answered alike`, async () => {
      const space = workers.space();
      const post = (bytes, headers = {}) => {
        const padded = Buffer.concat([bytes, Buffer.alloc(Math.max(0, (length ?? 0) - bytes.length), " ")]);
        return workers.http(`/broadcast?space=${space.name}`, {
          ...{ method: "POST", headers: { ...bearer(secrets.PUBLISH_KEY), ...headers } },
          ...(length === undefined ? { body: new Blob([padded]).stream(), duplex: "half" } : { body: padded }),
        });
      };
      const text = (body) => Buffer.from(JSON.stringify(body));
      refused(await post(Buffer.from('{"channel":"\xff"}', "latin1")), 400, "malformed");
      refused(await post(Buffer.from("\ufeff{}")), 400, "malformed");
      refused(await post(Buffer.from("{")), 400, "malformed");
      refused(await post(text({ ...change, space: "another" })), 400, "invalid", "space");
      refused(await post(text({ ...change, channel: "none" })), 400, "unknown_channel");
      assert.equal((await space.stats()).seq, 0);
      const [key, empty] = [{ "idempotency-key": "i" }, { "idempotency-key": "" }];
      for (let time = 0; time < 2; time += 1)
        has(await post(text({ ...change, space: space.name }), key), { status: 200, body: { seq: 1 } });
      refused(await post(text({ ...change, key: "other" }), key), 409, "conflict");
      refused(await post(text(change), empty), 400, "invalid", "Idempotency-Key");
      assert.equal((await space.stats()).seq, 1);
    });
  }

  test("whose length a Worker tells wrong has 8 MiB at most all the same", async () => {
    const space = workers.space();
    const text = JSON.stringify(change);
    const ask = (path, length, spaces, key = secrets.PUBLISH_KEY) =>
      workers.ask(asker.name, path, {
        method: "POST",
        body: JSON.stringify({ headers: { ...bearer(key), "content-length": `${length}` }, text, spaces }),
      });
    const past = bodyBytes - text.length + 1;
    const query = `?space=${space.name}`;
    // The object reads it, whatever it is said to be, up to the bound.
    for (const length of [1, text.length, shortBytes]) {
      refused(await ask(`/broadcast${query}`, length, past), 413, "frame_too_large");
      refused(await ask(`/broadcast${query}`, length, 2 * bodyBytes), 413, "frame_too_large");
    }
    assert.equal((await space.stats()).seq, 0);
    assert.equal((await ask(`/broadcast${query}`, 1, past - 1)).status, 200);
    assert.equal((await ask(`/broadcast${query}`, shortBytes, 0)).status, 200);
    // The router reads it as long as it is said to be.
    const user = space.token("alice");
    for (const [length, spaces] of [[text.length - 1, 0], [1, past], [text.length + 1, 0], [-1, 0], [1.5, 0]]) {
      refused(await ask("/broadcast", length, spaces), 400, "malformed");
      refused(await ask(`/api/sync/mutate${query}`, length, spaces, user), 400, "malformed");
    }
    refused(await ask("/broadcast", "no number", past), 413, "frame_too_large");
    assert.equal((await space.stats()).seq, 2);
  });

  test("may have 8 MiB and not a byte more, whether it says its length or not", async () => {
    const space = workers.space();
    const text = JSON.stringify({ ...change, data: { text: "🌊".repeat(10_000) } });
    const atBound = Buffer.from(text.padEnd(text.length + bodyBytes - Buffer.byteLength(text)));
    const past = Buffer.concat([atBound, Buffer.from(" ")]);
    const streamed = (bytes) => ({ body: new Blob([bytes]).stream(), duplex: "half" });
    for (const init of [(bytes) => ({ body: bytes }), streamed]) {
      const post = (bytes) =>
        workers.http(`/broadcast?space=${space.name}`, {
          ...{ method: "POST", headers: bearer(secrets.PUBLISH_KEY) },
          ...init(bytes),
        });
      assert.equal((await post(atBound)).status, 200);
      refused(await post(past), 413, "frame_too_large");
    }
    assert.equal((await space.stats()).seq, 2);
  });
});

describe("a batch", () => {
  const many = (count) => Array.from({ length: count }, (_, i) => ({ action: "create", key: `k${i}`, data: { i } }));

  test("is all or nothing, and the refusal names the first bad change", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    const changes = many(5);
    changes[3] = { action: "create", key: "bad", data: [] };
    const events = [change, { ...change, channel: "none" }];
    const scoped = [change, change, { ...change, channel: "notes" }];
    refused(await space.post("/broadcast-batch", { channel: "todos", changes }), 400, "invalid", "changes[3].data");
    const unknown = await space.post("/broadcast-batch", { events });
    refused(unknown, 400, "unknown_channel", "events[1]");
    assert.match(unknown.body.error.message, /events\[1\]/);
    refused(await space.post("/broadcast-batch", { events: scoped }), 400, "invalid", "events[2].ownerId");
    assert.deepEqual(await alice.rest(), []);
    assert.equal((await space.stats()).seq, 0);
  });

  test("holds 1 to 1,000 changes", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    const post = (changes) => space.post("/broadcast-batch", { channel: "todos", changes });
    for (const changes of [[], many(1_001), undefined, {}]) assert.equal((await post(changes)).status, 400);
    refused(await space.post("/broadcast-batch", { channel: "todos", changes: many(1), events: [] }), 400, "malformed");
    has((await post(many(1_000))).body, { seq: 1_000, receivers: 1 });
    const { changes } = await alice.receive({ type: "batch" });
    assert.deepEqual(changes.map(({ data }) => data.i), many(1_000).map(({ data }) => data.i));
    has((await post(many(1))).body, { seq: 1_001 });
    assert.equal((await alice.receive({ type: "change" })).key, "k0", "one change needs no batch");
  });

  test("of several channels reaches each subscriber as it may see them", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos", "notes"]);
    const bob = await space.join("bob", ["notes"]);
    const events = [
      { channel: "notes", action: "create", key: "n1", data: { ownerId: "alice" } },
      { channel: "todos", action: "create", key: "t1", data: {} },
      { channel: "notes", action: "create", key: "n2", data: { ownerId: ["alice", "bob"] } },
    ];
    const { body } = await space.post("/broadcast-batch", { events });
    assert.equal(body.receivers, 2);
    const { changes } = await alice.receive({ type: "batch", channel: "notes" });
    assert.deepEqual(changes.map(({ key }) => key), ["n1", "n2"]);
    await alice.receive({ type: "change", channel: "todos", key: "t1" });
    await bob.receive({ type: "change", channel: "notes", key: "n2" });
    for (const client of [alice, bob]) assert.deepEqual(await client.rest(), []);
  });
});

describe("a row that is published whole", () => {
  test("moves from receivers to receivers, by itself and in a batch", async () => {
    const space = workers.space();
    const [alice, bob] = await Promise.all(["alice", "bob"].map((user) => space.join(user, ["todos"])));
    const moved = (user) => ({ action: "create", key: "k", data: { for: user }, to: [`user:${user}`] });
    const one = (user) => space.post("/broadcast", { channel: "todos", ...moved(user) });
    const among = (user) => {
      const before = { action: "create", key: "j", data: {}, to: ["user:carol"] };
      return space.post("/broadcast-batch", { channel: "todos", changes: [before, moved(user)] });
    };
    has(await one("alice"), { status: 200, body: { seq: 1, receivers: 1 } });
    await alice.receive({ type: "change", action: "create", key: "k" });
    for (const [at, publish] of [one, among, among, one].entries()) {
      const [from, to] = at % 2 === 0 ? [alice, bob] : [bob, alice];
      has(await publish(to === bob ? "bob" : "alice"), { status: 200, body: { receivers: 2 } });
      await from.receive({ type: "change", action: "delete", key: "k" });
      await to.receive({ type: "change", action: "create", key: "k" });
    }
    const refusal = [moved("bob"), { action: "create", key: "bad", data: [] }];
    const batch = { channel: "todos", changes: refusal };
    refused(await space.post("/broadcast-batch", batch), 400, "invalid", "changes[1].data");
    for (const client of [alice, bob]) assert.deepEqual(await client.rest(), []);
    has(await one("alice"), { status: 200, body: { seq: 8, receivers: 1 } });
    await alice.receive({ type: "change", action: "create", key: "k", data: { for: "alice" } });
  });
});

describe("a publisher's space", () => {
  const post = (path, body) =>
    workers.http(path, { method: "POST", headers: bearer(secrets.PUBLISH_KEY), body: JSON.stringify(body) });

  test("comes by query or by body", async () => {
    const [space, other] = [workers.space(), workers.space()];
    const watcher = await space.join("alice", ["todos"]);
    const query = `/broadcast?space=${space.name}`;
    assert.equal((await post(query, change)).body.receivers, 1);
    assert.equal((await post("/broadcast", { ...change, space: space.name })).body.receivers, 1);
    assert.equal((await post(query, { ...change, space: space.name })).body.receivers, 1);
    const batch = { channel: "todos", changes: [change], space: space.name };
    assert.equal((await post("/broadcast-batch", batch)).body.receivers, 1);
    assert.equal((await post("/broadcast", { ...change, data: { space: other.name } })).body.receivers, 0);
    refused(await post(query, { ...change, space: other.name }), 400, "invalid", "space");
    refused(await post(query.replace("broadcast", "broadcast-batch"), { ...batch, space: "global" }), 400, "invalid", "space");
    assert.deepEqual([(await space.stats()).seq, (await other.stats()).seq], [4, 0]);
    assert.equal((await watcher.rest()).length, 4);
  });

  test("is the same however its URL is written", async () => {
    const space = workers.space();
    const escaped = `%${space.name.charCodeAt(0).toString(16)}${space.name.slice(1)}`;
    const queries = [`space=${escaped}`, `&&x&y=%20&space=${space.name}`, `space=${space.name}&space=other`, `sp%61ce=${escaped}`];
    for (const [at, query] of queries.entries()) {
      const { status, body } = await post(`/broadcast?${query}`, change);
      assert.deepEqual([status, body.seq], [200, at + 1], query);
    }
    assert.equal((await post(`/%62roadcast?space=${space.name}`, change)).status, 404);
    refused(await post(`/broadcast?space=${space.name}+`, change), 400, "invalid", "space");
    assert.equal((await space.stats()).seq, queries.length);
  });

  test("of a bad name is refused", async () => {
    for (const name of ["Team", "a b", "", "a/b", "x".repeat(65), "changes"]) {
      refused(await post(`/broadcast?space=${encodeURIComponent(name)}`, change), 400, "invalid", "space");
      refused(await post("/broadcast", { ...change, space: name }), 400, "invalid", "space");
    }
  });
});

describe("an idempotency key", () => {
  const key = { "idempotency-key": "order-1" };

  test("publishes once, also across sleep, and only for the same request", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    const first = await space.post("/broadcast", change, key);
    has(first, { status: 200, body: { seq: 1, receivers: 1 } });
    assert.deepEqual((await space.post("/broadcast", change, key)).body, first.body);
    await space.sleep();
    assert.deepEqual((await space.post("/broadcast", change, key)).body, first.body);
    refused(await space.post("/broadcast", { ...change, data: { v: 2 } }, key), 409, "conflict");
    const batch = { channel: "todos", changes: [change] };
    refused(await space.post("/broadcast-batch", batch, key), 409, "conflict");
    await alice.receive({ type: "change", key: "k" });
    assert.deepEqual(await alice.rest(), []);

    const other = workers.space();
    has(await other.post("/broadcast", { ...change, data: {} }, key), { status: 200, body: { seq: 1 } });
    has(await space.post("/broadcast", change, { "idempotency-key": "order-2" }), { body: { seq: 2 } });
  });

  test("repeated twenty times at once makes one change", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    const posts = Array.from({ length: 20 }, () => space.post("/broadcast", change, key));
    const answers = (await Promise.all(posts)).map(({ status, body }) => ({ status, ...body }));
    assert.deepEqual(new Set(answers.map((answer) => JSON.stringify(answer))).size, 1);
    has(answers[0], { status: 200, seq: 1, receivers: 1 });
    await alice.receive({ type: "change" });
    assert.deepEqual(await alice.rest(), []);
  });

  test("of a refused publish stays free", async () => {
    const space = workers.space();
    refused(await space.post("/broadcast", { ...change, channel: "none" }, key), 400, "unknown_channel");
    assert.equal((await space.post("/broadcast", change, key)).status, 200);
  });

  test("has 1 to 128 bytes", async () => {
    const space = workers.space();
    const post = (length) => space.post("/broadcast", change, { "idempotency-key": "i".repeat(length) });
    assert.equal((await post(128)).status, 200);
    refused(await post(129), 400, "invalid", "Idempotency-Key");
    refused(await post(0), 400, "invalid", "Idempotency-Key");
  });
});

describe("rows written", () => {
  /** What a step costs, as the platform bills it. */
  async function cost(space, step) {
    const before = await space.stats();
    await step();
    const after = await space.stats();
    assert.equal(after.instance, before.instance);
    return after.rowsWritten - before.rowsWritten;
  }

  test("are at most three a change, and none for who only reads", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos", "notes"]);
    const { cursor, view } = alice.snapshots.notes;
    await space.publish("todos", "create", "warm-up", {});
    const costs = {};
    for (const channel of ["todos", "notes"]) {
      const row = { ownerId: "alice", text: "x".repeat(1_000) };
      const mutate = (action) => cost(space, () => alice.mutate(channel, action, "m", row));
      const publish = (action) => cost(space, () => space.publish(channel, action, "p", row));
      for (const action of ["create", "update", "delete"]) {
        costs[`mutate ${action} ${channel}`] = await mutate(action);
        costs[`publish ${action} ${channel}`] = await publish(action);
      }
      costs[`update by its key ${channel}`] = await mutate("create").then(() => mutate("update"));
    }
    for (const [name, written] of Object.entries(costs)) {
      assert.ok(written >= 1 && written <= 3, `${name}: ${written}`);
    }
    const changes = Array.from({ length: 100 }, (_, i) => ({ action: "create", key: `b${i}`, data: {} }));
    const batch = await cost(space, () => space.post("/broadcast-batch", { channel: "todos", changes }));
    assert.ok(batch <= 3 * changes.length, `a batch of ${changes.length}: ${batch}`);

    const reading = await cost(space, async () => {
      const back = await space.join("alice", ["todos", "notes", "feed"]);
      has(await back.subscribe("notes", { cursor, view }), { mode: "delta" });
      back.send({ type: "unsubscribe", channel: "todos" });
      back.send(heartbeat);
      await back.rest();
      back.close(1000);
      await back.ended();
    });
    assert.equal(reading, 0);
  });

  test("are none for what is refused or repeated", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    await alice.mutate("todos", "create", "k", {}, "m1");
    await space.post("/broadcast", change, { "idempotency-key": "i" });
    const nothing = await cost(space, async () => {
      has(await alice.mutate("todos", "create", "k", {}, "m1"), { replayed: true });
      has(await alice.mutate("todos", "update", "none", {}), { type: "reject" });
      assert.equal((await space.post("/broadcast", change, { "idempotency-key": "i" })).status, 200);
      assert.equal((await space.post("/broadcast", { ...change, channel: "none" })).status, 400);
    });
    assert.equal(nothing, 0);
  });
});
