// A consumer of a Cloudflare Queue that publishes what its messages say.
import { batchOf, digest, split, written, type Part } from "./batch.ts";
import { TidewireError, invalid, textOf } from "../error.ts";
import { publishOnce, type PublisherOptions } from "./publisher.ts";
import type { Action, AnySchema, Audience, ChannelChange, Schema } from "./schema.ts";
import { spaceNamed, wayOf } from "./settings.ts";

/** What a producer sends: one change, and the space where it is not the consumer's. */
export type QueuedChange<S extends Schema<S> = AnySchema> = ChannelChange<S> & {
  readonly space?: string | undefined;
};

/** What of a queue's message is needed. */
export interface QueueMessage {
  readonly id: string;
  readonly body: unknown;
  readonly attempts: number;
  ack(): void;
  retry(options?: { delaySeconds?: number }): void;
}

/** What of a queue's batch is needed. */
export interface QueueBatch {
  readonly messages: readonly QueueMessage[];
}

export interface QueueOptions extends Omit<PublisherOptions, "platform"> {
  /**
   * Whether each message is a call of its own, with its id as idempotency key. Then redelivery
   * publishes once within 24 hours, however the queue groups its messages anew; it costs a call and
   * one more row written for each. By default the messages of a delivery go together.
   */
  readonly separately?: boolean | undefined;
  /**
   * What to do with a message that cannot be published, whatever is tried. Once it returns, the
   * message is acknowledged; if it throws, or by default, the message is left to the queue, which
   * delivers it again, and in the end to its dead letter queue.
   */
  readonly onRefused?: ((message: QueueMessage, error: TidewireError) => void | Promise<void>) | undefined;
}

/** The first pause before a redelivery; it doubles with each. */
const PAUSE_SECONDS = 5;

/** The longest pause, unless the server asks for more. */
const LONGEST_PAUSE_SECONDS = 300;

/** The longest that a queue can be asked to wait: 12 hours. */
const QUEUE_PAUSE_SECONDS = 43_200;

/** Codes that say that something is wrong with what was sent, not with who sent it, or now. */
export const BLAMED: readonly string[] = ["malformed", "invalid", "frame_too_large", "unknown_channel", "forbidden", "not_found"];

interface Entry {
  readonly message: QueueMessage;
  readonly space: string;
  readonly json: string;
}

/**
 * Makes a Worker's `queue` handler. Every message is acknowledged, or left for another delivery, by
 * itself. Where a setting is missing, the handler throws and the queue delivers all of them again.
 */
export function queueConsumer(
  options: QueueOptions = {},
): (batch: QueueBatch, env: object) => Promise<void> {
  return async ({ messages }, env) => {
    const publisher = { ...options, platform: { env } };
    wayOf(publisher);
    const spaces = new Map<string, Entry[]>();
    for (const message of messages) {
      try {
        const entry = entryOf(message, options.space);
        spaces.set(entry.space, [...(spaces.get(entry.space) ?? []), entry]);
      } catch (error) {
        await refuse(options, message, error);
      }
    }
    for (const [space, entries] of spaces) {
      const groups = options.separately ? entries.map((entry) => [entry]) : [entries];
      for (const part of groups.flatMap((group) => split(group))) {
        await publishPart({ ...publisher, space }, options, part);
      }
    }
  };
}

function entryOf(message: QueueMessage, usual: string | undefined): Entry {
  const { body } = message;
  if (typeof body !== "object" || body === null) throw invalid("body", "must be an object");
  const { channel, action, key, data, to, space } = body as Record<string, unknown>;
  // Whatever else is wrong the server tells; a change without these would not be one.
  if (typeof channel !== "string") throw invalid("channel", "must be a text");
  const change = { channel, action: action as Action, key: key as string, data, to: to as Audience };
  const entry = { message, space: spaceNamed(space ?? usual), json: written(change) };
  split([entry]);
  return entry;
}

/** Publishes messages together; one that is refused does not hold up the others. */
async function publishPart(
  publisher: PublisherOptions,
  options: QueueOptions,
  { items, body }: Pick<Part<Entry>, "items" | "body">,
): Promise<void> {
  const again = (rest: readonly Entry[]) => {
    const part = { items: rest, body: batchOf(rest.map(({ json }) => json)) };
    return rest.length === 0 ? undefined : publishPart(publisher, options, part);
  };
  const ids = items.map(({ message }) => message.id);
  try {
    // The same messages are the same publish, in whatever delivery they come together.
    const idempotencyKey = await digest("queue", ...ids);
    await publishOnce(publisher, { path: "/broadcast-batch", body, idempotencyKey });
  } catch (error) {
    // The server knows the key: these messages are published, if in other words.
    const isPublished = error instanceof TidewireError && error.code === "conflict";
    if (!isPublished) {
      const isBlamed = error instanceof TidewireError && BLAMED.includes(error.code);
      if (!isBlamed) return postpone(items, error);
      const bad = items.length === 1 ? 0 : placeOf(error);
      const entry = bad === undefined ? undefined : items[bad];
      if (entry !== undefined) {
        await refuse(options, entry.message, error);
        return again(items.filter((other) => other !== entry));
      }
      // Nobody is named. Who it is comes out by halving.
      const middle = Math.ceil(items.length / 2);
      await again(items.slice(0, middle));
      return again(items.slice(middle));
    }
  }
  for (const { message } of items) message.ack();
}

/** The place of the change that the server names. */
export function placeOf(error: TidewireError): number | undefined {
  const place = /^events\[(\d+)\]/.exec(error.field ?? "")?.[1];
  return place === undefined ? undefined : Number(place);
}

async function refuse(options: QueueOptions, message: QueueMessage, reason: unknown): Promise<void> {
  const error = reason instanceof TidewireError ? reason : new TidewireError("invalid", textOf(reason));
  console.error(`queue message ${message.id} cannot be published: ${error.message}`);
  if (options.onRefused === undefined) return message.retry();
  try {
    await options.onRefused(message, error);
    message.ack();
  } catch (failure) {
    console.error(`onRefused failed for queue message ${message.id}: ${textOf(failure)}`);
    message.retry();
  }
}

/** Leaves messages for a later delivery, all with the same pause, so that they come together again. */
function postpone(items: readonly Entry[], error: unknown): void {
  console.error(`${items.length} queue messages are postponed: ${textOf(error)}`);
  const deliveries = Math.max(...items.map(({ message }) => message.attempts));
  const longest = Math.min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * 2 ** (deliveries - 1));
  const asked = error instanceof TidewireError ? (error.retryAfterMs ?? 0) / 1_000 : 0;
  const pause = Math.ceil(asked + Math.random() * longest);
  for (const { message } of items) message.retry({ delaySeconds: Math.min(pause, QUEUE_PAUSE_SECONDS) });
}
