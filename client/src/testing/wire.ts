// The network between a client and the server in memory: frames take their time, and may be cut off.
import type { Closed } from "../link.ts";
import type { Connection, Listener, Net } from "../transport.ts";

/** What happens to frames. Order is kept, as on any socket. */
export interface Faults {
  /** How long a frame takes, in milliseconds. */
  delay?: (to: "client" | "server") => number;
  /** Whether the connection ends instead of this frame. */
  cut?: (to: "client" | "server", text: string) => boolean;
  /** Whether the client gets a frame twice. */
  repeat?: (text: string) => boolean;
}

type Way = "client" | "server" | "answers";

export class Wire {
  /** What the server does with it. */
  received: (text: string) => void = () => {};
  opened: () => void = () => {};
  ended: () => void = () => {};
  readonly client: Connection;
  readonly #listener: Listener;
  readonly #net: Net;
  readonly #faults: Faults;
  readonly #arrivals = { client: 0, server: 0, answers: 0 };
  readonly #queues = { client: [] as (() => void)[], server: [] as (() => void)[], answers: [] as (() => void)[] };
  #isOver = false;
  /** The client has hung up: it is told nothing more. */
  #isDeaf = false;

  constructor(listener: Listener, net: Net, faults: Faults) {
    this.#listener = listener;
    this.#net = net;
    this.#faults = faults;
    this.client = {
      send: (text) => this.#carry("server", text),
      close: () => {
        this.#isDeaf = true;
        this.#later("server", () => this.#end());
      },
    };
  }

  open(): void {
    this.#later("client", () => {
      if (this.#isOver) return;
      this.opened();
      this.#listener.opened();
    });
  }

  refuse(how: Closed): void {
    this.#later("client", () => this.cut(how));
  }

  toClient(text: string): void {
    this.#carry("client", text);
    if (this.#faults.repeat?.(text)) this.#carry("client", text);
  }

  /** An answer that goes its own way. */
  answer(text: string): void {
    this.#carry("client", text, "answers");
  }

  /** Ends the connection; what was said before still arrives. */
  cut(how: Closed): void {
    if (this.#isOver) return;
    this.#end();
    this.#later("client", () => this.#isDeaf || this.#listener.closed(how));
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.ended();
  }

  #carry(to: "client" | "server", text: string, way: Way = to): void {
    if (this.#isOver) return;
    if (this.#faults.cut?.(to, text)) return this.cut({ code: 1006 });
    this.#later(way, () => {
      if (to === "client") return this.#isDeaf || this.#listener.frame(text);
      if (!this.#isOver) this.received(text);
    });
  }

  #later(way: Way, run: () => void): void {
    const now = this.#net.now();
    const delay = this.#faults.delay?.(way === "server" ? "server" : "client") ?? 0;
    const at = Math.max(now + delay, this.#arrivals[way]);
    this.#arrivals[way] = at;
    this.#queues[way].push(run);
    // Whichever timer comes first takes the first frame.
    this.#net.after(at - now, () => this.#queues[way].shift()?.());
  }
}
