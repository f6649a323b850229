// The commands of docs/publishing.md, as they stand there, by the curl of this machine.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { rows, secrets, start } from "./harness.mjs";

const repository = new URL("../..", import.meta.url);
const document = readFileSync(new URL("docs/publishing.md", repository), "utf8");
const commands = Array.from(
  document.matchAll(/^```sh\n([^]*?)^```\n\n```json\n([^]*?)^```$/gm),
  ([, command, answer]) => ({ command, answer: JSON.parse(answer) }),
);
const missing = spawnSync("curl", ["--version"]).error ? "there is no curl on this machine" : false;
assert.ok(!(missing && process.env.CI), missing);

let workers;
before(async () => (workers = missing || (await start())));
after(() => workers?.stop?.());

/** Runs a command in a shell: what it prints. */
async function run(command) {
  const env = { ...process.env, TIDEWIRE_URL: workers.origin, PUBLISH_KEY: secrets.PUBLISH_KEY };
  const shell = spawn("bash", ["-euc", command], { env, stdio: ["ignore", "pipe", "inherit"] });
  const text = Buffer.concat(await shell.stdout.toArray()).toString();
  return JSON.parse(text);
}

/** What of an answer is the same wherever it is given. */
const shape = ({ cursor, ...rest }) => ({ ...rest, cursor: cursor?.split(".")[1] });

test("the documented curl commands answer as documented", { skip: missing }, async () => {
  assert.equal(commands.length, document.split("```sh").length - 1, "each has its answer");
  assert.ok(commands.length >= 4);
  for (const { command, answer } of commands) assert.deepEqual(shape(await run(command)), shape(answer), command);
  const alice = await workers.space("team-7").join("alice", ["todos"]);
  assert.deepEqual(rows(alice.snapshots.todos), { t1: { done: true } });
  const bob = await workers.space("team-7").join("bob", ["todos"]);
  assert.deepEqual(rows(bob.snapshots.todos), {});
  // With its key the command is the same publish, however often it is run.
  const [once] = commands.filter(({ command }) => command.includes("Idempotency-Key"));
  assert.deepEqual(await run(once.command), await run(once.command));
  assert.deepEqual(await alice.rest(), []);
});
