// One question, put to the handlers of its channel.
import { bytesOf } from "./batch.ts";
import type { AnyHandler } from "./context.ts";
import { Repeated, type Fetched, type Page, type Scope, type SyncContext, type To } from "./define.ts";
import { textOf } from "../error.ts";
import { ANSWER_BYTES, AUDIENCE_TOPICS } from "./limits.ts";
import { isObject, type Mutation, type Question } from "./question.ts";
import { invalidity, refusalOf, type Place, type Refusal } from "./refusal.ts";
import type { Action } from "./schema.ts";

/** Ends a question with a refusal. */
export class Answered extends Error {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** The app's own mistake, for the log. */
function unfit(message: string): Answered {
  console.error(message);
  return new Answered({ code: "internal", message: "internal" });
}

type Row = Readonly<Record<string, unknown>>;

/** How far a question has come. */
export interface Progress {
  /** Whether a handler that writes has begun to. */
  mayBeDone: boolean;
}

/** A question under way. */
export class Turn {
  readonly #handlers: AnyHandler["config"];
  readonly #ctx: SyncContext;
  readonly #progress: Progress;

  constructor({ config }: AnyHandler, ctx: SyncContext, progress: Progress) {
    this.#handlers = config;
    this.#ctx = ctx;
    this.#progress = progress;
  }

  /**
   * The answer, as JSON.
   *
   * @throws {Answered} a refusal.
   */
  async answer(question: Question): Promise<string> {
    const answer = await this.#answer(question);
    let json: string;
    try {
      json = JSON.stringify(answer);
    } catch (error) {
      throw unfit(`${this.#what} returned what cannot be written as JSON: ${textOf(error)}`);
    }
    const bytes = bytesOf(json);
    if (bytes <= ANSWER_BYTES) return json;
    throw unfit(`${this.#what} returned ${bytes} bytes, of ${ANSWER_BYTES}: answer in pages of page.limit rows`);
  }

  async #answer(question: Question): Promise<object> {
    switch (question.operation) {
      case "authorize":
        await this.#authorize();
        return {};
      case "fetch":
        if (question.authorize) await this.#authorize();
        return this.#fetch(question.since, question.page);
      case "create":
      case "update":
      case "delete":
        if (question.authorize) await this.#authorize();
        return this.#write(question);
    }
  }

