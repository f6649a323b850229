// One workerd of its own for each peer, and what the operating system says of it.
//
// CPU is that of the workerd process, all threads, from the scheduler's accounting in nanoseconds
// (/proc/PID/task/*/schedstat). It holds what workerd does for a peer, sockets and SQLite included, and
// nothing of the clients or of Miniflare, which only starts it.
import { readFileSync, readdirSync } from "node:fs";
import { Log, LogLevel, Miniflare, convertV4MiniflareOptions } from "miniflare";

export const hasProc = process.platform === "linux";

const children = () => {
  const found = [];
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      if (parent === process.pid && name === "workerd") found.push(Number(pid));
    } catch {
      // It has ended.
    }
  }
  return found;
};

/** Starts Workers, given in Miniflare's options, in a workerd of their own on a free port. */
export async function startWorkerd(workers, { inspector = false } = {}) {
  const before = new Set(children());
  const logs = [];
  const runtime = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      telemetry: { enabled: false },
      logRequests: false,
      ...(inspector ? { inspectorPort: 0 } : {}),
      log: new Log(LogLevel.NONE),
      handleStructuredLogs: ({ level, message }) => logs.push(`${level}: ${message}`),
      // Past the Worker that Miniflare puts before all others, which would be half of a request's CPU.
      workers: workers.map((worker, at) =>
        at === 0 ? { ...worker, unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }] } : worker,
      ),
    }),
  );
  await runtime.ready;
  const { origin } = await runtime.unsafeGetDirectURL(workers[0].name);
  const pids = children().filter((pid) => !before.has(pid));
  if (pids.length !== 1) throw new Error(`expected one new workerd process, found ${pids.length}`);
  return new Workerd(runtime, origin, pids[0], { logs });
}

/** A running workerd. */
export class Workerd {
  #runtime;

  constructor(runtime, origin, pid, { logs }) {
    this.#runtime = runtime;
    this.origin = origin;
    this.pid = pid;
    this.logs = logs;
  }

  /** Microseconds of CPU that all its threads have used. */
  cpu() {
    let ns = 0n;
    for (const task of readdirSync(`/proc/${this.pid}/task`)) {
      ns += BigInt(readFileSync(`/proc/${this.pid}/task/${task}/schedstat`, "utf8").split(" ")[0]);
    }
    return Number(ns / 1000n);
  }

  /** Bytes of memory that it holds. */
  rss() {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))[1]) * 1024;
  }

  /** Puts an object to sleep: its memory is lost, its sockets stay open. */
  sleep(worker, className, name) {
    return this.#runtime.unsafeEvictDurableObject(worker, className, { name, webSockets: "hibernate" });
  }

  /** The inspector's address, where it was asked for. */
  inspector() {
    return this.#runtime.getInspectorURL();
  }

  stop() {
    return this.#runtime.dispose();
  }
}
