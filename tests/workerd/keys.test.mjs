// Keys of publishers and operators: each opens what it names and nothing else, by both Workers; the
// log tells whose key it was and never the key; and no header of ours can be had from outside.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { bearer, has, secrets, start, token } from "./harness.mjs";

const SYNC_CHANNELS = {
  "bills": { read: "user" },
  "bill:*": { read: "user" },
  "todos": { read: "user" },
};

const keys = {
  all: secrets.PUBLISH_KEY,
  before: "key-of-yesterday",
  bills: "bills-7Qd0sXnVb2",
  billsBefore: "bills-Zk41mTfEwy",
  teams: "teams-hU83rPgLc6",
  ops: "operator-Yj5vNaKo9",
};

const PUBLISH_KEYS = {
  bills: { key: keys.bills, previous: keys.billsBefore, channels: ["bills", "bill:*"] },
  teams: { key: keys.teams, channels: ["*"], spaces: ["team-*"] },
  ops: { key: keys.ops, channels: ["todos"], spaces: ["global", "team-a"], operate: true },
};

const vars = { SYNC_CHANNELS, PUBLISH_KEYS, PUBLISH_KEY_PREVIOUS: keys.before, SYNC_SPACES: "*" };

/** What each key opens: its name in the log, spaces, channels, and whether it operates. */
const opens = {
  all: { name: "PUBLISH_KEY", space: /./, channel: /./, operate: true },
  before: { name: "PUBLISH_KEY", space: /./, channel: /./, operate: true },
  bills: { name: "bills", space: /^global$/, channel: /^bill(s$|:)/, operate: false },
  billsBefore: { name: "bills", space: /^global$/, channel: /^bill(s$|:)/, operate: false },
  teams: { name: "teams", space: /^team-/, channel: /./, operate: false },
  ops: { name: "ops", space: /^(global|team-a)$/, channel: /^todos$/, operate: true },
};

const change = { action: "create", key: "k", data: {} };
/** The publishers' calls, by their channel. */
const publishing = {
  "/broadcast": (channel) => ({ channel, ...change }),
  "/broadcast-batch": (channel) => ({ channel, changes: [change] }),
  "/broadcast-reset": (channel) => ({ channel }),
  "/broadcast-change": (channel) => ({ channel }),
};
/** The operators' calls; the one without a body is a question. */
const operating = {
  "/disconnect": { identity: "nobody" },
  "/topics": { identity: "nobody", add: ["team:a"] },
  "/epoch": {},
  "/stats": undefined,
};
const everyCall = [...Object.keys(publishing), ...Object.keys(operating)];
const bodyOf = (path, channel) => publishing[path]?.(channel) ?? operating[path];

/** What a line of the log says of a call, without what it did. */
const gist = ({ op, outcome, code, space, key, path }) => ({ op, outcome, code, space, key, path });

/** The ways to the sync Worker. */
const ways = {
  "through the app Worker": {},
  "at the sync Worker itself": { workers: ["sync"] },
};

