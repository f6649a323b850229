/**
 * `tidewire/indexeddb`: rows and writes outlive the page, and tabs share them and one connection.
 *
 * @module
 */
import { deleteDB, openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { Inside } from "./engine.ts";
import { Family, type Relative } from "./family.ts";
import { Following } from "./following.ts";
import type { Intent } from "./outbox.ts";
import type { Entry, Place } from "./replica.ts";
import { storageIn, type Database, type Databases, type Kept, type Storage, type Write } from "./storage.ts";
import { webTabs, type Tabs } from "./tabs.ts";

/** The tables of one identity. They are never changed but by a new version. */
interface Tables extends DBSchema {
  channels: { key: string; value: { channel: string; place: Place; version: number } };
  rows: { key: [channel: string, key: string]; value: Entry & { channel: string; key: string } };
  intents: { key: string; value: Intent };
  meta: { key: string; value: { name: string; value: unknown } };
}

/** Who was last here, by scope: a small database beside the others. */
interface Last extends DBSchema {
  identities: { key: string; value: { scope: string; identity: string | null } };
}

// Not every program that this is compiled in knows the platform's types of it.
declare const IDBKeyRange: { bound(lower: unknown, upper: unknown): never };

/** All rows of a channel: a list sorts behind every text. */
const rowsOf = (channel: string) => IDBKeyRange.bound([channel], [channel, []]);

/** A database that is opened again where the browser has closed it, as some do in the background. */
class Handle<T extends DBSchema> {
  readonly #open: () => Promise<IDBPDatabase<T>>;
  #database: Promise<IDBPDatabase<T>> | undefined;

  constructor(name: string, create: (database: IDBPDatabase<T>) => void) {
    this.#open = () =>
      openDB<T>(name, 1, {
        upgrade: (database) => create(database),
        // Somebody deletes it, in another tab.
        blocking: () => this.close(),
        terminated: () => (this.#database = undefined),
      });
  }

  async use<R>(use: (database: IDBPDatabase<T>) => Promise<R>): Promise<R> {
    const database = await this.#opened();
    try {
      return await use(database);
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "InvalidStateError")) throw error;
      this.#database = undefined;
      return use(await this.#opened());
    }
  }

  #opened(): Promise<IDBPDatabase<T>> {
    this.#database ??= this.#open().catch((error: unknown) => {
      this.#database = undefined;
      throw error;
    });
    return this.#database;
  }

  close(): void {
    this.#database?.then((database) => database.close()).catch(() => {});
    this.#database = undefined;
  }
}

class IndexedDatabase implements Database {
  readonly #handle: Handle<Tables>;
  #schema = 0;

  constructor(name: string) {
    this.#handle = new Handle<Tables>(name, (database) => {
      database.createObjectStore("channels", { keyPath: "channel" });
      database.createObjectStore("rows", { keyPath: ["channel", "key"] });
      database.createObjectStore("intents", { keyPath: "id" });
      database.createObjectStore("meta", { keyPath: "name" });
    });
  }

  /** Rows of another schema are gone. */
  async prepare(schema: number): Promise<void> {
    this.#schema = schema;
    const kept = await this.#handle.use((database) => database.get("meta", "schema"));
    if (kept?.value === schema) return;
    await this.#handle.use(async (database) => {
      const change = database.transaction(["channels", "rows", "meta"], "readwrite");
      void change.objectStore("channels").clear();
      void change.objectStore("rows").clear();
      void change.objectStore("meta").put({ name: "schema", value: schema });
      await change.done;
    });
  }

  load(channel: string): Promise<Kept | undefined> {
    return this.#handle.use(async (database) => {
      const look = database.transaction(["channels", "rows"]);
      const [kept, rows] = await Promise.all([
        look.objectStore("channels").get(channel),
        look.objectStore("rows").getAll(rowsOf(channel)),
      ]);
      if (kept === undefined) return undefined;
      const { place, version } = kept;
      return { place, version, rows: rows.map(({ key, row, nth, gen }) => [key, { row, nth, gen }] as const) };
    });
  }

  outbox(): Promise<readonly Intent[]> {
    return this.#handle.use((database) => database.getAll("intents"));
  }

  commit(writes: readonly Write[]): Promise<void> {
    return this.#handle.use(async (database) => {
      const change = database.transaction(["channels", "rows", "intents", "meta"], "readwrite");
      const steps: Promise<unknown>[] = [change.done];
      try {
        const kept = await change.objectStore("meta").get("schema");
        for (const write of writes) {
          // A newer version of the app has taken over, in another tab: rows are its own now.
          if (write.type === "rows" && kept?.value !== this.#schema) continue;
          if (write.type === "intent") steps.push(change.objectStore("intents").put(write.intent));
          else if (write.type === "settled") steps.push(change.objectStore("intents").delete(write.id));
          else {
            const { channel, place, version } = write;
            const store = change.objectStore("rows");
            if (write.all) steps.push(store.delete(rowsOf(channel)));
            for (const [key, entry] of write.rows) {
              steps.push(entry === undefined ? store.delete([channel, key]) : store.put({ channel, key, ...entry }));
            }
            steps.push(change.objectStore("channels").put({ channel, place, version }));
          }
        }
      } catch (error) {
        // Something that cannot be stored at all: nothing of it is.
        for (const step of steps) step.catch(() => {});
        change.abort();
        throw error;
      }
      await Promise.all(steps);
    });
  }

  close(): void {
    this.#handle.close();
  }
}

export interface IndexedDbOptions {
  /** How tabs find each other; by default Web Locks and BroadcastChannel, where there are both. */
  readonly tabs?: Tabs | undefined;
}

export function indexedDatabases(): Databases {
  const last = new Handle<Last>("tidewire", (database) => {
    database.createObjectStore("identities", { keyPath: "scope" });
  });
  return {
    async open(name, schema) {
      const database = new IndexedDatabase(name);
      await database.prepare(schema);
      return database;
    },
    destroy: (name) => deleteDB(name),
    recall: (scope) => last.use((database) => database.get("identities", scope)),
    async remember(scope, identity) {
      if (identity === undefined) await last.use((database) => database.delete("identities", scope));
      else await last.use((database) => database.put("identities", { scope, identity }));
    },
  };
}

/** Keeps rows, cursors and outbox in IndexedDB, one database for each identity. */
export function indexedDbStorage(options: IndexedDbOptions = {}): Storage {
  const tabs = options.tabs ?? webTabs();
  const kin = tabs && {
    following: (inside: Inside) => new Following(inside),
    family: (self: Relative) => new Family(tabs, self),
  };
  return storageIn(indexedDatabases(), kin);
}
