// The object sleeps and wakes and nobody notices: forced between any two frames, and by itself.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { has, heartbeat, mutation, rows, start } from "./harness.mjs";

/** The runtime puts an object to sleep after ten seconds without an event. */
const untilAsleep = 11_500;

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

const until = (time) => delay(Math.max(0, time - Date.now()));

/** Runs a step with the object asleep before it; asserts that the step woke it. */
async function waking(space, step) {
  const { instance } = await space.stats();
  await space.sleep();
  const result = await step();
  assert.notEqual((await space.stats()).instance, instance, "the object has not slept");
  return result;
}

describe("forced", () => {
  test("a conversation of two users, asleep between any two frames", async () => {
    const space = workers.space();
    const wake = (step) => waking(space, step);
    const alice = await wake(() => space.connect("alice"));
    const bob = await wake(() => space.connect("bob"));
    for (const client of [alice, bob]) {
      await wake(() => {
        client.send({ type: "hello", v: 1 });
        return client.receive({ type: "welcome", identity: client.name });
      });
      for (const channel of ["todos", "notes"]) {
        const snapshot = await wake(() => client.subscribe(channel));
        has(snapshot, { type: "snapshot", mode: "full", data: [] });
      }
    }

    const ack = await wake(() => alice.mutate("todos", "create", "k1", { v: 1 }));
    has(await bob.receive({ type: "change" }), { key: "k1", by: "alice", cursor: ack.cursor });

    await wake(() => alice.mutate("notes", "create", "a1", { ownerId: "alice" }));
    const { receivers } = await wake(() => space.publish("notes", "create", "b1", { ownerId: "bob" }));
    assert.equal(receivers, 1);
    await bob.receive({ type: "change", channel: "notes", key: "b1" });

    has(await wake(() => bob.mutate("notes", "update", "a1", {})), { error: { code: "not_found" } });
    has(await wake(() => bob.mutate("todos", "update", "k1", { v: 2 })), { type: "ack" });
    has(await alice.receive({ type: "change" }), { channel: "todos", data: { v: 2 }, by: "bob" });

    await wake(() => alice.send({ type: "unsubscribe", channel: "todos" }) ?? alice.rest());
    assert.equal((await wake(() => space.publish("todos", "delete", "k1"))).receivers, 1);
    has(await bob.receive({ type: "change" }), { action: "delete", key: "k1", data: null });

    await wake(() => {
      bob.send("{");
      return bob.receive({ type: "error", error: { code: "malformed" } });
    });
    await wake(() => {
      bob.send({ type: "hello", v: 1 });
      return bob.receive({ type: "error", error: { code: "malformed" } });
    });
    const { cursor, view } = await wake(() => bob.subscribe("notes"));
    has(await wake(() => bob.subscribe("notes", { cursor, view })), { mode: "delta", data: [], deleted: [] });
    assert.deepEqual(await wake(() => alice.rest()), []);
    assert.deepEqual(await wake(() => bob.rest()), []);
    has(await space.stats(), { connections: 2, subscriptions: 3 });
  });

  test("a paged snapshot goes on", async () => {
    const space = workers.space();
    const changes = Array.from({ length: 9 }, (_, i) => ({ action: "create", key: `k${i}`, data: {} }));
    await space.post("/broadcast-batch", { channel: "todos", changes });
    const alice = await space.join("alice");
    const replica = {};
    let page = {};
    do {
      const { cursor, view } = page;
      page = await waking(space, () => alice.subscribe("todos", { cursor, view, limit: 4 }));
      Object.assign(replica, rows(page));
    } while (page.more);
    assert.equal(Object.keys(replica).length, 9);
  });

  test("the same mutation sent again after a disconnect and an eviction is executed once", async () => {
    const space = workers.space();
    const watcher = await space.join("bob", ["todos"]);
    const first = await space.join("alice", ["todos"]);
    const ack = await first.mutate("todos", "create", "k", { n: 1 }, "m1");
    first.drop();
    const second = await waking(space, () => space.join("alice"));
    await waking(space, async () => {
      const repeat = await second.mutate("todos", "create", "k", { n: 1 }, "m1");
      assert.deepEqual(repeat, { ...ack, replayed: true });
    });
    await watcher.receive({ type: "change", key: "k" });
    assert.deepEqual(await watcher.rest(), []);
  });

  test("a mutation whose ack was never seen is executed once", async () => {
    const space = workers.space();
    const watcher = await space.join("bob", ["todos"]);
    const first = await space.join("alice", ["todos"]);
    first.send(mutation("m1", "todos", "create", "k", { n: 1 }));
    const change = await watcher.receive({ type: "change", key: "k" });
    first.drop();
    await space.sleep();
    const second = await space.join("alice");
    const repeat = await second.mutate("todos", "create", "k", { n: 1 }, "m1");
    has(repeat, { type: "ack", replayed: true, cursor: change.cursor, data: { id: "k", n: 1 } });
    assert.deepEqual(await watcher.rest(), []);
  });

  test("anonymous connections stay anonymous, legacy ones legacy, topics stay granted", async () => {
    const space = workers.space("global");
    const anonymous = await space.join(null, ["feed"]);
    const member = await space.join("alice", ["room:1"], { topics: ["room:1", "other"] });
    const legacy = await space.connect("bob");
    legacy.send({ type: "subscribe", channel: "feed" });
    await legacy.receive({ type: "snapshot" });
    await space.sleep();
    has(await anonymous.subscribe("todos"), { error: { code: "unauthorized" } });
    await space.sleep();
    has(await member.mutate("room:1", "create", "k", {}), { type: "ack" });
    has(await member.subscribe("room:2"), { error: { code: "forbidden" } });
    await space.sleep();
    legacy.send(mutation("m", "feed", "create", "k", {}));
    assert.equal(typeof (await legacy.receive({ type: "reject", id: "m" })).error, "string");
    assert.equal((await space.publish("feed", "create", "f1", {})).receivers, 2);
  });

  test("many sockets are all found again", async () => {
    const space = workers.space();
    const clients = await Promise.all(
      Array.from({ length: 100 }, (_, i) => space.join(`user${i}`, ["todos", "notes"])),
    );
    const { receivers } = await waking(space, () => space.publish("todos", "create", "k", {}));
    assert.equal(receivers, clients.length);
    const audience = { ownerId: ["user7", "user42"] };
    assert.equal((await waking(space, () => space.publish("notes", "create", "n", audience))).receivers, 2);
    for (const [at, client] of clients.entries()) {
      const channels = (await client.rest()).map(({ type, channel }) => `${type} ${channel}`);
      const own = [7, 42].includes(at) ? ["change notes"] : [];
      assert.deepEqual(channels, ["change todos", ...own], client.name);
    }
  });

  test("the heartbeat does not wake the object", async () => {
    const space = workers.space();
    const client = await space.join("alice", ["todos"]);
    await space.sleep();
    client.send(heartbeat);
    await client.receive("pong");
    await assert.rejects(space.sleep(), /not currently running/);
    assert.equal((await space.publish("todos", "create", "k", {})).receivers, 1);
    await client.receive({ type: "change" });
  });
});

