// Event channels over real sockets: kept, edited, replayed and trimmed, and what they cost.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { has, start } from "./harness.mjs";

const user = { read: "user", write: "user" };
const channels = {
  todos: user,
  chat: { ...user, keep: "every" },
  doc: { ...user, keep: "every", edits: true },
  talk: { ...user, keep: "every", edits: true, scope: { field: "for", leave: true } },
  log: { ...user, keep: "every", edits: true, retain: { count: 8 } },
  news: { ...user, keep: "every", retain: { count: 1000, days: 7 } },
};

let workers;
before(async () => (workers = await start({ vars: { SYNC_CHANNELS: channels } })));
after(() => workers?.stop());

const gist = (changes) => changes.map(({ action, key, data }) => [action, key, data]);
const bare = ({ action, key, data, by, at }) => ({ action, key, data, by, at });

describe("events", () => {
  test("come in order, and a key is used once", async () => {
    const space = workers.space();
    const [alice, bob] = [await space.join("alice", ["chat"]), await space.join("bob", ["chat"])];
    for (const key of ["z", "a", "m"]) await alice.mutate("chat", "create", key, {});
    has(await alice.mutate("chat", "create", "a", {}), { type: "reject", error: { code: "conflict" } });
    has(await alice.mutate("chat", "update", "a", {}), { error: { code: "invalid", field: "action" } });
    assert.deepEqual((await bob.rest()).map(({ key }) => key), ["z", "a", "m"]);
    await space.sleep();
    const page = await (await space.join("carol")).subscribe("chat");
    assert.deepEqual(page.data, [{ id: "z" }, { id: "a" }, { id: "m" }]);
    assert.equal("changes" in page, false);
  });

  test("that are edited are replayed as whoever was there saw them, also after a sleep", async () => {
    const space = workers.space();
    const [alice, bob] = [await space.join("alice", ["doc"]), await space.join("bob", ["doc"])];
    const { cursor, view } = alice.snapshots.doc;
    alice.close(1000);
    await alice.ended();
    const carol = await space.join("carol");
    await carol.mutate("doc", "create", "k1", { text: "hi", n: 1 });
    await carol.mutate("doc", "create", "k2", {});
    has(await carol.mutate("doc", "update", "k1", { text: "hello" }), { data: { text: "hello", n: 1 } });
    await space.publish("doc", "update", "k1", { n: 2 });
    await carol.mutate("doc", "delete", "k2");
    const live = await bob.rest();
    assert.deepEqual(gist(live), [
      ["create", "k1", { id: "k1", text: "hi", n: 1 }],
      ["create", "k2", { id: "k2" }],
      ["update", "k1", { id: "k1", text: "hello", n: 1 }],
      ["update", "k1", { id: "k1", text: "hello", n: 2 }],
      ["delete", "k2", null],
    ]);
    await space.sleep();
    const back = await space.join("alice");
    const page = await back.subscribe("doc", { cursor, view });
    has(page, { mode: "delta", data: [{ id: "k1", text: "hello", n: 2 }], deleted: ["k2"] });
    assert.deepEqual(page.changes, live.map(bare));
    const paged = [];
    for (let next = { cursor, view, more: true }; next.more; ) {
      next = await back.subscribe("doc", { cursor: next.cursor, view, limit: 2 });
      assert.ok(next.changes.length <= 2);
      paged.push(...next.changes);
    }
    assert.deepEqual(paged, live.map(bare));
    const full = await back.subscribe("doc");
    assert.deepEqual(gist(full.changes), gist(live.filter(({ key }) => key === "k1")));
    assert.equal(JSON.stringify(full).includes("k2"), false, "nothing of what is gone");
  });

  test("that move are told to those who lose and gain them, and to nobody else", async () => {
    const space = workers.space();
    const names = ["alice", "bob", "carol"];
    const before = {};
    for (const name of names) before[name] = (await space.join(name, ["talk"])).snapshots.talk;
    const alice = await space.join("alice");
    await alice.mutate("talk", "create", "k", { for: "alice" });
    await alice.mutate("talk", "update", "k", { for: "bob" });
    await space.sleep();
    const told = {};
    for (const name of names) {
      const { cursor, view } = before[name];
      const { changes } = await (await space.join(name)).subscribe("talk", { cursor, view });
      told[name] = changes.map(({ action, by }) => [action, by]);
    }
    assert.deepEqual(told, {
      alice: [["create", "alice"], ["delete", null]],
      bob: [["create", "alice"]],
      carol: [],
    });
  });

  test("past the channel's count are trimmed, and a cursor behind that gets full", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["log"]);
    const { cursor, view } = alice.snapshots.log;
    for (let i = 0; i < 12; i += 1) await space.publish("log", "create", `k${i}`, {});
    const changes = await alice.rest();
    await space.restart();
    const back = await space.join("alice");
    const full = await back.subscribe("log", { cursor, view });
    assert.equal(full.mode, "full");
    assert.deepEqual(full.data.map(({ id }) => id), ["k4", "k5", "k6", "k7", "k8", "k9", "k10", "k11"]);
    has(await back.subscribe("log", { cursor: changes[3].cursor, view }), { mode: "delta" });
    has(await back.subscribe("log", { cursor: changes[2].cursor, view }), { mode: "full" });
    const again = await back.mutate("log", "create", "k0", {});
    has(again, { type: "ack", replayed: false });
    assert.ok(again.cursor.split(".")[1] === "13", "the key is free, and no seq comes again");
  });
});

describe("rows written for events", () => {
  async function cost(space, step) {
    const before = await space.stats();
    await step();
    const after = await space.stats();
    assert.equal(after.instance, before.instance);
    return after.rowsWritten - before.rowsWritten;
  }

  test("are those of a row for a create, and one more for an edit", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos", "chat", "doc", "news"]);
    for (const channel of ["todos", "news"]) await space.publish(channel, "create", "warm-up", {});
    await alice.mutate("todos", "create", "warm-up", {});
    const costs = {};
    const row = { text: "x".repeat(1_000) };
    for (const channel of ["todos", "chat", "doc", "news"]) {
      const actions = channel === "todos" || channel === "doc" ? ["create", "update", "delete"] : ["create"];
      for (const action of actions) {
        const mutated = await cost(space, () => alice.mutate(channel, action, "m", row));
        const published = await cost(space, () => space.publish(channel, action, "p", row));
        costs[`${action} ${channel}`] = [mutated, published];
      }
    }
    assert.deepEqual(costs, {
      "create todos": [3, 2],
      "update todos": [3, 2],
      "delete todos": [3, 2],
      "create chat": [3, 2],
      "create doc": [3, 2],
      "update doc": [4, 3],
      "delete doc": [4, 3],
      "create news": [3, 2],
    });
  });

  test("are one more for each that is trimmed, and one for the floor", async () => {
    const space = workers.space();
    const create = (i) => space.publish("log", "create", `k${i}`, {});
    for (let i = 0; i < 9; i += 1) await create(i);
    const costs = [];
    for (let i = 9; i < 16; i += 1) costs.push(await cost(space, () => create(i)));
    // With 12 of 8 events the write trims 4.
    assert.deepEqual(costs, [2, 2, 7, 2, 2, 2, 7]);
  });
});
