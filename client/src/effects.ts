// What happens to the engine, and what it asks for: all that its shell brings and performs.
import type { Deferred } from "./deferred.ts";
import type { TidewireError } from "./error.ts";
import type { Closed } from "./link.ts";
import type { Intent } from "./outbox.ts";
import type { Kept, Write } from "./storage.ts";
import type { Member, Presence, Row, Signal, WireError } from "./wire.ts";

/** How the whole stands. */
export type Status = "offline" | "connecting" | "syncing" | "synced" | "error";

/** What became of one intent. */
export interface Outcome {
  readonly id: string;
  readonly row?: Row | null | undefined;
  readonly error?: WireError | undefined;
}

/** One row that the app sees otherwise than before; without `row` it is gone. */
export interface RowChange {
  readonly key: string;
  readonly row: Row | undefined;
  readonly previous: Row | undefined;
}

/** Who is present in a channel. */
export interface Members {
  readonly members: readonly Member[];
  readonly total: number;
}

/** The outbox as it was read, and the ids that were known here before. */
export interface KeptOutbox {
  readonly outbox: readonly Intent[];
  readonly known: ReadonlySet<string>;
}

export type Input =
  // The app.
  | { readonly type: "connect" }
  | { readonly type: "disconnect" }
  | { readonly type: "catchUp"; readonly caught: Deferred<void> }
  | {
      readonly type: "channel";
      readonly channel: string;
      /** Whether it takes a token that the app makes. */
      readonly needsToken: boolean;
    }
  | { readonly type: "leave"; readonly channel: string }
  | { readonly type: "write"; readonly intent: Intent }
  | { readonly type: "dismiss"; readonly id: string }
  | { readonly type: "presence"; readonly channel: string; readonly want: Presence | null }
  | { readonly type: "signal"; readonly channel: string; readonly event: string; readonly data: unknown }
  // Who is here.
  | { readonly type: "identified"; readonly identity: string | null }
  | { readonly type: "signedOut"; readonly identity?: string | null | undefined }
  | { readonly type: "token"; readonly token: string | undefined }
  | { readonly type: "channelToken"; readonly channel: string; readonly token?: string | undefined }
  // What is kept.
  | { readonly type: "database"; readonly outbox: readonly Intent[] }
  | { readonly type: "loaded"; readonly channel: string; readonly nth: number; readonly kept: Kept | undefined }
  | { readonly type: "unsaved"; readonly writes: readonly Write[] }
  // The connection.
  | { readonly type: "opened"; readonly socket: number; readonly isOrdered: boolean }
  | { readonly type: "frame"; readonly socket: number; readonly text: string }
  | ({ readonly type: "closed"; readonly socket: number } & Closed)
  | { readonly type: "wake" }
  | { readonly type: "timer"; readonly name: string }
  // Other tabs.
  /** No other tab will have the connection. */
  | { readonly type: "alone" }
  /** Another tab has the connection, or this one. Where others may have written, with what is kept. */
  | { readonly type: "follower" | "leader"; readonly kept?: KeptOutbox | undefined }
  /** What another tab has committed. */
  | { readonly type: "adopt"; readonly writes: readonly Write[]; readonly outcomes: readonly Outcome[] }
  /** How the leader stands. */
  | { readonly type: "status"; readonly status: Status; readonly error: TidewireError | undefined; readonly live: readonly string[] };

export type Effect =
  | { readonly type: "open"; readonly socket: number; readonly transport: number }
  | { readonly type: "hangUp" }
  | { readonly type: "timer"; readonly name: string; readonly ms: number }
  | { readonly type: "cancel"; readonly name: string }
  | { readonly type: "send"; readonly socket: number; readonly text: string }
  /** Find out whose token it is: `identified` or `signedOut`. */
  | { readonly type: "identify" }
  /** Ask for a token to renew the session with: `token`. */
  | { readonly type: "renew" }
  | { readonly type: "channelToken"; readonly channel: string }
  /** The server has said who this is. */
  | { readonly type: "remember"; readonly identity: string | null }
  /** Open this identity's database: `database`. */
  | { readonly type: "database"; readonly identity: string | null }
  | { readonly type: "destroy"; readonly identity: string | null }
  | { readonly type: "load"; readonly channel: string; readonly nth: number }
  | { readonly type: "commit"; readonly writes: readonly Write[]; readonly outcomes: readonly Outcome[] }
  /** Join the other tabs of this database: `follower` or `leader`. Or leave them. */
  | { readonly type: "join" }
  | { readonly type: "part" }
  // For the app.
  | { readonly type: "status"; readonly status: Status; readonly error: TidewireError | undefined }
  | { readonly type: "rows"; readonly channel: string; readonly changes: readonly RowChange[] }
  /** The rows that are kept here are there, or nothing is kept. */
  | { readonly type: "restored"; readonly channel: string }
  | { readonly type: "ready"; readonly channel: string }
  | { readonly type: "refused"; readonly channel: string; readonly error: TidewireError }
  | { readonly type: "reset"; readonly channel: string; readonly reason: string }
  /** Intents of the channel were added, settled, or refused. */
  | { readonly type: "outbox"; readonly channel: string }
  | { readonly type: "settled"; readonly outcome: Outcome }
  | { readonly type: "members"; readonly channel: string }
  | { readonly type: "signal"; readonly channel: string; readonly signal: Signal }
  | { readonly type: "caughtUp"; readonly caught: Deferred<void> }
  | { readonly type: "error"; readonly error: TidewireError };

/** One turn of the engine: what it asks for so far. */
export class Turn {
  readonly now: number;
  readonly effects: Effect[] = [];
  readonly writes: Write[] = [];
  readonly outcomes: Outcome[] = [];
  /** Keys whose rows may look different now. */
  readonly touched = new Map<string, Set<string>>();

  constructor(now: number) {
    this.now = now;
  }

  add(...effects: readonly Effect[]): void {
    this.effects.push(...effects);
  }

  /** This write comes to nothing. */
  refuse(id: string, code: string, message: string): void {
    this.outcomes.push({ id, error: { code, message } });
  }

  timer(name: string, ms: number): void {
    this.add({ type: "timer", name, ms });
  }

  cancel(...names: readonly string[]): void {
    for (const name of names) this.add({ type: "cancel", name });
  }

  touch(channel: string, keys: Iterable<string>): void {
    const touched = this.touched.get(channel) ?? new Set();
    this.touched.set(channel, touched);
    for (const key of keys) touched.add(key);
  }
}
