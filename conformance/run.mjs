// Runs the conformance suite against a server: node conformance/run.mjs --help
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { missing, required, run } from "./suite.mjs";
import { Target } from "./target.mjs";

const help = `node conformance/run.mjs --url URL --secret JWT_SECRET --publish-key PUBLISH_KEY
  --transport NAME   ws, sse, long-poll, pages or http; may come several times (default: all)
  --profile NAME     plain or strict: how the server is set up, see server.json (default: plain)
  --only TEXT        only cases whose id contains this; the others are then missing
  --check FILE       runs nothing: judges the lines that another runner has printed`;

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    secret: { type: "string" },
    "publish-key": { type: "string" },
    transport: { type: "string", multiple: true },
    profile: { type: "string", default: "plain" },
    only: { type: "string", default: "" },
    check: { type: "string" },
    help: { type: "boolean" },
  },
});

const { url, secret, "publish-key": publishKey, profile, only, check } = values;
const known = required[profile];
const transports = values.transport ?? Object.keys(known ?? {});
const isRunnable = check !== undefined || (url !== undefined && secret !== undefined && publishKey !== undefined);
if (values.help || !isRunnable || known === undefined || transports.some((name) => known[name] === undefined)) {
  console.error(help);
  process.exit(values.help ? 0 : 2);
}

/** A line a case: `ok` or `not ok`, the transport, the id. */
function report({ transport, id, fault }) {
  console.log(`${fault === undefined ? "ok" : "not ok"} ${transport} ${id}${fault === undefined ? "" : `\n  ${fault}`}`);
}

/** What another runner has printed. */
function judged(text) {
  const lines = text.matchAll(/^(ok|not ok) (\S+) (\S+)$/gm);
  return Array.from(lines, ([, word, transport, id]) => ({ transport, id, fault: word === "ok" ? undefined : "as it says" }));
}

const results =
  check === undefined
    ? await run({ target: new Target({ url, secret, publishKey }), profile, transports, only: ({ id }) => id.includes(only), report })
    : judged(readFileSync(check, "utf8"));
const faults = results.filter(({ fault }) => fault !== undefined);
const left = missing(results, { profile, transports });
for (const name of left) console.log(`missing ${name}`);
console.log(`${results.length - faults.length} passed, ${faults.length} failed, ${left.length} required cases left out`);
// Open streams of a case that failed would keep the process.
process.exit(faults.length + left.length === 0 ? 0 : 1);
