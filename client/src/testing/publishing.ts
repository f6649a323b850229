// What publishers send to the server in memory: judged as the real one judges it, and all or nothing.
import { bytesOf, type Action, type Fields } from "../wire.ts";
import { Refusal, type Happened, type Log, type Rule, type Topics } from "./log.ts";

const KEY_BYTES = 256;
const TOPICS = 64;
const BATCH = 1_000;

/** One change. `to` says who may see the row: topics, `user:<identity>` among them. */
export interface Publish {
  readonly action: Action;
  readonly key: string;
  readonly data?: object;
  readonly to?: "all" | Topics;
}

/** A change that names its channel. */
export interface PublishEvent extends Publish {
  readonly channel: string;
}

/** What becomes of them, by channel, in the order in which the channels are first named. */
export type Outcome = ReadonlyMap<string, readonly Happened[]>;

/** Writes all or none; `list` is what the first bad one is named by, with its index. */
export function publishInto(
  log: Log,
  ruleOf: (channel: string) => Rule | undefined,
  events: readonly PublishEvent[],
  list: "changes" | "events" | undefined,
  at: number,
): Outcome {
  if (events.length < 1 || events.length > BATCH) {
    throw new Refusal({ code: "invalid", message: "must hold 1 to 1000 changes", field: list ?? "changes" });
  }
  return log.whole(() => {
    const outcome = new Map<string, Happened[]>();
    for (const [i, event] of events.entries()) {
      try {
        outcome.set(event.channel, [...(outcome.get(event.channel) ?? []), write(log, ruleOf(event.channel), event, at)]);
      } catch (error) {
        throw error instanceof Refusal && list !== undefined ? indexed(error, `${list}[${i}]`) : error;
      }
    }
    return outcome;
  });
}

function indexed({ error }: Refusal, place: string): Refusal {
  const { field } = error as { readonly field?: string };
  return new Refusal({ ...error, message: `${place}: ${error.message}`, field: field === undefined ? place : `${place}.${field}` });
}

function write(log: Log, rule: Rule | undefined, event: PublishEvent, at: number): Happened {
  const { channel, action, key, data = {}, to } = event;
  if (rule === undefined) throw new Refusal({ code: "unknown_channel", message: "no rule matches this channel" });
  const wrong = faultIn(event);
  if (wrong !== undefined) throw new Refusal({ code: "invalid", message: wrong[1], field: wrong[0] });
  return log.publish(rule, channel, action, key, data as Fields, to, at);
}

/** The field of a change that is not as it should be, and why. */
function faultIn({ action, key, data = {}, to }: PublishEvent): [field: string, why: string] | undefined {
  if (!["create", "update", "delete"].includes(action)) return ["action", "must be create, update or delete"];
  const isKey = typeof key === "string" && key !== "" && bytesOf(key) <= KEY_BYTES && !/[\u0000-\u001f\u007f]/.test(key);
  if (!isKey) return ["key", "must be a text of 1 to 256 bytes"];
  if (data === null || typeof data !== "object" || Array.isArray(data)) return ["data", "must be an object"];
  const { id = key } = data as { readonly id?: unknown };
  if (id !== key) return ["key", "key and data.id differ"];
  const isTo = to === undefined || to === "all" || (Array.isArray(to) && to.length >= 1 && to.length <= TOPICS);
  return isTo ? undefined : ["to", "must be all, or 1 to 64 topics"];
}