test("evictions at any moment lose nothing and double nothing", async () => {
  const space = workers.space();
  const names = ["alice", "bob", "carol"];
  const writers = await Promise.all(names.map((name) => space.join(name, ["todos"])));
  const [each, published] = [60, 60];
  let writing = true;
  let evictions = 0;
  const storm = async () => {
    while (writing) {
      // It fails where the object sleeps already.
      await space.sleep().then(() => (evictions += 1), () => {});
      await delay(Math.random() * 8);
    }
  };
  const write = async (writer) => {
    for (let i = 0; i < each; i += 1) {
      const row = { by: writer.name, i };
      has(await writer.mutate("todos", "create", `k${i % 7}`, row), { type: "ack", replayed: false });
    }
  };
  const publish = async () => {
    for (let i = 0; i < published; i += 1) await space.publish("todos", "update", `p${i % 7}`, { i });
  };
  const ending = storm();
  try {
    await Promise.all([...writers.map(write), publish()]);
  } finally {
    writing = false;
    await ending;
  }
  assert.ok(evictions > 10, `only ${evictions} evictions`);
  assert.equal((await space.stats()).seq, names.length * each + published);

  const reader = await space.join("dave", ["todos"]);
  const expected = rows(reader.snapshots.todos);
  for (const writer of writers) {
    await writer.rest();
    const acks = writer.all.filter(({ type }) => type === "ack");
    const changes = writer.all.filter(({ type }) => type === "change");
    assert.equal(changes.length, (names.length - 1) * each + published);
    // In their order by seq, acks and changes make the very copy that the object holds.
    const seq = ({ cursor }) => Number(cursor.split(".")[1]);
    const replica = {};
    for (const { data } of [...acks, ...changes].sort((a, b) => seq(a) - seq(b))) {
      const { id, ...fields } = data;
      replica[id] = fields;
    }
    assert.deepEqual(replica, expected);
    const seen = writer.all.filter(({ cursor }) => cursor).map(seq);
    assert.deepEqual(seen, seen.toSorted((a, b) => a - b), "seqs come in order");
  }
});

