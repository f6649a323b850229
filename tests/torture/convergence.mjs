// The long game of tests/torture/converge.mjs: OPERATIONS of five clients, after the seeds that once failed.
import { start } from "../workerd/harness.mjs";
import { keptSeeds, seedOf, setting } from "./chance.mjs";
import { converge, vars } from "./converge.mjs";
import { demandAnswers } from "./demands.mjs";

const operations = setting("OPERATIONS", 10_000);
const workers = await start({ vars });
try {
  for (const seed of process.env.SEED ? [seedOf()] : [...keptSeeds("convergence"), seedOf()]) {
    console.log(`convergence: SEED=${seed} OPERATIONS=${operations}`);
    const began = Date.now();
    const counts = await converge({ workers, seed, operations, say: (what) => console.log(`  ${what}`) });
    console.log(`  ${JSON.stringify(counts)} in ${Math.round((Date.now() - began) / 1_000)} s`);
  }
  console.log(`  ${workers.givenUp.length} requests given up${workers.givenUp.map((path) => ` ${path}`)}`);
  demandAnswers(workers);
} finally {
  await workers.stop();
}
