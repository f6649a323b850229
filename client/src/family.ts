// Several tabs of one identity: the leader has the connection, the others hear and ask through it.
import { deferred, type Deferred } from "./deferred.ts";
import type { Effect, Input, Outcome, Status } from "./effects.ts";
import type { Engine } from "./engine.ts";
import { errorOf } from "./reading.ts";
import type { Intent } from "./outbox.ts";
import type { Write } from "./storage.ts";
import type { Joined, Tabs } from "./tabs.ts";
import type { Member, Presence, Signal, WireError } from "./wire.ts";

/** A channel that a tab wants, perhaps by a token that the app makes. */
interface Wanted {
  readonly channel: string;
  readonly needsToken: boolean;
}

/** What tabs of one identity tell each other. */
export type TabMessage =
  | { readonly kind: "commit"; readonly writes: readonly Write[]; readonly outcomes: readonly Outcome[] }
  /** A tab is here, and what it wants. `leader` asks all others for it. */
  | { readonly kind: "joined"; readonly channels: readonly Wanted[] }
  | { readonly kind: "leader" }
  | { readonly kind: "status"; readonly status: Status; readonly error?: WireError | undefined; readonly live: readonly string[] }
  | { readonly kind: "refused"; readonly channel: string; readonly error: WireError }
  | { readonly kind: "reset"; readonly channel: string; readonly reason: string }
  | { readonly kind: "catchUp" }
  | { readonly kind: "askToken"; readonly channel: string }
  | { readonly kind: "channelToken"; readonly channel: string; readonly token?: string | undefined }
  | { readonly kind: "presence"; readonly channel: string; readonly want: Presence | null }
  | { readonly kind: "send"; readonly channel: string; readonly event: string; readonly data: unknown }
  | { readonly kind: "members"; readonly channel: string; readonly members: readonly Member[]; readonly total: number }
  | { readonly kind: "signal"; readonly channel: string; readonly signal: Signal }
  | { readonly kind: "signedOut" };

/** What it needs of the client. */
export interface Relative {
  readonly engine: Engine;
  handle(input: Input): void;
  perform(effect: Effect): void;
  /** The outbox as it is kept, once all is that was written here. */
  outbox(): Promise<readonly Intent[] | undefined>;
  flush(): Promise<void>;
}

const plain = ({ code, message }: { readonly code: string; readonly message: string }): WireError => ({ code, message });

export class Family {
  readonly #tabs: Tabs;
  readonly #self: Relative;
  #joined: Joined | undefined;
  readonly #catching = new Set<Deferred<void>>();
  /** Channels that other tabs want. */
  readonly #foreign = new Set<string>();

  constructor(tabs: Tabs, self: Relative) {
    this.#tabs = tabs;
    this.#self = self;
  }

