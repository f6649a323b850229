// Publishing from TypeScript, against a sync Worker that answers as it is told.
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { inspect } from "node:util";
import { createBulkPublisher, createPublisher, TidewireError, type PublisherOptions } from "tidewire/server";
import { fake, KEY, ok, published, refusal, serve, unavailable, withoutJitter, type Answer } from "./fake.ts";

/** What a publish is refused with. */
async function refused(publish: Promise<unknown>): Promise<TidewireError> {
  const error = await publish.then(() => assert.fail("it was published"), (error: unknown) => error);
  assert.ok(error instanceof TidewireError, String(error));
  assert.ok(!inspect(error, { showHidden: true, depth: 9 }).includes(KEY), "the key is shown");
  return error;
}

const row = { id: "t1", title: "milk" };
const one = (options: PublisherOptions) => createPublisher(options)("todos", "create", "t1", row);

describe("a publish", () => {
  test("is one call with the key, and answers what happened", async () => {
    const { asked, env } = fake(ok);
    const publish = createPublisher({ platform: { env }, space: "team-7" });
    const to = ["user:alice"];
    assert.deepEqual(await publish("todos:x", "update", "t1", { done: true }, { to }), published);
    const [call] = asked;
    assert.equal(call?.method, "POST");
    assert.equal(`${call?.url.pathname}${call?.url.search}`, "/broadcast?space=team-7");
    assert.equal(call?.headers.get("authorization"), `Bearer ${KEY}`);
    assert.deepEqual(JSON.parse(call?.body ?? ""), { channel: "todos:x", action: "update", key: "t1", to, data: { done: true } });
  });

  test("of a delete carries no data, whatever a caller of old gives it", async () => {
    const { asked, env } = fake(ok);
    const publish = createPublisher({ platform: { env } });
    await publish("todos", "delete", "t1", { updatedAt: "2026" } as unknown as undefined);
    assert.deepEqual(JSON.parse(asked[0]?.body ?? ""), { channel: "todos", action: "delete", key: "t1" });
  });

  test("of what is no row, no space, no key, or too large is refused unsent", async () => {
    const { asked, env } = fake(ok);
    const publish = createPublisher({ platform: { env } });
    const cycle: Record<string, unknown> = {};
    cycle["self"] = cycle;
    for (const data of [null, [1], "{}", undefined, 1n, cycle, () => row]) {
      const { code, field, retryable } = await refused(publish("todos", "create", "t1", data as object));
      assert.deepEqual([code, field, retryable], ["invalid", "data", false]);
    }
    for (const space of ["", "Team", "a/b", "session", "x".repeat(65)]) {
      const { field } = await refused(one({ platform: { env }, space }));
      assert.equal(field, "space");
    }
    for (const idempotencyKey of ["", "x".repeat(129), "ö", "a\nb"]) {
      const { field } = await refused(publish("todos", "create", "t1", row, { idempotencyKey }));
      assert.equal(field, "idempotencyKey");
    }
    const { code } = await refused(publish("todos", "create", "t1", { text: "x".repeat(8 * 1024 * 1024) }));
    assert.equal(code, "frame_too_large");
    assert.equal(asked.length, 0);
  });
});

