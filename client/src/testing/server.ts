// A server in memory with the rules of the real one, for the tests of apps: it can be made to misbehave.
import type { SyncOptions } from "../options.ts";
import type { Connection, Listener, Net, Transport, Where } from "../transport.ts";
import { bytesOf, type Action, type Fields, type Mutate, type Row, type WireError } from "../wire.ts";
import { Log, Refusal, type Happened, type Rule, type Topics } from "./log.ts";
import { Session } from "./session.ts";
import { Wire, type Faults } from "./wire.ts";

/** How many topics one may hold, the one of the identity among them. */
const TOPICS = 64;
const TOPICS_BYTES = 4_096;
const IDENTITY_BYTES = 256;
const TOKEN_BYTES = 8_192;

/** What the server sends stays below it. */
const FRAME_BYTES = 900_000;

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
  readonly topics?: readonly string[];
}

/** Whom a token stands for. */
export interface Grant {
  readonly identity: string | null;
  readonly topics: Topics;
  readonly expiresAt: number | null;
}

const isOver = ({ expiresAt }: Grant, now: number) => expiresAt !== null && expiresAt <= now;

/** Topics that no token grants. */
const isReserved = (topic: string) => topic === "all" || topic.startsWith("user:");

/** What became of a publish, as the real server answers. */
export interface Published {
  readonly cursor: string;
  readonly seq: number;
  readonly receivers: number;
}

