// The example app in TypeScript: it publishes over each way to the sync engine, passes its visitors'
// traffic on, and has a queue.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, heartbeat, secrets, start } from "./harness.mjs";

const example = "tidewire-ts-publisher";
const PUBLISH_KEY = secrets.PUBLISH_KEY;
/** Without the service binding. */
const apart = { serviceBindings: {} };

let elsewhere;
before(async () => (elsewhere = await start({ workers: ["sync"] })));
after(() => elsewhere?.stop());

const object = { className: "SyncEngine", scriptName: "tidewire-sync", useSQLite: true };
const ways = {
  "over the service binding": { workers: ["ts", "sync"] },
  "over the Durable Object's binding, which needs no key": {
    workers: ["ts", "sync"],
    publisher: () => ({ bindings: {}, durableObjects: { SYNC_ENGINE: object } }),
  },
  "over SYNC_WORKER_URL": {
    workers: ["ts"],
    publisher: () => ({ ...apart, bindings: { PUBLISH_KEY, SYNC_WORKER_URL: `${elsewhere.origin}/api/sync` } }),
  },
};

const todo = (id) => ({ id, title: "milk", done: false });
const later = (id) => ({ channel: "todos", action: "create", key: id, data: todo(id) });
const delivered = (id, body) => ({ id, timestamp: new Date(), attempts: 1, body });

for (const [way, { workers: names, publisher }] of Object.entries(ways)) {
  describe(`in TypeScript, ${way}`, () => {
    let workers;
    before(async () => (workers = await start({ workers: names, publisher: publisher?.() })));
    after(() => workers?.stop());

    const post = (path, body) => workers.http(path, { method: "POST", body: JSON.stringify(body) });
    const join = async (user, channel) => workers.space("global").join(user, [channel]);

    test("an order is published once, to its owner alone", async () => {
      const [alice, bob] = [await join("alice", "notes"), await join("bob", "notes")];
      const id = randomUUID();
      const order = { id, owner: "alice", item: "tea" };
      const first = await post("/order", order);
      assert.equal(first.status, 200, first.body);
      const row = { id, ownerId: "alice", text: "tea" };
      has(await alice.receive({ type: "change" }), { key: id, data: row, cursor: first.body, by: null });
      assert.equal((await post("/order", order)).body, first.body);
      const other = await post("/order", { ...order, item: "coffee" });
      assert.deepEqual([other.status, other.body.split(":")[0]], [500, "refused with conflict (409)"]);
      for (const client of [alice, bob]) assert.deepEqual(await client.rest(), []);
    });

    test("a todo lives: created, updated by some of its fields, deleted", async () => {
      const bob = await join("bob", "todos");
      const id = randomUUID();
      assert.equal((await post("/life", todo(id))).body, "over");
      has(await bob.receive({ action: "create", key: id }), { data: todo(id) });
      has(await bob.receive({ action: "update", key: id }), { data: { ...todo(id), done: true } });
      has(await bob.receive({ action: "delete", key: id }), { data: null });
    });

    test("what is queued is published, and a delivery that is repeated is not published again", async () => {
      const bob = await join("bob", "todos");
      const id = randomUUID();
      assert.equal((await post("/later", todo(id))).body, "queued");
      has(await bob.receive({ action: "create", key: id }), { data: todo(id) });
      const ids = [randomUUID(), randomUUID()];
      const messages = ids.map((id) => delivered(`m-${id}`, later(id)));
      for (let time = 0; time < 2; time += 1) {
        const { outcome, explicitAcks } = await workers.deliver(example, "changes", messages);
        assert.deepEqual([outcome, explicitAcks.toSorted()], ["ok", messages.map(({ id }) => id).toSorted()]);
      }
      const { changes } = await bob.receive({ type: "batch" });
      assert.deepEqual(changes.map(({ key }) => key), ids);
      assert.deepEqual(await bob.rest(), []);
    });

    // Last: it leaves more rows than a snapshot has on one page.
    test("a list arrives as one batch, and of more than 1,000 as several", async () => {
      const bob = await join("bob", "todos");
      const todos = Array.from({ length: 1_001 }, () => todo(randomUUID()));
      const { body } = await post("/all", todos);
      assert.deepEqual(body.map(({ seq }) => seq - body[0].seq), [0, 1]);
      const batch = await bob.receive({ type: "batch" });
      assert.deepEqual(batch.changes.map(({ key }) => key), todos.slice(0, 1_000).map(({ id }) => id));
      assert.equal(batch.cursor, body[0].cursor);
      has(await bob.receive({ type: "change" }), { key: todos[1_000].id });
    });
  });
}

