// One device of somebody: what it keeps outlives its clients, and its network fails on demand.
import WebSocket from "ws";
import { createSync, storageIn } from "../../client/src/index.ts";
import { memoryDatabases } from "../../client/src/memory.ts";
import { platform } from "../../client/src/platform.ts";

/** How many of the last frames a device remembers, for whoever looks into a failure. */
const REMEMBERED = 30;

/** How long a connection that has lost one direction lasts at most, in milliseconds. */
const HALF_DEAD_MS = 60;

export class Device {
  /** The last frames, and how connections began and ended. */
  trace = [];
  /** Every connection that may still be open. */
  #lines = new Set();
  #databases;
  #who = memoryDatabases();
  #life;

  /**
   * `databases` keep rows and writes; `options` are the client's; `fetch` is its network's. `settled` is
   * told of each write that is over and no longer kept, `opened` sees each new client.
   */
  constructor({ identity, databases, options, fetch, settled, opened }) {
    Object.assign(this, { identity, options, fetch, settled, opened });
    this.#databases = databases;
  }

  /** A client of what is kept here. */
  open(more = {}) {
    const lines = this.#lines;
    const tell = (what) => this.#tell(what);
    class Line extends WebSocket {
      constructor(url) {
        super(url);
        lines.add(this);
        this.on("open", () => tell("open"));
        this.on("message", (data) => tell(`< ${data}`));
        this.on("close", (code) => lines.delete(this) && tell(`closed ${code}`));
        this.on("error", () => {});
      }
      send(text) {
        tell(`> ${text}`);
        super.send(text);
      }
    }
    this.#life = { isCut: false };
    const net = { ...platform(), WebSocket: Line, fetch: this.fetch };
    this.sync = createSync({ ...this.options, tabs: false, platform: net, storage: this.#storage(this.#life), ...more });
    this.opened(this.sync);
    return this.sync;
  }

  /** As a page does that is left: what was to be kept is. */
  close() {
    return this.sync.close();
  }

  /** As a page does that crashes: what was not kept yet is lost, whatever was sent already. */
  crash() {
    this.#life.isCut = true;
    for (const line of this.#lines) line.terminate();
    void this.sync.close();
  }

  /** The connection ends without a word, at once or after one of its directions has. */
  fail(how, chance) {
    this.#tell(how);
    for (const line of this.#lines) {
      if (how === "deaf" && line.readyState === WebSocket.OPEN) line.pause();
      if (how === "mute") line.send = () => {};
      if (how === "drop" || line.readyState !== WebSocket.OPEN) line.terminate();
      else setTimeout(() => line.terminate(), chance.below(HALF_DEAD_MS));
    }
  }

  #tell(what) {
    this.trace.push(`${new Date().toISOString().slice(14)} ${what.slice(0, 200)}`);
    if (this.trace.length > REMEMBERED) this.trace.shift();
  }

  #storage(life) {
    const never = new Promise(() => {});
    const [databases, who] = [this.#databases, this.#who];
    return storageIn({
      open: async (name, schema) => {
        const database = await databases.open(name, schema);
        return {
          load: (channel) => database.load(channel),
          outbox: () => database.outbox(),
          close: () => database.close(),
          commit: async (writes) => {
            if (life.isCut) return never;
            await database.commit(writes);
            for (const { type, id } of writes) if (type === "settled") this.settled(id);
            return life.isCut ? never : undefined;
          },
        };
      },
      destroy: (name) => databases.destroy(name),
      // Other devices are in the same process, and not to be taken for this one.
      recall: (scope) => who.recall(scope),
      remember: (scope, identity) => who.remember(scope, identity),
    });
  }
}
