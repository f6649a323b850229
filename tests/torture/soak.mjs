// MINUTES of mixed work (tests/torture/work.mjs): memory and storage are flat once they are warm.
//
// What grows is what the contract keeps: the outcome of each mutation and the key of each publish, for a day.
// The bound on storage is therefore one on bytes for each of these.
import { seedOf, setting } from "./chance.mjs";
import { demandCounts } from "./demands.mjs";
import { MIB, inMiB } from "./measure.mjs";
import { growth, work } from "./work.mjs";

/** How much more there may be at the end of the second half than at its beginning, by its line of best fit. */
const BOUNDS = { heap: 1 * MIB, wasm: 1 * MIB, rss: 16 * MIB };
/** Bytes of storage for each mutation and publish of the second half. */
const BYTES_EACH = 400;
/** Of the writes that the rate makes, how many there must have been; and of each other act one at least. */
const KEPT = 0.9;
/** All sockets are closed so often. */
const CLOSE_MINUTES = 10;

const minutes = setting("MINUTES", 60);
/** Writes of clients in a second; publishes are a third of them. */
const rate = setting("RATE", 6);
const seed = seedOf();
console.log(`soak: SEED=${seed} MINUTES=${minutes} RATE=${rate}`);

/** Of ten acts six are writes. */
const closeEvery = Math.round((rate / 0.6) * 60 * Math.min(CLOSE_MINUTES, minutes / 2));
const { counts, samples } = await work({
  ...{ seed, rate, samples: minutes, sampleMs: 60_000, closeEvery },
  say: (minute, { rss, heap, wasm, storageBytes, cpu, counts }) => {
    const held = Object.entries({ rss, heap, wasm, storage: storageBytes }).map(([name, bytes]) => `${name} ${inMiB(bytes)}`);
    console.log(`  minute ${minute}: ${held.join(" ")} MiB, cpu ${cpu.toFixed(1)} s, ${JSON.stringify(counts)}`);
  },
});
const rises = growth(samples);
console.log(`  second half: rss ${inMiB(rises.rss)} heap ${inMiB(rises.heap)} wasm ${inMiB(rises.wasm)} MiB, ${Math.round(rises.storageEach)} bytes of storage for each write and publish`);
demandCounts(counts, { ...Object.fromEntries(Object.keys(counts).map((name) => [name, 1])), writes: Math.floor(KEPT * rate * 60 * minutes) });
const missed = [
  ...Object.entries(BOUNDS).flatMap(([name, bound]) => (rises[name] > bound ? [`${name} rises by ${inMiB(rises[name])} MiB`] : [])),
  ...(rises.storageEach > BYTES_EACH ? [`${Math.round(rises.storageEach)} bytes of storage for each write and publish`] : []),
];
console.log(missed.length === 0 ? "  flat" : `  NOT FLAT: ${missed.join(", ")}`);
process.exit(missed.length === 0 ? 0 : 1);
