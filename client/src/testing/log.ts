// The log of the server in memory: rows by channel, one sequence, and what somebody who was away has missed.
import type { Action, Change, Fields, Row, Subscribe, WireError } from "../wire.ts";

/** What a channel allows, in the words of the server's own rules. */
export interface Rule {
  /** Who may read: by default those who are signed in. */
  readonly read?: "anyone" | "user" | "none";
  /** Who may write: by default nobody else than who may read. */
  readonly write?: "anyone" | "user" | "none";
  /** Rows are seen by the identities that this field names. */
  readonly scope?: { readonly field: string };
  /** An older write, by this field, is a conflict. */
  readonly timestamp?: string;
  /** `every`: events, whose keys are used once. */
  readonly keep?: "latest" | "every";
  readonly presence?: boolean;
  readonly signals?: boolean;
}

/** One key: its row, or that it is gone, and who has lost sight of it when. */
interface Held {
  row: Row | null;
  seq: number;
  /** Identities that may see it, or last could; null is everyone. */
  audience: readonly string[] | null;
  readonly lost: Map<string, number>;
  by: string | null;
  at: number;
}

/** One change, with who sees it, has lost it by it, or gained it. */
export interface Happened extends Change {
  readonly seq: number;
  sees(identity: string | null): Action | undefined;
}

export interface Page {
  readonly mode: "full" | "delta";
  readonly data: Row[];
  readonly deleted: string[];
  readonly cursor: string;
  readonly more: boolean;
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
  readonly #floors = new Map<string, number>();

  get cursor(): string {
    return `${this.epoch}.${this.seq}`;
  }

  channel(name: string): Map<string, Held> {
    const held = this.#channels.get(name) ?? new Map<string, Held>();
    this.#channels.set(name, held);
    return held;
  }

  row(channel: string, key: string, identity: string | null): Row | null {
    const held = this.channel(channel).get(key);
    return held !== undefined && seen(held, identity) ? held.row : null;
  }

  rows(channel: string): Row[] {
    return [...this.channel(channel).values()].flatMap(({ row }) => row ?? []);
  }

  /** As after a loss of the log, or a restore. */
  renew(): void {
    this.epoch = `epoch${Number(this.epoch.slice(5)) + 1}`;
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

  write(rule: Rule, channel: string, action: Action, given: string | undefined, data: Fields, by: string | null, at: number): Happened {
    const rows = this.channel(channel);
    const key = given ?? (data["id"] as string);
    if (typeof key !== "string" || key === "") throw refuse("invalid", "is missing", { field: "key" });
    if (data["id"] !== undefined && data["id"] !== key) throw refuse("invalid", "key and data.id differ", { field: "key" });
    for (const name of ["__proto__", "constructor", "prototype"]) {
      if (Object.hasOwn(data, name)) throw refuse("invalid", "cannot be the name of a field", { field: name });
    }
    const held = rows.get(key);
    const before = held !== undefined && seen(held, by) ? held.row : null;
    if (rule.keep === "every" && action !== "create") throw refuse("invalid", "events of this channel are not changed", { field: "action" });
    if (rule.keep === "every" && held !== undefined) throw refuse("conflict", "this key was used before");
    if (action !== "create" && before === null) throw refuse("not_found", "no such row");
    if (action === "create" && held?.row != null && before === null) throw refuse("forbidden", "the key is taken");
    if (rule.timestamp !== undefined && before !== null && Number(data[rule.timestamp]) < Number(before[rule.timestamp])) {
      throw refuse("conflict", "the row is newer than this write", { current: before });
    }
    const row = action === "delete" ? null : ({ ...(action === "update" && before), ...data, id: key } as Row);
    const audience = row === null ? (held?.audience ?? null) : audienceOf(rule, row);
    if (by !== null && audience !== null && !audience.includes(by)) {
      throw refuse("forbidden", "a write must keep the row in its writer's sight");
    }
    return this.#put(channel, action, key, row, audience, by, at);
  }

  /** A publisher's change: no rule binds it. */
  publish(rule: Rule, channel: string, action: Action, key: string, data: Fields, at: number): Happened {
    const held = this.channel(channel).get(key);
    const before = action === "update" ? held?.row : null;
    const row = action === "delete" ? null : ({ ...before, ...data, id: key } as Row);
    const audience = row === null ? (held?.audience ?? null) : audienceOf(rule, row);
    return this.#put(channel, action, key, row, audience, null, at);
  }

  #put(
    channel: string,
    action: Action,
    key: string,
    row: Row | null,
    audience: Held["audience"],
    by: string | null,
    at: number,
  ): Happened {
    const rows = this.channel(channel);
    const old = rows.get(key);
    const seq = ++this.seq;
    const held: Held = { row, seq, audience, lost: old?.lost ?? new Map(), by, at };
    for (const identity of old?.audience ?? []) if (!seen(held, identity)) held.lost.set(identity, seq);
    // In the order of the log.
    rows.delete(key);
    rows.set(key, held);
    const had = old !== undefined && old.row !== null ? { ...old } : undefined;
    return {
      action,
      key,
      data: row,
      by,
      at,
      seq,
      sees(identity) {
        const saw = had !== undefined && seen(had, identity);
        const sees = seen(held, identity);
        if (row === null) return saw ? "delete" : undefined;
        if (!sees) return saw ? "delete" : undefined;
        return saw ? action : "create";
      },
    };
  }

