// Settings: a missing or wrong one is told by its name and opens nothing; and the app Worker's way
// to a sync Worker in another process.
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { bearer, has, mutation, rows, secrets, start, token } from "./harness.mjs";

const published = {
  JWT_SECRET: "dev-jwt-secret-not-for-production",
  PUBLISH_KEY: "dev-publish-key",
};
const change = { channel: "todos", action: "create", key: "k", data: {} };
const post = (body = change, key = secrets.PUBLISH_KEY) => ({
  ...{ method: "POST", body: JSON.stringify(body), headers: bearer(key) },
});

/** Starts Workers for the length of one test. */
async function running(t, options) {
  const deployment = await start(options);
  t.after(() => deployment.stop());
  return deployment;
}

/** What every public way in answers; `http` ones by method and path, the upgrades by headers. */
async function ways(workers, { JWT_SECRET = secrets.JWT_SECRET, PUBLISH_KEY = secrets.PUBLISH_KEY } = {}) {
  const user = bearer(token("alice", { secret: JWT_SECRET }));
  const answers = {
    anonymous: await workers.upgrade("/api/sync"),
    user: await workers.upgrade("/api/sync", { headers: user }),
    session: await workers.http("/api/sync/session", { headers: user }),
    broadcast: await workers.http("/broadcast", post(change, PUBLISH_KEY)),
    batch: await workers.http("/broadcast-batch", post({ events: [change] }, PUBLISH_KEY)),
    stats: await workers.http("/stats", { headers: bearer(PUBLISH_KEY) }),
  };
  return answers;
}

/** Asserts that an answer is a 500 that names the setting and holds no secret. */
function blames({ status, body }, setting, what) {
  assert.equal(status, 500, `${what}: ${JSON.stringify(body)}`);
  assert.equal(body.error.code, "internal");
  assert.ok(body.error.message.startsWith(`${setting}: `), body.error.message);
  withoutSecrets(JSON.stringify(body));
}

function withoutSecrets(text) {
  for (const secret of [...Object.values(published), ...Object.values(secrets)]) {
    assert.ok(!text.includes(secret), "a secret shows up");
  }
}

describe("without PUBLISH_KEY", () => {
  for (const unset of [undefined, ""]) {
    test(`${unset === "" ? "(empty) " : ""}publishing is refused, connecting is not`, async (t) => {
      const workers = await running(t, { vars: { PUBLISH_KEY: unset } });
      for (const key of ["", "undefined", secrets.PUBLISH_KEY]) {
        for (const [path, init] of [
          ["/broadcast", post(change, key)],
          ["/broadcast-batch", post({ events: [change] }, key)],
          ["/stats", { headers: bearer(key) }],
        ]) {
          blames(await workers.http(path, init), "PUBLISH_KEY", path);
        }
      }
      blames(await workers.http("/broadcast", { method: "POST" }), "PUBLISH_KEY", "no key at all");
      const alice = await workers.space("global").join("alice", ["todos"]);
      has(await alice.mutate("todos", "create", "k", {}), { type: "ack" });
    });
  }
});

test("without JWT_SECRET nobody connects, publishing works", async (t) => {
  const workers = await running(t, { vars: { JWT_SECRET: undefined } });
  const forged = [token("alice"), token("alice", { secret: "" }), token("alice", { secret: "undefined" })];
  for (const headers of [{}, ...forged.map(bearer)]) {
    blames(await workers.upgrade("/api/sync", { headers }), "JWT_SECRET", "upgrade");
    blames(await workers.http("/api/sync/session", { headers }), "JWT_SECRET", "session");
  }
  assert.equal((await workers.http("/broadcast", post())).status, 200);
});

describe("the published secrets", () => {
  for (const [setting, value] of Object.entries(published)) {
    for (const DEV of [undefined, "false", "1", "TRUE"]) {
      test(`${setting} of .dev.vars.example opens nothing with DEV=${DEV}`, async (t) => {
        const workers = await running(t, { vars: { [setting]: value, DEV } });
        for (const [way, answer] of Object.entries(await ways(workers, { [setting]: value }))) {
          blames(answer, setting, way);
        }
        assert.ok(workers.logs.some((line) => line.startsWith("error") && line.includes(setting)));
        withoutSecrets(workers.logs.join());
      });
    }
  }

  test("work with DEV=true", async (t) => {
    const workers = await running(t, { vars: { ...published, DEV: "true" } });
    const statuses = Object.values(await ways(workers, published)).map(({ status }) => status);
    assert.deepEqual(statuses, [101, 101, 200, 200, 200, 200]);
  });
});

