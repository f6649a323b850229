// Storage that fails when an object wakes, and works again: what is told meanwhile, and that the object needs no
// other life for it.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { bearer, has, rows, secrets, start } from "./harness.mjs";
import { forward } from "./provider.mjs";

const words = "disk I/O error: SQLITE_IOERR";

/** Around the sync Worker: its objects' SQL fails as long as is asked for, and its clock stands still but for `forward`. */
const failing = `
import worker, { SyncEngine as Engine } from "./index.js";
const now = Date.now;
let [fails, failures, time] = [false, 0, 0];
Date.now = () => (time ||= now());
const around = (target, more) =>
  new Proxy(target, {
    get(_, name) {
      if (name in more) return more[name];
      const value = target[name];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
export class SyncEngine extends Engine {
  constructor(context, env) {
    const exec = (...args) => {
      if (fails) {
        failures += 1;
        throw new Error(${JSON.stringify(words)});
      }
      return context.storage.sql.exec(...args);
    };
    const storage = around(context.storage, { sql: around(context.storage.sql, { exec }) });
    super(around(context, { storage }), env);
  }
}
export default {
  fetch(request, env, ctx) {
    const { searchParams } = new URL(request.url);
    time = Date.now() + Number(searchParams.get("clock-forward-by"));
    if (searchParams.has("fails")) fails = searchParams.get("fails") === "true";
    else if (!searchParams.has("clock-forward-by")) return worker.fetch(request, env, ctx);
    return Response.json(failures);
  },
};`;

let workers;
before(async () => {
  const amend = (sync) => {
    const path = `${sync.modulesRoot}/failing.js`;
    return { ...sync, modules: [{ type: "ESModule", path, contents: failing }, ...sync.modules] };
  };
  workers = await start({ amend });
});
after(() => workers?.stop());
beforeEach(() => fail(false));

/** Has SQL fail or not; how often it has failed. */
const fail = async (does) => Number((await workers.ask("tidewire-sync", `/?fails=${does}`)).body);
const change = { channel: "todos", action: "create", key: "new", data: {} };

/** All that can be asked over HTTP, and what is answered. */
async function asked(space) {
  const user = bearer(space.token("alice"));
  const query = `?space=${space.name}`;
  const answers = await Promise.all([
    space.post("/broadcast", change),
    workers.http(`/stats${query}`, { headers: bearer(secrets.PUBLISH_KEY) }),
    workers.http(`/api/sync/session${query}`, { headers: user }),
    workers.http(`/api/sync/changes${query}&channel=todos`, { headers: user }),
    workers.http(`/api/sync/mutate${query}`, { method: "POST", headers: user, body: '{"mutations":[]}' }),
    workers.upgrade(space.path, { headers: user }),
  ]);
  return answers.map(({ status, body }) => ({ status, body }));
}

/** Asserts that everybody is told so, and nobody in SQLite's words. */
async function isBroken(space) {
  for (const answer of await asked(space)) {
    has(answer, { status: 503, body: { error: { code: "unavailable", message: "storage failed", retryable: true } } });
  }
}

test("an object whose storage failed when it woke works as soon as that does, and keeps its sockets", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["todos"]);
  await space.publish("todos", "create", "k", { v: 1 });
  await alice.receive({ type: "change" });
  await space.sleep();
  await fail(true);
  await isBroken(space);
  await forward(workers, 1_000);
  await isBroken(space);
  await fail(false);
  await forward(workers, 1_000);
  assert.equal((await space.publish("todos", "update", "k", { v: 2 })).receivers, 1);
  has(await alice.receive({ type: "change" }), { key: "k", data: { v: 2 } });
  assert.deepEqual(rows((await space.join("bob", ["todos"])).snapshots.todos), { k: { v: 2 } });
  assert.ok(workers.logs.some((line) => line.includes(words)), workers.logs.join("\n"));
});

test("a space that could not be made is made by who asks next", async () => {
  const space = workers.space();
  await fail(true);
  await isBroken(space);
  await fail(false);
  await forward(workers, 1_000);
  has(await space.publish("todos", "create", "k", {}), { seq: 1 });
});

test("storage that fails is asked once a second, however many come", async () => {
  const space = workers.space();
  await space.publish("todos", "create", "k", {});
  await space.restart();
  const before = await fail(true);
  for (const tries of [1, 2]) {
    for (let times = 0; times < 3; times += 1) await isBroken(space);
    await forward(workers, 999);
    await isBroken(space);
    assert.equal((await fail(true)) - before, tries);
    await forward(workers, 1);
  }
});
