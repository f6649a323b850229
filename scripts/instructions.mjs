// Runs benches/instructions.rs under callgrind, once for each kind of message, and compares what the
// engine and SQLite took with bench/instructions.json; with --update it renews that, and its table in
// docs/performance.md.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withTable } from "./instructions-table.mjs";

const BASELINE = "bench/instructions.json";
const PAGE = "docs/performance.md";
const RENEW = "renew it with scripts/instructions.sh --update";
/** By how much a figure may differ. */
const MOST = 0.05;
/** So many runs at a time: the figures do not depend on it. */
const AT_ONCE = 2;

const run = (command, args) => execFileSync(command, args, { encoding: "utf8", maxBuffer: 1 << 28 });

/** The program. */
function build() {
  const messages = run("cargo", [
    "build", "--profile", "torture", "--bench", "instructions", "--locked", "--quiet", "--message-format=json",
  ]);
  const built = messages.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  return built.findLast((message) => message.executable && message.target.name === "instructions").executable;
}

/** Whose a function's instructions are: SQLite is the only C in the program. */
function owner(object, name) {
  if (!/\/instructions-[0-9a-f]+$/.test(object)) return "system";
  return !name.includes("::") || /^<?(rusqlite|hashlink|instructions::world)::/.test(name) ? "sqlite" : "engine";
}

/** Instructions of a profile by owner, without those of whom a function calls. */
function read(profile) {
  const sums = { engine: 0, sqlite: 0, system: 0 };
  let object = "";
  let name = "";
  let isCall = false;
  for (const line of profile.split("\n")) {
    const [, field, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (field === "ob") object = value;
    else if (field === "fn") name = value;
    else if (field === "calls") isCall = true;
    else if (/^\d/.test(line)) {
      if (!isCall) sums[owner(object, name)] += Number(line.split(" ")[1]);
      isCall = false;
    }
  }
  return sums;
}

/** What one message of a kind takes. */
async function count(program, kind, times, folder) {
  const out = join(folder, kind.replaceAll(/\W+/g, "-"));
  const args = [
    "--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no", `--callgrind-out-file=${out}`,
    "--toggle-collect=instructions::measured", "--toggle-collect=instructions::woken", program, kind,
  ];
  const child = spawn("valgrind", args, { stdio: ["ignore", "inherit", "inherit"] });
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`${kind}: valgrind ended with ${code}`);
  const sums = read(readFileSync(out, "utf8"));
  if (sums.engine === 0) throw new Error(`${kind}: callgrind counted nothing`);
  return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, Math.round(sum / times)]));
}

const update = process.argv.includes("--update");
/** Where nobody reads a hint, what asks for a renewal fails. */
const isCI = process.env.CI === "true";
const machine = { rustc: run("rustc", ["--version"]).trim(), arch: process.arch };
let baseline;
try {
  baseline = JSON.parse(readFileSync(BASELINE, "utf8"));
} catch (error) {
  if (!update || error.code !== "ENOENT") throw error;
}
for (const name of ["rustc", "arch"]) {
  if (!update && machine[name] !== baseline[name]) {
    const what = `the baseline of the instructions is of ${baseline[name]}, this is ${machine[name]}`;
    console.error(isCI ? `error: ${what}: ${RENEW}` : `Skipped: ${what}; ${RENEW}`);
    process.exit(isCI ? 1 : 0);
  }
}

const program = build();
const { times, kinds } = JSON.parse(run(program, []));
const folder = mkdtempSync(join(tmpdir(), "instructions-"));
const found = {};
try {
  const left = [...kinds];
  const work = async () => {
    for (let kind = left.shift(); kind; kind = left.shift()) found[kind] = await count(program, kind, times, folder);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
} finally {
  rmSync(folder, { recursive: true });
}

const figures = Object.fromEntries(kinds.map((kind) => [kind, found[kind]]));
const [more, less] = [[], []];
for (const [kind, sums] of Object.entries(figures)) {
  const before = baseline?.figures[kind];
  const line = ["engine", "sqlite", "system"].map((name) => {
    const change = before?.[name] ? sums[name] / before[name] - 1 : 0;
    // The C library's own choose by the processor: they are told, and not compared.
    if (name !== "system" && change > MOST) more.push(`${kind}: ${name}`);
    if (name !== "system" && change < -MOST) less.push(`${kind}: ${name}`);
    const percent = `${change < 0 ? "" : "+"}${(100 * change).toFixed(1)} %`;
    return `${name} ${sums[name].toLocaleString("en").padStart(11)} ${percent.padStart(8)}`;
  });
  console.log(`${kind.padEnd(31)} ${line.join("   ")}`);
  if (baseline && !before && !update) less.push(`${kind}: new`);
}
for (const kind of Object.keys(baseline?.figures ?? {})) if (!figures[kind]) less.push(`${kind}: gone`);

if (update) {
  const renewed = { ...machine, figures };
  writeFileSync(BASELINE, `${JSON.stringify(renewed, null, 2)}\n`);
  writeFileSync(PAGE, withTable(readFileSync(PAGE, "utf8"), renewed));
  console.log(`${BASELINE} and its table in ${PAGE} are renewed`);
} else {
  if (more.length > 0) console.error(`More than ${100 * MOST} % more than ${BASELINE}: ${more.join(", ")}`);
  if (less.length > 0) console.error(`${BASELINE} is out of date, ${RENEW}: ${less.join(", ")}`);
  if (more.length > 0 || (isCI && less.length > 0)) process.exit(1);
}
