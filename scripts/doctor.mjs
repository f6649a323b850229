// Gathers what the doctor looks at, has it judged, and says what came of it. The rules are in
// src/config/doctor.rs, src/engine/doctor.rs and examples/doctor.rs; nothing is judged here.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { parseEnv } from "node:util";
import { experimental_readRawConfig as readConfig } from "wrangler";

const { URL: url, SPACE: space = "global", STRICT, ENV_FILE = ".dev.vars" } = process.env;
const { SYNC_CONFIG = "wrangler.sync.jsonc", APP_CONFIG = "wrangler.jsonc" } = process.env;
const key = process.env.TIDEWIRE_KEY || process.env.KEY;

const text = (file) => (existsSync(file) ? readFileSync(file, "utf8") : undefined);
const config = (file) => readConfig({ config: file }).rawConfig;

/** Pairs of versions that must be the same; what is not set up yet is left out. */
function versions() {
  const locked = text("Cargo.lock")?.match(/name = "wasm-bindgen"\nversion = "(.+)"/)?.[1];
  const tool = text(".tools/cargo/.crates.toml")?.match(/"wasm-bindgen-cli ([^ ]+) /)?.[1];
  const wanted = JSON.parse(text("package.json") ?? "{}").devDependencies?.wrangler;
  const wrangler = JSON.parse(text("node_modules/wrangler/package.json") ?? "{}").version;
  const pairs = [
    ["wasm-bindgen-cli", locked, tool],
    ["wrangler", wanted, wrangler],
  ];
  return pairs.filter(([, wanted, there]) => wanted && there);
}

function ofFiles() {
  const local = text(ENV_FILE);
  const gathered = {
    sync: config(SYNC_CONFIG),
    app: config(APP_CONFIG),
    local: local === undefined ? null : parseEnv(local),
    versions: versions(),
  };
  const target = process.env.CARGO_TARGET_DIR ?? "target";
  const options = { input: JSON.stringify(gathered), encoding: "utf8" };
  return JSON.parse(execFileSync(`${target}/debug/examples/doctor`, options));
}

/** What the running Worker finds: its settings, and its rows by a hundred channels a step. */
async function ofDeployment() {
  const findings = [];
  for (let after = ""; after !== null; ) {
    const query = new URLSearchParams({ space, after });
    const response = await fetch(new globalThis.URL(`/doctor?${query}`, url), {
      headers: { authorization: `Bearer ${key}` },
      redirect: "error",
    });
    const body = await response.json().catch(() => undefined);
    if (response.status !== 200 || !body?.rows) {
      throw new Error(`${url} answered ${response.status}: ${body?.error?.message ?? "no JSON"}`);
    }
    if (after === "") findings.push(...body.settings);
    findings.push(...body.rows.findings);
    after = body.rows.next;
  }
  return findings;
}

function say(title, findings) {
  console.log(`${title}\n`);
  for (const { severity, setting, what, wayOut } of findings) {
    console.log(`  ${severity.padEnd(5)}  ${setting} ${what}.\n         → ${wayOut}.\n`);
  }
  if (findings.length === 0) console.log("  Nothing to say.\n");
}

const all = ofFiles();
say("The files, as they would be deployed", all);
if (url) {
  if (!key) throw new Error("URL needs the publish key, as TIDEWIRE_KEY or KEY");
  const findings = await ofDeployment();
  say(`${url}, space ${space}`, findings);
  all.push(...findings);
}
const count = (severity) => all.filter((finding) => finding.severity === severity).length;
const [wrong, risky] = [count("wrong"), count("risky")];
console.log(`${wrong} wrong, ${risky} risky`);
process.exitCode = wrong > 0 || (STRICT === "1" && risky > 0) ? 1 : 0;
