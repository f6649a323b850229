// Subscribing, and what comes of it: pages, changes, resets, presence.
import type { Core } from "./core.ts";
import type { Input, Turn } from "./effects.ts";
import { TidewireError } from "./error.ts";
import type { Patch } from "./replica.ts";
import { Subscription } from "./subscription.ts";
import type { Change, ClientMessage, Presence, ServerMessage, Snapshot, Subscribe, WireError } from "./wire.ts";
import type { Writing } from "./writing.ts";

/** How many subscriptions a hello brings; the others follow it. */
const HELLO = 100;

export function errorOf(error: WireError): TidewireError {
  return new TidewireError(error.code, error.message, error);
}

export class Reading {
  readonly #core: Core;
  readonly #writing: Writing;

  constructor(core: Core, writing: Writing) {
    this.#core = core;
    this.#writing = writing;
  }

  /** The app, here or in another tab, wants a channel. */
  want(turn: Turn, { channel, needsToken }: Extract<Input, { type: "channel" }>): void {
    const { subscriptions, isOpen, role, outbox } = this.#core;
    const known = subscriptions.get(channel);
    if (known !== undefined) return this.#tell(turn, known);
    const sub = new Subscription(channel, needsToken);
    subscriptions.set(channel, sub);
    if (isOpen && role !== "joining") this.load(turn, sub);
    turn.touch(channel, outbox.keysOf(channel));
  }

