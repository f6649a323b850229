// An outbox in D1: changes that the app commits together with its own rows, published in order.
//
// A batch's members and idempotency key are written down before it is published, and the key stays
// with it until its rows are gone. So whatever crashes, and whoever drains beside, the same rows go
// under the same key. A batch never grows, and its rows are forgotten only while it is open. The
// lease saves work: what is right does not depend on it.
import { BATCH_CHANGES, BODY_BYTES, ENVELOPE, batchOf, checkSize, written } from "./batch.ts";
import { TidewireError, misconfigured } from "../error.ts";
import { publishOnce, type PublisherOptions } from "./publisher.ts";
import { BLAMED, placeOf, type QueuedChange } from "./queue.ts";
import { timeoutOf } from "./retry.ts";
import { spaceNamed, wayOf } from "./settings.ts";

/** What of a statement of D1 is needed. */
export interface OutboxStatement {
  bind(...values: unknown[]): OutboxStatement;
  all<T>(): Promise<{ readonly results: readonly T[] }>;
}

/** What of a D1 database is needed. */
export interface OutboxDatabase {
  prepare(sql: string): OutboxStatement;
  batch(statements: OutboxStatement[]): Promise<unknown>;
}

/** Where the outbox is. */
export interface OutboxTable {
  /** The table's name, `outbox` by default: up to 50 letters, digits and `_`. */
  readonly table?: string | undefined;
}

export interface OutboxOptions extends Omit<PublisherOptions, "space">, OutboxTable {
  /** The database that has the outbox. */
  readonly db: OutboxDatabase;
  /** Calls that one run makes at most: 1–1,000, by default 10. Each takes four queries or fewer. */
  readonly calls?: number | undefined;
}

/** What a run did. */
export interface Drained {
  /** Changes that are published now. */
  readonly published: number;
  /** Changes that were set aside. */
  readonly refused: number;
  /** Spaces that are left for a later run: something is wrong for now. */
  readonly postponed: number;
  /** Whether the run ended because its calls were used up. */
  readonly more: boolean;
}

const CALLS = { usual: 10, most: 1_000 };

/** A lease outlasts the longest call by this. */
const LEASE_SECONDS = 30;

/** A space is left alone for this long after a failure, or for what the server asks up to an hour. */
const PAUSE_SECONDS = { usual: 30, most: 3_600 };

/** How long the server knows an idempotency key. */
const KNOWN_SECONDS = 24 * 60 * 60;

interface Row {
  readonly id: number;
  readonly change: string;
}

/** Rows of a space, up to one that the database names, which are published under the key. */
interface Batch {
  readonly space: string;
  readonly key: string;
  /** Seconds since it was made. */
  readonly age: number;
}

/** The names of the outbox's tables, as SQL. */
function tablesOf({ table = "outbox" }: OutboxTable) {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,49}$/.test(table)) {
    throw misconfigured("table must be a name of 1 to 50 letters, digits and _");
  }
  return { outbox: `"${table}"`, batches: `"${table}_batches"`, refused: `"${table}_refused"` };
}

/**
 * The statement that writes a change into the outbox. Run it in one `db.batch` with the statements
 * that change the app's own rows: both happen, or neither.
 *
 * @throws {TidewireError} what is wrong with the change, as far as it can be told here.
 */
export function intoOutbox<T>(
  db: { prepare(sql: string): { bind(...values: unknown[]): T } },
  { space, ...change }: QueuedChange,
  options: OutboxTable = {},
): T {
  const { outbox } = tablesOf(options);
  const json = written(change);
  checkSize(json);
  return db.prepare(`INSERT INTO ${outbox} (space, change) VALUES (?, ?)`).bind(spaceNamed(space), json);
}

/**
 * Publishes what the outbox holds: of each space in order, in batches, each once. Call it from a
 * `scheduled` handler; runs beside each other do no harm.
 *
 * @throws {TidewireError} `misconfigured`, and whatever the database throws. Nothing is lost by it.
 */
export async function drainOutbox(options: OutboxOptions): Promise<Drained> {
  const most = options.calls ?? CALLS.usual;
  if (!Number.isInteger(most) || most < 1 || most > CALLS.most) {
    throw misconfigured(`calls must be an integer of 1 to ${CALLS.most}`);
  }
  wayOf(options);
  const run = new Run(options, most);
  // A batch of each space in turn, so that none waits for all of another.
  for (let spaces = await run.spaces(); spaces.length > 0; spaces = await run.spaces()) {
    for (const space of spaces) {
      if (run.calls === 0) return { ...run.done, more: true };
      await run.drain(space);
    }
  }
  return { ...run.done, more: false };
}

