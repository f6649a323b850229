// The doctor: `make doctor` on files, and /doctor on a running deployment.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { bearer, repository, start } from "./harness.mjs";

const run = promisify(execFile);
const long = { JWT_SECRET: "j".repeat(32), PUBLISH_KEY: "p".repeat(32) };

let workers, folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidewire-doctor-"));
  workers = await start({
    vars: { ...long, SYNC_CHANNELS: { todos: { write: "user" }, open: { write: "anyone" } } },
  });
});
after(async () => {
  await workers?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What `make doctor` says, and its exit code. */
async function doctor(env = {}) {
  const options = { cwd: repository, env: { ...process.env, ENV_FILE: "/nowhere", ...env } };
  const done = await run("scripts/doctor.sh", options).catch((error) => error);
  return { code: done.code ?? 0, said: done.stdout, failed: done.stderr };
}

/** The shipped file with something in place of something. */
async function amended(name, old, by) {
  const shipped = await readFile(join(repository, name), "utf8");
  assert.ok(shipped.includes(old), old);
  const file = join(folder, name);
  await writeFile(file, shipped.replace(old, by));
  return file;
}

describe("make doctor", () => {
  test("finds nothing wrong with what is shipped", async () => {
    const { code, said, failed } = await doctor();
    assert.equal(code, 0, failed);
    assert.match(said, /0 wrong, 0 risky/);
    assert.match(said, /hint +JWT_SECRET/);
  });

  for (const [what, file, old, by, finding] of [
    ["a public address of the sync Worker", "wrangler.sync.jsonc", '"workers_dev": false', '"workers_dev": true', /wrong  wrangler.sync.jsonc workers_dev/],
    ["a route of the sync Worker", "wrangler.sync.jsonc", '"workers_dev": false', '"workers_dev": false, "routes": ["a.test/*"]', /wrong  wrangler.sync.jsonc routes/],
    ["a service of another name", "wrangler.jsonc", '"service": "tidewire-sync"', '"service": "other"', /wrong  wrangler.jsonc services/],
    ["a development secret", "wrangler.sync.jsonc", '"vars": {', '"vars": { "PUBLISH_KEY": "dev-publish-key",', /wrong  PUBLISH_KEY is the published/],
    ["a class that no migration makes", "wrangler.sync.jsonc", '"new_sqlite_classes"', '"new_classes"', /wrong  wrangler.sync.jsonc migrations/],
    ["a schema's minimum above its version", "wrangler.sync.jsonc", '"vars": {', '"vars": { "SYNC_SCHEMA_VERSION": 1, "SYNC_SCHEMA_MIN": 2,', /wrong  SYNC_SCHEMA_MIN/],
    ["a rule that is none", "wrangler.sync.jsonc", '"read": "anyone"', '"raed": "anyone"', /wrong  SYNC_CHANNELS/],
  ]) {
    test(`names ${what}, and fails`, async () => {
      const path = await amended(file, old, by);
      const { code, said } = await doctor({ [file === "wrangler.jsonc" ? "APP_CONFIG" : "SYNC_CONFIG"]: path });
      assert.equal(code, 1, said);
      assert.match(said, finding);
      assert.ok(!said.includes("dev-publish-key"));
    });
  }

  test("names a risk, and fails only when told to be strict", async () => {
    const SYNC_CONFIG = await amended("wrangler.sync.jsonc", '"write": "none"', '"write": "anyone"');
    const { code, said } = await doctor({ SYNC_CONFIG });
    assert.match(said, /risky  SYNC_CHANNELS feed lets everyone write/);
    assert.equal(code, 0);
    assert.equal((await doctor({ SYNC_CONFIG, STRICT: "1" })).code, 1);
  });

  test("reads .dev.vars as make dev does, and takes its published secrets there", async () => {
    const ENV_FILE = join(folder, "vars");
    await writeFile(ENV_FILE, await readFile(join(repository, ".dev.vars.example")));
    assert.equal((await doctor({ ENV_FILE })).code, 0);
    await writeFile(ENV_FILE, "SYNC_CHANNELS='[]'\n");
    const { code, said } = await doctor({ ENV_FILE });
    assert.match(said, /wrong  \.dev\.vars SYNC_CHANNELS/);
    assert.equal(code, 1);
  });

  test("asks a running deployment for its settings and rows, never for a value of them", async () => {
    const space = workers.space("doctored");
    await space.publish("todos", "create", "k1", { ownerId: "alice-secret" });
    const env = { URL: workers.origin, TIDEWIRE_KEY: long.PUBLISH_KEY, SPACE: space.name };
    const { code, said, failed } = await doctor(env);
    assert.equal(code, 0, failed);
    assert.match(said, /risky  SYNC_CHANNELS open lets everyone write/);
    assert.match(said, /risky  SYNC_CHANNELS todos shows every row .* field ownerId/);
    for (const hidden of ["alice-secret", ...Object.values(long)]) assert.ok(!said.includes(hidden));
    const refused = await doctor({ ...env, TIDEWIRE_KEY: "wrong" });
    assert.match(refused.failed, /answered 401/);
    assert.equal(refused.code, 1);
  });
});

test("what is risky is in the log at start, once", async () => {
  await workers.http("/stats", { headers: bearer(long.PUBLISH_KEY) });
  await workers.http("/stats", { headers: bearer(long.PUBLISH_KEY) });
  const warned = workers.warnings.filter((line) => line.includes("SYNC_CHANNELS open lets everyone write"));
  // The router and the objects may live in isolates of their own.
  assert.ok(warned.length >= 1 && warned.length <= 2, warned.join("\n"));
  for (const secret of Object.values(long)) {
    assert.ok(![...workers.logs, ...workers.warnings].join("\n").includes(secret));
  }
});
