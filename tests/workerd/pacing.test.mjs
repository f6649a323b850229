// What one may take from the others: messages, connections, new spaces, storage. Each bound refuses
// whoever reaches it in the contract's words, and nobody else notices.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, heartbeat, mutation, rows, start, token } from "./harness.mjs";

/** Starts Workers for the length of one describe. */
function deployed(options) {
  const running = {};
  before(async () => Object.assign(running, { workers: await start(options) }));
  after(() => running.workers?.stop());
  return running;
}

/** Where the objects keep their databases. */
const state = mkdtempSync(join(tmpdir(), "tidewire-"));
after(() => rmSync(state, { recursive: true, force: true }));

/** One row of a question to a space's database. A copy is asked: the runtime holds the original. */
async function stored(space, question) {
  const original = join(state, "do", "tidewire-sync-SyncEngine", `${await space.id()}.sqlite`);
  const copy = join(state, `${randomUUID()}.sqlite`);
  for (const suffix of ["", "-wal"]) {
    if (existsSync(original + suffix)) copyFileSync(original + suffix, copy + suffix);
  }
  const database = new DatabaseSync(copy);
  try {
    return database.prepare(question).get();
  } finally {
    database.close();
  }
}

/** How many tables and indexes a space has: none where it was never brought into being. */
const tables = async (space) => (await stored(space, "SELECT count(*) AS count FROM sqlite_master")).count;

/** For how many seconds' messages there is room at once. */
const seconds = 10;

describe("messages", () => {
  const [perSecond, ofIdentity, hasty] = [1, 2, 100];
  const SYNC_LIMITS = { messagesPerSecond: perSecond, identityMessagesPerSecond: ofIdentity };
  const running = deployed({ vars: { SYNC_LIMITS } });
  const tooFast = { error: { code: "rate_limited", retryable: true } };
  const burst = perSecond * seconds;

  test("beyond the rate are refused, each in its words, and told when to come again", async () => {
    const space = running.workers.space();
    const witness = await space.join("bob", ["todos"]);
    const { instance } = await space.stats();
    const client = await space.join("alice", ["todos"]);
    // All that may be sent at once and more, and what is refused right behind it: a message a second
    // would be free again.
    for (let sent = 0; sent < 3 * burst; sent += 1) client.send(mutation(`m${sent}`, "none", "delete", "k"));
    client.send({ type: "mutate", id: "m", channel: "todos", action: "create", data: { id: "k" } });
    client.send({ type: "subscribe", id: "s", channel: "todos" });
    const silent = [{ type: "unsubscribe", channel: "todos" }, "garbage", Buffer.from("{}"), [{ type: "ping" }]];
    for (const frame of silent) client.send(frame);
    client.send(heartbeat);

    await client.receive({ type: "reject", id: "s", channel: "todos", ...tooFast });
    const { error } = await client.receive({ type: "reject", id: "m", channel: "todos", ...tooFast });
    assert.ok(error.retryAfterMs >= 1_000 && error.retryAfterMs <= seconds * 1_000, `${error.retryAfterMs} ms`);
    for (const _ of silent) await client.receive({ type: "error", ...tooFast });
    assert.equal(await client.receive("pong"), "pong", "the runtime's own answer costs nobody anything");
    const codes = client.inbox.splice(0).map(({ error }) => error.code);
    const first = codes.indexOf("rate_limited");
    assert.ok(first >= burst - 2 && first <= burst + 4 * perSecond, `refused from message ${first} on`);
    assert.ok(codes.slice(0, first).every((code) => code === "unknown_channel"));

    // Receiving goes on: only sending was too fast. Nor was the unsubscribe heeded.
    await space.publish("todos", "create", "p", {});
    for (const one of [client, witness]) await one.receive({ type: "change", key: "p" });

    await delay(error.retryAfterMs + 50);
    has(await client.mutate("todos", "create", "k", {}), { type: "ack" });
    await witness.receive({ type: "change", key: "k" });
    assert.deepEqual(await witness.rest(), []);
    has(await space.stats(), { instance, connections: 2, seq: 2 });
  });

  test("of who does not listen end its connection with 4008, and nobody else's", async () => {
    const space = running.workers.space();
    const [witness, other] = [await space.join("bob", ["todos"]), await space.join("mallory")];
    const { instance } = await space.stats();
    const client = await space.join("mallory", ["todos"]);
    for (let sent = 0; sent < 1_000; sent += 1) client.send({ type: "x" });
    has(await client.ended(), { code: 4008 });
    const refusals = client.inbox.filter(({ error }) => error.code === "rate_limited").length;
    assert.ok(refusals >= hasty && refusals <= 2 * hasty, `${refusals} refusals`);
    assert.ok(other.isOpen);
    assert.deepEqual(await witness.rest(), []);
    has(await space.stats(), { instance, connections: 2 });
    // Whoever is closed may come back and resume.
    await space.join("mallory", ["todos"]);
  });

  test("of all connections of an identity count together, those of others apart", async () => {
    const space = running.workers.space();
    const clients = [await space.join("alice"), await space.join("alice"), await space.join("alice")];
    for (const client of clients) {
      for (let sent = 0; sent < burst - 1; sent += 1) client.send(mutation(`m${sent}`, "none", "delete", "k"));
    }
    let taken = 0;
    for (const client of clients) {
      await client.pending(burst - 1);
      taken += client.inbox.filter(({ error }) => error.code === "unknown_channel").length;
    }
    const most = ofIdentity * seconds;
    assert.ok(taken >= most - 3 && taken <= most + 3 * ofIdentity, `${taken} messages were taken`);
    const others = [await space.join("bob"), await space.join("carol")];
    for (const other of others) assert.equal((await other.mutate("none", "delete", "k")).error.code, "unknown_channel");
    // Another space counts by itself, and so does what comes after a reconnect: no fresh bucket.
    const elsewhere = await running.workers.space().join("alice");
    assert.equal((await elsewhere.mutate("none", "delete", "k")).error.code, "unknown_channel");
    clients[0].drop();
    const back = await space.connect("alice");
    for (let sent = 0; sent < burst - 1; sent += 1) back.send(mutation(`m${sent}`, "none", "delete", "k"));
    await back.pending(burst - 1);
    // A legacy client's refusals are texts.
    const again = back.inbox.filter(({ error }) => !error.includes("slow down")).length;
    assert.ok(again <= 3 * ofIdentity, `${again} messages were taken`);
  });

  test("in one array count one by one, the hello's subscriptions too", async () => {
    const space = running.workers.space();
    const client = await space.join("alice");
    client.send(Array(2 * burst).fill({ type: "ping" }));
    await client.pending(2 * burst);
    const pongs = client.inbox.filter((message) => message === "pong").length;
    assert.ok(pongs >= burst - 2 && pongs <= burst + 4 * perSecond, `${pongs} of ${2 * burst}`);
    const greedy = await space.connect("bob");
    const subscribe = Array.from({ length: 2 * burst }, (_, i) => ({ id: `${i}`, channel: "todos" }));
    greedy.send({ type: "hello", v: 1, subscribe });
    await greedy.pending(1 + 2 * burst);
    const snapshots = greedy.inbox.filter(({ type }) => type === "snapshot").length;
    assert.ok(snapshots >= burst - 2 && snapshots <= burst + 4 * perSecond, `${snapshots} of ${2 * burst}`);
    assert.equal(greedy.inbox.filter(({ error }) => error?.code === "rate_limited").length, 2 * burst - snapshots);
  });
});

