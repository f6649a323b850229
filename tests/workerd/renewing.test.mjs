// Sessions renewed in place over a real socket, and the whole life of a legacy client, both with
// and without an eviction between any two frames.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { has, heartbeat, mutation, rows, start } from "./harness.mjs";

const SYNC_CHANNELS = {
  "todos": { read: "user", write: "user" },
  "notes": { read: "user", write: "user", scope: { field: "ownerId" } },
  "feed": { read: "anyone", write: "none" },
  "team": { read: "user", write: "user", scope: { field: "team", as: "team:" } },
};

let workers;
before(async () => (workers = await start({ vars: { SYNC_CHANNELS } })));
after(() => workers?.stop());

/** Puts the object to sleep if asked to, awake or not. */
async function nap(space, sleeps) {
  if (!sleeps) return;
  await space.sleep().catch((error) => assert.match(error.message, /not currently running/));
}

const until = (time) => delay(Math.max(0, time - Date.now()));
const in_ = (seconds) => Date.now() / 1000 + seconds;

/** Sends a token; the answer. */
async function auth(client, token, answer = { type: "authed" }) {
  client.send({ type: "auth", token });
  return client.receive(answer);
}

for (const sleeps of [false, true]) {
  describe(`auth, ${sleeps ? "with an eviction before each frame" : "awake"}`, () => {
    test("moves the end of the session, later or earlier", async () => {
      const space = workers.space();
      const end = Date.now() + 1_500;
      const prolonged = await space.join("alice", ["todos"], { exp: end / 1000 });
      const left = await space.join("alice", ["todos"], { exp: end / 1000 });
      const shortened = await space.join("alice", ["todos"]);
      const watcher = await space.join("bob", ["todos"]);
      await nap(space, sleeps);
      const exp = in_(3_600);
      const later = await auth(prolonged, space.token("alice", { exp }));
      has(later, { identity: "alice", view: prolonged.snapshots.todos.view });
      assert.equal(later.expiresAt, Math.floor(exp * 1000));
      await nap(space, sleeps);
      const sooner = await auth(shortened, space.token("alice", { exp: end / 1000 }));
      assert.equal(sooner.expiresAt, end);
      await nap(space, sleeps);
      assert.equal((await space.publish("todos", "create", "before", {})).receivers, 4);
      await until(end + 10);
      await nap(space, sleeps);
      assert.equal((await space.publish("todos", "create", "after", {})).receivers, 2);
      for (const client of [left, shortened]) {
        has(await client.ended(), { code: 4001, reason: "auth expired" });
        assert.deepEqual(client.inbox.map(({ key }) => key), ["before"]);
      }
      for (const client of [prolonged, watcher]) {
        assert.deepEqual((await client.rest()).map(({ key }) => key), ["before", "after"]);
      }
      await nap(space, sleeps);
      has(await prolonged.mutate("todos", "create", "k", {}), { type: "ack" });
    });

    test("with other topics moves rows in and out of sight", async () => {
      const space = workers.space();
      for (const team of ["a", "b"]) await space.publish("team", "create", `${team}1`, { team });
      const alice = await space.join("alice", ["team"], { topics: ["team:a"] });
      await nap(space, sleeps);
      const { view } = await auth(alice, space.token("alice", { topics: ["team:b"] }));
      const [batch, ...more] = await alice.rest();
      assert.deepEqual(more, []);
      assert.deepEqual(batch.changes.map(({ action, key }) => `${action} ${key}`).toSorted(), ["create b1", "delete a1"]);
      const order = alice.all.map(({ type }) => type);
      assert.ok(order.indexOf("batch") < order.indexOf("authed"), "the view came before its rows");
      await nap(space, sleeps);
      assert.equal((await space.publish("team", "create", "a2", { team: "a" })).receivers, 0);
      assert.equal((await space.publish("team", "create", "b2", { team: "b" })).receivers, 1);
      const { cursor } = await alice.receive({ type: "change", key: "b2" });
      const back = await space.join("alice", [], { topics: ["team:b"] });
      has(await back.subscribe("team", { cursor, view }), { mode: "delta", data: [], deleted: [] });
      const old = await back.subscribe("team", { cursor, view: alice.snapshots.team.view });
      assert.deepEqual([old.mode, Object.keys(rows(old))], ["full", ["b1", "b2"]]);
    });

    test("of another identity ends the session", async () => {
      const space = workers.space("global");
      const clients = [await space.join("alice", ["todos"]), await space.join(null, ["feed"])];
      for (const client of clients) {
        await nap(space, sleeps);
        const refused = await auth(client, space.token("bob"), { type: "error" });
        assert.equal(refused.error.code, "forbidden");
        assert.equal((await client.ended()).code, 4501);
      }
    });

    test("with a bad token leaves the session as it was", async () => {
      const space = workers.space();
      const alice = await space.join("alice", ["notes"]);
      for (const [token, code] of [
        ["", "unauthorized"],
        ["no.token.atall", "unauthorized"],
        [space.token("alice", { secret: "another" }), "unauthorized"],
        [space.token("alice", { exp: in_(-1) }), "unauthorized"],
        [space.token("alice", { space: "elsewhere" }), "forbidden"],
        [space.token("alice", { topics: ["all"] }), "forbidden"],
        [space.token("alice", { topics: ["user:bob"] }), "forbidden"],
      ]) {
        await nap(space, sleeps);
        const refused = await auth(alice, token, { type: "error" });
        assert.equal(refused.error.code, code, token);
        assert.ok(!JSON.stringify(refused).includes(token || "\0"), "the token is echoed");
      }
      await nap(space, sleeps);
      has(await alice.mutate("notes", "create", "k", { ownerId: "alice" }), { type: "ack" });
      assert.equal((await space.publish("notes", "update", "k", { n: 1 })).receivers, 1);
      has(await alice.receive({ type: "change" }), { key: "k", by: null });
      assert.deepEqual(await alice.rest(), []);
    });
  });

  describe(`a legacy client's life, ${sleeps ? "with an eviction between any two frames" : "awake"}`, () => {
    test("subscribes, pings, writes, is refused, drops, comes back with since, and resyncs", async () => {
      const space = workers.space();
      const step = async (client, frame, wanted) => {
        await nap(space, sleeps);
        client.send(frame);
        return client.receive(wanted);
      };
      const subscribe = (client, channel, more) =>
        step(client, { type: "subscribe", channel, ...more }, { type: "snapshot", channel });
      await space.publish("feed", "create", "f1", {});
      const first = await space.connect("alice");
      for (const channel of ["todos", "notes", "feed"]) {
        const snapshot = await subscribe(first, channel);
        assert.equal(snapshot.isDelta, false);
        assert.deepEqual(Object.keys(rows(snapshot)), channel === "feed" ? ["f1"] : []);
        assert.equal(snapshot.more, undefined);
      }
      await step(first, heartbeat, "pong");
      const since = Date.now();
      const row = { id: "k1", text: "milk", updatedAt: since };
      const create = { ...mutation("m1", "todos", "create", "k1"), data: row };
      has(await step(first, create, { id: "m1" }), { type: "ack", data: row });
      has(await step(first, mutation("m2", "notes", "create", "n1", { ownerId: "alice" }), { id: "m2" }), { type: "ack" });
      const update = mutation("m3", "notes", "update", "n1", { ownerId: "alice", v: 2 });
      has(await step(first, update, { id: "m3" }), { type: "ack", data: { v: 2 } });
      const refused = await step(first, mutation("m4", "feed", "create", "f2", {}), { id: "m4" });
      assert.deepEqual([refused.type, typeof refused.error], ["reject", "string"]);
      const unknown = await step(first, { type: "subscribe", channel: "nothing" }, { type: "reject" });
      assert.deepEqual([unknown.id, unknown.channel, typeof unknown.error], ["subscribe", "nothing", "string"]);
      await nap(space, sleeps);
      assert.equal((await space.publish("todos", "create", "k2", {})).receivers, 1);
      has(await first.receive({ type: "change" }), { channel: "todos", action: "create", key: "k2" });
      assert.deepEqual(first.inbox, []);
      first.drop();

      await space.publish("todos", "delete", "k2");
      await space.publish("notes", "update", "n1", { ownerId: "bob" });
      await space.publish("feed", "create", "f3", {});
      const second = await space.connect("alice");
      for (const form of [since, new Date(since).toISOString()]) {
        // The log is younger than the margin that a client's clock gets, so the answer is everything.
        const todos = await subscribe(second, "todos", { since: form });
        assert.deepEqual([todos.isDelta, Object.keys(rows(todos))], [false, ["k1"]]);
        const notes = await subscribe(second, "notes", { since: form });
        assert.deepEqual([notes.isDelta, notes.data], [false, []]);
        const feed = await subscribe(second, "feed", { since: form });
        assert.deepEqual(Object.keys(rows(feed)), ["f1", "f3"]);
      }
      has(await step(second, create, { id: "m1" }), { type: "ack", replayed: true, data: row });
      await nap(space, sleeps);
      await space.post("/broadcast-batch", {
        channel: "todos",
        changes: [{ action: "create", key: "k3", data: {} }, { action: "delete", key: "k1" }],
      });
      const live = await second.receive({ channel: "todos", type: "batch" });
      assert.deepEqual(live.changes.map(({ action, key }) => `${action} ${key}`), ["create k3", "delete k1"]);
      const all = await subscribe(second, "todos");
      assert.deepEqual([all.isDelta, Object.keys(rows(all))], [false, ["k3"]]);
      await step(second, heartbeat, "pong");
      assert.deepEqual(second.inbox, []);
      has(await space.stats(), { subscriptions: 3 });
      for (const { frames } of [first, second]) assert.ok(frames.length > 0);
      for (const message of [...first.all, ...second.all]) {
        assert.ok(!Array.isArray(message), "an array");
        assert.ok(!(message.type === "snapshot" && "more" in message), "a page that says more");
      }
    });

    test("gets all pages of a snapshot, and then what is live", async () => {
      const space = workers.space();
      const changes = Array.from({ length: 1_000 }, (_, i) => ({ action: "create", key: `k${i}`, data: {} }));
      assert.equal((await space.post("/broadcast-batch", { channel: "todos", changes })).status, 200);
      await space.publish("todos", "create", "last", {});
      await nap(space, sleeps);
      const client = await space.connect("alice");
      client.send({ type: "subscribe", channel: "todos" });
      await client.pending(3);
      await nap(space, sleeps);
      await space.publish("todos", "create", "live", {});
      const [...messages] = [await client.receive({ type: "change", key: "live" }), ...client.inbox];
      const pages = messages.slice(1);
      assert.deepEqual(pages.map(({ isDelta }) => isDelta), [false, true, true]);
      assert.equal(new Set(pages.flatMap(({ data }) => data.map(({ id }) => id))).size, 1_001);
    });
  });
}
