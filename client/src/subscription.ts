// One channel of a client: how far it is, what is confirmed of it, and what the app sees.
import { type TidewireError } from "./error.ts";
import type { RowChange } from "./effects.ts";
import { isSame } from "./json.ts";
import { overlay, type Outbox } from "./outbox.ts";
import { Room } from "./presence.ts";
import { Replica, type Patch } from "./replica.ts";
import type { Write } from "./storage.ts";
import type { Change, Row, Subscribe } from "./wire.ts";

export class Subscription {
  readonly channel: string;
  readonly needsToken: boolean;
  /** Whether another tab wants it, too, or alone. */
  isForeign: boolean;
  readonly replica = new Replica();
  readonly room = new Room();
  /** What the app sees: confirmed rows, and what the outbox makes of them. */
  readonly seen = new Map<string, Row>();
  /** Whether what is kept here has been read. */
  isLoaded = false;
  /** Of what other tabs have written meanwhile. */
  readonly missed: (Write & { type: "rows" })[] = [];
  /** The subscription that has no answer yet. */
  asked: string | undefined;
  isLive = false;
  /** Whether this connection has said how we are present. */
  isPresent = false;
  wasReady = false;
  refused: TidewireError | undefined;
  token: string | undefined;
  isTokenAsked = false;
  /** How often it was refused in a row with something that may be mended. */
  refusals = 0;
  /** Parts of a batch that is too large for one frame. */
  parts: Change[] = [];
  version = 0;
  /** What is kept is behind what is here: the next commit writes everything. */
  isUnsaved = false;

  constructor(channel: string, needsToken: boolean, isForeign: boolean) {
    this.channel = channel;
    this.needsToken = needsToken;
    this.isForeign = isForeign;
  }

  /** The connection is gone, or another is not made yet. */
  hungUp(): void {
    this.asked = undefined;
    this.isLive = false;
    this.isPresent = false;
    this.isTokenAsked = false;
    this.parts = [];
  }

  /** Somebody else is here: the keys of what was there. */
  forget(): Iterable<string> {
    this.version = this.refusals = 0;
    this.isLoaded = this.isUnsaved = false;
    this.token = this.refused = undefined;
    this.missed.length = 0;
    this.room.clear();
    return this.replica.clear().keys();
  }

  /** Asks for what is missing. */
  request(id: string, limit: number | undefined): Subscribe {
    this.asked = id;
    const { cursor, view } = this.replica.place;
    return {
      id,
      channel: this.channel,
      ...(cursor !== undefined && { cursor }),
      ...(cursor !== undefined && view !== undefined && { view }),
      ...(limit !== undefined && { limit }),
      ...(this.token !== undefined && { token: this.token }),
    };
  }

  /** A commit of these keys, or of all rows. */
  save(patch?: Patch): Write {
    this.version += 1;
    this.isUnsaved &&= patch !== undefined;
    const { channel, version } = this;
    const { place } = this.replica;
    if (patch !== undefined) return { type: "rows", channel, place, version, rows: [...patch] };
    return { type: "rows", channel, place, version, rows: [...this.replica.rows], all: true };
  }

  /** Looks at rows anew: those that the app now sees otherwise. */
  look(keys: Iterable<string>, outbox: Outbox): RowChange[] {
    const changes: RowChange[] = [];
    for (const key of keys) {
      const row = overlay(this.replica.rows.get(key)?.row, outbox.of(this.channel, key));
      const previous = this.seen.get(key);
      if (isSame(row, previous)) continue;
      if (row === undefined) this.seen.delete(key);
      else this.seen.set(key, row);
      changes.push({ key, row, previous });
    }
    return changes;
  }
}
