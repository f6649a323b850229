// The outbox at work: what is sent, acknowledged, refused, tried again, or met by somebody else's write.
import { TOO_LARGE, type Core } from "./core.ts";
import { covers } from "./cursor.ts";
import type { Turn } from "./effects.ts";
import { isSame } from "./json.ts";
import type { Intent } from "./outbox.ts";
import type { Subscription } from "./subscription.ts";
import type { Ack, Fields, Mutate, Row, WireError } from "./wire.ts";

const message = ({ id, channel, action, key, data }: Intent): Mutate => ({
  id,
  channel,
  action,
  key: action === "create" ? undefined : key,
  data,
});

/** A row that is otherwise than it was, by somebody else. */
interface Met {
  readonly channel: string;
  readonly key: string;
  readonly base: Row;
  readonly theirs: Row;
}

/** How many refused writes of a channel are remembered, until the app has seen them. */
const REJECTED = 100;

/** The id of an intent with other content, which sorts where the old one did. */
const revised = (id: string): string => {
  const [name = id, revision = "0"] = id.split("~");
  return `${name}~${Number(revision) + 1}`;
};

const own = (fields: Fields, name: string): unknown => (Object.hasOwn(fields, name) ? fields[name] : undefined);

export class Writing {
  readonly #core: Core;
  /** How often in a row the server has asked to try again. */
  #refusals = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  write(turn: Turn, intent: Intent): void {
    if (this.#core.isTooLarge({ type: "mutate", ...message(intent) })) {
      return turn.refuse(intent.id, "frame_too_large", TOO_LARGE);
    }
    this.#put(turn, intent);
  }

  #put(turn: Turn, intent: Intent): void {
    turn.writes.push({ type: "intent", intent });
    this.come(turn, intent);
  }

  /** An intent as it is kept by now, here or elsewhere. */
  come(turn: Turn, intent: Intent): void {
    this.#core.outbox.put(intent);
    this.changed(turn, intent);
  }

  #drop(turn: Turn, { id }: Intent): void {
    const intent = this.#core.outbox.drop(id);
    if (intent === undefined) return;
    turn.writes.push({ type: "settled", id });
    this.changed(turn, intent);
  }

  /** An intent has changed or gone. */
  changed(turn: Turn, { channel, key }: Intent): void {
    turn.touch(channel, [key]);
    turn.add({ type: "outbox", channel });
  }

  /** The app has seen a refusal, or gives a write up that was not sent yet. */
  dismiss(turn: Turn, id: string): void {
    const intent = this.#core.outbox.find(id);
    if (intent === undefined || this.#core.outbox.isSent(id)) return;
    this.#drop(turn, intent);
    if (intent.rejected === undefined) {
      turn.refuse(id, "closed", "given up");
    }
  }

  /** Sends what may be sent. A channel that is asked for is waited for: its rows may change what is written. */
  flow(turn: Turn): void {
    const { outbox, subscriptions, isUp, pausedUntil } = this.#core;
    if (!isUp || turn.now < pausedUntil) return;
    const mayFlow = (channel: string) => {
      const sub = subscriptions.get(channel);
      return sub === undefined || sub.isLive || sub.refused !== undefined;
    };
    for (const intent of outbox.next(mayFlow)) this.#core.send({ type: "mutate", ...message(intent) });
  }

  acked(turn: Turn, { id, data, cursor, replayed }: Ack): void {
    const intent = this.#core.outbox.find(id);
    if (intent === undefined || intent.acked !== undefined) return;
    this.#refusals = 0;
    const { channel, key, action } = intent;
    const sub = this.#core.subscriptions.get(channel);
    turn.outcomes.push({ id, row: data });
    if (sub?.isLive && this.#core.isOrdered) {
      // A repeat brings the row as it is now: after a delete it may be there again.
      const row = action === "delete" && !replayed ? null : data;
      const patch = sub.replica.written(key, row, replayed ? undefined : cursor);
      turn.writes.push(sub.save(patch));
      this.#drop(turn, intent);
      this.reached(turn, sub);
      return;
    }
    // The copy may have a way to go until it holds this write, or may be past it: it keeps its
    // pace, and the intent stays in sight until then.
    const isGone = data === null && action !== "delete";
    const isHeld = sub === undefined || sub.refused !== undefined || covers(sub.replica.place.cursor, cursor);
    if (isGone || isHeld) this.#drop(turn, intent);
    else this.#put(turn, { ...intent, acked: cursor });
  }

  /** The copy has come further: what it holds by now needs no intent any more. */
  reached(turn: Turn, { channel, replica }: Subscription): void {
    for (const intent of this.#core.outbox.settle(channel, replica.place.cursor)) {
      turn.writes.push({ type: "settled", id: intent.id });
      this.changed(turn, intent);
    }
  }

  /** The channel may not be read: what was acknowledged will not come back. */
  unread(turn: Turn, channel: string): void {
    for (const intent of this.#core.outbox.all.filter((one) => one.channel === channel)) {
      if (intent.acked !== undefined) this.#drop(turn, intent);
    }
  }

  rejected(turn: Turn, intent: Intent, error: WireError): void {
    const { outbox } = this.#core;
    if (error.retryable) {
      outbox.release(intent.id);
      // Those that were refused together wait together.
      const attempt = turn.now < this.#core.pausedUntil ? 0 : this.#refusals++;
      return this.#core.hold(turn, this.#core.pause(attempt, error.retryAfterMs));
    }
    const { channel, key, data } = intent;
    if (error.current !== undefined && data !== undefined) {
      const fields = Object.keys(data).filter((field) => !isSame(own(error.current ?? {}, field), data[field]));
      const resolution = this.#core.config.resolve?.({ channel, key, fields, mine: data, theirs: error.current });
      if (typeof resolution === "object") return this.#revise(turn, intent, { ...data, ...resolution });
    }
    this.#put(turn, { ...intent, rejected: error });
    const refused = outbox.all.filter((one) => one.channel === channel && one.rejected !== undefined);
    if (refused.length > REJECTED && refused[0] !== undefined) this.#drop(turn, refused[0]);
    turn.outcomes.push({ id: intent.id, error });
  }

  #revise(turn: Turn, intent: Intent, data: Fields): void {
    this.#drop(turn, intent);
    this.write(turn, { ...intent, id: revised(intent.id), data });
  }

  /** Somebody else has changed a row that updates wait for: where they change the same fields, the app decides. */
  meet(turn: Turn, { channel, key, base, theirs }: Met): void {
    const { outbox, config } = this.#core;
    if (config.resolve === undefined) return;
    for (const intent of outbox.of(channel, key)) {
      const { action, data: mine } = intent;
      if (action !== "update" || mine === undefined || intent.acked !== undefined || outbox.isSent(intent.id)) continue;
      const fields = Object.keys(mine).filter((field) => {
        const now = own(theirs, field);
        return !isSame(own(base, field), now) && !isSame(now, mine[field]);
      });
      if (fields.length === 0) continue;
      const resolution = config.resolve({ channel, key, fields, mine, theirs, base });
      if (typeof resolution === "object") this.#revise(turn, intent, { ...mine, ...resolution });
      if (resolution !== "theirs") continue;
      const left = Object.entries(mine).filter(([field]) => !fields.includes(field));
      if (left.some(([field]) => field !== "id")) this.#revise(turn, intent, Object.fromEntries(left));
      else {
        this.#drop(turn, intent);
        turn.outcomes.push({ id: intent.id, row: theirs });
      }
    }
  }
}