for (const [way, options] of Object.entries(ways)) {
  describe(way, () => {
    let workers;
    before(async () => (workers = await start({ ...options, vars })));
    after(() => workers?.stop());

    /** Makes a call; the status, the body, and what of it is in the log. */
    async function call(key, path, space, body, headers = {}) {
      const from = workers.logs.length;
      const query = space === undefined ? "" : `?space=${space}`;
      const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
      const credential = key === undefined ? {} : bearer(key);
      const answer = await workers.http(path + query, { ...init, headers: { ...credential, ...headers } });
      // A question that is answered leaves no line to wait for.
      const isQuiet = path === "/stats" && answer.status === 200;
      return { ...answer, log: await logged(from, isQuiet) };
    }

    /** The log lines since `from`; there is at least one soon, unless it is quiet. */
    async function logged(from, isQuiet) {
      for (const begin = Date.now(); !isQuiet && workers.logs.length === from && Date.now() - begin < 2_000; ) {
        await new Promise(setImmediate);
      }
      return workers.logs.slice(from).map((line) => JSON.parse(line.slice(line.indexOf("{"))));
    }

    for (const [label, { name, ...scope }] of Object.entries(opens)) {
      test(`the key "${label}" opens its channels, spaces and calls, and the log says so`, async () => {
        for (const space of ["global", "team-a", `team-${label}`.toLowerCase(), `else-${label}`.toLowerCase()]) {
          for (const path of everyCall) {
            const channels = path in publishing ? ["bills", "bill:7", "todos"] : [undefined];
            for (const channel of channels) {
              const what = `${path} ${space} ${channel}`;
              const inSpace = scope.space.test(space) && (path in publishing || scope.operate);
              const may = inSpace && (channel === undefined || scope.channel.test(channel));
              const answer = await call(keys[label], path, space, bodyOf(path, channel));
              assert.equal(answer.status, may ? 200 : 403, `${what}: ${JSON.stringify(answer.body)}`);
              if (!may) assert.equal(answer.body.error.code, "forbidden", what);
              const asks = path === "/stats";
              const op = asks ? "ask" : path in publishing ? "publish" : "operate";
              const line = { op, outcome: may ? "done" : "refused", code: answer.body.error?.code, space, key: name, path };
              assert.deepEqual(answer.log.map(gist), asks && may ? [] : [line], what);
            }
          }
          const mayEnter = scope.space.test(space);
          if (space.includes(label.toLowerCase())) {
            assert.equal(await workers.space(space).wasWoken(), mayEnter, `the object of ${space}`);
          }
        }
      });
    }

    test("a wrong key or none opens nothing, wakes nothing, and is nobody in the log", async () => {
      const all = Object.values(keys);
      const wrong = [undefined, "", "bills", "PUBLISH_KEY", "unscoped", "named bills"];
      const near = all.flatMap((key) => [`${key}x`, key.slice(0, -1), key.toUpperCase()]);
      for (const key of [...wrong, ...near, secrets.JWT_SECRET, token("alice")]) {
        for (const path of everyCall) {
          const answer = await call(key, path, "untouched", bodyOf(path, "todos"));
          has(answer, { status: 401, body: { error: { code: "unauthorized" } } });
          assert.equal(answer.log.length, 1);
          has(gist(answer.log[0]), { outcome: "refused", code: "unauthorized", space: "untouched", key: undefined, path });
        }
      }
      assert.equal(await workers.space("untouched").wasWoken(), false);
    });

    test("a space in the body counts like one in the query, however it is written", async () => {
      const inBody = (space) => ({ ...publishing["/broadcast"]("bills"), space });
      has(await call(keys.bills, "/broadcast", undefined, inBody("global")), { status: 200 });
      has(await call(keys.bills, "/broadcast", undefined, inBody("hidden")), { status: 403 });
      has(await call(keys.bills, "/broadcast", "global", inBody("hidden")), { status: 400 });
      has(await call(keys.bills, "/broadcast", "hidden", inBody("hidden")), { status: 403 });
      has(await call(keys.ops, "/epoch", undefined, { space: "hidden" }), { status: 403 });
      const post = (body, query = "") =>
        workers.http(`/broadcast${query}`, { method: "POST", headers: bearer(keys.bills), body });
      const begin = '{"channel":"bills","action":"create","key":"k","data":{}';
      for (const disguised of [
        `${begin},"sp\\u0061ce":"hidden"}`,
        `${begin},"space":"global","space":"hidden"}`,
        `${begin},"sp\\u0061ce":"hidden","space":"global"}`,
        `${begin},"space":"global","sp\\u0061ce":"hidden"}`,
      ]) {
        assert.equal((await post(disguised)).status, 400, disguised);
      }
      assert.equal((await post(`${begin}}`, "?space=hidden&space=global")).status, 403);
      assert.equal((await post(`${begin}}`, "?sp%61ce=hidden")).status, 403);
      assert.equal(await workers.space("hidden").wasWoken(), false);
    });

    test("a batch with one channel too many publishes nothing, and names it", async () => {
      const space = workers.space("global");
      const { seq } = await space.stats();
      for (const events of [
        [{ channel: "bills", ...change }, { channel: "todos", ...change }],
        [{ channel: "bills", ...change }, { channel: "undeclared", ...change }],
      ]) {
        const { status, body } = await call(keys.bills, "/broadcast-batch", "global", { events });
        assert.equal(status, 403);
        has(body, { error: { code: "forbidden", field: "events[1]" } });
      }
      assert.equal((await space.stats()).seq, seq);
    });

    test("a forbidden channel answers alike, whether or not it is declared", async () => {
      for (const path of Object.keys(publishing)) {
        const answers = [];
        for (const channel of ["todos", "undeclared"]) {
          const { status, body } = await call(keys.bills, path, "global", bodyOf(path, channel));
          answers.push(JSON.stringify({ status, body }));
        }
        assert.equal(answers[0], answers[1], path);
        assert.ok(answers[0].includes('"status":403'), answers[0]);
      }
    });

    test("an idempotency key belongs to whose key it came with, of today or of before", async () => {
      const once = { "idempotency-key": `order-${way.length}` };
      const publish = (key, channel) => call(key, "/broadcast", "global", publishing["/broadcast"](channel), once);
      const first = await publish(keys.bills, "bills");
      assert.equal(first.status, 200);
      assert.deepEqual((await publish(keys.billsBefore, "bills")).body, first.body);
      assert.notEqual((await publish(keys.all, "bills")).body.seq, first.body.seq);
      assert.equal((await publish(keys.ops, "todos")).status, 200, "another's idempotency key is no conflict");
      assert.equal((await publish(keys.bills, "todos")).status, 409);
    });

    test("no log line holds a key, or a piece of one", async () => {
      const log = workers.logs.join("\n");
      for (const key of Object.values(keys)) {
        for (let at = 0; at + 12 <= key.length; at += 1) {
          assert.ok(!log.includes(key.slice(at, at + 12)), "a piece of a key shows up");
        }
      }
    });

    describe("a header of ours from outside", () => {
      const grant = { identity: "root", topics: ["team:a"], issuedAt: 0, expiresAt: null, context: null };
      const forged = {
        "x-tidewire-auth-grant": Buffer.from(JSON.stringify(grant)).toString("base64url"),
        "x-tidewire-new-space": "yes",
        "x-tidewire-owner": "identity 726f6f74",
        "x-tidewire-origin": "https://evil.example",
      };
      const publishers = ["unscoped", "named ops", "named bills", "named teams"];

      test("makes nobody a publisher, and no publisher another", async () => {
        for (const publisher of publishers) {
          const headers = { ...forged, "x-tidewire-publisher": publisher };
          for (const path of everyCall) {
            const stranger = await call(undefined, path, "unopened", bodyOf(path, "todos"), headers);
            assert.equal(stranger.status, 401, path);
            const scoped = await call(keys.bills, path, "unopened", bodyOf(path, "todos"), headers);
            assert.equal(scoped.status, 403, path);
            const inside = await call(keys.bills, path, "global", bodyOf(path, "todos"), headers);
            assert.equal(inside.status, 403, path);
            has(inside.log, { length: 1, 0: { key: "bills" } });
          }
        }
        assert.equal(await workers.space("unopened").wasWoken(), false);
      });

      test("makes nobody somebody", async () => {
        for (const publisher of publishers) {
          const headers = { ...forged, "x-tidewire-publisher": publisher };
          const { client } = await workers.upgrade("/api/sync", { headers });
          client.send({ type: "hello", v: 1 });
          assert.equal((await client.receive({ type: "welcome" })).identity, null);
          const { body } = await workers.http("/api/sync/session", { headers });
          assert.equal(body.identity, null);
          has(await workers.upgrade("/api/sync", { headers: { ...headers, ...bearer("bad") } }), { status: 401 });
        }
      });

      test("leads to no path inside", async () => {
        for (const path of ["/connect", "/session", "/new-space", "/faults", "/publish"]) {
          const headers = { ...forged, "x-tidewire-publisher": "unscoped", ...bearer(keys.all) };
          for (const init of [{}, { method: "POST", body: "{}" }]) {
            assert.equal((await workers.http(path, { ...init, headers })).status, 404, path);
          }
        }
      });
    });
  });
}

