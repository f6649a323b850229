// Channels of events in memory whose rule says `edits`: pages of all that happened, and cursors with their seal.
import { bytesOf, type Change, type Row } from "../wire.ts";
import { pages } from "./frame.ts";
import type { Happened, Topics } from "./log.ts";

/** What one of these topics is told of a change, if anything. */
export function toldTo(topics: Topics, one: Happened): Change | undefined {
  const action = one.sees(topics);
  const { key, data, by, at } = one;
  if (action === undefined) return undefined;
  const isLoss = action === "delete" && data !== null;
  return { action, key, data: isLoss ? null : data, by: isLoss ? null : (by ?? null), at: at ?? 0 };
}

export interface EventsAsked {
  readonly after: number;
  readonly from: number;
  readonly limit: number;
  readonly topics: Topics;
  /** The row of a key, where it is in sight now. */
  readonly rowOf: (key: string) => Row | null;
}

export interface EventPage {
  readonly changes: Change[];
  readonly data: Row[];
  readonly deleted: string[];
  readonly meta: { [key: string]: { readonly by: string | null; readonly at: number } };
  readonly last: number;
  readonly more: boolean;
}

/**
 * What happened after a seq, in order, and what it comes to. Up to `from` the answer is full: of what is there now
 * all that is kept, and nothing of what is gone.
 */
export function eventPage(kept: readonly Happened[], { after, from, limit, topics, rowOf }: EventsAsked): EventPage {
  const told = kept.flatMap((one) => {
    const change = one.seq > after ? toldTo(topics, one) : undefined;
    const isOfBefore = one.seq <= from && (change?.action === "delete" || rowOf(one.key) === null);
    return change === undefined || isOfBefore ? [] : [{ seq: one.seq, change }];
  });
  const latest = new Map(told.map(({ seq, change }) => [change.key, seq]));
  const page = { changes: [] as Change[], data: [] as Row[], deleted: [] as string[], meta: {} as EventPage["meta"] };
  let room = pages.bytes;
  let last = after;
  for (const { seq, change } of told.slice(0, pages.reads)) {
    const row = latest.get(change.key) === seq ? rowOf(change.key) : null;
    room -= bytesOf(JSON.stringify([change, row]));
    if (page.changes.length === limit || room < 0) return { ...page, last, more: true };
    last = seq;
    page.changes.push(change);
    if (row !== null) {
      page.data.push(row);
      page.meta[change.key] = { by: change.by ?? null, at: change.at ?? 0 };
    } else if (change.action === "delete" && latest.get(change.key) === seq) page.deleted.push(change.key);
  }
  return { ...page, last, more: told.length > pages.reads };
}

/** A cursor with its seal: one that somebody made up, or took from another channel, has another. */
export const sealed = (channel: string, cursor: string): string => `${cursor}.${sealOf(channel, cursor)}`;

/** The cursor without its seal, if that is the right one. */
export function unsealed(channel: string, cursor: string): string | undefined {
  const end = cursor.lastIndexOf(".");
  const inner = cursor.slice(0, end);
  return sealOf(channel, inner) === cursor.slice(end + 1) ? inner : undefined;
}

/** Fowler, Noll and Vo's hash: enough against whoever only tries. */
function sealOf(channel: string, cursor: string): string {
  let hash = 0x811c9dc5;
  for (const char of `${channel}\n${cursor}`) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  return `s${(hash >>> 0).toString(16)}`;
}
