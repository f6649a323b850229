// The engine's part in a family of tabs: following a leader, and taking over from one.
import type { Inside, Others } from "./engine.ts";
import type { Input, KeptOutbox, Turn } from "./effects.ts";
import type { Intent } from "./outbox.ts";
import type { Write } from "./storage.ts";
import type { Subscription } from "./subscription.ts";

/** How many ids of settled intents are remembered. */
const SETTLED = 1_000;

type Rows = Write & { readonly type: "rows" };

export class Following implements Others {
  readonly #inside: Inside;
  /** What other tabs have settled lately: they may be heard of in any order. */
  readonly #settled = new Set<string>();
  /** Intents that could not be kept. */
  readonly #unkept = new Set<string>();
  /** What the leader has committed of channels that are just being read. */
  readonly #missed = new WeakMap<Subscription, Rows[]>();

  constructor(inside: Inside) {
    this.#inside = inside;
  }

  heard(turn: Turn, input: Input): void {
    const { subscriptions } = this.#inside.core;
    switch (input.type) {
      case "follower":
      case "leader":
        return this.#join(turn, input.type, input.kept);
      case "adopt":
        for (const write of input.writes) {
          if (write.type === "intent") this.#come(turn, write.intent);
          else if (write.type === "settled") this.#leave(turn, write.id);
          else this.#adopt(turn, write);
        }
        for (const outcome of input.outcomes) turn.add({ type: "settled", outcome });
        return;
      case "loaded": {
        const sub = subscriptions.get(input.channel);
        if (sub === undefined) return;
        const missed = this.#missed.get(sub) ?? [];
        this.#missed.delete(sub);
        for (const write of missed) this.#adopt(turn, write);
        // It is live in another tab already.
        if (sub.isLive && sub.isLoaded) this.#inside.reading.live(turn, sub.channel);
        return;
      }
      case "status":
        for (const sub of subscriptions.values()) {
          sub.isLive = input.live.includes(sub.channel);
          if (sub.isLive && sub.isLoaded) this.#inside.reading.live(turn, sub.channel);
        }
        return this.#inside.stand(turn, input.status, input.error);
      case "unsaved":
        for (const write of input.writes) if (write.type === "intent") this.#unkept.add(write.intent.id);
        return;
    }
  }

  /** Leads or follows from now on: others may have written meanwhile, so all is read again. */
  #join(turn: Turn, role: "leader" | "follower", kept: KeptOutbox | undefined): void {
    const { core, reading } = this.#inside;
    core.role = role;
    if (kept !== undefined) this.#reconcile(turn, kept);
    for (const sub of core.subscriptions.values()) {
      sub.hungUp();
      reading.load(turn, sub);
    }
    this.#inside.proceed(turn);
  }

  /** The outbox as it is kept counts: what was there before and is no more was settled by another tab. */
  #reconcile(turn: Turn, { outbox: kept, known }: KeptOutbox): void {
    const ids = new Set(kept.map(({ id }) => id));
    for (const { id } of [...this.#inside.core.outbox.all]) {
      if (ids.has(id) || !known.has(id) || this.#unkept.has(id)) continue;
      this.#leave(turn, id);
      turn.outcomes.push({ id });
    }
    for (const intent of kept) this.#come(turn, intent);
  }

  #come(turn: Turn, intent: Intent): void {
    const { core, writing } = this.#inside;
    if (!this.#settled.has(intent.id) && !core.outbox.isSent(intent.id)) writing.come(turn, intent);
  }

  #leave(turn: Turn, id: string): void {
    const { core, writing } = this.#inside;
    const intent = core.outbox.drop(id);
    if (intent !== undefined) writing.changed(turn, intent);
    this.#settled.add(id);
    const [oldest] = this.#settled;
    if (this.#settled.size > SETTLED && oldest !== undefined) this.#settled.delete(oldest);
  }

  /** Rows that the leader has committed. A gap means that something was missed: all is read again. */
  #adopt(turn: Turn, write: Rows): void {
    const { core, reading } = this.#inside;
    const sub = core.subscriptions.get(write.channel);
    if (sub === undefined || core.role !== "follower") return;
    if (sub.isLoaded && write.version <= sub.version) return;
    if (!sub.isLoaded || write.version > sub.version + 1) {
      this.#missed.set(sub, [...(this.#missed.get(sub) ?? []), write]);
      if (sub.isLoaded) reading.load(turn, sub);
      return;
    }
    sub.version = write.version;
    sub.replica.adopt(write.place, write.rows);
    turn.touch(
      sub.channel,
      write.rows.map(([key]) => key),
    );
  }
}