test("a deployment drops every socket, and clients resume from their cursors", async () => {
  const space = workers.space();
  const before = await space.join("alice", ["todos"]);
  await space.publish("todos", "create", "k1", {});
  const { cursor } = await before.receive({ type: "change" });
  await space.restart();
  const { code } = await before.ended();
  assert.ok(code < 4500, "the client may reconnect");
  assert.equal((await space.publish("todos", "create", "k2", {})).receivers, 0);
  const after = await space.join("alice");
  const { view } = before.snapshots.todos;
  has(await after.subscribe("todos", { cursor, view }), { mode: "delta", data: [{ id: "k2" }] });
  has(await space.stats(), { connections: 1 });
});

describe("a session whose token has ended", () => {
  /** Late enough for two cores that have more to do. */
  const soon = () => Date.now() + 1_500;

  test("neither receives nor sends, awake", async () => {
    const space = workers.space();
    const end = soon();
    const watcher = await space.join("bob", ["todos"]);
    const receiver = await space.join("alice", ["todos"], { exp: end / 1000 });
    const sender = await space.join("alice", ["todos"], { exp: end / 1000 });
    assert.equal(sender.welcome.expiresAt, end);
    assert.equal((await space.publish("todos", "create", "k1", {})).receivers, 3);
    await until(end + 10);
    sender.send(mutation("m", "todos", "create", "k2", {}));
    has(await sender.ended(), { code: 4001, reason: "auth expired" });
    assert.equal((await space.publish("todos", "create", "k3", {})).receivers, 1);
    assert.equal((await receiver.ended()).code, 4001);
    for (const client of [sender, receiver]) {
      assert.deepEqual(client.inbox.map(({ key }) => key), ["k1"]);
    }
    assert.deepEqual((await watcher.rest()).map(({ key }) => key), ["k1", "k3"]);
  });

  test("neither receives nor sends, when it ended while the object slept", async () => {
    const [a, b] = [workers.space(), workers.space()];
    const end = soon();
    const receiver = await a.join("alice", ["todos"], { exp: end / 1000 });
    const sender = await b.join("alice", ["todos"], { exp: end / 1000 });
    const watcher = await b.join("bob", ["todos"]);
    await a.sleep();
    await b.sleep();
    await until(end + 10);
    assert.equal((await a.publish("todos", "create", "k", {})).receivers, 0);
    assert.equal((await receiver.ended()).code, 4001);
    sender.send(mutation("m", "todos", "create", "k", {}));
    assert.equal((await sender.ended()).code, 4001);
    assert.deepEqual([...receiver.inbox, ...sender.inbox, ...(await watcher.rest())], []);
    assert.equal((await b.stats()).seq, 0);
  });
});

describe("by itself", { concurrency: true }, () => {
  test("after ten idle seconds, heartbeats notwithstanding, and each then sees its own", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["notes", "todos"]);
    const bob = await space.join("bob", ["notes"]);
    const { instance } = await space.stats();
    const wakeAt = Date.now() + untilAsleep;
    while (Date.now() < wakeAt) {
      for (const client of [alice, bob]) {
        client.send(heartbeat);
        await client.receive("pong");
      }
      await delay(Math.min(2_000, Math.max(0, wakeAt - Date.now())));
    }

    assert.equal((await space.publish("notes", "create", "a1", { ownerId: "alice" })).receivers, 1);
    has(await space.stats(), { connections: 2, subscriptions: 3 });
    assert.notEqual((await space.stats()).instance, instance, "the object has not slept");
    await alice.mutate("notes", "create", "a2", { ownerId: "alice" });
    await bob.mutate("notes", "create", "b1", { ownerId: "bob" });
    await space.publish("notes", "create", "ab", { ownerId: ["alice", "bob"] });
    const keys = async (client) => (await client.rest()).map(({ key }) => key);
    assert.deepEqual(await keys(alice), ["a1", "ab"]);
    assert.deepEqual(await keys(bob), ["ab"]);
  });

  test("with a frame as the first thing that wakes it, and a closing socket", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    const bob = await space.join("bob", ["todos"]);
    const leaver = await space.join("carol", ["todos"]);
    const { instance } = await space.stats();
    await delay(untilAsleep);
    leaver.close(4321);
    assert.equal((await leaver.ended()).code, 4321);
    has(await alice.mutate("todos", "create", "k", {}), { type: "ack" });
    await bob.receive({ type: "change", key: "k", by: "alice" });
    const stats = await space.stats();
    assert.equal(stats.connections, 2);
    assert.notEqual(stats.instance, instance, "the object has not slept");
  });

  test("a token's end closes its socket though nothing happens: the alarm rings at the full minute", async () => {
    const space = workers.space();
    const end = Date.now() + 1_000;
    const client = await space.join("alice", ["todos"], { exp: end / 1000 });
    const { code } = await client.ended(70_000);
    assert.equal(code, 4001);
    assert.ok(Date.now() >= end);
  });
});
