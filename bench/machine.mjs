// Where and with what scenarios were measured.
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { number } from "./format.mjs";

const root = new URL("../", import.meta.url);

/** This machine, and the versions of what is measured. */
export function machine() {
  const read = (path) => JSON.parse(readFileSync(new URL(`${path}/package.json`, root), "utf8"));
  const version = (path) => read(path).version;
  const [{ model }] = cpus();
  return [
    `${cpus().length} cores (${model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()},`,
    `Node ${process.versions.node}, workerd ${version("node_modules/workerd")},`,
    `partyserver ${version("bench/node_modules/partyserver")}, TinyBase ${version("bench/node_modules/tinybase")},`,
    // Its packages are there only where it is measured.
    `LiveStore ${read("bench/livestore").dependencies["@livestore/sync-cf"]}`,
  ].join("\n");
}

/** Names of scenarios by what `of` says of each. */
export function grouped(measured, of) {
  const groups = new Map();
  for (const [name, one] of Object.entries(measured)) groups.set(of(one), [...(groups.get(of(one)) ?? []), name]);
  return [...groups];
}

/** When and on which machines scenarios were measured, in words. */
export function machines(measured) {
  const all = Object.values(measured);
  const days = all.map(({ at }) => at.slice(0, 10)).toSorted();
  const [first, last] = [days[0], days.at(-1)];
  const loads = all.map(({ load }) => load);
  const groups = grouped(measured, ({ machine }) => machine);
  const where = groups.map(([machine, names]) => (groups.length === 1 ? machine : `${names.join(", ")} on ${machine}`));
  return [
    `Measured ${first === last ? first : `${first} to ${last}`} on ${where.join(";\n")}.`,
    `Load average when the scenarios began: ${number(Math.min(...loads))}–${number(Math.max(...loads))}.`,
  ].join("\n");
}
