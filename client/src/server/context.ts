// What handlers are told of the client, and which of them are asked.
import type { SyncContext, SyncHandler } from "./define.ts";
import { TidewireError, misconfigured } from "../error.ts";
import { isObject, type Question } from "./question.ts";

/** What the sync Worker says of a client. */
export type SyncSession = Pick<SyncContext, "claims" | "context" | "topics"> & { readonly identity: string };

/** Makes a user object of a session. */
export type UserOf = (session: SyncSession) => unknown;

/** What holds the bindings. */
export type Bindings = SyncContext["platform"];

/** Handlers of any rows: which, is each one's own affair. */
export type AnyHandler = SyncHandler<any, any, any>;

/**
 * What handlers are told.
 *
 * @throws {TidewireError} `malformed`.
 */
export function contextOf(question: Question, platform: Bindings, userOf: UserOf = usual): SyncContext {
  const { space, channel, session, identity, topics, claims, context } = question;
  const base = { space, channel, session, identity, topics, claims, context, platform };
  const { operation, ...more } = doneBy(question);
  const request = handshakeOf(question);
  const auth = identity === null ? null : { user: userOf({ identity, topics, claims, context }), identity };
  return { ...base, ...more, request, operation, auth };
}

function doneBy(question: Question): Pick<SyncContext, "operation" | "mutationId"> {
  switch (question.operation) {
    case "authorize":
      return { operation: question.on, mutationId: null };
    case "fetch":
      return { operation: { kind: "subscribe", key: null, data: null }, mutationId: null };
    case "create":
    case "update":
    case "delete": {
      const { operation: kind, key, data, id } = question;
      return { operation: { kind, key, data }, mutationId: id };
    }
  }
}

/** A user object as apps know it: with the user's id in it. */
function usual({ identity, claims, context }: SyncSession): unknown {
  return { id: identity, ...(isObject(context) ? context : claims) };
}

function handshakeOf({ request: { url, headers } }: Question): SyncContext["request"] {
  let request: Request;
  try {
    request = new Request(url, { headers });
  } catch {
    // Why not may quote a cookie.
    throw new TidewireError("malformed", "request is none that can be made", { field: "request" });
  }
  const cookies = new Map<string, string>();
  for (const pair of (request.headers.get("cookie") ?? "").split(";")) {
    const [name, ...value] = pair.split("=");
    // The first of a name counts: it is of the longest path.
    if (name === undefined || value.length === 0 || cookies.has(name.trim())) continue;
    cookies.set(name.trim(), value.join("=").trim());
  }
  return Object.assign(request, { cookies, query: new URL(url).searchParams });
}

/** Finds a channel's handler: by its whole name, by what handlers make of the client, by its prefix. */
export class Channels {
  readonly #byName = new Map<string, AnyHandler>();
  readonly #found: AnyHandler[] = [];

  /** @throws {TidewireError} `misconfigured`. */
  constructor(handlers: readonly AnyHandler[]) {
    for (const handler of handlers) {
      const { channel } = handler.config;
      if (typeof channel === "function") this.#found.push(handler);
      else if (this.#byName.has(channel)) throw misconfigured(`two handlers are for the channel ${channel}`);
      else this.#byName.set(channel, handler);
    }
  }

  find(ctx: SyncContext): AnyHandler | undefined {
    const { channel } = ctx;
    const exact = this.#byName.get(channel) ?? this.#found.find((handler) => isOf(handler, ctx));
    const colon = channel.indexOf(":");
    return exact ?? (colon < 0 ? undefined : this.#byName.get(channel.slice(0, colon)));
  }
}

function isOf({ config: { channel } }: AnyHandler, ctx: SyncContext): boolean {
  try {
    return typeof channel === "function" && channel(ctx) === ctx.channel;
  } catch {
    // It knows no channel for this client: there is none.
    return false;
  }
}
