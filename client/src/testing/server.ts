// A server in memory with the rules of the real one, for the tests of apps: it can be made to misbehave.
import type { SyncOptions } from "../options.ts";
import type { Connection, Listener, Net, Transport, Where } from "../transport.ts";
import type { Action, Fields, Mutate, Row, WireError } from "../wire.ts";
import { Log, Refusal, type Happened, type Rule } from "./log.ts";
import { Session } from "./session.ts";
import { Wire, type Faults } from "./wire.ts";

export interface TestServerOptions {
  /** The rules of channels, as in `SYNC_CHANNELS`: exact names, and `prefix*`. */
  readonly channels?: Readonly<Record<string, Rule>>;
  /** The lowest schema that is welcome. */
  readonly schemaMin?: number;
}

/** Refuses a write, or lets it pass. */
export type Judge = (mutation: Mutate, identity: string | null) => WireError | undefined;

/** A token that this server believes: it says who somebody is, and nothing proves it. */
export function testToken(identity: string, claims: { readonly exp?: number; readonly topics?: readonly string[] } = {}): string {
  const encode = (part: object) =>
    btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(part))))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replaceAll("=", "");
  return `${encode({ alg: "none" })}.${encode({ sub: identity, ...claims })}.`;
}

interface Claims {
  readonly sub: string;
  readonly exp?: number;
}

function claimsOf(token: string | undefined): Claims | undefined {
  if (token === undefined) return undefined;
  const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (char) => char.charCodeAt(0)))) as Claims;
}

export class TestServer {
  readonly log = new Log();
  readonly sessions = new Set<Session>();
  /** How the network is, for who connects from now on. */
  readonly faults: Faults = {};
  readonly #options: TestServerOptions;
  /** What was executed, by owner and id. */
  readonly #outcomes = new Map<string, { readonly text: string; readonly key: string; readonly cursor: string }>();
  readonly #wires = new Set<Wire>();
  readonly #revoked = new Set<string>();
  #judge: Judge = () => undefined;
  #isOffline = false;
  #names = 0;

  constructor(options: TestServerOptions = {}) {
    this.#options = options;
  }

