// Who gets in: tokens and where they come from, spaces, origins, and how connections end.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { bearer, has, secrets, start, token } from "./harness.mjs";

let workers;
before(async () => (workers = await start({ vars: { ALLOWED_ORIGINS: "https://partner.example" } })));
after(() => workers?.stop());

const cookie = (value, name = "session") => ({ cookie: `theme=dark; ${name}=${value}; lang=en` });
const expired = () => token("alice", { exp: Date.now() / 1000 - 1 });

/** The identity that a connection with these headers and query has. */
async function identity(headers, query = "") {
  const { status, client } = await workers.upgrade(`/api/sync${query}`, { headers });
  assert.equal(status, 101);
  client.send({ type: "hello", v: 1 });
  return (await client.receive({ type: "welcome" })).identity;
}

/** Asserts that an upgrade is refused; nothing was open for a moment. */
async function refused(path, headers, expectedStatus, code) {
  const { status, body } = await workers.upgrade(path, { headers });
  assert.equal(status, expectedStatus, JSON.stringify(body));
  assert.equal(body.error.code, code);
  return body.error;
}

describe("a token", () => {
  test("comes by header, query or cookie", async () => {
    assert.equal(await identity(bearer(token("by-header"))), "by-header");
    assert.equal(await identity({ authorization: `bearer ${token("by-header")}` }), "by-header");
    assert.equal(await identity({}, `?token=${token("by-query")}&app=1`), "by-query");
    assert.equal(await identity(cookie(token("by-cookie"))), "by-cookie");
    assert.equal(await identity(cookie(`"${token("quoted")}"`)), "quoted");
    assert.equal(await identity({}), null);
    assert.equal(await identity(cookie(token("alice"), "other")), null);
    assert.equal(await identity(bearer(token("ålice 🌊"))), "ålice 🌊");
  });

  test("is taken from the first source that is present, good or bad", async () => {
    const query = `?token=${token("by-query")}`;
    const all = { ...bearer(token("by-header")), ...cookie(token("by-cookie")) };
    assert.equal(await identity(all, query), "by-header");
    assert.equal(await identity(cookie(token("by-cookie")), query), "by-query");
    await refused(`/api/sync${query}`, bearer("bad"), 401, "unauthorized");
    await refused("/api/sync?token=bad", cookie(token("by-cookie")), 401, "unauthorized");
    await refused("/api/sync?token=", cookie(token("by-cookie")), 401, "unauthorized");
  });

  test("that is bad or expired is refused before the upgrade", async () => {
    const [header, payload, signature] = token("alice").split(".");
    const unsigned = Buffer.from('{"alg":"none"}').toString("base64url");
    const bad = [
      ...["", "x", "a.b.c", `${header}.${payload}.`, `${unsigned}.${payload}.`],
      ...[`${unsigned}.${payload}.${signature}`, `${header}.${payload}.${signature}x`],
      ...[expired(), token("alice", { exp: undefined }), token(undefined), token("")],
      ...[token("alice", { secret: "another" }), token("alice", { secret: "" })],
      ...[token("alice", { nbf: Date.now() / 1000 + 600 }), token("a".repeat(257))],
    ];
    for (const credential of bad) {
      await refused("/api/sync", bearer(credential), 401, "unauthorized");
    }
    await refused("/api/sync", cookie(expired()), 401, "unauthorized");
    await refused(`/api/sync?token=${expired()}`, {}, 401, "unauthorized");
  });

  test("has at most 8 KiB, wherever it comes from", async () => {
    const bound = 8 * 1024;
    const padded = (bytes) => token("alice", { exp: 4e9, pad: "x".repeat(bytes) });
    let pad = bound;
    while (padded(pad).length > bound) pad -= 1;
    const [fits, exceeds] = [padded(pad), padded(pad + 1)];
    for (const way of [(value) => [bearer(value)], (value) => [cookie(value)], (value) => [{}, `?token=${value}`]]) {
      assert.equal(await identity(...way(fits)), "alice");
      const [headers, query = ""] = way(exceeds);
      await refused(`/api/sync${query}`, headers, 401, "unauthorized");
    }
  });

  test("with too many topics, or topics that cannot be granted, is refused and never cut", async () => {
    const topics = (count, bytes) => Array.from({ length: count }, (_, i) => `${i}`.padStart(bytes, "t"));
    await identity(bearer(token("alice", { topics: topics(64, 64) })));
    for (const list of [topics(65, 2), topics(64, 65), ["all"], ["user:bob"]]) {
      await refused("/api/sync", bearer(token("alice", { topics: list })), 403, "forbidden");
    }
  });

  test("tells a browser by /api/sync/session why an upgrade would fail", async () => {
    const session = async (headers, query = "") => {
      const { status, body } = await workers.http(`/api/sync/session${query}`, { headers });
      return [status, body];
    };
    const exp = Math.floor(Date.now() / 1000) + 600;
    const known = bearer(token("alice", { exp }));
    const grant = { identity: "alice", expiresAt: exp * 1000, space: "global" };
    assert.deepEqual(await session(known), [200, grant]);
    assert.deepEqual(await session(cookie(token("alice", { exp }))), [200, grant]);
    const nobody = { identity: null, expiresAt: null, space: "global" };
    assert.deepEqual(await session({}), [200, nobody]);
    assert.equal((await session(bearer(expired())))[0], 401);
    assert.equal((await session(bearer(token("alice", { topics: ["all"] }))))[0], 403);
    assert.equal((await session(known, "?space=elsewhere"))[0], 403);
    const elsewhere = bearer(token("alice", { space: "elsewhere" }));
    const [status, body] = await session(elsewhere, "?space=elsewhere");
    assert.deepEqual([status, body.space], [200, "elsewhere"]);
  });
});

