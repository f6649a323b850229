// Tokens of identity providers: the shapes that they document, what must be refused, and sessions
// that are renewed with them. When their keys are fetched is in jwks.test.mjs.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, rows, secrets, start, token } from "./harness.mjs";
import { Key, Server, compact, provider } from "./provider.mjs";

const now = () => Math.floor(Date.now() / 1000);

/** Starts a provider with these keys, and Workers that trust it, for the length of one test. */
async function trusting(t, keys, vars) {
  const id = await provider(...keys);
  t.after(() => id.stop());
  const workers = await start({ vars: { JWT_SECRET: undefined, JWKS_URL: `${id.origin}/keys`, ...vars } });
  t.after(() => workers.stop());
  return { id, workers };
}

/** What /api/sync/session says: the identity, or the status of a refusal. */
async function who(workers, headers, query = "") {
  const { status, body } = await workers.http(`/api/sync/session${query}`, { headers });
  return status === 200 ? body.identity : status;
}

/** Asserts that a token opens a session for this identity, at the upgrade as at /api/sync/session. */
async function opens(workers, headers, identity, expiresAt, query = "") {
  const { status, body, client } = await workers.upgrade(`/api/sync${query}`, { headers });
  assert.equal(status, 101, JSON.stringify(body));
  client.send({ type: "hello", v: 1 });
  has(await client.receive({ type: "welcome" }), { identity, expiresAt });
  const session = await workers.http(`/api/sync/session${query}`, { headers });
  assert.deepEqual(session.body, { identity, expiresAt, space: "global" });
}

/** Asserts that a token opens nothing. */
async function refused(workers, text, expected = 401, query = "") {
  const code = { 401: "unauthorized", 403: "forbidden" }[expected];
  const headers = bearer(text);
  for (const way of ["upgrade", "http"]) {
    const path = way === "upgrade" ? "/api/sync" : "/api/sync/session";
    const { status, body } = await workers[way](path + query, { headers });
    assert.deepEqual([status, body.error?.code], [expected, code], `${way}: ${text}`);
    assert.ok(!JSON.stringify(body).includes(text || "\0"), "the token is echoed");
  }
}

