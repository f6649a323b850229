// `make dev`, as a developer starts it: one line, one URL, settings from a file, no trace after.
// It runs the script behind the target, so that a test never starts a build.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Deployment, bearer, has, repository, token, within } from "./harness.mjs";

const published = {
  JWT_SECRET: "dev-jwt-secret-not-for-production",
  PUBLISH_KEY: "dev-publish-key",
};

let folder;
before(() => (folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidewire-dev-"))));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Starts the script with these settings; resolves when it says that it is ready. */
async function develop(settings, port) {
  const environment = path.join(folder, "settings");
  fs.writeFileSync(environment, settings);
  port ??= await unusedPort();
  const state = path.join(folder, "state");
  const child = spawn(path.join(repository, "scripts", "dev.sh"), {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PORT: `${port}`, STATE: state, ENV_FILE: environment },
  });
  const dev = { child, port, state, output: "", errors: "" };
  child.stderr.setEncoding("utf8").on("data", (text) => (dev.errors += text));
  const exited = new Promise((resolve) => child.once("exit", (code) => resolve(code)));
  dev.exited = (ms = 15_000) => within(ms, exited, () => `still running:\n${dev.output}${dev.errors}`);
  const ready = new Promise((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text) => {
      dev.output += text;
      if (/inspector is at .*\n/.test(dev.output)) resolve();
    });
    exited.then((code) => reject(new Error(`ended with ${code}:\n${dev.output}${dev.errors}`)));
  });
  try {
    await within(60_000, ready, () => `not ready:\n${dev.output}${dev.errors}`);
  } catch (error) {
    child.kill("SIGTERM");
    throw error;
  }
  dev.deployment = new Deployment(undefined, `http://127.0.0.1:${port}`, { logs: [], warnings: [] }, published);
  return dev;
}

/** The processes that were started with this state folder; none where the system does not tell. */
function processes(state) {
  if (!fs.existsSync("/proc/self/environ")) return [];
  const mine = (pid) => {
    try {
      return fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`STATE=${state}`);
    } catch {
      return false; // It has ended, or is somebody else's.
    }
  };
  return fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name) && mine(name));
}

async function unusedPort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("make dev", () => {
  let dev;
  after(() => dev?.child.kill("SIGTERM"));

  test("runs both Workers at one URL, with the published secrets and the stock channels", async () => {
    const { PUBLISH_KEY } = published;
    dev = await develop(fs.readFileSync(path.join(repository, ".dev.vars.example"), "utf8"));
    assert.ok(dev.output.includes(`http://127.0.0.1:${dev.port}`), dev.output);
    const space = dev.deployment.space("global");
    const alice = await space.join("alice", ["todos", "notes"]);
    const bob = await space.join("bob", ["todos"]);
    has(await alice.mutate("todos", "create", "k1", { text: "milk" }), { type: "ack" });
    await bob.receive({ type: "change", key: "k1", by: "alice" });
    assert.equal((await space.publish("todos", "update", "k1", { done: true })).receivers, 2);
    await alice.receive({ type: "change", action: "update" });
    bob.close(4321);
    assert.equal((await bob.ended()).code, 4321);
    assert.equal(dev.output.match(/ready at/g).length, 1, "the line comes once");
    const [, inspector] = /inspector is at (\S+)/.exec(dev.output);
    assert.equal(inspector, `http://127.0.0.1:${dev.port}/inspector#key=${PUBLISH_KEY}`);
    const page = await fetch(inspector);
    assert.match(await page.text(), /<title>Tidewire inspector/);
    const demo = await dev.deployment.http("/");
    assert.match(demo.body, /<title>Tidewire demo/);
    const { body } = await dev.deployment.http("/demo/token?user=carol", { method: "POST" });
    has(await dev.deployment.http("/api/sync/session", { headers: bearer(body.token) }), { body: { identity: "carol" } });
  });

  test("stops on SIGTERM and leaves nobody behind", async () => {
    assert.ok(!fs.existsSync("/proc/self/environ") || processes(dev.state).length > 1);
    dev.child.kill("SIGTERM");
    assert.equal(await dev.exited(), 0);
    assert.deepEqual(processes(dev.state), []);
    await assert.rejects(dev.deployment.http("/healthz"));
    await dev.deployment.stop();
  });

  test("keeps its state, and takes settings of either Worker from its file", async () => {
    const channels = JSON.stringify({ todos: { read: "anyone" }, mine: { read: "user", write: "user" } });
    const settings = [
      ...Object.entries(published).map(([name, value]) => `${name}=${value}`),
      `SYNC_CHANNELS='${channels}'`,
      "SESSION_COOKIE=auth",
    ];
    dev = await develop(settings.join("\n"), dev.port);
    const { deployment } = dev;
    const anonymous = await deployment.space("global").join(null, ["todos"]);
    assert.deepEqual(anonymous.snapshots.todos.data, [{ id: "k1", text: "milk", done: true }]);
    has(await anonymous.mutate("todos", "delete", "k1"), { error: { code: "read_only" } });
    has(await anonymous.subscribe("notes"), { error: { code: "unknown_channel" } });
    const cookie = `auth=${token("alice", { secret: published.JWT_SECRET })}`;
    has(await deployment.http("/api/sync/session", { headers: { cookie } }), { body: { identity: "alice" } });
    has(await deployment.http("/stats", { headers: bearer("wrong") }), { status: 401 });
    dev.child.kill("SIGINT");
    assert.equal(await dev.exited(), 0);
    assert.deepEqual(processes(dev.state), []);
    await deployment.stop();
  });

  test("says which settings are wrong instead of starting", async () => {
    const run = async (env) => {
      const child = spawn(path.join(repository, "scripts", "dev.sh"), {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, STATE: path.join(folder, "state"), ENV_FILE: path.join(folder, "settings"), ...env },
      });
      let errors = "";
      child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
      const closed = new Promise((resolve) => child.once("close", resolve));
      const code = await within(20_000, closed, () => `still running: ${errors}`);
      return [code, errors];
    };
    const wrong = [
      [{ PORT: "http" }, /PORT/],
      [{ PORT: `${dev.port}`, ENV_FILE: path.join(folder, "none") }, /ENV_FILE/],
    ];
    for (const [env, message] of wrong) {
      const [code, errors] = await run(env);
      assert.equal(code, 1);
      assert.match(errors, message);
    }
    const squatter = createServer();
    await new Promise((resolve) => squatter.listen(0, "127.0.0.1", resolve));
    const [code, errors] = await run({ PORT: `${squatter.address().port}` });
    squatter.close();
    assert.equal(code, 1);
    assert.match(errors, /taken/);
  });
});
