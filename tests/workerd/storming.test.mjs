// A storm of clients that come back is served from the log: whoever keeps the rows hears nothing of it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { App } from "./fake.mjs";
import { HOOK_SECRET, has, rows, start } from "./harness.mjs";

const count = 2_000;
const users = 50;
const times = (count, make) => Array.from({ length: count }, (_, at) => make(at));

test("two thousand clients that come back at cursors up to 5,000 changes old ask the source nothing", async (t) => {
  const fake = new App();
  const source = { service: "APP", authorize: false };
  const workers = await start({
    workers: ["sync"],
    vars: { HOOK_SECRET, SYNC_CHANNELS: { todos: { read: "user", write: "user", source } } },
    amend: (sync) => ({ ...sync, serviceBindings: { APP: fake.fetch } }),
  });
  t.after(() => workers.stop());
  const space = workers.space();
  // What is older than the log is in the source alone.
  fake.put("old", { n: 0 });
  const first = await space.join("u0", ["todos"]);
  has(first.snapshots.todos, { mode: "full", data: [{ id: "old", n: 0 }] });
  assert.equal(fake.asked.length, 1);

  // 5,000 changes of 200 rows, and what whoever is there after each hundred holds.
  const held = { old: { n: 0 } };
  const moments = [{ cursor: first.snapshots.todos.cursor, held: { ...held } }];
  for (let batch = 0; batch < 50; batch += 1) {
    const changes = times(100, (at) => {
      const n = batch * 100 + at;
      const key = `k${(n * 7) % 200}`;
      if (n % 11 === 0 && key in held) {
        delete held[key];
        return { action: "delete", key };
      }
      held[key] = { n };
      return { action: "create", key, data: { n } };
    });
    const { status, body } = await space.post("/broadcast-batch", { channel: "todos", changes });
    assert.equal(status, 200, JSON.stringify(body));
    moments.push({ cursor: body.cursor, held: { ...held } });
  }
  await space.sleep();

  const tokens = times(users, (at) => space.token(`u${at}`));
  const views = [];
  for (let at = 0; at < users; at += 1) views.push((await (await space.join(`u${at}`)).subscribe("todos", { cursor: moments.at(-1).cursor })).view);
  const before = fake.asked.length;

  const clients = [];
  let refusals = 0;
  const comeBack = async (at) => {
    const { client, status, body } = await workers.upgrade(`${space.path}?token=${tokens[at % users]}`, { ms: 30_000 });
    assert.equal(status, 101, JSON.stringify(body));
    clients.push(client);
    client.send({ type: "hello", v: 1 });
    const moment = moments[at % moments.length];
    const copy = { ...moment.held };
    let page = { cursor: moment.cursor, more: true };
    while (page.more) {
      const id = randomUUID();
      client.send({ type: "subscribe", id, channel: "todos", cursor: page.cursor, view: views[at % users] });
      const answer = await client.receive({ id }, 60_000);
      if (answer.type === "reject") {
        assert.equal(answer.error.code, "rate_limited");
        refusals += 1;
        await delay(answer.error.retryAfterMs);
        continue;
      }
      assert.equal(answer.mode, "delta");
      Object.assign(copy, rows(answer));
      for (const key of answer.deleted) delete copy[key];
      page = answer;
    }
    assert.deepEqual(copy, held, `who was there after ${(at % moments.length) * 100} changes`);
  };
  const queue = times(count, (at) => at).values();
  await Promise.all(
    times(50, async () => {
      for (const at of queue) await comeBack(at);
    }),
  );
  t.diagnostic(`${refusals} were told to wait`);
  assert.equal(fake.asked.length - before, 0, "the source was asked");
  // All are live: those that came back, and those that told the views.
  const { receivers } = await space.publish("todos", "create", "last", { n: -1 });
  assert.equal(receivers, count + users + 1);
  for (const client of clients) await client.receive({ type: "change", key: "last" }, 20_000);
});
