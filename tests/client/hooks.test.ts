// Whose questions are answered, and what of them is refused before a handler runs.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { defineSync, syncHooks, type HooksOptions } from "tidewire/server";
import { ask, common, question, read, SECRET, signature, signed } from "./asking.ts";

let logged: string[];
beforeEach(() => {
  logged = [];
  mock.method(console, "error", (line: string) => void logged.push(line));
});
afterEach(() => mock.restoreAll());

const env = { HOOK_SECRET: SECRET };
let fetched = 0;
const todos = defineSync({ channel: "todos", fetch: async () => ((fetched += 1), [{ id: "t1" }]) });
const { POST } = syncHooks([todos]);
const body = question("fetch");

/** The status of an answer, the code of a refusal, and that no handler has run for one. */
async function verdict(request: Request, settings: object = env, options: HooksOptions = {}): Promise<unknown[]> {
  const before = fetched;
  const { status, body } = await read(await syncHooks([todos], options).POST(request, settings));
  assert.equal(fetched - before, status === 200 ? 1 : 0);
  return status === 200 ? [200] : [status, body.error.code];
}

describe("a signature", () => {
  test("is that of Standard Webhooks: its published example holds", async (t) => {
    // https://github.com/standard-webhooks/standard-webhooks, the test of its libraries.
    const [secret, id, timestamp] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330];
    const made = signature('{"test": 2432232314}', id, timestamp, Buffer.from(secret.slice(6), "base64"));
    assert.equal(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    t.mock.timers.enable({ apis: ["Date"], now: timestamp * 1_000 });
    const request = signed("fetch", '{"test": 2432232314}', { secret: Buffer.from(secret.slice(6), "base64"), id, timestamp });
    // It is genuine, and no question.
    assert.deepEqual(await verdict(request, { HOOK_SECRET: secret }), [400, "unsupported_version"]);
  });

  test("of a text is by its UTF-8, of whsec_ by the bytes that it stands for", async () => {
    assert.deepEqual(await verdict(signed("fetch", body, { secret: "gehäim" }), { HOOK_SECRET: "gehäim" }), [200]);
    const whsec = `whsec_${Buffer.from("gehäim").toString("base64")}`;
    assert.deepEqual(await verdict(signed("fetch", body, { secret: "gehäim" }), { HOOK_SECRET: whsec }), [200]);
    assert.deepEqual(await verdict(signed("fetch", body, { secret: whsec }), { HOOK_SECRET: whsec }), [401, "bad_signature"]);
  });

  test("covers id, time and body, to the byte", async () => {
    const headers = (change: Record<string, string>, text = body) => {
      const { headers, url } = signed("fetch", body);
      return new Request(url, { method: "POST", body: text, headers: { ...Object.fromEntries(headers), ...change } });
    };
    assert.deepEqual(await verdict(headers({})), [200]);
    for (const tampered of [
      headers({ "webhook-id": "another" }),
      headers({ "webhook-timestamp": String(Math.floor(Date.now() / 1_000) - 1) }),
      headers({}, body.replace("alice", "mallory")),
      headers({}, `${body} `),
      headers({ "webhook-signature": signature(body, "x", 1, SECRET) }),
      headers({ "webhook-signature": "v1," }),
    ]) {
      assert.deepEqual(await verdict(tampered), [401, "bad_signature"]);
    }
  });

  test("is needed, whole", async () => {
    for (const name of ["webhook-id", "webhook-timestamp", "webhook-signature"]) {
      const request = signed("fetch", body);
      request.headers.delete(name);
      assert.deepEqual(await verdict(request), [401, "bad_signature"], name);
    }
    for (const [name, value] of [
      ["webhook-timestamp", "now"],
      ["webhook-timestamp", "1e9"],
      ["webhook-signature", "v1,%%%"],
      ["webhook-signature", signature(body, "x", 1, SECRET).replace("v1,", "v2,")],
    ] as const) {
      const request = signed("fetch", body);
      request.headers.set(name, value);
      assert.deepEqual(await verdict(request), [401, "bad_signature"], value);
    }
  });

  test("may be one of several, of which some are not ours", async () => {
    const request = signed("fetch", body);
    request.headers.set("webhook-signature", `v1a,abc v1,AAAA ${request.headers.get("webhook-signature")} junk`);
    assert.deepEqual(await verdict(request), [200]);
  });

  test("is looked for among the first four, each of 32 bytes", async () => {
    const beside = (count: number, bytes: number) => {
      const request = signed("fetch", body);
      const others = Array.from({ length: count }, () => `v1,${Buffer.alloc(bytes).toString("base64")} `);
      request.headers.set("webhook-signature", others.join("") + request.headers.get("webhook-signature"));
      return verdict(request);
    };
    assert.deepEqual(await beside(3, 32), [200]);
    assert.deepEqual(await beside(4, 32), [401, "bad_signature"]);
    for (const bytes of [31, 33]) assert.deepEqual(await beside(4, bytes), [200], `${bytes} bytes are no signature`);
    for (const bytes of [31, 33]) {
      const request = signed("fetch", body);
      request.headers.set("webhook-signature", `v1,${Buffer.alloc(bytes).toString("base64")}`);
      assert.deepEqual(await verdict(request), [401, "bad_signature"]);
    }
  });

  test("holds for 300 s either way, and not a second longer", async (t) => {
    const now = 1_700_000_000;
    t.mock.timers.enable({ apis: ["Date"], now: now * 1_000 + 999 });
    for (const [off, expected] of [[-300, [200]], [300, [200]], [-301, [401, "bad_signature"]], [301, [401, "bad_signature"]]] as const) {
      assert.deepEqual(await verdict(signed("fetch", body, { timestamp: now + off })), expected, String(off));
    }
    assert.match(logged.at(-1) ?? "", /more than 300 s off/);
  });
});

