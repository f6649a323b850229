// A PostgreSQL of a test's own: a cluster in a temporary folder, on a free port of the loopback
// interface, run by a user without rights. It ends, and its folder goes, with `stop()`, and also
// when the test's process dies in whatever way.
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { repository, within } from "./harness.mjs";

/** How long making a cluster, starting and stopping it may each take. */
const patience = 60_000;

/** The folder of PostgreSQL's programs; nothing where there is none and that may be. */
export function programs() {
  const found = spawnSync(`${repository}/scripts/postgres.sh`, { encoding: "utf8" });
  if (found.status === 3) return undefined;
  assert.equal(found.status, 0, found.stderr);
  return found.stdout.trim();
}

// Runs the server, $1 being its folder and $2 that of its programs. Standard input ends with the
// test's process, however that dies: then the server is told to end, too. A background process
// would get no standard input of its own accord, hence the third descriptor.
const keeper = `
  folder=$1 bin=$2
  shift 2
  exec 3<&0
  { read -r _ <&3; "$bin/pg_ctl" -D "$folder/data" -m fast -s stop; } &
  keeper=$!
  "$bin/postgres" -D "$folder/data" "$@" 3<&- </dev/null
  kill "$keeper" 2>/dev/null
  rm -rf "$folder"
`;

/** No durability: nothing of it outlives the test. And little of the machine. */
const settings = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  max_connections: "40",
  shared_buffers: "16MB",
  jit: "off",
};

/** For programs: no greeting, no frames, and the first error is the last. */
const psql = ["--no-psqlrc", "--quiet", "--csv", "--tuples-only", "--set", "ON_ERROR_STOP=1"];

/** Starts one with the programs of the folder `bin`. */
export async function startPostgres(bin) {
  // PostgreSQL refuses to run as root.
  const isRoot = process.getuid?.() === 0;
  const id = (flag) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  const user = isRoot ? { uid: id("-u"), gid: id("-g") } : {};
  const folder = mkdtempSync(join(tmpdir(), "tidewire-postgres-"));
  const password = randomUUID();
  try {
    const secret = join(folder, "password");
    writeFileSync(secret, password, { mode: 0o600 });
    if (isRoot) for (const path of [folder, secret]) chownSync(path, user.uid, user.gid);
    chmodSync(folder, 0o700);
    const options = ["--username=tester", `--pwfile=${secret}`, "--auth=scram-sha-256"];
    await run(
      join(bin, "initdb"),
      [...options, "--pgdata", join(folder, "data"), "--no-sync", "--encoding=UTF8", "--locale=C"],
      { ...user, cwd: folder, timeout: patience },
    );
    const port = await freePort();
    const given = Object.entries({ ...settings, port }).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const server = spawn("/bin/sh", ["-c", keeper, "keeper", folder, bin, ...given], {
      ...user,
      cwd: "/",
      stdio: ["pipe", "ignore", "pipe"],
    });
    const postgres = new Postgres(bin, server, { port, password });
    await postgres.ready();
    return postgres;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

const run = promisify(execFile);

/** A port that was free a moment ago. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A running server. */
class Postgres {
  #bin;
  #server;
  #ended;
  #log = "";

  constructor(bin, server, { port, password }) {
    this.#bin = bin;
    this.#server = server;
    this.#ended = once(server, "exit");
    this.port = port;
    /** What a Hyperdrive binding takes. */
    this.url = `postgres://tester:${password}@127.0.0.1:${port}/postgres`;
    server.stderr.setEncoding("utf8");
    server.stderr.on("data", (text) => (this.#log += text));
    // Whoever ends it is not interested in that its input is gone.
    server.stdin.on("error", () => {});
  }

  /** What the server wrote to its log. */
  get log() {
    return this.#log;
  }

  /** Waits until it takes connections. */
  async ready() {
    const isReady = new Promise((resolve) => {
      this.#server.stderr.on("data", () => {
        if (this.#log.includes("database system is ready to accept connections")) resolve(true);
      });
    });
    const first = Promise.race([isReady, this.#ended.then(() => false)]);
    const what = () => `PostgreSQL does not start: ${this.#log}`;
    const ready = await within(patience, first, what).catch(async (error) => {
      await this.stop();
      throw error;
    });
    assert.ok(ready, what());
  }

  /** Runs SQL, in one transaction: the rows of its last statement, columns as texts. */
  async sql(text) {
    const options = [...psql, "--single-transaction", "--command", text, this.url];
    const { stdout } = await run(join(this.#bin, "psql"), options, { timeout: patience });
    return stdout.trim().split("\n").filter(Boolean);
  }

  /** A session that stays open: `say` runs SQL in it, `end` ends it, and with it what it began. */
  session() {
    const child = spawn(join(this.#bin, "psql"), [...psql, this.url], { stdio: ["pipe", "pipe", "inherit"] });
    const ended = once(child, "exit");
    return {
      say: async (text) => {
        const said = once(child.stdout, "data");
        child.stdin.write(`${text};\n\\echo said\n`);
        await within(patience, Promise.race([said, ended]), () => `no answer to ${text}`);
      },
      end: async () => {
        child.stdin.end();
        await within(patience, ended, () => "psql does not end");
      },
    };
  }

  /** Ends it, and waits until it and its folder are gone. */
  async stop() {
    this.#server.stdin.end();
    await within(patience, this.#ended, () => `PostgreSQL does not end: ${this.#log}`);
  }
}