describe("a token as documented", () => {
  test("by Auth0", async (t) => {
    const iss = "https://acme.eu.auth0.com/";
    const aud = "https://sync.acme.example/";
    const x5 = (key) => ({ x5t: key.kid, x5c: [key.der.toString("base64")] });
    const [key, next] = [new Key("RS256"), new Key("RS256")];
    for (const each of [key, next]) Object.assign(each.jwk, x5(each));
    const { workers } = await trusting(t, [key, next], { JWT_ISSUER: iss, JWT_AUDIENCE: aud });
    const [iat, exp] = [now(), now() + 86_400];
    const sub = "auth0|507f1f77bcf86cd799439011";
    const claims = { iss, sub, iat, exp, aud: [aud, "https://acme.eu.auth0.com/userinfo"], scope: "openid profile" };
    const legacy = key.token({ ...claims, azp: "my_client_id", permissions: ["read:todos"], org_id: "org_1" });
    await opens(workers, bearer(legacy), sub, exp * 1000);
    await opens(workers, {}, sub, exp * 1000, `?token=${legacy}`);
    const rfc9068 = next.token({ ...claims, client_id: "my_client_id", jti: "x" }, { typ: "at+jwt" });
    await opens(workers, bearer(rfc9068), sub, exp * 1000);
    const machine = { ...claims, sub: "my_client_id@clients", aud, gty: "client-credentials", azp: "my_client_id" };
    await opens(workers, bearer(key.token(machine)), machine.sub, exp * 1000);
    // An ID token is for the client, not for us.
    await refused(workers, key.token({ ...claims, aud: "my_client_id", nonce: "n", email: "a@acme.example" }));
    await refused(workers, key.token({ ...claims, iss: iss.slice(0, -1) }));
  });

  test("by Clerk, in its cookie __session", async (t) => {
    const iss = "https://clean-mayfly-62.clerk.accounts.dev";
    const key = new Key("RS256", { kid: "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD" });
    const { workers } = await trusting(t, [key], { JWT_ISSUER: iss, SESSION_COOKIE: "__session" });
    const header = { cat: "cl_B7d4PD111AAA" };
    const [iat, exp, nbf] = [now(), now() + 60, now() - 10];
    const sub = "user_2NNEqL2nrIRdJ194ndJqAHwEfxC";
    const v1 = { azp: "https://app.acme.example", exp, iat, iss, nbf, sid: "sess_1", sub, fva: [7, -1] };
    const v2 = { ...v1, v: 2, sts: "active", pla: "u:free", fea: "o:dashboard", jti: "x", o: { id: "org_1", rol: "admin" } };
    const cookies = (text) => ({ cookie: `__client_uat=${iat}; __session=${text}; clerk_active_context=sess_1:` });
    for (const claims of [v1, v2]) {
      await opens(workers, cookies(key.token(claims, header)), sub, exp * 1000);
      await opens(workers, bearer(key.token(claims, header)), sub, exp * 1000);
    }
    const team = key.token({ ...v2, topics: ["room:1"] }, header);
    assert.equal(await who(workers, cookies(team)), sub);
    const evil = { ...cookies(key.token(v2)), origin: "https://evil.example" };
    assert.equal(await who(workers, evil), 403);
    assert.equal(await who(workers, { cookie: `session=${key.token(v2)}` }), null, "another cookie");
    await refused(workers, key.token({ ...v2, iss: `${iss}/` }));
  });

  test("by Supabase, with its signing keys", async (t) => {
    const iss = "https://abcdefghijklmnop.supabase.co/auth/v1";
    const key = new Key("ES256", { ext: true, key_ops: ["verify"] });
    const vars = { JWT_ISSUER: iss, JWT_AUDIENCE: "authenticated" };
    const { workers } = await trusting(t, [new Key("RS256"), key], vars);
    const claims = supabase(iss);
    await opens(workers, bearer(key.token(claims)), claims.sub, claims.exp * 1000);
    await refused(workers, key.token({ ...claims, sub: undefined, role: "anon", ref: "abcdefghijklmnop" }));
    await refused(workers, key.token({ ...claims, aud: "anon" }));
  });

  test("by Supabase, with its JWT secret", async (t) => {
    const iss = "https://abcdefghijklmnop.supabase.co/auth/v1";
    const vars = { JWT_SECRET: secrets.JWT_SECRET, JWT_ISSUER: iss, JWT_AUDIENCE: "authenticated" };
    const { id, workers } = await trusting(t, [], { ...vars, JWKS_URL: undefined });
    const signed = (claims) => {
      const hmac = (text) => createHmac("sha256", secrets.JWT_SECRET).update(text).digest();
      return compact({ alg: "HS256", kid: "8ZzQz1/0aBcD", typ: "JWT" }, claims, hmac);
    };
    const claims = supabase(iss);
    await opens(workers, bearer(signed(claims)), claims.sub, claims.exp * 1000);
    // The project's public API keys are signed with the same secret; they are nobody's.
    for (const role of ["anon", "service_role"]) {
      await refused(workers, signed({ iss: "supabase", ref: "abcdefghijklmnop", role, iat: now(), exp: 4e9 }));
      await refused(workers, signed({ ...claims, sub: undefined, role }));
    }
    assert.equal(id.asked.length, 0);
  });

  test("by Cloudflare Access, in its cookie CF_Authorization", async (t) => {
    const iss = "https://acme.cloudflareaccess.com";
    const aud = "32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228";
    const [current, previous] = [new Key("RS256"), new Key("RS256")];
    const vars = { JWT_ISSUER: iss, JWT_AUDIENCE: aud, SESSION_COOKIE: "CF_Authorization" };
    const { id, workers } = await trusting(t, [current, previous], vars);
    const certs = [current, previous].map(({ kid, pem }) => ({ kid, cert: pem }));
    id.answer = () => ({
      body: { keys: [current.jwk, previous.jwk], public_cert: certs[0], public_certs: certs },
    });
    const [iat, exp, sub] = [now(), now() + 86_400, "7335d417-61da-459d-899c-0a01c76a2f94"];
    const times = { iat, nbf: iat, exp };
    const claims = { aud: [aud], email: "a@acme.example", ...times, iss, type: "app", identity_nonce: "6ei6", sub, country: "US" };
    for (const key of [current, previous]) {
      await opens(workers, { cookie: `CF_Authorization=${key.token(claims)}; CF_AppSession=1` }, sub, exp * 1000);
    }
    // A service token is nobody: its `sub` is empty.
    await refused(workers, current.token({ type: "app", aud, exp, iss, common_name: "e367.access", iat, sub: "" }));
    await refused(workers, current.token({ ...claims, aud: [aud.replace("3", "4")] }));
    // The global session's token is of the same issuer and keys, but for no application.
    await refused(workers, current.token({ ...claims, aud: undefined, type: "org" }));
  });
});

