// Which Tidewire is measured: the commit, and the wasm of the sync Worker.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { grouped } from "./machine.mjs";

const root = new URL("../", import.meta.url);

const git = (...args) =>
  execFileSync("git", args, { cwd: fileURLToPath(root), stdio: ["ignore", "pipe", "ignore"] })
    .toString()
    .trim();

/** The commit, with a `+` where tracked files outside of docs/, which a bench writes, are changed. */
function commit() {
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)docs");
    return git("rev-parse", "--short", "HEAD") + (changed === "" ? "" : "+");
  } catch {
    return undefined; // No repository, or no git.
  }
}

/** What is built may be of another commit than what is checked out, so the wasm is told beside it. */
export function engine() {
  const wasm = readFileSync(new URL("sync-worker/build/index_bg.wasm", root));
  return { commit: commit(), wasm: createHash("sha256").update(wasm).digest("hex").slice(0, 12) };
}

/**
 * Of which Tidewire scenarios are, in words: of one all, or which is of which. Commits that build the same wasm are
 * the same Tidewire; `results.json` has the commit of each scenario.
 */
export function engines(measured) {
  const which = ({ engine }) =>
    engine ? `the sync Worker's wasm of sha256 ${engine.wasm}…` : "a sync Worker that was not recorded";
  const groups = grouped(measured, which);
  if (groups.length === 1) return `Tidewire: ${groups[0][0]}.`;
  return `Tidewire, of several builds: ${groups.map(([build, names]) => `${names.join(", ")} of ${build}`).join(";\n")}.`;
}
