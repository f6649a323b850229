// The example whose team says itself who somebody is: API tokens that are looked up in KV.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { bearer, has, secrets, start, token } from "./harness.mjs";
import { Server } from "./provider.mjs";

const hour = 3_600_000;
const day = 24 * hour;

const tooMany = Array.from({ length: 65 }, (_, i) => `${i}`);

/** The example's channels, and one that opens to its own tokens. */
const SYNC_CHANNELS = {
  "status": { read: "anyone" },
  "todos": { read: "user", write: "user", scope: { field: "team", as: "team:" } },
  "draft:*": { read: "token" },
};
const asked = (origin) => ({ JWKS_URL: `${origin}/keys`, AUTH_URL: `${origin}/auth` });

let workers, kv, endpoint;
before(async () => {
  // What the settings say of tokens and sessions must count for nothing.
  endpoint = await Server.start(() => ({ body: { identity: "alice", expiresAt: Date.now() + hour } }));
  workers = await start({
    workers: ["app", "auth"],
    vars: { ...asked(endpoint.origin), SYNC_CHANNELS, SYNC_SPACES: "team-*" },
  });
  kv = await workers.kv("tidewire-sync", "API_TOKENS");
});
after(() => Promise.all([workers?.stop(), endpoint?.stop()]));

/** Gives out a token; `record` as text goes in as it is. */
async function issue(user, record = {}) {
  const text = randomBytes(32).toString("base64");
  const now = Date.now();
  const all = { user, teams: [], createdAt: now - hour, expiresAt: now + hour, ...record };
  const hash = createHash("sha256").update(text).digest("hex");
  await kv.put(hash, typeof record === "string" ? record : JSON.stringify(all));
  return text;
}

async function join(path, credential, channels = []) {
  const { status, body, client } = await workers.upgrade(path, { headers: credential ? bearer(credential) : {} });
  assert.equal(status, 101, JSON.stringify(body));
  client.send({ type: "hello", v: 1, subscribe: channels.map((channel) => ({ id: channel, channel })) });
  client.welcome = await client.receive({ type: "welcome" });
  for (const id of channels) await client.receive({ type: "snapshot", id });
  return client;
}

/** Asserts that this opens nothing, neither by upgrade nor at /api/sync/session. */
async function refused(headers, expected, path = "/api/sync", query = "") {
  const answers = [await workers.upgrade(path + query, { headers })];
  if (path === "/api/sync") answers.push(await workers.http(`/api/sync/session${query}`, { headers }));
  for (const { status, body } of answers) {
    assert.deepEqual([status, body.error?.code], expected, JSON.stringify(headers));
  }
}

test("a token opens a session with what its record says", async () => {
  const expiresAt = Date.now() + hour;
  const alices = await issue("alice", { teams: ["a", "b"], expiresAt });
  const alice = await join("/api/sync", alices, ["todos"]);
  has(alice.welcome, { identity: "alice", expiresAt });
  const bob = await join("/api/sync", await issue("bob", { teams: ["b"] }), ["todos"]);
  has(await alice.mutate("todos", "create", "k1", { team: "a" }), { type: "ack" });
  has(await alice.mutate("todos", "create", "k2", { team: "b" }), { type: "ack" });
  has(await bob.receive({ type: "change" }), { key: "k2", by: "alice" });
  assert.deepEqual(await bob.rest(), []);
  const { body } = await workers.http(`/api/sync/session?token=${encodeURIComponent(alices)}`);
  assert.deepEqual(body, { identity: "alice", expiresAt, space: "global" });
});

test("who shows none is a visitor, who reads what anyone may", async () => {
  for (const headers of [{}, { cookie: `session=${token("alice")}` }]) {
    const { client } = await workers.upgrade("/api/sync", { headers });
    client.send({ type: "hello", v: 1 });
    assert.equal((await client.receive({ type: "welcome" })).identity, null);
    has(await client.subscribe("status"), { type: "snapshot" });
    has(await client.subscribe("todos"), { error: { code: "unauthorized" } });
  }
  await refused({}, [401, "unauthorized"], "/api/sync/private");
});