describe("a space", () => {
  test("opens to tokens that name it, which open no other", async () => {
    const of = (space) => bearer(token("alice", { space }));
    assert.equal((await workers.upgrade("/api/sync/team-a", { headers: of("team-a") })).status, 101);
    await refused("/api/sync/team-b", of("team-a"), 403, "forbidden");
    await refused("/api/sync", of("team-a"), 403, "forbidden");
    await refused("/api/sync/team-a", bearer(token("alice")), 403, "forbidden");
    await refused("/api/sync/team-a", {}, 401, "unauthorized");
    await refused("/api/sync/team-a", bearer(token("alice", { space: "Team-A" })), 401, "unauthorized");
    assert.equal((await workers.upgrade("/api/sync/global", { headers: of("global") })).status, 101);
  });

  test("of a bad or reserved name is none", async () => {
    for (const name of ["Team", "a.b", "a/b", "%61", "x".repeat(65), ""]) {
      const { status, body } = await workers.upgrade(`/api/sync/${name}`, {
        headers: bearer(token("alice", { space: name })),
      });
      assert.deepEqual([status, body.error.code, body.error.field], [400, "invalid", "space"], name);
    }
    for (const name of ["changes", "mutate", "session"]) {
      const { status } = await workers.upgrade(`/api/sync/${name}`);
      assert.notEqual(status, 101, name);
      const asked = await workers.http(`/api/sync/session?space=${name}`);
      assert.deepEqual([asked.status, asked.body.error.field], [400, "space"], name);
    }
  });

  test("shares nothing with another", async () => {
    const [a, b] = [workers.space(), workers.space()];
    const inA = await a.join("alice", ["todos"]);
    const inB = await b.join("alice", ["todos"]);
    const ack = await inA.mutate("todos", "create", "k", { from: "a" }, "m1");
    has(await inB.mutate("todos", "update", "k", {}), { error: { code: "not_found" } });
    has(await inB.mutate("todos", "create", "k", { from: "b" }, "m1"), { replayed: false });
    assert.deepEqual([await inA.rest(), await inB.rest()], [[], []]);
    const { view } = inA.snapshots.todos;
    assert.equal((await inB.subscribe("todos", { cursor: ack.cursor, view })).mode, "full");
    assert.notEqual((await a.stats()).epoch, (await b.stats()).epoch);
  });
});