describe("SYNC_CHANNELS", () => {
  const mistakes = {
    "is not set": undefined,
    "is empty": "",
    "is no JSON": "{",
    "is a list": [],
    "has an unknown word": { todos: { read: "everyone" } },
    "has an unknown option": { feed: { read: "anyone" }, todos: { raed: "anyone" } },
    "has an unknown scope": { todos: { scope: "mine" } },
    "has a rule that is none": { todos: true },
    "has an empty name": { "": { read: "anyone" } },
  };
  for (const [name, SYNC_CHANNELS] of Object.entries(mistakes)) {
    test(`that ${name} opens nothing`, async (t) => {
      const workers = await running(t, { vars: { SYNC_CHANNELS } });
      for (const [way, answer] of Object.entries(await ways(workers))) blames(answer, "SYNC_CHANNELS", way);
      assert.ok(workers.logs.some((line) => line.startsWith("error") && line.includes("SYNC_CHANNELS")));
    });
  }

  test("may be JSON text; exact names win over the longest prefix", async (t) => {
    const SYNC_CHANNELS = JSON.stringify({
      "a*": { read: "none" },
      "ab*": { read: "anyone" },
      "abc": { read: "user" },
      "team": { read: "user", write: "user", scope: { field: "teams", as: "team:" } },
    });
    const workers = await running(t, { vars: { SYNC_CHANNELS } });
    const space = workers.space("global");
    const anonymous = await space.join(null);
    const code = async (channel) => (await anonymous.subscribe(channel)).error?.code;
    assert.equal(await code("abd"), undefined);
    assert.equal(await code("abcd"), undefined);
    for (const channel of ["abc", "ac"]) assert.equal(await code(channel), "unauthorized");
    assert.equal(await code("todos"), "unknown_channel");

    const member = await space.join("alice", ["team"], { topics: ["team:a"] });
    const other = await space.join("bob", ["team"], { topics: ["team:b"] });
    has(await member.mutate("team", "create", "k", { teams: ["a"] }), { type: "ack" });
    has(await member.mutate("team", "create", "l", { teams: ["b"] }), { error: { code: "forbidden" } });
    assert.equal((await space.publish("team", "update", "k", { teams: ["a", "b"] })).receivers, 2);
    has(await other.receive({ type: "change" }), { action: "create", key: "k" });
    has(await member.receive({ type: "change" }), { action: "update" });
  });
});

test("other mistakes are named too", async (t) => {
  for (const [setting, value] of [
    ["SYNC_SPACES", "Team-*"],
    ["ALLOWED_ORIGINS", "*"],
  ]) {
    const workers = await running(t, { vars: { [setting]: value } });
    for (const [way, answer] of Object.entries(await ways(workers))) blames(answer, setting, way);
  }
});

test("spaces and the cookie's name are settings", async (t) => {
  const workers = await running(t, { vars: { SYNC_SPACES: "team-*", SESSION_COOKIE: "auth" } });
  assert.equal((await workers.upgrade("/api/sync/team-7")).status, 101);
  assert.equal((await workers.upgrade("/api/sync/team")).status, 401);
  const identity = async (cookie) => (await workers.http("/api/sync/session", { headers: { cookie } })).body.identity;
  assert.equal(await identity(`auth=${token("alice")}`), "alice");
  assert.equal(await identity(`session=${token("alice")}`), null);
});

