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
  readonly replica = new Replica();
  readonly room = new Room();
  /** What the app sees: confirmed rows, and what the outbox makes of them. */
  readonly seen = new Map<string, Row>();
  /** Whether what is kept here has been read; the reading that counts is the last. */
  isLoaded = false;
  reading = 0;
  /** The subscription that has no answer yet. */
  asked: string | undefined;
  isLive = false;
  /** Whether this connection has said how we are present. */
  isPresent = false;
  refused: TidewireError | undefined;
  token: string | undefined;
  isTokenAsked = false;
  /** How often it was refused in a row with something that may be mended. */
  refusals = 0;
  /** Parts of a batch that is too large for one frame. */
  parts: Change[] = [];
  version = 0;

  constructor(channel: string, needsToken: boolean) {
    this.channel = channel;
    this.needsToken = needsToken;
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
    this.isLoaded = false;
    this.token = this.refused = undefined;
    this.room.clear();
    return this.replica.clear().keys();
  }

  /** Asks for what is missing. */
  request(id: string, limit: number | undefined): Subscribe {
    this.asked = id;
    const { cursor, view } = this.replica.place;
    const { channel, token } = this;
    return { id, channel, cursor, view: cursor && view, limit, token };
  }

  /** A commit of these keys, or of all rows. */
  save(patch?: Patch): Write {
    this.version += 1;
    const { channel, version, replica } = this;
    return { type: "rows", channel, place: replica.place, version, rows: [...(patch ?? replica.rows)], all: patch === undefined };
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
