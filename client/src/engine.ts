// The client as a state machine: inputs in, effects out. No clock, no socket and no storage is here.
import { Core, TOO_LARGE, type Config } from "./core.ts";
import type { Deferred } from "./deferred.ts";
import { Turn, type Effect, type Input, type Status } from "./effects.ts";
import { TidewireError } from "./error.ts";
import type { Phase } from "./link.ts";
import type { Intent, Outbox } from "./outbox.ts";
import { Reading, errorOf } from "./reading.ts";
import type { Subscription } from "./subscription.ts";
import { decode, encode, type ServerMessage } from "./wire.ts";
import { Writing } from "./writing.ts";

/** A session is renewed so long before its end. */
const RENEW_MS = 60_000;
/** But not more often, whatever the clocks say. */
const RENEW_PAUSE_MS = 30_000;
/** Timers take no more. */
const LONGEST_MS = 2_000_000_000;

/** How the phases of a connection look to the app; while it is up, that depends. */
const statusOf = (phase: Phase): Status => (phase === "waiting" ? "offline" : phase === "up" ? "syncing" : phase);

/** Live, with nothing under way; or refused. */
const isCurrent = (sub: Subscription) => (sub.isLive && sub.asked === undefined) || sub.refused !== undefined;

/** What the engine lets a part of it do that only some need. */
export interface Inside {
  readonly core: Core;
  readonly reading: Reading;
  readonly writing: Writing;
  proceed(turn: Turn): void;
  stand(turn: Turn, status: Status, error: TidewireError | undefined): void;
}

/** A part of the engine that hears of every input. */
export interface Others {
  heard(turn: Turn, input: Input): void;
}

export class Engine {
  readonly #core: Core;
  readonly #reading: Reading;
  readonly #writing: Writing;
  #isWanted = false;
  #isIdentifying = false;
  #isSignedOut = false;
  readonly #others: Others | undefined;
  /** The connection that has been greeted. */
  #greeted: number | undefined;
  status: Status = "offline";
  error: TidewireError | undefined;
  /** Who waits until these are live and up to date. */
  #catching: { readonly caught: Deferred<void>; readonly subs: readonly Subscription[] }[] = [];