describe("a publisher's way", () => {
  test("is the object's binding, else the service binding, else the URL", async (t) => {
    const object = fake(ok);
    const worker = fake(ok);
    const named = fake(ok);
    const names: string[] = [];
    const SYNC_ENGINE = {
      idFromName: (name: string) => names.push(name) && name,
      get: () => ({ fetch: object.fetch }),
    };
    const network = t.mock.method(globalThis, "fetch", fake(ok).fetch);
    const env: Record<string, unknown> = { SYNC_ENGINE, ...worker.env, OTHER: { fetch: named.fetch } };
    const options = { fallbackUrl: "https://sync.example.com", key: KEY };
    const counts = () => [object, worker, named].map(({ asked }) => asked.length).concat(network.mock.callCount());

    await one({ platform: { env }, space: "s" });
    assert.deepEqual(counts(), [1, 0, 0, 0]);
    assert.deepEqual(names, ["s"]);
    assert.equal(object.asked[0]?.headers.get("authorization"), null, "the key stays here");
    delete env["SYNC_ENGINE"];
    await one({ platform: { env }, ...options });
    await one({ platform: { env }, ...options, binding: "OTHER" });
    assert.deepEqual(counts(), [1, 1, 1, 0]);
    delete env["SYNC_WORKER"];
    await one({ platform: { env }, ...options });
    await one(options);
    await one({ platform: { env: { SYNC_WORKER_URL: "https://sync.example.com", PUBLISH_KEY: KEY } } });
    assert.deepEqual(counts(), [1, 1, 1, 3]);
  });

  test("by URL is an origin, or ends in /api/sync", async (t) => {
    const { asked, fetch } = fake(ok);
    t.mock.method(globalThis, "fetch", fetch);
    for (const end of ["", "/", "/api/sync", "/api/sync/", "?x=1", "/api/sync#y"]) {
      await one({ fallbackUrl: `https://sync.example.com:8443${end}`, key: KEY });
    }
    await one({ fallbackUrl: new URL("https://sync.example.com:8443"), key: KEY });
    assert.deepEqual(new Set(asked.map(({ url }) => url.href)), new Set(["https://sync.example.com:8443/broadcast?space=global"]));
    assert.equal(asked.length, 7);
  });

  test("that is missing or wrong is told by its name, and nothing is sent", async () => {
    const { asked, env } = fake(ok);
    const { SYNC_WORKER } = env;
    const wrong: [PublisherOptions, RegExp][] = [
      [{}, /neither the binding SYNC_WORKER nor fallbackUrl \(SYNC_WORKER_URL\) is set/],
      [{ platform: { env }, binding: "NONE" }, /neither the binding NONE nor/],
      [{ platform: null, fallbackUrl: "", key: KEY }, /SYNC_WORKER_URL/],
      [{ platform: { env: { SYNC_WORKER } } }, /key \(PUBLISH_KEY\) is not set/],
      [{ platform: { env }, key: "" }, /key \(PUBLISH_KEY\) is not set/],
      [{ platform: { env: { SYNC_WORKER, PUBLISH_KEY: 5 } } }, /key \(PUBLISH_KEY\) is not set/],
      [{ platform: { env }, key: `${KEY}\n` }, /a header cannot carry/],
      [{ platform: { env }, key: `Bearer ${KEY}` }, /a header cannot carry/],
      [{ fallbackUrl: KEY, key: KEY }, /is no URL/],
      [{ fallbackUrl: "ftp://sync.example.com", key: KEY }, /is no http\(s\) URL/],
      [{ fallbackUrl: `https://me:${KEY}@sync.example.com`, key: KEY }, /must not hold credentials/],
      [{ fallbackUrl: `https://sync.example.com/${KEY}`, key: KEY }, /must be an origin, or end in \/api\/sync/],
      [{ platform: { env }, retry: { attempts: 0 } }, /retry.attempts/],
      [{ platform: { env }, retry: { attempts: 11 } }, /retry.attempts/],
      [{ platform: { env }, retry: { attempts: Number.NaN } }, /retry.attempts/],
      [{ platform: { env }, retry: { timeoutMs: 120_001 } }, /retry.timeoutMs/],
    ];
    for (const [options, told] of wrong) {
      for (const publish of [one(options), createBulkPublisher(options)("todos", [{ action: "delete", key: "t1" }])]) {
        const error = await refused(publish);
        assert.equal(error.code, "misconfigured");
        assert.match(error.message, told);
      }
    }
    assert.equal(asked.length, 0);
  });
});

