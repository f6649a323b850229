// The queue's consumer: what becomes of each message, whatever the others are.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test, type Mock } from "node:test";
import { queueConsumer, type QueueOptions, type TidewireError } from "tidewire/server";
import { fake, KEY, ok, refusal, unavailable, withoutJitter, type Answer, type Asked } from "./fake.ts";

let log: Mock<typeof console.error>;
beforeEach(() => {
  log = mock.method(console, "error", () => {});
  withoutJitter();
});
afterEach(() => mock.restoreAll());

const change = (key: string, more: object = {}) => ({ channel: "todos", action: "create", key, data: { title: "secret row" }, ...more });

interface Delivered {
  readonly id: string;
  readonly body: unknown;
  readonly attempts?: number;
}

/** Delivers messages: what became of each, by id, and the calls. */
async function deliver(messages: readonly Delivered[], answers: Answer[], options: QueueOptions = {}, env?: object) {
  const worker = fake(...answers);
  const fates: Record<string, unknown[]> = {};
  const tell = (id: string, fate: unknown) => void (fates[id] ??= []).push(fate);
  const batch = messages.map(({ id, body, attempts = 1 }) => ({
    id,
    body,
    attempts,
    ack: () => tell(id, "ack"),
    retry: (options?: { delaySeconds?: number }) => tell(id, options?.delaySeconds ?? "retry"),
  }));
  await queueConsumer({ retry: { attempts: 1 }, ...options })({ messages: batch }, env ?? worker.env);
  const keys = worker.asked.map(({ headers }) => headers.get("idempotency-key"));
  const sent = worker.asked.map(({ body }) => keysOf(body));
  return { fates, keys, sent, asked: worker.asked };
}

const keysOf = (body: string) => (JSON.parse(body).events as { key: string }[]).map(({ key }) => key).join("");

/** Refuses a batch that holds such a key, naming the first. */
const naming = (bad: RegExp, at = (index: number) => `events[${index}].data`): Answer => ({ body }: Asked) => {
  const index = [...keysOf(body)].findIndex((key) => bad.test(key));
  return index < 0 ? ok() : refusal(400, "invalid", { field: at(index) })();
};

const several = [..."abcd"].map((key) => ({ id: `m-${key}`, body: change(key) }));
const acked = { "m-a": ["ack"], "m-b": ["ack"], "m-c": ["ack"], "m-d": ["ack"] };

describe("messages", () => {
  test("of one delivery are one batch, and each is acknowledged", async () => {
    const { fates, asked, sent } = await deliver(several, [ok]);
    assert.deepEqual(sent, ["abcd"]);
    assert.equal(asked[0]?.url.pathname, "/broadcast-batch");
    assert.deepEqual(fates, acked);
    assert.equal(log.mock.callCount(), 0);
  });

  test("that are delivered again together are the same publish", async () => {
    const { keys: [first] } = await deliver(several, [ok]);
    const { keys: [again] } = await deliver(several.map((message) => ({ ...message, attempts: 3 })), [ok]);
    const { keys: [fewer] } = await deliver(several.slice(1), [ok]);
    assert.ok(first);
    assert.equal(again, first);
    assert.notEqual(fewer, first);
  });

  test("that were published in other words count as published", async () => {
    const { fates } = await deliver(several, [refusal(409, "conflict")]);
    assert.deepEqual(fates, acked);
  });

  test("go separately where that is asked, each with a key of its own", async () => {
    const options = { separately: true };
    const { fates, sent, keys } = await deliver(several, [ok, unavailable, ok], options);
    assert.deepEqual(sent, ["a", "b", "c", "d"]);
    assert.deepEqual(fates, { ...acked, "m-b": [0] });
    const { keys: regrouped } = await deliver(several.slice(1, 2), [ok], options);
    assert.deepEqual(regrouped, [keys[1]]);
    assert.equal(new Set(keys).size, 4);
  });

  test("of several spaces are a batch for each", async () => {
    const bodies = [change("a"), change("b", { space: "team-7" }), change("c")];
    const { asked, sent, fates } = await deliver(bodies.map((body, n) => ({ id: `${n}`, body })), [ok], { space: "home" });
    assert.deepEqual(asked.map(({ url }) => url.searchParams.get("space")), ["home", "team-7"]);
    assert.deepEqual(sent, ["ac", "b"]);
    assert.deepEqual(fates, { 0: ["ack"], 1: ["ack"], 2: ["ack"] });
  });

  test("of more than 8 MiB together go in several batches", async () => {
    const messages = [..."ab"].map((key) => ({ id: key, body: change(key, { data: { text: "x".repeat(5 * 1024 * 1024) } }) }));
    const { sent, fates } = await deliver(messages, [ok]);
    assert.deepEqual(sent, ["a", "b"]);
    assert.deepEqual(fates, { a: ["ack"], b: ["ack"] });
  });
});