function grantOf(claims: Claims | undefined): Grant {
  if (claims === undefined) return { identity: null, topics: [], expiresAt: null };
  const { sub, exp, topics = [] } = claims;
  return { identity: sub, topics: [`user:${sub}`, ...topics], expiresAt: exp === undefined ? null : exp * 1000 };
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
  reset(channel: string, reason = "reset"): Published {
    this.log.reset(channel);
    return this.#published(this.#notify(channel, { type: "channel-reset", channel, reason }));
  }

  /** Tells a channel's readers that something has changed outside. */
  change(channel: string): { readonly receivers: number } {
    const { receivers } = this.#published(this.#notify(channel, { type: "channel-change", channel }));
    return { receivers };
  }

  #notify(channel: string, notice: object): number {
    const readers = [...this.sessions].filter(({ subscribed }) => subscribed.has(channel));
    for (const reader of readers) reader.say(notice);
    return readers.length;
  }

  #published(receivers: number): Published {
    this.#flush();
    return { cursor: this.log.cursor, seq: this.log.seq, receivers };
  }

  /** Sends an identity away for good. */
  revoke(identity: string): void {
    this.#revoked.add(identity);
    for (const session of [...this.sessions]) if (session.identity === identity) session.close(4505, "revoked");
  }

  /** Changes the topics of an identity's sessions, as if they were renewed: of how many. */
  topics(identity: string, { add = [], remove = [] }: { readonly add?: Topics; readonly remove?: Topics }): { readonly sessions: number } {
    const all = [...this.sessions].filter((session) => session.identity === identity);
    for (const session of all) session.grant([...new Set([...session.topics, ...add])].filter((topic) => !remove.includes(topic)));
    this.#flush();
    return { sessions: all.length };
  }

  /** Ends the sessions of an identity, as at the end of its token. */
  expire(identity: string): void {
    for (const session of [...this.sessions]) if (session.identity === identity) session.close(4001, "expired");
  }

  publish(channel: string, action: Action, key: string, data: object = {}, at = 0): Published {
    return this.publishAll(channel, [{ action, key, data }], at);
  }

  /** Several changes at once: one batch. `to` says who may see a row: topics, `user:<identity>` among them. */
  publishAll(
    channel: string,
    changes: readonly { readonly action: Action; readonly key: string; readonly data?: object; readonly to?: "all" | Topics }[],
    at = 0,
  ): Published {
    const rule = this.rule(channel) ?? {};
    const all = changes.map(({ action, key, data = {}, to }) => this.log.publish(rule, channel, action, key, data as Fields, to, at));
    return this.#published(this.tell(channel, all));
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

  /** Sends what has happened to all who may see it, but not to who did it: to how many. */
  tell(channel: string, all: readonly Happened[], writer?: Session): number {
    let receivers = 0;
    for (const session of [...this.sessions].filter(({ isOver }) => isOver)) session.expire();
    for (const session of this.sessions) {
      if (!session.live.has(channel)) continue;
      const changes = all.flatMap((one) => {
        const action = one.sees(session.topics);
        const { key, data, by, at, seq } = one;
        const isLoss = action === "delete" && data !== null;
        const isEcho = session === writer && session.isOrdered && !isLoss;
        if (action === undefined || isEcho) return [];
        return [{ seq, change: { action, key, data: isLoss ? null : data, by: isLoss ? null : (by ?? null), at: at ?? 0 } }];
      });
      const last = changes.at(-1);
      if (last === undefined) continue;
      receivers += 1;
      const cursor = `${this.log.epoch}.${last.seq}`;
      if (changes.length === 1) session.say({ type: "change", channel, ...last.change, cursor });
      else for (const part of parts(changes.map(({ change }) => change))) session.say({ type: "batch", channel, ...part, ...(!part.more && { cursor }) });
    }
    return receivers;
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
        const row = this.mayRead(session, channel) ? this.log.row(channel, done.key, session.topics) : null;
        return { type: "ack", id, data: row, cursor: done.cursor, replayed: true };
      }
      const rule = this.may(session, channel, "write");
      const judged = this.#judge(mutation, session.identity);
      if (judged !== undefined) throw new Refusal(judged);
      const { identity, topics } = session;
      const writer = { identity, topics, reads: this.mayRead(session, channel) };
      const happened = this.log.write(rule, channel, action, key, data, writer, at);
      const { cursor } = this.log;
      this.#outcomes.set(`${owner} ${id}`, { text, key: happened.key, cursor });
      const row = action === "delete" ? { id: happened.key } : this.log.row(channel, happened.key, topics);
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
    if (who === "topic" && session.identity === null) throw new Refusal({ code: "unauthorized", message: "this channel needs a token" });
    if (who === "none" || (who === "topic" && !session.topics.includes(channel))) throw new Refusal({ code: "forbidden", message: "not allowed on this channel" });
    return rule;
  }

  mayRead(session: Session, channel: string): boolean {
    try {
      this.may(session, channel, "read");
      return true;
    } catch {
      return false;
    }
  }

  #flush(): void {
    for (const session of this.sessions) session.flush();
  }

  #open(where: Where, listener: Listener, net: Net, isOrdered: boolean): Connection {
    const wire = new Wire(listener, net, this.faults);
    this.#wires.add(wire);
    const grant = this.grantOf(where.token);
    const status = this.#isOffline ? 0 : this.#judgeGrant(grant, net.now());
    if (grant === undefined || status !== 101) {
      wire.ended = () => this.#wires.delete(wire);
      wire.refuse({ code: 1006, status });
      return wire.client;
    }
    const session = new Session(this, {
      name: `session-${++this.#names}`,
      grant,
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

  /** What an upgrade is answered. */
  #judgeGrant(grant: Grant | undefined, now: number): number {
    if (grant === undefined || isOver(grant, now) || this.#revoked.has(grant.identity ?? "")) return 401;
    const { identity, topics } = grant;
    const isNobody = identity !== null && (identity === "" || bytesOf(identity) > IDENTITY_BYTES);
    const isTooMuch = topics.length > TOPICS || bytesOf(topics.join("")) > TOPICS_BYTES;
    return isNobody || isTooMuch || topics.slice(1).some(isReserved) ? 403 : 101;
  }

  /** Whom a token stands for, if it is one. */
  grantOf(token: string | undefined): Grant | undefined {
    try {
      if (token !== undefined && bytesOf(token) > TOKEN_BYTES) return undefined;
      return grantOf(claimsOf(token));
    } catch {
      return undefined;
    }
  }
}

/** A batch in as many frames as it needs: all but the last say that more follow. */
function parts<C>(changes: readonly C[]): { readonly changes: readonly C[]; readonly more?: true }[] {
  const frames: C[][] = [[]];
  let room = FRAME_BYTES;
  for (const change of changes) {
    const size = bytesOf(JSON.stringify(change));
    if (size > room) {
      frames.push([]);
      room = FRAME_BYTES;
    }
    room -= size;
    frames.at(-1)?.push(change);
  }
  return frames.map((frame, i) => ({ changes: frame, ...(i < frames.length - 1 && { more: true }) }));
}

/** A server in memory, for tests: every channel is open to who is signed in, unless rules say otherwise. */
export function createTestServer(options?: TestServerOptions): TestServer {
  return new TestServer(options);
}
