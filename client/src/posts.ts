// Writes over HTTP: one request at a time, so that they arrive in order.
import type { Closed } from "./link.ts";
import { address, errorIn, init } from "./requests.ts";
import type { Net, Where } from "./transport.ts";
import { bytesOf, type Mutate } from "./wire.ts";

/** Writes in one request, and their bytes: a body may have 8 MiB. */
const MOST = 100;
const MOST_BYTES = 4_000_000;

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
    queueMicrotask(() => {
      this.#run()
        .catch(() => this.#posted.end({ code: 1006 }))
        .finally(() => (this.#isRunning = false));
    });
  }

  async #run(): Promise<void> {
    const { tokenOf, tell, end } = this.#posted;
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const channelToken = tokenOf(first.channel);
      let bytes = 0;
      const other = this.#waiting.findIndex((one, nth) => {
        bytes += bytesOf(JSON.stringify(one));
        return tokenOf(one.channel) !== channelToken || (bytes > MOST_BYTES && nth > 0);
      });
      const mutations = this.#waiting.splice(0, Math.min(MOST, other < 0 ? MOST : other));
      const response = await this.#net.fetch(
        address(this.#where, "/mutate", { channelToken }).href,
        init(this.#where, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ mutations }),
        }),
      );
      if (response.ok) {
        const { results } = (await response.json()) as { readonly results: readonly object[] };
        for (const result of results) tell(result);
        continue;
      }
      const { error, closed } = await errorIn(response);
      if (closed.status === 401) return end({ ...closed, code: 4001, status: undefined });
      for (const { id, channel } of mutations) tell({ type: "reject", id, channel, error });
    }
  }
}