describe("connections", () => {
  const running = deployed({ vars: { SYNC_LIMITS: { connectionsPerIdentity: 2, connections: 4 } } });

  test("of one identity, and of a space, are bounded before the upgrade, and free again when closed", async () => {
    const space = running.workers.space();
    const upgrade = (user) => running.workers.upgrade(space.path, { headers: bearer(space.token(user)) });
    const alices = [await space.join("alice", ["todos"]), await space.join("alice", ["todos"])];
    const { status, body } = await upgrade("alice");
    assert.equal(status, 429);
    has(body, { error: { code: "rate_limited", retryable: true, retryAfterMs: 60_000 } });
    const bob = await space.join("bob", ["todos"]);
    const carol = await space.join("carol");
    for (const user of ["dave", "alice"]) {
      const full = await upgrade(user);
      assert.equal(full.status, 503, "a full space is told before a full identity");
      has(full.body, { error: { code: "unavailable", retryable: true } });
    }
    await running.workers.space().join("alice");
    has(await space.stats(), { connections: 4 });

    // The bound holds across sleep, for nothing of it is kept in memory alone.
    await space.sleep();
    assert.equal((await upgrade("dave")).status, 503);
    carol.close(1000);
    await carol.ended();
    assert.equal((await upgrade("alice")).status, 429);
    alices[1].close(1000);
    await alices[1].ended();
    const back = await space.join("alice", ["todos"]);
    has(await back.mutate("todos", "create", "k", {}), { type: "ack" });
    for (const client of [alices[0], bob]) {
      await client.receive({ type: "change", key: "k" });
      assert.deepEqual(await client.rest(), []);
    }
  });

  test("that come at once are bounded all the same", async () => {
    const space = running.workers.space();
    const headers = bearer(space.token("alice"));
    const upgrades = Array.from({ length: 12 }, () => running.workers.upgrade(space.path, { headers }));
    const statuses = (await Promise.all(upgrades)).map(({ status }) => status).sort();
    assert.deepEqual(statuses, [101, 101, ...Array(10).fill(429)]);
    has(await space.stats(), { connections: 2 });
  });
});