describe("a bad message", () => {
  test("that the server names does not hold up the others", async () => {
    const { fates, sent } = await deliver(several, [naming(/[bd]/)]);
    assert.deepEqual(sent, ["abcd", "acd", "ac"]);
    assert.deepEqual(fates, { ...acked, "m-b": ["retry"], "m-d": ["retry"] });
  });

  test("that nobody names is found by halving", async () => {
    const { fates, sent } = await deliver(several, [naming(/c/, () => "body")]);
    assert.deepEqual(sent, ["abcd", "ab", "cd", "c", "d"]);
    assert.deepEqual(fates, { ...acked, "m-c": ["retry"] });
  });

  test("that is none at all is not sent", async () => {
    const bodies = [null, "text", 5, {}, { channel: 5 }, change("x", { data: [] }), change("x", { space: "A" }), undefined];
    const huge = change("x", { data: { text: "x".repeat(8 * 1024 * 1024) } });
    const messages = [...bodies, huge].map((body, n) => ({ id: `bad-${n}`, body }));
    const { fates, sent } = await deliver([...messages, ...several], [ok]);
    assert.deepEqual(sent, ["abcd"]);
    assert.deepEqual(fates, { ...Object.fromEntries(messages.map(({ id }) => [id, ["retry"]])), ...acked });
  });

  test("goes to whoever asks for it, and is acknowledged then", async () => {
    const seen: [string, string][] = [];
    const onRefused = ({ id }: { id: string }, error: TidewireError) => {
      if (id === "m-d") throw new Error("nowhere to put it");
      seen.push([id, error.code]);
    };
    const { fates } = await deliver(several, [naming(/[bd]/)], { onRefused });
    assert.deepEqual(seen, [["m-b", "invalid"]]);
    assert.deepEqual(fates, { ...acked, "m-d": ["retry"] });
  });

  test("is told in the log by its id, without its row or the key", async () => {
    await deliver(several, [naming(/b/)]);
    const lines = log.mock.calls.map(({ arguments: [line] }) => String(line));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /^queue message m-b cannot be published: refused with invalid \(400\)/);
    assert.ok(!lines.some((line) => line.includes("secret row") || line.includes(KEY)));
  });
});

describe("what is nobody's fault", () => {
  test("leaves all messages to the queue, with one pause that grows", async () => {
    for (const answer of [unavailable, refusal(401, "unauthorized"), refusal(500, "internal"), new Error("lost")]) {
      const { fates, sent } = await deliver(several, [answer]);
      assert.deepEqual(sent, ["abcd"]);
      assert.deepEqual(fates, { "m-a": [0], "m-b": [0], "m-c": [0], "m-d": [0] });
    }
    mock.restoreAll();
    mock.method(console, "error", () => {});
    mock.method(Math, "random", () => 1);
    const pause = async (attempts: number, more = {}) => {
      const messages = several.map((message, n) => ({ ...message, attempts: n === 0 ? attempts : 1 }));
      const { fates } = await deliver(messages, [refusal(503, "unavailable", { retryable: true, ...more })]);
      const pauses = new Set(Object.values(fates).flat());
      assert.equal(pauses.size, 1, "they come back together");
      return [...pauses][0];
    };
    assert.equal(await pause(1), 5);
    assert.equal(await pause(4), 40);
    assert.equal(await pause(100), 300);
    assert.equal(await pause(1, { retryAfterMs: 60_000 }), 65);
    assert.equal(await pause(1, { retryAfterMs: 1e12 }), 43_200);
  });

  test("and is missing in the settings fails the delivery by its name", async () => {
    await assert.rejects(deliver(several, [ok], {}, {}), /neither the binding SYNC_WORKER nor/);
    await assert.rejects(deliver([], [ok], {}, { SYNC_WORKER: { fetch } }), /PUBLISH_KEY/);
  });
});
