// Who is here, and signals: through both Workers, with real sockets, asleep between any two frames.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, secrets, start } from "./harness.mjs";

const room = "room:1";
const topics = { topics: [room] };

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

/** A subscriber of the room. */
const enter = (space, user) => space.join(user, [room], topics);

const presence = (more) => ({ type: "presence", channel: room, ...more });

/** Joins or watches: the members as `identity state` texts. */
async function be(client, more) {
  client.send(presence(more));
  const { members, total } = await client.receive(presence({}));
  assert.equal(members.length, total);
  return members.map(({ identity, state }) => `${identity} ${JSON.stringify(state)}`).toSorted();
}

/** The one presence message that has come: what happened, to whom. */
async function told(client) {
  const message = await client.receive(presence({}));
  const [[what, members], ...more] = Object.entries(message).filter(([, value]) => Array.isArray(value));
  assert.deepEqual(more, []);
  return `${what} ${members.map(({ identity }) => identity).toSorted()}`;
}

function who(space, query, init) {
  const headers = bearer(secrets.PUBLISH_KEY);
  return workers.http(`/presence?space=${space.name}&${query}`, { headers, ...init });
}

for (const sleeps of [false, true]) {
  test(`the life of a room, ${sleeps ? "with an eviction before each frame" : "awake"}`, async () => {
    const space = workers.space();
    const pause = async () => void (sleeps && (await space.stats(), await space.sleep()));
    const [alice, bob, carol] = [await enter(space, "alice"), await enter(space, "bob"), await enter(space, "carol")];
    await pause();
    assert.deepEqual(await be(carol, { watch: true }), []);
    await pause();
    assert.deepEqual(await be(alice, { state: { x: 1 } }), ['alice {"x":1}']);
    assert.equal(await told(carol), "joined alice");
    await pause();
    assert.deepEqual(await be(bob, { state: "b" }), ['alice {"x":1}', 'bob "b"']);
    assert.deepEqual([await told(alice), await told(carol)], ["joined bob", "joined bob"]);
    await pause();
    alice.send(presence({ state: { x: 2 } }));
    has(await bob.receive(presence({})), {
      updated: [{ session: alice.welcome.session, identity: "alice", state: { x: 2 } }],
    });
    assert.equal(await told(carol), "updated alice");
    await pause();
    alice.send({ type: "signal", channel: room, event: "typing", data: { on: true } });
    const signal = {
      type: "signal", channel: room, event: "typing", session: alice.welcome.session,
      identity: "alice", data: { on: true },
    };
    assert.deepEqual(await bob.receive({ type: "signal" }), signal);
    assert.deepEqual(await carol.receive({ type: "signal" }), signal);
    await pause();
    const { status, body } = await who(space, `channel=${room}`);
    assert.deepEqual([status, body.channel, body.total], [200, room, 2]);
    assert.deepEqual(body.members.map(({ identity, state }) => [identity, state]).toSorted(), [
      ["alice", { x: 2 }], ["bob", "b"],
    ]);
    await pause();
    alice.send(presence({ state: null }));
    assert.deepEqual([await told(bob), await told(carol)], ["left alice", "left alice"]);
    await pause();
    bob.send({ type: "unsubscribe", channel: room });
    assert.equal(await told(carol), "left bob");
    await pause();
    for (const client of [alice, bob, carol]) assert.deepEqual(await client.rest(), []);
    has((await who(space, `channel=${room}`)).body, { members: [], total: 0 });
  });

  test(`a socket that goes leaves, ${sleeps ? "while the object sleeps" : "awake"}`, async () => {
    const space = workers.space();
    const watcher = await enter(space, "walter");
    await be(watcher, { watch: true });
    for (const go of [
      (client) => client.drop(),
      (client) => client.close(1000, "bye"),
      (client) => client.close(4321),
    ]) {
      const [phone, laptop] = [await enter(space, "alice"), await enter(space, "alice")];
      await be(phone, { state: 1 });
      await be(laptop, { state: 2 });
      assert.deepEqual([await told(watcher), await told(watcher)], ["joined alice", "joined alice"]);
      if (sleeps) await space.sleep();
      go(phone);
      const left = await watcher.receive(presence({}));
      assert.deepEqual(left.left, [{ session: phone.welcome.session, identity: "alice" }]);
      assert.equal(await told(laptop), "left alice");
      has((await who(space, `channel=${room}`)).body, { total: 1 });
      if (sleeps) await space.sleep();
      laptop.drop();
      assert.equal(await told(watcher), "left alice");
      // Nobody is told twice, also by later turns.
      if (sleeps) await space.sleep();
      assert.deepEqual(await watcher.rest(), []);
      has((await who(space, `channel=${room}`)).body, { members: [], total: 0 });
    }
  });
}