describe("new spaces", () => {
  const running = deployed({ state, vars: { SYNC_SPACES: "team-*", SYNC_LIMITS: { newSpacesPerDay: 2 } } });
  const fresh = () => running.workers.space(`team-${randomUUID()}`);
  const user = (name, claims) => bearer(token(name, claims));
  const from = (address) => ({ "cf-connecting-ip": address });
  const enter = (space, headers) => running.workers.upgrade(space.path, { headers });

  async function refused(space, headers) {
    const { status, body } = await enter(space, headers);
    assert.equal(status, 429);
    const { code, retryable, retryAfterMs } = body.error;
    assert.deepEqual([code, retryable], ["rate_limited", true]);
    assert.ok(retryAfterMs > 0 && retryAfterMs <= 86_400_000, `${retryAfterMs}`);
    assert.equal(await tables(space), 0, "a refused space holds nothing");
  }

  for (const [who, headers, others] of [
    ["an identity", () => user("alice"), () => [user("bob"), from("203.0.113.1")]],
    ["an address of a visitor without one", () => from("203.0.113.2"), () => [from("203.0.113.3"), user("carol")]],
    ["an identity that no header could hold as it is", () => user("åsa 🌊"), () => [user("asa")]],
  ]) {
    test(`are bounded by day for ${who}; those that are there stay open`, async () => {
      const [first, second, third] = [fresh(), fresh(), fresh()];
      assert.equal((await enter(first, headers())).status, 101);
      assert.equal((await enter(first, headers())).status, 101, "coming back brings nothing into being");
      assert.equal((await enter(second, headers())).status, 101);
      await refused(third, headers());
      await refused(fresh(), headers());
      assert.ok((await tables(first)) > 0);
      for (const space of [first, second]) assert.equal((await enter(space, headers())).status, 101);
      for (const other of others()) assert.equal((await enter(third, other)).status, 101);
      assert.equal((await enter(third, headers())).status, 101, "others may have brought it into being");
    });
  }

  test("are not counted for who has a token that names the space, or a publish key", async () => {
    for (let i = 0; i < 5; i += 1) {
      const space = fresh();
      assert.equal((await enter(space, user("dora", { space: space.name }))).status, 101);
      await fresh().publish("todos", "create", "k", {});
    }
    assert.equal((await enter(fresh(), user("dora"))).status, 101);
    assert.equal((await enter(running.workers.space("global"), user("dora"))).status, 101);
  });

  test("that are asked for at once are bounded all the same", async () => {
    const spaces = Array.from({ length: 8 }, fresh);
    const answers = await Promise.all(spaces.map((space) => enter(space, user("erin"))));
    const statuses = answers.map(({ status }) => status).sort();
    assert.deepEqual(statuses, [101, 101, ...Array(6).fill(429)]);
    const made = await Promise.all(spaces.map(tables));
    assert.equal(made.filter((count) => count > 0).length, 2);
  });

  test("do not come into being by asking who one is, nor by what is refused", async () => {
    const space = fresh();
    const session = (headers) => running.workers.http(`/api/sync/session?space=${space.name}`, { headers });
    has(await session(user("frank")), { status: 200, body: { identity: "frank", space: space.name } });
    has(await session({}), { status: 200, body: { identity: null, space: space.name } });
    has(await session(bearer("bad")), { status: 401 });
    assert.equal((await running.workers.http(space.path, { headers: user("frank") })).status, 426);
    assert.equal(await tables(space), 0);
    const outside = running.workers.space(`else-${randomUUID()}`);
    for (const headers of [user("frank"), {}, user("frank", { space: space.name }), bearer("bad")]) {
      assert.ok([401, 403].includes((await enter(outside, headers)).status));
    }
    assert.equal(await outside.wasWoken(), false);
  });

  test("of a visitor with an address of 128 bits count for its network", async () => {
    const at = (host) => from(`2001:db8:7:9:${host}`);
    assert.equal((await enter(fresh(), at("1:2:3:4"))).status, 101);
    assert.equal((await enter(fresh(), at(":5"))).status, 101);
    await refused(fresh(), at("6:7:8:9"));
    await refused(fresh(), from("2001:0DB8:0007:0009::a"));
    assert.equal((await enter(fresh(), from("2001:db8:7:a::1"))).status, 101);
  });
});