function supabase(iss) {
  return {
    ...{ iss, sub: "123e4567-e89b-12d3-a456-426614174000", aud: "authenticated", exp: now() + 3600, iat: now() },
    ...{ email: "a@acme.example", phone: "", role: "authenticated", aal: "aal1", is_anonymous: false },
    ...{ amr: [{ method: "password", timestamp: now() }], session_id: "123e4567-e89b-12d3-a456-426614174001" },
    ...{ app_metadata: { provider: "email", providers: ["email"] }, user_metadata: { space: "x", topics: ["all"] } },
  };
}

describe("among keys of each algorithm", () => {
  const iss = "https://id.acme.example";
  const ours = { iss, aud: "tidewire" };
  const keys = Object.fromEntries(["RS256", "ES256", "EdDSA"].map((alg) => [alg, new Key(alg)]));
  let id, evil, workers;

  before(async () => {
    id = await provider(...Object.values(keys));
    // The attacker's: whoever asks it is given keys that judge the attacker's tokens well.
    evil = await Server.start(() => ({ body: { keys: attackers.map(({ jwk }) => jwk) } }));
    workers = await start({
      vars: {
        ...{ JWT_SECRET: secrets.JWT_SECRET, JWT_SECRET_PREVIOUS: "secret-of-before", JWKS_URL: `${id.origin}/keys` },
        ...{ JWT_ISSUER: `https://other.example, ${iss}`, JWT_AUDIENCE: "tidewire, https://sync.example/" },
      },
    });
  });
  after(() => Promise.all([id, evil, workers].map((each) => each?.stop())));

  /** Keys under the ids of the real ones. */
  const attackers = Object.entries(keys).map(([alg, { kid }]) => new Key(alg, { kid }));
  const hs256 = (secret, claims = {}, header = {}) => {
    const all = { sub: "alice", exp: now() + 3600, ...ours, ...claims };
    const hmac = (text) => createHmac("sha256", secret).update(text).digest();
    return compact({ alg: "HS256", typ: "JWT", ...header }, all, hmac);
  };

  for (const [alg, key] of Object.entries(keys)) {
    describe(`an ${alg} token`, () => {
      test("opens a session with what it grants", async () => {
        const exp = now() + 600;
        for (const aud of ["tidewire", ["x", "tidewire"], ["https://sync.example/", "y"]]) {
          await opens(workers, bearer(key.token({ ...ours, aud, exp })), "alice", exp * 1000);
        }
        const inSpace = bearer(key.token({ ...ours, space: "team-a", topics: ["room:1"], sub: "ålice 🌊" }));
        const { status, client } = await workers.upgrade("/api/sync/team-a", { headers: inSpace });
        assert.equal(status, 101);
        client.send({ type: "hello", v: 1, subscribe: [{ id: "r", channel: "room:1" }] });
        has(await client.receive({ type: "welcome" }), { identity: "ålice 🌊" });
        has(await client.receive({ id: "r" }), { type: "snapshot" });
        await refused(workers, key.token({ ...ours, space: "team-a" }), 403);
        await refused(workers, key.token({ ...ours, topics: ["user:bob"] }), 403);
        if (alg === "EdDSA") await opens(workers, bearer(key.token({ ...ours, exp }, { alg: "Ed25519" })), "alice", exp * 1000);
      });

      test("needs claims that hold here and now", async () => {
        await opens(workers, bearer(key.token({ ...ours, exp: 4e9, nbf: now() + 25 })), "alice", 4e12);
        for (const wrong of [
          ...[{ sub: undefined }, { sub: "" }, { sub: null }, { sub: 7 }, { sub: "a".repeat(257) }],
          ...[{ exp: undefined }, { exp: null }, { exp: "4000000000" }, { exp: now() }, { exp: 0 }, { exp: -1 }],
          ...[{ nbf: now() + 45 }, { nbf: 4e9 }, { nbf: "0" }, { iat: "now" }, { exp: 1e300 }],
          ...[{ iss: undefined }, { iss: `${iss}/` }, { iss: [iss] }, { iss: `${iss}, https://other.example` }],
          ...[{ aud: undefined }, { aud: [] }, { aud: "" }, { aud: "tidewire2" }, { aud: [["tidewire"]] }, { aud: { 0: "tidewire" } }],
          ...[{ azp: "tidewire", aud: "another" }, { space: "Team" }, { topics: "room:1" }, { channel: "todos" }],
        ]) {
          await refused(workers, key.token({ ...ours, ...wrong }));
        }
      });

      test("counts only with the signature of its own key", async () => {
        const good = key.token(ours);
        const [header, payload, signature] = good.split(".");
        const bits = Buffer.from(signature, "base64url");
        bits[bits.length - 1] ^= 1;
        const other = Buffer.from(JSON.stringify({ ...ours, sub: "bob", exp: 4e9 })).toString("base64url");
        for (const bad of [
          ...["", "AA", `${signature}AA`, signature.slice(0, -4), bits.toString("base64url"), signature.toUpperCase()],
          ...[Buffer.alloc(64).toString("base64url"), Buffer.alloc(256, 1).toString("base64url")],
        ]) {
          await refused(workers, `${header}.${payload}.${bad}`);
        }
        await refused(workers, `${header}.${other}.${signature}`);
        await refused(workers, `${good}.${signature}`);
        for (const attacker of attackers) {
          await refused(workers, attacker.token(ours));
          await refused(workers, attacker.token(ours, { alg, kid: key.kid }));
          await refused(workers, attacker.token(ours, { alg, kid: undefined }));
        }
      });

      test("is not judged by a key of another algorithm, nor as HS256 by anything public", async () => {
        for (const claimed of ["RS256", "ES256", "EdDSA", "HS256"].filter((other) => other !== alg)) {
          for (const kid of [key.kid, keys[claimed]?.kid, undefined]) {
            await refused(workers, key.token(ours, { alg: claimed, kid }));
          }
        }
        const raw = Buffer.from(key.jwk.n ?? key.jwk.x, "base64url");
        const document = JSON.stringify({ keys: Object.values(keys).map(({ jwk }) => jwk) });
        const publics = [key.pem, key.pem.trim(), `${key.pem}\n`, key.der, JSON.stringify(key.jwk), document, raw, key.kid];
        for (const secret of [...publics, raw.toString("base64url"), "", "null", "undefined"]) {
          for (const kid of [key.kid, undefined]) await refused(workers, hs256(secret, {}, { kid }));
        }
      });

      test("brings no key of its own: nobody goes where its headers lead", async () => {
        const attacker = attackers.find((each) => each.alg === alg);
        const lures = {
          ...{ jku: `${evil.origin}/jwks`, x5u: `${evil.origin}/cert`, jwk: attacker.jwk },
          ...{ x5c: [attacker.der.toString("base64")], x5t: attacker.kid, iss: evil.origin },
        };
        for (const [name, lure] of Object.entries(lures)) {
          await refused(workers, attacker.token(ours, { [name]: lure }));
          await refused(workers, attacker.token(ours, { [name]: lure, kid: undefined }));
        }
        await refused(workers, attacker.token(ours, { ...lures, kid: `${evil.origin}/kid` }));
        await refused(workers, attacker.token({ ...ours, iss: evil.origin }, lures));
        await opens(workers, bearer(key.token({ ...ours, exp: 4e9 }, lures)), "alice", 4e12);
        assert.equal(evil.asked.length, 0);
      });

      test("with a header that cannot be trusted is refused", async () => {
        for (const header of [
          ...["none", "None", "NONE", "nOnE", "", null, 0, "HS384", "HS512", "RS384", "RS512", "PS256", "ES384", "ES256K"],
          ...[alg.toLowerCase(), ` ${alg}`, [alg]],
        ].map((claimed) => ({ alg: claimed }))) {
          await refused(workers, key.token(ours, header));
          const [head, payload] = key.token(ours, header).split(".");
          await refused(workers, `${head}.${payload}.`);
        }
        for (const header of [{ crit: ["exp"] }, { crit: [] }, { crit: ["b64"], b64: false }, { kid: 7 }, { kid: { a: 1 } }]) {
          await refused(workers, key.token(ours, header));
        }
        const doubled = `{"alg":"none","alg":"${alg}","kid":"${key.kid}"}`;
        await refused(workers, compact(doubled, { sub: "alice", exp: 4e9, ...ours }, (text) => key.signature(text)));
        for (const claims of ["", "[]", "null", '"alice"', "{", '{"sub":"alice","sub":"bob","exp":4e9}']) {
          const header = { alg, kid: key.kid };
          await refused(workers, compact(header, claims, (text) => key.signature(text)));
        }
      });
    });
  }

  describe("an HS256 token", () => {
    test("counts beside them, by the secret and the one of before, for our issuer and audience", async () => {
      for (const secret of [secrets.JWT_SECRET, "secret-of-before"]) {
        await opens(workers, bearer(hs256(secret, { exp: 4e9 })), "alice", 4e12);
        await opens(workers, bearer(hs256(secret, { exp: 4e9 }, { kid: "any" })), "alice", 4e12);
        for (const wrong of [{ iss: undefined }, { iss: "x" }, { aud: undefined }, { aud: ["x"] }, { exp: now() }]) {
          await refused(workers, hs256(secret, wrong));
        }
        for (const alg of ["none", "RS256", "ES256", "EdDSA", "HS512"]) {
          for (const { kid } of Object.values(keys)) await refused(workers, hs256(secret, {}, { alg, kid }));
        }
      }
      for (const secret of ["secret-of-befor", "secret-of-before ", "", "undefined", secrets.PUBLISH_KEY]) {
        await refused(workers, hs256(secret));
      }
    });
  });

  test("what was refused is in no log, and no key was asked for twice", async () => {
    const logs = workers.logs.join("\n");
    for (const secret of [secrets.JWT_SECRET, "secret-of-before", "eyJ"]) assert.ok(!logs.includes(secret), logs);
    assert.ok(id.asked.length <= 2, `${id.asked.length}`);
  });
});