  join(name: string): void {
    const joined: Joined = this.#tabs.join(name, {
      follow: () => void (this.#joined === joined && this.#turn("follower")),
      lead: () => void (this.#joined === joined && this.#turn("leader")),
      take: (message) => void (this.#joined === joined && this.#take(message)),
    });
    this.#joined = joined;
  }

  /** Leaves, when all is kept that was written here: whoever leads next reads it. */
  part(): void {
    const joined = this.#joined;
    this.#joined = undefined;
    void this.#self.flush().then(() => joined?.part());
  }

  /** Leads or follows from now on, from what is kept. */
  async #turn(type: "leader" | "follower"): Promise<void> {
    const { engine, outbox, handle } = this.#self;
    const joined = this.#joined;
    const known = new Set(engine.outbox.all.map(({ id }) => id));
    const kept = await outbox();
    if (this.#joined !== joined || (type === "follower" && engine.role === "leader")) return;
    handle({ type, kept: kept && { outbox: kept, known } });
    if (type === "leader") this.post({ kind: "leader" });
    else this.#tellWanted();
  }

  post(message: TabMessage): void {
    this.#joined?.post(message);
  }

  /** Told of every input before it is handled. Whether another tab takes it. */
  takes(input: Input): boolean {
    const { engine } = this.#self;
    if (input.type === "signedOut") this.post({ kind: "signedOut" });
    if (input.type === "leave" && this.#foreign.has(input.channel)) return true;
    if (engine.role !== "follower") return false;
    switch (input.type) {
      case "channel":
        this.post({ kind: "joined", channels: [input] });
        return false;
      case "catchUp":
        this.#catching.add(input.caught);
        this.post({ kind: "catchUp" });
        return true;
      case "presence": {
        const room = engine.subscription(input.channel)?.room;
        if (room !== undefined) room.want = input.want;
        this.post({ kind: "presence", channel: input.channel, want: input.want });
        return true;
      }
      case "signal":
        this.post({ kind: "send", channel: input.channel, event: input.event, data: input.data });
        return true;
      case "channelToken":
        this.post({ kind: "channelToken", channel: input.channel, token: input.token });
        return true;
      default:
        return false;
    }
  }

  /** Told of every effect: what the leader sees the others see. */
  heeds(effect: Effect): void {
    if (this.#self.engine.role !== "leader") return;
    switch (effect.type) {
      case "members":
        return this.#tellMembers(effect.channel);
      case "signal":
        return this.post({ kind: "signal", channel: effect.channel, signal: effect.signal });
      case "refused":
        return this.post({ kind: "refused", channel: effect.channel, error: plain(effect.error) });
      case "reset":
        return this.post({ kind: "reset", channel: effect.channel, reason: effect.reason });
      case "channelToken":
        return this.post({ kind: "askToken", channel: effect.channel });
      case "status":
      case "ready":
        return void this.#tellStatus();
    }
  }

  /** How the leader stands, behind the rows that it stands on. */
  async #tellStatus(): Promise<void> {
    await this.#self.flush();
    const { status, error, subscriptions, role } = this.#self.engine;
    if (role !== "leader") return;
    const live = subscriptions.filter(({ isLive }) => isLive).map(({ channel }) => channel);
    this.post({ kind: "status", status, error: error && plain(error), live });
  }

  #tellMembers(channel: string): void {
    const room = this.#self.engine.subscription(channel)?.room;
    if (room !== undefined) this.post({ kind: "members", channel, ...room.all });
  }

  #tellWanted(): void {
    const { subscriptions, outbox } = this.#self.engine;
    // What was written while this tab was by itself.
    this.post({ kind: "commit", writes: outbox.all.map((intent) => ({ type: "intent", intent })), outcomes: [] });
    this.post({ kind: "joined", channels: subscriptions.map(({ channel, needsToken }) => ({ channel, needsToken })) });
    for (const { channel, room } of subscriptions) {
      if (room.want !== null) this.post({ kind: "presence", channel, want: room.want });
    }
  }

  #take(message: TabMessage): void {
    const { engine, handle, perform } = this.#self;
    const isLeader = engine.role === "leader";
    switch (message.kind) {
      case "commit":
        return handle({ type: "adopt", writes: message.writes, outcomes: message.outcomes });
      case "signedOut":
        return handle({ type: "signedOut" });
      case "joined":
        if (!isLeader) return;
        for (const { channel, needsToken } of message.channels) {
          this.#foreign.add(channel);
          handle({ type: "channel", channel, needsToken });
          this.#tellMembers(channel);
        }
        return void this.#tellStatus();
      case "leader":
        // What the one before has written last was perhaps not told any more.
        return isLeader ? undefined : void this.#turn("follower");
      case "catchUp":
        if (isLeader) handle({ type: "catchUp", caught: deferred() });
        return;
      case "askToken":
        if (!isLeader) perform({ type: "channelToken", channel: message.channel });
        return;
      case "channelToken":
        if (isLeader && message.token !== undefined) handle({ ...message, type: "channelToken" });
        return;
      case "presence":
        if (isLeader) handle({ ...message, type: "presence" });
        return;
      case "send":
        if (isLeader) handle({ ...message, type: "signal" });
        return;
      case "status": {
        const { status, error, live } = message;
        if (isLeader) return;
        handle({ type: "status", status, error: error && errorOf(error), live });
        if (status !== "synced") return;
        for (const { resolve } of this.#catching) resolve();
        return this.#catching.clear();
      }
      case "refused": {
        const sub = engine.subscription(message.channel);
        if (sub === undefined || isLeader) return;
        sub.refused = errorOf(message.error);
        return perform({ type: "refused", channel: message.channel, error: sub.refused });
      }
      case "reset":
        return perform({ type: "reset", channel: message.channel, reason: message.reason });
      case "members": {
        const { channel, members, total } = message;
        engine.subscription(channel)?.room.take({ type: "presence", channel, members, total });
        return perform({ type: "members", channel });
      }
      case "signal":
        return perform({ type: "signal", channel: message.channel, signal: message.signal });
    }
  }
}
