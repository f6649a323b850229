// Publishing from TypeScript, with the call shape of @sveltebase/sync 1.4.
import { checkSize, digest, split, written, type Unwritten } from "./batch.ts";
import { TidewireError, invalid } from "../error.ts";
import { attemptsOf, retrying, type Retry } from "./retry.ts";
import type {
  Action,
  AnySchema,
  Audience,
  Change,
  ChannelChange,
  ChannelOf,
  DataOf,
  Published,
  RowOf,
  Schema,
} from "./schema.ts";
import { spaceNamed, wayOf, type Target } from "./settings.ts";
import { send, type Post } from "./transport.ts";

/**
 * How a publisher reaches the sync engine. The first that is there: the Durable Object's binding
 * `SYNC_ENGINE`, the service binding, the URL. The latter two need the key.
 */
export interface PublisherOptions extends Target {
  /** The publish key; the setting `PUBLISH_KEY` by default. */
  readonly key?: string | undefined;
  /** The space; `global` by default. */
  readonly space?: string | undefined;
  /** How often a call that may succeed later is made again. */
  readonly retry?: Retry | undefined;
}

/** What may be said with a list of changes. */
export interface BulkOptions {
  /**
   * Makes the publish happen once within 24 hours, however often it is called: 1–128 visible ASCII
   * characters. Without it every call has a key of its own, which its attempts share.
   */
  readonly idempotencyKey?: string | undefined;
}

/** What may be said with a change. */
export interface PublishOptions extends BulkOptions {
  /** Who may see the row from now on. Without it the channel's rule, or the row as it is, decides. */
  readonly to?: Audience | undefined;
}

/** `await publish("todos", "update", id, { done: true })`. */
export type Publish<S extends Schema<S> = AnySchema> = <C extends ChannelOf<S>, A extends Action>(
  channel: C,
  action: A,
  key: string | undefined,
  ...rest: A extends "delete"
    ? [data?: undefined, options?: PublishOptions]
    : [data: DataOf<RowOf<S, C>, A>, options?: PublishOptions]
) => Promise<Published>;

/** Publishes lists, of one channel or of several. */
export interface BulkPublish<S extends Schema<S> = AnySchema> {
  <C extends ChannelOf<S>>(
    channel: C,
    changes: readonly Change<RowOf<S, C>>[],
    options?: BulkOptions,
  ): Promise<Published[]>;
  (changes: readonly ChannelChange<S>[], options?: BulkOptions): Promise<Published[]>;
}

/**
 * A publisher of single changes. What is missing in the options is told by the publish, not here:
 * it rejects with a `TidewireError`, and nothing is sent.
 */
export function createPublisher<S extends Schema<S> = AnySchema>(
  options: PublisherOptions,
): Publish<S> {
  const publish = async (
    channel: string,
    action: Action,
    key: string | undefined,
    data?: unknown,
    { to, idempotencyKey }: PublishOptions = {},
  ): Promise<Published> => {
    const body = written({ channel, action, key, data, to });
    checkSize(body);
    const once = keyOf(options, idempotencyKey);
    return publishOnce(options, { path: "/broadcast", body, idempotencyKey: once });
  };
  return publish;
}

/**
 * A publisher of lists. Up to 1,000 changes and 8 MiB are all or nothing; more go in several
 * batches, in order, each all or nothing, with an answer each. Where a later batch fails, the
 * error's `published` says how many changes are published; called again with the same list and
 * `idempotencyKey`, it goes on.
 */
export function createBulkPublisher<S extends Schema<S> = AnySchema>(
  options: PublisherOptions,
): BulkPublish<S> {
  const publishAll = async (events: readonly Unwritten[], more: BulkOptions = {}) => {
    const parts = split(events.map((change) => ({ json: written(change) })));
    const once = keyOf(options, more.idempotencyKey);
    const answers: Published[] = [];
    let published = 0;
    for (const [index, { body, items }] of parts.entries()) {
      // Without attempts to share it, and without a wish for it, there is no key.
      const several = parts.length > 1 && once !== undefined;
      const idempotencyKey = several ? await digest("part", once, String(index)) : once;
      try {
        answers.push(await publishOnce(options, { path: "/broadcast-batch", body, idempotencyKey }));
      } catch (error) {
        throw published === 0 ? error : partly(error, published);
      }
      published += items.length;
    }
    return answers;
  };
  const bulk = async (
    first: string | readonly Unwritten[],
    second?: readonly Omit<Unwritten, "channel">[] | BulkOptions,
    third?: BulkOptions,
  ): Promise<Published[]> => {
    if (typeof first !== "string") return publishAll(first, second as BulkOptions | undefined);
    const changes = second as readonly Omit<Unwritten, "channel">[];
    return publishAll(changes.map((change) => ({ ...change, channel: first })), third);
  };
  return bulk;
}

/** Makes one call, as often as needed and allowed. */
export async function publishOnce(
  options: PublisherOptions,
  post: Omit<Post, "space">,
): Promise<Published> {
  const way = wayOf(options);
  const space = spaceNamed(options.space);
  return retrying(options.retry ?? {}, (ms) => send(way, { ...post, space }, ms));
}

/** The idempotency key of a call: the one given, else a new one where there may be attempts. */
function keyOf(options: PublisherOptions, given: string | undefined): string | undefined {
  if (given === undefined) {
    return attemptsOf(options.retry ?? {}) > 1 ? crypto.randomUUID() : undefined;
  }
  if (/^[\x21-\x7e]{1,128}$/.test(given)) return given;
  throw invalid("idempotencyKey", "must be 1 to 128 visible ASCII characters");
}

function partly(error: unknown, published: number): unknown {
  if (!(error instanceof TidewireError)) return error;
  const message = `the first ${published} changes are published, then: ${error.message}`;
  return new TidewireError(error.code, message, { ...error, published });
}
