// What carries frames: where to, what comes of it, and asking why a connection did not open.
import type { Closed } from "./link.ts";

/** Where to connect, and as whom. */
export interface Where {
  /** The address of `/api/sync`, with http or https. */
  readonly url: URL;
  readonly space: string;
  readonly token?: string | undefined;
}

export interface Listener {
  opened(): void;
  frame(text: string): void;
  closed(how: Closed): void;
}

export interface Connection {
  send(text: string): void;
  close(): void;
}

/** What a platform brings for it. */
export interface Net {
  fetch(input: string, init?: RequestInit): Promise<Response>;
  readonly WebSocket: new (url: string) => WebSocket;
  now(): number;
  after(ms: number, run: () => void): () => void;
}

export interface Transport {
  readonly name: string;
  /** Whether answers and changes come in the order in which they happened. */
  readonly isOrdered: boolean;
  open(where: Where, listener: Listener, net: Net): Connection;
}
