// The log of the server in memory: rows by channel, one sequence, and what somebody who was away has missed.
import { bytesOf, type Action, type Change, type Fields, type Row, type Subscribe, type WireError } from "../wire.ts";
import { eventPage, sealed, unsealed } from "./events.ts";
import { pages } from "./frame.ts";

/** What a channel allows, in the words of the server's own rules. */
export interface Rule {
  /** Who may read: by default those who are signed in. */
  readonly read?: "anyone" | "user" | "topic" | "token" | "none";
  /** Who may write: by default nobody else than who may read. */
  readonly write?: "anyone" | "user" | "topic" | "token" | "none";
  /** Rows are seen by the identities that this field names, or `as` the holders of other topics. */
  readonly scope?: { readonly field: string; readonly as?: string; readonly leave?: boolean };
  /** An older write, by this field, is a conflict. */
  readonly timestamp?: string;
  /** `every`: events, whose keys are used once. */
  readonly keep?: "latest" | "every";
  /** Events may be updated and deleted, which are events themselves. */
  readonly edits?: boolean;
  /** So many events are kept: the latest. */
  readonly retain?: { readonly count?: number };
  readonly presence?: boolean;
  readonly signals?: boolean;
}

/** The topics that a session holds, `user:<identity>` among them. */
export type Topics = readonly string[];

type Audience = readonly string[] | null;

/** Stands for everyone among those who have lost sight of a row. */
const ALL = "all";

const ROW_BYTES = 262_144;
const KEY_BYTES = 256;

/** One key: its row, or that it is gone, and who has lost sight of it when. */
interface Held {
  row: Row | null;
  seq: number;
  /** Topics whose holders may see it, or last could; null is everyone. */
  audience: Audience;
  readonly lost: Map<string, number>;
  by: string | null;
  at: number;
}

/** One change, with who sees it, has lost it by it, or gained it. */
export interface Happened extends Change {
  readonly seq: number;
  sees(topics: Topics): Action | undefined;
}

export interface Page {
  readonly mode: "full" | "delta";
  readonly data: Row[];
  readonly deleted: string[];
  readonly changes?: Change[];
  readonly cursor: string;
  readonly more: boolean;
  readonly meta: { readonly [key: string]: { readonly by: string | null; readonly at: number } };
}

/** Who writes: `reads` says whether it may read the channel, too. */
export interface Writer {
  readonly identity: string | null;
  readonly topics: Topics;
  readonly reads: boolean;
}

export class Refusal extends Error {
  readonly error: WireError;
  constructor(error: Omit<WireError, "retryable">) {
    super(error.message);
    this.error = { retryable: error.code === "unavailable" || error.code === "rate_limited", ...error };
  }
}

const refuse = (code: string, message: string, more: object = {}) => new Refusal({ code, message, ...more });

export class Log {
  epoch = "epoch1";
  seq = 0;
  readonly #channels = new Map<string, Map<string, Held>>();
  #floors = new Map<string, number>();
  /** What is kept of event channels. */
  #events = new Map<string, readonly Happened[]>();
  /** Channels as they were before what is done whole. */
  #before: Map<string, Map<string, Held>> | undefined;

  get cursor(): string {
    return `${this.epoch}.${this.seq}`;
  }

  channel(name: string): Map<string, Held> {
    const held = this.#channels.get(name) ?? new Map<string, Held>();
    this.#channels.set(name, held);
    return held;
  }

  row(channel: string, key: string, topics: Topics): Row | null {
    const held = this.channel(channel).get(key);
    return held !== undefined && seen(held, topics) ? held.row : null;
  }

  rows(channel: string): Row[] {
    return [...this.channel(channel).values()].flatMap(({ row }) => row ?? []);
  }

  /** As after a loss of the log, or a restore. */
  renew(): void {
    this.epoch = `epoch${Number(this.epoch.slice(5)) + 1}`;
  }

