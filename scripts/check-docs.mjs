// Holds the documentation to its word: each numbered statement names the tests that would fail
// without it, and each test that is named is there. Snippets are parts of tested examples, and the table of
// instructions shows the baseline.
import { execSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { withTable } from "./instructions-table.mjs";

const files = (folder, ...endings) =>
  readdirSync(folder, { recursive: true })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => readFileSync(`${folder}/${name}`, "utf8"));

const rust = [...files("src", ".rs"), ...files("tests", ".rs")].join("\n");
const functions = new Set(Array.from(rust.matchAll(/\bfn (\w+)\(/g), ([, name]) => name));

// A test in JavaScript is named with its suites before it, each a text or a template.
const titles = files("tests", ".mjs", ".ts").flatMap((text) =>
  Array.from(text.matchAll(/(?:test|describe)\(\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\w+)/g), ([, title]) => title),
);
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const pattern = (title) => {
  if (title.startsWith('"')) return escaped(JSON.parse(title));
  if (title.startsWith("`")) return title.slice(1, -1).split(/\$\{[^}]*\}/).map(escaped).join(".+");
  return undefined; // A variable: such names are the keys of an object, see below.
};
// A template of nothing but a variable would match anything.
const known = titles.map(pattern).filter((text) => text?.replaceAll(".+", "").trim().length > 3);
const keys = files("tests", ".mjs").flatMap((text) =>
  Array.from(text.matchAll(/^\s*"([^"]+)":/gm), ([, key]) => escaped(key)),
);
const one = `(?:${[...known, ...keys].join("|")})`;
const isTitle = new RegExp(`^${one}(?: ${one}){0,3}$`);

const exists = (name) => (/^\w+$/.test(name) ? functions.has(name) : isTitle.test(name));

let faults = 0;
const fault = (document, what) => {
  faults += 1;
  console.error(`${document}: ${what}`);
};

/** The tests that a statement or a row of a table names. */
function namedIn(text) {
  const names = text.replaceAll(/\s+/g, " ").matchAll(/`([^`]+)`/g);
  return Array.from(names, ([, name]) => name)
    .filter((name) => !/\.(rs|mjs|ts)$/.test(name))
    .map((name) => name.split("::").at(-1));
}

for (const document of ["docs/protocol.md", "docs/security.md"]) {
  const text = readFileSync(document, "utf8");
  const seen = new Set();
  for (const item of text.split(/\n(?=- \*\*[A-Z]+\d+\*\*|\n|\|)/)) {
    const statement = /^\s*- \*\*([A-Z]+\d+)\*\*/.exec(item)?.[1];
    const tests = /\n\s*(?:Test|By construction): (.*)/s.exec(item)?.[1];
    if (statement !== undefined && seen.has(statement)) fault(document, `${statement} comes twice`);
    seen.add(statement);
    if (statement === undefined) continue;
    if (tests === undefined) fault(document, `${statement} names no test`);
    if (/\n\s*By construction:/.test(item)) continue;
    for (const name of namedIn(tests ?? "")) {
      if (!exists(name)) fault(document, `${statement} names a test that is not there: ${name}`);
    }
  }
}

// Of the table of the client's promises, too.
for (const row of readFileSync("docs/client.md", "utf8").split("\n## What is promised")[1].split("\n## ")[0].split("\n")) {
  if (!row.startsWith("| ") || row.startsWith("| promise")) continue;
  for (const name of namedIn(row.split(" | ").at(-1))) {
    if (!exists(name)) fault("docs/client.md", `a promise names a test that is not there: ${name}`);
  }
}

// Of the tables of bounds, the last column names tests.
for (const row of readFileSync("docs/security.md", "utf8").split("\n").filter((line) => line.includes("::"))) {
  if (!row.startsWith("| ")) continue;
  for (const name of namedIn(row.split(" | ").at(-1))) {
    if (!exists(name)) fault("docs/security.md", `a bound names a test that is not there: ${name}`);
  }
}

// A snippet is part of the example that it names: line by line, but for the indentation.
const lines = (text) => text.split("\n").map((line) => line.trim()).join("\n");
for (const document of ["docs/publishing.md", "docs/migrating.md", "docs/sources.md", "docs/hooks.md", "docs/d1.md", "docs/client.md"]) {
  const text = readFileSync(document, "utf8");
  for (const [, language, path, snippet] of text.matchAll(/^```(ts|tsx|svelte|rust|jsonc|sql)\b ?(.*)\n([^]*?)^```$/gm)) {
    if (path === "") fault(document, `a snippet in ${language} names no file`);
    else if (!`\n${lines(readFileSync(path, "utf8"))}`.includes(`\n${lines(snippet)}`)) {
      fault(document, `a snippet is not part of ${path}: ${snippet.split("\n")[0]}`);
    }
  }
}

const page = readFileSync("docs/performance.md", "utf8");
if (withTable(page, JSON.parse(readFileSync("bench/instructions.json", "utf8"))) !== page) {
  const renew = "scripts/instructions.sh --update";
  fault("docs/performance.md", `the table of instructions is not that of bench/instructions.json: ${renew}`);
}

const readme = readFileSync("README.md", "utf8");
if (!readme.includes(`$ make help\n${execSync("make -s help")}\`\`\``)) fault("README.md", "make help says something else");

if (faults > 0) process.exit(1);
