// What operators do, over HTTP through the app Worker: reset, change, disconnect, topics, epoch.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, rows, start } from "./harness.mjs";

const SYNC_CHANNELS = {
  "todos": { read: "user", write: "user" },
  "team": { read: "user", write: "user", scope: { field: "team", as: "team:" } },
  "room:*": { read: "topic", write: "topic" },
};

let workers;
before(async () => (workers = await start({ vars: { SYNC_CHANNELS } })));
after(() => workers?.stop());

/** The calls, each with a body that would do something in a space without anybody. */
const calls = {
  "/broadcast-reset": { channel: "todos" },
  "/broadcast-change": { channel: "todos" },
  "/disconnect": { identity: "alice" },
  "/topics": { identity: "alice", add: ["team:a"] },
  "/epoch": {},
};

/** Makes a call, which must succeed; its answer's body. */
async function call(space, path, body, headers) {
  const answer = await space.post(path, body, headers);
  assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** A token's claims that say when it was issued, and that it was issued after all before it. */
async function issuedNow(more = {}) {
  await delay(2);
  const iat = Date.now() / 1000;
  await delay(2);
  return { iat, ...more };
}

/** What `/api/sync/session` says of a token. */
const session = (space, credential) =>
  workers.http(`/api/sync/session?space=${space.name}`, { headers: bearer(credential) });

const wake = (space) => space.sleep().catch((error) => assert.match(error.message, /not currently running/));

describe("every call", () => {
  for (const [path, body] of Object.entries(calls)) {
    test(`${path} needs the key, POST, a space that can be, and a body that says something`, async () => {
      const space = workers.space();
      const alice = await space.join("alice", ["todos"]);
      const { seq, epoch } = await space.stats();
      const json = JSON.stringify(body);
      const target = `${path}?space=${space.name}`;
      const refused = async (expected, code, query, init) => {
        const { status, headers, body } = await workers.http(query, init);
        assert.equal(status, expected, JSON.stringify(body));
        assert.equal(body.error.code, code);
        return { headers, error: body.error };
      };
      for (const headers of [{}, bearer(""), bearer("wrong"), bearer(space.token("alice"))]) {
        await refused(401, "unauthorized", target, { method: "POST", body: json, headers });
      }
      const key = bearer("key-of-the-tests");
      for (const method of ["GET", "PUT", "DELETE"]) {
        const { headers } = await refused(405, "invalid", target, { method, headers: key });
        assert.equal(headers.get("allow"), "POST");
      }
      const post = { method: "POST", body: json, headers: key };
      for (const name of ["Team", "a b", "session", "x".repeat(65), ""]) {
        const { error } = await refused(400, "invalid", `${path}?space=${encodeURIComponent(name)}`, post);
        assert.equal(error.field, "space");
      }
      const elsewhere = { ...post, body: JSON.stringify({ ...body, space: "elsewhere" }) };
      assert.equal((await refused(400, "invalid", target, elsewhere)).error.field, "space");
      for (const text of ["[]", "{", "7", '{"channel":7,"identity":7}', '{"identity":"","channel":""}']) {
        if (path === "/epoch" && text.length > 2) continue; // It wants nothing of its body.
        const { status, body } = await space.post(path, text);
        assert.equal(status, 400, `${text}: ${JSON.stringify(body)}`);
      }
      assert.ok(alice.isOpen);
      assert.deepEqual(await alice.rest(), []);
      has(await space.stats(), { seq, epoch });
      // A space that nobody has used is as good as any; it may be named in the body.
      const unused = workers.space();
      const inBody = { ...post, body: JSON.stringify({ ...body, space: unused.name }) };
      assert.equal((await workers.http(path, inBody)).status, 200);
    });

    test(`${path} happens once per idempotency key`, async () => {
      const space = workers.space();
      const once = { "idempotency-key": "k" };
      const first = await call(space, path, body, once);
      const alice = await space.join("alice", ["todos"], await issuedNow());
      const before = await space.stats();
      await wake(space);
      assert.deepEqual(await call(space, path, body, once), first);
      assert.ok(alice.isOpen);
      assert.deepEqual(await alice.rest(), []);
      const { seq, epoch } = await space.stats();
      assert.deepEqual({ seq, epoch }, { seq: before.seq, epoch: before.epoch });
      const other = path === "/epoch" ? "/disconnect" : "/epoch";
      for (const conflict of [await space.post(other, body, once), await space.post(path, { ...body, more: 1 }, once)]) {
        assert.deepEqual([conflict.status, conflict.body.error?.code], [409, "conflict"]);
      }
    });
  }
});

describe("/broadcast-reset", () => {
  test("is told to who is there, and holds for who is away, also after sleep", async () => {
    const space = workers.space();
    const [alice, bob, other] = [await space.join("alice", ["todos"]), await space.join("bob", ["todos"]), await space.join("carol", ["team"])];
    await space.publish("todos", "create", "k", { n: 1 });
    const { cursor } = await bob.receive({ type: "change" });
    bob.drop();
    await alice.receive({ type: "change" });
    const answer = await call(space, "/broadcast-reset", { channel: "todos" });
    assert.equal(answer.seq, 2);
    has(await alice.receive({ type: "channel-reset" }), { channel: "todos" });
    await wake(space);
    // Its subscription is live until it subscribes again.
    await space.publish("todos", "create", "l", {});
    await alice.receive({ type: "change", key: "l" });
    const back = await space.join("bob");
    const { view } = bob.snapshots.todos;
    const again = await back.subscribe("todos", { cursor, view });
    assert.deepEqual([again.mode, Object.keys(rows(again))], ["full", ["k", "l"]]);
    has(await back.subscribe("todos", { cursor: again.cursor, view }), { mode: "delta", data: [] });
    assert.deepEqual(await other.rest(), []);
  });

  test("to limits the notice alone", async () => {
    const space = workers.space();
    const [alice, bob] = [await space.join("alice", ["todos"]), await space.join("bob", ["todos"])];
    const { cursor, view } = bob.snapshots.todos;
    has(await call(space, "/broadcast-reset", { channel: "todos", to: ["user:alice"] }), { receivers: 1 });
    await alice.receive({ type: "channel-reset" });
    assert.deepEqual(await bob.rest(), []);
    has(await bob.subscribe("todos", { cursor, view }), { mode: "full" });
  });
});

test("/broadcast-change is told to who is there, and changes nothing", async () => {
  const space = workers.space();
  const [alice, bob] = [await space.join("alice", ["todos"]), await space.join("bob", ["team"])];
  assert.deepEqual(await call(space, "/broadcast-change", { channel: "todos" }), { receivers: 1 });
  assert.deepEqual(await alice.rest(), [{ type: "channel-change", channel: "todos" }]);
  assert.deepEqual(await bob.rest(), []);
  const { cursor, view } = alice.snapshots.todos;
  has(await alice.subscribe("todos", { cursor, view }), { mode: "delta", data: [] });
  assert.equal((await space.stats()).seq, 0);
});

describe("/disconnect", () => {
  test("closes an identity's sockets with the reason, and refuses its earlier tokens", async () => {
    const space = workers.space();
    const early = await issuedNow();
    const [phone, laptop, bob] = [
      await space.join("alice", ["todos"], early),
      await space.join("alice", [], early),
      await space.join("bob", ["todos"], early),
    ];
    const body = { identity: "alice", reason: "left the team 👋" };
    assert.deepEqual(await call(space, "/disconnect", body), { disconnected: 2 });
    for (const client of [phone, laptop]) {
      assert.deepEqual(await client.ended(), { code: 4505, reason: body.reason });
    }
    const later = await issuedNow();
    for (const sleeps of [false, true]) {
      if (sleeps) await wake(space);
      for (const claims of [early, {}]) {
        const credential = space.token("alice", claims);
        const { status, body } = await session(space, credential);
        assert.deepEqual([status, body.error?.code], [401, "unauthorized"]);
        const upgrade = await workers.upgrade(space.path, { headers: bearer(credential) });
        assert.deepEqual([upgrade.status, upgrade.body?.error.code], [401, "unauthorized"]);
      }
      has((await session(space, space.token("alice", later))).body, { identity: "alice" });
      has((await session(space, space.token("bob", early))).body, { identity: "bob" });
    }
    assert.equal((await space.publish("todos", "create", "k", {})).receivers, 1);
    await bob.receive({ type: "change" });
    // Another space has not been asked.
    const elsewhere = workers.space();
    assert.equal((await session(elsewhere, elsewhere.token("alice", early))).status, 200);
    const back = await space.join("alice", ["todos"], later);
    assert.deepEqual(Object.keys(rows(back.snapshots.todos)), ["k"]);
  });

  test("an earlier token does not renew a session either", async () => {
    const space = workers.space();
    const early = await issuedNow();
    await call(space, "/disconnect", { identity: "alice" });
    const alice = await space.join("alice", ["todos"], await issuedNow());
    alice.send({ type: "auth", token: space.token("alice", early) });
    has(await alice.receive({ type: "error" }), { error: { code: "unauthorized" } });
    assert.deepEqual(await alice.rest(), []);
    assert.ok(alice.isOpen);
  });

  test("all closes every socket of the space, and refuses nobody", async () => {
    const [space, elsewhere] = [workers.space(), workers.space()];
    const claims = await issuedNow();
    const clients = [await space.join("alice", ["todos"], claims), await space.join("bob", [], claims)];
    const other = await elsewhere.join("alice", ["todos"], claims);
    await wake(space);
    assert.deepEqual(await call(space, "/disconnect", { all: true }), { disconnected: 2 });
    for (const client of clients) assert.equal((await client.ended()).code, 4000);
    assert.ok(other.isOpen);
    const { cursor, view } = clients[0].snapshots.todos;
    const back = await space.join("alice", [], claims);
    has(await back.subscribe("todos", { cursor, view }), { mode: "delta" });
    has(await space.stats(), { connections: 1 });
  });
});

describe("/topics", () => {
  /** Rows of two teams and a member of one of them. */
  async function teams(claims) {
    const space = workers.space();
    for (const key of ["a1", "a2"]) await space.publish("team", "create", key, { team: "a" });
    await space.publish("team", "create", "b1", { team: "b" });
    const alice = await space.join("alice", ["team"], claims);
    return { space, alice };
  }

  test("change what live sessions see, at once and for good", async () => {
    const early = await issuedNow({ topics: ["team:a"] });
    const { space, alice } = await teams(early);
    const bob = await space.join("bob", ["team"], early);
    assert.deepEqual(Object.keys(rows(alice.snapshots.team)), ["a1", "a2"]);
    for (const sleeps of [false, true]) {
      if (sleeps) await wake(space);
      const body = { identity: "alice", add: ["team:b"], remove: ["team:a"] };
      assert.deepEqual(await call(space, "/topics", body), { sessions: 1 });
      const [moved, authed, ...more] = await alice.rest();
      assert.deepEqual(more, []);
      has(moved, { type: "batch", channel: "team" });
      const gist = moved.changes.map(({ action, key }) => `${action} ${key}`).toSorted();
      assert.deepEqual(gist, ["create b1", "delete a1", "delete a2"]);
      has(authed, { type: "authed", identity: "alice", expiresAt: alice.welcome.expiresAt });
      assert.notEqual(authed.view, alice.snapshots.team.view);
      if (sleeps) await wake(space);
      assert.equal((await space.publish("team", "update", "a1", { sleeps })).receivers, 1);
      await bob.receive({ type: "change", key: "a1" });
      assert.equal((await space.publish("team", "update", "b1", { sleeps })).receivers, 1);
      const change = await alice.receive({ type: "change", key: "b1" });
      assert.deepEqual(await alice.rest(), []);
      // Whoever was away resumes with the new view, and without what is not theirs any more.
      const back = await space.join("alice", [], await issuedNow({ topics: ["team:b"] }));
      const resumed = await back.subscribe("team", { cursor: change.cursor, view: authed.view });
      has(resumed, { mode: "delta", data: [], deleted: [] });
      back.drop();
      // And back to how it was.
      if (!sleeps) {
        await call(space, "/topics", { identity: "alice", add: ["team:a"], remove: ["team:b"] });
        await alice.receive({ type: "authed", view: alice.snapshots.team.view });
        await alice.rest();
        while ((await space.stats()).connections > 2) await delay(5);
      }
    }
  });

  test("a removal holds against earlier tokens, also after sleep, and not against later ones", async () => {
    const early = await issuedNow({ topics: ["team:a", "team:b"] });
    const { space, alice } = await teams(early);
    await call(space, "/topics", { identity: "alice", remove: ["team:a"] });
    await alice.receive({ type: "authed" });
    const later = await issuedNow({ topics: ["team:a"] });
    const keys = async (user, claims) => {
      const client = await space.join(user, ["team"], claims);
      return Object.keys(rows(client.snapshots.team));
    };
    for (const sleeps of [false, true]) {
      if (sleeps) await wake(space);
      assert.deepEqual(await keys("alice", early), ["b1"]);
      assert.deepEqual(await keys("alice", { topics: ["team:a"] }), [], "a token that says no iat");
      assert.deepEqual(await keys("alice", later), ["a1", "a2"]);
      assert.deepEqual(await keys("bob", early), ["a1", "a2", "b1"]);
    }
    // Renewing with the earlier token brings nothing back.
    alice.inbox.length = 0;
    alice.send({ type: "auth", token: space.token("alice", early) });
    await alice.receive({ type: "authed" });
    assert.deepEqual(await alice.rest(), []);
  });

  test("a channel that may not be read any more is over", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["room:1", "todos"], { topics: ["room:1"] });
    await call(space, "/topics", { identity: "alice", remove: ["room:1"] });
    has(await alice.receive({ type: "channel-reset" }), { channel: "room:1", reason: "topics" });
    await alice.receive({ type: "authed" });
    assert.equal((await space.publish("room:1", "create", "k", {})).receivers, 0);
    has(await alice.subscribe("room:1"), { type: "reject", error: { code: "forbidden" } });
    await call(space, "/topics", { identity: "alice", add: ["room:1"] });
    await alice.receive({ type: "authed" });
    has(await alice.subscribe("room:1"), { type: "snapshot", data: [{ id: "k" }] });
  });

  test("what may not be granted changes nothing", async () => {
    const { space, alice } = await teams(await issuedNow());
    for (const add of [["all"], ["user:bob"], [""], Array.from({ length: 65 }, (_, i) => `t${i}`)]) {
      const { status, body } = await space.post("/topics", { identity: "alice", add });
      assert.equal(status, 400, JSON.stringify(body));
    }
    assert.deepEqual(await alice.rest(), []);
  });
});

test("/epoch restarts everyone, and no earlier cursor resumes, also after sleep", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos"]);
  await space.publish("todos", "create", "k", {});
  const { cursor } = await alice.receive({ type: "change" });
  const { view } = alice.snapshots.todos;
  const before = await space.stats();
  for (const body of [{}, ""]) {
    const { epoch } = await call(space, "/epoch", body);
    assert.notEqual(epoch, before.epoch);
    if (body !== "") assert.equal((await alice.ended()).code, 4000);
    await wake(space);
    const back = await space.join("alice");
    assert.equal(back.welcome.epoch, epoch);
    const again = await back.subscribe("todos", { cursor, view });
    has(again, { mode: "full", data: [{ id: "k" }] });
    assert.equal(again.cursor.split(".")[0], epoch);
    assert.ok((await space.publish("todos", "update", "k", {})).seq > before.seq, "a seq is used twice");
  }
});
