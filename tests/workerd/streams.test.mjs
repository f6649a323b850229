// What is held for streams that do not read, without a runtime around it.
import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.addEventListener ??= () => {};
const { Readers } = await import("../../src/workers/readers.js");

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("streams that do not read are ended, the fullest first, where they hold too much together", async (t) => {
  const readers = new Readers({ sync: async () => {} }, 3_000);
  const bodies = [1, 2, 3].map((number) => readers.begin(number, true, undefined, 100_000, 1_000).body);
  t.after(() => [1, 2, 3].forEach((number) => readers.end(number)));
  const send = async (numbers, bytes) => {
    readers.send(numbers, undefined, "x".repeat(bytes));
    await settled();
  };
  await send([1, 2, 3], 50_000);
  await send([1], 1_000);
  await send([2], 1_500);
  await send([3], 500);
  // At the bound: what went to all is one piece of memory.
  for (const body of bodies) assert.equal(body.locked, false);
  const ended = Promise.race([readers.next(2), settled().then(() => "open")]);
  assert.equal(await ended, "open");
  await send([3], 1);
  await assert.rejects(bodies[1].getReader().read(), /too slow/);
  for (const at of [0, 2]) assert.equal((await bodies[at].getReader().read()).done, false);
});
