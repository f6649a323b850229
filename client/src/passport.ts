// Tokens, and whose they are: known before the server says so, to find the right database offline.
import type { Keeper } from "./storage.ts";

/** A token; null: nobody is signed in; undefined: no token, the session is a cookie or anonymous. */
export type Token = string | null | undefined;
export type TokenSource = Token | (() => Token | Promise<Token>);

/** The `sub` of a JWT, not verified: the server does that, this only names a database. */
export function subjectOf(token: string): string | undefined {
  try {
    const part = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (char) => char.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes)) as { readonly sub?: unknown };
    return typeof sub === "string" ? sub : undefined;
  } catch {
    return undefined;
  }
}

/** What the app gives as a value, or as a function that gets it. */
export const asked = async <T>(source: T | (() => T | Promise<T>)): Promise<T> =>
  typeof source === "function" ? (source as () => T | Promise<T>)() : source;

export class Passport {
  /** Where tokens come from: another one with every `set`. */
  source: { readonly of: TokenSource };
  /** Asked for to see whose it is: it serves for the connection that follows. */
  #unused: { readonly token: Token } | undefined;
  readonly #keeper: Keeper;
  readonly #scope: string;
  #shown: Token;
  /** Whom the server has taken the shown token for. */
  #learned: { readonly token: Token; readonly identity: string | null } | undefined;

  constructor(source: TokenSource, keeper: Keeper, scope: string) {
    this.source = { of: source };
    this.#keeper = keeper;
    this.#scope = scope;
  }

  set(source: TokenSource): void {
    this.source = { of: source };
    this.#unused = undefined;
  }

  /** A token to show to the server: asked for anew, unless that was just done. */
  async show(): Promise<Token> {
    return this.#unused ? this.#unused.token : asked(this.source.of);
  }

  /** This one counts now. Where it was only looked at, it is the next to be shown. */
  take(token: Token, isLook: boolean): void {
    this.#shown = token;
    this.#unused = isLook ? { token } : undefined;
  }

  async whose(token: Token): Promise<string | null> {
    if (this.#learned !== undefined && this.#learned.token === token) return this.#learned.identity;
    const subject = typeof token === "string" ? subjectOf(token) : undefined;
    return subject ?? (await this.last())?.identity ?? null;
  }

  /** Who was here last. */
  last(): ReturnType<Keeper["recall"]> {
    return this.#keeper.recall(this.#scope);
  }

  /** The server has said who this is; or nobody is here any more. */
  learn(identity: string | null | undefined): void {
    this.#learned = identity === undefined ? undefined : { token: this.#shown, identity };
    void this.#keeper.remember(this.#scope, identity);
  }
}
