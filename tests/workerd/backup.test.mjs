// Export, import and restore through both Workers, as an operator does it.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { bearer, has, rows, secrets, start } from "./harness.mjs";

const CHANNELS = {
  "todos": { read: "user", write: "user" },
  "notes": { read: "user", write: "user", scope: { field: "ownerId" } },
  "doc:*": { read: "user", write: "user", keep: "every", edits: true },
};
const KEYS = { ops: { key: "key-of-an-operator", channels: ["*"], spaces: ["*"], operate: true } };

let workers;
before(async () => {
  const vars = { SYNC_CHANNELS: CHANNELS, PUBLISH_KEYS: JSON.stringify(KEYS) };
  workers = await start({ vars });
});
after(() => workers?.stop());

const key = bearer(secrets.PUBLISH_KEY);

async function exported(space) {
  const { status, headers, body } = await workers.http(`/export?space=${space.name}`, { headers: key });
  assert.equal(status, 200, JSON.stringify(body));
  assert.match(headers.get("content-type"), /^application\/x-ndjson/);
  return body;
}

/** Sends lines as they are, or as a stream. */
function imported(space, body, line = 1) {
  const path = `/import?space=${space.name}&line=${line}`;
  return workers.http(path, { method: "POST", headers: key, body, duplex: "half" });
}

const lines = (file) => file.trimEnd().split("\n").map((line) => JSON.parse(line));

/** What of a file is the same in a copy. */
function content(file) {
  const all = lines(file);
  const { epoch, at, space, ...header } = all[0];
  const { checksum, ...end } = all.at(-1);
  assert.ok(epoch && at && space && checksum);
  return [header, ...all.slice(1, -1), end];
}

async function fill(space, channel, count, from = 0, text = "") {
  for (let n = from; n < from + count; n += 1000) {
    const change = (_, i) => ({ action: "update", key: `k${n + i}`, data: { n: n + i, text }, to: "all" });
    const changes = Array.from({ length: Math.min(1000, from + count - n) }, change);
    const { status, body } = await space.post("/broadcast-batch", { channel, changes });
    assert.equal(status, 200, JSON.stringify(body));
  }
}

describe("a copy", () => {
  test("is what the source was: rows, audiences, authors, events, and refusals", async () => {
    const [source, target] = [workers.space(), workers.space()];
    const alice = await source.join("alice", []);
    await alice.mutate("todos", "create", "t1", { title: "é\n🌊" });
    await alice.mutate("notes", "create", "n1", { ownerId: "alice" });
    await alice.mutate("doc:1", "create", "e1", { v: 1 });
    await alice.mutate("doc:1", "update", "e1", { id: "e1", v: 2 });
    await source.post("/disconnect", { identity: "mallory" });
    const file = await exported(source);
    const sum = createHash("sha256").update(file.slice(0, file.lastIndexOf('{"end"'))).digest("hex");
    assert.equal(lines(file).at(-1).checksum, sum);

    const { status, body } = await imported(target, file);
    assert.equal(status, 200, JSON.stringify(body));
    has(body, { done: true, seq: 4, lines: lines(file).length });
    assert.deepEqual(content(await exported(target)), content(file));
    assert.notEqual(body.epoch, (await source.stats()).epoch);
    const joined = await target.join("alice", ["todos", "notes"]);
    assert.deepEqual(rows(joined.snapshots.todos), { t1: { title: "é\n🌊" } });
    assert.deepEqual(Object.keys(rows(joined.snapshots.notes)), ["n1"]);
    const mallory = await workers.upgrade(target.path, { headers: bearer(target.token("mallory")) });
    assert.equal(mallory.status, 401);
  });

  test("of many rows, with live writes meanwhile, is what a reader sees", async () => {
    const [source, target] = [workers.space(), workers.space()];
    await fill(source, "todos", 20_000);
    await fill(source, "doc:1", 2_000);
    const writing = (async () => {
      for (let round = 0; round < 20; round += 1) {
        await fill(source, "todos", 50, round * 900, `round ${round}`);
        await source.post("/broadcast", { channel: "todos", action: "delete", key: `k${19_000 + round}` });
      }
    })();
    const file = await exported(source);
    await writing;
    const still = await exported(source);
    const copied = workers.space();
    has(await imported(copied, file), { status: 200 });
    // Whatever was written meanwhile, the copy is one moment of the source.
    const moment = lines(file).at(-1).seq;
    assert.ok(lines(file).length >= 22_000 && moment <= lines(still).at(-1).seq);
    has(await imported(target, still), { status: 200 });
    assert.deepEqual(content(await exported(target)), content(still));
  });

  test("in parts goes on at the line where the part before ended", async () => {
    const [source, target] = [workers.space(), workers.space()];
    await fill(source, "todos", 3_000);
    const file = await exported(source);
    const all = file.split(/(?<=\n)/);
    const [one, two] = [all.slice(0, 1_000).join(""), all.slice(1_000).join("")];
    has((await imported(target, one)).body, { done: false, lines: 1_000 });
    const refused = await workers.upgrade(target.path, { headers: bearer(target.token("alice")) });
    has(refused, { status: 503 });
    has(await imported(target, two, 1_002), { status: 409 });
    has(await imported(target, two, 1_001), { status: 200, body: { done: true } });
    assert.deepEqual(content(await exported(target)), content(file));
  });

  test("comes from a body in pieces of any size", async () => {
    const [source, target] = [workers.space(), workers.space()];
    await fill(source, "todos", 40, 0, "é".repeat(20_000));
    const bytes = Buffer.from(await exported(source));
    const body = new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += 7_777) controller.enqueue(bytes.subarray(at, at + 7_777));
        controller.close();
      },
    });
    has(await imported(target, body), { status: 200, body: { done: true } });
    assert.deepEqual(content(await exported(target)), content(bytes.toString()));
  });
});

