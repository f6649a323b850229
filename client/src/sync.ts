// The client: performs what the engine asks for, and brings it what happens.
import { Channel, type ChannelOptions, type Host } from "./channel.ts";
import { deferred, type Deferred } from "./deferred.ts";
import type { Effect, Input, Outcome, Status } from "./effects.ts";
import { Emitter, guarded, type Unsubscribe } from "./emitter.ts";
import { Engine } from "./engine.ts";
import { TidewireError, textOf } from "./error.ts";
import { fallbacks } from "./fallbacks.ts";
import { nothingKept } from "./nothing.ts";
import type { Keeper } from "./storage.ts";
import type { Config } from "./core.ts";
import { urlOf, type SyncOptions } from "./options.ts";
import type { Intent } from "./outbox.ts";
import { Passport, asked, type TokenSource } from "./passport.ts";
import { platform } from "./platform.ts";
import { errorOf } from "./reading.ts";
import type { AnySchema, ChannelOf, RowOf, Schema } from "./server/schema.ts";
import type { Family } from "./family.ts";
import type { Connection } from "./transport.ts";
import { webSocket } from "./websocket.ts";

export const CLIENT = "tidewire-js/0.1.0";

/** How long to wait before a token that could not be had is asked for again. */
const TOKEN_MS = 5_000;

/** When storage has failed, everything is written anew after this. */
const SAVE_MS = 30_000;

interface Events {
  readonly status: Status;
  readonly error: TidewireError;
}

/** The ends of a write. */
interface Ends {
  readonly local: Deferred<void>;
  readonly confirmed: Deferred<unknown>;
}

/** A name that is not declared takes the type of its rows: `channel<Todo>("todos")`. */
type Named<Row> = [Row] extends [never] ? never : string;

/** Everything of an app in one space: one connection, one outbox, its channels. */
export class Sync<S extends Schema<S> = AnySchema> implements Host {
  readonly #options: SyncOptions;
  readonly #platform;
  readonly engine: Engine;
  readonly #keeper: Keeper;
  readonly #passport: Passport;
  readonly #transports;
  readonly #scope: string;
  readonly #family: Family | undefined;
  readonly #channels = new Map<string, Channel<object>>();
  readonly #timers = new Map<string, () => void>();
  readonly #deferred = new Map<string, Ends>();
  readonly #waiting = new Set<{ reject(error: TidewireError): void }>();
  readonly #statuses = new Emitter<Status>();
  readonly #errors = new Emitter<TidewireError>();
  readonly #inputs: Input[] = [];
  readonly #stopWaking: () => void;
  #isHandling = false;
  /** Once it is closed: what everybody who waits is told. */
  #closed: TidewireError | undefined;
  #socket: number | undefined;
  #connection: Connection | undefined;
  #lastId = 0;

  constructor(options: SyncOptions = {}) {
    const { storage, space = "global", url, schemaVersion: schema, device, batchSize, onConflict, onError } = options;
    const { autoReconnect = true, reconnectInterval = 1_000, maxReconnectInterval = 60_000 } = options;
    this.#options = options;
    this.#platform = options.platform ?? platform();
    this.#transports = options.transports ?? [...(this.#platform.WebSocket ? [webSocket] : []), ...fallbacks];
    this.#scope = `tidewire ${typeof url === "function" ? "" : urlOf(url).href} ${space}`;
    this.#keeper = storage?.keeper(schema ?? 0, (error) => this.fail(error)) ?? nothingKept;
    this.#passport = new Passport(options.token, this.#keeper, this.#scope);
    if (onError !== undefined) this.#errors.on(onError);
    const kin = options.tabs === false ? undefined : storage?.family;
    const config: Config = {
      link: {
        autoReconnect,
        reconnectInterval,
        maxReconnectInterval,
        transports: this.#transports.length,
      },
      self: { client: CLIENT, schema, device },
      batchSize,
      resolve: onConflict && ((conflict) => guarded(() => onConflict(conflict.channel, conflict.key, conflict.fields, conflict))),
      random: () => this.#platform.random(),
    };
    this.engine = new Engine(config, kin?.following);
    if (kin !== undefined) {
      const { engine, handle, perform } = this;
      this.#family = kin.family({ engine, handle, perform, outbox: () => this.#keeper.outbox(), flush: () => this.#keeper.flush() });
    }
    this.#stopWaking = this.#platform.onWake(() => this.handle({ type: "wake" }));
    if (options.autoConnect ?? true) this.connect();
    // What is kept is seen all the same.
    else void this.#identify();
  }

