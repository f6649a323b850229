// The TypeScript client against both Workers: over each transport, through sleep, crash and expiry.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { first } from "../../examples/client/src/first.ts";
import { complaints, open as openOffline } from "../../examples/client/src/offline.ts";
import { enter } from "../../examples/client/src/room.ts";
import { secretNotes } from "../../examples/client/src/secret.ts";
import { longPoll, serverSentEvents } from "../../client/src/http.ts";
import { createSync, memoryStorage, webSocket } from "../../client/src/index.ts";
import { start, token, within } from "./harness.mjs";

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

const clients = [];
after(() => Promise.all(clients.map((client) => client.close())));

/** A client of a user in a space, or of nobody. */
function connect(space, user, { claims, ...options } = {}) {
  const token = user === null ? undefined : space.token(user, claims);
  const sync = createSync({
    url: workers.origin,
    space: space.name,
    token,
    reconnectInterval: 50,
    maxReconnectInterval: 200,
    ...options,
  });
  clients.push(sync);
  return sync;
}

/** Waits until something is so, looking whenever rows, outbox or status change. */
function until(sync, channel, is, what = "it") {
  const look = {};
  const so = new Promise((resolve) => {
    look.at = () => is() && resolve();
    const ends = [channel.subscribe(look.at), channel.onOutbox(look.at), channel.presence.subscribe(look.at), sync.on("status", look.at)];
    look.end = () => ends.forEach((end) => end());
    look.at();
  });
  return within(8_000, so, () => `${what} did not happen: ${sync.status} ${JSON.stringify(channel.rows)}`).finally(look.end);
}

const byId = (rows) => Object.fromEntries(rows.map(({ id, ...row }) => [id, row]));

for (const transport of [webSocket, serverSentEvents, longPoll]) {
  describe(`a client by ${transport.name}`, () => {
    const options = { transports: [transport] };

    test("sees what is there and every change, writes, and catches up after being away", async () => {
      const space = workers.space();
      await space.publish("todos", "create", "k1", { n: 1 });
      const [alice, bob] = [connect(space, "alice", options), connect(space, "bob", options)];
      const [mine, his] = [alice.channel("todos"), bob.channel("todos")];
      await Promise.all([mine.ready, his.ready]);
      assert.deepEqual(byId(mine.rows), { k1: { n: 1 } });
      const written = mine.create({ id: "k2", n: 2 });
      assert.deepEqual(await written.confirmed, { id: "k2", n: 2 });
      await until(bob, his, () => his.get("k2") !== undefined, "bob's row");
      alice.disconnect();
      await space.publish("todos", "delete", "k1");
      await space.publish("todos", "update", "k2", { done: true });
      mine.update("k2", { n: 3 });
      assert.deepEqual(mine.get("k2"), { id: "k2", n: 3 });
      alice.connect();
      const all = { k2: { n: 3, done: true } };
      await until(alice, mine, () => alice.status === "synced" && mine.rows.length === 1, "alice's return");
      assert.deepEqual(byId(mine.rows), all);
      await until(bob, his, () => his.get("k2")?.n === 3, "bob's row");
      assert.deepEqual(byId(his.rows), all);
    });

    test("takes back what is refused, and nothing else", async () => {
      const space = workers.space();
      const sync = connect(space, "alice", options);
      const notes = sync.channel("notes");
      await notes.ready;
      const refused = notes.create({ id: "a", ownerId: "bob" });
      const kept = notes.create({ id: "b", ownerId: "alice" });
      await assert.rejects(refused.confirmed, { code: "forbidden" });
      await kept.confirmed;
      assert.deepEqual(byId(notes.rows), { b: { ownerId: "alice" } });
      assert.deepEqual(notes.rejected.map(({ key, error }) => [key, error.code]), [["a", "forbidden"]]);
    });

    test("reads many pages, a batch that no frame can hold, and a reset", async () => {
      const space = workers.space();
      const rows = (from, count, data = {}) =>
        Array.from({ length: count }, (_, i) => ({ action: "create", key: `k${from + i}`, data: { n: i, ...data } }));
      await space.post("/broadcast-batch", { channel: "todos", changes: rows(0, 30) });
      const sync = connect(space, "alice", { ...options, batchSize: 7 });
      const todos = sync.channel("todos");
      await todos.ready;
      assert.equal(todos.rows.length, 30);
      const large = { text: "x".repeat(200_000) };
      await space.post("/broadcast-batch", { channel: "todos", changes: rows(30, 10, large) });
      await until(sync, todos, () => todos.rows.length === 40, "the batch");
      await space.post("/broadcast-reset", { channel: "todos" });
      await space.publish("todos", "delete", "k0");
      await until(sync, todos, () => todos.rows.length === 39 && sync.status === "synced", "the reset");
    });

    test("is told what is refused to it", async () => {
      const space = workers.space();
      const sync = connect(space, null, options);
      const [todos, feed, nowhere] = ["todos", "feed", "nowhere"].map((name) => sync.channel(name));
      // Nobody may come to a space of a test without a token.
      await until(sync, todos, () => sync.status === "error", "the refusal");
      assert.ok(["unauthorized", "forbidden"].includes(sync.error.code));
      void [feed, nowhere];
      const known = connect(space, "alice", options);
      const [room, gone] = [known.channel("room:1"), known.channel("nowhere")];
      await assert.rejects(room.ready, { code: "forbidden" });
      await assert.rejects(gone.ready, { code: "unknown_channel" });
    });

    test("goes on after the object was stopped", async () => {
      const space = workers.space();
      const sync = connect(space, "alice", options);
      const todos = sync.channel("todos");
      await todos.ready;
      await todos.create({ id: "a", n: 1 }).confirmed;
      if (transport === webSocket) await space.restart();
      else await space.post("/disconnect", { all: true });
      const written = todos.update("a", { n: 2 });
      await within(15_000, written.confirmed, () => "no confirmation after the restart");
      assert.deepEqual(byId(todos.rows), { a: { n: 2 } });
    });

    test("is renewed by a function before its token ends", async () => {
      const space = workers.space();
      let asked = 0;
      const token = () => space.token("alice", { exp: Date.now() / 1000 + ((asked += 1) === 1 ? 2 : 3_600) });
      const sync = connect(space, "alice", { ...options, token });
      const todos = sync.channel("todos");
      await todos.ready;
      // A session past its end is closed as soon as anything happens.
      let isEnded = false;
      sync.on("status", (status) => (isEnded ||= status === "connecting"));
      const deadline = Date.now() + 10_000;
      for (let i = 0; !isEnded && Date.now() < deadline; i += 1) {
        await space.publish("todos", "create", `k${i % 3}`, { i });
      }
      assert.ok(isEnded, "the session did not end");
      await space.publish("todos", "create", "last", {});
      await until(sync, todos, () => todos.get("last") !== undefined && sync.status === "synced", "the return");
      assert.ok(asked > 1);
    });
  });
}

