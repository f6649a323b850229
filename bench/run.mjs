// Runs the scenarios and writes docs/performance.md: its tables between marks, its plots, the numbers behind them.
//   node bench/run.mjs [--short] [--only NAME] [--rounds N]
//   node bench/run.mjs --render
// With --short all is done with tiny numbers, for correctness alone, and nothing is written. With --render nothing is
// measured, and the page is written from the numbers that are there. The status is 1 where a scenario that was measured
// misses a floor.
import { readFileSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import * as batch from "./scenarios/batch.mjs";
import * as catchup from "./scenarios/catchup.mjs";
import * as fanout from "./scenarios/fanout.mjs";
import * as libraries from "./scenarios/libraries.mjs";
import * as mutations from "./scenarios/mutations.mjs";
import * as scoped from "./scenarios/scoped.mjs";
import * as size from "./scenarios/size.mjs";
import * as waking from "./scenarios/waking.mjs";
import { engine, engines } from "./engine.mjs";
import { halves, number, spread, table } from "./format.mjs";
import { machine, machines } from "./machine.mjs";
import { put } from "./marks.mjs";
import { hasProc } from "./workerd.mjs";

/** Each scenario with its numbers in full and in short. A socket takes two of workerd's file descriptors. */
const scenarios = [
  [
    fanout,
    {
      starts: 6,
      rounds: 6,
      subscribers: [1_000, 2_000, 3_500, 5_000, 7_000, 9_000],
      bytes: [200, 4_096],
      messages: 15_000,
    },
    { starts: 2, rounds: 1, subscribers: [20, 50], bytes: [200, 4_096], messages: 200 },
  ],
  [
    scoped,
    { starts: 3, rounds: 5, subscribers: [1_000, 5_000, 9_000], publishes: 400, warm: 1_000 },
    { starts: 2, rounds: 1, subscribers: [20, 50], publishes: 50, warm: 50 },
  ],
  [batch, { rounds: 5, subscribers: 1_000, changes: 100 }, { rounds: 1, subscribers: 20, changes: 100 }],
  [
    mutations,
    { rounds: 9, clients: 50, each: 60, window: 20, warm: 200 },
    { rounds: 1, clients: 5, each: 20, window: 5, warm: 1 },
  ],
  [
    catchup,
    { starts: 3, rounds: 7, sizes: [10_000, 100_000], times: 100, warm: 1_000 },
    { starts: 2, rounds: 1, sizes: [500, 2_000], times: 3, warm: 1 },
  ],
  [waking, { starts: 3, rounds: 3, sockets: 5_000 }, { starts: 2, rounds: 1, sockets: 50 }],
  [
    libraries,
    { rounds: 5, subscribers: 1_000, messages: 15, rows: 10_000, names: ["tinybase", "livestore"] },
    { rounds: 1, subscribers: 20, messages: 2, rows: 500, names: ["tinybase"] },
  ],
  [size, { rounds: 5 }, { rounds: 1 }],
];

const { values: options } = parseArgs({
  options: {
    short: { type: "boolean" },
    only: { type: "string" },
    rounds: { type: "string" },
    render: { type: "boolean" },
  },
});
const root = new URL("../", import.meta.url);
const results = new URL("docs/performance/results.json", root);
const document = new URL("docs/performance.md", root);

if (options.render) {
  write(stored().measured);
  process.exit();
}
if (!hasProc) {
  console.error("the CPU of workerd is read from /proc, which this system does not have: nothing can be measured here");
  process.exit(options.short ? 0 : 1);
}
if (options.only !== undefined && !scenarios.some(([{ name }]) => name === options.only)) {
  console.error(`no scenario ${options.only}: ${scenarios.map(([{ name }]) => name).join(", ")}`);
  process.exit(2);
}

const { measured } = options.short ? { measured: {} } : stored();
const missed = [];
for (const [scenario, full, short] of scenarios) {
  if (options.only !== undefined && options.only !== scenario.name) continue;
  const began = performance.now();
  const [load, of] = [loadavg()[0], engine()];
  const numbers = { ...(options.short ? short : full), ...(options.rounds ? { rounds: Number(options.rounds) } : {}) };
  const data = await scenario.run(numbers);
  const seconds = (performance.now() - began) / 1000;
  measured[scenario.name] = { at: new Date().toISOString(), load, machine: machine(), engine: of, data };
  console.log(`${scenario.name}: ${seconds.toFixed(1)} s`);
  const { tables, floors } = scenario.report(data);
  missed.push(...floors.filter(({ met }) => !met));
  if (!options.short) console.log(`${tables.join("\n\n")}\n\n${floors.map(floorLine).join("\n")}\n`);
}
// Tiny numbers say nothing of floors.
if (options.short) missed.length = 0;
else write(measured);
if (missed.length > 0) console.error(`missed floors:\n${missed.map(floorLine).join("\n")}`);
// What is left are the connections of the clients, which their servers have closed.
process.exit(missed.length > 0 ? 1 : 0);

/** What was measured before. */
function stored() {
  try {
    return JSON.parse(readFileSync(results, "utf8"));
  } catch {
    return { measured: {} };
  }
}

function floorLine({ what, measured, bound, met, plain }) {
  const value = plain ? number(measured.median) : spread(measured, " ×");
  return `| ${what} | ${value} | ${plain ? "" : halves(measured)} | ${bound} | ${met ? "met" : "**missed**"} |`;
}

/** Puts tables between their marks and writes the plots. */
function write(measured) {
  let text = readFileSync(document, "utf8");
  const floors = [];
  for (const [scenario] of scenarios) {
    const done = measured[scenario.name];
    if (done === undefined) continue;
    const report = scenario.report(done.data);
    floors.push(...report.floors);
    const images = Object.keys(report.plots).map((file) => `![${report.title}](performance/${file})`);
    text = put(text, scenario.name, [`**${report.title}**`, ...report.tables, ...images].join("\n\n"));
    for (const [file, svg] of Object.entries(report.plots))
      writeFileSync(new URL(`docs/performance/${file}`, root), svg);
  }
  const head = table(["floor", "measured", "half of the rounds", "must be", ""], []);
  text = put(text, "floors", [head, ...floors.map(floorLine)].join("\n"));
  text = put(text, "machine", `${machines(measured)}\n${engines(measured)}`);
  writeFileSync(document, text);
  writeFileSync(results, `${JSON.stringify({ measured })}\n`);
}