describe("an import", () => {
  test("of a damaged file names the line, and leaves the space empty and open", async () => {
    const [source, target] = [workers.space(), workers.space()];
    await fill(source, "todos", 3_000);
    const file = await exported(source);
    for (const [damaged, message] of [
      [file.replace('"n":1500', '"n":1501'), /^line 3002: the checksum/],
      [file.replace(/.*"n":1500.*\n/, ""), /^line 3001: 3001 lines were exported, 3000/],
      [file.replace(/(.*"n":1500.*)\n/, "$1x\n"), /^line 1502: /],
      [`${file}{}\n`, /^line 3003: comes after the end/],
      ["", /^line 1: /],
      ["x".repeat(3_000_000), /^line 1: /],
      [Buffer.from([0xff, 0xfe, 10]), /^line 1: /],
    ]) {
      const { status, body } = await imported(target, damaged);
      assert.equal(status, 400, JSON.stringify(body));
      assert.match(body.error.message, message);
      has(await target.stats(), { seq: 0 });
      const alice = await target.join("alice", ["todos"]);
      assert.deepEqual(rows(alice.snapshots.todos), {});
      alice.close();
    }
    const { status, body } = await imported(target, file);
    assert.equal(status, 200);
    // Whose answer was lost may ask again, until something is written.
    assert.deepEqual((await imported(target, file)).body, body);
    await target.publish("todos", "create", "later", {});
    has(await imported(target, file), { status: 409, body: { error: { code: "conflict" } } });
  });

  test("that broke off leaves a space that opens to nobody, until it begins anew", async () => {
    const [source, target] = [workers.space(), workers.space()];
    await fill(source, "todos", 10);
    const file = await exported(source);
    has((await imported(target, file.slice(0, file.lastIndexOf('{"end"')))).body, { done: false });
    await target.sleep();
    has(await target.post("/broadcast", { channel: "todos", action: "delete", key: "k1" }), { status: 503 });
    has(await workers.http(`/export?space=${target.name}`, { headers: key }), { status: 503 });
    has(await imported(target, file), { status: 200, body: { done: true } });
  });
});

test("export, import, restore and doctor are for PUBLISH_KEY alone, each by its method", async () => {
  const space = workers.space();
  const before = await space.stats();
  for (const [path, method] of [
    ["/export", "GET"],
    ["/import", "POST"],
    ["/restore", "POST"],
    ["/doctor", "GET"],
  ]) {
    const ask = (credential, how = method) =>
      workers.http(`${path}?space=${space.name}`, { method: how, headers: credential && bearer(credential) });
    has(await ask(), { status: 401 });
    has(await ask("wrong"), { status: 401 });
    has(await ask(KEYS.ops.key), { status: 403 });
    has(await ask(space.token("alice")), { status: 401 });
    const { status, headers } = await ask(secrets.PUBLISH_KEY, method === "GET" ? "POST" : "GET");
    assert.deepEqual([status, headers.get("allow")], [405, method]);
    has(await workers.http(`${path}?space=No`, { method, headers: key }), { status: 400 });
  }
  has(await imported(space, "", "x"), { status: 400 });
  has(await space.stats(), { seq: before.seq, epoch: before.epoch });
});

describe("a restore", () => {
  test("is refused by a runtime without a history, and changes nothing", async () => {
    const space = workers.space();
    await space.publish("todos", "create", "k", { n: 1 });
    const alice = await space.join("alice", ["todos"]);
    const before = await space.stats();
    const refused = await space.post("/restore", { at: Date.now() - 1_000 });
    has(refused, { status: 501, body: { error: { code: "unavailable" } } });
    assert.match(refused.body.error.message, /nothing was changed/);
    has(await space.post("/restore", { bookmark: "0".repeat(32) }), { status: 501 });
    has(await space.stats(), { seq: before.seq, epoch: before.epoch, connections: 1 });
    assert.deepEqual(await alice.rest(), []);
  });

  test("is to a time of the last 30 days or to a bookmark", async () => {
    const space = workers.space();
    for (const body of [
      {},
      { at: Date.now() + 60_000 },
      { at: Date.now() - 31 * 24 * 3600_000 },
      { at: "yesterday" },
      { bookmark: "" },
      { at: 1, bookmark: "x" },
      "{",
    ]) {
      has(await space.post("/restore", body), { status: 400 });
    }
  });

  test("asks the platform for a bookmark of the time, then for the restore, and no more", async () => {
    globalThis.addEventListener ??= () => {};
    const { Database } = await import("../../src/workers/glue.js");
    const calls = [];
    const storage = {
      getBookmarkForTime: async (at) => (calls.push(["time", at]), "then"),
      onNextSessionRestoreBookmark: async (to) => (calls.push(["restore", to]), "undo"),
    };
    const database = new Database(storage);
    assert.deepEqual(await database.restore(1234), ["then", "undo"]);
    assert.deepEqual(await database.restore(undefined, "other"), ["other", "undo"]);
    const expected = [["time", 1234], ["restore", "then"], ["restore", "other"]];
    assert.deepEqual(calls, expected);
  });
});
