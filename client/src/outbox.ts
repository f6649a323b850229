// The writes that the server has not confirmed: in order, each with an id that stays.
import { covers } from "./cursor.ts";
import type { Action, Fields, Row, WireError } from "./wire.ts";

/** One write that somebody wants. */
export interface Intent {
  /** Begins with the time, so that ids sort in the order of writing, also over several tabs. */
  readonly id: string;
  readonly channel: string;
  readonly action: Action;
  readonly key: string;
  readonly data?: Fields | undefined;
  /** Acknowledged at this cursor, which the copy has not reached yet. */
  readonly acked?: string | undefined;
  /** Refused for good: shown to the app until it is dismissed. */
  readonly rejected?: WireError | undefined;
}

/** How many writes may be without an answer. Below the 100 frames that a hasty client may send. */
const WINDOW = 50;

/** What a row looks like once the intents for it have happened. */
export function overlay(row: Row | undefined, intents: readonly Intent[]): Row | undefined {
  return intents.reduce((seen, { action, data }) => {
    if (action === "delete") return undefined;
    if (action === "create") return data as Row;
    return seen && { ...seen, ...data };
  }, row);
}

const byId = (a: Intent, b: Intent) => (a.id < b.id ? -1 : 1);
const none: readonly Intent[] = [];

export class Outbox {
  /** By id, in order. */
  #intents = new Map<string, Intent>();
  #last = "";
  /** By channel and key; those that were refused have left. */
  readonly #byKey = new Map<string, Map<string, Intent[]>>();
  readonly #sent = new Set<string>();

  get all(): readonly Intent[] {
    return [...this.#intents.values()];
  }

  /** No id sorts behind it. */
  get last(): string {
    return this.#last;
  }

  /** The intents for one row, in order. */
  of(channel: string, key: string): readonly Intent[] {
    return this.#byKey.get(channel)?.get(key) ?? none;
  }

  /** The keys that intents of a channel are for. */
  keysOf(channel: string): Iterable<string> {
    return this.#byKey.get(channel)?.keys() ?? [];
  }

  find(id: string): Intent | undefined {
    return this.#intents.get(id);
  }

  isSent(id: string): boolean {
    return this.#sent.has(id);
  }

  /** Whether everything has been acknowledged. */
  get isDone(): boolean {
    return this.all.every(({ acked, rejected }) => acked !== undefined || rejected !== undefined);
  }

  /** Adds an intent, or replaces that of the same id. */
  put(intent: Intent): void {
    const { id, channel, key } = intent;
    this.drop(id);
    this.#intents.set(id, intent);
    if (id >= this.#last) this.#last = id;
    else this.#intents = new Map([...this.#intents].sort(([, a], [, b]) => byId(a, b)));
    if (intent.rejected !== undefined) return;
    const keys = this.#byKey.get(channel) ?? new Map<string, Intent[]>();
    this.#byKey.set(channel, keys);
    keys.set(key, [...(keys.get(key) ?? []), intent].sort(byId));
  }

  drop(id: string): Intent | undefined {
    const intent = this.#intents.get(id);
    if (intent === undefined) return undefined;
    this.#intents.delete(id);
    this.#sent.delete(id);
    const keys = this.#byKey.get(intent.channel);
    const left = keys?.get(intent.key)?.filter((other) => other.id !== id) ?? [];
    if (left.length > 0) keys?.set(intent.key, left);
    else keys?.delete(intent.key);
    return intent;
  }

  /** Drops the acknowledged ones of a channel that its copy holds by now. */
  settle(channel: string, cursor: string | undefined): readonly Intent[] {
    const held = ({ channel: of, acked }: Intent) => of === channel && acked !== undefined && covers(cursor, acked);
    const settled = this.all.filter(held);
    for (const { id } of settled) this.drop(id);
    return settled;
  }

  /**
   * What is to be sent now. An intent waits for the one before it of the same row, so that a refusal
   * cannot turn their order; and for its channel, where `mayFlow` says no.
   */
  next(mayFlow: (channel: string) => boolean): readonly Intent[] {
    const next: Intent[] = [];
    for (const intent of this.#intents.values()) {
      if (this.#sent.size >= WINDOW) break;
      if (intent.acked !== undefined || intent.rejected !== undefined || this.#sent.has(intent.id)) continue;
      const first = this.of(intent.channel, intent.key).find(({ acked }) => acked === undefined);
      if (first !== intent || !mayFlow(intent.channel)) continue;
      this.#sent.add(intent.id);
      next.push(intent);
    }
    return next;
  }

  /** To be sent again: one of them, or all that have no answer. */
  release(id?: string): void {
    if (id === undefined) this.#sent.clear();
    else this.#sent.delete(id);
  }

  clear(): readonly Intent[] {
    const { all } = this;
    this.#intents.clear();
    this.#byKey.clear();
    this.#sent.clear();
    return all;
  }
}
