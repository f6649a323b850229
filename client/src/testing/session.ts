// One connection of the server in memory: what it says, and what it is told.
import { bytesOf, PING, type Mutate, type Subscribe } from "../wire.ts";
import { limits, Malformed, messagesOf, type Said } from "./frame.ts";
import type { Grant, Pass } from "./grants.ts";
import { Refusal, type Topics } from "./log.ts";
import type { TestServer } from "./server.ts";

/** How many channels a hello may subscribe to. */
const SUBSCRIBE = 1_000;

/** More rows that other topics move reset the channel. */
const MOVED_ROWS = 500;

interface Given {
  readonly name: string;
  readonly grant: Grant;
  readonly schemaMin: number;
  now(): number;
  /** Whether answers to writes go the way of all others. Otherwise the writer hears of its own changes, too. */
  readonly isOrdered: boolean;
  send(text: string): void;
  answer(text: string): void;
  close(code: number, reason: string): void;
}

export class Session {
  readonly name: string;
  readonly identity: string | null;
  topics: Topics;
  /** Channels that were answered, to the last page or not. */
  readonly subscribed = new Set<string>();
  readonly live = new Set<string>();
  /** How it is present, by channel; undefined is watching. */
  readonly presence = new Map<string, unknown>();
  /** What tokens of channels have opened. */
  readonly #passes = new Map<string, Pass>();
  readonly #server: TestServer;
  readonly #given: Given;
  #expiresAt: number | null;
  #out: object[] = [];
  #isGreeted = false;
  /** It has said something before hello: that choice is over. */
  #isLegacy = false;
  #isClosed = false;

  constructor(server: TestServer, given: Given) {
    this.#server = server;
    this.#given = given;
    this.name = given.name;
    this.identity = given.grant.identity;
    this.topics = given.grant.topics;
    this.#expiresAt = given.grant.expiresAt;
  }

