// Sessions that are no tokens: an endpoint of the app says who somebody is, over the service binding
// AUTH_SERVICE as over AUTH_URL.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, secrets, start, token } from "./harness.mjs";
import { Key, Server, provider } from "./provider.mjs";

/** The app as a Worker: it answers as it was told, and tells what it was asked. */
const app = {
  name: "the-app",
  compatibilityDate: "2026-06-07",
  modules: true,
  script: `
    let answer = {};
    const asked = [];
    export default {
      async fetch(request) {
        const { host, pathname, search } = new URL(request.url);
        if (host === "the-app" && pathname === "/answer") answer = await request.json();
        if (host === "the-app") return Response.json({ asked });
        asked.push({ method: request.method, url: pathname + search, headers: Object.fromEntries(request.headers) });
        const { status, headers, body, wait, fails } = answer;
        if (wait) await scheduler.wait(wait);
        if (fails) throw new Error("the app is broken");
        return new Response(body, { status, headers });
      },
    };`,
};

const text = (body) => (typeof body === "string" ? body : JSON.stringify(body));

/** The two ways to the app. Each starts it with Workers that ask it. */
const ways = {
  AUTH_SERVICE: async (vars) => {
    const amend = (sync) => ({ ...sync, serviceBindings: { AUTH_SERVICE: app.name } });
    const workers = await start({ vars: { JWT_SECRET: undefined, ...vars }, amend, others: [app] });
    let seen = 0;
    const ask = async (path, answer) => {
      const init = answer && { method: "POST", body: JSON.stringify({ ...answer, body: text(answer.body ?? "") }) };
      return (await workers.ask(app.name, path, init)).body.asked;
    };
    return {
      workers,
      path: "/sync-auth",
      answers: (answer) => ask("/answer", answer),
      asked: async () => {
        const all = await ask("/asked");
        return all.slice(seen, (seen = all.length));
      },
      stop: () => workers.stop(),
    };
  },
  AUTH_URL: async (vars) => {
    const server = await Server.start();
    const AUTH_URL = `${server.origin}/auth/session?app=1`;
    const workers = await start({ vars: { JWT_SECRET: undefined, AUTH_URL, ...vars } });
    let seen = 0;
    return {
      workers,
      path: "/auth/session?app=1",
      answers: ({ wait, fails, ...answer }) => {
        server.answer = (_, response) => {
          if (fails) return void response.destroy();
          if (wait) return void setTimeout(() => response.end(text(answer.body)), wait).unref();
          return answer;
        };
      },
      asked: async () => server.asked.slice(seen, (seen = server.asked.length)),
      stop: () => Promise.all([workers.stop(), server.stop()]),
    };
  },
};

const hour = 3_600_000;
const later = () => Date.now() + hour;
const alice = (more) => ({ body: { identity: "alice", expiresAt: later(), ...more } });
const cookie = { cookie: "theme=dark; sid=opaque-cookie" };
const opaque = bearer("opaque-token");