describe("what does not succeed", () => {
  /** Publishes against answers in turn: the outcome, and the idempotency keys of the calls. */
  async function attempt(t: TestContext, answers: Answer[], options: PublisherOptions = {}) {
    const { asked, env } = fake(...answers);
    const jitter = withoutJitter();
    t.after(() => jitter.mock.restore());
    const error = await one({ platform: { env }, ...options }).then(() => undefined, (error: TidewireError) => error);
    if (error !== undefined) await refused(Promise.reject(error));
    return { error, keys: asked.map(({ headers }) => headers.get("idempotency-key")), asked };
  }

  test("now is tried again, with one idempotency key for all attempts", async (t) => {
    const lost = new Error("network connection lost");
    const page = () => new Response("<h1>bad gateway</h1>", { status: 502 });
    const { error, keys, asked } = await attempt(t, [unavailable, lost, page, ok]);
    assert.equal(error, undefined);
    assert.equal(keys.length, 4);
    assert.equal(new Set(keys).size, 1);
    assert.ok(keys[0]);
    assert.equal(new Set(asked.map(({ body }) => body)).size, 1);
    const { keys: others } = await attempt(t, [ok]);
    assert.notEqual(others[0], keys[0], "another publish has another key");
  });

  test("for good is not tried again", async (t) => {
    for (const [status, code] of [[400, "invalid"], [401, "unauthorized"], [403, "forbidden"], [409, "conflict"], [500, "internal"]] as const) {
      const { error, keys } = await attempt(t, [refusal(status, code, { field: "key" })]);
      assert.deepEqual([error?.code, error?.status, error?.field, error?.retryable], [code, status, "key", false]);
      assert.equal(error?.message, `refused with ${code} (${status}): no`);
      assert.equal(keys.length, 1);
    }
    // Somebody else's pages: a missing path, a login that redirects. Neither key nor row follow.
    for (const status of [404, 405, 302]) {
      const page = () => new Response("", { status, headers: { location: "https://elsewhere.example/" } });
      const { error, keys } = await attempt(t, [page]);
      assert.deepEqual([error?.code, error?.status, error?.retryable], ["no_answer", status, false]);
      assert.equal(keys.length, 1);
    }
  });

  test("ever is given up after so many attempts, and told as retryable", async (t) => {
    const { error, keys } = await attempt(t, [unavailable]);
    assert.deepEqual([error?.code, error?.retryable], ["unavailable", true]);
    assert.equal(keys.length, 4);
    const twice = await attempt(t, [() => new Response("{")], { retry: { attempts: 2 } });
    assert.deepEqual([twice.error?.code, twice.error?.retryable], ["no_answer", true]);
    assert.equal(twice.keys.length, 2);
  });

  test("and may not be tried again has no key of its own", async (t) => {
    const { keys } = await attempt(t, [unavailable], { retry: { attempts: 1 } });
    assert.deepEqual(keys, [null]);
  });

  test("within the time is given up, and the call is aborted", async () => {
    let aborted = false;
    const fetch = (_: unknown, init?: RequestInit) =>
      new Promise<Response>((_, reject) => {
        init?.signal?.addEventListener("abort", () => {
          aborted = true;
          reject(new Error("aborted"));
        });
      });
    const env = { SYNC_WORKER: { fetch }, PUBLISH_KEY: KEY };
    const error = await refused(one({ platform: { env }, retry: { attempts: 1, timeoutMs: 20 } }));
    assert.deepEqual([error.code, error.retryable, aborted], ["no_answer", true, true]);
    assert.match(error.message, /no answer within \d+ ms/);
  });

  test("says how long to wait, by body or by header", async (t) => {
    const hour = { retryable: true, retryAfterMs: 3_600_000 };
    const { error, keys } = await attempt(t, [refusal(429, "rate_limited", hour)]);
    assert.deepEqual([error?.retryAfterMs, keys.length], [3_600_000, 1], "the time is over before");
    const later = (value: string) => () => new Response("", { status: 503, headers: { "retry-after": value } });
    const { error: bySeconds } = await attempt(t, [later("120")]);
    assert.equal(bySeconds?.retryAfterMs, 120_000);
    const { error: byDate } = await attempt(t, [later(new Date(Date.now() + 3_600_000).toUTCString())]);
    assert.ok((byDate?.retryAfterMs ?? 0) > 3_500_000);
  });
});

describe("over the network", () => {
  /** A server that answers everything alike, and what it was asked. */
  const answering = async (t: TestContext, status: number, body: string, headers = {}) => {
    const requests: { url: string | undefined; key: string | undefined }[] = [];
    const origin = await serve(t, (request, response) => {
      requests.push({ url: request.url, key: request.headers.authorization });
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
    });
    return { origin, requests };
  };

  test("a publish arrives with its key", async (t) => {
    const { origin, requests } = await answering(t, 200, JSON.stringify(published));
    assert.deepEqual(await one({ fallbackUrl: `${origin}/api/sync`, key: KEY }), published);
    assert.deepEqual(requests, [{ url: "/broadcast?space=global", key: `Bearer ${KEY}` }]);
  });

  test("a redirect is not followed", async (t) => {
    const { origin, requests } = await answering(t, 307, "", { location: "/elsewhere" });
    const { code } = await refused(one({ fallbackUrl: origin, key: KEY }));
    assert.deepEqual([code, requests.length], ["no_answer", 1]);
  });

  test("nobody there is no answer", async () => {
    const error = await refused(one({ fallbackUrl: "http://127.0.0.1:9", key: KEY, retry: { attempts: 1 } }));
    assert.deepEqual([error.code, error.retryable, error.status], ["no_answer", true, undefined]);
  });
});

