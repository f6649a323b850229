// What operators see: one line an operation, data points, /stats, /metrics, /inspect.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, mutation, secrets, start, within } from "./harness.mjs";

const SYNC_CHANNELS = {
  "todos": { read: "user", write: "user" },
  "room": { read: "anyone", write: "anyone", presence: true },
};
const PUBLISH_KEYS = JSON.stringify({ bills: { key: "key-of-bills-in-the-tests", channels: ["todos"], spaces: ["*"] } });
const vars = { SYNC_CHANNELS, PUBLISH_KEYS };
const payload = "a-row-that-no-log-may-hold";

/** The lines of operations in a log, parsed. */
const operations = (logs) =>
  logs.filter((line) => line.includes('{"op":')).map((line) => JSON.parse(line.slice(line.indexOf("{"))));

/** The lines of a space so far, once there are so many. */
async function lines(workers, space, count) {
  const found = () => operations(workers.logs).filter((line) => line.space === space.name);
  const enough = async () => {
    while (found().length < count) await delay(5);
  };
  await within(5_000, enough(), () => `${count} lines wanted, there are ${JSON.stringify(found(), null, 1)}`);
  return found();
}

/** One of everything; how many lines it has. */
async function story(workers, space) {
  const alice = await space.connect("alice");
  alice.send({ type: "hello", v: 1, device: "phone-7", subscribe: [{ id: "s", channel: "todos" }] });
  await alice.receive({ type: "snapshot" });
  const put = (id) => mutation(id, "todos", "create", id, { text: payload });
  alice.send([put("a"), put("b"), put("a"), mutation("c", "todos", "delete", "none")]);
  await alice.receive({ type: "reject", id: "c" });
  await space.publish("todos", "create", "k", { text: payload });
  assert.equal((await space.post("/broadcast", { channel: "nowhere", action: "create", key: "k", data: {} })).status, 400);
  await space.post("/topics", { identity: "alice", add: ["team:a"] });
  await space.post("/disconnect", { identity: "alice" });
  await alice.ended();
  return 11;
}

