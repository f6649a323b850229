// Rows that the server cannot read: encrypted before they are written, decrypted before they are seen.
import type { Change, ChannelOptions, Host } from "./channel.ts";
import type { RowChange } from "./effects.ts";
import { TidewireError, textOf } from "./error.ts";
import { copy, isSame } from "./json.ts";
import type { Action, Fields, Row } from "./wire.ts";

/** A row as the server has it: its id, what it may read, and the rest as one text. */
export interface SealedRow {
  readonly id: string;
  readonly ct?: string;
  readonly [clear: string]: unknown;
}

export interface Ciphers<R extends object> {
  /** `{ id, …clear fields, ct }` of a row. */
  readonly encrypt: (row: R) => SealedRow | Promise<SealedRow>;
  readonly decrypt: (sealed: SealedRow) => R | Promise<R>;
}

export class Cipher<R extends object> {
  /** What the app sees. */
  readonly rows = new Map<string, R>();
  readonly #ciphers: Ciphers<R>;
  readonly #host: Pick<Host, "engine" | "fail">;
  /** Rows are seen, and writes made, in the order in which they came. */
  #seeing: Promise<unknown> = Promise.resolve();
  #sealing: Promise<unknown> = Promise.resolve();
  /** What was sealed here needs not be decrypted. */
  readonly #own = new WeakMap<object, R>();

  constructor(ciphers: Ciphers<R>, host: Pick<Host, "engine" | "fail">) {
    this.#ciphers = ciphers;
    this.#host = host;
  }

  /** When all that has come can be seen. */
  get settled(): Promise<unknown> {
    return this.#seeing;
  }

  /**
   * Makes a write: of a new row all of it, of an update the whole text anew and the clear fields that
   * it names. `now` is the row as the server will have it before.
   */
  write<T>(action: Action, data: Fields | undefined, now: () => Row | undefined, make: (data: Fields | undefined) => T): Promise<T> {
    const { identity } = this.#host.engine;
    const sealing = this.#sealing.then(async () => {
      const sealed = data && (await this.#seal(action, data, now()));
      // Whoever is here now did not write it.
      if (identity !== undefined && identity !== this.#host.engine.identity) {
        throw new TidewireError("closed", "somebody signed out");
      }
      return make(sealed);
    });
    this.#sealing = sealing.catch(() => {});
    return sealing;
  }

  async #seal(action: Action, data: Fields, now: Row | undefined): Promise<Fields> {
    if (action === "create") return this.#encrypt(data as unknown as R);
    if (now === undefined) throw new TidewireError("not_found", "no such row to update");
    const sealed = await this.#encrypt({ ...(await this.open(now)), ...data });
    return Object.fromEntries(Object.entries(sealed).filter(([name]) => name === "ct" || Object.hasOwn(data, name)));
  }

  async #encrypt(row: R): Promise<SealedRow> {
    const sealed = copy(await this.#ciphers.encrypt(row));
    this.#own.set(sealed, row);
    return sealed;
  }

  async open(sealed: Row): Promise<R> {
    return this.#own.get(sealed) ?? (await this.#ciphers.decrypt(sealed));
  }

  /** A row that was confirmed. Of a delete there is no more than the id. */
  opened(row: Row | null | undefined): Promise<R> | undefined {
    return row && "ct" in row ? this.open(row) : undefined;
  }

  /** Shows changes, once they can be read. A row that cannot be is told as an error, and not shown. */
  see(changes: readonly RowChange[], tell: (changes: readonly Change<R>[]) => void): void {
    const opened = Promise.all(
      changes.map(async ({ key, row }) => {
        const shown = row && (await this.open(row).catch((error: unknown) => this.#unreadable(key, error)));
        return [key, shown ?? undefined] as const;
      }),
    );
    this.#seeing = this.#seeing.then(async () => {
      const shown: Change<R>[] = [];
      for (const [key, row] of await opened) {
        const previous = this.rows.get(key);
        if (row === undefined) this.rows.delete(key);
        else this.rows.set(key, row);
        if (!isSame(row, previous)) shown.push({ key, row, previous });
      }
      tell(shown);
    });
  }

  #unreadable(key: string, cause: unknown): void {
    this.#host.fail(new TidewireError("invalid", `the row ${key} cannot be decrypted: ${textOf(cause)}`, { cause }));
  }
}

/** Options of a channel whose rows are encrypted: `sync.channel("notes", encrypted({ encrypt, decrypt }))`. */
export function encrypted<R extends object>(ciphers: Ciphers<R>): Pick<ChannelOptions<R>, "cipher"> {
  return {
    cipher(host, channel) {
      const cipher = new Cipher(ciphers, host);
      // What is here by now, because another tab wanted it before.
      const seen = [...(host.engine.subscription(channel)?.seen ?? [])];
      cipher.see(
        seen.map(([key, row]) => ({ key, row, previous: undefined })),
        () => {},
      );
      return cipher;
    },
  };
}