describe("a client by WebSocket alone", () => {
  test("survives sleep between any two of its words", async () => {
    const space = workers.space();
    const [alice, bob] = [connect(space, "alice"), connect(space, "bob")];
    const [mine, his] = [alice.channel("todos"), bob.channel("todos")];
    await Promise.all([mine.ready, his.ready]);
    for (let i = 0; i < 5; i += 1) {
      await space.sleep();
      await mine.create({ id: `k${i}`, n: i }).confirmed;
    }
    await until(bob, his, () => his.rows.length === 5, "bob's rows");
    assert.equal(bob.status, "synced");
  });

  test("is present, sees others come, move and go, and passes signals", async () => {
    const space = workers.space();
    const claims = { topics: ["room:42"] };
    const [alice, bob] = [connect(space, "alice", { claims }), connect(space, "bob", { claims })];
    const [mine, his] = [alice.channel("room:42"), bob.channel("room:42")];
    await Promise.all([mine.ready, his.ready]);
    mine.presence.join({ x: 1 });
    await until(alice, mine, () => mine.presence.total === 1, "alice");
    his.presence.watch();
    await until(bob, his, () => his.presence.total === 1, "what bob sees");
    assert.deepEqual(his.presence.members.map(({ identity, state }) => [identity, state]), [["alice", { x: 1 }]]);
    mine.presence.join({ x: 2 });
    await until(bob, his, () => his.presence.members[0]?.state.x === 2, "the update");
    const heard = new Promise((resolve) => his.onSignal(resolve));
    mine.signal("typing", { on: true });
    const { event, identity, data, session } = await within(5_000, heard, () => "no signal");
    assert.deepEqual([event, identity, data, session], ["typing", "alice", { on: true }, alice.session]);
    await space.restart();
    await until(bob, his, () => his.presence.members[0]?.session === alice.session && alice.status === "synced", "the return");
    mine.presence.leave();
    await until(bob, his, () => his.presence.total === 0, "the leaving");
  });

  test("renews its session in place, with topics that open other rows", async () => {
    const space = workers.space();
    const sync = connect(space, "alice", { claims: { topics: [] } });
    const todos = sync.channel("todos");
    await todos.ready;
    await space.publish("todos", "create", "a", { n: 1 }, { to: ["team:a"] });
    await space.publish("todos", "create", "b", { n: 2 }, { to: ["team:b"] });
    sync.setToken(space.token("alice", { topics: ["team:a"] }));
    await until(sync, todos, () => todos.get("a") !== undefined, "team a's row");
    sync.setToken(space.token("alice", { topics: ["team:b"] }));
    await until(sync, todos, () => todos.get("b") !== undefined && todos.get("a") === undefined, "team b's row");
    assert.equal(sync.status, "synced");
  });

  test("is sent away for good when its identity is revoked", async () => {
    const space = workers.space();
    const sync = connect(space, "alice");
    const todos = sync.channel("todos");
    await todos.ready;
    await space.post("/disconnect", { identity: "alice", reason: "left the team" });
    await until(sync, todos, () => sync.status === "error", "the end");
    assert.equal(sync.error.code, "revoked");
  });

  test("comes to a new epoch with nothing but what is there", async () => {
    const space = workers.space();
    const sync = connect(space, "alice");
    const todos = sync.channel("todos");
    await todos.ready;
    await todos.create({ id: "a", n: 1 }).confirmed;
    await space.post("/epoch", {});
    await space.publish("todos", "create", "b", {});
    await until(sync, todos, () => todos.rows.length === 2 && sync.status === "synced", "the new epoch");
  });

  test("of which five write at once ends equal, whoever was away", async () => {
    const space = workers.space();
    const storages = Array.from({ length: 5 }, () => memoryStorage());
    const open = (i) => connect(space, i < 2 ? "alice" : `user${i}`, { storage: storages[i] });
    const all = storages.map((_, i) => open(i));
    const channel = (i) => all[i].channel("todos");
    await Promise.all(all.map((_, i) => channel(i).ready));
    for (let step = 0; step < 120; step += 1) {
      const i = step % 5;
      const key = `k${(step * 7) % 11}`;
      if (step % 3 === 0) channel(i).create({ id: key, step });
      else if (step % 3 === 1) channel(i).update(key, { [`f${i}`]: step });
      else channel(i).delete(`k${(step * 5) % 11}`);
      if (step % 17 === 0) all[i].disconnect();
      if (step % 17 === 8) all.forEach((one) => one.connect());
      if (step === 40) await space.restart();
      if (step === 70) {
        await all[3].close();
        all[3] = open(3);
        channel(3);
      }
      if (step % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    for (const [i, one] of all.entries()) {
      one.connect();
      await until(one, channel(i), () => one.status === "synced" && channel(i).pending.length === 0, `client ${i}`);
    }
    // Whatever is still on its way to somebody comes before this.
    const id = randomUUID();
    await channel(0).create({ id }).confirmed;
    for (const [i, one] of all.entries()) await until(one, channel(i), () => channel(i).get(id) !== undefined, `client ${i}`);
    for (let i = 1; i < 5; i += 1) assert.deepEqual(byId(channel(i).rows), byId(channel(0).rows), `client ${i}`);
  });
});

describe("the examples of docs/client.md", () => {
  const local = async (options) => {
    const { createSync: make } = await import("tidewire");
    const sync = make({ url: workers.origin, ...options });
    clients.push(sync);
    return sync;
  };

  test("the first five minutes", async () => {
    const space = workers.space("global");
    const titles = await first(workers.origin, token("ann"));
    assert.ok(titles.includes("Call mum") && titles.includes("Buy milk"), titles.join());
    await space.publish("todos", "delete", "t1");
  });

  test("a client that is offline comes back with what it wrote, and says what did not go through", async () => {
    const getToken = async () => token("ben");
    const sync = openOffline(workers.origin, getToken);
    clients.push(sync);
    await sync.channel("todos").ready;
    assert.deepEqual(await complaints(sync), ["t1: no such row"]);
    assert.deepEqual(sync.channel("todos").rejected, []);
    sync.disconnect();
    await sync.channel("todos").create({ id: "by-ben", title: "offline", done: false }).local;
    await sync.close();
    const again = openOffline(workers.origin, getToken);
    clients.push(again);
    const todos = again.channel("todos");
    await todos.restored;
    assert.equal(todos.get("by-ben").title, "offline");
    await until(again, todos, () => again.status === "synced" && todos.pending.length === 0, "the return");
  });

  test("a room", async () => {
    const said = [];
    const claims = { topics: ["room:42"] };
    const [ann, ben] = await Promise.all(["ann", "ben"].map((user) => local({ token: token(user, claims) })));
    const heard = [];
    let waved;
    const wave = new Promise((resolve) => (waved = resolve));
    const leave = enter(ann, (text) => (said.push(text), text === "ben: wave" && waved()));
    const room = ben.channel("room:42");
    room.onSignal(({ event }) => heard.push(event));
    room.presence.join({ x: 5, y: 5 });
    await until(ben, room, () => room.presence.total === 2, "both");
    room.signal("wave");
    await within(8_000, wave, () => `no wave came: ${said.join()}`);
    leave();
    await until(ben, room, () => room.presence.total === 1, "the leaving");
  });

  test("notes that the server cannot read", async () => {
    const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    const [one, two] = await Promise.all([1, 2].map(() => local({ token: token("cleo") })));
    const [mine, his] = [secretNotes(one, key), secretNotes(two, key)];
    await Promise.all([mine.ready, his.ready]);
    await mine.create({ id: "n1", ownerId: "cleo", text: "hidden" }).confirmed;
    await mine.update("n1", { text: "well hidden" }).confirmed;
    await until(two, his, () => his.get("n1")?.text === "well hidden", "the note");
    const plain = await local({ token: token("cleo") });
    const notes = plain.channel("notes");
    await notes.ready;
    assert.deepEqual(Object.keys(notes.get("n1")).sort(), ["ct", "id", "ownerId"]);
    assert.ok(!JSON.stringify(notes.rows).includes("hidden"));
  });
});
