// What a route passes on to the sync Worker, and what it does not. WebSockets: tests/workerd.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { syncProxy } from "tidewire/server";
import { fake, ok, serve } from "./fake.ts";

beforeEach(() => void mock.method(console, "error", () => {}));
afterEach(() => mock.restoreAll());

const get = (url: string, headers: Record<string, string> = {}) => new Request(url, { headers });

describe("a request", () => {
  test("is passed on with path, query, cookies and body, and its answer comes back unchanged", async () => {
    const answer = new Response("made", { status: 201, headers: { "x-answer": "1" } });
    const { asked, env } = fake(answer);
    const { POST } = syncProxy();
    const request = new Request("https://app.example.com/broadcast?space=s&x=%20y", {
      method: "POST",
      body: '{"channel":"todos"}',
      headers: { cookie: "session=1", authorization: "Bearer key" },
    });
    const response = await POST({ request, platform: { env } });
    assert.deepEqual([response.status, await response.text(), response.headers.get("x-answer")], [201, "made", "1"]);
    const [call] = asked;
    assert.equal(call?.url.href, "https://app.example.com/broadcast?space=s&x=%20y");
    assert.deepEqual([call?.method, call?.body], ["POST", '{"channel":"todos"}']);
    assert.equal(call?.headers.get("cookie"), "session=1");
    assert.equal(call?.headers.get("authorization"), "Bearer key");
  });

  test("loses every header that means something inside, and gains the app's origin", async () => {
    const { asked, env } = fake(ok);
    const { GET } = syncProxy();
    const inside = ["grant", "publisher", "new-space", "owner", "origin", "of-a-later-version"];
    const forged = Object.fromEntries(inside.map((name) => [`X-Tidewire-${name}`, "forged"]));
    await GET({ request: get("https://app.example.com:8443/api/sync", { ...forged, origin: "https://evil.example" }), platform: { env } });
    const headers = [...(asked[0]?.headers ?? [])].filter(([name]) => name.startsWith("x-tidewire-"));
    assert.deepEqual(headers, [["x-tidewire-origin", "https://app.example.com:8443"]]);
    assert.equal(asked[0]?.headers.get("origin"), "https://evil.example");
  });

  test("goes to the URL's origin where there is no binding, whatever its path looks like", async (t) => {
    const { asked, fetch } = fake(ok);
    t.mock.method(globalThis, "fetch", fetch);
    const { GET } = syncProxy({ fallbackUrl: "https://sync.example.com/api/sync" });
    for (const path of ["/api/sync/team-7?token=t", "//evil.example/api/sync", "/\\evil.example", "/@evil.example", "/api/sync/../../x"]) {
      await GET(get(`https://app.example.com${path}`, { "accept-encoding": "br" }));
    }
    assert.deepEqual(new Set(asked.map(({ url }) => url.origin)), new Set(["https://sync.example.com"]));
    assert.equal(asked[0]?.url.href, "https://sync.example.com/api/sync/team-7?token=t");
    assert.equal(asked[1]?.url.pathname, "//evil.example/api/sync");
    assert.equal(asked[0]?.headers.get("accept-encoding"), "identity");
    assert.equal(asked[0]?.headers.get("x-tidewire-origin"), "https://app.example.com");
  });

  test("goes over the network as one of its own, with its body, and is not redirected", async (t) => {
    const seen: unknown[] = [];
    const origin = await serve(t, async (request, response) => {
      const body = Buffer.concat(await request.toArray()).toString();
      seen.push([request.headers.host, request.url, body]);
      response.writeHead(307, { location: "/elsewhere" }).end("moved");
    });
    const { POST } = syncProxy({ fallbackUrl: origin });
    const headers = { host: "app.example.com", "keep-alive": "5", "transfer-encoding": "chunked" };
    const response = await POST(new Request("https://app.example.com/broadcast", { method: "POST", body: "{}", headers }));
    assert.deepEqual([response.status, response.headers.get("location")], [307, "/elsewhere"]);
    assert.deepEqual(seen, [[new URL(origin).host, "/broadcast", "{}"]]);
  });

  test("takes the binding of its own event first, then that of the options", async () => {
    const [first, second] = [fake(ok), fake(ok)];
    const { GET } = syncProxy({ platform: { env: second.env } });
    await GET({ request: get("https://app.example.com/api/sync"), platform: { env: first.env } });
    await GET({ request: get("https://app.example.com/api/sync"), platform: undefined });
    await GET(get("https://app.example.com/api/sync"));
    assert.deepEqual([first.asked.length, second.asked.length], [1, 2]);
  });
});

describe("what cannot be passed on is 503", () => {
  const answers = async (response: Response) => {
    const { error } = (await response.json()) as { error: { code: string; message: string; retryable: boolean } };
    assert.equal(response.headers.get("cache-control"), "no-store");
    return [response.status, error.code, error.message, error.retryable];
  };

  test("and names the setting that is missing or wrong", async () => {
    const request = get("https://app.example.com/api/sync");
    const missing = "neither the binding SYNC_WORKER nor fallbackUrl (SYNC_WORKER_URL) is set";
    assert.deepEqual(await answers(await syncProxy().GET(request)), [503, "unavailable", missing, true]);
    const wrong = await syncProxy({ fallbackUrl: "sync.example.com" }).GET(request);
    assert.deepEqual(await answers(wrong), [503, "unavailable", "fallbackUrl (SYNC_WORKER_URL) is no URL", true]);
  });

  test("and does not tell why nobody answered", async () => {
    const { env } = fake(new Error("connection to 10.0.0.1 lost"));
    const response = await syncProxy({ platform: { env } }).GET(get("https://app.example.com/api/sync?token=t0k3n"));
    assert.deepEqual(await answers(response), [503, "unavailable", "not available now, try again", true]);
  });
});
