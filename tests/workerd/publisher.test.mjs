// The example Worker that publishes from Rust, over each way to the sync engine.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { has, secrets, start } from "./harness.mjs";

const example = "tidewire-rust-publisher";
const PUBLISH_KEY = secrets.PUBLISH_KEY;
/** Without the service binding. */
const apart = { serviceBindings: {} };

const order = (workers, fields = {}) =>
  workers.ask(example, "/order", {
    method: "POST",
    body: JSON.stringify({ id: "o1", owner: "alice", item: "tea", ...fields }),
  });

let url;
before(async () => (url = await start()));
after(() => url?.stop());

const ways = {
  "the service binding": { workers: ["app", "sync", "publisher"] },
  "the Durable Object's binding, which needs no key": {
    workers: ["app", "sync", "publisher"],
    publisher: {
      ...apart,
      bindings: {},
      durableObjects: { SYNC_ENGINE: { className: "SyncEngine", scriptName: "tidewire-sync", useSQLite: true } },
    },
  },
  "SYNC_WORKER_URL": {
    workers: ["publisher"],
    publisher: () => ({ ...apart, bindings: { PUBLISH_KEY, SYNC_WORKER_URL: url.origin } }),
  },
};

describe("an order is published", () => {
  for (const [name, { workers: names, publisher }] of Object.entries(ways)) {
    test(`over ${name}`, async (t) => {
      const options = typeof publisher === "function" ? publisher() : publisher;
      const workers = await start({ workers: names, publisher: options });
      t.after(() => workers.stop());
      const space = (names.includes("app") ? workers : url).space("global");
      const [alice, bob] = [await space.join("alice", ["notes"]), await space.join("bob", ["notes"])];
      const first = await order(workers);
      assert.equal(first.status, 200, first.body);
      const row = { id: "o1", ownerId: "alice", text: "tea" };
      has(await alice.receive({ type: "change" }), { key: "o1", data: row, cursor: first.body, by: null });
      // Ordered again it is the same order; another one of that id is a conflict.
      assert.deepEqual(await order(workers), first);
      const other = await order(workers, { item: "coffee" });
      assert.equal(other.status, 500);
      assert.match(other.body, /^refused with conflict \(409\)/);
      for (const client of [alice, bob]) assert.deepEqual(await client.rest(), []);
    });
  }
});

test("what is missing or wrong is told by its name", async (t) => {
  for (const [bindings, status, wanted] of [
    [{ PUBLISH_KEY: "wrong", SYNC_WORKER_URL: url.origin }, 500, /^refused with unauthorized \(401\)/],
    [{ SYNC_WORKER_URL: url.origin }, 500, /PUBLISH_KEY is not set/],
    [{ PUBLISH_KEY }, 500, /SYNC_WORKER nor SYNC_WORKER_URL/],
    [{ PUBLISH_KEY, SYNC_WORKER_URL: "http://127.0.0.1:9" }, 503, /^no answer, retry with the same idempotency key/],
  ]) {
    const workers = await start({ workers: ["publisher"], publisher: { ...apart, bindings } });
    t.after(() => workers.stop());
    const answer = await order(workers);
    assert.equal(answer.status, status, answer.body);
    assert.ok([answer.body, ...workers.logs].some((text) => wanted.test(text)), workers.logs.join());
    const { status: bad } = await workers.ask(example, "/order", { method: "POST", body: "{}" });
    assert.equal(bad, 400);
    assert.equal((await workers.ask(example, "/order")).status, 404);
  }
});
