// Storage that ends with the page, for tests and for who signs in and out without a trace on disk.
import type { Intent } from "./outbox.ts";
import type { Entry, Place } from "./replica.ts";
import { storageIn, type Database, type Databases, type Kept, type Storage, type Write } from "./storage.ts";

interface Held {
  place: Place;
  version: number;
  readonly rows: Map<string, Entry>;
}

class MemoryDatabase implements Database {
  schema: number;
  readonly #channels = new Map<string, Held>();
  readonly #intents = new Map<string, Intent>();

  constructor(schema: number) {
    this.schema = schema;
  }

  async load(channel: string): Promise<Kept | undefined> {
    const held = this.#channels.get(channel);
    return held && { ...held, rows: [...held.rows] };
  }

  async outbox(): Promise<readonly Intent[]> {
    return [...this.#intents.values()];
  }

  async commit(writes: readonly Write[]): Promise<void> {
    for (const write of writes) {
      if (write.type === "intent") this.#intents.set(write.intent.id, write.intent);
      else if (write.type === "settled") this.#intents.delete(write.id);
      else this.#write(write);
    }
  }

  async clearRows(): Promise<void> {
    this.#channels.clear();
  }

  close(): void {}

  #write({ channel, place, version, rows, all }: Write & { type: "rows" }): void {
    const held = this.#channels.get(channel) ?? { place, version, rows: new Map<string, Entry>() };
    this.#channels.set(channel, held);
    Object.assign(held, { place, version });
    if (all) held.rows.clear();
    for (const [key, entry] of rows) {
      if (entry === undefined) held.rows.delete(key);
      else held.rows.set(key, entry);
    }
  }
}

export function memoryDatabases(): Databases {
  const databases = new Map<string, MemoryDatabase>();
  const identities = new Map<string, string | null>();
  return {
    async open(name, schema) {
      const database = databases.get(name) ?? new MemoryDatabase(schema);
      databases.set(name, database);
      if (database.schema !== schema) await database.clearRows();
      database.schema = schema;
      return database;
    },
    async destroy(name) {
      databases.delete(name);
    },
    async recall(scope) {
      const identity = identities.get(scope);
      return identity === undefined ? undefined : { identity };
    },
    async remember(scope, identity) {
      if (identity === undefined) identities.delete(scope);
      else identities.set(scope, identity);
    },
  };
}

/** Keeps rows, cursors and outbox for as long as this object lives. */
export function memoryStorage(): Storage {
  return storageIn(memoryDatabases());
}
