// One call to the sync engine, once: over the object's binding, the service binding, or the network.
import { TidewireError, textOf } from "../error.ts";
import type { Published } from "./schema.ts";
import type { Way } from "./settings.ts";

/** One call on its way. */
export interface Post {
  readonly path: "/broadcast" | "/broadcast-batch";
  readonly space: string;
  /** The JSON body. */
  readonly body: string;
  /** Makes the call happen once. */
  readonly idempotencyKey: string | undefined;
}

/**
 * Makes a call, which may take `ms`.
 *
 * @throws {TidewireError} what the server refused, or that there is no answer.
 */
export async function send(way: Way, post: Post, ms: number): Promise<Published> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error(`no answer within ${ms} ms`)), ms);
  try {
    const response = await fetchOver(way, post, late.signal);
    return read(response, await response.text());
  } catch (error) {
    if (error instanceof TidewireError) throw error;
    const why = textOf(late.signal.aborted ? late.signal.reason : error);
    throw noAnswer(why, { retryable: true });
  } finally {
    clearTimeout(timer);
  }
}

function fetchOver(way: Way, post: Post, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (post.idempotencyKey !== undefined) headers["idempotency-key"] = post.idempotencyKey;
  // A redirect is an answer: neither key nor rows go where it points to.
  const init: RequestInit = { method: "POST", headers, body: post.body, signal, redirect: "manual" };
  if (way.kind === "object") {
    // The path inside, as the sync Worker's router asks it (src/workers/internal.rs). Whoever holds
    // this binding may do everything: there is no key.
    headers["x-tidewire-publisher"] = "unscoped";
    const stub = way.namespace.get(way.namespace.idFromName(post.space));
    return stub.fetch(`https://sync-engine${post.path}`, init);
  }
  headers["authorization"] = `Bearer ${way.key}`;
  const { fetcher, origin } = way.worker;
  const url = `${origin}${post.path}?space=${post.space}`;
  return fetcher ? fetcher.fetch(url, init) : fetch(url, init);
}

function noAnswer(why: string, details: { status?: number; retryable: boolean; retryAfterMs?: number | undefined }) {
  return new TidewireError("no_answer", `no answer, the call may have happened: ${why}`, details);
}

/** The fields of a value, whatever it is. */
function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function parsed(text: string): Record<string, unknown> {
  try {
    return fieldsOf(JSON.parse(text));
  } catch {
    return {};
  }
}

function read(response: Response, text: string): Published {
  const { status } = response;
  const body = parsed(text);
  if (status === 200) {
    const { cursor, seq, receivers } = body;
    if (typeof cursor === "string" && typeof seq === "number" && typeof receivers === "number") {
      return { cursor, seq, receivers };
    }
    throw noAnswer("status 200 without a result that can be read", { status, retryable: true });
  }
  const { code, message, field, retryable, retryAfterMs } = fieldsOf(body["error"]);
  const wait = typeof retryAfterMs === "number" ? retryAfterMs : retryAfter(response);
  if (typeof code !== "string") {
    // Not the sync Worker's words: something on the way. What it says is for now, or for good.
    const why = `status ${status} without an error that can be read`;
    throw noAnswer(why, { status, retryable: status === 429 || status >= 500, retryAfterMs: wait });
  }
  throw new TidewireError(code, `refused with ${code} (${status}): ${String(message)}`, {
    status,
    field: typeof field === "string" ? field : undefined,
    retryable: retryable === true,
    retryAfterMs: wait,
  });
}

/** The header's seconds or date, in milliseconds from now. */
function retryAfter(response: Response): number | undefined {
  const text = response.headers.get("retry-after") ?? "";
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) && ms > 0 ? ms : undefined;
}