test("without JWT_SECRET no HS256 token counts, without JWKS_URL no other", async (t) => {
  const key = new Key("RS256");
  const { workers } = await trusting(t, [key]);
  assert.equal(await who(workers, bearer(key.token())), "alice");
  for (const secret of [secrets.JWT_SECRET, "", "undefined", "null"]) await refused(workers, token("alice", { secret }));
  const apart = await trusting(t, [key], { JWT_SECRET: secrets.JWT_SECRET, JWKS_URL: undefined });
  assert.equal(await who(apart.workers, bearer(token("alice"))), "alice");
  await refused(apart.workers, key.token());
  assert.equal(apart.id.asked.length, 0);
});

test("a secret is changed without a gap", async (t) => {
  const [old, next] = ["the-old-secret", "the-new-secret"].map((secret) => token("alice", { secret }));
  for (const [vars, expected] of [
    [{ JWT_SECRET: "the-old-secret" }, ["alice", 401]],
    [{ JWT_SECRET: "the-new-secret", JWT_SECRET_PREVIOUS: "the-old-secret" }, ["alice", "alice"]],
    [{ JWT_SECRET: "the-new-secret" }, [401, "alice"]],
  ]) {
    const workers = await start({ vars });
    t.after(() => workers.stop());
    assert.deepEqual([await who(workers, bearer(old)), await who(workers, bearer(next))], expected);
  }
});