  get status(): Status {
    return this.engine.status;
  }

  /** Why the status is `error`. */
  get error(): TidewireError | undefined {
    return this.engine.error;
  }

  /** Who this is: null is anonymous, undefined not known, or nobody. */
  get identity(): string | null | undefined {
    return this.engine.identity;
  }

  /** The connection's public name, as others see it in presence and signals. */
  get session(): string {
    return this.engine.session;
  }

  on<E extends keyof Events>(event: E, listener: (value: Events[E]) => void): Unsubscribe {
    const emitter: unknown = event === "status" ? this.#statuses : this.#errors;
    return (emitter as Emitter<Events[E]>).on(listener);
  }

  /** A channel: the same object for the same name, subscribed to until it is closed. */
  channel<C extends ChannelOf<S>>(name: C, options?: ChannelOptions<RowOf<S, C>>): Channel<RowOf<S, C>>;
  channel<Row extends object = never>(name: Named<Row>, options?: ChannelOptions<Row>): Channel<Row>;
  channel(name: string, options: { readonly token?: unknown } = {}): unknown {
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      channel = new Channel(name, this, options as ChannelOptions<object>);
      this.#channels.set(name, channel);
      this.handle({ type: "channel", channel: name, needsToken: options.token !== undefined });
    }
    return channel;
  }

  connect(): void {
    this.handle({ type: "connect" });
  }

  /** Hangs up until `connect()`. Writes are kept and wait. */
  disconnect(): void {
    this.handle({ type: "disconnect" });
  }

  /** Asks all channels for what is new: done when they have it. */
  catchUp(): Promise<void> {
    const caught = this.wait<void>();
    this.handle({ type: "catchUp", caught });
    return caught.promise;
  }

  /**
   * Another token: renews the session in place, or signs somebody else in. With null nobody is signed
   * in: it disconnects, and what is kept of who was here is deleted, unsent writes too.
   */
  setToken(token: TokenSource): void {
    this.#passport.set(token);
    void this.#identify();
  }

  /** Ends it all. What is kept stays; promises that wait are rejected as `closed`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.disconnect();
    const closed = (this.#closed = new TidewireError("closed", "the client was closed"));
    this.#stopWaking();
    // What asks for one now asks in vain.
    this.#passport.set(null);
    for (const cancel of this.#timers.values()) cancel();
    for (const { reject } of this.#waiting) reject(closed);
    await this.#keeper.close();
  }

  // What channels and tabs ask of it.

  /** An id that sorts behind all others, by time where the clock does not run back. */
  newId(): string {
    const last = Number.parseInt(this.engine.outbox.last || "0", 36);
    this.#lastId = Math.max(this.#lastId + 1, last + 1, Math.floor(this.#platform.now()) * 100);
    return `${this.#lastId.toString(36).padStart(10, "0")}-${this.#platform.random().toString(36).slice(2)}`;
  }

  /** A promise that comes to its end with the client, at the latest. */
  wait<T>(): Deferred<T> {
    const waiting = deferred<T>();
    this.#waiting.add(waiting);
    waiting.promise.finally(() => this.#waiting.delete(waiting)).catch(() => {});
    if (this.#closed) waiting.reject(this.#closed);
    return waiting;
  }

  write(intent: Intent): { local: Promise<void>; confirmed: Promise<unknown> } {
    // Whoever does not wait for them learns of failures by `rejected` and `onError`.
    const local = this.wait<void>();
    const confirmed = this.wait<unknown>();
    this.#deferred.set(intent.id, { local, confirmed });
    this.handle({ type: "write", intent });
    return { local: local.promise, confirmed: confirmed.promise };
  }

  forget(channel: object, name: string): void {
    // Another one of this name may be here by now.
    if (this.#channels.get(name) !== channel) return;
    this.#channels.delete(name);
    this.handle({ type: "leave", channel: name });
  }

  readonly handle = (input: Input): void => {
    if (this.#closed || this.#family?.takes(input)) return;
    this.#inputs.push(input);
    if (this.#isHandling) return;
    this.#isHandling = true;
    try {
      for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
        for (const effect of this.engine.handle(next, this.#platform.now())) this.perform(effect);
      }
    } finally {
      this.#isHandling = false;
    }
  };

  readonly perform = (effect: Effect): void => {
    this.#family?.heeds(effect);
    switch (effect.type) {
      case "open":
        return void this.#open(effect.socket, effect.transport);
      case "send":
        return this.#connection?.send(effect.text);
      case "hangUp":
        this.#connection?.close();
        this.#connection = this.#socket = undefined;
        return;
      case "timer": {
        const { name, ms } = effect;
        this.#timers.get(name)?.();
        this.#timers.set(name, this.#platform.after(ms, () => this.handle({ type: "timer", name })));
        return;
      }
      case "cancel":
        this.#timers.get(effect.name)?.();
        this.#timers.delete(effect.name);
        return;
      case "identify":
        return void this.#identify();
      case "renew":
        return void this.#renew();
      case "remember":
        return this.#passport.learn(effect.identity);
      case "database":
        return void this.#keeper.open(this.#database(effect.identity)).then((outbox) => {
          if (this.identity === effect.identity) this.handle({ type: "database", outbox });
        });
      case "destroy":
        this.#passport.learn(undefined);
        return this.#keeper.destroy(this.#database(effect.identity));
      case "load": {
        const { channel, nth } = effect;
        return void this.#keeper.load(channel).then((kept) => this.handle({ type: "loaded", channel, nth, kept }));
      }
      case "commit":
        return void this.#commit(effect);
      case "join":
        if (this.#family === undefined) return this.handle({ type: "alone" });
        // Tabs of another version of the app have rows of their own.
        return this.#family.join(`${this.#database(this.identity ?? null)} ${this.#options.schemaVersion}`);
      case "part":
        return this.#family?.part();
      case "status":
        return this.#statuses.emit(effect.status);
      case "caughtUp":
        return effect.caught.resolve();
      case "settled":
        return this.#settle(effect.outcome);
      case "error":
        return this.fail(effect.error);
      case "channelToken":
        return void this.#channelToken(effect.channel);
      case "reset":
        return guarded(() => this.#options.onReset?.(effect.channel, effect.reason));
    }
    this.#channels.get(effect.channel)?.take(effect);
  };

  #database(identity: string | null): string {
    return `${this.#scope} ${identity === null ? "" : `=${identity}`}`;
  }

  fail(error: TidewireError): void {
    this.#errors.emit(error);
  }

  /** Finds out who this is, by a token. Nothing where that is news: all begins anew then. */
  async #whose(isLook = false): Promise<{ readonly token: string | undefined } | undefined> {
    const passport = this.#passport;
    const { source } = passport;
    const token = await passport.show();
    const identity = token === null ? (await passport.last())?.identity : await passport.whose(token);
    // Another one was set meanwhile: this is nobody's any more.
    if (source !== passport.source) return this.#whose(isLook);
    passport.take(token, isLook);
    if (token === null) this.handle({ type: "signedOut", identity });
    else if (identity === this.identity) return { token };
    else this.handle({ type: "identified", identity: identity ?? null });
    return undefined;
  }

  async #identify(): Promise<void> {
    const { identity } = this;
    const { source } = this.#passport;
    try {
      if ((await this.#whose(true)) && identity !== undefined) this.handle({ type: "identified", identity });
    } catch (error) {
      const last = await this.#passport.last();
      if (source !== this.#passport.source) return;
      this.#noToken(error);
      // Offline, most likely: who was here last is here still.
      if (last !== undefined) this.handle({ type: "identified", identity: last.identity });
      else this.#timers.set("identify", this.#platform.after(TOKEN_MS, () => void this.#identify()));
    }
  }

  #noToken(cause: unknown): void {
    this.fail(new TidewireError("no_answer", `no token or URL: ${textOf(cause)}`, { cause, retryable: true }));
  }

  async #renew(): Promise<void> {
    try {
      const same = await this.#whose();
      if (same) this.handle({ type: "token", ...same });
    } catch (error) {
      this.#noToken(error);
    }
  }

  async #channelToken(channel: string): Promise<void> {
    const source = this.#channels.get(channel)?.token;
    if (source === undefined) return;
    const token = await asked(source).catch((error: unknown) => this.#noToken(error));
    this.handle({ type: "channelToken", channel, token: token ?? undefined });
  }

  async #open(socket: number, transport: number): Promise<void> {
    this.#socket = socket;
    const isCurrent = () => this.#socket === socket;
    try {
      const same = await this.#whose();
      if (same === undefined || !isCurrent()) return;
      const { url } = this.#options;
      const where = { url: urlOf(await asked(url)), space: this.#options.space ?? "global", ...same };
      const chosen = this.#transports[transport];
      if (!isCurrent() || chosen === undefined) return;
      const { isOrdered } = chosen;
      this.#connection = chosen.open(
        where,
        {
          opened: () => isCurrent() && this.handle({ type: "opened", socket, isOrdered }),
          frame: (text) => isCurrent() && this.handle({ type: "frame", socket, text }),
          closed: (how) => isCurrent() && this.handle({ type: "closed", socket, ...how }),
        },
        this.#platform,
      );
    } catch (error) {
      if (!isCurrent()) return;
      this.#noToken(error);
      this.handle({ type: "closed", socket, code: 1006, status: 0 });
    }
  }

  async #commit({ writes, outcomes }: Effect & { type: "commit" }): Promise<void> {
    const local = writes.flatMap((write) => (write.type === "intent" && this.#deferred.get(write.intent.id)?.local) || []);
    try {
      await this.#keeper.commit(writes);
      for (const { resolve } of local) resolve();
    } catch (error) {
      const failure = new TidewireError("storage", "not kept on this device", { cause: error });
      for (const { reject } of local) reject(failure);
      this.handle({ type: "unsaved", writes });
      this.fail(failure);
      this.perform({ type: "timer", name: "save", ms: SAVE_MS });
    }
    // Other tabs hear of it when it is kept: whoever joins between reads it.
    this.#family?.post({ kind: "commit", writes, outcomes });
  }

  #settle({ id, row, error }: Outcome): void {
    // A revision of a write has a suffix.
    const [name = id] = id.split("~");
    const ends = this.#deferred.get(name);
    this.#deferred.delete(name);
    if (error === undefined) {
      ends?.local.resolve();
      return ends?.confirmed.resolve(row);
    }
    ends?.confirmed.reject(errorOf(error));
    // What was refused may be kept all the same: refused here it never is.
    void this.#keeper.flush().then(() => ends?.local.reject(errorOf(error)));
  }
}

/** Makes a client. Say once what your rows are: `createSync<{ todos: Todo }>({ url })`. */
export function createSync<S extends Schema<S> = AnySchema>(options?: SyncOptions): Sync<S> {
  return new Sync<S>(options);
}