describe("a list", () => {
  const changes = (count: number) => Array.from({ length: count }, (_, n) => ({ action: "delete" as const, key: `t${n}` }));
  const sizes = (asked: readonly { body: string }[]) => asked.map(({ body }) => JSON.parse(body).events.length as number);

  test("is one batch of up to 1,000 changes, and several of more", async () => {
    for (const [count, expected] of [[0, []], [1, [1]], [1_000, [1_000]], [1_001, [1_000, 1]]] as const) {
      const { asked, env } = fake(ok);
      const answers = await createBulkPublisher({ platform: { env } })("todos", changes(count));
      assert.deepEqual(sizes(asked), expected);
      assert.equal(answers.length, expected.length);
      assert.ok(asked.every(({ url }) => url.pathname === "/broadcast-batch"));
    }
  });

  test("is cut at 8 MiB of UTF-8, and a larger change is refused", async () => {
    const { asked, env } = fake(ok);
    const publishAll = createBulkPublisher({ platform: { env } });
    const change = (text: string) => ({ action: "create" as const, key: "t", data: { text } });
    const envelope = JSON.stringify({ events: [{ channel: "todos", action: "create", key: "t", data: { text: "" } }] }).length;
    const most = 8 * 1024 * 1024 - envelope;
    await publishAll("todos", [change(""), change("é".repeat(Math.floor(most / 2))), change("")]);
    assert.deepEqual(sizes(asked), [1, 1, 1]);
    const [, largest] = asked;
    assert.equal(new TextEncoder().encode(largest?.body).byteLength, 8 * 1024 * 1024 - (most % 2));
    const { code } = await refused(publishAll("todos", [change("x".repeat(most + 1))]));
    assert.equal(code, "frame_too_large");
    assert.equal(asked.length, 3);
    // Two fill a body to its last byte, the comma between them counted; a byte more is another body.
    const rest = most - JSON.stringify({ channel: "todos", ...change("") }).length - 1;
    await publishAll("todos", [change(""), change("x".repeat(rest))]);
    await publishAll("todos", [change(""), change("x".repeat(rest + 1))]);
    assert.deepEqual(sizes(asked).slice(3), [2, 1, 1]);
    assert.equal(asked[3]?.body.length, 8 * 1024 * 1024);
  });

  test("may be of several channels", async () => {
    const { asked, env } = fake(ok);
    const events = [
      { channel: "todos", action: "update", key: "t1", data: { done: true }, to: "all" },
      { channel: "notes", action: "delete", key: "n1" },
    ] as const;
    await createBulkPublisher({ platform: { env } })(events);
    assert.deepEqual(JSON.parse(asked[0]?.body ?? ""), { events });
  });

  test("that fails in a later batch says how far it went, and goes on when it is repeated", async () => {
    const { asked, env } = fake(ok, refusal(400, "invalid", { field: "events[0].key" }), ok);
    const publishAll = createBulkPublisher({ platform: { env } });
    const options = { idempotencyKey: "x".repeat(128) };
    const error = await refused(publishAll("todos", changes(1_001), options));
    assert.deepEqual([error.code, error.field, error.published], ["invalid", "events[0].key", 1_000]);
    await publishAll("todos", changes(1_001), options);
    const [first, second, third, fourth] = asked.map(({ headers }) => headers.get("idempotency-key"));
    assert.deepEqual([third, fourth], [first, second]);
    assert.notEqual(first, second);
    assert.ok(first?.length === 64);
    // A list that fits has the very key, so that it is the same publish whoever makes it.
    await publishAll("todos", changes(1), { idempotencyKey: "order-17" });
    assert.equal(asked[4]?.headers.get("idempotency-key"), "order-17");
  });
});
