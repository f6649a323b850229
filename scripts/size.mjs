// Prints what the npm package's entries weigh, minified and gzipped, as an app would bundle them; with
// --check it fails where the core is heavier than it may be. What is only fetched when it is needed (transports
// other than WebSocket) does not count; peers of adapters (React, Svelte, TanStack DB) neither.
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const CORE_BYTES = 12_000;
const resolveDir = fileURLToPath(new URL("..", import.meta.url));

/** The bytes of a bundle that has what `source` imports, and of no chunk that is only fetched later. */
async function weigh(source) {
  const { outputFiles, metafile } = await build({
    stdin: { contents: source, resolveDir, sourcefile: "entry.ts" },
    bundle: true,
    minify: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    outdir: "out",
    write: false,
    metafile: true,
    external: ["react", "svelte", "svelte/*", "@tanstack/*"],
    logLevel: "error",
  });
  const { outputs } = metafile;
  const needed = new Set();
  const need = (path) => {
    if (needed.has(path)) return;
    needed.add(path);
    for (const { path: next, kind } of outputs[path].imports) if (kind === "import-statement" && outputs[next]) need(next);
  };
  need(Object.keys(outputs).find((path) => outputs[path].entryPoint === "entry.ts"));
  const text = [...needed].map((path) => outputFiles.find((file) => file.path.endsWith(path)).text).join("");
  return { plain: Buffer.byteLength(text), zipped: gzipSync(text, { level: 9 }).length };
}

const core = 'export { createSync } from "./client/src/index.ts";';
const entries = {
  tidewire: core,
  "tidewire and tidewire/indexeddb": `${core} export { indexedDbStorage } from "./client/src/indexeddb.ts";`,
};
let isTooLarge = false;
for (const [name, source] of Object.entries(entries)) {
  const { plain, zipped } = await weigh(source);
  console.log(`${name.padEnd(32)} ${String(plain).padStart(7)} bytes, ${String(zipped).padStart(6)} gzipped`);
  isTooLarge ||= source === core && zipped > CORE_BYTES;
}
if (isTooLarge && process.argv.includes("--check")) {
  console.error(`error: the core of the client has more than ${CORE_BYTES} bytes gzipped`);
  process.exit(1);
}
