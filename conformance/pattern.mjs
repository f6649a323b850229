// What a case says, made concrete (`fill`), and whether an answer is what it says (`misfit`).
import { isDeepStrictEqual } from "node:util";

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** What belongs to the app and not to the protocol comes back exactly as it was given. */
const APPS = new Set(["data", "current", "state"]);

export const kinds = {
  text: (value) => typeof value === "string" && value !== "",
  integer: Number.isSafeInteger,
  boolean: (value) => typeof value === "boolean",
  list: Array.isArray,
  object: isObject,
  /** Milliseconds since 1970, and no seconds. */
  time: (value) => Number.isSafeInteger(value) && value > 1_000_000_000_000,
  // The first two parts are epoch and seq; there may be more.
  cursor: (value) => typeof value === "string" && /^[a-z0-9]{1,16}\.\d+(\..*)?$/.test(value),
};

const show = (value) => {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
};

/** What patterns say in words of their own: each tells why a value does not fit. */
export const words = {
  $is: (value, kind) => kinds[kind](value) || `is no ${kind}`,
  $matches: (value, text) => (typeof value === "string" && new RegExp(text, "u").test(value)) || `does not match ${text}`,
  $in: (value, list, names) => list.some((one) => fits(value, one, names)) || `is none of ${show(list)}`,
  $not: (value, other, names) => !fits(value, other, names) || `is ${show(other)}`,
  $above: (value, least) => value > least || `is not above ${show(least)}`,
  $below: (value, most) => value < most || `is not below ${show(most)}`,
  $length: (value, length, names) => misfit(value?.length, length, names) ?? true,
  /** A list of which one fits. */
  $has: (value, one, names) => value.some((other) => fits(other, one, names)) || `has not ${show(one)}`,
  /** Numbers that follow each other, each greater by one. */
  $counts: (value) => value.every((n, i) => i === 0 || n === value[i - 1] + 1) || "does not count",
  /** A list in whatever order. */
  $set: (value, wanted, names) => unordered(value, wanted, names, false),
  /** A list of rows in whatever order, said by key. */
  $rows: (value, rows, names) => unordered(value, rowsOf(rows), names, true),
};

const rowsOf = (rows) => Object.entries(rows).map(([id, row]) => ({ id, ...row }));

function unordered(value, wanted, names, exactly) {
  if (!Array.isArray(value) || value.length !== wanted.length) return `is no list of ${wanted.length}`;
  const rest = [...value];
  for (const one of wanted) {
    const at = rest.findIndex((other) => fits(other, one, names, exactly));
    if (at < 0) return `has not ${show(one)}`;
    rest.splice(at, 1);
  }
  return true;
}

const fits = (value, pattern, names, exactly = false) => misfit(value, pattern, names, "", exactly) === undefined;

/**
 * Why a value does not fit a pattern; undefined where it does. Objects may have more fields than the
 * pattern says, but not below `data`, `current` and `state`. `$as` keeps what it found by that name.
 */
export function misfit(value, pattern, names, path = "", exactly = false) {
  const told = (what) => `${path === "" ? "it" : path} ${what}: ${show(value)}`;
  if (Array.isArray(pattern)) {
    if (!Array.isArray(value) || value.length !== pattern.length) return told(`is no list of ${pattern.length}`);
    return first(pattern, (one, i) => misfit(value[i], one, names, `${path}[${i}]`, exactly));
  }
  if (!isObject(pattern)) return isDeepStrictEqual(value, pattern) ? undefined : told(`is not ${show(pattern)}`);
  const said = Object.keys(pattern).filter((word) => word.startsWith("$"));
  if (said.length === 0) return fields(value, pattern, names, path, exactly);
  if (value === undefined) return told("is missing");
  for (const word of said.filter((other) => other !== "$as")) {
    if (words[word] === undefined) return `${word} is no word of patterns`;
    const fits = words[word](value, pattern[word], names);
    if (fits !== true) return told(fits);
  }
  if (pattern.$as !== undefined) names[pattern.$as] = value;
  return undefined;
}

function fields(value, pattern, names, path, exactly) {
  const told = (what) => `${path === "" ? "it" : path} ${what}: ${show(value)}`;
  if (!isObject(value)) return told("is no object");
  const more = Object.keys(value).find((name) => !Object.hasOwn(pattern, name));
  if (exactly && more !== undefined) return told(`has ${more}`);
  return first(Object.entries(pattern), ([name, one]) => {
    if (one?.$absent === true) return Object.hasOwn(value, name) ? told(`has ${name}`) : undefined;
    return misfit(value[name], one, names, path === "" ? name : `${path}.${name}`, exactly || APPS.has(name));
  });
}

function first(list, find) {
  for (const [i, one] of list.entries()) {
    const found = find(one, i);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** What a case says where it must be made first: `beside` are the fields that each takes, too. */
export const makers = {
  $token: { beside: [], make: (claims, _, names, tokens) => tokens(fill(claims, names, tokens)) },
  $repeat: { beside: ["times"], make: (text, { times }) => text.repeat(times) },
  $each: {
    beside: ["times"],
    make: (one, { times }, names, tokens) => Array.from({ length: times }, (_, i) => fill(one, { ...names, i }, tokens)),
  },
  /** Lists in each other, so deep. */
  $nested: { beside: [], make: (depth) => Array.from({ length: depth }).reduce((inner) => [inner], []) },
};

/** A value with `${name}` replaced by what was kept, and with all made that must be made. */
export function fill(value, names, tokens) {
  if (typeof value === "string") return text(value, names);
  if (Array.isArray(value)) return value.map((one) => fill(one, names, tokens));
  if (!isObject(value)) return value;
  const word = Object.keys(makers).find((name) => Object.hasOwn(value, name));
  if (word !== undefined) return makers[word].make(value[word], value, names, tokens);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [text(name, names), fill(one, names, tokens)]));
}

function text(value, names) {
  const known = (name) => {
    if (!Object.hasOwn(names, name)) throw new Error(`nothing was kept as ${name}`);
    return names[name];
  };
  const whole = /^\$\{(\w+)\}$/.exec(value);
  if (whole !== null) return known(whole[1]);
  return value.replaceAll(/\$\{(\w+)\}/g, (_, name) => known(name));
}
