/**
 * `tidewire/indexeddb`: rows and writes outlive the page, and tabs share them and one connection.
 *
 * @module
 */
// Storage in IndexedDB, by way of Dexie: one database for each identity.
import { Dexie, type Table } from "dexie";
import { Family } from "./family.ts";
import type { Intent } from "./outbox.ts";
import type { Entry, Place } from "./replica.ts";
import type { Database, Kept, Storage, Write } from "./storage.ts";
import { webTabs, type Tabs } from "./tabs.ts";

interface ChannelRecord {
  readonly channel: string;
  readonly place: Place;
  readonly version: number;
}

interface RowRecord extends Entry {
  readonly channel: string;
  readonly key: string;
}

/** A version of the tables, never to be changed: a new one is added. */
const tables = { channels: "channel", rows: "[channel+key]", intents: "id", meta: "name" };

class DexieDatabase extends Dexie implements Database {
  declare readonly channels: Table<ChannelRecord, string>;
  declare readonly rows: Table<RowRecord, [string, string]>;
  declare readonly intents: Table<Intent, string>;
  declare readonly meta: Table<{ name: string; value: unknown }, string>;

  constructor(name: string) {
    super(name);
    this.version(1).stores(tables);
  }

  load(channel: string): Promise<Kept | undefined> {
    return Promise.resolve(
      this.transaction("r", this.channels, this.rows, async () => {
        const record = await this.channels.get(channel);
        if (record === undefined) return undefined;
        const rows = await this.#rowsOf(channel).toArray();
        const { place, version } = record;
        return { place, version, rows: rows.map(({ key, row, nth, gen }) => [key, { row, nth, gen }] as const) };
      }),
    );
  }

  outbox(): Promise<readonly Intent[]> {
    return Promise.resolve(this.intents.toArray());
  }

  commit(writes: readonly Write[]): Promise<void> {
    return Promise.resolve(
      this.transaction("rw", this.channels, this.rows, this.intents, async () => {
        for (const write of writes) {
          if (write.type === "intent") await this.intents.put(write.intent);
          else if (write.type === "settled") await this.intents.delete(write.id);
          else await this.#write(write);
        }
      }),
    );
  }

  async #write({ channel, place, version, rows, all }: Write & { type: "rows" }): Promise<void> {
    if (all) await this.#rowsOf(channel).delete();
    const here: RowRecord[] = [];
    const gone: [string, string][] = [];
    for (const [key, entry] of rows) {
      if (entry === undefined) gone.push([channel, key]);
      else here.push({ channel, key, ...entry });
    }
    if (gone.length > 0) await this.rows.bulkDelete(gone);
    if (here.length > 0) await this.rows.bulkPut(here);
    await this.channels.put({ channel, place, version });
  }

  async clearRows(): Promise<void> {
    await this.transaction("rw", this.channels, this.rows, async () => {
      await Promise.all([this.channels.clear(), this.rows.clear()]);
    });
  }

  #rowsOf(channel: string) {
    return this.rows.where("[channel+key]").between([channel, Dexie.minKey], [channel, Dexie.maxKey]);
  }
}

/** Who was last here, by scope: a small database beside the others. */
class Last extends Dexie {
  declare readonly identities: Table<{ scope: string; identity: string | null }, string>;

  constructor() {
    super("tidewire");
    this.version(1).stores({ identities: "scope" });
  }
}

export interface IndexedDbOptions {
  /** How tabs find each other; by default Web Locks and BroadcastChannel, where there are both. */
  readonly tabs?: Tabs | undefined;
}

/** Keeps rows, cursors and outbox in IndexedDB. */
export function indexedDbStorage(options: IndexedDbOptions = {}): Storage {
  const last = new Last();
  const tabs = options.tabs ?? webTabs();
  return {
    family: (self) => tabs && new Family(tabs, self),
    async open(name, schema) {
      const database = new DexieDatabase(name);
      await database.open();
      const kept = await database.meta.get("schema");
      if (kept !== undefined && kept.value !== schema) await database.clearRows();
      if (kept?.value !== schema) await database.meta.put({ name: "schema", value: schema });
      return database;
    },
    async destroy(name) {
      await Dexie.delete(name);
    },
    async recall(scope) {
      const known = await last.identities.get(scope);
      return known && { identity: known.identity };
    },
    async remember(scope, identity) {
      if (identity === undefined) await last.identities.delete(scope);
      else await last.identities.put({ scope, identity });
    },
  };
}
