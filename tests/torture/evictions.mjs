// Games of tests/torture/evict.mjs for MINUTES, one after the other, the seeds that once failed first.
import { start } from "../workerd/harness.mjs";
import { keptSeeds, seedOf, setting } from "./chance.mjs";
import { demandAnswers, demandCounts } from "./demands.mjs";
import { evict, options } from "./evict.mjs";

const minutes = setting("MINUTES", 10);
/** Acts of one game. */
const steps = setting("STEPS", 400);
/** In a thousand acts at least: half of what there is. */
const LEAST = { writes: 350, publishes: 65, drops: 30, sleeps: 13, restarts: 7, panics: 20, changes: 475 };

const first = seedOf();
console.log(`evictions: SEED=${first} MINUTES=${minutes} STEPS=${steps}`);
const workers = await start(options);
const end = Date.now() + minutes * 60_000;
const kept = process.env.SEED ? [] : keptSeeds("evictions");
const totals = { games: 0 };
for (let nth = 0; Date.now() < end; nth += 1) {
  const counts = await evict({ workers, seed: kept[nth] ?? first + nth - kept.length, steps });
  for (const [name, count] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + count;
  totals.games += 1;
  if (totals.games % 25 === 0) console.log(`  ${JSON.stringify(totals)}`);
}
console.log(`  ${JSON.stringify(totals)}, ${workers.givenUp.length} requests given up${workers.givenUp.map((path) => ` ${path}`)}`);
await workers.stop();
demandAnswers(workers);
const thousands = (totals.games * steps) / 1_000;
demandCounts(totals, Object.fromEntries(Object.entries(LEAST).map(([name, least]) => [name, Math.floor(least * thousands)])));
process.exit(0);
