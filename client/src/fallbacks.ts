// The transports that only few need, fetched when they are needed: they are no part of the core.
import type { Connection, Transport } from "./transport.ts";

function later(name: string, load: () => Promise<Transport>): Transport {
  return {
    name,
    isOrdered: false,
    open(where, listener, net) {
      let connection: Connection | undefined;
      let isClosed = false;
      load().then(
        (transport) => {
          if (!isClosed) connection = transport.open(where, listener, net);
        },
        () => isClosed || listener.closed({ code: 1006, status: 0 }),
      );
      return {
        send: (text) => connection?.send(text),
        close() {
          isClosed = true;
          connection?.close();
        },
      };
    },
  };
}

export const fallbacks: readonly Transport[] = [
  later("server-sent events", async () => (await import("./http.ts")).serverSentEvents),
  later("long poll", async () => (await import("./http.ts")).longPoll),
];