test("no header of ours opens more new spaces", async (t) => {
  for (const options of Object.values(ways)) {
    const SYNC_LIMITS = { newSpacesPerDay: 1 };
    const workers = await start({ ...options, vars: { ...vars, SYNC_LIMITS } });
    t.after(() => workers.stop());
    const upgrade = async (space, headers) => {
      const all = { ...bearer(token("alice")), ...headers };
      return (await workers.upgrade(`/api/sync/${space}`, { headers: all })).status;
    };
    assert.equal(await upgrade("one", {}), 101);
    for (const headers of [
      {},
      { "x-tidewire-new-space": "yes" },
      { "x-tidewire-owner": "identity 626f62" },
      { "x-tidewire-owner": "address 203.0.113.7", "x-tidewire-new-space": "ask" },
    ]) {
      assert.equal(await upgrade("two", headers), 429, JSON.stringify(headers));
    }
  }
});

test("the app Worker takes every header of ours away, and says itself where the page came from", async (t) => {
  const received = [];
  const server = createServer((request, response) => {
    received.push(request.headers);
    response.end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const SYNC_WORKER_URL = `http://127.0.0.1:${server.address().port}`;
  const workers = await start({ workers: ["app"], appVars: { SYNC_WORKER_URL } });
  t.after(() => workers.stop());
  const names = ["auth-grant", "publisher", "new-space", "owner", "origin"].map((name) => `x-tidewire-${name}`);
  const ours = Object.fromEntries(names.flatMap((name) => [[name, "unscoped"]]));
  await workers.http("/api/sync/session", { headers: { ...ours, "x-app": "mine", cookie: "a=1" } });
  await workers.http("/broadcast", { method: "POST", body: "{}", headers: { ...ours, ...bearer(keys.all) } });
  assert.equal(received.length, 2);
  for (const headers of received) {
    const internal = Object.entries(headers).filter(([name]) => name.startsWith("x-tidewire"));
    assert.deepEqual(internal, [["x-tidewire-origin", workers.origin]]);
  }
  has(received[0], { "x-app": "mine", cookie: "a=1" });
  has(received[1], bearer(keys.all));
});

test("a key is changed without a gap: the new one opens at once, the old one for as long as it is named", async (t) => {
  const steps = [
    [{ PUBLISH_KEY: keys.before }, { before: 200, all: 401 }],
    [{ PUBLISH_KEY: keys.all, PUBLISH_KEY_PREVIOUS: keys.before }, { before: 200, all: 200 }],
    [{ PUBLISH_KEY: keys.all }, { before: 401, all: 200 }],
    [{ PUBLISH_KEY: undefined, PUBLISH_KEYS: { bills: { key: keys.billsBefore, channels: ["*"] } } }, { all: 401, billsBefore: 200, bills: 401 }],
    [{ PUBLISH_KEYS: { bills: { ...PUBLISH_KEYS.bills, channels: ["*"] } } }, { billsBefore: 200, bills: 200 }],
    [{ PUBLISH_KEYS: { bills: { key: keys.bills, channels: ["*"] } } }, { billsBefore: 401, bills: 200 }],
  ];
  for (const [settings, expected] of steps) {
    const workers = await start({ workers: ["sync"], vars: { SYNC_CHANNELS, ...settings } });
    t.after(() => workers.stop());
    const body = JSON.stringify(publishing["/broadcast"]("todos"));
    for (const [label, status] of Object.entries(expected)) {
      const init = { method: "POST", body, headers: bearer(keys[label]) };
      assert.equal((await workers.http("/broadcast", init)).status, status, `${label} of ${JSON.stringify(settings)}`);
    }
  }
});