  get #view(): string {
    return `view-${[this.identity ?? "", ...this.topics.slice(1).sort()].join(" ")}`;
  }

  get isOrdered(): boolean {
    return this.#given.isOrdered;
  }

  say(message: object): void {
    this.#out.push(message);
  }

  /** What was said in one turn is one frame; a welcome has one of its own. */
  flush(): void {
    const [first, ...rest] = this.#out;
    this.#out = [];
    if (first === undefined) return;
    const isAlone = (first as { type: string }).type === "welcome";
    const frames = isAlone ? [[first], rest] : [[first, ...rest]];
    for (const frame of frames) {
      if (frame.length > 0) this.#given.send(JSON.stringify(frame.length === 1 ? frame[0] : frame));
    }
  }

  close(code: number, reason = ""): void {
    this.flush();
    this.#isClosed = true;
    this.#given.close(code, reason);
  }

  receive(text: string): void {
    if (text === PING) return this.#given.send("pong");
    if (this.isOver) return this.expire();
    this.lapse();
    if (bytesOf(text) > limits.frameBytes) {
      this.#complain("frame_too_large", "the frame is too large");
      return this.close(4502, "frame too large");
    }
    try {
      for (const message of messagesOf(text, this.#isGreeted)) if (!this.#isClosed) this.#take(message);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.#complain("malformed", error.message);
    }
  }

  get isOver(): boolean {
    return this.#expiresAt !== null && this.#expiresAt <= this.#given.now();
  }

  expire(): void {
    this.close(4001, "expired");
  }

  /** What is open to it by a token of the channel: for as long as it is live there. */
  passOf(channel: string): Pass | undefined {
    return this.live.has(channel) ? this.#passes.get(channel) : undefined;
  }

  /** What a token of a channel has opened ends with it. */
  lapse(): void {
    const now = this.#given.now();
    for (const [channel, { expiresAt }] of [...this.#passes]) {
      if (expiresAt === null || expiresAt > now) continue;
      this.#passes.delete(channel);
      if (!this.subscribed.has(channel) || this.#server.mayRead(this, channel)) continue;
      this.say({ type: "channel-change", channel });
      this.#leave(channel);
    }
  }

  /** A request that can be named is refused by its id. */
  #refuse({ message, said }: Malformed): void {
    const { type, id, channel } = said ?? {};
    const isRequest = type === "subscribe" || type === "mutate";
    if (!isRequest || typeof id !== "string" || id === "" || bytesOf(id) > limits.idBytes) return this.#complain("malformed", message);
    this.say({ type: "reject", id, channel, error: { code: "malformed", message, retryable: false } });
  }

  #take(message: Said | Malformed): void {
    if (message instanceof Malformed) return this.#refuse(message);
    if (message.type !== "hello" && message.type !== "ping") this.#isLegacy ||= !this.#isGreeted;
    switch (message.type) {
      case "ping":
        this.flush();
        return this.#given.send("pong");
      case "hello":
        return this.#hello(message);
      case "subscribe":
        return this.#subscribe(message as unknown as Subscribe);
      case "unsubscribe":
        return this.#leave(String(message.channel));
      case "mutate": {
        const { type: _, ...mutation } = message;
        const place = this.#out.length;
        const answer = this.#server.mutate(this, mutation as unknown as Mutate, this.#given.now());
        if (!this.isOrdered) return this.#given.answer(JSON.stringify(answer));
        // The answer comes before what follows from it.
        return void this.#out.splice(place, 0, answer);
      }
      case "auth":
        return this.#auth(String(message["token"]));
      case "presence":
        return this.#presence(message);
      case "signal":
        return this.#signal(message);
      default:
        return this.#complain("malformed", "this message is not known");
    }
  }

  #complain(code: string, message: string, more: object = {}): void {
    this.say({ type: "error", error: { code, message, ...more, retryable: false } });
  }

  #hello({ v, schema, subscribe = [] }: Said): void {
    if ((subscribe as unknown[]).length > SUBSCRIBE) return this.#complain("malformed", "a hello subscribes to at most 1000 channels");
    if (v !== 1) {
      this.#complain("unsupported_version", "this server speaks protocol version 1");
      return this.close(4503, "version");
    }
    if (this.#isGreeted || this.#isLegacy) return this.#complain("malformed", "hello comes once, before anything else");
    this.#isGreeted = true;
    if (Number(schema ?? 0) < this.#given.schemaMin) {
      this.#complain("schema_outdated", "this app is too old");
      return this.close(4504, "schema");
    }
    const { name, identity } = this;
    this.say({ type: "welcome", v: 1, session: name, epoch: this.#server.log.epoch, identity, expiresAt: this.#expiresAt, limits });
    for (const asked of subscribe as Subscribe[]) this.#subscribe(asked);
  }

  #subscribe(asked: Subscribe & { readonly meta?: boolean }): void {
    const { id, channel } = asked;
    try {
      const { read, write } = this.#server.rule(channel) ?? {};
      const isAsked = asked.token !== undefined && [read, write].includes("token");
      const pass = isAsked ? this.#server.grants.pass(asked.token, channel, this.identity, this.#given.now()) : this.passOf(channel);
      const rule = this.#server.may(this, channel, "read", pass);
      const { meta, ...page } = this.#server.log.page(rule, channel, this.topics, this.#view, asked);
      const names = new Set(this.subscribed).add(channel);
      const bytes = [...names].reduce((sum, name) => sum + bytesOf(name), 0);
      if (bytes > limits.subscriptionsBytes) {
        throw new Refusal({ code: "too_many_subscriptions", message: "the connection has too many subscriptions" });
      }
      this.subscribed.add(channel);
      if (pass !== undefined) this.#passes.set(channel, pass);
      if (page.more) this.live.delete(channel);
      else this.live.add(channel);
      const { mode, more, ...rest } = page;
      const isDelta = mode === "delta";
      this.say({ type: "snapshot", id, channel, mode, isDelta, ...rest, view: this.#view, more, ...(asked.meta === true && { meta }) });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.say({ type: "reject", id, channel, error: error.error });
    }
  }

  #auth(token: string): void {
    const who = this.#server.grants.of(token);
    const status = this.#server.grants.status(who, this.#given.now());
    if (who === undefined || status === 401) {
      return this.#complain("unauthorized", "the token is not valid");
    }
    if (who.identity !== this.identity) {
      this.#complain("forbidden", "the token is of another identity");
      return this.close(4501, "identity");
    }
    this.#expiresAt = who.expiresAt;
    this.grant(who.topics);
  }

  /** Other topics take effect, and then the new view. */
  grant(topics: Topics): void {
    this.#see(topics);
    this.say({ type: "authed", identity: this.identity, expiresAt: this.#expiresAt, view: this.#view });
  }

  /** Other topics: rows go and come, and what may no longer be read is left. */
  #see(topics: Topics): void {
    const before = this.topics;
    this.topics = topics;
    for (const channel of [...this.live]) {
      const mayRead = this.#server.mayRead(this, channel);
      const changes = this.#server.log.moved(channel, before, mayRead ? topics : []);
      const isReset = !mayRead || changes.length > MOVED_ROWS;
      const cursor = this.#server.log.cursorAt(this.#server.rule(channel) ?? {}, channel);
      if (changes.length <= MOVED_ROWS) for (const change of changes) this.say({ type: "change", channel, ...change, cursor });
      if (isReset) this.say({ type: "channel-reset", channel, reason: "topics" });
      if (!mayRead) this.#leave(channel);
    }
  }

  #leave(channel: string): void {
    this.#move(channel, undefined);
    this.subscribed.delete(channel);
    this.#passes.delete(channel);
    this.live.delete(channel);
  }

  #others(channel: string): Session[] {
    return [...this.#server.sessions].filter((other) => other !== this && other.subscribed.has(channel));
  }

  #presence(message: Said): void {
    const channel = String(message.channel);
    if (!Object.hasOwn(message, "state") && message["watch"] !== true) {
      return this.#complain("malformed", "presence needs a state, or watch: true");
    }
    if (this.#server.rule(channel)?.presence !== true) return this.#complain("forbidden", "the channel's rule does not open this");
    if (!this.subscribed.has(channel)) return this.#complain("invalid", "subscribe to it first", { field: "channel" });
    const { state = null } = message;
    const others = [...this.presence].filter(([name, shown]) => name !== channel && shown !== undefined);
    const size = (value: unknown) => bytesOf(JSON.stringify(value));
    const all = others.reduce((sum, [, shown]) => sum + size(shown), size(state));
    if (!this.presence.has(channel) && this.presence.size >= limits.presences && (state !== null || message["watch"] === true)) {
      return this.#complain("invalid", "present in too many channels", { field: "channel" });
    }
    if (state !== null && (size(state) > limits.stateBytes || all > limits.presenceBytes)) {
      return this.#complain("invalid", "the state is too large", { field: "state" });
    }
    const isHere = this.presence.has(channel);
    const isWatching = isHere && this.presence.get(channel) === undefined;
    if (message["watch"] === true) this.#move(channel, undefined, true);
    else this.#move(channel, state === null ? undefined : state);
    if ((isHere && !isWatching) || (state === null && message["watch"] !== true)) return;
    const members = [...this.#server.sessions].flatMap(({ name, identity, presence }) => {
      const shown = presence.get(channel);
      return shown === undefined ? [] : [{ session: name, identity, state: shown }];
    });
    this.say({ type: "presence", channel, members, total: members.length });
  }

  /** Joins, updates, leaves or watches, and tells the others. */
  #move(channel: string, state: unknown, watch = false): void {
    const before = this.presence.get(channel);
    if (state !== undefined || watch) this.presence.set(channel, state);
    else this.presence.delete(channel);
    if (before === undefined && state === undefined) return;
    const { name: session, identity } = this;
    const kind = before === undefined ? "joined" : state === undefined ? "left" : "updated";
    const member = { session, identity, ...(state !== undefined && { state }) };
    for (const other of this.#others(channel)) {
      if (other.presence.has(channel)) other.say({ type: "presence", channel, [kind]: [member] });
    }
  }

  #signal({ channel: to, event, data = null }: Said): void {
    const channel = String(to);
    if (this.#server.rule(channel)?.signals !== true) return this.#complain("forbidden", "the channel's rule does not open this");
    if (!this.subscribed.has(channel)) return this.#complain("invalid", "subscribe to it first", { field: "channel" });
    if (bytesOf(JSON.stringify(data)) > limits.signalBytes) return this.#complain("invalid", "the data is too large", { field: "data" });
    const { name: session, identity } = this;
    for (const other of this.#others(channel)) other.say({ type: "signal", channel, event, session, identity, data });
  }

  /** The connection is gone. */
  left(): void {
    for (const channel of [...this.presence.keys()]) this.#move(channel, undefined);
  }
}