describe("nothing is opened", () => {
  test("by a token that is not known, or no longer", async () => {
    const gone = await issue("alice");
    await kv.delete(createHash("sha256").update(gone).digest("hex"));
    for (const text of ["", "x", randomBytes(32).toString("base64"), gone]) {
      await refused(bearer(text), [401, "unauthorized"]);
    }
    const past = await issue("alice", { expiresAt: Date.now() - 1 });
    await refused(bearer(past), [401, "unauthorized"]);
    await refused({}, [401, "unauthorized"], "/api/sync", `?token=${encodeURIComponent(past)}`);
  });

  test("by a JWT that JWT_SECRET has signed, and nobody else is asked", async () => {
    await refused(bearer(token("alice")), [401, "unauthorized"]);
    await refused({}, [401, "unauthorized"], "/api/sync", `?token=${token("alice")}`);
    await refused(bearer(secrets.JWT_SECRET), [401, "unauthorized"]);
    assert.equal(endpoint.asked.length, 0);
  });

  test("by a record that grants what cannot be granted, or is none", async () => {
    await refused(bearer(await issue("")), [401, "unauthorized"]);
    await refused(bearer(await issue("alice", { teams: tooMany })), [403, "forbidden"]);
    await refused(bearer(await issue("alice", "{")), [503, "unavailable"]);
    const logs = workers.logs.join("\n");
    assert.match(logs, /error: API_TOKENS: /);
  });

  test("in a space that is not open", async () => {
    await refused(bearer(await issue("alice")), [403, "forbidden"], "/api/sync/private");
    assert.equal((await join("/api/sync/team-1", await issue("alice"))).welcome.identity, "alice");
  });
});

for (const sleeps of [false, true]) {
  describe(`a session${sleeps ? ", asleep before each frame," : ""}`, () => {
    const space = () => workers.space(`team-${sleeps}`);
    const nap = () => (sleeps ? space().sleep().catch(({ message }) => assert.match(message, /not currently running/)) : undefined);

    test("is renewed in place, by a token that the object looks up", async () => {
      await space().publish("todos", "create", "b1", { team: "b" });
      const alice = await join(space().path, await issue("alice", { teams: ["a"] }), ["todos"]);
      await nap();
      const expiresAt = Date.now() + day;
      const renewal = await issue("alice", { teams: ["b"], expiresAt });
      alice.send([
        { type: "auth", token: renewal },
        { type: "mutate", id: "m", channel: "todos", action: "create", data: { id: "b2", team: "b" } },
      ]);
      has(await alice.receive({ id: "m" }), { type: "ack" });
      has(await alice.receive({ type: "authed" }), { identity: "alice", expiresAt });
      has(await alice.receive({ type: "change" }), { action: "create", key: "b1" });
      for (const [text, code] of [
        ["unknown", "unauthorized"],
        [space().token("alice"), "unauthorized"],
        [await issue("alice", { expiresAt: Date.now() - 1 }), "unauthorized"],
        [await issue("alice", { teams: tooMany }), "forbidden"],
        [await issue("alice", "{"), "unavailable"],
      ]) {
        await nap();
        alice.send({ type: "auth", token: text });
        has(await alice.receive({ type: "error" }), { error: { code } });
      }
      await nap();
      has(await alice.mutate("todos", "delete", "b2"), { type: "ack" });
      alice.send({ type: "auth", token: await issue("bob") });
      assert.equal((await alice.ended()).code, 4501);
    });

    test("is closed by /disconnect; a token of later opens again, one of before does not", async () => {
      const before = await issue("carol");
      const carol = await join(space().path, before, ["status"]);
      await nap();
      assert.equal((await space().post("/disconnect", { identity: "carol" })).status, 200);
      assert.equal((await carol.ended()).code, 4505);
      await refused(bearer(before), [401, "unauthorized"], space().path);
      const later = await issue("carol", { createdAt: Date.now() + 1 });
      assert.equal((await join(space().path, later)).welcome.identity, "carol");
    });
  });
}

test("a token of one channel is still made with JWT_SECRET", async () => {
  const visitor = await join("/api/sync", null);
  const pass = (secret) => token(undefined, { channel: "draft:1", secret });
  has(await visitor.subscribe("draft:1", { token: pass() }), { type: "snapshot" });
  has(await visitor.subscribe("draft:1", { token: pass("another") }), { error: { code: "unauthorized" } });
  await refused(bearer(pass()), [401, "unauthorized"]);
});

test("the team's own observer is told who came, who went, and who tried what it may not", async () => {
  const dora = await join("/api/sync", await issue("dora"), ["status"]);
  has(await dora.mutate("status", "create", "k", {}), { error: { code: "read_only" } });
  dora.close(1000);
  const told = () => workers.logs.filter((line) => /audit: dora/.test(line)).map((line) => line.replace(/^\w+: /, ""));
  for (const begin = Date.now(); told().length < 3 && Date.now() - begin < 5_000; ) await new Promise(setImmediate);
  assert.deepEqual(told(), ["audit: dora came: done", "audit: dora may not write: read_only", "audit: dora went"]);
  const line = workers.logs.find((line) => line.includes('"identity":"dora"') && line.includes("mutate"));
  assert.match(line, /"code":"read_only"/, "the log has its line all the same");
});

test("no token is in a log", async () => {
  const text = await issue("alice");
  await join("/api/sync", text);
  await refused(bearer(`${text}x`), [401, "unauthorized"]);
  const logs = workers.logs.join("\n");
  for (const secret of [text, "eyJ", secrets.JWT_SECRET]) assert.ok(!logs.includes(secret), logs);
});
