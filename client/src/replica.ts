// The confirmed rows of one channel, and the cursor up to which they are complete.
import { isBefore } from "./cursor.ts";
import type { Change, Row, Snapshot } from "./wire.ts";

/** A row with its place in the order of arrival, and the snapshot that it was last seen in or after. */
export interface Entry {
  readonly row: Row;
  readonly nth: number;
  readonly gen: number;
}

/** What is kept of a channel beside its rows. */
export interface Place {
  readonly cursor?: string | undefined;
  readonly view?: string | undefined;
  /** Counts full snapshots. Rows of an earlier one are stale; they go when the last page is there. */
  readonly gen: number;
  /** Whether a snapshot is under way. */
  readonly paging: boolean;
}

/** Keys that have changed, with what is there now. */
export type Patch = Map<string, Entry | undefined>;

export class Replica {
  readonly rows = new Map<string, Entry>();
  #place: Place = { gen: 0, paging: false };
  /** The cursor is forgotten: only a snapshot brings a new one. */
  #isReset = false;
  #nth = 0;

  get place(): Place {
    return this.#place;
  }

  /** Takes what was kept, in place of all that is here. */
  restore(place: Place, rows: Iterable<readonly [string, Entry]>): void {
    this.#place = place;
    this.#isReset = false;
    this.rows.clear();
    for (const [key, entry] of [...rows].sort(([, a], [, b]) => a.nth - b.nth)) {
      this.rows.set(key, entry);
      this.#nth = entry.nth;
    }
  }

  /** A page. A full one replaces all: rows that do not come again go with its last page. */
  snapshot(page: Snapshot): Patch {
    const patch: Patch = new Map();
    const full = page.mode === "full";
    const gen = this.#place.gen + (full ? 1 : 0);
    const isStale = full || this.#place.paging;
    this.#isReset &&= !full;
    this.#place = { cursor: page.cursor, view: page.view, gen, paging: page.more };
    for (const row of page.data) this.#set(patch, row.id, row);
    for (const key of page.deleted) this.#set(patch, key, null);
    if (isStale && !page.more) {
      for (const [key, entry] of this.rows) if (entry.gen !== gen) this.#set(patch, key, null);
    }
    return patch;
  }

  /** Changes of the live stream, applied as one. None where they have come before. */
  changes(changes: readonly Change[], cursor: string): Patch | undefined {
    const { cursor: before } = this.#place;
    if (before !== undefined && isBefore(cursor, before)) return undefined;
    const patch: Patch = new Map();
    for (const { key, data } of changes) this.#set(patch, key, data ?? null);
    this.moveTo(cursor);
    return patch;
  }

  /** An own write that was acknowledged while this copy is live. */
  written(key: string, row: Row | null, cursor: string | undefined): Patch {
    const patch: Patch = new Map();
    this.#set(patch, key, row);
    if (cursor !== undefined) this.moveTo(cursor);
    return patch;
  }

  moveTo(cursor: string): void {
    const { cursor: before } = this.#place;
    if (this.#isReset || (before !== undefined && isBefore(cursor, before))) return;
    this.#place = { ...this.#place, cursor };
  }

  see(view: string): void {
    this.#place = { ...this.#place, view };
  }

  /** Forgets the cursor, until a full snapshot brings another. */
  forget(): void {
    this.#place = { gen: this.#place.gen, paging: false };
    this.#isReset = true;
  }

  /** Forgets the rows, too. */
  clear(): Patch {
    const patch: Patch = new Map();
    for (const key of this.rows.keys()) patch.set(key, undefined);
    this.rows.clear();
    this.forget();
    return patch;
  }

  /** What another tab has written. */
  adopt(place: Place, patch: Iterable<readonly [string, Entry | undefined]>): void {
    this.#place = place;
    for (const [key, entry] of patch) {
      if (entry === undefined) this.rows.delete(key);
      else this.rows.set(key, entry);
      this.#nth = Math.max(this.#nth, entry?.nth ?? 0);
    }
  }

  #set(patch: Patch, key: string, row: Row | null): void {
    const before = this.rows.get(key);
    if (row === null) {
      if (before === undefined) return;
      this.rows.delete(key);
      patch.set(key, undefined);
      return;
    }
    const entry = { row, nth: before?.nth ?? ++this.#nth, gen: this.#place.gen };
    this.rows.set(key, entry);
    patch.set(key, entry);
  }
}
