// What goes wrong, in the wire contract's words.

/**
 * The contract's codes (docs/protocol.md, "Errors"), and two that arise before or without an answer:
 *
 * - `misconfigured`: a setting is missing or wrong. The message names it; nothing was sent.
 * - `no_answer`: no answer, or none that can be read. The call may have happened.
 *
 * A newer server may know more.
 */
export type ErrorCode =
  | "malformed"
  | "frame_too_large"
  | "unauthorized"
  | "forbidden"
  | "unknown_channel"
  | "read_only"
  | "invalid"
  | "not_found"
  | "conflict"
  | "rate_limited"
  | "unavailable"
  | "internal"
  | "misconfigured"
  | "no_answer"
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
  /** Of a conflict, the row as it is: thrown by a handler, the client is told of it. */
  readonly current?: object | undefined;
  /** Of a list in several batches: how many of its changes are published. */
  readonly published?: number | undefined;
}

/** Why something was not published; or, thrown by a handler of `defineSync`, refused. Decide by `code` and `retryable`, never by the text. */
export class TidewireError extends Error {
  override readonly name = "TidewireError";
  readonly code: ErrorCode;
  readonly status: number | undefined;
  readonly field: string | undefined;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly current: object | undefined;
  readonly published: number;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message);
    this.code = code;
    this.status = details.status;
    this.field = details.field;
    this.retryable = details.retryable ?? false;
    this.retryAfterMs = details.retryAfterMs;
    this.current = details.current;
    this.published = details.published ?? 0;
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
