// The transports that only few need, fetched when they are needed: they are no part of the core.
import type { Connection, Transport } from "./transport.ts";

function later(name: string, which: "serverSentEvents" | "longPoll"): Transport {
  return {
    name,
    isOrdered: false,
    open(where, listener, net) {
      let connection: Connection | undefined;
      let isClosed = false;
      import("./http.ts").then(
        (http) => {
          if (!isClosed) connection = http[which].open(where, listener, net);
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

export const fallbacks: readonly Transport[] = [later("server-sent events", "serverSentEvents"), later("long poll", "longPoll")];