test("a publish whose answer is lost in a crash, at whatever effect, happens once", async (t) => {
  const workers = await start({ faults: true, workers: ["ts", "sync"] });
  t.after(() => workers.stop());
  const ask = async (path) => {
    const { status, body } = await workers.ask("tidewire-sync", path, { headers: bearer(PUBLISH_KEY) });
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  };
  const head = async () => (await ask("/stats")).seq;
  for (let at = 0, crashed = true; crashed; at += 1) {
    assert.ok(at < 60, "it still panics");
    await workers.space("global").join("alice", ["todos"]);
    const before = await head();
    // The object for arming is another one, so that it does not wake the space.
    await ask(`/faults?space=armed&at=${at}`);
    const { status, body } = await workers.http("/life", { method: "POST", body: JSON.stringify(todo(`t${at}`)) });
    crashed = (await ask("/faults?space=armed&at=")).left < 0;
    assert.equal(status, 200, body);
    assert.equal(await head(), before + 3, "created, updated, deleted");
    if (at === 0) assert.ok(crashed);
  }
});

describe("a bad message in the queue", () => {
  const dead = {
    name: "dead-letters",
    compatibilityDate: "2026-06-07",
    modules: true,
    script: `export default {
      queue: ({ messages }) => messages.forEach(({ body }) => console.log("dead: " + JSON.stringify(body))),
    }`,
    queueConsumers: { "refused-changes": { maxBatchTimeout: 0 } },
  };

  test("does not hold up the others, and ends among the dead letters", async (t) => {
    const workers = await start({ workers: ["ts", "sync"], others: [dead] });
    t.after(() => workers.stop());
    const bob = await workers.space("global").join("bob", ["todos"]);
    const bodies = [later("a"), { ...later("b"), channel: "nobody-knows" }, later("c"), "no change", { ...later("d"), key: "" }];
    const messages = bodies.map((body, n) => delivered(`m${n}`, body));
    const { explicitAcks, retryMessages } = await workers.deliver(example, "changes", messages);
    assert.deepEqual(explicitAcks.toSorted(), ["m0", "m2"]);
    assert.deepEqual(retryMessages.map(({ msgId }) => msgId).toSorted(), ["m1", "m3", "m4"]);
    assert.deepEqual((await bob.receive({ type: "batch" })).changes.map(({ key }) => key), ["a", "c"]);
    assert.deepEqual(await bob.rest(), []);

    // And by the queue itself: delivered as often as its settings say, then put aside.
    const { status } = await workers.http("/later", { method: "POST", body: JSON.stringify({ title: "no id" }) });
    assert.equal(status, 200);
    const buried = () => workers.logs.find((line) => line.includes("dead: "));
    for (let times = 0; times < 600 && !buried(); times += 1) await delay(50);
    const line = buried();
    assert.ok(line, `nobody is dead: ${workers.logs.join("\n")}`);
    assert.deepEqual(JSON.parse(line.split("dead: ")[1]).data, { title: "no id" });
    assert.ok(!workers.logs.some((line) => line.includes(PUBLISH_KEY)));
  });
});

