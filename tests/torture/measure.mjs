// What workerd and the sync Worker's isolate hold: resident memory, JavaScript heap, wasm pages.
import { inspect } from "../workerd/isolate.mjs";
import { cpuMsOf, rssOf, workerd } from "../workerd/process.mjs";

export const MIB = 2 ** 20;

/** Measures the one workerd that this process has started. */
export class Meter {
  #pid = workerd();
  #isolate;

  /** One that can look into an isolate too. */
  static async open(workers, worker = "tidewire-sync") {
    const meter = new Meter();
    meter.#isolate = await inspect(workers, worker);
    return meter;
  }

  /** Bytes: resident of the process, and of the isolate's heap after a collection, and of its wasm memory. */
  async read() {
    const { used: heap, wasm } = await this.#isolate.heap();
    return { rss: rssOf(this.#pid), heap, wasm };
  }

  /** Seconds of CPU that the process has used. */
  cpu() {
    return cpuMsOf(this.#pid) / 1_000;
  }

  close() {
    this.#isolate.close();
  }
}

export const inMiB = (bytes) => Math.round((bytes / MIB) * 10) / 10;