describe("the secret", () => {
  test("is named where it is missing, and nothing is answered then", async () => {
    for (const settings of [{}, { HOOK_SECRET: "" }, { HOOK_SECRET: 7 }, { HOOK_SECRET_PREVIOUS: SECRET }]) {
      const response = await read(await POST(signed("fetch", body), settings));
      assert.deepEqual([response.status, response.body.error.code], [500, "misconfigured"]);
      assert.match(response.body.error.message, /HOOK_SECRET/);
    }
    assert.deepEqual(await verdict(signed("fetch", body, { secret: "" }), {}, { secret: "" }), [500, "misconfigured"]);
    assert.deepEqual(await verdict(signed("fetch", body), {}, { secret: [] }), [500, "misconfigured"]);
    assert.deepEqual(await verdict(signed("fetch", body), { HOOK_SECRET: "whsec_" }), [500, "misconfigured"]);
    const broken = await read(await POST(signed("fetch", body), { HOOK_SECRET: "whsec_not base 64!" }));
    assert.deepEqual([broken.status, broken.body.error.code], [500, "misconfigured"]);
    assert.doesNotMatch(JSON.stringify([broken.body, logged]), /not base 64!/);
  });

  test("may change: the previous one counts beside it", async () => {
    const both = { HOOK_SECRET: "new", HOOK_SECRET_PREVIOUS: "old" };
    for (const secret of ["new", "old"]) {
      assert.deepEqual(await verdict(signed("fetch", body, { secret }), both), [200]);
      assert.deepEqual(await verdict(signed("fetch", body, { secret }), {}, { secret: ["new", "old"] }), [200]);
    }
    assert.deepEqual(await verdict(signed("fetch", body, { secret: "older" }), both), [401, "bad_signature"]);
  });

  test("of the options comes before the setting, and the event's own bindings before the options'", async () => {
    assert.deepEqual(await verdict(signed("fetch", body, { secret: "a" }), env, { secret: "a" }), [200]);
    assert.deepEqual(await verdict(signed("fetch", body), env, { secret: "a" }), [401, "bad_signature"]);
    const { POST } = syncHooks([todos], { platform: { env: { HOOK_SECRET: "a" } } });
    assert.equal((await POST(signed("fetch", body, { secret: "a" }))).status, 200);
    assert.equal((await POST({ request: signed("fetch", body, { secret: "a" }), platform: undefined })).status, 200);
    assert.equal((await POST({ request: signed("fetch", body), platform: { env } })).status, 200);
    assert.equal((await POST({ request: signed("fetch", body), platform: {} })).status, 500);
  });
});

