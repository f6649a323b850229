// What an app has of one channel: its rows, its writes, who is there.
import type { Cipher } from "./cipher.ts";
import type { Effect, Input, RowChange } from "./effects.ts";
import type { Deferred } from "./deferred.ts";
import { Emitter, type Unsubscribe } from "./emitter.ts";
import type { Engine } from "./engine.ts";
import { TidewireError, invalid } from "./error.ts";
import { copy } from "./json.ts";
import type { Intent } from "./outbox.ts";
import { Present } from "./present.ts";
import { errorOf } from "./reading.ts";
import type { Fields, Row, Signal } from "./wire.ts";

export interface ChannelOptions<R extends object> {
  /** A token of the channel that the app's backend makes, where its rule asks for one. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** What hides rows from the server: see `encrypted`. */
  readonly cipher?: ((host: Host, channel: string) => Cipher<R>) | undefined;
}

/** One row that is otherwise than before; without `row` it is gone. */
export interface Change<R> {
  readonly key: string;
  readonly row: R | undefined;
  readonly previous: R | undefined;
}

/** What a listener is told, once a batch. */
export interface Batch<R> {
  readonly rows: readonly R[];
  readonly changes: readonly Change<R>[];
}

/** A write: kept on this device, and confirmed by the server. Nobody has to wait for either. */
export interface Written<R> {
  readonly id: string;
  readonly key: string;
  readonly local: Promise<void>;
  /** The row as the server has it; null where it is gone, or out of sight. */
  readonly confirmed: Promise<R | null>;
}

/** A write without an answer, or with a refusal. */
export interface PendingWrite {
  readonly id: string;
  readonly action: Intent["action"];
  readonly key: string;
  readonly data?: Fields | undefined;
}

export interface RejectedWrite extends PendingWrite {
  readonly error: TidewireError;
}

/** A row for `create`: without an id it gets one. */
export type NewRow<R> = Omit<R, "id"> & { readonly id?: string };

/** What comes of a write. */
export interface Ends {
  readonly local: Promise<void>;
  readonly confirmed: Promise<unknown>;
}

/** What a channel needs of its client. */
export interface Host {
  readonly engine: Engine;
  readonly session: string;
  newId(): string;
  handle(input: Input): void;
  write(intent: Intent): Ends;
  wait<T>(): Deferred<T>;
  forget(channel: object, name: string): void;
  fail(error: TidewireError): void;
}

export class Channel<R extends object> {
  readonly name: string;
  /** Live and caught up, for the first time. Rejected where the channel is refused. */
  readonly ready: Promise<void>;
  /** What is kept on this device can be seen. */
  readonly restored: Promise<void>;
  readonly presence: Present;
  readonly token: ChannelOptions<R>["token"];
  readonly #host: Host;
  readonly #cipher: Cipher<R> | undefined;
  readonly #batches = new Emitter<Batch<R>>();
  readonly #outbox = new Emitter<void>();
  readonly #signals = new Emitter<Signal>();
  readonly #ready: Deferred<void>;
  readonly #restored: Deferred<void>;
  #rows: readonly R[] | undefined;
  #pending: readonly PendingWrite[] | undefined;
  #rejected: readonly RejectedWrite[] | undefined;

  constructor(name: string, host: Host, options: ChannelOptions<R>) {
    this.name = name;
    this.#host = host;
    this.token = options.token;
    this.#cipher = options.cipher?.(host, name);
    this.presence = new Present(name, host);
    this.#ready = host.wait();
    this.#restored = host.wait();
    this.ready = this.#ready.promise;
    this.restored = this.#restored.promise;
  }

  /** All rows, in the order in which they came: the same array until something changes. */
  get rows(): readonly R[] {
    return (this.#rows ??= [...this.#seen.values()]);
  }

  get(key: string): R | undefined {
    return this.#seen.get(key);
  }

  get #subscription() {
    return this.#host.engine.subscription(this.name);
  }

