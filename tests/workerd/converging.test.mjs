// A short game of what `make torture` plays for long: five clients end equal to each other and to the
// server, and every write happens once, whatever fails meanwhile.
import { after, before, test } from "node:test";
import { keptSeeds, seedOf } from "../torture/chance.mjs";
import { converge, vars } from "../torture/converge.mjs";
import { start } from "./harness.mjs";

let workers;
before(async () => (workers = await start({ vars })));
after(() => workers?.stop());

for (const seed of [...keptSeeds("convergence"), seedOf()]) {
  test(`five clients converge through partitions, evictions and reloads, SEED=${seed}`, async (t) => {
    const counts = await converge({ workers, seed, operations: 300, hardship: 3 });
    t.diagnostic(JSON.stringify(counts));
  });
}
