// The keys of JWKS_URL: when the provider is asked for them, and what holds while it is away. The
// Worker's clock is put forward instead of waiting.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bearer, has, start } from "./harness.mjs";
import { Key, clocked, forward, provider } from "./provider.mjs";

const minute = 60_000;

/** A provider and Workers that trust it, for one test. */
async function trusting(t, ...keys) {
  const id = await provider(...keys);
  t.after(() => id.stop());
  const vars = { JWT_SECRET: undefined, JWKS_URL: `${id.origin}/keys?tenant=1` };
  const workers = await start({ vars, amend: clocked });
  t.after(() => workers.stop());
  return { id, workers };
}

/** The status that a token gets. */
async function status(workers, token) {
  const { status, body } = await workers.http("/api/sync/session", { headers: bearer(token) });
  if (status === 503) has(body, { error: { code: "unavailable", retryable: true } });
  if (status === 401) has(body, { error: { code: "unauthorized", retryable: false } });
  return status;
}

/** The statuses of many that come at once, each once. */
async function statuses(count, ask) {
  return [...new Set(await Promise.all(Array.from({ length: count }, (_, i) => ask(i))))];
}

async function wasAsked(id, times) {
  for (const from = Date.now(); id.asked.length < times; await new Promise(setImmediate)) {
    assert.ok(Date.now() - from < 5_000, `asked ${id.asked.length} times, not ${times}`);
  }
}

describe("the keys", () => {
  test("are asked for once by 50 upgrades that come at once, and then no more", async (t) => {
    const key = new Key("ES256");
    const { id, workers } = await trusting(t, key);
    const upgrades = Array.from({ length: 50 }, async (_, i) => {
      const headers = bearer(key.token({ sub: `user-${i}` }));
      const { status, client } = await workers.upgrade("/api/sync", { headers });
      assert.equal(status, 101);
      client.send({ type: "hello", v: 1 });
      return (await client.receive({ type: "welcome" })).identity;
    });
    assert.deepEqual(await Promise.all(upgrades), Array.from({ length: 50 }, (_, i) => `user-${i}`));
    assert.equal(id.asked.length, 1);
    has(id.asked[0], { method: "GET", url: "/keys?tenant=1" });
    for (const name of ["authorization", "cookie"]) assert.equal(id.asked[0].headers[name], undefined);
    await forward(workers, 9 * minute);
    assert.equal(await status(workers, key.token()), 200);
    assert.equal(id.asked.length, 1);
  });

  test("are asked for by nobody who shows no token that they could judge", async (t) => {
    const { id, workers } = await trusting(t, new Key("ES256"));
    const hs256 = new Key("ES256").token({}, { alg: "HS256" });
    for (const token of ["junk", "", "a.b.c", hs256]) assert.equal(await status(workers, token), 401);
    assert.equal((await workers.http("/api/sync/session")).status, 200);
    assert.equal(id.asked.length, 0);
  });

  test("are asked for again at most once a minute, whatever keys tokens name", async (t) => {
    const [key, stranger] = [new Key("RS256"), new Key("RS256")];
    const { id, workers } = await trusting(t, key);
    assert.equal(await status(workers, key.token()), 200);
    const guesses = () => statuses(20, (i) => status(workers, stranger.token({}, { kid: `guess-${i}` })));
    assert.deepEqual(await guesses(), [401]);
    assert.equal(id.asked.length, 1, "they were seen less than a minute ago");
    await forward(workers, minute);
    assert.deepEqual(await guesses(), [401]);
    assert.equal(id.asked.length, 2);
    await forward(workers, minute - 5_000);
    assert.deepEqual(await guesses(), [401]);
    assert.equal(id.asked.length, 2);
    assert.equal(await status(workers, key.token()), 200);
  });

  test("are rotated: a new one counts within a minute, one that is withdrawn within ten", async (t) => {
    const [old, next] = [new Key("EdDSA"), new Key("EdDSA")];
    const { id, workers } = await trusting(t, old);
    assert.equal(await status(workers, old.token()), 200);
    id.keys = [old, next];
    assert.equal(await status(workers, next.token()), 401);
    await forward(workers, minute);
    assert.equal(await status(workers, next.token()), 200);
    assert.equal(await status(workers, old.token()), 200);
    assert.equal(id.asked.length, 2);
    id.keys = [next];
    await forward(workers, 10 * minute);
    assert.equal(await status(workers, old.token()), 401);
    assert.equal(await status(workers, next.token()), 200);
    assert.equal(id.asked.length, 3);
  });

  test("judge a token that names none only where there is one of its algorithm", async (t) => {
    const [rsa, one] = [new Key("RS256", { kid: undefined }), new Key("ES256")];
    const { id, workers } = await trusting(t, rsa, one);
    const unnamed = (key) => key.token({}, { kid: undefined });
    for (const key of [rsa, one]) assert.equal(await status(workers, unnamed(key)), 200);
    for (const alg of ["ES256", "EdDSA"]) assert.equal(await status(workers, unnamed(new Key(alg))), 401);
    const two = new Key("ES256");
    id.keys = [rsa, one, two];
    await forward(workers, 10 * minute);
    for (const key of [one, two]) {
      assert.equal(await status(workers, unnamed(key)), 401);
      assert.equal(await status(workers, key.token()), 200);
    }
    assert.equal(await status(workers, unnamed(rsa)), 200);
  });

  test("of other kinds and for other uses are passed over", async (t) => {
    const key = new Key("RS256", { alg: undefined, use: undefined });
    const unfit = [
      new Key("RS256", { use: "enc" }),
      new Key("RS256", { alg: "RS512" }),
      new Key("RS256", { alg: "HS256" }),
      new Key("ES256", { key_ops: ["sign"] }),
      new Key("ES256", { y: undefined }),
      new Key("ES256", { y: new Key("ES256").jwk.y }),
      new Key("EdDSA", { x: "AAAA" }),
    ];
    const others = [{ jwk: { kty: "oct", kid: "o", alg: "HS256", k: "AAAA" } }, { jwk: 1 }, { jwk: {} }];
    const { workers } = await trusting(t, ...others, ...unfit, key);
    assert.equal(await status(workers, key.token()), 200);
    for (const other of unfit) assert.equal(await status(workers, other.token()), 401, JSON.stringify(other.jwk));
  });
});

