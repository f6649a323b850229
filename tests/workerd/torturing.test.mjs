// Short games of what `make torture` plays for long, for correctness alone: evictions and panics, a recovery storm,
// mixed work, many sockets. Convergence and costs have files of their own.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { seedOf } from "../torture/chance.mjs";
import { demandAnswers, demandCounts } from "../torture/demands.mjs";
import { evict, isPolled, options } from "../torture/evict.mjs";
import { fill } from "../torture/fill.mjs";
import { overtaken, recover, worstOfEach } from "../torture/recover.mjs";
import { growth, work } from "../torture/work.mjs";
import { start } from "./harness.mjs";
import { hasProc } from "./process.mjs";

const seed = seedOf();
/** What a game measures is read from /proc. */
const skip = !hasProc && "there is no /proc here";
/** Nobody is timed here: so long is given up in any case. */
const PATIENCE_MS = 60_000;

test(`nothing is lost or doubled between evictions and panics, SEED=${seed}`, async (t) => {
  const workers = await start(options);
  try {
    const totals = {};
    // One of three in a row is polled and has no evictions; two are enough, if it is one of them.
    const polled = [seed, seed + 1, seed + 2].find(isPolled);
    for (const one of [polled, polled + 1]) {
      const counts = await evict({ workers, seed: one, steps: 150, hardship: 5 });
      for (const [name, count] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + count;
    }
    t.diagnostic(`${JSON.stringify(totals)}, given up: ${workers.givenUp}`);
    demandAnswers(workers);
    const one = { writes: 1, publishes: 1, drops: 1, sleeps: 1, restarts: 1, panics: 1, comebacks: 1, changes: 1 };
    demandCounts(totals, one);
  } finally {
    await workers.stop();
  }
});

test(`a storm of clients that come back loses and doubles nothing, SEED=${seed}`, { skip }, async (t) => {
  const [perSecond, seconds, count] = [20, 3, 60];
  const storm = await recover({ seed, count, perSecond, seconds, pauseMs: 300, calmMs: 500 });
  const { publishes, backs, ...counts } = storm;
  t.diagnostic(JSON.stringify(counts));
  demandCounts(counts, { storms: 2, comebacks: count });
  assert.equal(publishes.length, perSecond * seconds);
  // Each client has the events of one of 50 users.
  assert.ok(counts.events >= publishes.length);
});

test(`mixed work leaves everybody with the same, SEED=${seed}`, { skip }, async (t) => {
  const { counts, samples } = await work({ seed, rate: 100, samples: 3, sampleMs: 1_000, closeEvery: 200, hardship: 4 });
  t.diagnostic(JSON.stringify(counts));
  demandCounts(counts, Object.fromEntries(Object.keys(counts).map((name) => [name, 1])));
  assert.equal(samples.length, 4);
  for (const { rss, heap, wasm, storageBytes } of samples) {
    assert.ok(rss > heap + wasm && heap > 0 && wasm > 0 && storageBytes > 0, JSON.stringify(samples));
  }
});

for (const deflate of [false, true]) {
  const frames = deflate ? "packed" : "plain";
  test(`two hundred sockets with ${frames} frames, and an object that answers meanwhile, SEED=${seed}`, { skip }, async (t) => {
    const { waits, before, after } = await fill({ seed, count: 200, deflate, pauseMs: 50, answerMs: PATIENCE_MS });
    t.diagnostic(`${waits.length} answers`);
    assert.ok(waits.length >= 2);
    assert.ok(after.rss > before.rss, "sockets take memory");
  });
}

describe("what is measured", () => {
  test("growth sees what rises in the second half, and nothing else", () => {
    const samples = (rise) =>
      Array.from({ length: 61 }, (_, at) => ({ rss: 50, heap: 10 + (at % 2), wasm: at < 20 ? at : 20, storageBytes: at * rise, each: at * 10 }));
    const { rss, heap, wasm, storageEach } = growth(samples(900));
    assert.deepEqual([rss, wasm, storageEach], [0, 0, 90]);
    assert.ok(Math.abs(heap) < 0.1);
    const leaking = samples(0).map((sample, at) => ({ ...sample, heap: at }));
    assert.ok(Math.abs(growth(leaking).heap - 30) < 1e-9);
  });

  test("who is overtaken is told by the youngest before it", () => {
    const publish = (publisher, asked, answered) => ({ publisher, asked, answered, seq: asked });
    const publishes = [publish(0, 0, 50), publish(1, 10, 20), publish(0, 60, 70), publish(1, 30, 45)];
    assert.deepEqual(overtaken(publishes, "answered"), [0, 0, 30, 0]);
    assert.deepEqual(overtaken(publishes, "seq"), [0, 0, 0, 0]);
    assert.deepEqual(worstOfEach(publishes), [50, 15]);
  });
});
