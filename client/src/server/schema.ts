// Types of an app's rows, and of what is published of them. Nothing of this is there at run time.

/** What a publish does to a row. */
export type Action = "create" | "update" | "delete";

/** Who may see a row: everyone who may read its channel, or who holds one of 1–64 topics. */
export type Audience = "all" | readonly string[];

/** An app's rows by channel: `{ todos: Todo }` stands for `todos` and for every `todos:suffix`. */
export type Schema<S> = { [K in keyof S]: object };

/** Where nothing is declared, every channel holds objects. */
export type AnySchema = Record<string, object>;

type Name<S> = keyof S & string;

/** The channels of a schema. */
export type ChannelOf<S> = Name<S> | `${Name<S>}:${string}`;

/** The row of a channel: declared by its whole name, or by what comes before a `:`. */
export type RowOf<S, C extends string> = C extends keyof S
  ? S[C]
  : { [K in Name<S>]: C extends `${K}:${string}` ? S[K] : never }[Name<S>];

/** What is published of a row: all of it, the fields to merge into it, or nothing. */
export type DataOf<Row, A extends Action> = A extends "create"
  ? Row
  : A extends "update"
    ? Partial<Row> & object
    : undefined;

interface Addressed {
  /** The row's key; it may be left out where the data has an `id`. */
  readonly key?: string | undefined;
  /** Who may see the row from now on. Without it the channel's rule, or the row as it is, decides. */
  readonly to?: Audience | undefined;
}

/** One change of a list. */
export type Change<Row> =
  | (Addressed & { readonly action: "create"; readonly data: DataOf<Row, "create"> })
  | (Addressed & { readonly action: "update"; readonly data: DataOf<Row, "update"> })
  | (Addressed & { readonly action: "delete"; readonly key: string; readonly data?: undefined });

/** One change of a list that names its channel. */
export type ChannelChange<S extends Schema<S> = AnySchema> = {
  [K in Name<S>]: Change<S[K]> & { readonly channel: K | `${K}:${string}` };
}[Name<S>];

/** What happened to a publish. */
export interface Published {
  /** The cursor of the last change. */
  readonly cursor: string;
  /** The seq of the last change. */
  readonly seq: number;
  /** Sockets that the changes were sent to. */
  readonly receivers: number;
}
