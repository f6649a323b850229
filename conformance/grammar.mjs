// What a case may say: its verbs with their fields, patterns and values; `misspelt` tells what is none of it.
import { kinds, makers, words } from "./pattern.mjs";

const STREAMS = ["ws", "sse"];
const SOCKETS = ["ws"];
const TRANSPORTS = ["ws", "sse", "long-poll", "pages", "http"];

const WRITE = ["id", "channel", "action", "key", "data"];

/** Fields that say what is expected. All others, and the verb's own but for `expect`, are values. */
const PATTERNS = new Set(["expect", "message", "after", "status", "protocol", "header", "code", "rows"]);

/** Of each verb the fields that it needs, those that it takes, and the transports that know it (all by default). */
export const verbs = {
  open: { takes: ["as", "hello", "expect"] },
  upgrade: { takes: ["as", "path", "headers", "protocols", "protocol", "status", "expect"], over: SOCKETS },
  subscribe: { needs: ["channel"], takes: ["cursor", "view", "limit", "meta", "token", "resume", "expect"] },
  unsubscribe: { needs: ["channel"] },
  shows: { needs: ["channel", "rows"] },
  hears: { needs: ["channel", "expect"], over: STREAMS },
  changes: { needs: ["channel", "expect"], over: STREAMS },
  tells: { needs: ["channel", "expect"], over: STREAMS },
  untold: { needs: ["channel"], over: SOCKETS },
  at: { needs: ["channel", "expect"], over: ["sse"] },
  mutate: { takes: [...WRITE, "all", "expect"] },
  drop: {},
  publish: { takes: ["path", "headers", "key", "space", "status", "expect"] },
  http: { takes: ["as", "key", "space", "query", "headers", "body", "status", "header", "expect"] },
  send: { takes: ["frame", "text", "bytes", "padTo", "times"], over: SOCKETS },
  expect: { needs: ["message"], takes: ["after"], over: SOCKETS },
  quiet: { over: SOCKETS },
  closed: { needs: ["code"], takes: ["after"], over: SOCKETS },
  holds: { needs: ["expect"] },
  pass: {},
};

/** The one verb of a step: beside another, `expect` is what that one expects. */
export function verbOf(step) {
  const said = Object.keys(step).filter((name) => Object.hasOwn(verbs, name));
  const [verb, ...more] = said.length > 1 ? said.filter((name) => name !== "expect") : said;
  if (verb === undefined || more.length > 0) throw new Error(`has not one verb: ${JSON.stringify(step)}`);
  return verb;
}

/** What a case says that nobody would look at; undefined where there is none. */
export function misspelt({ id, holds, on, steps, profile, ...more }) {
  const isTold = [id, holds].every((text) => typeof text === "string" && text !== "");
  if (!isTold || !Array.isArray(steps) || steps.length === 0) return "a case needs id, holds, on and steps";
  if (Object.keys(more).length > 0) return `a case has no ${Object.keys(more).join(", ")}`;
  const isRunnable = Array.isArray(on) && on.length > 0 && on.every((name) => TRANSPORTS.includes(name));
  if (!isRunnable) return "on names transports";
  if (!["string", "undefined"].includes(typeof profile)) return "profile names a profile";
  for (const [i, step] of steps.entries()) {
    try {
      judge(step, on);
    } catch (error) {
      return `step ${i + 1}, ${JSON.stringify(step).slice(0, 200)}:\n  ${error.message}`;
    }
  }
  return undefined;
}

function judge({ keep = {}, ...step }, on) {
  const verb = verbOf(step);
  const { needs = [], takes = [], over = TRANSPORTS } = verbs[verb];
  const lacking = needs.find((name) => step[name] === undefined);
  if (lacking !== undefined) throw new Error(`${verb} needs ${lacking}`);
  const unknown = Object.keys(step).find((name) => ![verb, ...needs, ...takes].includes(name));
  if (unknown !== undefined) throw new Error(`${verb} knows no ${unknown}`);
  const deaf = on.find((transport) => !over.includes(transport));
  if (deaf !== undefined) throw new Error(`${verb} is no verb over ${deaf}`);
  particular[verb]?.(step);
  value(keep);
  for (const [name, said] of Object.entries(step)) (PATTERNS.has(name) && name !== verb ? pattern : value)(said);
}

const only = (said, fields) => Object.keys(said).find((name) => !fields.includes(name));

/** What some verbs ask for beyond their fields. */
const particular = {
  open({ hello, expect }) {
    if (hello === false && expect !== undefined) throw new Error("who says no hello is not welcomed");
  },
  send({ frame, text, bytes }) {
    const given = [frame, text, bytes].filter((said) => said !== undefined);
    if (given.length !== 1) throw new Error("send needs one of frame, text, bytes");
  },
  mutate({ all, expect, mutate, ...one }) {
    if (all !== undefined && Object.keys(one).length > 0) throw new Error("all stands for the mutation");
    const unknown = (all ?? []).map((said) => only(said, WRITE)).find((name) => name !== undefined);
    if (unknown !== undefined) throw new Error(`a mutation has no ${unknown}`);
    if (all !== undefined && expect === undefined) throw new Error("several mutations need what to expect");
  },
};

/** Objects whose fields begin with `$` stand for something: all their fields are known. */
function special(said, known) {
  const names = Object.keys(said);
  if (!names.some((name) => name.startsWith("$") && !name.startsWith("${"))) return undefined;
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`${unknown} is no word here: ${JSON.stringify(said).slice(0, 200)}`);
  return names;
}

const isObject = (said) => typeof said === "object" && said !== null;

function value(said) {
  if (!isObject(said)) return;
  const maker = Object.keys(makers).find((name) => Object.hasOwn(said, name));
  if (!Array.isArray(said)) special(said, maker === undefined ? [] : [maker, ...makers[maker].beside]);
  for (const inner of Object.values(said)) value(inner);
}

function pattern(said) {
  if (!isObject(said)) return;
  if (Array.isArray(said)) return said.forEach(pattern);
  if (Object.keys(makers).some((name) => Object.hasOwn(said, name))) return value(said);
  const asked = special(said, ["$as", "$absent", ...Object.keys(words)]);
  const isAbsent = asked?.includes("$absent");
  if (isAbsent && (said.$absent !== true || asked.length > 1)) throw new Error("$absent is true, and alone");
  if (said.$is !== undefined && kinds[said.$is] === undefined) throw new Error(`${said.$is} is no kind`);
  for (const inner of Object.values(said)) pattern(inner);
}
