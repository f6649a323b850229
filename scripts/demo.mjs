// Builds the demo of the app Worker: app-worker/demo/, with the client in it, as one page.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const folder = new URL("../app-worker/demo/", import.meta.url);
const read = (name) => readFileSync(new URL(name, folder), "utf8");

const { outputFiles } = await build({
  entryPoints: ["main.tsx", "style.css"].map((name) => fileURLToPath(new URL(name, folder))),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2023",
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: "out",
  write: false,
  logLevel: "error",
});
const made = (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text.trim();
const [script, style] = [made(".js"), made(".css")];
// Neither may end the element that it stands in.
if (/<\/(script|style)|<!--/i.test(script + style)) throw new Error("the demo's script or style would end its element");
const page = read("index.html").replace("{style}", () => style).replace("{script}", () => script);
writeFileSync(new URL("page.html", folder), page);
