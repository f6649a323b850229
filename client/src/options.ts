// What an app may say about its client.
import type { Conflict, Resolution } from "./core.ts";
import type { TidewireError } from "./error.ts";
import type { TokenSource } from "./passport.ts";
import type { Platform } from "./platform.ts";
import type { Storage } from "./storage.ts";
import type { Transport } from "./transport.ts";

export interface SyncOptions {
  /**
   * Where the server is: an origin, or that with `/api/sync`. In a browser it may be left out: the
   * page's own. A function is asked before each attempt to connect.
   */
  readonly url?: string | URL | (() => string | URL | Promise<string | URL>) | undefined;
  /** The token, or a function that gets one, asked before each attempt and before a session ends. */
  readonly token?: TokenSource;
  /** By default `global`. */
  readonly space?: string | undefined;
  /** The version of the app's rows: a change drops what is kept of them, never what was written. */
  readonly schemaVersion?: number | undefined;
  /** Rows in one page of catching up: 1–1,000, by default the server's 500. */
  readonly batchSize?: number | undefined;
  /** Whether to connect by itself, now. By default yes. */
  readonly autoConnect?: boolean | undefined;
  /** Whether to come back when a connection ends. By default yes. */
  readonly autoReconnect?: boolean | undefined;
  /** The longest pause before the first attempt to come back, in milliseconds; it doubles. By default 1,000. */
  readonly reconnectInterval?: number | undefined;
  /** The longest pause of all. By default 60,000. */
  readonly maxReconnectInterval?: number | undefined;
  /** Where rows and writes are kept. By default nowhere, and they end with the client: see `tidewire/indexeddb`. */
  readonly storage?: Storage | undefined;
  /** Whether tabs share one connection, where storage is shared. By default yes. */
  readonly tabs?: boolean | undefined;
  /** In the order of choice. By default WebSocket, server-sent events, long polls. */
  readonly transports?: readonly Transport[] | undefined;
  /** A name for this device, at most 128 bytes. */
  readonly device?: string | undefined;
  /** Somebody else has changed the same fields. By default what is written last counts. */
  readonly onConflict?: ((channel: string, key: string, fields: readonly string[], conflict: Conflict) => Resolution) | undefined;
  /** The server has reset a channel: its rows are fetched anew. */
  readonly onReset?: ((channel: string, reason: string) => void) | undefined;
  /** Something went wrong beside any one call: storage, tokens, what the server complains of. */
  readonly onError?: ((error: TidewireError) => void) | undefined;
  /** For tests. */
  readonly platform?: Platform | undefined;
}

const PATH = "/api/sync";

/** The address of `/api/sync`, from whatever names it. */
export function urlOf(url: string | URL | undefined): URL {
  const page = (globalThis as { readonly location?: { readonly href: string } }).location?.href;
  const full = new URL(url ?? PATH, page);
  full.protocol = full.protocol.replace(/^ws/, "http");
  if (full.pathname === "/") full.pathname = PATH;
  return full;
}
