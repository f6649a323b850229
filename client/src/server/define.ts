// Channels whose rows are the app's own: handlers, with the shape of those of @sveltebase/sync 1.4.
import type { Action, Audience } from "./schema.ts";

type Awaitable<T> = T | Promise<T>;

/** What a client does. */
export interface Operation {
  readonly kind: "subscribe" | Action | "presence" | "signal";
  /** The row's key, where it is about one. */
  readonly key: string | null;
  /** The row of a create, the fields of an update, the state or the signal; as they came. */
  readonly data: unknown;
}

/** What holds the bindings, as SvelteKit and a Worker give it. */
export interface SyncPlatform<Env> {
  readonly env: Env;
  readonly [name: string]: unknown;
}

/** The request by which the client connected. */
export interface Handshake extends Request {
  readonly cookies: ReadonlyMap<string, string>;
  /** The parameters of its URL, without the token. */
  readonly query: URLSearchParams;
}

/** A client with an identity. */
export interface SyncAuth<User> {
  /** What `syncHooks` was told to make of the session; see its option `user`. */
  readonly user: User;
  readonly identity: string;
}

/**
 * What every handler is told. The types of user and bindings are whatever a handler says they are:
 * nothing here could know them.
 */
export interface SyncContext<User = any, Env = any> {
  readonly platform: SyncPlatform<Env>;
  readonly request: Handshake;
  /** Null for a client without an identity. */
  readonly auth: SyncAuth<User> | null;
  readonly identity: string | null;
  /** What the client may see, beside what everyone may: `user:<identity>` and what its token grants. */
  readonly topics: readonly string[];
  /** The payload of the verified token; null without one. */
  readonly claims: Readonly<Record<string, unknown>> | null;
  /** What the app's own authenticator keeps with the session. */
  readonly context: unknown;
  readonly space: string;
  /** The channel as the client named it: `todos:x` where the handlers are those of `todos`. */
  readonly channel: string;
  /** The public name of the connection. */
  readonly session: string;
  /**
   * Of a mutation, else null: the same for a repeat, and unique for an identity. Without one it is
   * unique for a session.
   */
  readonly mutationId: string | null;
  readonly operation: Operation;
}

/** A page that is asked for. */
export interface Page {
  /** Null for the first, else the `next` of the one before. */
  readonly token: string | null;
  /** How many rows and deleted keys a page should have at most. */
  readonly limit: number;
}

/** A page that is answered. */
export interface Fetched<Row> {
  readonly rows: readonly Row[];
  /** Keys of rows that are gone since. */
  readonly deleted?: readonly string[] | undefined;
  /** What brings the next page: any text. Null or absent on the last. */
  readonly next?: string | null | undefined;
  /** Whether this begins everything there is, whatever was asked. By default it does if `since` is undefined. */
  readonly full?: boolean | undefined;
}

/**
 * Who may see a row: everyone who may read the channel, the users of these ids, or who holds one of
 * these topics. An empty list is nobody.
 */
export type Scope = "all" | readonly string[] | { readonly topics: readonly string[] };

/** What checks data and may change them: a schema of zod, or whatever else has a `parse` that throws. */
export interface Validator {
  parse(data: unknown): unknown;
}

/** An outcome of a mutation that was executed before. */
export class Repeated<Row> {
  readonly row: Row | null;
  constructor(row: Row | null) {
    this.row = row;
  }
}

/** Says that a mutation of this `ctx.mutationId` was executed before; the row is that of now. */
export function repeated<Row>(row: Row | null): Repeated<Row> {
  return new Repeated(row);
}

type Written<Row> = Awaitable<Row | Repeated<Row> | null | undefined>;

type Fetch<Row, User, Since> = (
  ctx: SyncContext<User>,
  since: Since | undefined,
  page: Page,
) => Awaitable<readonly Row[] | Fetched<Row>>;

interface Handlers<Row, User, Channel extends string> {
  /** The channel, which stands for every `channel:suffix` too; or what finds it, as `user:${identity}`. */
  readonly channel: Channel | ((ctx: SyncContext<User>) => Channel);
  /** Throws to refuse. It comes before all that the sync Worker was set to ask. */
  readonly authorize?: ((ctx: SyncContext<User>) => Awaitable<void>) | undefined;
  /** Stores a row, over one of the same key if there is one, and returns it whole. */
  readonly create?: ((ctx: SyncContext<User>, data: Row) => Written<Row>) | undefined;
  /** Merges fields into a row and returns it whole; nothing where there is no such row. */
  readonly update?: ((ctx: SyncContext<User>, key: string, changes: Partial<Row>) => Written<Row>) | undefined;
  readonly delete?: ((ctx: SyncContext<User>, key: string) => Awaitable<void | Repeated<Row>>) | undefined;
  /**
   * Who may see a row, after a write. Without it the channel's rule says so. If it throws, nobody is
   * told of the write. A delete has the row of before, if there is a `read`, else `{ id }`.
   */
  readonly scope?: ((ctx: SyncContext<User>, action: Action, data: Row) => Awaitable<Scope>) | undefined;
  readonly validate?:
    | { readonly create?: Validator | undefined; readonly update?: Validator | undefined }
    | undefined;
  /**
   * The row of a key, whoever may see it; asked for before a write. With it, who loses sight of a row is
   * told so.
   */
  readonly read?: ((ctx: SyncContext<User>, key: string) => Awaitable<Row | null | undefined>) | undefined;
}

/**
 * The handlers of a channel. `since` is the time after which changes are asked for, undefined for
 * everything: an ISO date, or with `since: "ms"` milliseconds. A returned array is all of it.
 */
export type SyncHandlerConfig<
  Row = any,
  User = any,
  Channel extends string = string,
> = Handlers<Row, User, Channel> &
  (
    | { readonly since?: "iso" | undefined; readonly fetch: Fetch<Row, User, string> }
    | { readonly since: "ms"; readonly fetch: Fetch<Row, User, number> }
  );

/** The handlers of a channel, for `syncHooks`. */
export interface SyncHandler<
  Row = any,
  User = any,
  Channel extends string = string,
> {
  readonly config: SyncHandlerConfig<Row, User, Channel>;
}

/**
 * Defines a channel whose rows are the app's own. Only `fetch` must be there; what is not there is
 * refused with `read_only`.
 *
 * Where the type of the row is given, give those of user and channel too (`defineSync<Todo, User,
 * "todos">`), or a publisher made of it cannot know the channel. It can be left out: it is what
 * `fetch` returns.
 */
export function defineSync<
  Row extends object = any,
  User = any,
  const Channel extends string = string,
>(config: SyncHandlerConfig<Row, User, Channel>): SyncHandler<Known<Row>, User, Channel> {
  return { config: config as SyncHandlerConfig<Known<Row>, User, Channel> };
}

/** Of a `fetch` that returns no rows yet, `[]`, nothing can be learned. */
type Known<Row> = [Row] extends [never] ? any : Row;

/** The schema of a list of handlers, for publishers: `createPublisher<SchemaOf<typeof handlers>>`. */
export type SchemaOf<Handlers extends readonly SyncHandler[]> = {
  [H in Handlers[number] as ChannelIn<H>]: RowIn<H>;
};

type ChannelIn<H> = H extends SyncHandler<any, any, infer Channel> ? Channel : never;
type RowIn<H> = H extends SyncHandler<infer Row, any, any> ? Row : never;

/** An audience on the wire. */
export type To = Audience | null;