/** What a provider in trouble answers. */
const troubles = {
  "status 500": () => ({ status: 500, body: { keys: [] } }),
  "status 404": () => ({ status: 404, body: "not here" }),
  "garbage": () => ({ body: "<html>maintenance</html>" }),
  "an empty body": () => ({}),
  "no key set": () => ({ body: { error: "x" } }),
  "no keys": () => ({ body: { keys: [] } }),
  "no UTF-8": (response) => void response.end(Buffer.from('{"keys":[],"x":"\xff"}', "latin1")),
  "too much": (_, keys) => ({ body: { keys, pad: "x".repeat(64 * 1024) } }),
  "too many keys": (_, keys) => ({ body: { keys: [...keys, ...Array(64).fill({})] } }),
  "a broken connection": (response) => void response.destroy(),
};

describe("a provider in trouble", { concurrency: 2 }, () => {
  test("is 503, and asked again after a while", async (t) => {
    const key = new Key("ES256");
    const { id, workers } = await trusting(t, key);
    const fine = id.answer;
    for (const [name, trouble] of Object.entries(troubles)) {
      id.answer = (_, response) => trouble(response, [key.jwk]);
      const [asked, logged] = [id.asked.length, workers.logs.length];
      for (let i = 0; i < 3; i += 1) assert.equal(await status(workers, key.token()), 503, name);
      assert.equal(id.asked.length - asked, 1, `${name}: not asked for each`);
      assert.match(workers.logs.slice(logged).join("\n"), /^error: JWKS_URL: [^\n]+$/, name);
      await forward(workers, 5_000);
    }
    id.answer = fine;
    assert.equal(await status(workers, key.token()), 200);
  });

  test("whose keys are known goes on judging by them, for an hour", async (t) => {
    const key = new Key("ES256");
    const { id, workers } = await trusting(t, key);
    const known = () => status(workers, key.token({ exp: 4e9 }));
    const fine = id.answer;
    assert.equal(await known(), 200);
    for (const [name, trouble] of Object.entries(troubles)) {
      const asked = id.asked.length;
      id.answer = (_, response) => trouble(response, [key.jwk]);
      for (const age of [10, 20]) {
        await forward(workers, 10 * minute);
        assert.equal(await known(), 200, `${name}, after ${age} minutes`);
      }
      id.answer = fine;
      await forward(workers, minute);
      assert.equal(await known(), 200);
      assert.equal(id.asked.length - asked, 3, name);
    }
    id.answer = troubles["status 500"];
    await forward(workers, 60 * minute - 5_000);
    assert.equal(await known(), 200);
    await forward(workers, minute);
    assert.equal(await known(), 503, "not for ever");
  });

  test("(down) is 503, its known keys go on judging, a new one counts when it is back", async (t) => {
    const [key, next] = [new Key("RS256"), new Key("RS256")];
    const { id, workers } = await trusting(t, key);
    await id.pause();
    assert.equal(await status(workers, key.token()), 503);
    const { status: upgrade, body } = await workers.upgrade("/api/sync", { headers: bearer(key.token()) });
    assert.deepEqual([upgrade, body.error.code], [503, "unavailable"]);
    await id.resume();
    await forward(workers, 5_000);
    assert.equal(await status(workers, key.token()), 200);
    await id.pause();
    await forward(workers, 10 * minute);
    assert.equal(await status(workers, key.token()), 200);
    assert.equal(await status(workers, next.token()), 401);
    await id.resume();
    id.keys = [next];
    await forward(workers, minute);
    assert.equal(await status(workers, next.token()), 200);
    assert.equal(await status(workers, key.token()), 401);
  });

  test("(a redirect) is 503; where it leads nobody goes", async (t) => {
    const key = new Key("ES256");
    const elsewhere = await provider(key);
    t.after(() => elsewhere.stop());
    const { id, workers } = await trusting(t, key);
    for (const code of [301, 302, 307, 308]) {
      id.answer = () => ({ status: code, headers: { location: `${elsewhere.origin}/keys` } });
      assert.equal(await status(workers, key.token()), 503);
      await forward(workers, 5_000);
    }
    assert.equal(id.asked.length, 4);
    assert.equal(elsewhere.asked.length, 0);
  });

  const slow = {
    "says nothing": () => {},
    "never ends": (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.write('{"keys":[');
    },
  };
  for (const [name, answer] of Object.entries(slow)) {
    test(`(${name}) is 503 within seconds for all who wait; with known keys nobody else waits`, async (t) => {
      const key = new Key("EdDSA");
      const { id, workers } = await trusting(t, key);
      const fine = id.answer;
      id.answer = answer;
      const from = Date.now();
      assert.deepEqual(await statuses(10, () => status(workers, key.token())), [503]);
      const took = Date.now() - from;
      assert.ok(took > 4_000 && took < 8_000, `${took} ms`);
      assert.equal(id.asked.length, 1);
      id.answer = fine;
      await forward(workers, 5_000);
      assert.equal(await status(workers, key.token()), 200);
      id.answer = answer;
      await forward(workers, 10 * minute);
      // One of them waits for news; the others are judged by what is known.
      const first = status(workers, key.token());
      await wasAsked(id, 3);
      const others = statuses(10, () => status(workers, key.token()));
      assert.deepEqual(await Promise.race([first, others]), [200]);
      assert.equal(await first, 200);
    });
  }

  test("lets a session that is being renewed wait, and nobody else; it stays as it was", async (t) => {
    const key = new Key("ES256");
    const { id, workers } = await trusting(t, key);
    const space = workers.space();
    space.token = (sub) => key.token({ sub, space: space.name });
    const [alice, bob] = [await space.join("alice", ["todos"]), await space.join("bob", ["todos"])];
    const next = new Key("ES256");
    id.keys = [next];
    const fine = id.answer;
    id.answer = () => {};
    await forward(workers, minute);
    alice.send({ type: "auth", token: next.token({ space: space.name }) });
    alice.send({ type: "mutate", id: "m", channel: "todos", action: "create", data: { id: "a" } });
    await wasAsked(id, 2);
    has(await bob.mutate("todos", "create", "b", {}), { type: "ack" });
    await alice.receive({ type: "change", key: "b" });
    assert.ok(!alice.all.some((message) => message.id === "m"), "what it sends meanwhile waits");
    has(await alice.receive({ id: "m" }, 10_000), { type: "ack" });
    has(await alice.receive({ type: "error" }), { error: { code: "unauthorized" } });
    id.answer = fine;
    await forward(workers, minute);
    alice.send({ type: "auth", token: next.token({ space: space.name }) });
    await alice.receive({ type: "authed" });
  });

  test("is asked again for others when who had it asked has gone", async (t) => {
    const key = new Key("ES256");
    const { id, workers } = await trusting(t, key);
    const fine = id.answer;
    id.answer = () => {};
    const going = new AbortController();
    const [headers, { signal }] = [bearer(key.token()), going];
    const gone = fetch(`${workers.origin}/api/sync/session`, { headers, signal }).catch(({ name }) => name);
    await wasAsked(id, 1);
    going.abort();
    assert.equal(await gone, "AbortError");
    id.answer = fine;
    await forward(workers, 6_000);
    assert.equal(await status(workers, key.token()), 200);
  });
});
