// Who is present in one channel, and how we are present ourselves.
import type { Members } from "./effects.ts";
import type { Member, Presence, PresenceMessage } from "./wire.ts";

export class Room {
  /** Said again on every connection. */
  want: Presence | null = null;
  readonly #members = new Map<string, Member>();
  #total = 0;

  get all(): Members {
    return { members: [...this.#members.values()], total: this.#total };
  }

  take({ members, total, joined = [], updated = [], left = [] }: PresenceMessage): void {
    if (members !== undefined) {
      this.#members.clear();
      this.#total = total ?? members.length;
    } else this.#total += joined.length - left.length;
    for (const member of [...(members ?? []), ...joined, ...updated]) this.#members.set(member.session, member);
    for (const { session } of left) this.#members.delete(session);
  }

  /** Our own moves are not told to us. */
  move(session: string, identity: string | null, want: Presence | null): void {
    const own = this.#members.get(session);
    if (want !== null && "state" in want) {
      if (own !== undefined) this.#members.set(session, { session, identity, state: want.state });
    } else if (own !== undefined) {
      this.#members.delete(session);
      this.#total -= 1;
    }
  }

  /** Forgets everyone: whether anyone was there. */
  clear(): boolean {
    const was = this.#total > 0;
    this.#members.clear();
    this.#total = 0;
    return was;
  }
}
