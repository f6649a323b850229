// The cases and which of them are required; running them against a target; what is missing then.
import { randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { misspelt } from "./grammar.mjs";
import { Conversation } from "./steps.mjs";

const read = (file) => JSON.parse(readFileSync(new URL(file, import.meta.url), "utf8"));

/** All cases, in the order of their files. */
export const cases = readdirSync(new URL("cases/", import.meta.url))
  .filter((name) => name.endsWith(".json"))
  .toSorted()
  .flatMap((name) => read(`cases/${name}`));

/** Ids by profile and transport. */
export const required = read("required.json");

/** The channels and bounds that a server under test has, by profile. */
export const server = read("server.json");

/** The cases of a profile over a transport. */
export const casesOf = (name, transport) =>
  cases.filter(({ profile = "plain", on }) => profile === name && on.includes(transport));

/** Runs one case: undefined, or why it fails. */
export async function play(target, one, transport) {
  const wrong = misspelt(one);
  if (wrong !== undefined) return `this is no case: ${wrong}`;
  const talk = new Conversation(target, transport, `conf-${randomBytes(8).toString("hex")}`);
  let at = 0;
  try {
    for (const step of one.steps) {
      at += 1;
      await talk.step(step);
    }
    at = 0;
    talk.finish();
    return undefined;
  } catch (error) {
    const where = at === 0 ? "at the end" : `step ${at}, ${JSON.stringify(one.steps[at - 1]).slice(0, 200)}`;
    return `${where}:\n  ${error.message}`;
  } finally {
    talk.end();
  }
}

/** More seconds than this nobody should wait for alone. */
const LONG = 10;

/** Whether a case lets much time pass: begun first and asked last, it costs none beside the others. */
export const isLong = ({ steps }) => steps.reduce((sum, { pass = 0 }) => sum + pass, 0) > LONG;

/** Runs the cases of a profile over transports, a result for each: `{ transport, id, fault }`. */
export async function run({ target, profile, transports, only, report }) {
  const over = (transport) => casesOf(profile, transport).filter(only).map((one) => ({ transport, one }));
  const all = transports.flatMap(over);
  const long = all.filter(({ one }) => isLong(one));
  const begun = new Map(long.map((each) => [each, play(target, each.one, each.transport)]));
  const results = [];
  for (const each of [...all.filter(({ one }) => !isLong(one)), ...long]) {
    const { transport, one } = each;
    const fault = await (begun.get(each) ?? play(target, one, transport));
    const result = { transport, id: one.id, fault };
    results.push(result);
    report(result);
  }
  return results;
}

/** The required cases that are not among the results, as `transport id`. */
export function missing(results, { profile, transports = Object.keys(required[profile]) }) {
  const done = new Set(results.map(({ transport, id }) => `${transport} ${id}`));
  const all = transports.flatMap((transport) => required[profile][transport].map((id) => `${transport} ${id}`));
  return all.filter((name) => !done.has(name));
}
