// The table of docs/performance.md that shows bench/instructions.json.
import { put } from "../bench/marks.mjs";

const count = (value) => value.toLocaleString("en-US");

/** The page with the table of a baseline. */
export function withTable(page, { rustc, arch, figures }) {
  const rows = Object.entries(figures).map(
    ([kind, { engine, sqlite, system }]) => `| ${kind} | ${[engine, sqlite, system].map(count).join(" | ")} |`,
  );
  const table = ["| message | engine | SQLite | system |", "|---|---:|---:|---:|", ...rows].join("\n");
  return put(page, "instructions", `${table}\n\nBy ${rustc}, ${arch}.`);
}