describe("the log", () => {
  let workers;
  before(async () => (workers = await start({ vars })));
  after(() => workers?.stop());

  test("has one line an operation, with its context, and no payload, key or token", async () => {
    const space = workers.space();
    const token = space.token("alice");
    const count = await story(workers, space);
    const log = await lines(workers, space, count);
    const gist = log.map(({ op, outcome, code }) => [op, outcome, code].filter(Boolean).join(" "));
    assert.deepEqual(gist, [
      "connect done",
      "subscribe done",
      "mutate done",
      "mutate done",
      "mutate repeated",
      "mutate refused not_found",
      "publish done",
      "publish refused unknown_channel",
      "operate done",
      "disconnect done",
      "operate done",
    ]);
    for (const line of log) {
      for (const field of ["rows", "receivers", "bytes", "durationMs"]) {
        assert.ok(Number.isInteger(line[field]) && line[field] >= 0, `${field} of ${JSON.stringify(line)}`);
      }
    }
    const [connect, subscribe, mutate, , , refused, publish, , , disconnect] = log;
    const alice = { identity: "alice", session: connect.session };
    has(connect, { identity: "alice" });
    const onPhone = { ...alice, device: "phone-7" };
    has(subscribe, { ...onPhone, channel: "todos", rows: 0 });
    has(mutate, { ...onPhone, channel: "todos", action: "create", seq: 1, rows: 3, receivers: 0 });
    assert.ok(mutate.bytes > payload.length, "the ack");
    has(refused, { ...onPhone, channel: "todos", action: "delete", rows: 0 });
    has(publish, { key: "PUBLISH_KEY", path: "/broadcast", channel: "todos", seq: 3, changes: 1, rows: 2, receivers: 1 });
    has(disconnect, { ...onPhone, close: 4505 });
    const text = workers.logs.join("\n");
    for (const secret of [payload, ...Object.values(secrets), token.split(".")[2], "key-of-bills"]) {
      assert.ok(!text.includes(secret), `${secret} is in the log`);
    }
  });

  test("has what the router refuses, once, and who it was as far as a key tells", async () => {
    const space = workers.space();
    await workers.upgrade(space.path, { headers: bearer("no token") });
    await workers.upgrade(space.path, { headers: bearer(space.token("alice", { space: "else" })) });
    for (const [path, key] of [["/broadcast", "wrong"], ["/disconnect", "key-of-bills-in-the-tests"]]) {
      await workers.http(`${path}?space=${space.name}`, { method: "POST", headers: bearer(key), body: '{"all":true}' });
    }
    for (const path of ["/stats", "/metrics", "/inspect", "/presence"]) {
      await workers.http(`${path}?space=${space.name}&channel=todos`, { headers: bearer("wrong") });
    }
    const log = await lines(workers, space, 8);
    const gist = log.map(({ op, outcome, code, path, key }) => [op, outcome, code, path, key]);
    assert.deepEqual(gist, [
      ["connect", "refused", "unauthorized", undefined, undefined],
      ["connect", "refused", "forbidden", undefined, undefined],
      ["publish", "refused", "unauthorized", "/broadcast", undefined],
      ["operate", "refused", "forbidden", "/disconnect", "bills"],
      ...["/stats", "/metrics", "/inspect", "/presence"].map((path) => ["ask", "refused", "unauthorized", path, undefined]),
    ]);
    assert.equal(await space.wasWoken(), false);
  });

  test("has a line when a session ends with its token, and when it is gone", async () => {
    const space = workers.space();
    const alice = await space.join("alice", [], { exp: Date.now() / 1000 + 0.4 });
    const bob = await space.join("bob");
    await delay(450);
    await space.stats();
    assert.equal((await alice.ended()).code, 4001);
    bob.close(1000);
    const log = await lines(workers, space, 4);
    has(log[2], { op: "expire", outcome: "done", identity: "alice", close: 4001 });
    has(log[3], { op: "disconnect", outcome: "done", identity: "bob" });
    assert.equal(log[3].close, undefined, "it was the client that closed");
  });
});

for (const [SYNC_LOG, kept] of [["errors", ["not_found", "unknown_channel"]], ["none", []]]) {
  test(`SYNC_LOG=${SYNC_LOG} keeps the lines of ${kept.length ? "what was refused" : "nothing"}`, async () => {
    const workers = await start({ vars: { ...vars, SYNC_LOG } });
    try {
      const space = workers.space();
      await story(workers, space);
      await workers.http("/stats", { headers: bearer("wrong") });
      const codes = operations(workers.logs).map(({ code }) => code);
      assert.deepEqual(codes, kept.length ? [...kept, "unauthorized"] : []);
      const { body } = await workers.http(`/inspect?space=${space.name}`, { headers: bearer(secrets.PUBLISH_KEY) });
      assert.equal(body.events.length, 11, "the inspector has them all the same");
    } finally {
      await workers.stop();
    }
  });
}

/** Stands for a dataset: keeps what is written, and tells. */
const dataset = {
  name: "dataset",
  compatibilityDate: "2026-06-07",
  modules: [
    {
      type: "ESModule",
      path: "dataset.js",
      contents: `
        import { WorkerEntrypoint } from "cloudflare:workers";
        const points = [];
        export default class extends WorkerEntrypoint {
          writeDataPoint(point) { points.push(point); }
          fetch() { return Response.json({ points }); }
        }`,
    },
  ],
};

const bindDataset = (sync) => ({ ...sync, serviceBindings: { ...sync.serviceBindings, SYNC_ANALYTICS: "dataset" } });

/** The data points that were written. */
const points = async (workers) => (await workers.ask("dataset", "/")).body.points;

/** Waits until so many data points are written. */
async function written(workers, count) {
  const enough = async () => {
    while ((await points(workers)).length < count) await delay(5);
  };
  await within(5_000, enough(), () => `${count} data points wanted`);
}

