// The parent's end of a process with clients (load.mjs).
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { settle } from "./pace.mjs";

/** How long anything may take that must happen: a machine under load is slow, a lost delivery takes for ever. */
const PATIENCE_MS = 300_000;

/** Starts a process with clients. */
export class Load {
  #child = fork(fileURLToPath(new URL("load.mjs", import.meta.url)), { serialization: "advanced" });
  #asked = new Map();
  #number = 0;
  #stopped = false;

  constructor() {
    this.#child.on("message", ({ number, answer, fault }) => {
      if (fault !== undefined) this.#fail(new Error(`a client: ${fault}`));
      else this.#asked.get(number)?.resolve(answer);
      this.#asked.delete(number);
    });
    this.#child.on("exit", () => this.#stopped || this.#fail(new Error("the process with clients has ended")));
  }

  #fail(error) {
    this.fault ??= error;
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }

  #ask(command, options) {
    if (this.fault) return Promise.reject(this.fault);
    return new Promise((resolve, reject) => {
      const number = ++this.#number;
      const late = setTimeout(() => {
        this.#asked.delete(number);
        reject(
          new Error(
            `no answer within ${PATIENCE_MS} ms: ${command} ${JSON.stringify({ ...options, sockets: undefined })}`,
          ),
        );
      }, PATIENCE_MS);
      const settle = (how) => (value) => {
        clearTimeout(late);
        how(value);
      };
      this.#asked.set(number, { resolve: settle(resolve), reject: settle(reject) });
      this.#child.send({ number, command, ...options });
    });
  }

  /** Opens sockets: how long it took. */
  open(group, sockets, { concurrency = 50, strict } = {}) {
    return this.#ask("open", { group, sockets, concurrency, strict });
  }

  /** Waits until a mark was delivered `count` times: when the first and the last came. */
  wait(group, mark, count) {
    return this.#ask("wait", { group, mark, count });
  }

  /** How often each mark was delivered, which must be `count` times; forgets them. */
  async check(group, from, marks, count) {
    const { counts } = await this.#ask("counts", { group, from });
    const seen = new Map(counts);
    for (const mark of marks) {
      if (seen.get(mark) !== count)
        throw new Error(`${group}: ${mark} came ${seen.get(mark) ?? 0} times, not ${count}`);
    }
    return marks.length * count;
  }

  mutate(group, options) {
    return this.#ask("mutate", { group, ...options });
  }

  read(group, options) {
    return this.#ask("read", { group, ...options });
  }

  async close(group) {
    await this.#ask("close", { group });
    await this.#ask("forget", { group });
  }

  /** Ends the process. What came to its sockets after the last question is looked at, too: a fault is thrown. */
  async stop() {
    await settle();
    // Its answer comes after what the process said before. If it has ended, that is a fault already.
    await this.#ask("forget", {}).catch(() => {});
    this.#stopped = true;
    const ended = (this.#child.exitCode ?? this.#child.signalCode) === null ? once(this.#child, "exit") : undefined;
    if (this.#child.connected) this.#child.disconnect();
    await ended;
    if (this.fault) throw this.fault;
  }
}