  /** Somebody else wanted it before: who comes later is told how far it is. */
  #tell(turn: Turn, { channel, isLoaded, isLive, refused }: Subscription): void {
    if (isLoaded) turn.add({ type: "restored", channel });
    if (refused !== undefined) turn.add({ type: "refused", channel, error: refused });
    if (isLive) this.live(turn, channel);
  }

  /** Reads what is kept. */
  load(turn: Turn, sub: Subscription): void {
    sub.isLoaded = false;
    sub.reading = this.#core.readings += 1;
    turn.add({ type: "load", channel: sub.channel, nth: sub.reading });
  }

  leave(channel: string): void {
    this.#core.subscriptions.delete(channel);
    if (this.#core.isUp) this.#core.send({ type: "unsubscribe", channel });
  }

  /** What is kept of a channel was read. */
  loaded(turn: Turn, { channel, nth, kept }: Extract<Input, { type: "loaded" }>): void {
    const sub = this.#core.subscriptions.get(channel);
    // What was read before the last time may be older than what is here.
    if (sub === undefined || sub.reading !== nth) return;
    const before = [...sub.replica.rows.keys()];
    if (kept !== undefined) {
      sub.replica.restore(kept.place, kept.rows);
      sub.version = kept.version;
    }
    // Rows come in their order, and what is only written yet behind them.
    const written = [...this.#core.outbox.keysOf(channel)];
    if (sub.replica.rows.size > 0) for (const key of written) if (!before.includes(key)) sub.seen.delete(key);
    turn.touch(channel, [...before, ...sub.replica.rows.keys(), ...written]);
    sub.isLoaded = true;
    turn.add({ type: "restored", channel });
    this.#writing.reached(turn, sub);
    this.ask(turn, sub);
  }

  /** The first words on a connection. */
  hello(turn: Turn): void {
    const { config, subscriptions } = this.#core;
    const requests = [...subscriptions.values()].flatMap((sub) => this.#request(turn, sub) ?? []);
    this.#core.send({ type: "hello", v: 1, ...config.self, subscribe: requests.slice(0, HELLO) });
    this.#core.send(...requests.slice(HELLO).map((request): ClientMessage => ({ type: "subscribe", ...request })));
  }

  /** Subscribes, or subscribes again, as soon as that is possible. */
  ask(turn: Turn, sub: Subscription): void {
    if (!this.#core.isUp) return;
    const request = this.#request(turn, sub);
    if (request !== undefined) this.#core.send({ type: "subscribe", ...request });
  }

  #request(turn: Turn, sub: Subscription): Subscribe | undefined {
    const { channel } = sub;
    if (!sub.isLoaded) return undefined;
    if (sub.needsToken && sub.token === undefined) {
      if (sub.isTokenAsked) return undefined;
      sub.isTokenAsked = true;
      turn.add({ type: "channelToken", channel });
      return undefined;
    }
    turn.cancel(`again:${channel}`);
    return sub.request(this.#core.nextId(), this.#core.config.batchSize);
  }

  /** A token for a channel; without one it could not be had, and is asked for again. */
  token(turn: Turn, channel: string, token: string | undefined): void {
    const sub = this.#core.subscriptions.get(channel);
    if (sub === undefined || !sub.needsToken) return;
    sub.isTokenAsked = false;
    if (token === undefined) return this.#again(turn, sub, 0);
    sub.token = token;
    this.ask(turn, sub);
  }

  #again(turn: Turn, sub: Subscription, retryAfterMs: number | undefined): void {
    turn.timer(`again:${sub.channel}`, this.#core.pause(sub.refusals++, retryAfterMs));
  }

  /** A subscription was refused: mended, tried again, or told to the app. */
  refused(turn: Turn, sub: Subscription, error: WireError): void {
    const { channel } = sub;
    sub.asked = undefined;
    if (error.retryable) return this.#again(turn, sub, error.retryAfterMs);
    const first = sub.refusals++ === 0;
    if (first && error.code === "unauthorized" && sub.needsToken) {
      sub.token = undefined;
      return this.ask(turn, sub);
    }
    if (first && error.code === "malformed" && sub.replica.place.cursor !== undefined) {
      sub.replica.forget();
      return this.ask(turn, sub);
    }
    sub.refused = errorOf(error);
    sub.isLive = false;
    // What may no longer be read is no longer kept.
    if (error.code === "forbidden") this.#save(turn, sub, sub.replica.clear());
    this.#writing.unread(turn, channel);
    turn.add({ type: "refused", channel, error: sub.refused });
  }

  take(turn: Turn, sub: Subscription, message: ServerMessage): void {
    switch (message.type) {
      case "snapshot":
        return this.#snapshot(turn, sub, message);
      case "change":
        return this.#changes(turn, sub, [message], message.cursor);
      case "batch":
        sub.parts.push(...message.changes);
        if (message.more || message.cursor === undefined) return;
        return this.#changes(turn, sub, sub.parts.splice(0), message.cursor);
      case "channel-reset": {
        const { reason = "reset" } = message;
        sub.replica.forget();
        this.#save(turn, sub, new Map());
        turn.add({ type: "reset", channel: sub.channel, reason });
        return this.ask(turn, sub);
      }
      case "channel-change":
        // Perhaps because its token has ended.
        sub.token = undefined;
        return this.ask(turn, sub);
      case "presence":
        sub.room.take(message);
        return this.tellMembers(turn, sub);
      case "signal": {
        const { type, channel, ...signal } = message;
        return turn.add({ type, channel, signal });
      }
    }
  }

  #snapshot(turn: Turn, sub: Subscription, page: Snapshot): void {
    if (page.id !== sub.asked) return;
    sub.asked = undefined;
    sub.refused = undefined;
    sub.refusals = 0;
    this.#apply(turn, sub, () => sub.replica.snapshot(page));
    sub.isLive = !page.more;
    if (page.more) return this.ask(turn, sub);
    this.live(turn, sub.channel);
    this.bePresent(sub);
  }

  /** Told every time: whoever wants the channel may have come since the last. */
  live(turn: Turn, channel: string): void {
    turn.add({ type: "ready", channel });
  }

  #changes(turn: Turn, sub: Subscription, changes: readonly Change[], cursor: string): void {
    // What comes before a subscription is answered is part of the answer.
    if (sub.isLive) this.#apply(turn, sub, () => sub.replica.changes(changes, cursor));
  }

  /** Changes the copy as others have changed it, and asks about writes that this meets. */
  #apply(turn: Turn, sub: Subscription, change: () => Patch | undefined): void {
    const { channel, replica } = sub;
    const keys = [...this.#core.outbox.keysOf(channel)];
    const before = new Map(keys.map((key) => [key, replica.rows.get(key)?.row]));
    const patch = change();
    if (patch === undefined) return;
    this.#save(turn, sub, patch);
    for (const [key, base] of before) {
      const theirs = patch.get(key)?.row;
      if (theirs !== undefined && base !== undefined) this.#writing.meet(turn, { channel, key, base, theirs });
    }
    this.#writing.reached(turn, sub);
  }

  #save(turn: Turn, sub: Subscription, patch: Patch): void {
    turn.touch(sub.channel, patch.keys());
    turn.writes.push(sub.save(patch));
  }

  /** New eyes: what is live here was seen with them. */
  see(turn: Turn, view: string): void {
    for (const sub of this.#core.subscriptions.values()) {
      if (!sub.isLive || sub.replica.place.view === view) continue;
      sub.replica.see(view);
      this.#save(turn, sub, new Map());
    }
  }

  tellMembers(turn: Turn, { channel }: Subscription): void {
    turn.add({ type: "members", channel });
  }

  /** Somebody here wants to be present, otherwise than before. */
  move(turn: Turn, channel: string, want: Presence | null): void {
    const sub = this.#core.subscriptions.get(channel);
    if (sub === undefined) return;
    const { room } = sub;
    const was = room.want;
    room.want = want;
    if (!sub.isPresent) return this.bePresent(sub);
    if (want === null || was === null) sub.isPresent = want !== null;
    this.#core.send({ type: "presence", channel, ...(want ?? { state: null }) });
    // Whoever leaves is told nothing any more, so nobody is known to be there.
    if (want === null) room.clear();
    else room.move(this.#core.session, this.#core.identity ?? null, want);
    this.tellMembers(turn, sub);
  }

  bePresent(sub: Subscription): void {
    const { channel, isLive, isPresent, room } = sub;
    if (!isLive || isPresent || room.want === null || !this.#core.isUp) return;
    sub.isPresent = true;
    this.#core.send({ type: "presence", channel, ...room.want });
  }
}
