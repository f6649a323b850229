// Sources that fail: nobody waits for ever, nobody else suffers, and what was written is told in the
// end.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { App } from "./fake.mjs";
import { HOOK_SECRET, bearer, has, mutation, start, within } from "./harness.mjs";
import { Server } from "./provider.mjs";
import { randomly } from "./sources.mjs";
import { Copy, Talk } from "./talk.mjs";

const rule = (source, more) => ({ read: "user", write: "user", presence: true, source: { timeout: 1, ...source }, ...more });
const app = rule({ service: "APP" });
const calm = rule({ service: "APP", authorize: false });

/** What may be wrong, and what is said of it. */
const failures = {
  refusing: ["unavailable", () => App.answer({ error: "out of order" }, 500)],
  garbage: ["internal", () => App.answer("<html>")],
  wrong: ["internal", () => App.answer({ rows: 7, row: [] })],
  throwing: ["unavailable", () => Promise.reject(new Error("thrown"))],
  hanging: ["unavailable", () => App.never],
  missing: ["internal", undefined],
};

describe("a source that fails", () => {
  let workers, fake;
  before(async () => {
    fake = new App();
    const failing = Object.fromEntries(Object.keys(failures).map((name) => [name, app]));
    const SYNC_CHANNELS = { ...failing, missing: rule({ service: "NOWHERE" }), todos: calm, notes: { read: "user", write: "user" } };
    workers = await start({
      vars: { HOOK_SECRET, SYNC_CHANNELS },
      amend: (sync) => ({ ...sync, serviceBindings: { APP: fake.fetch } }),
    });
  });
  after(() => workers?.stop());
  beforeEach(() => {
    fake.instead = undefined;
  });

  for (const [channel, [code, answer]] of Object.entries(failures)) {
    test(`${channel}: whoever asks is told ${code}, and goes on with other channels meanwhile`, async () => {
      fake.instead = answer;
      const space = workers.space();
      const alice = await space.join("alice", ["notes"]);
      const error = { code, retryable: code === "unavailable" };
      alice.send({ type: "subscribe", id: "s", channel });
      alice.send(mutation("m", channel, "create", "k", {}));
      alice.send({ type: "presence", channel: "notes", state: {} });
      alice.send(mutation("n", "notes", "create", "k", {}));
      has(await alice.receive({ id: "n" }), { type: "ack" });
      if (channel === "hanging") assert.deepEqual(alice.all.filter(({ id }) => id === "s"), [], "it still hangs");
      for (const id of ["s", "m"]) has(await alice.receive({ id }), { type: "reject", channel, error });
      const path = `/api/sync/changes?space=${space.name}&channel=${channel}`;
      for (const accept of ["application/json", "text/event-stream"]) {
        const { status, body } = await workers.http(path, { headers: { ...bearer(space.token("bob")), accept } });
        assert.deepEqual([status, body.error.code], [code === "internal" ? 500 : 503, code]);
      }
      const { body } = await workers.http(`/api/sync/mutate?space=${space.name}`, {
        method: "POST",
        headers: bearer(space.token("bob")),
        body: JSON.stringify({ mutations: [mutation("h", channel, "update", "k", {}), mutation("i", "notes", "create", "i", {})] }),
      });
      has(body.results[0], { type: "reject", error });
      has(body.results[1], { type: "ack" });
      const legacy = await space.connect("carol");
      legacy.send({ type: "subscribe", channel });
      assert.equal(typeof (await legacy.receive({ type: "reject", id: "subscribe" })).error, "string");
    });
  }

  test("what is not set up is named to the log, and to no client", async () => {
    const alice = await workers.space().join("alice");
    const { error } = await alice.subscribe("missing");
    assert.match(error.message, /the channel's source is not set up; the log of the sync Worker says how/);
    assert.ok(!JSON.stringify(alice.all).includes("NOWHERE"));
    assert.ok(workers.logs.some((line) => line.includes("there is no service binding NOWHERE")), workers.logs.join("\n"));
  });

  test("whoever comes back is served from the log, and hears what is published", async () => {
    const talk = new Talk({ workers });
    const [alice, bob] = [await talk.open("alice"), await talk.open("bob")];
    has(await alice.mutate("create", "a", { n: 1 }), { type: "ack" });
    await bob.settle();
    bob.leave();
    has(await alice.mutate("create", "b", { n: 2 }), { type: "ack" });
    has(await alice.mutate("delete", "a"), { type: "ack" });
    fake.instead = failures.refusing[1];
    await talk.space.sleep();
    await bob.connect();
    await talk.publish("todos", "create", "c", { n: 3 });
    for (const copy of [alice, bob]) {
      await copy.settle();
      assert.deepEqual([copy.rows, copy.fulls], [{ b: { n: 2 }, c: { n: 3 } }, 1]);
    }
    const newcomer = await talk.space.join("zoe");
    has(await newcomer.subscribe("todos"), { type: "reject", error: { code: "unavailable", retryable: true } });
    const again = ["update", "b", { n: 4 }, randomUUID()];
    has(await alice.mutate(...again), { error: { code: "unavailable" } });
    fake.instead = undefined;
    fake.put(talk.key("c"), { n: 3 });
    has(await newcomer.subscribe("todos"), { type: "snapshot", mode: "full" });
    has(await alice.mutate(...again), { type: "ack", replayed: false });
    await talk.agree([alice, bob], { b: { n: 4 }, c: { n: 3 } });
  });

  test("a write that is answered after its time is told to all, and its repeat is one", async () => {
    const talk = new Talk({ workers });
    const [alice, bob] = [await talk.open("alice"), await talk.open("bob")];
    has(await alice.mutate("create", "a", { n: 1 }), { type: "ack" });
    let answer;
    fake.instead = ({ operation }) => operation === "update" && new Promise((resolve) => (answer = resolve));
    const late = ["update", "a", { n: 2 }, randomUUID()];
    const wait = { code: "unavailable", retryable: true };
    has(await alice.mutate(...late), { type: "reject", error: wait });
    // Nobody knows how it ends: it is not asked for again, and others of its row must wait.
    has(await alice.mutate(...late), { type: "reject", error: wait });
    has(await bob.mutate("update", "a", { n: 3 }), { type: "reject", error: wait });
    has(await bob.mutate("create", "b", { n: 1 }), { type: "ack" });
    const [asked] = fake.asked.filter(({ id }) => id === late.at(-1));
    answer(fake.answer(asked));
    has(await bob.client.receive({ type: "change", key: talk.key("a"), data: { n: 2 } }), { by: "alice" });
    has(await alice.mutate(...late), { type: "ack", replayed: true, data: { n: 2 } });
    assert.equal(fake.asked.filter(({ id }) => id === late.at(-1)).length, 1);
    fake.instead = undefined;
    await talk.agree([alice, bob], { a: { n: 2 }, b: { n: 1 } });
  });

  test("a write whose answer is lost is asked for by all, and its repeat is one", async () => {
    const talk = new Talk({ workers });
    const [alice, bob, away] = [await talk.open("alice"), await talk.open("bob"), await talk.open("carol")];
    await away.settle();
    away.leave();
    for (const name of ["garbage", "throwing"]) {
      const [code, lost] = failures[name];
      const change = ["create", name, { n: 1 }, randomUUID()];
      fake.instead = (question) => question.operation === "create" && (fake.answer(question), lost());
      has(await alice.mutate(...change), { type: "reject", error: { code } });
      fake.instead = undefined;
      await bob.client.receive({ type: "channel-change", channel: "todos" });
      await bob.settle();
      assert.ok(change[1] in bob.rows);
      has(await alice.mutate(...change), { type: "ack", replayed: true, data: { n: 1 } });
    }
    await away.connect();
    assert.equal(new Set(fake.executed).size, fake.executed.length, "nothing was executed twice");
    await talk.agree([alice, bob, away], { garbage: { n: 1 }, throwing: { n: 1 } });
  });

  test("a write that its app has not begun leaves the channel as it was", async () => {
    const talk = new Talk({ workers });
    const [alice, bob] = [await talk.open("alice"), await talk.open("bob")];
    for (const code of ["internal", "misconfigured"]) {
      fake.instead = ({ operation }) => operation === "create" && App.answer({ error: { code, message: "no", done: false } }, 500);
      const create = ["create", code, { n: 1 }, randomUUID()];
      has(await alice.mutate(...create), { type: "reject", error: { code: code === "internal" ? code : "unavailable" } });
      fake.instead = undefined;
      assert.deepEqual((await bob.client.rest()).filter(({ type }) => type === "channel-change"), []);
      has(await alice.mutate(...create), { type: "ack", replayed: false });
    }
    await talk.agree([alice, bob], { internal: { n: 1 }, misconfigured: { n: 1 } });
  });

  test("a page that fails is asked for again, from where its reader was", async () => {
    const talk = new Talk({ workers });
    const alice = await talk.open("alice");
    for (const name of ["a", "b", "c", "d"]) has(await alice.mutate("create", name, { n: 1 }), { type: "ack" });
    const bob = new Copy(talk, "bob", "todos");
    bob.client = await talk.space.join("bob");
    await bob.ask(2, async (pages) => {
      if (pages !== 1) return;
      fake.instead = failures.refusing[1];
      const { cursor, view } = bob;
      has(await bob.client.subscribe("todos", { cursor, view, limit: 2 }), { type: "reject", error: { code: "unavailable" } });
      fake.instead = undefined;
    });
    await talk.agree([alice, bob]);
  });

  test("whatever it does to questions and answers, in the end all hold what it holds", async (t) => {
    const outside = {
      put: (space, table, { id, ...row }) => fake.put(id, row),
      remove: (space, table, key) => fake.remove(key),
    };
    const talk = new Talk({ workers, outside, tries: 100 });
    const late = async (question, ms) => {
      const answer = fake.answer(question);
      await delay(ms);
      return answer;
    };
    const whims = [
      () => App.answer({ error: { code: "unavailable", message: "not now" } }, 503),
      () => App.answer("<html>", 502),
      (question) => (fake.answer(question), Promise.reject(new Error("lost"))),
      (question) => late(question, 20),
      // Later than it is waited for.
      (question) => question.operation !== "fetch" && Math.random() < 0.2 && late(question, 1_200),
    ];
    fake.instead = (question) => whims[Math.floor(Math.random() * 25)]?.(question);
    await randomly(talk, t, () => {
      fake.instead = undefined;
    });
    const truth = Object.entries(fake.rows).flatMap(([key, { id, ...row }]) => (talk.name(key) ? [[talk.name(key), row]] : []));
    assert.deepEqual(await talk.newcomer(), Object.fromEntries(truth));
    assert.equal(new Set(fake.executed).size, fake.executed.length, "nothing was executed twice");
  });
});

test("an app that has another secret answers nobody, and says why in its answer's code alone", async (t) => {
  const vars = { HOOK_SECRET: "another", SYNC_CHANNELS: { todos: rule({ service: "APP" }) } };
  const amend = (sync) => ({ ...sync, serviceBindings: { APP: "tidewire-ts-hooks" } });
  const workers = await start({ workers: ["app", "sync", "hooks"], vars, amend });
  t.after(() => workers.stop());
  const alice = await workers.space().join("alice");
  has(await alice.subscribe("todos"), { type: "reject", error: { code: "unavailable" } });
  has(await alice.mutate("todos", "create", "k", {}), { type: "reject", error: { code: "unavailable" } });
  assert.ok(workers.logs.some((line) => line.includes("bad_signature")), workers.logs.join("\n"));
  assert.ok(!JSON.stringify(alice.all).includes("signature"));
});

test("an app whose answer says that it is too long is hung up on", async (t) => {
  const hungUp = Promise.withResolvers();
  const server = await Server.start((_, response) => {
    response.once("close", hungUp.resolve);
    response.writeHead(200, { "content-length": 20_000_000 });
    response.write("{");
  });
  t.after(() => server.stop());
  const workers = await start({ vars: { HOOK_SECRET, SYNC_CHANNELS: { todos: rule({ url: server.origin }) } } });
  t.after(() => workers.stop());
  const alice = await workers.space().join("alice");
  has(await alice.subscribe("todos"), { type: "reject", error: { code: "internal" } });
  await within(5_000, hungUp.promise, () => "the connection is still open");
  assert.ok(alice.isOpen);
});

test("without a secret nothing is asked", async (t) => {
  const fake = new App();
  const amend = (sync) => ({ ...sync, serviceBindings: { APP: fake.fetch } });
  const workers = await start({ vars: { SYNC_CHANNELS: { todos: app } }, amend });
  t.after(() => workers.stop());
  const { status, body } = await workers.http("/api/sync/session");
  assert.equal(status, 500, JSON.stringify(body));
  assert.deepEqual(fake.asked, []);
});
