// What workerd and the sync Worker's isolate hold: resident memory, JavaScript heap, wasm pages.
import { readFileSync, readdirSync } from "node:fs";
import WebSocket from "ws";

export const MIB = 2 ** 20;

/** The process that runs the Workers of a deployment, if this process has started one alone. */
function workerd() {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (stat.includes("(workerd)") && Number(parent) === process.pid) return pid;
    } catch {
      // It has ended.
    }
  }
  throw new Error("no workerd is running");
}

export class Meter {
  #pid = workerd();
  #socket;
  #asked = new Map();
  #chunks = [];

  static async open(workers, worker = "tidewire-sync") {
    const base = await workers.inspector();
    const targets = await (await fetch(new URL("/json", base.href.replace(/^ws/, "http")))).json();
    const { id } = targets.find(({ id }) => id === `core:user:${worker}`);
    const meter = new Meter();
    meter.#socket = new WebSocket(new URL(`/${id}`, base.href.replace(/^http/, "ws")), { maxPayload: 2 ** 30 });
    meter.#socket.on("message", (text) => meter.#take(JSON.parse(text)));
    await new Promise((resolve, reject) => meter.#socket.once("open", resolve).once("error", reject));
    return meter;
  }

  #take({ id, method, params, result, error }) {
    if (method === "HeapProfiler.addHeapSnapshotChunk") this.#chunks.push(params.chunk);
    if (error) this.#asked.get(id)?.reject(new Error(`the inspector: ${error.message}`));
    else this.#asked.get(id)?.resolve(result);
    this.#asked.delete(id);
  }

  #ask(method) {
    const id = crypto.randomUUID().length + Math.floor(Math.random() * 2 ** 30);
    const asked = Promise.withResolvers();
    this.#asked.set(id, asked);
    this.#socket.send(JSON.stringify({ id, method, params: {} }));
    return asked.promise;
  }

  /** Bytes: resident of the process, and of the isolate's heap after a collection, and of its wasm memory. */
  async read() {
    // workerd does not answer HeapProfiler.collectGarbage; a snapshot collects, and knows the wasm memory.
    this.#chunks = [];
    await this.#ask("HeapProfiler.takeHeapSnapshot");
    const { snapshot, nodes, strings } = JSON.parse(this.#chunks.splice(0).join(""));
    const { usedSize: heap } = await this.#ask("Runtime.getHeapUsage");
    const fields = snapshot.meta.node_fields;
    const [name, size] = [fields.indexOf("name"), fields.indexOf("self_size")];
    let wasm = 0;
    for (let at = 0; at < nodes.length; at += fields.length) {
      const bytes = nodes[at + size];
      if (bytes % 65_536 === 0 && strings[nodes[at + name]] === "system / JSArrayBufferData") wasm = Math.max(wasm, bytes);
    }
    return { rss: this.rss(), heap, wasm };
  }

  rss() {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.#pid}/status`, "utf8"))[1]) * 1_024;
  }

  /** Seconds of CPU that the process has used. */
  cpu() {
    const stat = readFileSync(`/proc/${this.#pid}/stat`, "utf8");
    const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13);
    return (Number(user) + Number(system)) / 100;
  }

  close() {
    this.#socket.close();
  }
}

export const inMiB = (bytes) => Math.round((bytes / MIB) * 10) / 10;
