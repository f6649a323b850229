// The transport of choice: one WebSocket for everything.
import { probe, type Transport } from "./transport.ts";

export const webSocket: Transport = {
  name: "websocket",
  isOrdered: true,
  open(where, listener, net) {
    const { WebSocket } = net;
    if (WebSocket === undefined) {
      // As if something in between let none through: the next transport has its turn.
      void probe(where, net).then((why) => listener.closed(why));
      return { send() {}, close() {} };
    }
    const url = new URL(where.url);
    url.protocol = url.protocol.replace("http", "ws");
    if (where.space !== "global") url.pathname = `${url.pathname.replace(/\/+$/, "")}/${where.space}`;
    // A browser's WebSocket has no headers.
    if (where.token !== undefined) url.searchParams.set("token", where.token);
    const socket = new WebSocket(url.href);
    let hasOpened = false;
    let isClosed = false;
    socket.onopen = () => {
      hasOpened = true;
      if (!isClosed) listener.opened();
    };
    socket.onmessage = ({ data }: { readonly data: unknown }) => {
      if (typeof data === "string" && !isClosed) listener.frame(data);
    };
    const ended = ({ code, reason }: { readonly code: number; readonly reason: string }) => {
      if (isClosed) return;
      isClosed = true;
      if (hasOpened) listener.closed({ code, reason });
      else void probe(where, net).then((why) => listener.closed(why));
    };
    socket.onclose = ended;
    // Not every platform closes what could not be opened.
    socket.onerror = () => hasOpened || ended({ code: 1006, reason: "" });
    return {
      send(text) {
        if (!isClosed && hasOpened) socket.send(text);
      },
      close() {
        isClosed = true;
        socket.close();
      },
    };
  },
};
