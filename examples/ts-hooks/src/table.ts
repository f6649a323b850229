// A table in D1 with the rows of a channel, by the rules of the built-in ones.
import { Repeated, repeated, TidewireError, type Fetched, type Page, type SyncContext } from "tidewire/server";

type Stored = Record<string, unknown> & { id: string };

export interface TableOptions<Row> {
  /** Its columns beside the key, which are the fields of a row. */
  readonly columns: readonly (keyof Row & string)[];
  /** A row of what is stored, where that is not the same. */
  readonly row?: (stored: Stored) => Row;
  /** The column with the user who alone may see a row; without it everyone may. */
  readonly owner?: keyof Row & string;
}

/** The row of a key. Statements have for ?1 to ?4 the space, the channel, a key, and who asks. */
const ROW = "space = ?1 AND channel = ?2 AND id = ?3";

export class Table<Row extends { id: string }> {
  readonly #name: string;
  readonly #options: TableOptions<Row>;

  constructor(name: string, options: TableOptions<Row>) {
    this.#name = name;
    this.#options = options;
  }

  /** Whether who asks may see a row. The second is true: it is there for its parameter. */
  get #isSeen(): string {
    const { owner } = this.#options;
    return owner ? `${this.#name}.${owner} = ?4` : "?4 IS ?4";
  }

  #prepare(ctx: SyncContext, sql: string, key: string, ...values: unknown[]): D1PreparedStatement {
    const db: D1Database = ctx.platform.env.DB;
    return db.prepare(sql).bind(ctx.space, ctx.channel, key, ctx.identity, ...values);
  }

  #row({ space: _s, channel: _c, updated: _u, deleted: _d, ...fields }: Stored): Row {
    return this.#options.row?.(fields) ?? (fields as unknown as Row);
  }

  /** Pages follow the keys: the token is the last one. */
  async fetch(ctx: SyncContext, time: number | undefined, { token, limit }: Page): Promise<Fetched<Row>> {
    // Nothing tells which rows have left somebody's sight, so their reader gets all that it sees.
    const since = this.#options.owner ? undefined : time;
    const sql = `SELECT * FROM ${this.#name} WHERE space = ?1 AND channel = ?2 AND id > ?3 AND ${this.#isSeen}
      AND updated > ?5 AND deleted <= ?6 ORDER BY id LIMIT ?7`;
    // What is deleted counts only for who may have it.
    const wanted = since === undefined ? [-1, 0] : [since, 1];
    const { results } = await this.#prepare(ctx, sql, token ?? "", ...wanted, limit + 1).all<Stored>();
    const page = results.slice(0, limit);
    return {
      rows: page.filter(({ deleted }) => deleted === 0).map((stored) => this.#row(stored)),
      deleted: page.filter(({ deleted }) => deleted === 1).map(({ id }) => id),
      next: results.length > limit ? (page.at(-1)?.id ?? null) : null,
      full: since === undefined,
    };
  }

  /** The row, whoever may see it. */
  async read(ctx: SyncContext, key: string): Promise<Row | null> {
    const stored = await this.#prepare(ctx, `SELECT * FROM ${this.#name} WHERE ${ROW} AND deleted = 0 AND ?4 IS ?4`, key).first<Stored>();
    return stored && this.#row(stored);
  }

  async #readSeen(ctx: SyncContext, key: string): Promise<Row | null> {
    const row = await this.read(ctx, key);
    const { owner } = this.#options;
    return row && (owner === undefined || row[owner] === ctx.identity) ? row : null;
  }

  create(ctx: SyncContext, row: Row): Promise<Row | Repeated<Row>> {
    this.#mustStayInSight(ctx, row);
    const { columns } = this.#options;
    const sql = `INSERT INTO ${this.#name} (space, channel, id, updated, ${columns})
      SELECT ?1, ?2, ?3, ${parameters(columns.length + 1)} WHERE ?4 IS ?4
      ON CONFLICT DO UPDATE SET deleted = 0, updated = excluded.updated, ${columns.map((name) => `${name} = excluded.${name}`)}
      WHERE ${this.#name}.deleted = 1 OR ${this.#isSeen}`;
    const taken = new TidewireError("forbidden", "the key is taken");
    return this.#once(ctx, row.id, taken, sql, Date.now(), ...columns.map((name) => row[name] ?? null));
  }

  async update(ctx: SyncContext, key: string, changes: Partial<Row>): Promise<Row | Repeated<Row>> {
    const old = await this.#readSeen(ctx, key);
    if (old) this.#mustStayInSight(ctx, { ...old, ...changes });
    const given = this.#options.columns.filter((name) => name in changes);
    const set = ["updated", ...given].map((name, n) => `${name} = ?${n + 5}`);
    const sql = `UPDATE ${this.#name} SET ${set} WHERE ${ROW} AND deleted = 0 AND ${this.#isSeen}`;
    return this.#once(ctx, key, noSuchRow(), sql, Date.now(), ...given.map((name) => changes[name] ?? null));
  }

  async delete(ctx: SyncContext, key: string): Promise<void | Repeated<Row>> {
    const sql = `UPDATE ${this.#name} SET deleted = 1, updated = ?5 WHERE ${ROW} AND deleted = 0 AND ${this.#isSeen}`;
    const done = await this.#once(ctx, key, noSuchRow(), sql, Date.now());
    if (done instanceof Repeated) return done;
  }

  /**
   * Writes, and notes the id of the mutation, both or neither. One that is noted is not executed again;
   * one that writes nothing is refused, and not noted.
   */
  async #once(ctx: SyncContext, key: string, refusal: Error, sql: string, ...values: unknown[]): Promise<Row | Repeated<Row>> {
    const db: D1Database = ctx.platform.env.DB;
    // Ids of who has no identity count for the connection.
    const mutation = [ctx.space, ctx.identity === null ? `session:${ctx.session}` : `user:${ctx.identity}`, ctx.mutationId];
    const known = db.prepare("SELECT 1 FROM mutations WHERE space = ? AND sender = ? AND id = ?").bind(...mutation);
    if (await known.first()) return repeated(await this.#readSeen(ctx, key));
    const note = "INSERT INTO mutations (space, sender, id, at) SELECT ?, ?, ?, ? WHERE changes() = 1";
    try {
      const [written] = await db.batch<Stored>([
        this.#prepare(ctx, `${sql} RETURNING *`, key, ...values),
        db.prepare(note).bind(...mutation, Date.now()),
      ]);
      const [stored] = written?.results ?? [];
      if (stored) return this.#row(stored);
    } catch (error) {
      // Another copy was faster: its batch stands, and this one did not happen.
      if (await known.first()) return repeated(await this.#readSeen(ctx, key));
      throw error;
    }
    throw refusal;
  }

  #mustStayInSight(ctx: SyncContext, row: Row): void {
    const { owner } = this.#options;
    if (owner === undefined || row[owner] === ctx.identity) return;
    if (typeof row[owner] !== "string") throw new TidewireError("invalid", `${owner} must be a user`, { field: owner });
    throw new TidewireError("forbidden", "this would take the row out of your sight");
  }
}

const parameters = (count: number) => Array.from({ length: count }, (_, n) => `?${n + 5}`);
const noSuchRow = () => new TidewireError("not_found", "no such row");
