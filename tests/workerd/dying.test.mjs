// The object dies at every effect of a mutation that the app executes, one after the other: it happens
// once, whoever sent it learns so, and everyone sees it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { App } from "./fake.mjs";
import { HOOK_SECRET, bearer, secrets, start } from "./harness.mjs";
import { Talk } from "./talk.mjs";

/** No mutation here has more effects. */
const most = 60;

let workers, fake;
before(async () => {
  fake = new App();
  const source = { service: "APP" };
  workers = await start({
    faults: true,
    vars: { HOOK_SECRET, SYNC_CHANNELS: { todos: { read: "user", write: "user", source } } },
    amend: (sync) => ({ ...sync, serviceBindings: { APP: fake.fetch } }),
  });
});
after(() => workers?.stop());

/** Arms a panic at the effect after `at` others; without a number, how many are left (-1: none). */
async function arm(at) {
  const query = at === undefined ? "" : `&at=${at}`;
  const { status, body } = await workers.ask("tidewire-sync", `/faults?space=armed${query}`, { headers: bearer(secrets.PUBLISH_KEY) });
  assert.equal(status, 200, JSON.stringify(body));
  return body.left;
}

const changes = {
  "a row that is created": ["create", "new", { n: 2 }],
  "a row that is changed": ["update", "k", { n: 2 }],
  "a row that is deleted": ["delete", "k", undefined],
};
for (const [what, [action, name, data]] of Object.entries(changes)) {
  test(what, async () => {
    let crashed = true;
    for (let at = 0; crashed; at += 1) {
      assert.ok(at < most, "it still crashes");
      const talk = new Talk({ workers });
      const copies = [await talk.open("alice"), await talk.open("alice"), await talk.open("bob")];
      const [writer] = copies;
      assert.equal((await writer.mutate("create", "k", { n: 1 })).type, "ack");
      const away = await talk.open("carol");
      away.leave();
      const id = randomUUID();
      await arm(at);
      writer.send(action, name, data, id);
      await writer.finish();
      crashed = (await arm()) < 0;
      await away.connect();
      const expected = { k: { n: 1 }, [name]: data };
      if (data === undefined) delete expected[name];
      await talk.agree([...copies, away], expected);
      assert.deepEqual(fake.executed.filter((mutation) => mutation.endsWith(id)), [`alice ${id}`]);
      const repeat = await writer.mutate(action, name, data, id);
      assert.deepEqual([repeat.type, repeat.replayed], ["ack", true]);
      if (!crashed) assert.ok(at >= 6, `only ${at} effects`);
    }
  });
}