describe("an app Worker without the binding", () => {
  let sync;
  before(async () => (sync = await start({ workers: ["sync"] })));
  after(() => sync?.stop());

  const app = (t, SYNC_WORKER_URL) => running(t, { workers: ["app"], appVars: { SYNC_WORKER_URL } });

  for (const path of ["", "/", "/api/sync", "/api/sync/"]) {
    test(`reaches the sync Worker of another process at its origin + "${path}"`, async (t) => {
      const workers = await app(t, sync.origin + path);
      const space = workers.space();
      const asleep = sync.space(space.name);
      const alice = await space.join("alice", ["notes"]);
      const bob = await space.join("bob", ["notes"]);
      assert.equal((await space.publish("notes", "create", "a1", { ownerId: "alice" })).receivers, 1);
      await alice.receive({ type: "change", key: "a1" });
      const { instance } = await space.stats();
      await asleep.sleep();
      has(await bob.mutate("notes", "create", "b1", { ownerId: ["alice", "bob"] }), { type: "ack" });
      await alice.receive({ type: "change", key: "b1", by: "bob" });
      assert.notEqual((await space.stats()).instance, instance);
      assert.deepEqual(await bob.rest(), []);
      bob.close(4321);
      assert.equal((await bob.ended(2_000)).code, 4321);

      const { cursor, view } = alice.snapshots.notes;
      alice.drop();
      const { body } = await space.post("/broadcast-batch", {
        channel: "notes",
        changes: [{ action: "delete", key: "a1" }],
      });
      assert.equal(body.seq, 3);
      const delta = await (await space.join("alice")).subscribe("notes", { cursor, view });
      has(delta, { mode: "delta", deleted: ["a1"] });
      assert.deepEqual(Object.keys(rows(delta)), ["b1"]);
    });
  }

  test("passes upgrade, subprotocol, cookies, query and refusals on", async (t) => {
    const workers = await app(t, sync.origin);
    const identity = async (path, headers, protocols) => {
      const { client, protocol } = await workers.upgrade(path, { headers, protocols });
      client.send({ type: "hello", v: 1 });
      return [(await client.receive({ type: "welcome" })).identity, protocol];
    };
    assert.deepEqual(await identity(`/api/sync?token=${token("alice")}`, {}, ["a", "b"]), ["alice", "a"]);
    const cookie = `session=${token("alice")}`;
    assert.deepEqual(await identity("/api/sync", { cookie, origin: `http://${workers.host}` }), ["alice", ""]);
    const statusOf = async (path, headers) => (await workers.upgrade(path, { headers })).status;
    assert.equal(await statusOf("/api/sync", { cookie, origin: "https://evil.example" }), 403);
    assert.equal(await statusOf("/api/sync", { cookie, origin: `http://${sync.host}` }), 403);
    // Node's client for upgrades asks for no compression, so it must get none.
    const { status, body } = await workers.upgrade("/api/sync", { headers: bearer("bad") });
    assert.deepEqual([status, body.error.code], [401, "unauthorized"]);
    assert.equal((await workers.http("/api/sync")).status, 426);
    assert.equal((await workers.http("/broadcast", post(change, "wrong"))).status, 401);
    assert.equal((await workers.http("/broadcast", { headers: {} })).headers.get("allow"), "POST");
    has(await workers.http("/healthz"), { status: 200, body: { ok: true } });
    assert.equal((await workers.http("/connect")).status, 404);
  });

  test("the sync Worker itself takes no grant and no internal path from outside", async () => {
    const grant = Buffer.from(JSON.stringify({ identity: "root", topics: [], issuedAt: 0, expiresAt: null }));
    const headers = { "x-tidewire-auth-grant": grant.toString("base64") };
    const { client } = await sync.upgrade("/api/sync", { headers });
    client.send({ type: "hello", v: 1 });
    assert.equal((await client.receive({ type: "welcome" })).identity, null);
    for (const path of ["/connect", "/publish", "/publish-batch", "/"]) {
      assert.equal((await sync.upgrade(path, { headers })).status, 404);
      assert.equal((await sync.http(path, { ...post(), headers })).status, 404);
    }
  });

  test("says 503 and both names when there is no URL either", async (t) => {
    for (const url of [undefined, ""]) {
      const workers = await app(t, url);
      for (const answer of Object.values(await ways(workers))) {
        assert.equal(answer.status, 503);
        assert.equal(answer.body.error.code, "unavailable");
        assert.match(answer.body.error.message, /\bSYNC_WORKER\b.*\bSYNC_WORKER_URL\b/);
      }
      assert.equal((await workers.http("/healthz")).status, 503);
      assert.equal((await workers.http("/")).status, 404, "the app's own paths go on");
    }
  });

  test("names the URL when it is none", async (t) => {
    for (const url of ["sync.example", "ftp://sync.example", "https://"]) {
      const workers = await app(t, url);
      const { status, body } = await workers.http("/healthz");
      assert.equal(status, 500, url);
      assert.match(body.error.message, /SYNC_WORKER_URL/);
    }
  });

  test("says 503 when nobody answers at the URL, and logs why", async (t) => {
    const workers = await app(t, `http://127.0.0.1:${await unusedPort()}`);
    for (const answer of Object.values(await ways(workers))) {
      assert.equal(answer.status, 503);
      assert.equal(answer.body.error.retryable, true);
    }
    assert.ok(workers.logs.some((line) => line.startsWith("error: the sync Worker did not answer")));
  });

  test("is not needed where the binding is: it wins over the URL", async (t) => {
    const url = `http://127.0.0.1:${await unusedPort()}`;
    const workers = await running(t, { appVars: { SYNC_WORKER_URL: url } });
    const alice = await workers.space("global").join("alice", ["todos"]);
    alice.send(mutation("m", "todos", "create", "k", {}));
    await alice.receive({ type: "ack", id: "m" });
  });
});

async function unusedPort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