  get #seen(): ReadonlyMap<string, R> {
    const rows = this.#cipher?.rows ?? this.#subscription?.seen ?? new Map<string, never>();
    return rows as ReadonlyMap<string, R>;
  }

  /** Whether it is live: what others write comes by itself. */
  get isLive(): boolean {
    return this.#subscription?.isLive ?? false;
  }

  /** Whether it was ever caught up: what is here is a whole, of then or now. */
  get isKept(): boolean {
    return this.#subscription?.replica.place.cursor !== undefined;
  }

  /** Why the channel is refused. */
  get error(): TidewireError | undefined {
    return this.#subscription?.refused;
  }

  /** Listens to the rows: told once for all that changes at once. */
  subscribe(listener: (batch: Batch<R>) => void): Unsubscribe {
    return this.#batches.on(listener);
  }

  create(row: NewRow<R>): Written<R> {
    const key = (row as { readonly id?: string }).id ?? this.#host.newId();
    return this.#write("create", key, { ...row, id: key });
  }

  /** Changes these fields, and leaves the others as they are. */
  update(key: string, fields: Partial<Omit<R, "id">>): Written<R> {
    return this.#write("update", key, fields);
  }

  delete(key: string): Written<R> {
    return this.#write("delete", key);
  }

  /** Writes that the server has not confirmed, in order. */
  get pending(): readonly PendingWrite[] {
    return (this.#pending ??= this.#host.engine
      .intents(this.name)
      .filter(({ acked, rejected }) => acked === undefined && rejected === undefined));
  }

  /** Writes that the server has refused, and that were rolled back: kept until they are retried or dismissed. */
  get rejected(): readonly RejectedWrite[] {
    return (this.#rejected ??= this.#host.engine
      .intents(this.name)
      .flatMap(({ id, action, key, data, rejected }) => (rejected === undefined ? [] : { id, action, key, data, error: errorOf(rejected) })));
  }

  /** Listens to `pending` and `rejected`. */
  onOutbox(listener: () => void): Unsubscribe {
    return this.#outbox.on(listener);
  }

  /** Writes once more what was refused. */
  retry(id: string): Written<R> | undefined {
    const refused = this.rejected.find((one) => one.id === id);
    if (refused === undefined) return undefined;
    this.dismiss(id);
    const { action, key, data } = refused;
    const again = this.#host.newId();
    return this.#written(again, key, this.#host.write({ id: again, channel: this.name, action, key, data }));
  }

  /** Forgets what was refused; or gives a write up that was not sent yet. */
  dismiss(id: string): void {
    this.#host.handle({ type: "dismiss", id });
  }

  /** Tells the others who are here now; nobody keeps it. */
  signal(event: string, data: unknown = null): void {
    this.#host.handle({ type: "signal", channel: this.name, event, data });
  }

  onSignal(listener: (signal: Signal) => void): Unsubscribe {
    return this.#signals.on(listener);
  }

  /** Unsubscribes. What is kept of it stays, and writes go on. */
  close(): void {
    this.#host.forget(this, this.name);
    for (const { reject } of [this.#ready, this.#restored]) reject(new TidewireError("closed", "the channel was closed"));
  }

  /** What the engine says of it. */
  take(effect: Effect): void {
    switch (effect.type) {
      case "rows":
        if (this.#cipher === undefined) return this.#tell(effect.changes as readonly RowChange[] as readonly Change<R>[]);
        return this.#cipher.see(effect.changes, (changes) => this.#tell(changes));
      case "restored":
        return this.#then(this.#restored.resolve);
      case "ready":
        return this.#then(this.#ready.resolve);
      case "refused":
        return this.#ready.reject(effect.error);
      case "outbox":
        this.#pending = this.#rejected = undefined;
        return this.#outbox.emit();
      case "members":
        return this.presence.tell();
      case "signal":
        return this.#signals.emit(effect.signal);
    }
  }

  /** Once what has come before can be seen. */
  #then(run: () => void): void {
    if (this.#cipher === undefined) run();
    else void this.#cipher.settled.then(run);
  }

  #tell(changes: readonly Change<R>[]): void {
    if (changes.length === 0) return;
    this.#rows = undefined;
    const channel = this;
    // Who listens to changes alone need not wait for a list of all rows.
    this.#batches.emit({
      changes,
      get rows() {
        return channel.rows;
      },
    });
  }

  #write(action: Intent["action"], key: string, given?: object): Written<R> {
    if (typeof key !== "string" || key === "") throw invalid("id", "must not be empty");
    const data = given === undefined ? undefined : copy(given as Fields);
    const id = this.#host.newId();
    const make = (fields: Fields | undefined) => this.#host.write({ id, channel: this.name, action, key, data: fields });
    const now = () => this.#subscription?.seen.get(key);
    const written = this.#cipher === undefined ? make(data) : this.#cipher.write(action, data, now, make);
    return this.#written(id, key, written);
  }

  #written(id: string, key: string, written: Ends | Promise<Ends>): Written<R> {
    const ends = Promise.resolve(written);
    const local = ends.then((end) => end.local);
    const confirmed = ends.then((end) => end.confirmed).then((row) => (this.#cipher?.opened(row as Row | null) ?? row ?? null) as R | null);
    // Nobody has to wait for them.
    for (const end of [local, confirmed]) end.catch(() => {});
    return { id, key, local, confirmed };
  }
}
