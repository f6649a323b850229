// Runs both Workers at one URL until SIGINT or SIGTERM. Environment: PORT, STATE, ENV_FILE.
//
// wrangler gives `--env-file` to the first Worker only, but reads the `.dev.vars` beside each
// configuration file. So both files are copied into the state folder, with the settings beside
// them: both Workers get every setting, and no secret appears on a command line.
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { experimental_readRawConfig as readConfig } from "wrangler";

const port = Number(process.env.PORT);
const state = path.resolve(process.env.STATE);
const url = `http://127.0.0.1:${port}`;
const startupLimit = 60_000;

if (!Number.isInteger(port) || port < 1 || port > 65535) fail(`PORT=${process.env.PORT} is no port number`);
await assertFree(port);

const settings = fs.readFileSync(process.env.ENV_FILE, "utf8");
const configs = ["wrangler.jsonc", "wrangler.sync.jsonc"].map(copyConfig);
// Both come first, so that a file which sets them differently is obeyed.
fs.writeFileSync(
  path.join(state, "config", ".dev.vars"),
  `DEV=true\nINSPECTOR=true\n${settings}`,
  { mode: 0o600 },
);

const wrangler = spawn(
  "wrangler",
  [
    "dev",
    ...configs.flatMap((config) => ["-c", config]),
    ...["--ip", "127.0.0.1", "--port", String(port), "--inspector-port", "0"],
    ...["--persist-to", state, "--show-interactive-dev-session=false"],
  ],
  {
    // A group of its own, so that everything it starts can be stopped together.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      // Nothing is asked of, or told to, anything outside this machine ...
      CLOUDFLARE_CF_FETCH_ENABLED: "false",
      // ... or another `make dev` on it ...
      WRANGLER_REGISTRY_PATH: path.join(state, "registry"),
      WRANGLER_LOG_PATH: path.join(state, "logs"),
      // ... and no trace of every request is written to disk.
      X_LOCAL_OBSERVABILITY: "false",
    },
  },
);

let stopping = false;
let ready = false;
let held = "";
for (const stream of [wrangler.stdout, wrangler.stderr]) stream.setEncoding("utf8").on("data", report);
wrangler.on("error", (error) => fail(`cannot start wrangler: ${error.message}`));
wrangler.on("exit", async (code) => {
  if (stopping) return;
  if (!ready) process.stderr.write(held);
  await stop(code || 1);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop(0));
watchParent();

let answer = "no answer";
let refused;
for (const started = Date.now(); !ready && !stopping; ) {
  if (Date.now() - started > startupLimit) {
    process.stderr.write(held);
    console.error(`error: the Workers are not ready: /healthz gives ${answer}`);
    await stop(1);
  }
  try {
    const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(5_000) });
    answer = `${response.status} ${await response.text()}`;
    ready = response.status === 200;
    // Both Workers run, and the sync Worker refuses its settings: waiting would not help.
    if (response.status === 500) refused = answer;
  } catch {
    // Not listening yet.
  }
  if (refused) {
    console.error(`error: the sync Worker refuses its settings: ${refused}`);
    await stop(1);
  }
  if (!ready) await sleep(100);
}
if (!stopping) {
  if (/\[(WARNING|ERROR)\]/.test(held)) process.stderr.write(held);
  console.log(`Tidewire is ready at ${url}`);
  // The published key may stand on the screen; one of your own is for you to type.
  const key = /^PUBLISH_KEY=dev-publish-key$/m.test(settings) ? "#key=dev-publish-key" : "";
  console.log(`Its inspector is at ${url}/inspector${key}`);
}

/** Writes a copy of a wrangler file that can stand in another folder; returns its path. */
function copyConfig(file) {
  const { rawConfig: config } = readConfig({ config: file });
  const absolute = (value) => path.resolve(path.dirname(file), value);
  delete config.$schema;
  config.main = absolute(config.main);
  if (config.assets?.directory) config.assets.directory = absolute(config.assets.directory);
  const copy = path.join(state, "config", `${path.parse(file).name}.json`);
  fs.mkdirSync(path.dirname(copy), { recursive: true });
  fs.writeFileSync(copy, JSON.stringify(config, null, 2));
  return copy;
}

/** Passes wrangler's output on once the Workers run, less what this script says better. */
function report(text) {
  const kept = text.replace(/^.*(Ready on http|GET \/healthz 200).*\n/gm, "");
  if (ready) process.stdout.write(kept);
  else held += kept;
}

async function assertFree(port) {
  const probe = net.createServer();
  await new Promise((resolve) => {
    probe.once("error", (error) =>
      fail(
        error.code === "EADDRINUSE"
          ? `port ${port} is taken; choose another: make dev PORT=number`
          : `cannot listen on port ${port}: ${error.message}`,
      ),
    );
    probe.listen(port, "127.0.0.1", () => probe.close(resolve));
  });
}

/** Stops wrangler and all that it started, gently and then firmly, and exits. */
async function stop(code) {
  if (stopping) return;
  stopping = true;
  send(wrangler.pid, "SIGTERM");
  await until(() => wrangler.exitCode !== null || wrangler.signalCode !== null, 4_000);
  // wrangler has ended its children by now; whatever it left behind goes with its group. (In a
  // container without an init, the dead stay listed: hence the short patience.)
  await until(() => !send(-wrangler.pid, 0), 300);
  send(-wrangler.pid, "SIGKILL");
  process.exit(code);
}

/** Waits for a condition, but no longer than the limit in milliseconds. */
async function until(condition, limit) {
  for (const started = Date.now(); !condition() && Date.now() - started < limit; ) await sleep(50);
}

/** Sends a signal, or with 0 only asks; false when there is no such process or group. */
function send(pid, signal) {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/**
 * Stops when the parent is gone, or when it is a make that got SIGINT by itself: make then waits
 * for its children without telling them. The kernel shows that it no longer catches the signal.
 */
function watchParent() {
  const parent = process.ppid;
  const catchesInterrupt = () => {
    try {
      const caught = /^SigCgt:\s*([0-9a-f]+)/m.exec(fs.readFileSync(`/proc/${parent}/status`, "utf8"))[1];
      return (BigInt(`0x${caught}`) & 2n) !== 0n;
    } catch {
      return false;
    }
  };
  const interruptible = catchesInterrupt();
  setInterval(() => {
    if (process.ppid !== parent || (interruptible && !catchesInterrupt())) stop(0);
  }, 500).unref();
}

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}