  get #what(): string {
    return `${this.#ctx.operation.kind} of ${this.#ctx.channel}`;
  }

  #place(isJudge = false): Place {
    return { what: this.#what, identity: this.#ctx.identity, isJudge };
  }

  /** Runs a handler. What it throws ends the question. */
  async #run<T>(handler: () => T | Promise<T>): Promise<T> {
    try {
      return await handler();
    } catch (error) {
      throw new Answered(refusalOf(error, this.#place()));
    }
  }

  async #authorize(): Promise<void> {
    try {
      await this.#handlers.authorize?.(this.#ctx);
    } catch (error) {
      throw new Answered(refusalOf(error, this.#place(true)));
    }
  }

  #readOnly(): Answered {
    return new Answered({ code: "read_only", message: "the app does not do this on this channel" });
  }

  async #fetch(since: number | null, page: Page): Promise<object> {
    const handlers = this.#handlers;
    const fetched = await this.#run<unknown>(() =>
      handlers.since === "ms"
        ? handlers.fetch(this.#ctx, since ?? undefined, page)
        : handlers.fetch(this.#ctx, since === null ? undefined : new Date(since).toISOString(), page),
    );
    const { rows, deleted, next, full } = (Array.isArray(fetched) ? { rows: fetched } : (fetched ?? {})) as Partial<
      Fetched<unknown>
    >;
    if (!Array.isArray(rows)) throw unfit(`${this.#what} must return an array, or an object with the array rows`);
    rows.forEach((row) => this.#checked(row));
    if (deleted !== undefined && !(Array.isArray(deleted) && deleted.every((key) => typeof key === "string"))) {
      throw unfit(`${this.#what} must return the keys of deleted rows as texts`);
    }
    if (next != null && (typeof next !== "string" || next === "")) {
      throw unfit(`${this.#what} must return a text as next, or null on the last page`);
    }
    return { rows, ...(deleted && { deleted }), next: next ?? null, ...(full !== undefined && { full }) };
  }

  /** The row as it is, or null; undefined where the app does not say. */
  async #read(key: string): Promise<Row | null | undefined> {
    if (this.#handlers.read === undefined) return undefined;
    const row: unknown = await this.#run(() => this.#handlers.read?.(this.#ctx, key));
    return row == null ? null : this.#checked(row, key);
  }

  async #write(question: Mutation): Promise<object> {
    const { operation: action, key } = question;
    if (this.#handlers[action] === undefined) throw this.#readOnly();
    const data = await this.#validated(action, question.data);
    const old = await this.#read(key);
    // Before anything is written: a handler may change the row that it has handed out.
    const before = old ? await this.#scope(action, old) : undefined;
    this.#progress.mayBeDone = true;
    const outcome = await this.#run<unknown>(() => this.#done(action, key, data));
    const isRepeat = outcome instanceof Repeated;
    const row = this.#rowOf(isRepeat ? outcome.row : outcome, question, data, isRepeat);
    // As in 1.4, the scope of a deleted row that the app cannot say has its key to go by.
    const deleted = () => (old === undefined ? this.#scope(action, { id: key }) : before);
    const to = action === "delete" ? await deleted() : row && (await this.#scope(action, row));
    return {
      row,
      ...(to !== undefined && (row !== null || action === "delete") && { to }),
      // Where it cannot be told who saw the row, the sync Worker's log may know.
      ...(before != null && { before }),
      ...(isRepeat && { repeated: true }),
    };
  }

  async #validated(action: Action, data: Row | null): Promise<Row | null> {
    const validator = action === "delete" ? undefined : this.#handlers.validate?.[action];
    if (validator === undefined) return data;
    try {
      return (await validator.parse(data)) as Row;
    } catch (error) {
      throw new Answered(invalidity(error, this.#place()));
    }
  }

  #done(action: Action, key: string, data: Row | null): unknown {
    switch (action) {
      case "create":
        return this.#handlers.create?.(this.#ctx, data);
      case "update":
        return this.#handlers.update?.(this.#ctx, key, data ?? {});
      case "delete":
        return this.#handlers.delete?.(this.#ctx, key);
    }
  }

  #rowOf(outcome: unknown, { operation, key }: Mutation, data: Row | null, isRepeat: boolean): Row | null {
    if (operation === "delete" || (isRepeat && outcome === null)) return null;
    if (outcome != null) return this.#checked(outcome, key);
    if (operation === "create") return this.#checked(data, key);
    throw new Answered({ code: "not_found", message: "no such row" });
  }

  /** A row that is one, with the key that it must have. */
  #checked(row: unknown, key?: string): Row {
    const id = isObject(row) ? row["id"] : undefined;
    if (typeof id === "string" && id !== "" && (key === undefined || id === key)) return row as Row;
    throw unfit(`${this.#what} must return whole rows: objects with their key, a text, as id`);
  }

  /** Who may see a row: nobody where that cannot be told. The write stands, so this must not throw. */
  async #scope(action: Action, row: Row): Promise<To | undefined> {
    if (this.#handlers.scope === undefined) return undefined;
    try {
      return audienceOf(await this.#handlers.scope(this.#ctx, action, row));
    } catch (error) {
      console.error(`scope of ${this.#what} failed, nobody is told: ${textOf(error)}`);
      return null;
    }
  }
}

function audienceOf(scope: Scope): To {
  if (scope === "all") return "all";
  const [names, prefix] = Array.isArray(scope) ? [scope, "user:"] : [(scope as { topics?: unknown }).topics, ""];
  const isName = (name: unknown) => typeof name === "string" && name !== "";
  if (!Array.isArray(names) || !names.every(isName)) {
    throw new Error('it must return "all", ids of users, or { topics }; for deletes it may need the handler read');
  }
  const topics = [...new Set(names.map((name) => `${prefix}${name}`))];
  if (topics.length > AUDIENCE_TOPICS) {
    throw new Error(`it returned ${topics.length} names, of ${AUDIENCE_TOPICS}: grant users a topic, and return that`);
  }
  return topics.length === 0 ? null : topics;
}