test("twenty new spaces a day are what an identity has where nothing is set, and none where it says so", async (t) => {
  const count = async (SYNC_LIMITS, tries) => {
    const workers = await start({ vars: { SYNC_SPACES: "team-*", SYNC_LIMITS } });
    t.after(() => workers.stop());
    const statuses = [];
    for (let i = 0; i < tries; i += 1) {
      statuses.push((await workers.upgrade(`/api/sync/team-${i}`, { headers: bearer(token("alice")) })).status);
    }
    return statuses;
  };
  assert.deepEqual(await count(undefined, 21), [...Array(20).fill(101), 429]);
  assert.deepEqual(await count({ newSpacesPerDay: 0 }, 2), [429, 429]);
});

describe("storage", () => {
  const storageBytes = 1_000_000;
  const running = deployed({ state, vars: { SYNC_LIMITS: { storageBytes } } });
  const big = (fill) => ({ text: fill.repeat(60_000) });
  const full = { error: { code: "unavailable", retryable: true } };

  /** Creates rows until there is no room; how many there are. */
  async function fill(client, fillWith = "x") {
    for (let count = 0; count < 40; count += 1) {
      const answer = await client.mutate("todos", "create", `${fillWith}${count}`, big(fillWith));
      if (answer.type === "ack") continue;
      has(answer, full);
      return count;
    }
    throw new Error("storage has no bound");
  }

  /** The bytes of the database, and those of them that are in use. */
  async function size(space) {
    const pages = "pragma_page_count, pragma_freelist_count, pragma_page_size";
    const { page_count, freelist_count, page_size } = await stored(space, `SELECT * FROM ${pages}`);
    return { all: page_count * page_size, used: (page_count - freelist_count) * page_size };
  }

  test("that is full takes no more rows; reading and deleting go on, and make room again", async () => {
    const space = running.workers.space();
    const witness = await space.join("bob", ["todos"]);
    const client = await space.join("alice", ["todos"]);
    const held = await fill(client);
    assert.ok(held >= 12 && held <= 16, `${held} rows of 60 kB`);
    const { seq } = await space.stats();
    assert.equal(seq, held);

    // Writes of every kind and way.
    has(await client.mutate("todos", "update", "x0", big("y")), full);
    has(await space.post("/broadcast", { channel: "todos", action: "create", key: "p", data: big("p") }), { status: 503, body: full });
    const changes = [{ action: "delete", key: "x0" }, { action: "create", key: "p", data: { t: "p".repeat(200_000) } }];
    const batch = await space.post("/broadcast-batch", { channel: "todos", changes });
    has(batch, { status: 503, body: { error: { ...full.error, field: "changes[1]" } } });
    has(await space.stats(), { seq });

    // Reading, also after sleep.
    await space.sleep();
    const reader = await space.join("carol", ["todos"]);
    const { cursor, view, more } = reader.snapshots.todos;
    const next = more ? rows(await reader.subscribe("todos", { cursor, view })) : {};
    assert.equal(Object.keys({ ...rows(reader.snapshots.todos), ...next }).length, held);
    has(await reader.mutate("todos", "create", "late", big("l")), full);

    const before = await size(space);
    for (let i = 0; i < 5; i += 1) has(await client.mutate("todos", "delete", `x${i}`), { type: "ack" });
    const after = await size(space);
    assert.ok(after.used <= before.used - 5 * 55_000, JSON.stringify({ before, after }));
    assert.equal(after.all, before.all, "the file itself stays as it is: what counts is what is used of it");
    for (const key of ["p", "q"]) has(await client.mutate("todos", "create", key, big(key)), { type: "ack" });
    has(await space.post("/broadcast", { channel: "todos", action: "create", key: "r", data: big("r") }), { status: 200 });

    await witness.pending(held + 5 + 3);
    const seen = (await witness.rest()).map(({ action, key }) => `${action} ${key}`);
    const creates = Array.from({ length: held }, (_, i) => `create x${i}`);
    const deletes = Array.from({ length: 5 }, (_, i) => `delete x${i}`);
    assert.deepEqual(seen, [...creates, ...deletes, "create p", "create q", "create r"]);
  });

  test("never grows far past its bound, whatever is tried, and other spaces have their own", async () => {
    const space = running.workers.space();
    const client = await space.join("alice");
    await fill(client);
    // Small rows and merges, which are not looked at one by one.
    for (let i = 0; i < 400; i += 1) client.send(mutation(`s${i}`, "todos", "create", `s${i}`, { t: "s".repeat(500) }));
    await client.pending(400);
    assert.ok(client.inbox.some(({ error }) => error?.code === "unavailable"));
    const { used } = await size(space);
    assert.ok(used <= storageBytes + 2 * 64 * 1024, `${used} bytes`);
    has(await (await running.workers.space().join("alice")).mutate("todos", "create", "k", big("z")), { type: "ack" });
  });
});
