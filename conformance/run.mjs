// Runs the conformance suite against a server: node conformance/run.mjs --help
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { missing, required, run, server } from "./suite.mjs";
import { Target } from "./target.mjs";

const help = `node conformance/run.mjs --url URL --secret JWT_SECRET --publish-key PUBLISH_KEY
  --transport NAME   ws, sse, long-poll, pages or http; may come several times (default: all)
  --profile NAME     plain, strict or keyless: how the server is set up, see server.json (default: plain)
  --only TEXT        only cases whose id holds this; the others are then missing
  --check FILE       runs nothing: judges the lines that another runner has printed
  --settings         runs nothing: prints the profile's settings for an env file`;

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    secret: { type: "string" },
    "publish-key": { type: "string" },
    transport: { type: "string", multiple: true },
    profile: { type: "string", default: "plain" },
    only: { type: "string", default: "" },
    check: { type: "string" },
    settings: { type: "boolean" },
    help: { type: "boolean" },
  },
});

const { url, secret, "publish-key": publishKey, profile, only, check, settings } = values;
const known = required[profile] ?? {};
const transports = values.transport ?? Object.keys(known);
const isRunnable = check ?? settings ?? (url && secret && publishKey);
const isKnown = required[profile] !== undefined && transports.every((name) => known[name] !== undefined);
if (values.help || !isRunnable || !isKnown) {
  console.error(help);
  process.exit(values.help ? 0 : 2);
}

if (settings) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const given = { JWT_SECRET: secret, PUBLISH_KEY: publishKey, ...server[profile] };
  for (const [name, value] of Object.entries(given)) if (value != null) console.log(`${name}='${text(value)}'`);
  process.exit(0);
}

/** A line a case: `ok` or `not ok`, the transport, the id; below it why. */
function report({ transport, id, fault }) {
  const [word, why] = fault === undefined ? ["ok", ""] : ["not ok", `\n  ${fault}`];
  console.log(`${word} ${transport} ${id}${why}`);
}

/** What another runner has printed. */
function judged(text) {
  const lines = text.matchAll(/^(ok|not ok) (\S+) (\S+)$/gm);
  const fault = (word) => (word === "ok" ? undefined : "as it says");
  return Array.from(lines, ([, word, transport, id]) => ({ transport, id, fault: fault(word) }));
}

const target = new Target({ url: url ?? "http://localhost", secret, publishKey });
const isWanted = ({ id }) => id.includes(only);
const results =
  check === undefined
    ? await run({ target, profile, transports, only: isWanted, report })
    : judged(readFileSync(check, "utf8"));
const faults = results.filter(({ fault }) => fault !== undefined);
const left = missing(results, { profile, transports });
for (const name of left) console.log(`missing ${name}`);
const passed = results.length - faults.length;
console.log(`${passed} passed, ${faults.length} failed, ${left.length} required cases left out`);
// What a case that failed has left open would keep the process.
process.exitCode = faults.length + left.length === 0 ? 0 : 1;
setImmediate(() => process.exit());