describe("a page of another origin", () => {
  test("may not use its visitor's cookies", async () => {
    const evil = { origin: "https://evil.example" };
    const withCookie = { ...evil, ...cookie(token("alice")) };
    await refused("/api/sync", withCookie, 403, "forbidden");
    await refused("/api/sync", { ...withCookie, "x-tidewire-host": "evil.example" }, 403, "forbidden");
    await refused("/api/sync", { ...withCookie, origin: "null" }, 403, "forbidden");
    await refused("/api/sync", { ...withCookie, origin: `http://${workers.host}.evil.example` }, 403, "forbidden");
    assert.equal((await workers.http("/api/sync/session", { headers: withCookie })).status, 403);
    const own = { ...withCookie, origin: `http://${workers.host}` };
    assert.equal(await identity(own), "alice");
    assert.equal(await identity({ ...withCookie, origin: "https://partner.example" }), "alice");
  });

  test("may use a token that it holds itself", async () => {
    const origin = "https://app.example";
    assert.equal(await identity({ origin, ...bearer(token("alice")) }), "alice");
    assert.equal(await identity({ origin }, `?token=${token("alice")}`), "alice");
    assert.equal(await identity({ origin }), null);
  });
});

describe("an upgrade", () => {
  test("echoes the first subprotocol offered, and none where none is", async () => {
    const headers = bearer(token("alice"));
    const upgrade = (protocols) => workers.upgrade("/api/sync", { headers, protocols });
    assert.equal((await upgrade(["tidewire", "other"])).protocol, "tidewire");
    assert.equal((await upgrade([])).protocol, "");
  });

  test("works for a browser's WebSocket, which hangs up on a server that chooses no subprotocol", async () => {
    const url = `${workers.origin.replace("http", "ws")}/api/sync?token=${token("alice")}`;
    const socket = new globalThis.WebSocket(url, ["tidewire"]);
    const happened = (event) => new Promise((resolve) => socket.addEventListener(event, resolve, { once: true }));
    await Promise.race([happened("open"), happened("error")]);
    assert.equal(socket.readyState, socket.OPEN);
    assert.equal(socket.protocol, "tidewire");
    const answer = happened("message");
    socket.send('{"type":"hello","v":1}');
    assert.equal(JSON.parse((await answer).data).identity, "alice");
    const closed = happened("close");
    socket.close(1000);
    has(await closed.then(({ code, wasClean }) => ({ code, wasClean })), { code: 1000, wasClean: true });
  });

  test("that is missing is asked for", async () => {
    const { status, body } = await workers.http("/api/sync", { headers: bearer(token("alice")) });
    assert.equal(status, 426);
    assert.ok(body.error.message.includes("upgrade"));
    assert.equal((await workers.http("/api/sync", { headers: bearer("bad") })).status, 401);
  });

  test("by a session whose token has just ended opens nothing", async () => {
    const exp = Date.now() / 1000 + 0.3;
    const headers = bearer(token("alice", { exp }));
    let answer;
    do answer = await workers.upgrade("/api/sync", { headers });
    while (answer.status === 101);
    assert.equal(answer.status, 401);
    assert.ok(Date.now() / 1000 >= exp);
  });
});