class Run {
  readonly done = { published: 0, refused: 0, postponed: 0 };
  readonly #options: OutboxOptions;
  readonly #names: ReturnType<typeof tablesOf>;
  readonly #lease: number;
  /** Calls that may still be made. */
  calls: number;

  constructor(options: OutboxOptions, calls: number) {
    this.#options = options;
    this.#names = tablesOf(options);
    this.#lease = Math.ceil(timeoutOf(options.retry ?? {}) / 1_000) + LEASE_SECONDS;
    this.calls = calls;
  }

  /** Spaces with something to publish that nobody is at, those that failed last. */
  async spaces(): Promise<string[]> {
    const { outbox, batches } = this.#names;
    // Each step of the recursion finds one space in the index, however many rows it has.
    const found = await this.#statement(`
      WITH RECURSIVE spaces (space) AS (
        SELECT MIN(space) FROM ${outbox}
        UNION ALL
        SELECT (SELECT MIN(space) FROM ${outbox} WHERE space > spaces.space)
        FROM spaces WHERE spaces.space IS NOT NULL
      )
      SELECT spaces.space FROM spaces LEFT JOIN ${batches} USING (space)
      WHERE spaces.space IS NOT NULL AND COALESCE(leased, 0) <= unixepoch()
      ORDER BY COALESCE(leased, 0), (SELECT MIN(id) FROM ${outbox} WHERE space = spaces.space)
    `).all<{ space: string }>();
    return found.results.map(({ space }) => space);
  }

  /** Publishes the space's open batch, or makes one. */
  async drain(space: string): Promise<void> {
    const batch = await this.#claim(space);
    if (batch === undefined) return;
    if (batch.age > KNOWN_SECONDS) {
      console.warn(`outbox batch ${batch.key} is older than 24 hours: if it was published, it is published again`);
    }
    for (;;) {
      const rows = await this.#rows(batch);
      try {
        await this.#publish(batch, rows);
        this.done.published += rows.length;
        return await this.#finish(batch);
      } catch (error) {
        if (!(error instanceof TidewireError)) throw error;
        const bad = blamedOf(error, rows);
        if (bad === undefined) return this.#postpone(batch, error);
        if (bad.length === 1) await this.#refuse(batch, bad[0] as Row, error);
        else await this.#shrink(batch, bad);
      }
      if (this.calls === 0) return this.#release(batch, 0);
    }
  }

  /**
   * Takes the lease of the space's batch, which is made where there is none: undefined where somebody
   * has it. A statement happens whole, so a batch has the same rows for whoever sees it.
   */
  async #claim(space: string): Promise<Batch | undefined> {
    const { outbox, batches } = this.#names;
    const { results } = await this.#statement(
      `
      INSERT INTO ${batches} (space, key, last, claimed, leased)
      SELECT ?1, ?2, MAX(id), unixepoch(), unixepoch() + ?3 FROM (
        SELECT id, size, SUM(size) OVER (ORDER BY id) AS sum FROM (
          SELECT id, LENGTH(CAST(change AS BLOB)) + 1 AS size FROM ${outbox}
          WHERE space = ?1 ORDER BY id LIMIT ?4
        )
      )
      WHERE sum <= ?5 OR sum = size
      HAVING MAX(id) IS NOT NULL
      ON CONFLICT (space) DO UPDATE SET leased = excluded.leased WHERE leased <= unixepoch()
      RETURNING space, key, unixepoch() - claimed AS age
      `,
      space,
      crypto.randomUUID(),
      this.#lease,
      BATCH_CHANGES,
      // One more, because the first change has no comma before it.
      BODY_BYTES - ENVELOPE.length + 1,
    ).all<Batch>();
    return results[0];
  }

  /** The condition of the rows of the batch ?2 of the space ?1; none where it is not open any more. */
  get #members(): string {
    return `space = ?1 AND id <= (SELECT last FROM ${this.#names.batches} WHERE space = ?1 AND key = ?2)`;
  }

  async #rows({ space, key }: Batch): Promise<readonly Row[]> {
    const sql = `SELECT id, change FROM ${this.#names.outbox} WHERE ${this.#members} ORDER BY id`;
    return (await this.#statement(sql, space, key).all<Row>()).results;
  }

  async #publish({ space, key }: Batch, rows: readonly Row[]): Promise<void> {
    // Another run has published them, or the last one was set aside.
    if (rows.length === 0) return;
    // Counted even where nothing is sent: it costs the same queries.
    this.calls -= 1;
    for (const [index, { change }] of rows.entries()) checkObject(change, index);
    const body = batchOf(rows.map(({ change }) => change));
    const { platform, ...options } = this.#options;
    const publisher = { ...options, platform, space };
    try {
      await publishOnce(publisher, { path: "/broadcast-batch", body, idempotencyKey: key });
    } catch (error) {
      // The server knows the key: the rows are published, if in other words.
      if (!(error instanceof TidewireError && error.code === "conflict")) throw error;
    }
  }

  /** Forgets what is published. */
  async #finish({ space, key }: Batch): Promise<void> {
    const { outbox, batches } = this.#names;
    await this.#options.db.batch([
      this.#statement(`DELETE FROM ${outbox} WHERE ${this.#members}`, space, key),
      this.#statement(`DELETE FROM ${batches} WHERE space = ? AND key = ?`, space, key),
    ]);
  }

  /** Sets a row aside. The batch goes on under its key, which a refusal does not use up. */
  async #refuse({ space, key }: Batch, { id }: Row, { code, message }: TidewireError): Promise<void> {
    const { outbox, refused } = this.#names;
    const it = `id = ?3 AND ${this.#members}`;
    await this.#options.db.batch([
      this.#statement(
        `INSERT INTO ${refused} (id, space, change, code, message, refused)
         SELECT id, space, change, ?4, ?5, unixepoch() FROM ${outbox} WHERE ${it}`,
        ...[space, key, id, code, message],
      ),
      this.#statement(`DELETE FROM ${outbox} WHERE ${it}`, space, key, id),
      this.#leased(space, key, this.#lease),
    ]);
    this.done.refused += 1;
    console.error(`outbox row ${id} cannot be published: ${message}`);
  }

  /** Leaves the later half to another batch. */
  async #shrink({ space, key }: Batch, rows: readonly Row[]): Promise<void> {
    const { id } = rows[Math.ceil(rows.length / 2) - 1] as Row;
    const sql = `UPDATE ${this.#names.batches} SET last = MIN(last, ?) WHERE space = ? AND key = ?`;
    await this.#options.db.batch([this.#statement(sql, id, space, key), this.#leased(space, key, this.#lease)]);
  }

  /** Leaves the batch as it is to a later run. */
  async #postpone(batch: Batch, error: TidewireError): Promise<void> {
    this.done.postponed += 1;
    console.error(`the outbox of the space ${batch.space} is postponed: ${error.message}`);
    const asked = Math.ceil((error.retryAfterMs ?? 0) / 1_000);
    await this.#release(batch, Math.min(Math.max(asked, PAUSE_SECONDS.usual), PAUSE_SECONDS.most));
  }

  async #release({ space, key }: Batch, seconds: number): Promise<void> {
    await this.#leased(space, key, seconds).all();
  }

  #leased(space: string, key: string, seconds: number): OutboxStatement {
    const sql = `UPDATE ${this.#names.batches} SET leased = unixepoch() + ? WHERE space = ? AND key = ?`;
    return this.#statement(sql, seconds, space, key);
  }

  #statement(sql: string, ...values: readonly unknown[]): OutboxStatement {
    const statement = this.#options.db.prepare(sql);
    return values.length === 0 ? statement : statement.bind(...values);
  }
}

/** Refuses what is no JSON object: in a body it would be something else. */
function checkObject(change: string, index: number): void {
  const wrong = (why: string) =>
    new TidewireError("malformed", `the change is no JSON object: ${why}`, { field: `events[${index}]` });
  let value: unknown;
  try {
    value = JSON.parse(change);
  } catch {
    // The parser would quote it.
    throw wrong("it cannot be read");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("it is something else");
}

/**
 * The rows among which the bad one is; undefined where it is nobody's fault. Codes that may be about
 * the space as a whole need a place.
 */
function blamedOf(error: TidewireError, rows: readonly Row[]): readonly Row[] | undefined {
  if (!BLAMED.includes(error.code)) return undefined;
  const row = rows[placeOf(error) ?? -1];
  if (row !== undefined) return [row];
  return ["malformed", "invalid", "frame_too_large"].includes(error.code) ? rows : undefined;
}