  /** What a reader is answered. */
  page(channel: string, identity: string | null, view: string, asked: Partial<Subscribe>): Page {
    const limit = asked.limit ?? 500;
    if (!(limit >= 1 && limit <= 1_000)) throw refuse("malformed", "limit must be 1 to 1000");
    const [epoch = "", seq = "", start, eyes] = (asked.cursor ?? "").split(".");
    if (asked.cursor !== undefined && !/^[a-z0-9]+\.\d+(\.|$)/.test(asked.cursor)) throw refuse("malformed", "cursor is no cursor");
    const began = Number(start ?? seq);
    const isKnown =
      asked.cursor !== undefined &&
      epoch === this.epoch &&
      asked.view === view &&
      (eyes === undefined || eyes === view) &&
      Number(seq) <= this.seq &&
      began >= (this.#floors.get(channel) ?? 0);
    const after = isKnown ? Number(seq) : 0;
    const from = isKnown ? began : this.seq;
    const page = { data: [] as Row[], deleted: [] as string[] };
    let last = after;
    let more = false;
    for (const [key, held] of [...this.channel(channel)].sort(([, a], [, b]) => a.seq - b.seq)) {
      if (held.seq <= after) continue;
      const isHere = held.row !== null && seen(held, identity);
      const isGone = !isHere && ((held.row === null && seen(held, identity) && held.seq > from) || (held.lost.get(identity ?? "") ?? 0) > from);
      if (!isHere && !isGone) continue;
      if (page.data.length + page.deleted.length === limit) {
        more = true;
        break;
      }
      last = held.seq;
      if (isHere) page.data.push(held.row as Row);
      else page.deleted.push(key);
    }
    const cursor = more ? `${this.epoch}.${last}.${from}.${view}` : this.cursor;
    return { mode: isKnown ? "delta" : "full", ...page, cursor, more };
  }
}

function audienceOf(rule: Rule, row: Row): readonly string[] | null {
  if (rule.scope === undefined) return null;
  const named = row[rule.scope.field];
  if (named === undefined) throw refuse("invalid", "is missing: it scopes the row", { field: rule.scope.field });
  return (Array.isArray(named) ? named : [named]).map(String);
}

function seen({ audience }: Pick<Held, "audience">, identity: string | null): boolean {
  return audience === null || (identity !== null && audience.includes(identity));
}