  /** Does all of it, or none. */
  whole<R>(run: () => R): R {
    const { seq } = this;
    const [floors, events] = [new Map(this.#floors), new Map(this.#events)];
    this.#before = new Map();
    try {
      return run();
    } catch (error) {
      this.seq = seq;
      this.#floors = floors;
      this.#events = events;
      for (const [channel, rows] of this.#before) this.#channels.set(channel, rows);
      throw error;
    } finally {
      this.#before = undefined;
    }
  }

  /** From now on nobody may resume from before. */
  reset(channel: string): void {
    this.#floors.set(channel, ++this.seq);
  }

  /** Forgets what is deleted: who was away before has to begin anew. */
  trim(channel: string): void {
    const rows = this.channel(channel);
    for (const [key, held] of rows) if (held.row === null) rows.delete(key);
    this.#floors.set(channel, this.seq);
  }

  write(rule: Rule, channel: string, action: Action, given: string | undefined, data: Fields, writer: Writer, at: number): Happened {
    if (typeof data !== "object" || Array.isArray(data)) throw refuse("invalid", "must be an object", { field: "data" });
    const rows = this.channel(channel);
    const key = given ?? (data["id"] as string);
    if (typeof key !== "string" || key === "") throw refuse("invalid", "is missing", { field: "key" });
    if (bytesOf(key) > KEY_BYTES) throw refuse("invalid", "must be at most 256 bytes", { field: "key" });
    if (data["id"] !== undefined && data["id"] !== key) throw refuse("invalid", "key and data.id differ", { field: "key" });
    for (const name of ["__proto__", "constructor", "prototype"]) {
      if (Object.hasOwn(data, name)) throw refuse("invalid", "cannot be the name of a field", { field: name });
    }
    const held = rows.get(key);
    const before = held !== undefined && writer.reads && seen(held, writer.topics) ? held.row : null;
    const isUnchanging = rule.keep === "every" && rule.edits !== true;
    if (isUnchanging && action !== "create") throw refuse("invalid", "events of this channel are not changed", { field: "action" });
    if (action !== "create" && before === null) throw refuse("not_found", "no such row");
    if (action === "create" && held?.row != null && before === null) throw refuse("forbidden", "the key is taken");
    if (action === "create" && rule.keep === "every" && held !== undefined) throw refuse("conflict", "this key was used before");
    if (rule.timestamp !== undefined) inTime(rule.timestamp, action, data, before);
    const row = action === "delete" ? null : ({ ...(action === "update" && before), ...data, id: key } as Row);
    if (row !== null && bytesOf(JSON.stringify(row)) > ROW_BYTES) throw refuse("invalid", "the row is too large", { field: "data" });
    const kept = held?.row == null ? null : held.audience;
    const audience = row === null || rule.scope === undefined ? kept : audienceOf(rule.scope, row);
    if (rule.scope?.leave !== true && audience !== null && !seen({ audience }, writer.topics)) {
      throw refuse("forbidden", "a write must keep the row in its writer's sight");
    }
    return this.#put(rule, channel, action, key, row, audience, writer.identity, at);
  }

  /** A publisher's change: no rule binds it. */
  publish(rule: Rule, channel: string, action: Action, key: string, data: Fields, to: "all" | Topics | undefined, at: number): Happened {
    const held = this.channel(channel).get(key);
    const isUnchanging = rule.keep === "every" && rule.edits !== true;
    if (isUnchanging && action !== "create") throw refuse("invalid", "events of this channel are not changed", { field: "action" });
    const isUsed = held !== undefined && (action === "create" || held.row === null);
    if (rule.keep === "every" && isUsed) throw refuse("invalid", "this key was used before", { field: "key" });
    const before = action === "update" ? held?.row : null;
    const row = action === "delete" ? null : ({ ...before, ...data, id: key } as Row);
    if (row !== null && bytesOf(JSON.stringify(row)) > ROW_BYTES) throw refuse("invalid", "the row is too large", { field: "data" });
    const given = to === undefined ? undefined : to === "all" ? null : to;
    const isHeld = held?.row != null;
    if (row === null && !isHeld && to === undefined && rule.scope !== undefined) {
      throw refuse("invalid", "is missing: nobody is known to hold the row", { field: "to" });
    }
    const scoped = row !== null && rule.scope !== undefined ? audienceOf(rule.scope, row) : undefined;
    const kept = isHeld ? held.audience : null;
    const audience = row === null && isHeld ? kept : given !== undefined ? given : scoped !== undefined ? scoped : kept;
    return this.#put(rule, channel, action, key, row, audience, null, at);
  }

  /** What other topics make of a channel's rows: who had them loses some and gains some. */
  moved(channel: string, before: Topics, after: Topics): Change[] {
    return [...this.channel(channel)].flatMap(([key, held]) => {
      const { row, by, at } = held;
      const sees = seen(held, after);
      if (row === null || seen(held, before) === sees) return [];
      return [{ action: sees ? "create" : "delete", key, data: sees ? row : null, by: sees ? by : null, at } as const];
    });
  }

  #put(
    rule: Rule,
    channel: string,
    action: Action,
    key: string,
    row: Row | null,
    audience: Held["audience"],
    by: string | null,
    at: number,
  ): Happened {
    const rows = this.channel(channel);
    if (this.#before?.has(channel) === false) this.#before.set(channel, new Map(rows));
    const old = rows.get(key);
    const seq = ++this.seq;
    const held: Held = { row, seq, audience, lost: new Map(old?.lost), by, at };
    for (const topic of old?.audience ?? []) if (!seen(held, [topic])) held.lost.set(topic, seq);
    if (old?.audience === null && audience !== null) held.lost.set(ALL, seq);
    // In the order of the log.
    rows.delete(key);
    rows.set(key, held);
    const had = old !== undefined && old.row !== null ? { ...old } : undefined;
    const happened: Happened = {
      action,
      key,
      data: row,
      by,
      at,
      seq,
      sees(topics) {
        const saw = had !== undefined && seen(had, topics);
        const sees = seen(held, topics);
        // A publisher may delete what is not held: whoever may see the deletion is told.
        if (row === null) return saw || (had === undefined && sees) ? "delete" : undefined;
        if (!sees) return saw ? "delete" : undefined;
        return saw ? action : "create";
      },
    };
    if (rule.keep === "every") this.#keep(rule, channel, happened);
    return happened;
  }

  /** Of events the latest are kept; what is trimmed is as if it had never been. */
  #keep({ retain }: Rule, channel: string, happened: Happened): void {
    const all = [...(this.#events.get(channel) ?? []), happened];
    const rows = this.channel(channel);
    for (const gone of all.splice(0, Math.max(0, all.length - (retain?.count ?? Infinity)))) {
      this.#floors.set(channel, gone.seq);
      if (rows.get(gone.key)?.seq === gone.seq) rows.delete(gone.key);
    }
    this.#events.set(channel, all);
  }

  /** A place in a channel, as its clients keep it. */
  cursorAt({ edits }: Rule, channel: string, seq = this.seq): string {
    const cursor = `${this.epoch}.${seq}`;
    return edits === true ? sealed(channel, cursor) : cursor;
  }

  /** What a reader is answered. */
  page(rule: Rule, channel: string, topics: Topics, view: string, asked: Partial<Subscribe>): Page {
    const limit = asked.limit ?? 500;
    if (!(limit >= 1 && limit <= 1_000)) throw refuse("malformed", "limit must be 1 to 1000");
    const given = asked.cursor !== undefined && rule.edits === true ? unsealed(channel, asked.cursor) : asked.cursor;
    const [epoch = "", seq = "", start, ...eyes] = (given ?? "").split(".");
    if (asked.cursor !== undefined && !/^[a-z0-9]+\.\d+(\.|$)/.test(asked.cursor)) throw refuse("malformed", "cursor is no cursor");
    const began = Number(start ?? seq);
    const isKnown =
      given !== undefined &&
      epoch === this.epoch &&
      asked.view === view &&
      (eyes.length === 0 || eyes.join(".") === view) &&
      Number(seq) <= this.seq &&
      began >= (this.#floors.get(channel) ?? 0);
    const after = isKnown ? Number(seq) : 0;
    const from = isKnown ? began : this.seq;
    const mode = isKnown ? "delta" : "full";
    const cursorOf = (last: number, isLast: boolean) => {
      const cursor = isLast ? this.cursor : `${this.epoch}.${last}.${from}.${view}`;
      return rule.edits === true ? sealed(channel, cursor) : cursor;
    };
    if (rule.edits === true) {
      const rowOf = (key: string) => this.row(channel, key, topics);
      const { last, ...page } = eventPage(this.#events.get(channel) ?? [], { after, from, limit, topics, rowOf });
      return { mode, ...page, cursor: cursorOf(last, !page.more) };
    }
    const page = { data: [] as Row[], deleted: [] as string[], meta: {} as Record<string, { by: string | null; at: number }> };
    let last = after;
    let more = false;
    let room = pages.bytes;
    let looked = 0;
    for (const [key, held] of [...this.channel(channel)].sort(([, a], [, b]) => a.seq - b.seq)) {
      if (held.seq <= after) continue;
      looked += 1;
      if (looked > pages.reads) {
        more = true;
        break;
      }
      const isHere = held.row !== null && seen(held, topics);
      const isLost = [ALL, ...topics].some((topic) => (held.lost.get(topic) ?? 0) > from);
      const isGone = !isHere && ((held.row === null && seen(held, topics) && held.seq > from) || isLost);
      if (!isHere && !isGone) {
        // Seen by nobody here: the next page begins behind it.
        last = held.seq;
        continue;
      }
      room -= bytesOf(JSON.stringify(isHere ? held.row : key));
      if (page.data.length + page.deleted.length === limit || room < 0) {
        more = true;
        break;
      }
      last = held.seq;
      if (isHere) page.data.push(held.row as Row);
      else page.deleted.push(key);
      if (isHere) page.meta[key] = { by: held.by, at: held.at };
    }
    return { mode, ...page, cursor: cursorOf(last, !more), more };
  }
}

function audienceOf({ field, as = "user:" }: NonNullable<Rule["scope"]>, row: Row): readonly string[] {
  const named = row[field];
  if (named === undefined) throw refuse("invalid", "is missing: it scopes the row", { field });
  const all = Array.isArray(named) ? named : [named];
  if (all.length === 0 || all.length > 64 || !all.every((one) => typeof one === "string")) {
    throw refuse("invalid", "must be a text, or 1 to 64 of them: it scopes the row", { field });
  }
  return all.map((one) => as + one);
}

/** An older write is a conflict; one that does not say when is none at all. */
function inTime(field: string, action: Action, data: Fields, before: Row | null): void {
  const [time, last] = [data[field], before?.[field]];
  if (action === "delete" && time === undefined) return;
  const isTime = typeof time === "number" || typeof time === "string";
  if (!isTime || (last !== undefined && typeof time !== typeof last)) throw refuse("invalid", "is missing, or of another kind", { field });
  if (before !== null && (time as number) < (last as number)) throw refuse("conflict", "the row is newer than this write", { current: before });
}

function seen({ audience }: Pick<Held, "audience">, topics: Topics): boolean {
  return audience === null || topics.some((topic) => audience.includes(topic));
}
