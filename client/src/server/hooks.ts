// The route by which the sync Worker asks the app for its rows (docs/hooks.md).
import { Channels, contextOf, type AnyHandler, type Bindings, type UserOf } from "./context.ts";
import type { SyncContext } from "./define.ts";
import { TidewireError, textOf } from "../error.ts";
import { QUESTION_BYTES, TOLERANCE_SECONDS } from "./limits.ts";
import type { RouteEvent } from "./proxy.ts";
import { questionOf, type Question } from "./question.ts";
import { refused } from "./refusal.ts";
import type { Platform } from "./settings.ts";
import { isGenuine, isTimely, keysOf, signedOf } from "./signature.ts";
import { Answered, Turn, type Progress } from "./turn.ts";

export interface HooksOptions {
  /**
   * What the sync Worker signs with: the setting `HOOK_SECRET` by default, and beside it
   * `HOOK_SECRET_PREVIOUS` while one takes the other's place. Each of several counts.
   */
  readonly secret?: string | readonly string[] | undefined;
  /** What holds the bindings, where the route is not called with them. */
  readonly platform?: Platform | null | undefined;
  /**
   * Makes `ctx.auth.user` of a session, for each question anew. By default it is the `context` that
   * the app's authenticator gave, else the token's claims, with an `id`.
   */
  readonly user?: UserOf | undefined;
}

/** A route for SvelteKit's events, and the `fetch` of any Worker: `(request, env, ctx)`. */
export type HooksRoute = (event: RouteEvent, env?: object, ctx?: unknown) => Promise<Response>;

/**
 * Makes the route that answers the sync Worker, at any path that ends in `/sync-hooks/<operation>`.
 * Without a secret it refuses everything.
 *
 * @throws {TidewireError} `misconfigured`: two handlers are for one channel.
 */
export function syncHooks(handlers: readonly AnyHandler[], options: HooksOptions = {}): { readonly POST: HooksRoute } {
  const channels = new Channels(handlers);
  const POST: HooksRoute = async (event, env, ctx) => {
    const [request, platform] = calledWith(event, env, ctx, options);
    const progress: Progress = { mayBeDone: false };
    try {
      return await answerTo(request, platform, channels, options, progress);
    } catch (error) {
      // The sync Worker need not ask whether something was written after all.
      const undone = progress.mayBeDone ? {} : { done: false as const };
      if (error instanceof Answered) return refused({ ...error.refusal, ...undone });
      console.error(`sync-hooks: ${textOf(error)}`);
      return refused({ code: "internal", message: "internal", ...undone });
    }
  };
  return { POST };
}

function calledWith(
  event: RouteEvent,
  env: object | undefined,
  ctx: unknown,
  options: HooksOptions,
): readonly [Request, Bindings] {
  const isRequest = event instanceof Request;
  const given = isRequest ? env && { env, ...(ctx !== undefined && { ctx, context: ctx }) } : event.platform;
  const platform = given ?? options.platform ?? {};
  return [isRequest ? event : event.request, { ...platform, env: platform.env ?? {} }];
}

/** A refusal that is about the two Workers, and no client's business: to it the source is unavailable. */
function faulty(status: number, code: string, message: string): Answered {
  console.error(`sync-hooks: ${message}`);
  return new Answered({ status, code, message });
}

async function answerTo(
  request: Request,
  platform: Bindings,
  channels: Channels,
  options: HooksOptions,
  progress: Progress,
): Promise<Response> {
  if (request.method !== "POST") {
    return new Response("method not allowed", { status: 405, headers: { allow: "POST" } });
  }
  const body = await authentic(request, secretsOf(options, platform.env));
  let question: Question;
  let ctx: SyncContext;
  try {
    question = questionOf(body, new URL(request.url).pathname.split("/").at(-1) ?? "");
    ctx = contextOf(question, platform, options.user);
  } catch (error) {
    if (!(error instanceof TidewireError)) throw error;
    throw faulty(400, error.code, error.message);
  }
  const handler = channels.find(ctx);
  if (handler === undefined) {
    throw new Answered({ status: 404, code: "unknown_channel", message: "no handler is for this channel" });
  }
  const headers = { "content-type": "application/json", "cache-control": "no-store" };
  return new Response(await new Turn(handler, ctx, progress).answer(question), { headers });
}

function secretsOf({ secret }: HooksOptions, env: object): readonly string[] {
  const settings = env as Readonly<Record<string, unknown>>;
  const given = secret ?? [settings["HOOK_SECRET"], settings["HOOK_SECRET_PREVIOUS"]];
  const [first, ...others] = Array.isArray(given) ? given : [given];
  const isSet = (value: unknown): value is string => typeof value === "string" && value !== "";
  if (!isSet(first)) throw faulty(500, "misconfigured", "secret (HOOK_SECRET) is not set: set it, the same in both Workers");
  return [first, ...others.filter(isSet)];
}

/** The body, if the sync Worker has signed it. */
async function authentic(request: Request, secrets: readonly string[]): Promise<Uint8Array> {
  let keys: readonly CryptoKey[];
  try {
    keys = await keysOf(secrets);
  } catch (error) {
    if (!(error instanceof TidewireError)) throw error;
    throw faulty(500, error.code, error.message);
  }
  // A client that could not be asked about has done nothing wrong, so this is not `unauthorized`.
  const refuse = (why: string) => faulty(401, "bad_signature", why);
  const signed = signedOf(request.headers);
  if (signed === undefined) throw refuse("the question is not signed: only the sync Worker may ask");
  if (!isTimely(signed, Date.now())) {
    throw refuse(`the signature's time is more than ${TOLERANCE_SECONDS} s off: compare the clocks`);
  }
  const body = await bodyOf(request);
  if (!(await isGenuine(keys, signed, body))) {
    throw refuse("the signature is of another secret: HOOK_SECRET must be the same in both Workers");
  }
  return body;
}

/** The body, and never more of it than is allowed. */
async function bodyOf(request: Request): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = request.body?.getReader();
  for (;;) {
    const part = (await reader?.read())?.value;
    if (part === undefined) break;
    length += part.length;
    if (length > QUESTION_BYTES) {
      await reader?.cancel();
      throw faulty(413, "frame_too_large", `the body has more than ${QUESTION_BYTES} bytes`);
    }
    parts.push(part);
  }
  const body = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}
