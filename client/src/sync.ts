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
import { Passport, type Token, type TokenSource } from "./passport.ts";
import { platform } from "./platform.ts";
import { errorOf } from "./reading.ts";
import type { AnySchema, ChannelOf, RowOf, Schema } from "./server/schema.ts";
import type { Family } from "./family.ts";
import type { Connection } from "./transport.ts";
import { webSocket } from "./websocket.ts";

const CLOSED = "the client was closed";

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
  readonly #engine: Engine;
  readonly #keeper: Keeper;
  readonly #passport: Passport;
  readonly #transports;
  readonly #scope: string;
  readonly #family: Family | undefined;
  readonly #channels = new Map<string, Channel<object>>();
  readonly #timers = new Map<string, () => void>();
  readonly #deferred = new Map<string, Ends>();
  readonly #catching = new Map<number, Deferred<void>>();
  readonly #statuses = new Emitter<Status>();
  readonly #errors = new Emitter<TidewireError>();
  readonly #resets = new Emitter<{ readonly channel: string; readonly reason: string }>();
  readonly #inputs: Input[] = [];
  readonly #stopWaking: () => void;
  #isHandling = false;
  #isClosed = false;
  #socket: number | undefined;
  #connection: Connection | undefined;
  #counter = 0;
  #lastId = 0;

  constructor(options: SyncOptions = {}) {
    const { storage, space = "global", url } = options;
    this.#options = options;
    this.#platform = options.platform ?? platform();
    this.#transports = options.transports ?? [...(this.#platform.WebSocket ? [webSocket] : []), ...fallbacks];
    this.#scope = `tidewire ${typeof url === "function" ? "" : urlOf(url).href} ${space}`;
    this.#keeper = storage?.keeper(options.schemaVersion ?? 0, (error) => this.fail(error)) ?? nothingKept;
    this.#passport = new Passport(options.token, this.#keeper, this.#scope);
    const { onConflict, onError, onReset } = options;
    if (onError !== undefined) this.#errors.on(onError);
    if (onReset !== undefined) this.#resets.on(({ channel, reason }) => onReset(channel, reason));
    const kin = options.tabs === false ? undefined : storage?.family;
    const config: Config = {
      link: {
        autoReconnect: options.autoReconnect ?? true,
        reconnectInterval: options.reconnectInterval ?? 1_000,
        maxReconnectInterval: options.maxReconnectInterval ?? 60_000,
        transports: this.#transports.length,
      },
      client: CLIENT,
      schema: options.schemaVersion,
      device: options.device,
      batchSize: options.batchSize,
      resolve: onConflict && ((conflict) => guarded(() => onConflict(conflict.channel, conflict.key, conflict.fields, conflict))),
      random: () => this.#platform.random(),
    };
    this.#engine = new Engine(config, kin?.following);
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
    return this.#engine.status;
  }

  /** Why the status is `error`. */
  get error(): TidewireError | undefined {
    return this.#engine.error;
  }

  /** Who this is: null is anonymous, undefined not known, or nobody. */
  get identity(): string | null | undefined {
    return this.#engine.identity;
  }

  /** The connection's public name, as others see it in presence and signals. */
  get session(): string {
    return this.#engine.session;
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
    const id = ++this.#counter;
    const caught = deferred<void>();
    this.#catching.set(id, caught);
    this.handle({ type: "catchUp", id });
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
    if (this.#isClosed) return;
    this.disconnect();
    this.#isClosed = true;
    this.#stopWaking();
    for (const cancel of this.#timers.values()) cancel();
    const waiting = [...this.#deferred.values()].flatMap(({ local, confirmed }) => [local, confirmed]);
    for (const { reject } of [...waiting, ...this.#catching.values()]) reject(new TidewireError("closed", CLOSED));
    await this.#keeper.close();
  }

  // What channels and tabs ask of it.

  get engine(): Engine {
    return this.#engine;
  }

  /** An id that sorts behind all others, by time where the clock does not run back. */
  newId(): string {
    const last = Number.parseInt(this.#engine.lastId || "0", 36);
    this.#lastId = Math.max(this.#lastId + 1, last + 1, Math.floor(this.#platform.now()) * 100);
    const random = () => this.#platform.random().toString(36).slice(2, 12);
    return `${this.#lastId.toString(36).padStart(10, "0")}-${random()}${random()}`;
  }

  write(intent: Intent): { local: Promise<void>; confirmed: Promise<unknown> } {
    // Whoever does not wait for them learns of failures by `rejected` and `onError`.
    const local = deferred<void>();
    const confirmed = deferred<unknown>();
    this.#deferred.set(intent.id, { local, confirmed });
    if (this.#isClosed) this.#settle({ id: intent.id, error: { code: "closed", message: CLOSED } });
    else this.handle({ type: "write", intent });
    return { local: local.promise, confirmed: confirmed.promise };
  }

  forget(channel: string): void {
    this.#channels.delete(channel);
    this.handle({ type: "leave", channel });
  }

  readonly handle = (input: Input): void => {
    if (this.#isClosed || this.#family?.takes(input)) return;
    this.#inputs.push(input);
    if (this.#isHandling) return;
    this.#isHandling = true;
    try {
      for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
        for (const effect of this.#engine.handle(next, this.#platform.now())) this.perform(effect);
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
      case "ping":
        return this.#connection?.send('{"type":"ping"}');
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
        this.#catching.get(effect.id)?.resolve();
        return void this.#catching.delete(effect.id);
      case "settled":
        return this.#settle(effect.outcome);
      case "error":
        return this.fail(effect.error);
      case "channelToken":
        return void this.#channelToken(effect.channel);
      case "reset":
        return this.#resets.emit(effect);
    }
    this.#channels.get(effect.channel)?.take(effect);
  };

  #database(identity: string | null): string {
    return `${this.#scope} ${identity === null ? "" : `=${identity}`}`;
  }

  fail(error: TidewireError): void {
    this.#errors.emit(error);
  }

  /** Finds out who this is; `show` gets a token for it. Nothing where that is news: all begins anew then. */
  async #whose(show: () => Promise<Token>): Promise<{ readonly token: string | undefined } | undefined> {
    const token = await show();
    if (token === null) {
      const last = await this.#passport.last();
      this.handle({ type: "signedOut", identity: last?.identity });
      return undefined;
    }
    const identity = await this.#passport.whose(token);
    if (identity === this.identity) return { token };
    this.handle({ type: "identified", identity });
    return undefined;
  }

  async #identify(): Promise<void> {
    const { identity } = this;
    try {
      const same = await this.#whose(() => this.#passport.look());
      if (same !== undefined && identity !== undefined) this.handle({ type: "identified", identity });
    } catch (error) {
      this.#noToken(error);
      // Offline, most likely: who was here last is here still.
      const last = await this.#passport.last();
      if (last !== undefined) this.handle({ type: "identified", identity: last.identity });
      else this.#timers.set("identify", this.#platform.after(TOKEN_MS, () => void this.#identify()));
    }
  }

  #noToken(cause: unknown): void {
    this.fail(new TidewireError("no_answer", `no token or URL: ${textOf(cause)}`, { cause, retryable: true }));
  }

  async #renew(): Promise<void> {
    try {
      const same = await this.#whose(() => this.#passport.show());
      if (same !== undefined) this.handle({ type: "token", token: same.token });
    } catch (error) {
      this.#noToken(error);
    }
  }

  async #channelToken(channel: string): Promise<void> {
    const source = this.#channels.get(channel)?.token;
    if (source === undefined) return;
    const token = await Promise.resolve()
      .then(() => (typeof source === "function" ? source() : source))
      .catch((error: unknown) => this.#noToken(error));
    this.handle({ type: "channelToken", channel, token: token ?? undefined });
  }

  async #open(socket: number, transport: number): Promise<void> {
    this.#socket = socket;
    const isCurrent = () => this.#socket === socket && !this.#isClosed;
    try {
      const same = await this.#whose(() => this.#passport.show());
      if (same === undefined || !isCurrent()) return;
      const { url } = this.#options;
      const where = { url: urlOf(typeof url === "function" ? await url() : url), space: this.#options.space ?? "global", ...same };
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
      const failure = new TidewireError("storage", "this device could not keep it", { cause: error });
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
