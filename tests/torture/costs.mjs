// What a day of an app costs, in Cloudflare's units: `scripts/torture.sh costs [--write | --tables]`.
//
// Plays the day of costs/day.mjs on Tidewire and on a naive object, and prints both bills. With --write it
// keeps what was counted in costs/recorded.json and puts the tables into docs/costs.md. With --tables it
// plays nothing and makes the tables anew of what was kept, as after a change of prices.
import { readFileSync, writeFileSync } from "node:fs";
import { engine } from "../../bench/engine.mjs";
import { DAY } from "./costs/day.mjs";
import { record } from "./costs/record.mjs";
import { printed, written } from "./costs/tables.mjs";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const write = (path, text) => writeFileSync(new URL(path, import.meta.url), text);
const kept = "costs/recorded.json";
const page = "../../docs/costs.md";

async function play() {
  const { version } = JSON.parse(read("../../node_modules/workerd/package.json"));
  const names = { one: "one space", teams: "a space a team" };
  const tell = (spaces, name, seconds) => console.error(`${name}, ${names[spaces]}: played in ${seconds} s`);
  return { workerd: version, engine: engine(), day: DAY, shapes: await record({ tell }) };
}

const options = new Set(process.argv.slice(2));
const recorded = options.has("--tables") ? JSON.parse(read(kept)) : await play();
console.log(printed(recorded));
if (options.has("--write")) write(kept, `${JSON.stringify(recorded, undefined, 1)}\n`);
if (options.has("--write") || options.has("--tables")) write(page, written(read(page), recorded));
