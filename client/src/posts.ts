// Writes over HTTP: one request at a time, so that they arrive in order.
import type { Closed } from "./link.ts";
import { address, errorIn, init } from "./requests.ts";
import type { Net, Where } from "./transport.ts";
import { bytesOf, type Mutate } from "./wire.ts";

/** Writes in one request, and their bytes: a body may have 8 MiB. */
const MOST = 100;
const MOST_BYTES = 4_000_000;
/** How long an answer may take. */
const ANSWER_MS = 30_000;

export interface Posted {
  readonly tell: (message: object) => void;
  readonly end: (how: Closed) => void;
  /** The token by which a channel is open. */
  readonly tokenOf: (channel: string) => string | undefined;
}

export class Posts {
  readonly #where: Where;
  readonly #net: Net;
  readonly #posted: Posted;
  #waiting: Mutate[] = [];
  #isRunning = false;

  constructor(where: Where, net: Net, posted: Posted) {
    this.#where = where;
    this.#net = net;
    this.#posted = posted;
  }

  add(mutation: Mutate): void {
    this.#waiting.push(mutation);
    if (this.#isRunning) return;
    this.#isRunning = true;
    // What is written in one go is sent in one.
    queueMicrotask(() => void this.#run().catch(() => this.#posted.end({ code: 1006 })));
  }

  async #run(): Promise<void> {
    try {
      while (this.#waiting.length > 0) if (!(await this.#send())) return;
    } finally {
      // In the turn that found nothing waiting: what is added after it begins anew.
      this.#isRunning = false;
    }
  }

  /** Sends what may go together; says whether the connection goes on. */
  async #send(): Promise<boolean> {
    const { tokenOf, tell, end } = this.#posted;
    const channelToken = this.#waiting[0] && tokenOf(this.#waiting[0].channel);
    let bytes = 0;
    const other = this.#waiting.findIndex((one, nth) => {
      bytes += bytesOf(JSON.stringify(one));
      return tokenOf(one.channel) !== channelToken || (bytes > MOST_BYTES && nth > 0);
    });
    const mutations = this.#waiting.splice(0, Math.min(MOST, other < 0 ? MOST : other));
    const late = new AbortController();
    const inTime = this.#net.after(ANSWER_MS, () => late.abort());
    try {
      const response = await this.#net.fetch(
        address(this.#where, "/mutate", { channelToken }).href,
        init(this.#where, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ mutations }),
          signal: late.signal,
        }),
      );
      if (response.ok) {
        const { results } = (await response.json()) as { readonly results: readonly object[] };
        for (const result of results) tell(result);
        return true;
      }
      const { error, closed } = await errorIn(response);
      if (closed.status === 401) {
        end({ ...closed, code: 4001, status: undefined });
        return false;
      }
      for (const { id, channel } of mutations) tell({ type: "reject", id, channel, error });
      return true;
    } finally {
      inTime();
    }
  }
}
