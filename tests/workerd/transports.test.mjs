// The same conversations over every transport: WebSocket, server-sent events, long polls.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { start } from "./harness.mjs";
import { change, transports } from "./transports.mjs";

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

for (const [name, Transport] of Object.entries(transports)) {
  describe(`over ${name}`, () => {
    const clients = [];
    after(() => clients.forEach((client) => client.leave()));

    const open = (space, user, channel, more) => {
      const client = new Transport(workers, space, user, channel, more);
      clients.push(client);
      return client;
    };

    test("a copy is complete, follows every change, and catches up after being away", async () => {
      const space = workers.space();
      await space.publish("todos", "create", "k1", { n: 1 });
      const bob = open(space, "bob", "todos");
      await bob.shows({ k1: { n: 1 } });
      await space.publish("todos", "create", "k2", { n: 2 });
      await bob.shows({ k1: { n: 1 }, k2: { n: 2 } });
      await space.publish("todos", "update", "k1", { done: true });
      await space.publish("todos", "delete", "k2");
      await bob.shows({ k1: { n: 1, done: true } });
      bob.leave();
      await space.publish("todos", "delete", "k1");
      await space.publish("todos", "create", "k3", { n: 3 });
      bob.back();
      await bob.shows({ k3: { n: 3 } });
      await space.publish("todos", "create", "k4", { n: 4 });
      await bob.shows({ k3: { n: 3 }, k4: { n: 4 } });
      assert.equal(bob.fulls, 1, "all that came later was a delta");
    });

    test("a batch arrives whole, also one that is larger than a frame", async () => {
      const space = workers.space();
      const bob = open(space, "bob", "todos");
      await bob.shows(() => bob.fulls === 1);
      const text = "x".repeat(200_000);
      const row = (_, i) => ({ action: "create", key: `k${i}`, data: { text } });
      await space.post("/broadcast-batch", { channel: "todos", changes: Array.from({ length: 12 }, row) });
      await bob.shows(() => bob.rows.size === 12);
    });

    test("a copy holds what its owner may see, and nobody hears of anything else", async () => {
      const space = workers.space();
      const [alice, bob] = [open(space, "alice", "notes"), open(space, "bob", "notes")];
      await bob.shows(() => bob.fulls === 1);
      await space.publish("notes", "create", "a", { ownerId: "alice" });
      await space.publish("notes", "create", "b", { ownerId: "bob" });
      await alice.shows({ a: { ownerId: "alice" } });
      await bob.shows({ b: { ownerId: "bob" } });
      await space.publish("notes", "update", "b", { ownerId: "alice" });
      await alice.shows({ a: { ownerId: "alice" }, b: { ownerId: "alice" } });
      await bob.shows({});
      await space.publish("notes", "update", "b", { secret: true });
      await space.publish("notes", "create", "c", { ownerId: "bob" });
      await bob.shows({ c: { ownerId: "bob" } });
      assert.deepEqual([...bob.heard].toSorted(), ["b", "c"]);
      assert.deepEqual([...alice.heard].toSorted(), ["a", "b"]);
    });

    test("other topics move rows in and out of sight", async () => {
      const space = workers.space();
      await space.publish("todos", "create", "red", {}, { to: ["red"] });
      await space.publish("todos", "create", "all", {});
      const bob = open(space, "bob", "todos");
      await bob.shows({ all: {} });
      // Who polls may be between two requests: it is granted to live sessions alone.
      while (!bob.heard.has("red")) {
        await space.post("/topics", { identity: "bob", add: ["red"] });
        await delay(50);
      }
      await space.post("/topics", { identity: "bob", remove: ["red"] });
      await bob.shows({ all: {} });
    });

    test("a long channel comes in pages, and changes during them are not lost", async () => {
      const space = workers.space();
      for (let batch = 0; batch < 3; batch += 1) {
        const row = (_, i) => ({ action: "create", key: `k${batch}-${i}`, data: { i } });
        await space.post("/broadcast-batch", { channel: "todos", changes: Array.from({ length: 400 }, row) });
      }
      const bob = open(space, "bob", "todos", { limit: 50 });
      await bob.shows(() => bob.rows.size >= 100);
      await space.publish("todos", "create", "meanwhile", {});
      await bob.shows(() => bob.rows.size === 1_201);
      assert.equal(bob.fulls, 1);
    });

    test("a reset has everything asked for anew", async () => {
      const space = workers.space();
      await space.publish("todos", "create", "k1", {});
      const bob = open(space, "bob", "todos");
      await bob.shows({ k1: {} });
      await space.post("/broadcast-reset", { channel: "todos" });
      await bob.shows(() => bob.fulls === 2);
      await space.publish("todos", "create", "k2", {});
      await bob.shows({ k1: {}, k2: {} });
    });

    test("a copy survives sleep, and an object that is made anew", async () => {
      const space = workers.space();
      const bob = open(space, "bob", "todos");
      await bob.shows(() => bob.fulls === 1);
      await space.publish("todos", "create", "k", {});
      const all = { k: {} };
      for (const end of ["restart", "sleep", "restart"]) {
        // Open answers keep the object awake, until it is found that their reader has gone.
        if (name !== "WebSocket") bob.leave();
        while (name !== "WebSocket" && (await space.stats()).connections > 0) {
          await space.publish("todos", "update", "k", {});
        }
        await space[end]();
        all[`k${Object.keys(all).length}`] = {};
        await space.publish("todos", "create", Object.keys(all).at(-1), {});
        if (name !== "WebSocket") bob.back();
        await bob.shows(all);
      }
      assert.equal(bob.fulls, 1, "it resumed each time");
    });

    test("mutations are acked, refused and repeated alike", async () => {
      const space = workers.space();
      const [alice, bob] = [open(space, "alice", "todos"), open(space, "bob", "todos")];
      await bob.shows(() => bob.fulls === 1);
      await alice.shows(() => alice.fulls === 1);
      const create = change("todos", "create", "k1", { n: 1 });
      const results = await alice.mutate(
        create,
        change("todos", "update", "none", { n: 2 }),
        change("nowhere", "delete", "k"),
        change("feed", "delete", "k"),
      );
      assert.deepEqual(results.map(({ type, error }) => error?.code ?? type), [
        "ack", "not_found", "unknown_channel", "read_only",
      ]);
      await bob.shows({ k1: { n: 1 } });
      for (const Other of Object.values(transports)) {
        const other = new Other(workers, space, "alice", "todos");
        clients.push(other);
        await other.shows({ k1: { n: 1 } });
        const [again, conflict] = await other.mutate(create, { ...create, data: { id: "k1", n: 9 } });
        assert.deepEqual([again.type, again.replayed, again.cursor], ["ack", true, results[0].cursor]);
        assert.equal(conflict.error.code, "conflict");
      }
      await bob.shows({ k1: { n: 1 } });
    });

    test("a token that ends, ends it", async () => {
      const space = workers.space();
      const bob = open(space, "bob", "todos", { exp: Date.now() / 1000 + 2 });
      await bob.shows(() => bob.fulls === 1);
      await delay(2_000);
      // By itself a socket is closed at the full minute.
      await space.publish("todos", "create", "k1", {});
      assert.equal(await bob.ended, "unauthorized");
      assert.equal(bob.heard.size, 0);
    });

    test("an identity that is refused hears nothing more", async () => {
      const space = workers.space();
      const bob = open(space, "bob", "todos");
      await bob.shows(() => bob.fulls === 1);
      await space.post("/disconnect", { identity: "bob" });
      assert.equal(await bob.ended, "unauthorized");
      await space.publish("todos", "create", "k1", {});
      assert.equal(bob.heard.size, 0);
    });

    test("a channel that is not open is refused in the same words", async () => {
      const space = workers.space();
      for (const [channel, code] of [["nowhere", "unknown_channel"], ["room:1", "forbidden"]]) {
        assert.equal(await open(space, "bob", channel).ended, code);
      }
    });
  });
}
