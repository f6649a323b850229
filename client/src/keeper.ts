// One database at a time: commits in order, many at once where they queue, and what fails is told.
import { TidewireError } from "./error.ts";
import type { Intent } from "./outbox.ts";
import type { Database, Databases, Kept, Keeper, Write } from "./storage.ts";

interface Job {
  readonly writes: readonly Write[];
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

export class DatabaseKeeper implements Keeper {
  readonly #databases: Databases;
  readonly #schema: number;
  readonly #tell: (error: TidewireError) => void;
  #database: Database | undefined;
  #nth = 0;
  #opening: Promise<unknown> = Promise.resolve();
  #jobs: Job[] = [];
  /** Channels whose rows could not be written. */
  readonly #broken = new Set<string>();
  #running: Promise<void> = Promise.resolve();

  constructor(databases: Databases, schema: number, tell: (error: TidewireError) => void) {
    this.#databases = databases;
    this.#schema = schema;
    this.#tell = tell;
  }

  /** Opens a database in place of the one before. Without one nothing is kept: the client goes on in memory. */
  async open(name: string): Promise<readonly Intent[]> {
    const nth = ++this.#nth;
    const opening = this.close()
      .then(() => this.#databases.open(name, this.#schema))
      .then(async (database) => ({ database, outbox: await database.outbox() }))
      .catch((error: unknown) => {
        this.#fail("what is kept on this device cannot be read; nothing is kept until that is mended", error);
        return { database: undefined, outbox: [] };
      });
    this.#opening = opening;
    const { database, outbox } = await opening;
    // Somebody else may be here already.
    if (nth !== this.#nth) database?.close();
    else this.#database = database;
    return outbox;
  }

  #fail(message: string, cause: unknown): void {
    this.#tell(new TidewireError("storage", message, { cause }));
  }

  async outbox(): Promise<readonly Intent[] | undefined> {
    await this.flush();
    return this.#database?.outbox().catch((error: unknown) => {
      this.#fail("the outbox on this device cannot be read", error);
      return undefined;
    });
  }

  /** A channel as it is kept; one that cannot be read is fetched anew. */
  async load(channel: string): Promise<Kept | undefined> {
    await this.flush();
    return this.#database?.load(channel).catch((error: unknown) => {
      this.#fail("a channel on this device cannot be read; it is fetched anew", error);
      return undefined;
    });
  }

  commit(writes: readonly Write[]): Promise<void> {
    return new Promise((done, failed) => {
      this.#jobs.push({ writes, done, failed });
      if (this.#jobs.length === 1) this.#running = this.#running.then(() => this.#run());
    });
  }

  /** When all is written that was to be written until now. */
  async flush(): Promise<void> {
    await this.#opening;
    await this.#running;
  }

  async #run(): Promise<void> {
    const jobs = this.#jobs;
    this.#jobs = [];
    const all = jobs.flatMap((job) => job.writes);
    try {
      await this.#write(all);
      for (const { done } of jobs) done();
    } catch (error) {
      // What is too much for one is not the fault of the others.
      if (jobs.length > 1) for (const { writes, done, failed } of jobs) await this.#write(writes).then(done, failed);
      else for (const { failed } of jobs) failed(error);
    }
  }

  /** Where rows of a channel are missing, later ones are of no use: they are left out until all come again. */
  async #write(writes: readonly Write[]): Promise<void> {
    const left = writes.filter((write) => write.type !== "rows" || write.all || !this.#broken.has(write.channel));
    const channels = left.flatMap((write) => (write.type === "rows" ? [write.channel] : []));
    try {
      if (left.length > 0) await this.#database?.commit(left);
      for (const channel of channels) this.#broken.delete(channel);
    } catch (error) {
      for (const channel of channels) this.#broken.add(channel);
      throw error;
    }
  }

  destroy(name: string): void {
    this.#opening = this.close()
      .then(() => this.#databases.destroy(name))
      .catch((error: unknown) => this.#fail("what is kept of a user on this device could not be deleted", error));
  }

  async close(): Promise<void> {
    await this.flush();
    this.#database?.close();
    this.#database = undefined;
    this.#broken.clear();
  }

  recall(scope: string): Promise<{ readonly identity: string | null } | undefined> {
    return this.#databases.recall(scope).catch(() => undefined);
  }

  remember(scope: string, identity: string | null | undefined): Promise<void> {
    return this.#databases.remember(scope, identity).catch(() => undefined);
  }
}
