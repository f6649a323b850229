// When to connect, when to give up a connection, and how long to wait for the next: decisions alone.
import type { Turn } from "./effects.ts";
import { TidewireError } from "./error.ts";
import { PING } from "./wire.ts";

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
export type Phase = "offline" | "waiting" | "connecting" | "up" | "error";

const PING_MS = 25_000;
const PONG_MS = 10_000;
/** How long an upgrade and its welcome may take. */
const OPEN_MS = 20_000;
/** A connection that has lasted so long begins the next pauses anew. */
const STABLE_MS = 10_000;
/** The first pause after a restart, when everybody comes back at once. */
const RESTART_MS = 5_000;

/** What close codes of 4501 and more say. They mean: do not come back. */
const endings = ["forbidden", "malformed", "unsupported_version", "schema_outdated", "revoked"];

export class Link {
  phase: Phase = "offline";
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
  connect(turn: Turn): void {
    if (this.phase === "connecting" || this.phase === "up") return;
    this.error = undefined;
    this.#unauthorized = 0;
    const wait = this.#notBefore - turn.now;
    if (wait > 0) this.#wait(turn, wait);
    else this.#open(turn);
  }

  /** Hangs up, and stays away. */
  disconnect(turn: Turn): void {
    this.#end(turn, "offline");
  }

  /** The network is back, or somebody looks: connects now, or asks whether the connection lives. */
  wake(turn: Turn): void {
    if (this.phase === "up") this.#ping(turn);
    if (this.phase !== "waiting") return;
    this.transport = 0;
    this.connect(turn);
  }

  /** Anything that was received proves that the connection lives. */
  heard(turn: Turn): void {
    turn.cancel("pong");
  }

  welcomed(turn: Turn): void {
    this.phase = "up";
    this.#unauthorized = 0;
    turn.cancel("open");
    turn.timer("stable", STABLE_MS);
    turn.timer("ping", PING_MS);
  }

  /** The server asks to be left alone for a while. */
  holdOff(until: number): void {
    this.#notBefore = Math.max(this.#notBefore, until);
  }

  timer(turn: Turn, name: string): void {
    if (name === "retry" && this.phase === "waiting") this.#open(turn);
    if (name === "ping" && this.phase === "up") this.#ping(turn);
    if (name === "open" || name === "pong") this.closed(turn, { code: 1006, status: 0 });
    if (name !== "stable") return;
    this.#attempt = 0;
    this.#unopened = 0;
    this.#base = this.#options.reconnectInterval;
  }

  closed(turn: Turn, { code, reason, status, retryAfterMs }: Closed): void {
    if (retryAfterMs !== undefined) this.holdOff(turn.now + retryAfterMs);
    const isFinal = code >= 4500 && code <= 4999;
    if (isFinal) return this.#stop(turn, endings[code - 4501] ?? "forbidden", reason || "closed");
    if (status === 403) return this.#stop(turn, "forbidden", "the server refused");
    // A token may have ended on the way here. That of the next attempt is a new one.
    if (status === 401 && ++this.#unauthorized > 1) return this.#stop(turn, "unauthorized", "the server refused");
    // The session is good and yet no connection opens: something between lets no such transport through.
    if (status === 200 && ++this.#unopened > 1) {
      this.transport = (this.transport + 1) % this.#options.transports;
      this.#unopened = 0;
    }
    if (!this.#options.autoReconnect) return this.#end(turn, "offline");
    if (code === 4000) this.#base = Math.max(this.#base, RESTART_MS);
    const longest = Math.min(this.#options.maxReconnectInterval, this.#base * 2 ** this.#attempt++);
    this.#wait(turn, Math.max(this.#random() * longest, this.#notBefore - turn.now));
  }

  #open(turn: Turn): void {
    this.phase = "connecting";
    this.socket += 1;
    turn.cancel("retry");
    turn.add({ type: "open", socket: this.socket, transport: this.transport });
    turn.timer("open", OPEN_MS);
  }

  #ping(turn: Turn): void {
    turn.add({ type: "send", socket: this.socket, text: PING });
    turn.timer("pong", PONG_MS);
    turn.timer("ping", PING_MS);
  }

  #wait(turn: Turn, ms: number): void {
    this.#end(turn, "waiting");
    turn.timer("retry", ms);
  }

  #stop(turn: Turn, code: string, message: string): void {
    this.#end(turn, "error");
    this.error = new TidewireError(code, message);
  }

  #end(turn: Turn, phase: Phase): void {
    if (this.phase === "connecting" || this.phase === "up") {
      turn.add({ type: "hangUp" });
      // What still comes from it is void.
      this.socket += 1;
    }
    this.phase = phase;
    this.error = undefined;
    turn.cancel("retry", "open", "stable", "ping", "pong");
  }
}