for (const [name, begin] of Object.entries(ways)) {
  describe(`with ${name}`, () => {
    let it, workers;
    before(async () => {
      it = await begin({ AUTH_HEADERS: "X-Session, x-device", SYNC_SPACES: "open-*" });
      workers = it.workers;
    });
    after(() => it?.stop());
    beforeEach(() => it.asked());

    /** The answer to an upgrade: the identity, or status and code. */
    async function connects(headers, path = "/api/sync") {
      const { status, body, client } = await workers.upgrade(path, { headers });
      if (status !== 101) return [status, body.error.code];
      client.send({ type: "hello", v: 1 });
      const { identity } = await client.receive({ type: "welcome" });
      client.drop();
      return identity;
    }

    async function join(space, channels = [], headers = cookie) {
      const { status, body, client } = await workers.upgrade(space.path, { headers });
      assert.equal(status, 101, JSON.stringify(body));
      client.send({ type: "hello", v: 1, subscribe: channels.map((channel) => ({ id: channel, channel })) });
      client.welcome = await client.receive({ type: "welcome" });
      for (const id of channels) await client.receive({ type: "snapshot", id });
      return client;
    }

    test("nothing was asked by starting, or by who shows nothing", async () => {
      it.answers(alice());
      assert.equal(await connects({}), null);
      assert.equal(await connects({ "x-other": "1", origin: "https://evil.example" }), null);
      const { body } = await workers.http("/api/sync/session");
      assert.equal(body.identity, null);
      assert.deepEqual(await connects({}, "/api/sync/team-a"), [401, "unauthorized"]);
      assert.deepEqual(await it.asked(), []);
      assert.deepEqual(workers.logs.filter((line) => !line.includes('{"op":')), []);
    });

    test("the endpoint is shown cookie, token and named headers, and nothing else", async () => {
      const noise = {
        ...{ "x-other": "1", "user-agent": "test", referer: "http://x", origin: workers.origin },
        ...{ "x-tidewire-auth-grant": "x", "x-tidewire-origin": "https://evil.example", "x-tidewire-owner": "x" },
        ...{ "x-forwarded-for": "1.2.3.4", "cf-connecting-ip": "1.2.3.4" },
      };
      await it.answers(alice({ space: "team-a" }));
      const shown = async (headers, path = "/api/sync/team-a") => {
        await workers.upgrade(path, { headers: { ...noise, ...headers }, protocols: ["tidewire"] });
        const [{ method, url, headers: all }, ...more] = await it.asked();
        assert.deepEqual([method, more], ["GET", []]);
        // What the network and the platform add of their own.
        const { host, connection, "accept-encoding": encodings, "cf-worker": worker, ...rest } = all;
        return [url, rest];
      };
      const accept = "application/json";
      const url = `${it.path}${it.path.includes("?") ? "&" : "?"}space=`;
      assert.deepEqual(await shown(cookie), [`${url}team-a`, { accept, ...cookie }]);
      assert.deepEqual(await shown(opaque), [`${url}team-a`, { accept, ...opaque }]);
      const named = { "x-session": "a session", "x-device": "d" };
      assert.deepEqual(await shown({ ...named, ...cookie, ...opaque }), [`${url}team-a`, { accept, ...named, ...cookie, ...opaque }]);
      assert.deepEqual(await shown({ "x-device": "d" }, "/api/sync"), [`${url}global`, { accept, "x-device": "d" }]);
      assert.deepEqual(await shown({}, "/api/sync?token=by-query&x=1"), [`${url}global`, { accept, ...bearer("by-query") }]);
      // Only a bearer's token is one; other schemes are shown to nobody.
      assert.equal(await connects({ authorization: "Basic eDp5" }), null);
      assert.deepEqual(await it.asked(), []);
    });

    test("its answer counts: identity, topics, space, end", async () => {
      const end = later();
      await it.answers(alice({ expiresAt: end, topics: ["room:1"], space: "team-a", unknown: { a: [1] }, context: { plan: "pro" } }));
      const session = (space, headers = cookie) => workers.http(`/api/sync/session?space=${space}`, { headers });
      assert.deepEqual((await session("team-a")).body, { identity: "alice", expiresAt: end, space: "team-a" });
      for (const space of ["team-b", "global", "open-1"]) assert.equal((await session(space)).status, 403, space);
      const client = await join(workers.space("team-a"), ["room:1"]);
      has(client.welcome, { identity: "alice", expiresAt: end });
      has(await client.subscribe("room:2"), { error: { code: "forbidden" } });
      await it.answers(alice({ topics: null, space: null, context: null }));
      assert.deepEqual((await session("global")).status, 503, "topics must be a list");
      await it.answers(alice({ space: null, issuedAt: null, context: null }));
      assert.equal(await connects(cookie), "alice");
      assert.equal(await connects(cookie, "/api/sync/open-1"), "alice");
      assert.deepEqual(await connects(cookie, "/api/sync/team-a"), [403, "forbidden"]);
      await it.answers(alice({ identity: "ålice 🌊" }));
      assert.equal(await connects(opaque), "ålice 🌊");
    });

    test("a visitor whom it knows not is nobody", async () => {
      for (const body of [{ identity: null }, {}, { identity: null, expiresAt: 1, topics: ["all"] }]) {
        await it.answers({ body });
        assert.equal(await connects(cookie), null);
        const { status, body: session } = await workers.http("/api/sync/session", { headers: cookie });
        assert.deepEqual([status, session], [200, { identity: null, expiresAt: null, space: "global" }]);
        assert.deepEqual(await connects(cookie, "/api/sync/team-a"), [401, "unauthorized"]);
      }
    });

    const topics = (count, bytes) => Array.from({ length: count }, (_, i) => `${i}`.padStart(bytes, "t"));
    const context = (bytes) => "x".repeat(bytes - 2);
    const shape = [503, "unavailable"];
    const answers = {
      "401": [{ status: 401, body: { error: "who?" } }, [401, "unauthorized"]],
      "403": [{ status: 403 }, [403, "forbidden"]],
      "500": [{ status: 500, body: alice().body }, shape],
      "404": [{ status: 404, body: alice().body }, shape],
      "201": [{ status: 201, body: alice().body }, shape],
      "204": [{ status: 204, body: undefined }, shape],
      "429": [{ status: 429 }, shape],
      "nothing": [{ body: "" }, shape],
      "no JSON": [{ body: "<html>sign in</html>" }, shape],
      "null": [{ body: "null" }, shape],
      "a list": [{ body: "[]" }, shape],
      "a number for the identity": [alice({ identity: 7 }), shape],
      "two identities": [{ body: `{"identity":"alice","identity":"bob","expiresAt":${later()}}` }, shape],
      "a text for its end": [alice({ expiresAt: new Date(later()).toISOString() }), shape],
      "more than 16 KiB": [alice({ pad: "x".repeat(16 * 1024) }), shape],
      "an empty identity": [alice({ identity: "" }), [503, "unavailable"]],
      "an identity of 257 bytes": [alice({ identity: "a".repeat(257) }), [503, "unavailable"]],
      "no end": [alice({ expiresAt: undefined }), [503, "unavailable"]],
      "null for its end": [alice({ expiresAt: null }), [503, "unavailable"]],
      "an end that has passed": [alice({ expiresAt: Date.now() - 1 }), [401, "unauthorized"]],
      "an end in seconds": [alice({ expiresAt: Math.floor(later() / 1000) }), [401, "unauthorized"]],
      "a space that is none": [alice({ space: "Team" }), [503, "unavailable"]],
      "a context of 1025 bytes": [alice({ context: context(1025) }), [503, "unavailable"]],
      "65 topics": [alice({ topics: topics(65, 2) }), [403, "forbidden"]],
      "more than 4 KiB of topics": [alice({ topics: topics(64, 65) }), [403, "forbidden"]],
      "the topic all": [alice({ topics: ["all"] }), [403, "forbidden"]],
      "another's topic": [alice({ topics: ["user:bob"] }), [403, "forbidden"]],
    };
    for (const [what, [answer, expected]] of Object.entries(answers)) {
      test(`${what} opens nothing: ${expected.join(" ")}`, async () => {
        await it.answers(answer);
        assert.deepEqual(await connects(cookie), expected);
        const { status, body } = await workers.http("/api/sync/session", { headers: opaque });
        assert.deepEqual([status, body.error.code], expected);
        assert.equal((await it.asked()).length, 2);
      });
    }

    test("64 topics and a context of 1 KiB fit, and outlive sleep", async () => {
      await it.answers(alice({ topics: topics(64, 64), context: context(1024), space: "team-c", identity: "a".repeat(256) }));
      const space = workers.space("team-c");
      const client = await join(space, ["todos"]);
      await space.sleep();
      has(await client.mutate("todos", "create", "k", {}), { type: "ack" });
      assert.equal(client.welcome.identity, "a".repeat(256));
    });

    test("an endpoint that fails is 503 and retryable, and its cause stays in the log", async () => {
      await it.answers({ fails: true });
      const before = workers.logs.length;
      const { status, body } = await workers.http("/api/sync/session", { headers: cookie });
      assert.equal(status, 503);
      assert.deepEqual(body.error, {
        code: "unavailable",
        message: "the app's authentication endpoint did not answer",
        retryable: true,
      });
      assert.ok(workers.logs.slice(before).some((line) => line.startsWith("error: authentication endpoint: ")));
    });

    test("an endpoint that is slow is 503 within seconds", async () => {
      await it.answers({ ...alice(), wait: 8_000 });
      const from = Date.now();
      const answered = await Promise.all([
        workers.http("/api/sync/session", { headers: cookie }),
        workers.upgrade("/api/sync", { headers: cookie, ms: 10_000 }),
      ]);
      for (const { status, body } of answered) assert.deepEqual([status, body.error.code], shape);
      const took = Date.now() - from;
      assert.ok(took > 4_500 && took < 7_500, `${took} ms`);
    });

    test("a redirect is 503; where it leads nobody goes", async (t) => {
      const elsewhere = await Server.start(() => alice());
      t.after(() => elsewhere.stop());
      for (const status of [301, 302, 303, 307, 308]) {
        await it.answers({ status, headers: { location: `${elsewhere.origin}/login` } });
        assert.deepEqual(await connects({ ...cookie, ...opaque }), shape);
      }
      assert.equal(elsewhere.asked.length, 0);
    });

    test("it is asked for each upgrade: what it said before counts for nothing", async () => {
      await it.answers(alice());
      for (let i = 0; i < 3; i += 1) assert.equal(await connects(cookie), "alice");
      assert.equal((await it.asked()).length, 3);
      await it.answers({ status: 401 });
      assert.deepEqual(await connects(cookie), [401, "unauthorized"]);
      await it.answers(alice({ identity: "bob" }));
      assert.equal(await connects(cookie), "bob");
      await it.answers({ status: 500 });
      assert.deepEqual(await connects(cookie), shape);
    });

    for (const sleeps of [false, true]) {
      const nap = (space) => (sleeps ? space.sleep().catch(() => {}) : undefined);
      describe(`a session${sleeps ? ", asleep before each frame," : ""}`, () => {
        test("ends with 4001 when the endpoint said, not sooner", async () => {
          const space = workers.space(`open-end-${sleeps}`);
          const end = Date.now() + 1_500;
          await it.answers(alice({ expiresAt: end }));
          const client = await join(space, ["todos"]);
          await nap(space);
          assert.equal((await space.publish("todos", "create", "before", {})).receivers, 1);
          await delay(Math.max(0, end + 1 - Date.now()));
          await nap(space);
          assert.equal((await space.publish("todos", "create", "after", {})).receivers, 0);
          has(await client.ended(), { code: 4001, reason: "auth expired" });
          assert.deepEqual(client.inbox.map(({ key }) => key), ["before"]);
        });

        test("is renewed in place by an opaque token, which is shown without cookie or headers", async () => {
          const space = workers.space(`open-${name.toLowerCase()}-${sleeps}`);
          await it.answers(alice());
          const client = await join(space, ["todos"], { ...cookie, "x-session": "s" });
          await it.asked();
          await nap(space);
          const from = Date.now();
          const end = later() + hour;
          await it.answers(alice({ expiresAt: end, topics: ["room:1"] }));
          client.send([
            { type: "auth", token: "another-opaque" },
            { type: "subscribe", id: "r", channel: "room:1" },
          ]);
          has(await client.receive({ type: "snapshot", id: "r" }), { channel: "room:1" });
          has(client.all.at(-2), { type: "authed", identity: "alice", expiresAt: end });
          const [{ headers }, ...more] = await it.asked();
          assert.deepEqual(more, []);
          assert.equal(headers.authorization, "Bearer another-opaque");
          assert.deepEqual([headers.cookie, headers["x-session"]], [undefined, undefined]);

          for (const [answer, code] of [
            [{ status: 401 }, "unauthorized"],
            [{ status: 403 }, "forbidden"],
            [{ status: 500 }, "unavailable"],
            [{ fails: true }, "unavailable"],
            [{ body: "no" }, "unavailable"],
            [alice({ expiresAt: Date.now() - 1 }), "unauthorized"],
            [alice({ topics: ["all"] }), "forbidden"],
            [alice({ space: "elsewhere" }), "forbidden"],
          ]) {
            await nap(space);
            await it.answers(answer);
            client.send({ type: "auth", token: "opaque" });
            has(await client.receive({ type: "error" }), { error: { code } });
          }
          await nap(space);
          has(await client.mutate("room:1", "create", "k", {}), { type: "ack" });
          // An object that is asked for nothing sleeps: no timer of a question is left to wait for.
          assert.ok(Date.now() - from < 4_000, `${Date.now() - from} ms`);
          await it.answers(alice({ identity: "bob" }));
          client.send({ type: "auth", token: "bobs" });
          has(await client.receive({ type: "error" }), { error: { code: "forbidden" } });
          assert.equal((await client.ended()).code, 4501);
        });

        test("of somebody whom the endpoint no longer knows ends with 4501", async () => {
          const space = workers.space("open-3");
          await it.answers(alice());
          const client = await join(space, ["todos"]);
          await nap(space);
          await it.answers({ body: { identity: null } });
          client.send({ type: "auth", token: "nobodys" });
          assert.equal((await client.ended()).code, 4501);
        });
      });
    }

    test("a token that is too long is shown to nobody", async () => {
      await it.answers(alice());
      const client = await join(workers.space("global"), ["todos"]);
      await it.asked();
      client.send({ type: "auth", token: "x".repeat(8 * 1024 + 1) });
      has(await client.receive({ type: "error" }), { error: { code: "unauthorized" } });
      assert.deepEqual(await it.asked(), []);
    });

    test("a page of another origin may not use its visitor's cookies: 403 before anything is asked", async () => {
      await it.answers(alice());
      for (const origin of ["https://evil.example", "null", `${workers.origin}.evil.example`]) {
        for (const headers of [{ origin, ...cookie }, { origin, ...cookie, ...opaque }]) {
          assert.deepEqual(await connects(headers), [403, "forbidden"]);
          assert.equal((await workers.http("/api/sync/session", { headers })).status, 403);
        }
      }
      assert.deepEqual(await it.asked(), []);
      assert.equal(await connects({ origin: workers.origin, ...cookie }), "alice");
      assert.equal(await connects({ origin: "https://evil.example", ...opaque }), "alice");
    });

    test("after /disconnect a session comes back only if the app vouches for it anew", async () => {
      const space = workers.space("open-4");
      const began = Date.now() - hour;
      await it.answers(alice({ issuedAt: began }));
      const client = await join(space, ["todos"]);
      const { status } = await space.post("/disconnect", { identity: "alice", reason: "signed out" });
      assert.equal(status, 200);
      assert.equal((await client.ended()).code, 4505);
      assert.deepEqual(await connects(cookie, space.path), [401, "unauthorized"], "the session of before");
      await it.answers(alice({ issuedAt: Date.now() + hour }));
      assert.equal(await connects(cookie, space.path), "alice", "signed in again");
      await it.answers(alice());
      assert.equal(await connects(cookie, space.path), "alice", "vouched for just now");
      await it.answers({ status: 401 });
      assert.deepEqual(await connects(cookie, space.path), [401, "unauthorized"]);
    });

    test("no cookie, token or answer is in a log", () => {
      const logs = workers.logs.join("\n");
      for (const word of ["opaque", "sid=", "<html>", "another-"]) assert.ok(!logs.includes(word), logs);
    });
  });

  describe(`with ${name} beside JWT_SECRET and JWKS_URL`, () => {
    const key = new Key("ES256");
    let id, it;
    before(async () => {
      id = await provider(key);
      it = await begin({ JWT_SECRET: secrets.JWT_SECRET, JWKS_URL: `${id.origin}/keys` });
    });
    after(() => Promise.all([id?.stop(), it?.stop()]));

    test("tokens are judged as JWTs, cookies by the endpoint", async () => {
      const { workers } = it;
      const who = async (headers) => {
        const { status, body } = await workers.http("/api/sync/session", { headers });
        return [status === 200 ? body.identity : status, (await it.asked()).length];
      };
      await it.answers(alice({ identity: "by-cookie" }));
      assert.deepEqual(await who(bearer(token("by-secret"))), ["by-secret", 0]);
      assert.deepEqual(await who(bearer(key.token({ sub: "by-key" }))), ["by-key", 0]);
      assert.deepEqual(await who(opaque), [401, 0]);
      assert.deepEqual(await who({ ...opaque, ...cookie }), [401, 0], "the first source decides");
      assert.deepEqual(await who({ ...bearer(token("by-secret")), ...cookie }), ["by-secret", 0]);
      assert.deepEqual(await who(cookie), ["by-cookie", 1]);
      assert.deepEqual(await who({ cookie: `session=${token("by-secret")}` }), ["by-cookie", 1], "the app knows its cookies");
      const client = await workers.space("global").join("by-cookie", [], { space: undefined });
      client.send({ type: "auth", token: "opaque" });
      has(await client.receive({ type: "error" }), { error: { code: "unauthorized" } });
      client.send({ type: "auth", token: key.token({ sub: "by-cookie" }) });
      await client.receive({ type: "authed" });
      assert.deepEqual(await it.asked(), []);
    });
  });
}

test("AUTH_PATH is where AUTH_SERVICE is asked", async (t) => {
  const it = await ways.AUTH_SERVICE({ AUTH_PATH: "/internal/who?v=2" });
  t.after(() => it.stop());
  await it.answers(alice());
  const { body } = await it.workers.http("/api/sync/session", { headers: cookie });
  assert.equal(body.identity, "alice");
  const [{ url }] = await it.asked();
  assert.equal(url, "/internal/who?v=2&space=global");
});

test("an app that is not there is 503", async (t) => {
  const gone = await Server.start();
  await gone.stop();
  const workers = await start({ vars: { JWT_SECRET: undefined, AUTH_URL: `${gone.origin}/auth` } });
  t.after(() => workers.stop());
  const { status, body } = await workers.upgrade("/api/sync", { headers: cookie });
  assert.deepEqual([status, body.error.code], [503, "unavailable"]);
  assert.equal((await workers.upgrade("/api/sync")).status, 101, "who shows nothing needs no app");
});
