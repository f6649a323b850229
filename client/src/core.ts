// What the parts of the engine share: channels, outbox, connection, and what is to be sent.
import type { Turn } from "./effects.ts";
import { Link, type LinkOptions } from "./link.ts";
import { Outbox } from "./outbox.ts";
import type { Subscription } from "./subscription.ts";
import { bytesOf, type ClientMessage, type Fields, type Row } from "./wire.ts";

/** Somebody else has changed fields that a write which was not sent yet changes, too. */
export interface Conflict {
  readonly channel: string;
  readonly key: string;
  readonly fields: readonly string[];
  /** What this device wants to write. */
  readonly mine: Fields;
  /** The row as the server has it. */
  readonly theirs: Row;
  /** The row as it was before; unknown where the server has refused the write. */
  readonly base?: Row | undefined;
}

/** Mine: the write goes on, as without an answer. Theirs: not in these fields. Or these fields instead. */
export type Resolution = "mine" | "theirs" | Fields | undefined | void;

export interface Config {
  readonly link: LinkOptions;
  /** What a hello says of this client. */
  readonly self: { readonly client: string; readonly schema?: number | undefined; readonly device?: string | undefined };
  readonly batchSize?: number | undefined;
  readonly resolve?: ((conflict: Conflict) => Resolution) | undefined;
  readonly random: () => number;
}

/** How deep a message may nest: the server takes 64, of which what carries it has up to 2. */
const DEPTH = 62;

const isDeeper = (value: unknown, depth: number): boolean =>
  value instanceof Object && (depth === 0 || Object.values(value).some((inner) => isDeeper(inner, depth - 1)));

export const TOO_LARGE = "too large";

export class Core {
  readonly config: Config;
  readonly link: Link;
  readonly outbox = new Outbox();
  readonly subscriptions = new Map<string, Subscription>();
  /** Whether this tab has the connection, or another, or nobody yet. */
  role: "none" | "joining" | "follower" | "leader" = "none";
  /** The identity whose database is open or being opened. */
  identity: string | null | undefined;
  isOpen = false;
  session = "";
  /** Whether answers and changes come in the order in which they happened. */
  isOrdered = true;
  limits = { frameBytes: 262_144, frameMessages: 1_000 };
  /** Nothing is written before: the server has asked for a pause. */
  pausedUntil = 0;
  /** How often something was read of what is kept. */
  readings = 0;
  readonly #out: ClientMessage[] = [];
  #ids = 0;

  constructor(config: Config) {
    this.config = config;
    this.link = new Link(config.link, config.random);
  }

  get isUp(): boolean {
    return this.role === "leader" && this.link.phase === "up";
  }

  /** A name of a request, for as long as the connection lasts. */
  nextId(): string {
    return `s${++this.#ids}`;
  }

  send(...messages: readonly ClientMessage[]): void {
    this.#out.push(...messages);
  }

  /** A frame that is too large would cost the connection, and one that nests too deeply all that is in it. */
  isTooLarge(message: object): boolean {
    return bytesOf(JSON.stringify(message)) > this.limits.frameBytes || isDeeper(message, DEPTH);
  }

  takeOut(): readonly ClientMessage[] {
    return this.#out.splice(0);
  }

  /** A pause of its own for everybody, that doubles: what the server asks for at the least. */
  pause(attempt: number, retryAfterMs = 0): number {
    return retryAfterMs + this.config.random() * Math.min(60_000, 1_000 * 2 ** attempt);
  }

  /** Nothing is sent to the server for a while. */
  hold(turn: Turn, ms: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, turn.now + ms);
    turn.timer("flow", this.pausedUntil - turn.now);
  }
}
