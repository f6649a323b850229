// Tokens of the server in memory: whom they stand for, and what was taken from their holders since.
import { bytesOf } from "../wire.ts";
import { Refusal, type Topics } from "./log.ts";

/** How many topics one may hold, the one of the identity among them. */
const TOPICS = 64;
const TOPICS_BYTES = 4_096;
const IDENTITY_BYTES = 256;
const TOKEN_BYTES = 8_192;

/** What a token may say; times are seconds. */
export interface TestClaims {
  readonly exp?: number;
  readonly iat?: number;
  readonly topics?: readonly string[];
  /** It opens this space alone. */
  readonly space?: string;
}

/** What a token of a channel may say beside it; without `sub` it is anyone's. */
export interface TestChannelClaims extends Omit<TestClaims, "topics"> {
  readonly sub?: string;
  readonly write?: boolean;
}

/** A token that this server believes: it says who somebody is, and nothing proves it. */
export function testToken(identity: string, claims: TestClaims = {}): string {
  return tokenOf({ sub: identity, ...claims });
}

/** A token of a channel, for rules that say `token`. */
export function testChannelToken(channel: string, claims: TestChannelClaims = {}): string {
  return tokenOf({ channel, ...claims });
}

function tokenOf(claims: object): string {
  const encode = (part: object) =>
    btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(part))))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replaceAll("=", "");
  return `${encode({ alg: "none" })}.${encode(claims)}.`;
}

/** Whom a token stands for. */
export interface Grant {
  readonly identity: string | null;
  readonly topics: Topics;
  readonly expiresAt: number | null;
  /** When it was issued, in milliseconds. */
  readonly issuedAt: number;
  readonly space?: string | undefined;
}

/** What a token opens in its channel, and until when. */
export interface Pass {
  readonly write: boolean;
  readonly expiresAt: number | null;
}

const nobody: Grant = { identity: null, topics: [], expiresAt: null, issuedAt: 0 };

/** Topics that no token grants. */
const isReserved = (topic: string) => topic === "all" || topic.startsWith("user:");

/** What a token claims; throws where it is none. */
function claimsOf(token: string): TestChannelClaims & { readonly channel?: string; readonly topics?: Topics } {
  if (bytesOf(token) > TOKEN_BYTES) throw new RangeError("a token has at most 8 KiB");
  const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (char) => char.charCodeAt(0))));
}

export class Grants {
  readonly #space: string;
  /** Until when the tokens of an identity count no more. */
  readonly #refused = new Map<string, number>();
  /** The same for one topic of an identity. */
  readonly #removed = new Map<string, number>();

  constructor(space: string) {
    this.#space = space;
  }

  /** Whom a token stands for, if it is one: without what was taken since it was issued. */
  of(token: string | undefined): Grant | undefined {
    if (token === undefined) return nobody;
    try {
      const { sub, exp, iat = 0, topics = [], space, channel } = claimsOf(token);
      if (typeof sub !== "string" || channel !== undefined) return undefined;
      const issuedAt = iat * 1000;
      if (this.isRefused(sub, issuedAt)) return undefined;
      const left = topics.filter((topic) => issuedAt > (this.#removed.get(`${sub} ${topic}`) ?? -1));
      const expiresAt = exp === undefined ? null : exp * 1000;
      return { identity: sub, topics: [`user:${sub}`, ...left], expiresAt, issuedAt, space };
    } catch {
      return undefined;
    }
  }

  /** What a token of a channel opens to an identity; throws where that is nothing. */
  pass(token: string, channel: string, identity: string | null, now: number): Pass {
    const bad = new Refusal({ code: "unauthorized", message: "the channel's token is not valid" });
    let claims: ReturnType<typeof claimsOf>;
    try {
      claims = claimsOf(token);
    } catch {
      throw bad;
    }
    const { sub, exp, iat = 0, space = "global", write = false } = claims;
    const expiresAt = exp === undefined ? null : exp * 1000;
    const isRefused = identity !== null && this.isRefused(identity, iat * 1000);
    if (claims.channel === undefined || (expiresAt !== null && expiresAt <= now) || isRefused) throw bad;
    const isOurs = claims.channel === channel && space === this.#space && (sub === undefined || sub === identity);
    if (!isOurs) throw new Refusal({ code: "forbidden", message: "the token is of another channel, identity or space" });
    return { write, expiresAt };
  }

  isRefused(identity: string, issuedAt: number): boolean {
    return issuedAt <= (this.#refused.get(identity) ?? -1);
  }

  /** What an upgrade is answered. */
  status(grant: Grant | undefined, now: number): number {
    if (grant === undefined || (grant.expiresAt !== null && grant.expiresAt <= now)) return 401;
    const { identity, topics, space = this.#space } = grant;
    const isNobody = identity !== null && (identity === "" || bytesOf(identity) > IDENTITY_BYTES);
    const isTooMuch = topics.length > TOPICS || bytesOf(topics.join("")) > TOPICS_BYTES;
    const isElsewhere = space !== this.#space;
    return isNobody || isTooMuch || isElsewhere || topics.slice(1).some(isReserved) ? 403 : 101;
  }

  /** Tokens of an identity that were issued until then count no more. */
  refuse(identity: string, until: number): void {
    this.#refused.set(identity, until);
  }

  /** Nor do topics of tokens that were issued until then, until they are given back. */
  take(identity: string, topics: Topics, until: number): void {
    for (const topic of topics) this.#removed.set(`${identity} ${topic}`, until);
  }

  give(identity: string, topics: Topics): void {
    for (const topic of topics) this.#removed.delete(`${identity} ${topic}`);
  }
}
