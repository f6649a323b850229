// Pauses, attempts and time, on a clock that only the pauses move.
import assert from "node:assert/strict";
import { test } from "node:test";
import { TidewireError } from "../../client/src/error.ts";
import { retrying, type Retry } from "../../client/src/server/retry.ts";

/** Runs a call that fails as told: its pauses, what each attempt may take, and the last error. */
async function run(retry: Retry, fail: (made: number) => Error | undefined, { random = 1, takes = 0 } = {}) {
  let now = 0;
  const pauses: number[] = [];
  const times: number[] = [];
  const clock = {
    now: () => now,
    random: () => random,
    sleep: async (ms: number) => void (pauses.push(ms), (now += ms)),
  };
  const attempt = async (ms: number) => {
    times.push(ms);
    now += Math.min(ms, takes);
    const error = fail(times.length);
    if (error !== undefined) throw error;
    return "done";
  };
  const outcome = await retrying(retry, attempt, clock).catch((error: unknown) => error);
  return { pauses, times, outcome, now };
}

const later = (retryAfterMs?: number) => new TidewireError("unavailable", "later", { retryable: true, retryAfterMs });

test("pauses double up to a bound, and are random from nothing on", async () => {
  const { pauses, outcome } = await run({ attempts: 10, timeoutMs: 120_000 }, () => later());
  assert.deepEqual(pauses, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000, 5_000]);
  assert.equal((outcome as TidewireError).code, "unavailable");
  const { pauses: none } = await run({}, () => later(), { random: 0 });
  assert.deepEqual(none, [0, 0, 0]);
});

test("a server's pause is kept, and jitter comes on top of it", async () => {
  const { pauses, outcome } = await run({}, (made) => (made === 1 ? later(7_000) : undefined), { random: 0.5 });
  assert.deepEqual(pauses, [7_100]);
  assert.equal(outcome, "done");
});

test("a pause that would outlast the time is not begun", async () => {
  const { pauses, times, outcome } = await run({}, () => later(30_000));
  assert.deepEqual([pauses.length, times.length], [0, 1]);
  assert.equal((outcome as TidewireError).retryAfterMs, 30_000);
});

test("attempts that hang are given up one by one, all within the time", async () => {
  const { times, now } = await run({ attempts: 10 }, () => later(), { random: 0, takes: 60_000 });
  assert.deepEqual(times, [10_000, 10_000, 10_000]);
  assert.equal(now, 30_000);
});

test("what is not retryable, or not ours, is thrown at once", async () => {
  for (const error of [new TidewireError("invalid", "no"), new TypeError("a defect")]) {
    const { times, outcome } = await run({}, () => error);
    assert.equal(times.length, 1);
    assert.equal(outcome, error);
  }
});
