// The wire contract's messages (docs/protocol.md), and reading what comes over the wire.

/** A row as it travels: a JSON object whose `id` is its key. */
export type Row = { readonly id: string; readonly [field: string]: unknown };

export type Action = "create" | "update" | "delete";

/** What one write holds: the row, the fields to merge, or nothing. */
export type Fields = { readonly [field: string]: unknown };

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly retryable?: boolean;
  readonly retryAfterMs?: number;
  readonly field?: string;
  readonly current?: Row;
}

export interface Subscribe {
  readonly id: string;
  readonly channel: string;
  readonly cursor?: string | undefined;
  readonly view?: string | undefined;
  readonly limit?: number | undefined;
  readonly token?: string | undefined;
}

export interface Mutate {
  readonly id: string;
  readonly channel: string;
  readonly action: Action;
  readonly key?: string | undefined;
  readonly data?: Fields | undefined;
}

/** One change of a live stream. */
export interface Change {
  readonly action: Action;
  readonly key: string;
  readonly data: Row | null;
  readonly by?: string | null;
  readonly at?: number;
}

/** Somebody who is present in a channel. */
export interface Member {
  readonly session: string;
  readonly identity: string | null;
  readonly state: unknown;
}

export interface Signal {
  readonly event: string;
  readonly session: string;
  readonly identity: string | null;
  readonly data: unknown;
}

/** How one is present: visible with a state, or unseen. */
export type Presence = { readonly state: unknown } | { readonly watch: true };

export type ClientMessage =
  | {
      readonly type: "hello";
      readonly v: 1;
      readonly schema?: number | undefined;
      readonly client: string;
      readonly device?: string | undefined;
      readonly subscribe: readonly Subscribe[];
    }
  | ({ readonly type: "subscribe" } & Subscribe)
  | { readonly type: "unsubscribe"; readonly channel: string }
  | ({ readonly type: "mutate" } & Mutate)
  | ({ readonly type: "presence"; readonly channel: string } & Presence)
  | { readonly type: "signal"; readonly channel: string; readonly event: string; readonly data?: unknown }
  | { readonly type: "auth"; readonly token: string };

export interface Welcome {
  readonly type: "welcome";
  readonly session: string;
  readonly identity: string | null;
  readonly expiresAt: number | null;
  readonly limits?: { readonly [name: string]: number };
}

export interface Snapshot {
  readonly type: "snapshot";
  readonly id?: string;
  readonly channel: string;
  readonly mode: "full" | "delta";
  readonly data: readonly Row[];
  readonly deleted: readonly string[];
  readonly cursor: string;
  readonly view?: string;
  readonly more: boolean;
}

export interface Ack {
  readonly type: "ack";
  readonly id: string;
  readonly data: Row | null;
  readonly cursor: string;
  readonly replayed?: boolean;
}

export type PresenceMessage = { readonly type: "presence"; readonly channel: string } & {
  readonly members?: readonly Member[];
  readonly total?: number;
  readonly joined?: readonly Member[];
  readonly updated?: readonly Member[];
  readonly left?: readonly { readonly session: string }[];
};

export type ServerMessage =
  | Welcome
  | Snapshot
  | ({ readonly type: "change"; readonly channel: string; readonly cursor: string } & Change)
  | {
      readonly type: "batch";
      readonly channel: string;
      readonly changes: readonly Change[];
      readonly cursor?: string;
      readonly more?: boolean;
    }
  | { readonly type: "channel-reset"; readonly channel: string; readonly reason?: string }
  | { readonly type: "channel-change"; readonly channel: string }
  | Ack
  | { readonly type: "reject"; readonly id: string; readonly channel?: string; readonly error: WireError }
  | { readonly type: "authed"; readonly identity: string | null; readonly expiresAt: number | null; readonly view?: string }
  | PresenceMessage
  | ({ readonly type: "signal"; readonly channel: string } & Signal)
  | { readonly type: "error"; readonly error: WireError };

/** The heartbeat, to the letter: then the runtime answers by itself, with `pong`. */
export const PING = '{"type":"ping"}';

/** The messages of a frame in order, known or not. What is no message at all is left out. */
export function decode(text: string): readonly ServerMessage[] {
  try {
    return [JSON.parse(text)].flat().filter((message) => typeof message?.type === "string");
  } catch {
    return [];
  }
}

const utf8 = new TextEncoder();

export const bytesOf = (text: string): number => utf8.encode(text).length;

/** Frames of messages, each within the server's bounds; a hello stands alone. */
export function encode(messages: readonly ClientMessage[], bytes: number, count: number): string[] {
  const frames: string[][] = [];
  let room = 0;
  for (const message of messages) {
    const text = JSON.stringify(message);
    const size = bytesOf(text) + 2;
    const frame = frames.at(-1);
    const alone = message.type === "hello";
    if (frame === undefined || alone || size > room || frame.length >= count) {
      frames.push([text]);
      room = alone ? 0 : bytes - size;
    } else {
      frame.push(text);
      room -= size;
    }
  }
  return frames.map((frame) => (frame.length === 1 ? (frame[0] ?? "") : `[${frame.join(",")}]`));
}
