// A server in memory with the rules of the real one, for the tests of apps: it can be made to misbehave.
import type { SyncOptions } from "../options.ts";
import type { Connection, Listener, Net, Transport, Where } from "../transport.ts";
import { bytesOf, type Action, type Mutate, type Row, type WireError } from "../wire.ts";
import { toldTo } from "./events.ts";
import { Grants, testToken } from "./grants.ts";
import { Log, Refusal, type Happened, type Rule, type Topics } from "./log.ts";
import { publishInto, type Outcome, type Publish, type PublishEvent } from "./publishing.ts";
import { Session } from "./session.ts";
import { Wire, type Faults } from "./wire.ts";

/** What a space may be called. */
const SPACE = /^(?!(?:changes|mutate|session)$)[a-z0-9_-]{1,64}$/;

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

/** Topics that an identity is given, and that are taken from it. */
export interface MovedTopics {
  readonly add?: Topics;
  readonly remove?: Topics;
}

/** What became of a publish, as the real server answers. */
export interface Published {
  readonly cursor: string;
  readonly seq: number;
  readonly receivers: number;
}

/** What all spaces have in common. */
class Network {
  readonly spaces = new Map<string, TestServer>();
  readonly wires = new Set<Wire>();
  readonly faults: Faults = {};
  isOffline = false;
}

export class TestServer {
  readonly log = new Log();
  readonly sessions = new Set<Session>();
  readonly grants: Grants;
  readonly #options: TestServerOptions;
  readonly #name: string;
  readonly #network: Network;
  /** What was executed, by owner and id. */
  readonly #outcomes = new Map<string, { readonly text: string; readonly key: string; readonly cursor: string }>();
  readonly #wires = new Set<Wire>();
  readonly #published = new Map<string, unknown>();
  #judge: Judge = () => undefined;
  #names = 0;

  constructor(options: TestServerOptions = {}, name = "global", network = new Network()) {
    this.#options = options;
    this.#name = name;
    this.#network = network;
    this.grants = new Grants(name);
    network.spaces.set(name, this);
  }

  /** How the network is, for who connects from now on. */
  get faults(): Faults {
    return this.#network.faults;
  }

  /** The server as another space is: with its own rows, connections and operators. */
  space(name: string): TestServer {
    return this.#network.spaces.get(name) ?? new TestServer(this.#options, name, this.#network);
  }

