// One connection of the server in memory: what it says, and what it is told.
import type { Mutate, Subscribe } from "../wire.ts";
import { Refusal } from "./log.ts";
import type { TestServer } from "./server.ts";

interface Given {
  readonly name: string;
  readonly identity: string | null;
  readonly expiresAt: number | null;
  readonly schemaMin: number;
  now(): number;
  /** Whether answers to writes go the way of all others. Otherwise the writer hears of its own changes, too. */
  readonly isOrdered: boolean;
  send(text: string): void;
  answer(text: string): void;
  close(code: number, reason: string): void;
}

interface Said {
  readonly type: string;
  readonly id?: string;
  readonly channel?: string;
  readonly [field: string]: unknown;
}

const limits = { frameBytes: 262_144, frameMessages: 1_000, pageRows: 1_000, messagesPerSecond: 200 };

export class Session {
  readonly name: string;
  readonly identity: string | null;
  /** Channels that were answered, to the last page or not. */
  readonly subscribed = new Set<string>();
  readonly live = new Set<string>();
  /** How it is present, by channel; undefined is watching. */
  readonly presence = new Map<string, unknown>();
  readonly #server: TestServer;
  readonly #given: Given;
  #expiresAt: number | null;
  #out: object[] = [];
  #isGreeted = false;

  constructor(server: TestServer, given: Given) {
    this.#server = server;
    this.#given = given;
    this.name = given.name;
    this.identity = given.identity;
    this.#expiresAt = given.expiresAt;
  }

  get #view(): string {
    return `view-${this.identity ?? ""}`;
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
    this.#given.close(code, reason);
  }

  receive(text: string): void {
    if (text === '{"type":"ping"}') return this.#given.send("pong");
    if (this.#expiresAt !== null && this.#expiresAt <= this.#given.now()) return this.close(4001, "expired");
    const frame = JSON.parse(text) as Said | Said[];
    for (const message of Array.isArray(frame) ? frame : [frame]) this.#take(message);
  }

  #take(message: Said): void {
    switch (message.type) {
      case "hello":
        return this.#hello(message);
      case "subscribe":
        return this.#subscribe(message as unknown as Subscribe);
      case "unsubscribe":
        this.#move(String(message.channel), undefined);
        this.subscribed.delete(String(message.channel));
        return void this.live.delete(String(message.channel));
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

  #hello({ schema, subscribe = [] }: Said): void {
    if (this.#isGreeted) return this.#complain("malformed", "hello comes once, before anything else");
    this.#isGreeted = true;
    if (Number(schema ?? 0) < this.#given.schemaMin) {
      this.#complain("schema_outdated", "this app is too old");
      return this.close(4504, "schema");
    }
    const { name, identity } = this;
    this.say({ type: "welcome", v: 1, session: name, epoch: this.#server.log.epoch, identity, expiresAt: this.#expiresAt, limits });
    for (const asked of subscribe as Subscribe[]) this.#subscribe(asked);
  }

  #subscribe(asked: Subscribe): void {
    const { id, channel } = asked;
    try {
      this.#server.may(this, channel, "read");
      const { mode, data, deleted, cursor, more } = this.#server.log.page(channel, this.identity, this.#view, asked);
      this.subscribed.add(channel);
      if (more) this.live.delete(channel);
      else this.live.add(channel);
      const isDelta = mode === "delta";
      this.say({ type: "snapshot", id, channel, mode, isDelta, data, deleted, cursor, view: this.#view, more });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.say({ type: "reject", id, channel, error: error.error });
    }
  }

  #auth(token: string): void {
    const who = this.#server.identityOf(token);
    if (who === undefined || (who.expiresAt !== null && who.expiresAt <= this.#given.now())) {
      return this.#complain("unauthorized", "the token is not valid");
    }
    if (who.identity !== this.identity) {
      this.#complain("forbidden", "the token is of another identity");
      return this.close(4501, "identity");
    }
    this.#expiresAt = who.expiresAt;
    this.say({ type: "authed", identity: this.identity, expiresAt: who.expiresAt, view: this.#view });
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
    if (typeof event !== "string") return this.#complain("malformed", "event is missing");
    if (this.#server.rule(channel)?.signals !== true) return this.#complain("forbidden", "the channel's rule does not open this");
    if (!this.subscribed.has(channel)) return this.#complain("invalid", "subscribe to it first", { field: "channel" });
    const { name: session, identity } = this;
    for (const other of this.#others(channel)) other.say({ type: "signal", channel, event, session, identity, data });
  }

  /** The connection is gone. */
  left(): void {
    for (const channel of [...this.presence.keys()]) this.#move(channel, undefined);
  }
}