describe("a question", () => {
  test("is a POST", async () => {
    const response = await POST(new Request("https://app/sync-hooks/fetch"), env);
    assert.deepEqual([response.status, response.headers.get("allow")], [405, "POST"]);
  });

  test("has 8 MiB at most, however it comes", async () => {
    const pad = (bytes: number) => body.replace("alice", "a".repeat(bytes - body.length + 5));
    const most = 8 * 1024 * 1024;
    assert.deepEqual(await verdict(signed("fetch", pad(most))), [200]);
    assert.deepEqual(await verdict(signed("fetch", pad(most + 1))), [413, "frame_too_large"]);
    const { url, headers } = signed("fetch", "");
    let sent = 0;
    const endless = new ReadableStream({ pull: (stream) => (stream.enqueue(new Uint8Array(1 << 20)), void (sent += 1)) });
    const streamed = new Request(url, { method: "POST", headers, body: endless, duplex: "half" });
    assert.deepEqual(await verdict(streamed), [413, "frame_too_large"]);
    assert.ok(sent < 15, `${sent} MiB were read`);
  });

  test("is what its path says", async () => {
    assert.deepEqual(await verdict(signed("create", body)), [400, "malformed"]);
    assert.deepEqual(await verdict(signed("fetch/", body)), [400, "malformed"]);
    const moved = signed("fetch", body);
    assert.deepEqual(await verdict(new Request("https://app/deep/below/fetch?x=/read", moved)), [200]);
  });

  test("of a version or an operation to come asks for a newer package", async () => {
    assert.deepEqual(await verdict(signed("fetch", question("fetch", { v: 2 }))), [400, "unsupported_version"]);
    const later = question("fetch", { operation: "count" });
    assert.deepEqual(await verdict(signed("count", later)), [400, "unsupported_version"]);
    assert.match(logged.at(-1) ?? "", /update the package tidewire/);
    assert.deepEqual(await verdict(signed("fetch", question("fetch", { later: 1, page: { token: null, limit: 1, more: 2 } }))), [200]);
  });

  test("that cannot be read is refused by its field", async () => {
    const field = async (operation: Parameters<typeof question>[0], more: object) => {
      const { status, body } = await ask(POST, operation, more);
      assert.deepEqual([status, body.error.code], [400, "malformed"], JSON.stringify(more));
      return body.error.message.split(" ")[0];
    };
    for (const [operation, more, name] of [
      ["fetch", { space: 7 }, "space"],
      ["fetch", { channel: "" }, "channel"],
      ["fetch", { session: undefined }, "session"],
      ["fetch", { identity: 7 }, "identity"],
      ["fetch", { identity: undefined }, "identity"],
      ["fetch", { topics: [7] }, "topics"],
      ["fetch", { claims: [] }, "claims"],
      ["fetch", { request: null }, "request"],
      ["fetch", { request: { url: "/api", headers: {} } }, "request.url"],
      ["fetch", { request: { url: "https://a", headers: { a: 1 } } }, "request.headers"],
      ["fetch", { request: { url: "https://a", headers: { a: "b\nc" } } }, "request"],
      ["fetch", { since: "2020" }, "since"],
      ["fetch", { since: -1 }, "since"],
      ["fetch", { since: 8_640_000_000_000_001 }, "since"],
      ["fetch", { page: { token: 7, limit: 1 } }, "page.token"],
      ["fetch", { page: { token: null, limit: 0 } }, "page.limit"],
      ["fetch", { authorize: undefined }, "authorize"],
      ["authorize", { on: { kind: "publish" } }, "on.kind"],
      ["authorize", { on: { kind: "create", key: 7 } }, "key"],
      ["create", { id: "" }, "id"],
      ["create", { data: [] }, "data"],
      ["update", { data: null }, "data"],
      ["delete", { key: null }, "key"],
      ["delete", { key: 1 }, "key"],
    ] as const) {
      assert.equal(await field(operation, more), name);
    }
    assert.deepEqual(await verdict(signed("fetch", "[]")), [400, "malformed"]);
    assert.deepEqual(await verdict(signed("fetch", "{")), [400, "malformed"]);
    assert.deepEqual(await verdict(signed("fetch", Buffer.from([0x22, 0xff, 0x22]))), [400, "malformed"]);
    assert.equal((await ask(POST, "fetch", { since: 8_640_000_000_000_000 })).status, 200);
  });

  test("does not put cookies or data into the log, whatever is wrong with it", async () => {
    await ask(POST, "fetch", { request: { url: common.request.url, headers: { cookie: "s3cret\n;" } } });
    await ask(POST, "create", { data: { id: "t1", text: "s3cret" }, topics: 7 });
    assert.equal(logged.length, 2);
    assert.doesNotMatch(logged.join("\n"), /s3cret/);
  });

  test("about a channel without handlers is told so", async () => {
    const { status, body } = await ask(POST, "fetch", { channel: "todosx" });
    assert.deepEqual([status, body.error.code], [404, "unknown_channel"]);
    assert.throws(() => syncHooks([todos, todos]), { code: "misconfigured", message: "two handlers are for the channel todos" });
  });
});
