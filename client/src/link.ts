// When to connect, when to give up a connection, and how long to wait for the next: decisions alone.
import { TidewireError } from "./error.ts";

/** How a connection ended, or why it never was one. */
export interface Closed {
  readonly code: number;
  readonly reason?: string | undefined;
  /** Of a connection that never opened: what `GET /api/sync/session` said; 0 is no answer. */
  readonly status?: number | undefined;
  readonly retryAfterMs?: number | undefined;
}

export interface LinkOptions {
  readonly autoReconnect: boolean;
  readonly reconnectInterval: number;
  readonly maxReconnectInterval: number;
  /** How many transports there are to choose from. */
  readonly transports: number;
}

/** What becomes of a connection by itself: nobody wants it, it waits for its time, ... or it is up. */
export type Phase = "off" | "waiting" | "opening" | "up" | "stopped";

export type LinkEffect =
  | { readonly type: "open"; readonly socket: number; readonly transport: number }
  | { readonly type: "hangUp"; readonly socket: number }
  | { readonly type: "ping"; readonly socket: number }
  | { readonly type: "timer"; readonly name: string; readonly ms: number }
  | { readonly type: "cancel"; readonly name: string };

const PING_MS = 25_000;
const PONG_MS = 10_000;
/** How long an upgrade and its welcome may take. */
const OPEN_MS = 20_000;
/** A connection that has lasted so long begins the next pauses anew. */
const STABLE_MS = 10_000;
/** The first pause after a restart, when everybody comes back at once. */
const RESTART_MS = 5_000;

/** What close codes of 4500 and more say. They mean: do not come back. */
const endings: { readonly [code: number]: string } = {
  4501: "forbidden",
  4502: "malformed",
  4503: "unsupported_version",
  4504: "schema_outdated",
  4505: "revoked",
};

export class Link {
  phase: Phase = "off";
  /** Why it has stopped. */
  error: TidewireError | undefined;
  /** The connection that counts: what others still say is void. */
  socket = 0;
  transport = 0;
  #attempt = 0;
  #base: number;
  /** A server's own word on when to come back. */
  #notBefore = 0;
  #unauthorized = 0;
  #unopened = 0;
  readonly #options: LinkOptions;
  readonly #random: () => number;

  constructor(options: LinkOptions, random: () => number) {
    this.#options = options;
    this.#random = random;
    this.#base = options.reconnectInterval;
  }

  /** Connects now, unless it is connected or told to wait. */
  connect(now: number): LinkEffect[] {
    if (this.phase === "opening" || this.phase === "up") return [];
    this.error = undefined;
    this.#unauthorized = 0;
    const wait = this.#notBefore - now;
    return wait > 0 ? this.#wait(wait) : this.#open();
  }

  /** Hangs up, and stays away. */
  disconnect(): LinkEffect[] {
    this.error = undefined;
    return this.#end("off");
  }

  /** The network is back, or somebody looks: connects now, or asks whether the connection lives. */
  wake(now: number): LinkEffect[] {
    if (this.phase === "waiting") {
      this.transport = 0;
      return this.connect(now);
    }
    return this.phase === "up" ? this.#ping() : [];
  }

  /** Hangs up and comes back at once, for instance as somebody else. */
  restart(now: number): LinkEffect[] {
    return [...this.#end("waiting"), ...this.connect(now)];
  }

  /** Anything that was received proves that the connection lives. */
  heard(): LinkEffect[] {
    return [{ type: "cancel", name: "pong" }];
  }

  welcomed(): LinkEffect[] {
    this.phase = "up";
    this.#unauthorized = 0;
    return [
      { type: "cancel", name: "open" },
      { type: "timer", name: "stable", ms: STABLE_MS },
      { type: "timer", name: "ping", ms: PING_MS },
    ];
  }

  /** The server asks to be left alone for a while. */
  holdOff(until: number): void {
    this.#notBefore = Math.max(this.#notBefore, until);
  }

  timer(name: string, now: number): LinkEffect[] {
    switch (name) {
      case "retry":
        return this.phase === "waiting" ? this.#open() : [];
      case "stable":
        this.#attempt = 0;
        this.#unopened = 0;
        this.#base = this.#options.reconnectInterval;
        return [];
      case "ping":
        return this.phase === "up" ? this.#ping() : [];
      case "open":
      case "pong":
        return this.closed({ code: 1006, status: 0 }, now);
      default:
        return [];
    }
  }

  closed(how: Closed, now: number): LinkEffect[] {
    const { code, status } = how;
    if (how.retryAfterMs !== undefined) this.holdOff(now + how.retryAfterMs);
    const ending = code >= 4500 && code <= 4999 ? (endings[code] ?? "forbidden") : undefined;
    if (ending !== undefined) return this.#stop(ending, how.reason || `the server closed with ${code}`);
    if (status === 403) return this.#stop("forbidden", "the server refused the connection");
    // A token may have ended on the way here. That of the next attempt is a new one.
    if (status === 401 && ++this.#unauthorized > 1) return this.#stop("unauthorized", "the token was refused");
    // The session is good and yet no connection opens: something between lets no such transport through.
    if (status === 200 && ++this.#unopened > 1) {
      this.transport = (this.transport + 1) % this.#options.transports;
      this.#unopened = 0;
    }
    if (!this.#options.autoReconnect) return this.#end("off");
    if (code === 4000) this.#base = Math.max(this.#base, RESTART_MS);
    const longest = Math.min(this.#options.maxReconnectInterval, this.#base * 2 ** this.#attempt++);
    const pause = this.#random() * longest;
    return this.#wait(Math.max(pause, this.#notBefore - now));
  }

  #open(): LinkEffect[] {
    this.phase = "opening";
    this.socket += 1;
    return [
      { type: "cancel", name: "retry" },
      { type: "open", socket: this.socket, transport: this.transport },
      { type: "timer", name: "open", ms: OPEN_MS },
    ];
  }

  #ping(): LinkEffect[] {
    return [
      { type: "ping", socket: this.socket },
      { type: "timer", name: "pong", ms: PONG_MS },
      { type: "timer", name: "ping", ms: PING_MS },
    ];
  }

  #wait(ms: number): LinkEffect[] {
    return [...this.#end("waiting"), { type: "timer", name: "retry", ms }];
  }

  #stop(code: string, message: string): LinkEffect[] {
    const effects = this.#end("stopped");
    this.error = new TidewireError(code, message);
    return effects;
  }

  #end(phase: Phase): LinkEffect[] {
    const isOpen = this.phase === "opening" || this.phase === "up";
    this.phase = phase;
    const { socket } = this;
    // What still comes from it is void.
    if (isOpen) this.socket += 1;
    const names = ["retry", "open", "stable", "ping", "pong"];
    const cancels = names.map((name): LinkEffect => ({ type: "cancel", name }));
    return isOpen ? [{ type: "hangUp", socket }, ...cancels] : cancels;
  }
}