  constructor(config: Config, others?: (inside: Inside) => Others) {
    this.#core = new Core(config);
    this.#writing = new Writing(this.#core);
    this.#reading = new Reading(this.#core, this.#writing);
    this.#others = others?.({
      core: this.#core,
      reading: this.#reading,
      writing: this.#writing,
      proceed: (turn) => this.#proceed(turn),
      stand: (turn, status, error) => this.#setStatus(turn, status, error),
    });
  }

  get identity(): string | null | undefined {
    return this.#core.identity;
  }

  get session(): string {
    return this.#core.session;
  }

  get role(): Core["role"] {
    return this.#core.role;
  }

  get subscriptions(): readonly Subscription[] {
    return [...this.#core.subscriptions.values()];
  }

  subscription(channel: string): Subscription | undefined {
    return this.#core.subscriptions.get(channel);
  }

  get outbox(): Outbox {
    return this.#core.outbox;
  }

  /** The intents of a channel, refused ones too. */
  intents(channel: string): readonly Intent[] {
    return this.outbox.all.filter((intent) => intent.channel === channel);
  }

  handle(input: Input, now: number): readonly Effect[] {
    const turn = new Turn(now);
    this.#take(turn, input);
    this.#others?.heard(turn, input);
    this.#finish(turn);
    return turn.effects;
  }

  #take(turn: Turn, input: Input): void {
    const { link, subscriptions } = this.#core;
    switch (input.type) {
      case "connect":
        this.#isWanted = true;
        return this.#proceed(turn);
      case "disconnect":
        this.#isWanted = false;
        return this.#part(turn);
      case "catchUp":
        this.#catching.push({ caught: input.caught, subs: this.subscriptions });
        for (const sub of subscriptions.values()) this.#reading.ask(turn, sub);
        return this.#core.isUp ? undefined : this.#proceed(turn);
      case "channel":
        return this.#reading.want(turn, input);
      case "leave":
        return this.#reading.leave(input.channel);
      case "write": {
        const { intent } = input;
        if (!this.#isSignedOut) return this.#writing.write(turn, intent);
        return turn.refuse(intent.id, "unauthorized", "not signed in");
      }
      case "dismiss":
        return this.#writing.dismiss(turn, input.id);
      case "presence":
      case "signal":
        if (this.#core.isTooLarge(input)) return turn.add({ type: "error", error: errorOf({ code: "frame_too_large", message: TOO_LARGE }) });
        if (input.type === "presence") return this.#reading.move(turn, input.channel, input.want);
        if (subscriptions.get(input.channel)?.isLive && this.#core.isUp) this.#core.send(input);
        return;
      case "identified":
        this.#isIdentifying = false;
        if (this.#core.identity !== input.identity) return this.#become(turn, input.identity);
        if (this.#core.isUp) turn.add({ type: "renew" });
        return this.#proceed(turn);
      case "signedOut":
        return this.#signedOut(turn, input.identity);
      case "token":
        if (input.token !== undefined && this.#core.isUp) this.#core.send({ type: "auth", token: input.token });
        return;
      case "channelToken":
        return this.#reading.token(turn, input.channel, input.token);
      case "database":
        return this.#opened(turn, input.outbox);
      case "loaded":
        return this.#reading.loaded(turn, input);
      case "opened":
        if (input.socket !== link.socket || link.phase !== "connecting") return;
        this.#greeted = input.socket;
        this.#core.isOrdered = input.isOrdered;
        return this.#reading.hello(turn);
      case "frame":
        link.heard(turn);
        for (const message of decode(input.text)) if (this.#greeted === input.socket) this.#hear(turn, message);
        return;
      case "closed":
        if (input.socket === link.socket) link.closed(turn, input);
        return;
      case "wake":
        if (this.#core.role === "leader") link.wake(turn);
        return;
      case "timer":
        return this.#timer(turn, input.name);
      case "alone":
        this.#core.role = "leader";
        for (const sub of subscriptions.values()) if (!sub.isLoaded) this.#reading.load(turn, sub);
        return this.#proceed(turn);
    }
  }

  /** Goes on towards a connection, from wherever it is. */
  #proceed(turn: Turn): void {
    const { role, isOpen, link, identity } = this.#core;
    if (identity === undefined) {
      if (!this.#isIdentifying) turn.add({ type: "identify" });
      this.#isIdentifying = true;
    } else if (!this.#isWanted) return;
    else if (role === "leader") link.connect(turn);
    else if (isOpen && role === "none") {
      this.#core.role = "joining";
      turn.add({ type: "join" });
    }
  }

  /** Leaves connection and tabs. */
  #part(turn: Turn): void {
    this.#core.link.disconnect(turn);
    if (this.#core.role !== "none") turn.add({ type: "part" });
    this.#core.role = "none";
    for (const sub of this.#core.subscriptions.values()) sub.hungUp();
  }

  /** Somebody else is here: nothing of who was before is left in sight. */
  #become(turn: Turn, identity: string | null | undefined): void {
    const { outbox, subscriptions, identity: before } = this.#core;
    this.#part(turn);
    this.#core.identity = identity;
    this.#core.isOpen = false;
    this.#isSignedOut = identity === undefined;
    // What was written before anybody was known belongs to who comes first.
    if (before !== undefined || identity === undefined) {
      for (const intent of outbox.clear()) {
        this.#writing.changed(turn, intent);
        turn.refuse(intent.id, "closed", "somebody signed out");
      }
      for (const sub of subscriptions.values()) turn.touch(sub.channel, sub.forget());
    }
    if (identity !== undefined) turn.add({ type: "database", identity });
  }

  #signedOut(turn: Turn, remembered: string | null | undefined): void {
    this.#isIdentifying = false;
    const identity = this.#core.identity ?? remembered;
    this.#become(turn, undefined);
    if (identity !== undefined) turn.add({ type: "destroy", identity });
  }

  #opened(turn: Turn, kept: readonly Intent[]): void {
    const { outbox, subscriptions } = this.#core;
    this.#core.isOpen = true;
    // Written before it was known whose database this is.
    for (const intent of outbox.all) turn.writes.push({ type: "intent", intent });
    for (const intent of kept) this.#writing.come(turn, intent);
    // Who joins others reads when that is done: then nothing is missed between.
    if (!this.#isWanted) for (const sub of subscriptions.values()) this.#reading.load(turn, sub);
    this.#proceed(turn);
  }

  /** One bad message does not cost the others. */
  #hear(turn: Turn, message: ServerMessage): void {
    try {
      this.#receive(turn, message);
    } catch (cause) {
      turn.add({ type: "error", error: new TidewireError("malformed", `a ${message.type} cannot be read`, { cause }) });
    }
  }

  #receive(turn: Turn, message: ServerMessage): void {
    const { subscriptions, outbox, link } = this.#core;
    switch (message.type) {
      case "welcome":
        link.welcomed(turn);
        turn.add({ type: "remember", identity: message.identity });
        this.#core.session = message.session;
        Object.assign(this.#core.limits, message.limits);
        if (message.identity !== this.#core.identity) return this.#become(turn, message.identity);
        this.#expires(turn, message.expiresAt);
        // Channels that were read or opened meanwhile.
        for (const sub of subscriptions.values()) if (sub.asked === undefined) this.#reading.ask(turn, sub);
        return;
      case "authed":
        this.#expires(turn, message.expiresAt);
        if (message.view !== undefined) this.#reading.see(turn, message.view);
        return;
      case "ack":
        return this.#writing.acked(turn, message);
      case "reject": {
        const intent = outbox.find(message.id);
        if (intent !== undefined) return this.#writing.rejected(turn, intent, message.error);
        const sub = this.subscriptions.find(({ asked }) => asked === message.id);
        return sub && this.#reading.refused(turn, sub, message.error);
      }
      case "error": {
        const { retryAfterMs } = message.error;
        if (retryAfterMs !== undefined) {
          link.holdOff(turn.now + retryAfterMs);
          this.#core.hold(turn, retryAfterMs);
        }
        return turn.add({ type: "error", error: errorOf(message.error) });
      }
      default: {
        const sub = subscriptions.get(message.channel);
        if (sub !== undefined) this.#reading.take(turn, sub, message);
      }
    }
  }

  #expires(turn: Turn, expiresAt: number | null): void {
    if (expiresAt === null) return turn.cancel("renew");
    const ms = Math.max(RENEW_PAUSE_MS, Math.min(expiresAt - turn.now - RENEW_MS, LONGEST_MS));
    turn.timer("renew", ms);
  }

  #timer(turn: Turn, name: string): void {
    const { subscriptions, link, isUp } = this.#core;
    if (name === "save") {
      for (const sub of subscriptions.values()) if (sub.isLoaded) turn.writes.push(sub.save());
    } else if (name === "renew") {
      if (isUp) turn.add({ type: "renew" });
    } else if (name === "flow") {
      // Its time has come, whatever the clock says.
      this.#core.pausedUntil = 0;
    } else if (name.startsWith("again:")) {
      const sub = subscriptions.get(name.slice(6));
      if (sub !== undefined) this.#reading.ask(turn, sub);
    } else link.timer(turn, name);
  }

  /** The connection that was greeted is no more. */
  #hungUp(turn: Turn): void {
    this.#greeted = undefined;
    this.#core.takeOut();
    this.#core.outbox.release();
    this.#core.pausedUntil = 0;
    turn.cancel("renew");
    for (const sub of this.#core.subscriptions.values()) {
      sub.hungUp();
      if (sub.room.clear()) this.#reading.tellMembers(turn, sub);
    }
  }

  /** What follows from all that has happened in a turn. */
  #finish(turn: Turn): void {
    const { link, outbox, limits, isOpen } = this.#core;
    if (this.#greeted !== undefined && this.#greeted !== link.socket) this.#hungUp(turn);
    this.#writing.flow(turn);
    for (const [channel, keys] of turn.touched) {
      const changes = this.subscription(channel)?.look(keys, outbox) ?? [];
      if (changes.length > 0) turn.add({ type: "rows", channel, changes });
    }
    const { outcomes, writes } = turn;
    turn.add(...outcomes.map((outcome): Effect => ({ type: "settled", outcome })));
    if (isOpen && writes.length + outcomes.length > 0) turn.add({ type: "commit", writes, outcomes });
    const socket = this.#greeted;
    if (socket !== undefined) {
      const frames = encode(this.#core.takeOut(), limits.frameBytes, limits.frameMessages);
      turn.add(...frames.map((text): Effect => ({ type: "send", socket, text })));
    }
    this.#settle(turn);
  }

  /** How it all stands at the end of a turn. */
  #settle(turn: Turn): void {
    const { link, role, outbox, isUp } = this.#core;
    if (role === "follower") return;
    const isSynced = isUp && this.subscriptions.every(isCurrent) && outbox.isDone;
    this.#setStatus(turn, isSynced ? "synced" : statusOf(link.phase), link.error);
    if (!isUp) return;
    this.#catching = this.#catching.filter(({ caught, subs }) => {
      const isDone = subs.every((sub) => isCurrent(sub) || this.subscription(sub.channel) !== sub);
      if (isDone) turn.add({ type: "caughtUp", caught });
      return !isDone;
    });
  }

  #setStatus(turn: Turn, status: Status, error: TidewireError | undefined): void {
    if (status === this.status && error?.message === this.error?.message) return;
    this.status = status;
    this.error = error;
    turn.add({ type: "status", status, error });
  }
}