describe("what is ours inside", () => {
  const forged = Buffer.from(
    JSON.stringify({ identity: "root", topics: ["room:1"], issuedAt: 0, expiresAt: null }),
  ).toString("base64");
  const internal = { "x-tidewire-auth-grant": forged, "x-tidewire-host": "evil.example" };

  test("a forged grant grants nothing", async () => {
    for (const path of ["/api/sync", "/api/sync/"]) {
      const { status, client } = await workers.upgrade(path, { headers: internal });
      if (status !== 101) continue;
      client.send({ type: "hello", v: 1 });
      assert.equal((await client.receive({ type: "welcome" })).identity, null);
    }
    assert.equal(await identity({ ...internal, ...bearer(token("alice")) }), "alice");
    const { body } = await workers.http("/api/sync/session", { headers: internal });
    assert.equal(body.identity, null);
    await refused("/api/sync/team-a", internal, 401, "unauthorized");
  });

  test("its paths lead nowhere from outside", async () => {
    const paths = ["/connect", "/publish", "/publish-batch", "/api/sync/../connect", "//connect"];
    const bodies = { method: "POST", body: '{"channel":"todos","action":"create","key":"x","data":{}}' };
    for (const path of [...paths, "/api/connect", "/api/sync/connect/", "/broadcast/", "/broadcastx"]) {
      for (const headers of [internal, { ...internal, ...bearer(secrets.PUBLISH_KEY) }]) {
        for (const init of [{ headers }, { headers, ...bodies }]) {
          const { status } = await workers.http(path, init);
          assert.ok([400, 404, 405].includes(status), `${init.method ?? "GET"} ${path}: ${status}`);
        }
        const { status } = await workers.upgrade(path, { headers });
        assert.notEqual(status, 101, path);
      }
    }
    assert.equal((await workers.http("/stats", { headers: internal })).status, 401);
    assert.equal((await workers.space("global").stats()).seq, 0);
  });

  test("what is not ours is the app's", async () => {
    for (const path of ["/", "/index.html", "/api", "/api/synced", "/statsx"]) {
      const { status, body } = await workers.http(path);
      assert.deepEqual([status, body], [404, "not found"], path);
    }
    has(await workers.http("/healthz"), { status: 200, body: { ok: true } });
  });
});

describe("a path asked with another method", () => {
  const cases = [
    ["/api/sync", "POST", "GET"],
    ["/api/sync/team-a", "DELETE", "GET"],
    ["/api/sync/session", "POST", "GET"],
    ["/stats", "POST", "GET"],
    ["/healthz", "POST", "GET"],
    ["/broadcast", "GET", "POST"],
    ["/broadcast-batch", "PUT", "POST"],
  ];
  for (const [path, method, allowed] of cases) {
    test(`${method} ${path} is 405`, async () => {
      const { status, headers, body } = await workers.http(path, { method });
      assert.equal(status, 405);
      assert.equal(headers.get("allow"), allowed);
      assert.equal(body.error.code, "invalid");
    });
  }
});

describe("a close handshake completes at once", () => {
  const cases = [
    [1000, "", 1000],
    [4321, "bye", 4321],
    [3000, "", 3000],
    [undefined, undefined, 1000],
  ];
  for (const asleep of [false, true]) {
    for (const [code, reason, expected] of cases) {
      test(`with ${code ?? "no code"}${asleep ? ", the object asleep" : ""}`, async () => {
        const space = workers.space();
        const client = await space.join("alice", ["todos"]);
        const witness = await space.join("bob", ["todos"]);
        if (asleep) await space.sleep();
        client.close(code, reason);
        assert.equal((await client.ended(2_000)).code, expected);
        // The object knows: there is nobody left to send to but the witness.
        assert.equal((await space.publish("todos", "create", "k", {})).receivers, 1);
        has(await space.stats(), { connections: 1, subscriptions: 1 });
        await witness.receive({ type: "change" });
      });
    }
  }

  test("a client that just vanishes is forgotten", async () => {
    const space = workers.space();
    const client = await space.join("alice", ["todos"]);
    client.drop();
    let stats;
    for (const from = Date.now(); stats?.connections !== 0 && Date.now() - from < 5_000; ) {
      stats = await space.stats();
    }
    has(stats, { connections: 0, subscriptions: 0, channels: 0 });
  });
});
