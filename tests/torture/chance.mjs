// Chance from a seed that is printed and can be given again (SEED=), and the seeds that once failed.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chance } from "../chance.ts";

export class Chance {
  #next;

  constructor(seed) {
    this.seed = seed;
    this.#next = chance(seed);
  }

  /** At least 0 and less than 1. */
  next() {
    return this.#next();
  }

  /** A whole number below a bound. */
  below(bound) {
    return Math.floor(this.#next() * bound);
  }

  maybe(probability) {
    return this.#next() < probability;
  }

  pick(values) {
    return values[this.below(values.length)];
  }

  /** One of the names of `weights`, each as often as its number says. */
  weigh(weights) {
    let at = this.#next() * Object.values(weights).reduce((sum, weight) => sum + weight, 0);
    for (const [name, weight] of Object.entries(weights)) if ((at -= weight) < 0) return name;
    return Object.keys(weights).at(-1);
  }
}

/** The same weights, where those of some names are so many times as large. */
export const harder = (weights, names, hardship) =>
  Object.fromEntries(Object.entries(weights).map(([name, weight]) => [name, names.includes(name) ? weight * hardship : weight]));

/** The seed that was given, else any. */
export const seedOf = (given = process.env.SEED) => (given ? Number(given) : Math.floor(Math.random() * 2 ** 31));

/** A number that the environment may set. */
export const setting = (name, otherwise) => (process.env[name] ? Number(process.env[name]) : otherwise);

/** The seeds with which a game once failed. */
export function keptSeeds(game) {
  const file = fileURLToPath(new URL("seeds.txt", import.meta.url));
  const lines = readFileSync(file, "utf8").split("\n").map((line) => line.split("#")[0].trim().split(/\s+/));
  return lines.filter(([name]) => name === game).map(([, seed]) => Number(seed));
}
