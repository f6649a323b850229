// One workerd of its own for each peer, and what the operating system says of it.
//
// CPU is that of the workerd process, all threads, from the scheduler's accounting in nanoseconds
// (/proc/PID/task/*/schedstat). It holds what workerd does for a peer, sockets and SQLite included, and
// nothing of the clients or of Miniflare, which only starts it.
import { readFileSync, readdirSync } from "node:fs";
import { Log, LogLevel, Miniflare, convertV4MiniflareOptions } from "miniflare";
import { hasProc, rssOf, workerd, workerds } from "../tests/workerd/process.mjs";

export { hasProc };

/** Starts Workers, given in Miniflare's options, in a workerd of their own on a free port. */
export async function startWorkerd(workers, { inspector = false } = {}) {
  const before = workerds();
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
  return new Workerd(runtime, origin, workerd(before), { logs });
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
    return rssOf(this.pid);
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
