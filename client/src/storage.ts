// What is kept on this device, and where: one database for each identity.
import type { Inside, Others } from "./engine.ts";
import type { TidewireError } from "./error.ts";
import type { Family, Relative } from "./family.ts";
import { DatabaseKeeper } from "./keeper.ts";
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
  close(): void;
}

/** What tabs need inside of the engine, and outside. */
export interface Kin {
  readonly following: (inside: Inside) => Others;
  readonly family: (self: Relative) => Family;
}

/** What an app gives its client: how to keep things, and who else sees them. */
export interface Storage {
  keeper(schema: number, tell: (error: TidewireError) => void): Keeper;
  /** Where other tabs see the same: what lets one connection serve them all. */
  readonly family?: Kin | undefined;
}

/** Where databases are. */
export interface Databases {
  /** `schema` is the app's version of its rows: those of another are gone. The outbox stays. */
  open(name: string, schema: number): Promise<Database>;
  /** Deletes a database, for good. */
  destroy(name: string): Promise<void>;
  /** Who was here last, by scope: so that a device that is offline knows whose database to open. */
  recall(scope: string): Promise<{ readonly identity: string | null } | undefined>;
  remember(scope: string, identity: string | null | undefined): Promise<void>;
}

/** What the client asks of what is kept: one database at a time. */
export interface Keeper {
  open(name: string): Promise<readonly Intent[]>;
  /** The outbox, once all is that was written before. */
  outbox(): Promise<readonly Intent[] | undefined>;
  load(channel: string): Promise<Kept | undefined>;
  commit(writes: readonly Write[]): Promise<void>;
  flush(): Promise<void>;
  destroy(name: string): void;
  close(): Promise<void>;
  recall(scope: string): Promise<{ readonly identity: string | null } | undefined>;
  remember(scope: string, identity: string | null | undefined): Promise<void>;
}

/** Storage in databases of whatever kind, for `createSync`. */
export function storageIn(databases: Databases, family?: Kin): Storage {
  return { keeper: (schema, tell) => new DatabaseKeeper(databases, schema, tell), family };
}