  /** How clients reach it: `createSync({ transports: [server.transport] })`. */
  get transport(): Transport {
    return { name: "test", isOrdered: true, open: (where, listener, net) => this.space(where.space).#open(where, listener, net, true) };
  }

  /** The same as it is over HTTP: changes and answers to writes overtake each other. */
  get httpTransport(): Transport {
    return { name: "test http", isOrdered: false, open: (where, listener, net) => this.space(where.space).#open(where, listener, net, false) };
  }

  /** The options of a client of this server; without an identity an anonymous one. */
  client(identity?: string): Pick<SyncOptions, "url" | "space" | "token" | "transports" | "reconnectInterval" | "maxReconnectInterval"> {
    const token = identity === undefined ? {} : { token: testToken(identity) };
    const where = { url: "http://test.invalid", space: this.#name, transports: [this.transport] };
    return { ...where, ...token, reconnectInterval: 20, maxReconnectInterval: 20 };
  }

  /** Cuts all connections, and lets none through. */
  goOffline(): void {
    this.#network.isOffline = true;
    for (const wire of [...this.#network.wires]) wire.cut({ code: 1006, status: 0 });
  }

  goOnline(): void {
    this.#network.isOffline = false;
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

  /** Makes everybody fetch a channel anew. `to` limits who is told at once; the others find out when they come back. */
  reset(channel: string, reason = "reset", to: "all" | Topics = "all"): Published {
    this.log.reset(channel);
    return this.#sent(this.#notify(channel, { type: "channel-reset", channel, reason }, to));
  }

  /** Tells a channel's readers that something has changed outside. */
  change(channel: string): { readonly receivers: number } {
    const { receivers } = this.#sent(this.#notify(channel, { type: "channel-change", channel }));
    return { receivers };
  }

  #notify(channel: string, notice: object, to: "all" | Topics = "all"): Set<Session> {
    const isMeant = ({ topics }: Session) => to === "all" || topics.some((topic) => to.includes(topic));
    const readers = [...this.sessions].filter((session) => session.subscribed.has(channel) && isMeant(session));
    for (const reader of readers) reader.say(notice);
    return new Set(readers);
  }

  #sent(receivers: Set<Session>): Published {
    this.#flush();
    return { cursor: this.log.cursor, seq: this.log.seq, receivers: receivers.size };
  }

  /** Sends an identity away: of how many sessions. Its tokens of until then count no more, nor those that do not say. */
  revoke(identity: string, until = Date.now()): number {
    this.grants.refuse(identity, until);
    const all = [...this.sessions].filter((session) => session.identity === identity);
    for (const session of all) session.close(4505, "revoked");
    return all.length;
  }

  /** Changes the topics of an identity's sessions, as if they were renewed: of how many. Older tokens lose them, too. */
  topics(identity: string, { add = [], remove = [] }: MovedTopics, until = Date.now()): { readonly sessions: number } {
    this.grants.take(identity, remove, until);
    this.grants.give(identity, add);
    const all = [...this.sessions].filter((session) => session.identity === identity);
    for (const session of all) session.grant([...new Set([...session.topics, ...add])].filter((topic) => !remove.includes(topic)));
    this.#flush();
    return { sessions: all.length };
  }

  /** Ends the sessions of an identity, as at the end of its token. */
  expire(identity: string): void {
    for (const session of [...this.sessions]) if (session.identity === identity) session.close(4001, "expired");
  }

  publish(channel: string, action: Action, key: string, data: object = {}, at = 0, to?: "all" | Topics): Published {
    return this.#publish([{ channel, action, key, data, ...(to !== undefined && { to }) }], undefined, at);
  }

  /** Several changes of one channel at once: one batch, all or nothing. */
  publishAll(channel: string, changes: readonly Publish[], at = 0): Published {
    return this.#publish(changes.map((change) => ({ ...change, channel })), "changes", at);
  }

  /** The same of several channels. */
  publishEvents(events: readonly PublishEvent[], at = 0): Published {
    return this.#publish(events, "events", at);
  }

  #publish(events: readonly PublishEvent[], list: "changes" | "events" | undefined, at: number): Published {
    const outcome: Outcome = publishInto(this.log, (channel) => this.rule(channel), events, list, at);
    const receivers = [...outcome].flatMap(([channel, all]) => [...this.tell(channel, all)]);
    return this.#sent(new Set(receivers));
  }

  /** Publishes once per key, as with an `Idempotency-Key`: a repeat is told the first result. */
  once<R>(key: string, publish: () => R): R {
    if (!this.#published.has(key)) this.#published.set(key, publish());
    return this.#published.get(key) as R;
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

  /** Sends what has happened to all who may see it, but not to who did it: to whom. */
  tell(channel: string, all: readonly Happened[], writer?: Session): Set<Session> {
    const receivers = new Set<Session>();
    for (const session of [...this.sessions].filter(({ isOver }) => isOver)) session.expire();
    for (const session of this.sessions) {
      session.lapse();
      if (!session.live.has(channel)) continue;
      const changes = all.flatMap((one) => {
        const change = toldTo(session.topics, one);
        const isLoss = change?.action === "delete" && one.data !== null;
        const isEcho = session === writer && session.isOrdered && !isLoss;
        return change === undefined || isEcho ? [] : [{ seq: one.seq, change }];
      });
      const last = changes.at(-1);
      if (last === undefined) continue;
      receivers.add(session);
      const cursor = this.log.cursorAt(this.rule(channel) ?? {}, channel, last.seq);
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
      const cursor = this.log.cursorAt(rule, channel);
      this.#outcomes.set(`${owner} ${id}`, { text, key: happened.key, cursor });
      const row = action === "delete" ? { id: happened.key } : this.log.row(channel, happened.key, topics);
      this.tell(channel, [happened], session);
      return { type: "ack", id, data: row, cursor, replayed: false };
    } catch (error) {
      if (error instanceof Refusal) return { type: "reject", id, channel, error: error.error };
      throw error;
    }
  }

  /** The rule of a channel that a session may read or write, perhaps by a token of the channel. */
  may(session: Session, channel: string, what: "read" | "write", pass = session.passOf(channel)): Rule {
    const rule = this.rule(channel);
    if (rule === undefined) throw new Refusal({ code: "unknown_channel", message: "no rule matches this channel" });
    const who = what === "read" ? (rule.read ?? "user") : (rule.write ?? rule.read ?? "user");
    if (who === "none" && what === "write") throw new Refusal({ code: "read_only", message: "clients may not write to this channel" });
    const opens = {
      anyone: true,
      user: session.identity !== null,
      topic: session.topics.includes(channel),
      token: what === "read" ? pass !== undefined : pass?.write === true && session.live.has(channel),
      none: false,
    };
    if (opens[who]) return rule;
    if (session.identity === null && who !== "none") throw new Refusal({ code: "unauthorized", message: "this channel needs a token" });
    throw new Refusal({ code: "forbidden", message: "not allowed on this channel" });
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
    const all = [this.#wires, this.#network.wires];
    for (const wires of all) wires.add(wire);
    const grant = this.grants.of(where.token);
    const judged = SPACE.test(this.#name) ? this.grants.status(grant, net.now()) : 400;
    const status = this.#network.isOffline ? 0 : judged;
    if (grant === undefined || status !== 101) {
      wire.ended = () => all.forEach((wires) => wires.delete(wire));
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
      for (const wires of all) wires.delete(wire);
      this.sessions.delete(session);
      session.left();
      this.#flush();
    };
    wire.open();
    return wire.client;
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
