// A virtual world: a clock that only tests move, clients and their server.
import { createSync, memoryStorage, type Platform, type Storage, type Sync, type SyncOptions } from "../../client/src/index.ts";
import { createTestServer, testToken, type TestServer, type TestServerOptions } from "../../client/src/testing/index.ts";
import { chance } from "../chance.ts";

export interface Todo {
  id: string;
  title: string;
  done?: boolean;
  [more: string]: unknown;
}

/** Everything that waits for promises alone has happened. */
export async function calm(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

export class Clock {
  time = 1_800_000_000_000;
  #timers: { at: number; nth: number; run: () => void }[] = [];
  #nth = 0;

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.time + Math.max(0, ms), nth: (this.#nth += 1), run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** How long until the next timer. */
  get next(): number {
    return Math.min(...this.#timers.map(({ at }) => at)) - this.time;
  }

  /** Lets time pass. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    await calm();
    for (;;) {
      const [first] = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at || a.nth - b.nth);
      if (first === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== first);
      this.time = Math.max(this.time, first.at);
      first.run();
      await calm();
    }
    this.time = end;
  }
}

type Rows = Record<string, Todo>;

export class World {
  readonly clock = new Clock();
  readonly server: TestServer;
  random: () => number;
  readonly clients: Sync<Rows>[] = [];
  readonly wakes = new Set<() => void>();
  fetch: Platform["fetch"] = () => Promise.reject(new TypeError("offline"));

  constructor(options?: TestServerOptions, seed = 1) {
    this.server = createTestServer(options);
    this.random = chance(seed);
  }

  get platform(): Platform {
    const { clock } = this;
    return {
      now: () => clock.time,
      after: (ms, run) => clock.after(ms, run),
      random: () => this.random(),
      fetch: (input, init) => this.fetch(input, init),
      WebSocket,
      onWake: (run) => {
        this.wakes.add(run);
        return () => void this.wakes.delete(run);
      },
    };
  }

  /** A client of somebody, or of nobody. */
  client(identity: string | null = "alice", more: SyncOptions = {}): Sync<Rows> {
    const token = identity === null ? {} : { token: testToken(identity) };
    const sync = createSync<Rows>({
      url: "http://sync.test",
      transports: [this.server.transport],
      platform: this.platform,
      ...token,
      ...more,
    });
    this.clients.push(sync);
    return sync;
  }

  pass(ms = 100): Promise<void> {
    return this.clock.pass(ms);
  }

  wake(): void {
    for (const run of this.wakes) run();
  }

  async close(): Promise<void> {
    for (const client of this.clients) await client.close();
  }
}

export const storage = (): Storage => memoryStorage();

/** What became of a promise by now. */
export async function fate(promise: Promise<unknown>): Promise<unknown> {
  let result: unknown = "waits";
  promise.then(
    (value) => (result = value),
    (error: { code: string }) => (result = error.code),
  );
  await calm();
  return result;
}
