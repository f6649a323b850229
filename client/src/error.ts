// What goes wrong, in the wire contract's words: for whoever publishes and for whoever syncs.

/**
 * The contract's codes (docs/protocol.md, "Errors"), and some that arise before or without an answer:
 *
 * - `misconfigured`: a setting is missing or wrong. The message names it; nothing was sent.
 * - `no_answer`: no answer, or none that can be read. The call may have happened.
 * - `revoked`: the server has sent this identity away (close code 4505).
 * - `storage`: what should be kept on this device could not be read or written.
 * - `closed`: the client was closed, or its user has signed out, before this came to an end.
 *
 * A newer server may know more.
 */
export type ErrorCode =
  | "malformed"
  | "frame_too_large"
  | "unsupported_version"
  | "schema_outdated"
  | "unauthorized"
  | "forbidden"
  | "unknown_channel"
  | "read_only"
  | "invalid"
  | "not_found"
  | "conflict"
  | "rate_limited"
  | "too_many_subscriptions"
  | "unavailable"
  | "internal"
  | "misconfigured"
  | "no_answer"
  | "revoked"
  | "storage"
  | "closed"
  | (string & {});

export interface ErrorDetails {
  /** The HTTP status of the answer; absent without one. */
  readonly status?: number | undefined;
  /** The field that is wrong; in a batch it begins with the place of its change, as `events[3].key`. */
  readonly field?: string | undefined;
  /** Whether the same call, with the same idempotency key, may succeed later. */
  readonly retryable?: boolean | undefined;
  /** How long to wait before that, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /** Of a list in several batches: how many of its changes are published. */
  readonly published?: number | undefined;
  /** Of a conflict, the row as it is. Thrown by a handler, the client is told of it. */
  readonly current?: object | undefined;
  /** What was caught. */
  readonly cause?: unknown;
}

/** Why something was not published, not synced, or, thrown by a handler of `defineSync`, refused. Decide by `code` and `retryable`, never by the text. */
export class TidewireError extends Error {
  override readonly name = "TidewireError";
  declare readonly code: ErrorCode;
  declare readonly status: number | undefined;
  declare readonly field: string | undefined;
  declare readonly retryable: boolean;
  declare readonly retryAfterMs: number | undefined;
  declare readonly published: number;
  declare readonly current: object | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message);
    const { retryable = false, published = 0 } = details;
    Object.assign(this, details, { code, retryable, published });
  }
}

export function misconfigured(message: string): TidewireError {
  return new TidewireError("misconfigured", message);
}

export function invalid(field: string, message: string): TidewireError {
  return new TidewireError("invalid", `${field} ${message}`, { field });
}

/** The text of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
