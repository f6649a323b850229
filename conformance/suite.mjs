// The cases and which of them are required; running them against a target; what is missing then.
import { randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
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

export const profileOf = ({ profile = "plain" }) => profile;

/** Runs one case: undefined, or why it fails. */
export async function play(target, one, transport) {
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

/**
 * Runs the cases of a profile over transports, a result for each: `{ transport, id, fault }`. A target may come
 * from a function, then each case has one of its own.
 */
export async function run({ target, profile = "plain", transports = Object.keys(required[profile]), only = () => true, report = () => {} }) {
  const results = [];
  for (const transport of transports) {
    for (const one of cases.filter((other) => profileOf(other) === profile && other.on.includes(transport) && only(other))) {
      const fault = await play(typeof target === "function" ? target() : target, one, transport);
      const result = { transport, id: one.id, fault };
      results.push(result);
      report(result);
    }
  }
  return results;
}

/** The required cases that are not among the results, as `transport id`. */
export function missing(results, { profile = "plain", transports = Object.keys(required[profile]), list = required } = {}) {
  const done = new Set(results.map(({ transport, id }) => `${transport} ${id}`));
  return transports.flatMap((transport) => list[profile][transport].map((id) => `${transport} ${id}`)).filter((name) => !done.has(name));
}
