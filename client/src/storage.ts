// What is kept on this device, and where: one database for each identity.
import type { Family, Relative } from "./family.ts";
import type { Intent } from "./outbox.ts";
import type { Entry, Place } from "./replica.ts";

/** A channel as it is kept. `version` counts its commits, so that tabs see when they have missed one. */
export interface Kept {
  readonly place: Place;
  readonly version: number;
  readonly rows: Iterable<readonly [key: string, entry: Entry]>;
}

/** One step of a commit. */
export type Write =
  | {
      readonly type: "rows";
      readonly channel: string;
      readonly place: Place;
      readonly version: number;
      /** Rows by key; those without an entry are gone. */
      readonly rows: readonly (readonly [key: string, entry: Entry | undefined])[];
      /** These are all rows: others of the channel are gone, too. */
      readonly all?: boolean;
    }
  | { readonly type: "intent"; readonly intent: Intent }
  | { readonly type: "settled"; readonly id: string };

export interface Database {
  load(channel: string): Promise<Kept | undefined>;
  outbox(): Promise<readonly Intent[]>;
  /** All of it or nothing, in order. */
  commit(writes: readonly Write[]): Promise<void>;
  /** Forgets all rows and cursors; the outbox stays. */
  clearRows(): Promise<void>;
  close(): void;
}

export interface Storage {
  /** Where other tabs see the same: what lets one connection serve them all. */
  readonly family?: ((self: Relative) => Family | undefined) | undefined;
  /** `schema` is the app's version of its rows: those of another are gone. The outbox stays. */
  open(name: string, schema: number): Promise<Database>;
  /** Deletes a database, for good. */
  destroy(name: string): Promise<void>;
  /** Who was here last, by scope: so that a device that is offline knows whose database to open. */
  recall(scope: string): Promise<{ readonly identity: string | null } | undefined>;
  remember(scope: string, identity: string | null | undefined): Promise<void>;
}