test("several sockets that go while the object sleeps leave once each", async () => {
  const space = workers.space();
  const watcher = await enter(space, "walter");
  await be(watcher, { watch: true });
  const clients = await Promise.all(Array.from({ length: 20 }, (_, i) => enter(space, `user${i}`)));
  for (const client of clients) await be(client, { state: 1 });
  for (const _ of clients) await told(watcher);
  await space.sleep();
  for (const client of clients) client.drop();
  const gone = new Set();
  while (gone.size < clients.length) {
    for (const { session } of (await watcher.receive(presence({}))).left) {
      assert.ok(!gone.has(session), "told twice");
      gone.add(session);
    }
  }
  assert.deepEqual(await watcher.rest(), []);
  has((await who(space, `channel=${room}`)).body, { total: 0 });
});

test("operators who close sockets and take topics away end presence", async () => {
  const space = workers.space();
  const watcher = await enter(space, "walter");
  await be(watcher, { watch: true });
  const [alice, bob] = [await enter(space, "alice"), await enter(space, "bob")];
  for (const client of [alice, bob]) {
    await be(client, { state: 1 });
    await told(watcher);
  }
  await space.sleep();
  await space.post("/disconnect", { identity: "alice" });
  assert.equal(await told(watcher), "left alice");
  assert.equal((await alice.ended()).code, 4505);
  await space.post("/topics", { identity: "bob", remove: [room] });
  assert.equal(await told(watcher), "left bob");
  await delay(50);
  assert.deepEqual(await watcher.rest(), [], "their close events tell nothing more");
});

test("a deployment drops everybody, and who comes back finds nobody but who is back", async () => {
  const space = workers.space();
  const [alice, bob] = [await enter(space, "alice"), await enter(space, "bob")];
  await be(alice, { state: 1 });
  await be(bob, { state: 2 });
  await space.restart();
  await Promise.all([alice.ended(), bob.ended()]);
  assert.deepEqual(await be(await enter(space, "alice"), { state: 3 }), ["alice 3"]);
});

describe("GET /presence", () => {
  test("refuses whoever may not ask, and what is not asked well", async () => {
    const space = workers.space();
    const status = async (answer) => {
      const { status, body } = await answer;
      return [status, body.error?.code, body.error?.field];
    };
    const headers = bearer("another key");
    assert.deepEqual(await status(who(space, `channel=${room}`, { headers })), [401, "unauthorized", undefined]);
    assert.deepEqual(await status(who(space, "")), [400, "invalid", "channel"]);
    assert.deepEqual(await status(who(space, "channel=")), [400, "invalid", "channel"]);
    assert.deepEqual(await status(who(space, "channel=nowhere")), [400, "unknown_channel", undefined]);
    assert.deepEqual(await status(who({ name: "No Space" }, `channel=${room}`)), [400, "invalid", "space"]);
    const posted = await who(space, `channel=${room}`, { method: "POST", headers: bearer(secrets.PUBLISH_KEY) });
    assert.deepEqual([posted.status, posted.headers.get("allow")], [405, "GET"]);
  });

  test("knows channels by any name, and a key its own", async (t) => {
    const keys = { lobby: { key: "k", channels: ["lobby:*"], spaces: ["team-1"] } };
    const channels = { "lobby:*": { presence: true }, hall: {} };
    const vars = { PUBLISH_KEYS: keys, SYNC_CHANNELS: channels };
    const own = await start({ vars });
    t.after(() => own.stop());
    const name = "lobby:ünï 🌊 & more=1";
    const space = own.space("team-1");
    const alice = await space.join("alice", [name]);
    alice.send({ type: "presence", channel: name, state: 1 });
    await alice.receive({ type: "presence" });
    const ask = async (channel, space) => {
      const query = new URLSearchParams({ channel, space });
      return (await own.http(`/presence?${query}`, { headers: bearer("k") }));
    };
    has((await ask(name, "team-1")).body, { channel: name, total: 1 });
    assert.equal((await ask("hall", "team-1")).status, 403);
    assert.equal((await ask(name, "team-2")).status, 403);
  });
});