describe("Analytics Engine", () => {
  test("bound, it gets a data point an operation; not bound, nothing is written", async () => {
    for (const bound of [true, false]) {
      const amend = (sync) => (bound ? bindDataset(sync) : sync);
      const workers = await start({ vars: { ...vars, SYNC_LOG: "none" }, amend, others: [dataset] });
      try {
        const space = workers.space();
        const count = await story(workers, space);
        await workers.http(`/stats?space=${space.name}`, { headers: bearer("wrong") });
        const wanted = bound ? count + 1 : 0;
        await written(workers, wanted);
        await space.stats();
        const all = await points(workers);
        assert.equal(all.length, wanted);
        assert.equal(JSON.stringify(all).includes(payload), false);
        for (const point of all) {
          assert.deepEqual(point.indexes, [space.name]);
          assert.deepEqual([point.blobs.length, point.doubles.length], [9, 6]);
        }
        if (bound) {
          const mutate = all.find(({ blobs }) => blobs[0] === "mutate");
          assert.deepEqual(mutate.blobs, ["mutate", "done", "", "todos", "alice", "phone-7", "", "", "create"]);
          assert.deepEqual(mutate.doubles.slice(1, 3), [3, 0]);
          assert.ok(mutate.doubles[3] > 0);
          assert.ok(all.some(({ blobs }) => blobs[0] === "ask" && blobs[2] === "unauthorized"));
        }
        assert.deepEqual(workers.logs.filter((line) => line.startsWith("error")), []);
      } finally {
        await workers.stop();
      }
    }
  });
});

test("one turn writes 250 lines and data points, and says how many more there were", async () => {
  for (const count of [250, 251]) {
    const workers = await start({ vars, amend: (sync) => bindDataset(sync), others: [dataset] });
    try {
      const space = workers.space();
      const alice = await space.join("alice");
      await lines(workers, space, 1);
      await written(workers, 1);
      alice.send(Array.from({ length: count }, (_, n) => mutation(`m${n}`, "todos", "delete", "none")));
      await alice.receive({ type: "reject", id: `m${count - 1}` });
      await written(workers, 251);
      const log = operations(workers.logs);
      assert.equal(log.filter(({ op }) => op === "mutate").length, 250);
      assert.deepEqual(log.filter(({ op }) => op === "more"), count > 250 ? [{ op: "more", count: 1 }] : []);
      await space.stats();
      assert.equal((await points(workers)).length, 251);
    } finally {
      await workers.stop();
    }
  }
});

