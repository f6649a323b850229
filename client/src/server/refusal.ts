// What handlers throw, in the contract's words. A text that was not meant for clients does not get
// to them: it may tell of the app's insides.
import { TidewireError, textOf, type ErrorCode } from "../error.ts";
import { isObject } from "./question.ts";

/** The codes that a client may be told, with the status of an answer and what it says by default. */
const TOLD = {
  unauthorized: [401, "sign in first"],
  forbidden: [403, "this is not allowed"],
  read_only: [403, "this cannot be changed here"],
  invalid: [400, "the data are not valid"],
  not_found: [404, "no such row"],
  conflict: [409, "the row has changed, or the id was used"],
  rate_limited: [429, "too much at once, try again later"],
  unavailable: [503, "not available now, try again"],
  internal: [500, "internal"],
} as const satisfies Readonly<Record<string, readonly [number, string]>>;

type Told = keyof typeof TOLD;

const isTold = (code: unknown): code is Told => typeof code === "string" && Object.hasOwn(TOLD, code);

/** A refusal as it goes to the sync Worker. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
  readonly status?: number | undefined;
  readonly field?: string | undefined;
  readonly retryable?: boolean | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly current?: object | undefined;
  /** False where nothing was written for certain, whatever the status. */
  readonly done?: false | undefined;
}

/** A refusal as an answer. */
export function refused({ code, message, status, ...more }: Refusal): Response {
  const error = { code, message, ...more };
  const fitting = status ?? (isTold(code) ? TOLD[code][0] : 500);
  return Response.json({ error }, { status: fitting, headers: { "cache-control": "no-store" } });
}

/** Where something was thrown. */
export interface Place {
  /** As `create of todos`. */
  readonly what: string;
  readonly identity: string | null;
  /** Whether it was `authorize`: to throw is how it refuses. */
  readonly isJudge: boolean;
}

/** What becomes of something that a handler threw; what is not told to the client goes to the log. */
export function refusalOf(error: unknown, place: Place): Refusal {
  const told = meantFor(error);
  if (told !== undefined) return told;
  console.error(`${place.what} failed: ${textOf(error)}`);
  const code = hinted(error, place);
  return { code, message: TOLD[code][1] };
}

/** An error that says by its code what the client is to be told. */
function meantFor(error: unknown): Refusal | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, message } = error as Error & { readonly code?: unknown };
  // What a server answered to the app, in a publish for instance, is not about the client.
  if (error instanceof TidewireError && error.status !== undefined) return undefined;
  if (isTold(code)) return code === "internal" ? undefined : { code, message, ...detailsOf(error) };
  // The errors of 1.4 that carry their text to the client have their code for a name.
  if (typeof code !== "string" || code !== error.name || error instanceof TidewireError) return undefined;
  return { code: likest(code), message };
}

function detailsOf(error: Error): Partial<Refusal> {
  const { field, retryable, retryAfterMs, current, done } = error as Partial<Record<keyof Refusal, unknown>>;
  return {
    ...(typeof field === "string" && { field }),
    ...(typeof retryable === "boolean" && { retryable }),
    ...(typeof retryAfterMs === "number" && Number.isFinite(retryAfterMs) && { retryAfterMs }),
    ...(isObject(current) && { current }),
    ...(done === false && { done }),
  };
}

/** The code for a name that an app has given: `NotFoundError` is `not_found`. */
function likest(name: string): Told {
  const plain = name.toLowerCase().replace(/[^a-z]/g, "");
  if (/unauthori[sz]ed|unauthenticated/.test(plain)) return "unauthorized";
  if (/forbidden|denied/.test(plain)) return "forbidden";
  if (/notfound/.test(plain)) return "not_found";
  if (/conflict/.test(plain)) return "conflict";
  if (/ratelimit|toomany/.test(plain)) return "rate_limited";
  return "invalid";
}

/**
 * The code for an error without one. Handlers of 1.4 refuse by throwing plain errors: all that
 * `authorize` throws, and what begins as below. A failure is none of these: it is of another class,
 * has a code or a cause, or names one as databases do (`D1_ERROR: …`).
 */
function hinted(error: unknown, { identity, isJudge }: Place): Told {
  if (error instanceof TidewireError) return error.retryable ? "unavailable" : "internal";
  const isPlain = error instanceof Error && error.name === "Error" && !("code" in error) && error.cause === undefined;
  if (!isPlain || /^[A-Z0-9]+_[A-Z0-9_]+/.test(error.message)) return "internal";
  if (/^not found\b/i.test(error.message)) return "not_found";
  if (/^unauthori[sz]ed\b/i.test(error.message)) return identity === null ? "unauthorized" : "forbidden";
  if (/^forbidden\b/i.test(error.message)) return "forbidden";
  if (!isJudge) return "internal";
  return identity === null ? "unauthorized" : "forbidden";
}

/** What a validator threw, with the field that it names first. */
export function invalidity(error: unknown, place: Place): Refusal {
  const told = meantFor(error);
  if (told !== undefined) return told;
  const issue = firstIssue(error);
  if (issue === undefined) {
    console.error(`${place.what} failed: ${textOf(error)}`);
    return { code: "invalid", message: TOLD.invalid[1] };
  }
  const path = Array.isArray(issue["path"]) ? issue["path"].map(segmentOf).join(".") : "";
  const message = typeof issue["message"] === "string" ? issue["message"] : TOLD.invalid[1];
  return { code: "invalid", message, ...(path !== "" && { field: path }) };
}

function firstIssue(error: unknown): Readonly<Record<string, unknown>> | undefined {
  const issues = (error as { readonly issues?: unknown } | null | undefined)?.issues;
  const first: unknown = Array.isArray(issues) ? issues[0] : undefined;
  return isObject(first) ? first : undefined;
}

/** A segment is a key, or an object that has one (as valibot's). */
const segmentOf = (segment: unknown) => String(isObject(segment) ? segment["key"] : segment);
