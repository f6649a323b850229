// The transport of choice: one WebSocket for everything.
import type { Closed } from "./link.ts";
import type { Net, Transport, Where } from "./transport.ts";

/** Why a connection did not open. What asks is fetched for it: what cannot be fetched now is offline. */
const why = async (where: Where, net: Net): Promise<Closed> => {
  try {
    const { probe } = await import("./requests.ts");
    return await probe(where, net);
  } catch {
    return { code: 1006, status: 0 };
  }
};

export const webSocket: Transport = {
  name: "websocket",
  isOrdered: true,
  open(where, listener, net) {
    const url = new URL(where.url);
    url.protocol = url.protocol.replace("http", "ws");
    if (where.space !== "global") url.pathname = `${url.pathname.replace(/\/+$/, "")}/${where.space}`;
    // A browser's WebSocket has no headers.
    if (where.token !== undefined) url.searchParams.set("token", where.token);
    const socket = new net.WebSocket(url.href);
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
      else void why(where, net).then((how) => listener.closed(how));
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
