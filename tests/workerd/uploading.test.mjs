// Bodies that come slowly, in part, or not at all: what is held for them, how long they are waited for, and that
// nothing of them happens.
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { json } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { inspect } from "./isolate.mjs";
import { bearer, has, mutation, secrets, start } from "./harness.mjs";

const bodyBytes = 8 * 1024 * 1024;
// Of a body that the object reads as it comes.
const shortBytes = 64 * 1024;

/** Around the sync Worker: how many requests it has had. */
const counter = `
import worker from "./index.js";
export * from "./index.js";
let count = 0;
export default {
  fetch(request, env, ctx) {
    if (new URL(request.url).pathname === "/count") return Response.json(count);
    count += 1;
    return worker.fetch(request, env, ctx);
  },
};`;

function counted(sync) {
  const path = `${sync.modulesRoot}/counter.js`;
  return { ...sync, modules: [{ type: "ESModule", path, contents: counter }, ...sync.modules] };
}

// Through the app Worker, which has a deadline of its own, and without.
let workers, alone;
before(async () => {
  workers = await start();
  alone = await start({ workers: ["sync"], amend: counted, inspector: true });
});
after(() => Promise.all([workers?.stop(), alone?.stop()]));

const publisher = bearer(secrets.PUBLISH_KEY);
const change = { channel: "todos", action: "create", key: "k", data: { v: 1 } };

/** Asserts that an answer is an error of this kind. */
function refused({ status, body }, expectedStatus, code, field) {
  assert.equal(status, expectedStatus, JSON.stringify(body));
  has(body, { error: { code, ...(field && { field }) } });
}

/** A request whose body comes in two parts: what was answered before the second, and then. */
async function upload(origin, path, text, meanwhile, headers = { ...publisher, "content-length": text.length }) {
  const call = request(origin + path, { method: "POST", headers });
  let early = false;
  const answered = once(call, "response").then(async ([response]) => {
    early = !call.writableEnded;
    return { status: response.statusCode, body: await json(response) };
  });
  call.write(text.slice(0, 9));
  await meanwhile(answered);
  call.end(text.slice(9));
  return { ...(await answered), early };
}

describe("a body", () => {
  test("that is said to have 8 MiB takes no more than has come of it", async () => {
    const isolate = await inspect(alone, "tidewire-sync");
    const count = async () => JSON.parse((await alone.ask("tidewire-sync", "/count")).body);
    const [held, before, many] = [await isolate.buffers(), await count(), 20];
    const { hostname, port, host } = new URL(alone.origin);
    const head = `POST /api/sync/mutate HTTP/1.1\r\nhost: ${host}\r\ncontent-length: ${bodyBytes}\r\n\r\n`;
    const sockets = Array.from({ length: many }, () => connect(port, hostname));
    for (const socket of sockets) socket.write(`${head}{`);
    try {
      for (const from = Date.now(); (await count()) < before + many; ) assert.ok(Date.now() - from < 5_000, "no requests");
      const more = (await isolate.buffers()) - held;
      assert.ok(more < bodyBytes, `${more} bytes`);
    } finally {
      for (const socket of sockets) socket.destroy();
      isolate.close();
    }
  });

  test("that does not come within 30 s is 503 and changes nothing", async () => {
    const text = JSON.stringify(change);
    const mutations = JSON.stringify({ mutations: [mutation("m", "todos", "create", "k", {})] });
    const late = async (deployment, message) => {
      const space = deployment.space();
      const query = `?space=${space.name}`;
      const user = { ...bearer(space.token("alice")), "content-length": mutations.length };
      const uploads = {
        "which names its space": ["/broadcast", JSON.stringify({ space: space.name, ...change })],
        "which is long": [`/broadcast${query}`, text.padEnd(shortBytes + 1)],
        "whose length is not told": [`/broadcast${query}`, text, publisher],
        "of mutations": [`/api/sync/mutate${query}`, mutations, user],
        "which the object reads": [`/broadcast${query}`, text],
      };
      const answers = Object.entries(uploads).map(async ([name, [path, text, headers]]) => {
        const { early, ...answer } = await upload(deployment.origin, path, text, (answered) => answered, headers);
        refused(answer, 503, "unavailable");
        assert.deepEqual([name, early, answer.body.error.retryable], [name, true, true]);
        if (name !== "which the object reads") assert.match(answer.body.error.message, message, name);
      });
      await Promise.all(answers);
      assert.equal((await space.stats()).seq, 0);
      has(await space.post("/broadcast", change), { status: 200, body: { seq: 1 } });
    };
    await Promise.all([late(workers, /./), late(alone, /^the body did not come within 30 s$/)]);
  });

  test("of a call that is refused has come before the answer", async () => {
    const text = JSON.stringify(change);
    const answer = await upload(workers.origin, `/broadcast?space=${"x".repeat(200)}`, text, () => delay(300));
    refused(answer, 400, "invalid", "space");
    assert.equal(answer.early, false, "a peer that still sends may never see the answer");
  });

  test("that breaks off changes nothing, though it be whole without its end", async () => {
    const space = workers.space();
    const { epoch } = await space.stats();
    for (const [path, text] of [["/broadcast", JSON.stringify(change)], ["/epoch", "{}"], ["/epoch", ""]]) {
      const upload = request(`${workers.origin}${path}?space=${space.name}`, {
        method: "POST",
        headers: { ...publisher, "content-length": text.length + 1 },
      });
      const failed = once(upload, "error");
      upload.write(text);
      upload.flushHeaders();
      await delay(100);
      upload.destroy(new Error("gone"));
      await failed;
    }
    await delay(100);
    has(await space.stats(), { seq: 0, epoch });
    const again = await space.post("/broadcast", change);
    has(again, { status: 200, body: { seq: 1 } });
  });
});
