// Where a day is played: both Workers as built and a naive object beside them, each metered, in one workerd.
import { readFileSync } from "node:fs";
import { start } from "../../workerd/harness.mjs";

const source = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

/** The modules of a Worker whose object class and handler the meter wraps. `path` is where they seem to be. */
const wrapped = (path, entry) => [
  { type: "ESModule", path: `${path}/metered.js`, contents: entry },
  { type: "ESModule", path: `${path}/meter.js`, contents: source("meter.js") },
];

const meteredSync = `
import handler, { SyncEngine as Base } from "./index.js";
import { metered, toldTime } from "./meter.js";
export const SyncEngine = metered(Base);
export default {
  fetch: (request, env, ctx) => toldTime(request, env, "SYNC_ENGINE", () => handler.fetch(request, env, ctx)),
};`;

const meteredNaive = `
import handler, { Naive as Base } from "./naive.js";
import { metered, toldTime } from "./meter.js";
export const Naive = metered(Base);
export default { fetch: (request, env) => toldTime(request, env, "NAIVE", () => handler.fetch(request, env)) };`;

/** Reached from outside without a Worker before it. */
const reachable = { unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }] };

/** Starts both. `faults` takes the sync Worker that can be made to crash. */
export async function open({ faults } = {}) {
  let compatibilityDate;
  const naive = {
    name: "naive",
    get compatibilityDate() {
      return compatibilityDate;
    },
    modules: [
      ...wrapped("/naive", meteredNaive),
      { type: "ESModule", path: "/naive/naive.js", contents: source("naive.js") },
    ],
    modulesRoot: "/naive",
    durableObjects: { NAIVE: { className: "Naive", useSQLite: true } },
    ...reachable,
  };
  const deployment = await start({
    faults,
    vars: { SYNC_LOG: "errors" },
    amend: (sync) => {
      compatibilityDate = sync.compatibilityDate;
      return { ...sync, modules: [...wrapped(sync.modulesRoot, meteredSync), ...sync.modules], ...reachable };
    },
    others: [naive],
  });
  return { deployment, tidewire: await deployment.direct("tidewire-sync"), naive: await deployment.direct("naive") };
}
