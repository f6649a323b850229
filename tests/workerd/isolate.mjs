// An isolate in workerd, seen through its inspector: its heap, its wasm memory, and CPU profiles.
import WebSocket from "ws";

/** Connects to the isolate of a Worker, whose workerd was started with `inspector`. */
export async function inspect(workerd, worker) {
  const base = await workerd.inspector();
  const targets = await (await fetch(new URL("/json", base.href.replace(/^ws/, "http")))).json();
  const target = targets.find(({ id }) => id === `core:user:${worker}`);
  if (target === undefined) throw new Error(`the inspector has no ${worker}: ${JSON.stringify(targets)}`);
  const socket = new WebSocket(new URL(`/${target.id}`, base.href.replace(/^http/, "ws")));
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return new Session(socket);
}

class Session {
  #socket;
  #number = 0;
  #asked = new Map();
  #chunks = [];

  constructor(socket) {
    this.#socket = socket;
    socket.on("message", (text) => {
      const { id, method, params, result, error } = JSON.parse(text);
      if (method === "HeapProfiler.addHeapSnapshotChunk") this.#chunks.push(params.chunk);
      const asked = this.#asked.get(id);
      this.#asked.delete(id);
      if (error) asked?.reject(new Error(`the inspector: ${error.message}`));
      else asked?.resolve(result);
    });
  }

  #ask(method, params = {}) {
    return new Promise((resolve, reject) => {
      const id = ++this.#number;
      this.#asked.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  /** Bytes of the JavaScript heap that are in use after a collection, and of wasm memory beside it. */
  async heap() {
    // workerd does not answer HeapProfiler.collectGarbage; a snapshot collects too, and knows the wasm memory.
    await this.#ask("HeapProfiler.takeHeapSnapshot");
    const snapshot = JSON.parse(this.#chunks.splice(0).join(""));
    const { usedSize } = await this.#ask("Runtime.getHeapUsage");
    return { used: usedSize, wasm: wasmMemory(snapshot) };
  }

  async profile(work) {
    await this.#ask("Profiler.enable");
    await this.#ask("Profiler.setSamplingInterval", { interval: 100 });
    await this.#ask("Profiler.start");
    await work();
    const { profile } = await this.#ask("Profiler.stop");
    return profile;
  }

  close() {
    this.#socket.close();
  }
}

/** Bytes of wasm memory in a heap snapshot: of the largest buffer, if it is of whole wasm pages. */
function wasmMemory({ snapshot, nodes, strings }) {
  const fields = snapshot.meta.node_fields;
  const [name, size] = [fields.indexOf("name"), fields.indexOf("self_size")];
  let most = 0;
  for (let at = 0; at < nodes.length; at += fields.length) {
    const bytes = nodes[at + size];
    if (strings[nodes[at + name]] === "system / JSArrayBufferData" && bytes % 65_536 === 0)
      most = Math.max(most, bytes);
  }
  return most;
}
