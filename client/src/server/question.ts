// What the sync Worker asks, read from the wire (docs/hooks.md, "What is asked").
import { TidewireError } from "../error.ts";
import type { Action } from "./schema.ts";
import type { Operation, Page } from "./define.ts";
import { LAST_MS } from "./limits.ts";

export const OPERATIONS = ["authorize", "fetch", "create", "update", "delete"] as const;

/** What every question has. */
interface Common {
  readonly space: string;
  readonly channel: string;
  readonly session: string;
  readonly identity: string | null;
  readonly topics: readonly string[];
  readonly claims: Readonly<Record<string, unknown>> | null;
  readonly context: unknown;
  readonly request: { readonly url: string; readonly headers: Readonly<Record<string, string>> };
}

export interface Mutation extends Common {
  readonly operation: Action;
  readonly id: string;
  readonly key: string;
  readonly data: Readonly<Record<string, unknown>> | null;
  readonly authorize: boolean;
}

export type Question =
  | (Common & { readonly operation: "authorize"; readonly on: Operation })
  | (Common & {
      readonly operation: "fetch";
      readonly since: number | null;
      readonly page: Page;
      readonly authorize: boolean;
    })
  | Mutation;

/** A question that cannot be read. Both Workers are the app's, so it is their versions that differ. */
const malformed = (field: string, what: string) =>
  new TidewireError("malformed", `${field} ${what}`, { field });

type Fields = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Reads a body that was asked at a path which ends in `operation`.
 *
 * @throws {TidewireError} `unsupported_version`, `malformed`.
 */
export function questionOf(body: Uint8Array, operation: string): Question {
  let fields: unknown;
  try {
    fields = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw malformed("body", "is no JSON in UTF-8");
  }
  if (!isObject(fields)) throw malformed("body", "is no object");
  if (fields["v"] !== 1) {
    throw new TidewireError("unsupported_version", "v must be 1: update the package tidewire of the app");
  }
  // It is signed, the path is not.
  if (fields["operation"] !== operation) throw malformed("operation", "is not that of the path");
  const known = OPERATIONS.find((name) => name === operation);
  switch (known) {
    case "authorize":
      return { ...commonOf(fields), operation: known, on: operationOf(fields["on"]) };
    case "fetch": {
      const [since, page] = [sinceOf(fields["since"]), pageOf(fields["page"])];
      return { ...commonOf(fields), operation: known, since, page, authorize: flag(fields, "authorize") };
    }
    case "create":
    case "update":
    case "delete": {
      const [id, key, data] = [text(fields, "id"), text(fields, "key"), dataOf(fields["data"], known)];
      return { ...commonOf(fields), operation: known, id, key, data, authorize: flag(fields, "authorize") };
    }
    case undefined:
      throw new TidewireError("unsupported_version", "operation is unknown: update the package tidewire of the app");
  }
}

function commonOf(fields: Fields): Common {
  const { topics, claims, request } = fields;
  if (!Array.isArray(topics) || !topics.every((topic) => typeof topic === "string")) {
    throw malformed("topics", "must be texts");
  }
  if (claims !== null && !isObject(claims)) throw malformed("claims", "must be an object or null");
  if (!isObject(request)) throw malformed("request", "must be an object");
  const { url, headers } = request;
  if (typeof url !== "string" || !URL.canParse(url)) throw malformed("request.url", "must be a URL");
  if (!isObject(headers) || !Object.values(headers).every((value) => typeof value === "string")) {
    throw malformed("request.headers", "must be texts by name");
  }
  return {
    space: text(fields, "space"),
    channel: text(fields, "channel"),
    session: text(fields, "session"),
    identity: fields["identity"] === null ? null : text(fields, "identity"),
    topics,
    claims,
    context: fields["context"] ?? null,
    request: { url, headers: headers as Readonly<Record<string, string>> },
  };
}

const KINDS = ["subscribe", "create", "update", "delete", "presence", "signal"] as const;

function operationOf(on: unknown): Operation {
  if (!isObject(on)) throw malformed("on", "must be an object");
  const kind = KINDS.find((name) => name === on["kind"]);
  if (kind === undefined) throw malformed("on.kind", `must be one of ${KINDS.join(", ")}`);
  return { kind, key: on["key"] == null ? null : text(on, "key"), data: on["data"] ?? null };
}

function sinceOf(since: unknown): number | null {
  if (since === null) return null;
  if (typeof since === "number" && Number.isInteger(since) && since >= 0 && since <= LAST_MS) return since;
  throw malformed("since", "must be milliseconds or null");
}

function pageOf(page: unknown): Page {
  if (!isObject(page)) throw malformed("page", "must be an object");
  const { token, limit } = page;
  if (token !== null && typeof token !== "string") throw malformed("page.token", "must be a text or null");
  if (typeof limit !== "number" || !Number.isInteger(limit) || limit < 1) {
    throw malformed("page.limit", "must be a number of rows");
  }
  return { token, limit };
}

function dataOf(data: unknown, action: Action): Fields | null {
  if (action === "delete") return null;
  if (!isObject(data)) throw malformed("data", "must be an object");
  return data;
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string" || value === "") throw malformed(name, "must be a text");
  return value;
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name];
  if (typeof value !== "boolean") throw malformed(name, "must be true or false");
  return value;
}