  /** How clients reach it: `createSync({ transports: [server.transport] })`. */
  get transport(): Transport {
    return { name: "test", isOrdered: true, open: (where, listener, net) => this.#open(where, listener, net, true) };
  }

  /** The same as it is over HTTP: changes and answers to writes overtake each other. */
  get httpTransport(): Transport {
    return { name: "test http", isOrdered: false, open: (where, listener, net) => this.#open(where, listener, net, false) };
  }

  /** The options of a client of this server; without an identity an anonymous one. */
  client(identity?: string): Pick<SyncOptions, "url" | "token" | "transports" | "reconnectInterval" | "maxReconnectInterval"> {
    const token = identity === undefined ? {} : { token: testToken(identity) };
    return { url: "http://test.invalid", ...token, transports: [this.transport], reconnectInterval: 20, maxReconnectInterval: 20 };
  }

  /** Cuts all connections, and lets none through. */
  goOffline(): void {
    this.#isOffline = true;
    for (const wire of [...this.#wires]) wire.cut({ code: 1006, status: 0 });
  }

  goOnline(): void {
    this.#isOffline = false;
  }

  /** How long each frame takes, in milliseconds. */
  delay(ms: number): void {
    this.faults.delay = () => ms;
  }

  /** Closes all connections, by default as a restart does. */
  restart(code = 4000): void {
    for (const wire of [...this.#wires]) wire.cut({ code });
  }

  /** As after a loss of the log: no cursor counts any more. */
  newEpoch(): void {
    this.log.renew();
    this.restart();
  }

  /** Refuses writes, until `accept()`. */
  reject(judge: Judge | WireError): void {
    this.#judge = typeof judge === "function" ? judge : () => judge;
  }

  accept(): void {
    this.#judge = () => undefined;
  }

  /** Makes everybody fetch a channel anew. */
  reset(channel: string, reason = "reset"): void {
    this.log.reset(channel);
    for (const session of this.sessions) if (session.subscribed.has(channel)) session.say({ type: "channel-reset", channel, reason });
    this.#flush();
  }

  /** Tells a channel's readers that something has changed outside. */
  change(channel: string): void {
    for (const session of this.sessions) if (session.subscribed.has(channel)) session.say({ type: "channel-change", channel });
    this.#flush();
  }

  /** Sends an identity away for good. */
  revoke(identity: string): void {
    this.#revoked.add(identity);
    for (const session of [...this.sessions]) if (session.identity === identity) session.close(4505, "revoked");
  }

  /** Ends the sessions of an identity, as at the end of its token. */
  expire(identity: string): void {
    for (const session of [...this.sessions]) if (session.identity === identity) session.close(4001, "expired");
  }

  publish(channel: string, action: Action, key: string, data: object = {}, at = 0): void {
    this.publishAll(channel, [{ action, key, data }], at);
  }

  /** Several changes at once: one batch. */
  publishAll(channel: string, changes: readonly { action: Action; key: string; data?: object }[], at = 0): void {
    const rule = this.rule(channel) ?? {};
    const all = changes.map(({ action, key, data = {} }) => this.log.publish(rule, channel, action, key, data as Fields, at));
    this.tell(channel, all);
    this.#flush();
  }

  /** The rows as they are. */
  rows<R = Row>(channel: string): R[] {
    return this.log.rows(channel) as R[];
  }

  rule(channel: string): Rule | undefined {
    const rules = this.#options.channels ?? { "*": {} };
    if (Object.hasOwn(rules, channel)) return rules[channel];
    const fitting = Object.keys(rules).filter((name) => name.endsWith("*") && channel.startsWith(name.slice(0, -1)));
    return rules[fitting.sort((a, b) => b.length - a.length)[0] ?? ""];
  }

  /** Sends what has happened to all who may see it, but not to who did it. */
  tell(channel: string, all: readonly Happened[], writer?: Session): void {
    for (const session of this.sessions) {
      if (!session.live.has(channel)) continue;
      const changes = all.flatMap((one) => {
        const action = one.sees(session.identity);
        const { key, data, by, at, seq } = one;
        const isLoss = action === "delete" && data !== null;
        const isEcho = session === writer && session.isOrdered && !isLoss;
        if (action === undefined || isEcho) return [];
        return [{ seq, change: { action, key, data: isLoss ? null : data, by: isLoss ? null : (by ?? null), at: at ?? 0 } }];
      });
      const last = changes.at(-1);
      if (last === undefined) continue;
      const cursor = `${this.log.epoch}.${last.seq}`;
      if (changes.length === 1) session.say({ type: "change", channel, ...last.change, cursor });
      else session.say({ type: "batch", channel, changes: changes.map(({ change }) => change), cursor });
    }
  }

  /** Executes a write once, and answers it. */
  mutate(session: Session, mutation: Mutate, at: number): object {
    const { id, channel, action, key, data = {} } = mutation;
    const owner = session.identity === null ? `session ${session.name}` : `=${session.identity}`;
    const text = JSON.stringify([channel, action, key, data]);
    const done = this.#outcomes.get(`${owner} ${id}`);
    try {
      if (done !== undefined && done.text !== text) {
        throw new Refusal({ code: "conflict", message: "this id was used for another mutation" });
      }
      if (done !== undefined) {
        const row = this.log.row(channel, done.key, session.identity);
        return { type: "ack", id, data: row, cursor: done.cursor, replayed: true };
      }
      const rule = this.may(session, channel, "write");
      const judged = this.#judge(mutation, session.identity);
      if (judged !== undefined) throw new Refusal(judged);
      const happened = this.log.write(rule, channel, action, key, data, session.identity, at);
      const { cursor } = this.log;
      this.#outcomes.set(`${owner} ${id}`, { text, key: happened.key, cursor });
      const row = action === "delete" ? { id: happened.key } : this.log.row(channel, happened.key, session.identity);
      this.tell(channel, [happened], session);
      return { type: "ack", id, data: row, cursor, replayed: false };
    } catch (error) {
      if (error instanceof Refusal) return { type: "reject", id, channel, error: error.error };
      throw error;
    }
  }

  /** The rule of a channel that a session may read or write. */
  may(session: Session, channel: string, what: "read" | "write"): Rule {
    const rule = this.rule(channel);
    if (rule === undefined) throw new Refusal({ code: "unknown_channel", message: "no rule matches this channel" });
    const who = what === "read" ? (rule.read ?? "user") : (rule.write ?? rule.read ?? "user");
    if (who === "none" && what === "write") throw new Refusal({ code: "read_only", message: "clients may not write to this channel" });
    if (who === "user" && session.identity === null) throw new Refusal({ code: "unauthorized", message: "this channel needs a token" });
    if (who === "none") throw new Refusal({ code: "forbidden", message: "not allowed on this channel" });
    return rule;
  }

  #flush(): void {
    for (const session of this.sessions) session.flush();
  }

  #open(where: Where, listener: Listener, net: Net, isOrdered: boolean): Connection {
    const wire = new Wire(listener, net, this.faults);
    this.#wires.add(wire);
    const claims = claimsOf(where.token);
    const isOver = claims?.exp !== undefined && claims.exp * 1000 <= net.now();
    const isRefused = claims !== undefined && (isOver || this.#revoked.has(claims.sub));
    if (this.#isOffline || isRefused) {
      wire.ended = () => this.#wires.delete(wire);
      wire.refuse({ code: 1006, status: this.#isOffline ? 0 : 401 });
      return wire.client;
    }
    const session = new Session(this, {
      name: `session-${++this.#names}`,
      identity: claims?.sub ?? null,
      expiresAt: claims?.exp === undefined ? null : claims.exp * 1000,
      schemaMin: this.#options.schemaMin ?? 0,
      now: () => net.now(),
      isOrdered,
      send: (text) => wire.toClient(text),
      answer: (text) => wire.answer(text),
      close: (code, reason) => wire.cut({ code, reason }),
    });
    wire.opened = () => this.sessions.add(session);
    wire.received = (text) => {
      session.receive(text);
      this.#flush();
    };
    wire.ended = () => {
      this.#wires.delete(wire);
      this.sessions.delete(session);
      session.left();
      this.#flush();
    };
    wire.open();
    return wire.client;
  }

  /** Whom a token of `auth` stands for. */
  identityOf(token: string): { readonly identity: string; readonly expiresAt: number | null } | undefined {
    try {
      const claims = claimsOf(token);
      return claims && { identity: claims.sub, expiresAt: claims.exp === undefined ? null : claims.exp * 1000 };
    } catch {
      return undefined;
    }
  }
}

/** A server in memory, for tests: every channel is open to who is signed in, unless rules say otherwise. */
export function createTestServer(options?: TestServerOptions): TestServer {
  return new TestServer(options);
}
