// Who is measured, and how each is spoken to.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { secrets, token, worker } from "../tests/workerd/harness.mjs";
import * as livestore from "./livestore.mjs";
import { Peer } from "./peer.mjs";
import * as tinybase from "./tinybase.mjs";
import { startWorkerd } from "./workerd.mjs";

const COMPATIBILITY_DATE = "2026-06-07";

/** Options of a Worker in JavaScript, with its packages in it. */
async function script(name, className, binding) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`peers/${name}.mjs`, import.meta.url))],
    bundle: true,
    format: "esm",
    target: "es2022",
    write: false,
    // LiveStore is a project of its own: it brings a hundred packages.
    nodePaths: [fileURLToPath(new URL("livestore/node_modules", import.meta.url))],
    external: ["cloudflare:*", "node:*"],
    logLevel: "error",
  });
  return {
    name,
    compatibilityDate: COMPATIBILITY_DATE,
    compatibilityFlags: ["nodejs_compat"],
    modules: [{ type: "ESModule", path: `${name}.mjs`, contents: outputFiles[0].text }],
    durableObjects: { [binding]: { className, useSQLite: true } },
  };
}

/** What Tidewire is set to: no bound that a bench would run into, no line in the log for each operation. */
const tidewireVars = {
  ...secrets,
  SYNC_LOG: "none",
  SYNC_CHANNELS: JSON.stringify({ "*": { read: "user", write: "user" } }),
  SYNC_LIMITS: JSON.stringify({
    messagesPerSecond: 10_000,
    identityMessagesPerSecond: 10_000,
    minIntervalMs: 0,
    maxConcurrentDeltas: 1_000,
  }),
};

const tidewire = {
  name: "tidewire",
  worker: "tidewire-sync",
  className: "SyncEngine",
  headers: { authorization: `Bearer ${secrets.PUBLISH_KEY}` },
  workers: (build) => [worker("wrangler.sync.jsonc", tidewireVars, build)],
  socket(space, at, { channel = "bench", tag, users = Infinity }) {
    const user = `u${at % users}`;
    const claims = { space, ...(tag === undefined ? {} : { topics: [tag(at)] }) };
    const subscribe = channel === null ? [] : [{ id: "s", channel }];
    return {
      path: `/api/sync/${space}`,
      headers: { authorization: `Bearer ${token(user, claims)}` },
      first: [JSON.stringify({ type: "hello", v: 1, subscribe })],
      ready: channel === null ? '"welcome"' : '"more":false',
    };
  },
  broadcast: (space) => `/broadcast?space=${space}`,
  broadcastBatch: (space) => `/broadcast-batch?space=${space}`,
};

/** `more` is what the object does beyond the loop, as a query of its requests. */
const raw = (name, more = "") => ({
  name,
  worker: "raw",
  className: "Raw",
  workers: async () => [await script("raw", "Raw", "RAW")],
  socket: (space, at, { tag }) => ({
    path: `/connect?space=${space}&user=u${at}${tag === undefined ? "" : `&tag=${tag(at)}`}${more}`,
  }),
  broadcast: (space) => `/broadcast?space=${space}${more}`,
  broadcastBatch: (space) => `/broadcast-batch?space=${space}`,
});

export const kinds = {
  raw: raw("raw"),
  // Looks before it writes, and writes all or nothing.
  "raw, careful": raw("raw, careful", "&careful"),
  // Writes what it sends, as every log must.
  "raw, with a log": raw("raw, with a log", "&log"),
  tidewire,
  "tidewire, with log lines": {
    ...tidewire,
    name: "tidewire, with log lines",
    workers: (build) => [worker("wrangler.sync.jsonc", { ...tidewireVars, SYNC_LOG: "all" }, build)],
  },
  // Parts of rows instead of whole ones: each is merged into what the log holds.
  "tidewire, merging": { ...tidewire, name: "tidewire, merging", action: "update" },
  partyserver: {
    name: "partyserver",
    worker: "party",
    className: "Party",
    workers: async () => [await script("party", "Party", "PARTY")],
    socket: (space, at, { tag }) => ({
      path: `/connect?space=${space}&_pk=u${at}${tag === undefined ? "" : `&tag=${tag(at)}`}`,
    }),
    broadcast: (space) => `/broadcast?space=${space}`,
    broadcastBatch: (space) => `/broadcast-batch?space=${space}`,
  },
};

kinds.tinybase = {
  name: "tinybase",
  speaks: tinybase,
  worker: "tinybase",
  className: "Tiny",
  workers: async () => [await script("tinybase", "Tiny", "TINY")],
  socket: (space) => ({ path: `/${space}` }),
};

kinds.livestore = {
  name: "livestore",
  speaks: livestore,
  worker: "livestore",
  className: "LiveStore",
  workers: async () => [await script("livestore", "LiveStore", "LIVESTORE")],
  socket: (space) => ({ path: livestore.path(space), first: [livestore.pull(space, true)], ready: '"pageInfo"' }),
};

/** Starts peers, one workerd each. */
export async function startPeers(names, options = {}) {
  const peers = [];
  for (const name of names) {
    const kind = kinds[name];
    peers.push(new Peer(kind, await startWorkerd(await kind.workers(options.build), options)));
  }
  return peers;
}

/** Stops peers, all of them whatever happens; a fault of one that nobody had heard of is thrown now. */
export async function stopPeers(peers) {
  const stopped = await Promise.allSettled(peers.map((peer) => peer.stop()));
  const failed = stopped.find(({ status }) => status === "rejected");
  if (failed) throw failed.reason;
}
