// Backpressure over real sockets: a storm of clients is spread, and nobody fails.
import assert from "node:assert/strict";
import { execSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { start } from "./harness.mjs";

const times = (count, make) => Array.from({ length: count }, (_, at) => make(at));

test("five thousand clients that come back at once are spread, and publishers are served meanwhile", async (t) => {
  // Each takes a file descriptor here and two in workerd, whose bound is the same.
  const descriptors = Number(execSync("ulimit -n")) || Infinity;
  const count = Math.min(5_000, Math.floor((descriptors - 500) / 3));
  const users = 50;
  t.diagnostic(`${count} clients`);
  // One lane: 16 MiB a second of the 125 MB that they have missed.
  const vars = { SYNC_LIMITS: { maxConcurrentDeltas: 1 } };
  const sync = await start({ workers: ["sync"], vars });
  t.after(() => sync.stop());
  const space = sync.space();
  const tokens = times(users, (at) => space.token(`u${at}`));
  const before = (await space.join("u0", ["feed"])).snapshots.feed;
  await space.publish("feed", "create", "k", { text: "x".repeat(25_000) });

  let refusals = 0;
  let storming = true;
  const clients = [];
  const connect = async (at) => {
    const { status, client, body } = await sync.upgrade(`${space.path}?token=${tokens[at % users]}`);
    assert.equal(status, 101, JSON.stringify(body));
    clients.push(client);
    client.send({ type: "hello", v: 1 });
    return client;
  };
  const catchUp = async (client) => {
    const question = { type: "subscribe", id: randomUUID(), channel: "feed", cursor: before.cursor };
    for (;;) {
      client.send(question);
      const answer = await client.receive({ id: question.id }, 30_000);
      if (answer.type === "snapshot") return answer;
      assert.equal(answer.error.code, "rate_limited");
      assert.ok(answer.error.retryAfterMs <= 60_000, "a turn of its own");
      refusals += 1;
      await delay(answer.error.retryAfterMs);
    }
  };
  const publishing = (async () => {
    let published = 0;
    for (; storming; published += 1) {
      await space.publish("todos", "create", `p${published}`, {});
      await delay(20);
    }
    return published;
  })();
  // A failure of it is told at the end, not as unhandled.
  publishing.catch(() => {});
  // As fast as the runtime lets them in; none waits for another to catch up.
  const queue = times(count, (at) => at).values();
  const catchingUp = [];
  await Promise.all(
    times(50, async () => {
      for (const at of queue) catchingUp.push(catchUp(await connect(at)));
    }),
  );
  const answers = await Promise.all(catchingUp);
  storming = false;
  assert.ok((await publishing) > 10, "publishers were served meanwhile");
  assert.ok(answers.every(({ data, more }) => data.length === 1 && !more));
  // None, where this machine is slower than one lane.
  t.diagnostic(`${refusals} were told to wait`);
  assert.equal((await space.publish("feed", "update", "k", { text: "calm" })).receivers, count + 1);
  for (const client of clients) await client.receive({ type: "change", key: "k" }, 20_000);
});