describe("what is missing or wrong", () => {
  for (const [name, publisher, status, told] of [
    ["no key", () => ({ bindings: {} }), 500, /key \(PUBLISH_KEY\) is not set/],
    ["no way", () => ({ ...apart, bindings: { PUBLISH_KEY } }), 500, /neither the binding SYNC_WORKER nor fallbackUrl \(SYNC_WORKER_URL\) is set/],
    ["a wrong key", () => ({ bindings: { PUBLISH_KEY: "wrong" } }), 500, /^refused with unauthorized \(401\)/],
    ["nobody there", () => ({ ...apart, bindings: { PUBLISH_KEY, SYNC_WORKER_URL: "http://127.0.0.1:9" } }), 503, /^no answer, the call may have happened/],
  ]) {
    test(`${name} is told by name`, async (t) => {
      const workers = await start({ workers: ["ts", "sync"], publisher: publisher() });
      t.after(() => workers.stop());
      const answer = await workers.http("/life", { method: "POST", body: JSON.stringify(todo("t")) });
      assert.equal(answer.status, status, answer.body);
      assert.match(answer.body, told);
    });
  }

  test("a publisher without bindings says what became of it", async (t) => {
    const workers = await start({ workers: ["ts", "sync"], vars: { SYNC_CHANNELS: { feed: {} } } });
    t.after(() => workers.stop());
    const publish = async (url, key) => {
      const body = JSON.stringify({ url, key, todo: todo(randomUUID()) });
      return (await workers.http("/elsewhere", { method: "POST", body })).body;
    };
    assert.match(await publish(elsewhere.origin, PUBLISH_KEY), /^change \d+, sent to \d+$/);
    assert.equal(await publish(elsewhere.origin, "wrong"), "never: unauthorized ");
    assert.equal(await publish("http://127.0.0.1:9", PUBLISH_KEY), "later: no_answer");
  });
});

for (const [way, settings] of Object.entries({
  "the service binding": () => ({ workers: ["ts", "sync"] }),
  "the URL": () => ({
    workers: ["ts"],
    publisher: { ...apart, bindings: { SYNC_WORKER_URL: elsewhere.origin } },
  }),
})) {
  describe(`a route that passes on over ${way}`, () => {
    let workers;
    before(async () => (workers = await start(settings())));
    after(() => workers?.stop());

    test("carries sockets: upgrade, subprotocol, heartbeat, changes both ways, close", async () => {
      const space = workers.space();
      const upgraded = await workers.upgrade(space.path, { headers: bearer(space.token("alice")), protocols: ["one", "two"] });
      assert.deepEqual([upgraded.status, upgraded.protocol], [101, "one"]);
      const [alice, bob] = [await space.join("alice", ["todos"]), await space.join("bob", ["todos"])];
      bob.send(heartbeat);
      assert.equal(await bob.receive("pong"), "pong");
      const ack = await alice.mutate("todos", "create", "t1", { title: "milk" });
      has(await bob.receive({ type: "change" }), { key: "t1", cursor: ack.cursor, by: "alice" });
      bob.close(4999, "bye");
      has(await bob.ended(), { code: 4999 });
    });

    test("carries refusals, and what is no upgrade", async () => {
      const { status, body } = await workers.upgrade("/api/sync", { headers: bearer("bad") });
      assert.deepEqual([status, body.error.code], [401, "unauthorized"]);
      assert.equal((await workers.http("/api/sync")).status, 426);
      assert.equal((await workers.http("/api/sync", { method: "POST" })).status, 405);
      const who = await workers.http("/api/sync/session", { headers: bearer(workers.space("global").token("alice", { space: undefined })) });
      assert.equal(who.body.identity, "alice");
    });

    test("takes no internal header from outside, and tells the app's own origin", async () => {
      const grant = Buffer.from(JSON.stringify({ identity: "mallory", topics: [] })).toString("base64url");
      const forged = { "x-tidewire-auth-grant": grant, "x-tidewire-publisher": "unscoped", "x-tidewire-new-space": "yes" };
      const who = await workers.http("/api/sync/session", { headers: forged });
      assert.equal(who.body.identity, null);
      const page = (origin, more) => workers.http("/api/sync/session", { headers: { cookie: "theme=dark", origin, ...more } });
      assert.equal((await page(workers.origin)).status, 200);
      assert.equal((await page("https://evil.example")).status, 403);
      assert.equal((await page("https://evil.example", { "x-tidewire-origin": "https://evil.example" })).status, 403);
    });
  });
}