describe("a session", () => {
  const SYNC_CHANNELS = {
    "todos": { read: "user", write: "user" },
    "team": { read: "user", write: "user", scope: { field: "team", as: "team:" } },
    "room:*": { read: "topic", write: "topic" },
  };
  const key = new Key("RS256");
  let id, workers;
  before(async () => {
    id = await provider(key);
    workers = await start({ vars: { JWKS_URL: `${id.origin}/keys`, SYNC_CHANNELS } });
  });
  after(() => Promise.all([id, workers].map((each) => each?.stop())));

  /** A space whose users come with RS256 tokens. */
  function space() {
    const space = workers.space();
    space.token = (sub, claims) => key.token({ sub, space: space.name, ...claims });
    return space;
  }
  const nap = async (space, sleeps) => {
    if (sleeps) await space.sleep().catch((error) => assert.match(error.message, /not currently running/));
  };
  const auth = (client, token, answer = { type: "authed" }) => {
    client.send({ type: "auth", token });
    return client.receive(answer);
  };

  for (const sleeps of [false, true]) {
    describe(sleeps ? "asleep before each frame" : "awake", () => {
      test("is renewed in place: its end moves, new topics take effect at once", async () => {
        const team = space();
        for (const name of ["a", "b"]) await team.publish("team", "create", `${name}1`, { team: name });
        const end = now() + 5;
        const alice = await team.join("alice", ["team", "todos"], { topics: ["team:a"], exp: end });
        assert.equal(alice.welcome.expiresAt, end * 1000);
        await nap(team, sleeps);
        const exp = now() + 3600;
        const authed = await auth(alice, team.token("alice", { topics: ["team:b", "room:1"], exp }));
        has(authed, { identity: "alice", expiresAt: exp * 1000 });
        assert.notEqual(authed.view, alice.snapshots.team.view);
        const [batch, ...more] = await alice.rest();
        assert.deepEqual(more, []);
        assert.deepEqual(batch.changes.map(({ action, key }) => `${action} ${key}`).toSorted(), ["create b1", "delete a1"]);
        await nap(team, sleeps);
        assert.equal((await team.publish("team", "create", "a2", { team: "a" })).receivers, 0);
        assert.equal((await team.publish("team", "create", "b2", { team: "b" })).receivers, 1);
        has(await alice.receive({ type: "change" }), { key: "b2" });
        await nap(team, sleeps);
        has(await alice.mutate("room:1", "create", "k", {}), { type: "ack" });
      });

      test("of array [auth, subscribe, mutate] does all in order, with what the token grants", async () => {
        const team = space();
        await team.publish("team", "create", "b1", { team: "b" });
        const alice = await team.join("alice");
        has(await alice.subscribe("room:1"), { type: "reject", error: { code: "forbidden" } });
        await nap(team, sleeps);
        const renewal = team.token("alice", { topics: ["room:1", "team:b"] });
        alice.send([
          { type: "subscribe", id: "s0", channel: "room:1" },
          { type: "auth", token: renewal },
          { type: "subscribe", id: "s1", channel: "room:1" },
          { type: "subscribe", id: "s2", channel: "team" },
          { type: "mutate", id: "m1", channel: "room:1", action: "create", data: { id: "k" } },
        ]);
        alice.send({ type: "mutate", id: "m2", channel: "room:1", action: "delete", key: "k" });
        await alice.receive({ id: "m2" });
        const answers = alice.all.slice(alice.all.findIndex(({ id }) => id === "s0"));
        const kinds = answers.map(({ type, id }) => (id ? `${type} ${id}` : type));
        assert.deepEqual(kinds, ["reject s0", "authed", "snapshot s1", "snapshot s2", "ack m1", "ack m2"]);
        assert.deepEqual(Object.keys(rows(answers[3])), ["b1"]);
        assert.equal(answers[2].view, answers[1].view);
      });

      test("stays as it was when the token is bad", async () => {
        const team = space();
        const alice = await team.join("alice", ["todos"]);
        const stranger = new Key("RS256", { kid: key.kid });
        for (const [text, code] of [
          [stranger.token({ space: team.name }), "unauthorized"],
          [new Key("RS256").token({ space: team.name }), "unauthorized"],
          [team.token("alice", { exp: now() - 1 }), "unauthorized"],
          [team.token("alice", { sub: undefined }), "unauthorized"],
          [team.token("alice", { space: "elsewhere" }), "forbidden"],
          [team.token("alice", { space: undefined }), "forbidden"],
          [team.token("alice", { topics: ["all"] }), "forbidden"],
          [`${team.token("alice")}${"x".repeat(8 * 1024)}`, "unauthorized"],
        ]) {
          await nap(team, sleeps);
          const answer = await auth(alice, text, { type: "error" });
          assert.equal(answer.error.code, code, text);
          assert.ok(!JSON.stringify(answer).includes(text), "the token is echoed");
        }
        await nap(team, sleeps);
        has(await alice.mutate("todos", "create", "k", {}), { type: "ack" });
        assert.equal((await team.publish("todos", "update", "k", { n: 1 })).receivers, 1);
      });

      test("ends with 4501 when the token is another's", async () => {
        const team = space();
        const alice = await team.join("alice", ["todos"]);
        await nap(team, sleeps);
        const { error } = await auth(alice, team.token("bob"), { type: "error" });
        assert.equal(error.code, "forbidden");
        assert.equal((await alice.ended()).code, 4501);
      });

      test("ends with 4001 at the token's exp", async () => {
        const team = space();
        const end = Date.now() + 1_200;
        const alice = await team.join("alice", ["todos"], { exp: end / 1000 });
        await nap(team, sleeps);
        assert.equal((await team.publish("todos", "create", "before", {})).receivers, 1);
        await delay(Math.max(0, end + 1 - Date.now()));
        await nap(team, sleeps);
        assert.equal((await team.publish("todos", "create", "after", {})).receivers, 0);
        has(await alice.ended(), { code: 4001, reason: "auth expired" });
        assert.deepEqual(alice.inbox.map(({ key }) => key), ["before"]);
      });
    });
  }

  test("that began with HS256 goes on with RS256, and the other way round", async () => {
    const space = workers.space("global");
    const alice = await space.join("alice", ["todos"], { space: undefined });
    has(await auth(alice, key.token()), { identity: "alice" });
    has(await auth(alice, token("alice")), { identity: "alice" });
  });

  test("is refused after /disconnect with tokens of before, and opens with later ones", async () => {
    const team = space();
    const alice = await team.join("alice", ["todos"], { iat: now() - 10 });
    assert.equal((await team.post("/disconnect", { identity: "alice" })).status, 200);
    assert.equal((await alice.ended()).code, 4505);
    const status = async (iat) => {
      const headers = bearer(team.token("alice", { iat }));
      return (await workers.upgrade(team.path, { headers })).status;
    };
    assert.deepEqual([await status(undefined), await status(now() - 10)], [401, 401]);
    assert.equal(await status(Date.now() / 1000 + 1), 101);
  });
});