describe("figures", () => {
  let workers;
  before(async () => (workers = await start({ vars: { ...vars, SYNC_LOG: "none" } })));
  after(() => workers?.stop());

  const ask = (path, key = secrets.PUBLISH_KEY) => workers.http(path, { headers: key ? bearer(key) : {} });

  test("/stats has connections, log, storage, rows and floors", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    for (const key of ["a", "b"]) has(await alice.mutate("todos", "create", key, {}), { type: "ack" });
    await space.post("/broadcast-reset", { channel: "room" });
    const stats = await space.stats();
    const { epoch, instance, storageBytes, rowsWritten, ...rest } = stats;
    assert.deepEqual(rest, {
      space: space.name, seq: 3, connections: 1, channels: 1, subscriptions: 1,
      rows: 2, moreRows: false, floors: { room: 3 }, moreFloors: false,
    });
    assert.match(epoch, /^\w+$/);
    assert.match(instance, /^[0-9a-f]{32}$/);
    assert.ok(storageBytes > 0 && rowsWritten >= 6, JSON.stringify(stats));
  });

  test("/metrics is text that Prometheus reads: each metric once, with help and type", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["todos"]);
    await alice.mutate("todos", "create", "a", { text: payload });
    await alice.mutate("nowhere", "create", "a", {});
    const { status, headers, body } = await ask(`/metrics?space=${space.name}`);
    assert.equal(status, 200);
    assert.equal(headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    const types = new Map();
    const samples = new Map();
    let helped;
    for (const line of body.trimEnd().split("\n")) {
      const [, help] = /^# HELP (\w+) \S.*$/.exec(line) ?? [];
      const [, typed, type] = /^# TYPE (\w+) (counter|gauge)$/.exec(line) ?? [];
      const [, name, labels = "", value] = /^(\w+)(\{\w+="[^"\\]*"(?:,\w+="[^"\\]*")*\})? (\d+)$/.exec(line) ?? [];
      assert.ok(help || typed || name, `no such line: ${line}`);
      if (help) helped = help;
      if (typed) {
        assert.equal(typed, helped, "help comes before the type");
        assert.ok(!types.has(typed), `${typed} comes twice`);
        types.set(typed, type);
      }
      if (name) {
        assert.ok(types.has(name), `${name} has no type`);
        assert.match(name, /^tidewire_/);
        assert.equal(name.endsWith("_total"), types.get(name) === "counter", name);
        assert.ok(!samples.has(name + labels), `${name}${labels} comes twice`);
        samples.set(name + labels, Number(value));
      }
    }
    for (const [sample, value] of Object.entries({
      "tidewire_connections": 1,
      "tidewire_subscriptions": 1,
      "tidewire_log_seq": 1,
      'tidewire_operations_total{operation="mutate",outcome="done"}': 1,
      'tidewire_operations_total{operation="mutate",outcome="refused"}': 1,
      'tidewire_refusals_total{operation="mutate",code="unknown_channel"}': 1,
      "tidewire_changes_total": 1,
      "tidewire_received_frames_total": 3,
    })) {
      assert.equal(samples.get(sample), value, `${sample}\n${body}`);
    }
    assert.ok(samples.get("tidewire_storage_bytes") > 0);
    const before = samples.get("tidewire_start_time_seconds");
    assert.ok(Math.abs(before - Date.now() / 1000) < 3_600);
    for (const text of [payload, "alice", "todos"]) assert.ok(!body.includes(text), text);
  });

  test("/inspect tells connections, channels, rules and events, from a number on, and no row", async () => {
    const space = workers.space();
    const alice = await space.join("alice", ["room"]);
    alice.send({ type: "presence", channel: "room", state: { cursor: 1 } });
    await alice.receive({ type: "presence" });
    await alice.mutate("room", "create", "a", { text: payload });
    const { status, body } = await ask(`/inspect?space=${space.name}`);
    assert.equal(status, 200);
    has(body, { space: space.name, connections: 1, channels: 1, seq: 1, lastEvent: 3 });
    has(body.connectionList[0], { identity: "alice", subscriptionList: ["room"] });
    has(body.channelList[0], { channel: "room", rule: "room", present: 1 });
    assert.deepEqual(body.channelList[0].members[0].state, { cursor: 1 });
    assert.deepEqual(body.rules.map(({ pattern }) => pattern), ["room", "todos"]);
    assert.deepEqual(body.events.map(({ number, op }) => `${number} ${op}`), ["1 connect", "2 subscribe", "3 mutate"]);
    assert.ok(!JSON.stringify(body).includes(payload));
    const later = await ask(`/inspect?space=${space.name}&since=2`);
    assert.deepEqual(later.body.events.map(({ number }) => number), [3]);
    for (const since of ["x", "-1", "1.5", "", "99999999999999999999999"]) {
      const { status, body } = await ask(`/inspect?space=${space.name}&since=${since}`);
      assert.deepEqual([status, body.error?.field], [400, "since"], since);
    }
  });

  test("are for operators: no key, a wrong one, one that only publishes, another method", async () => {
    for (const path of ["/stats", "/metrics", "/inspect"]) {
      for (const [key, status] of [[null, 401], ["wrong", 401], ["key-of-bills-in-the-tests", 403]]) {
        assert.equal((await ask(path, key)).status, status, `${path} ${key}`);
      }
      const post = await workers.http(path, { method: "POST", headers: bearer(secrets.PUBLISH_KEY) });
      assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET"]);
    }
  });
});
