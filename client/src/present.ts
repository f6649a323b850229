// Who is here, in one channel: oneself, unless one only watches, and the others.
import type { Host } from "./channel.ts";
import { Emitter, type Unsubscribe } from "./emitter.ts";
import type { Member, Presence } from "./wire.ts";

export class Present {
  readonly #channel: string;
  readonly #host: Pick<Host, "engine" | "handle">;
  readonly #moves = new Emitter<readonly Member[]>();
  #members: readonly Member[] | undefined;

  constructor(channel: string, host: Pick<Host, "engine" | "handle">) {
    this.#channel = channel;
    this.#host = host;
  }

  /** Is here, and with what to show, or with something else by now: said again after every reconnect. */
  join(state: unknown): void {
    this.#want({ state: state ?? {} });
  }

  /** Sees who is here, unseen. */
  watch(): void {
    this.#want({ watch: true });
  }

  leave(): void {
    this.#want(null);
  }

  /** Those that are here, at most 500: the same array until something changes. */
  get members(): readonly Member[] {
    return (this.#members ??= this.#room?.all.members ?? []);
  }

  /** How many are here. */
  get total(): number {
    return this.#room?.all.total ?? 0;
  }

  subscribe(listener: (members: readonly Member[]) => void): Unsubscribe {
    return this.#moves.on(listener);
  }

  tell(): void {
    this.#members = undefined;
    this.#moves.emit(this.members);
  }

  get #room() {
    return this.#host.engine.subscription(this.#channel)?.room;
  }

  #want(want: Presence | null): void {
    this.#host.handle({ type: "presence", channel: this.#channel, want });
  }
}
