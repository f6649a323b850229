// Where there is no WebSocket: the same frames over plain requests, as server-sent events or long polls.
import { eventsOf } from "./events.ts";
import type { Closed } from "./link.ts";
import { Posts } from "./posts.ts";
import { address, errorIn, init, session } from "./requests.ts";
import type { Connection, Net, Transport, Where } from "./transport.ts";
import { decode, PING, type ClientMessage, type ServerMessage, type Snapshot, type Subscribe } from "./wire.ts";

/** A stream is dead that has said nothing for so long: the server pings it every 10 to 20 s. */
const SILENCE_MS = 40_000;
/** What buffers streams lets none through. */
const FIRST_MS = 10_000;
/** How long a poll waits for something new, in seconds. */
const WAIT_S = "25";

/** One channel that is being read. */
class Reader {
  readonly asked: Subscribe;
  readonly ended = new AbortController();
  readonly #tell: (message: ServerMessage) => void;
  /** The request that the next page answers. Later pages are news, and answer none. */
  id: string | undefined;
  cursor: string | undefined;
  view: string | undefined;
  isPaging = true;
  heardAt: number;

  constructor(asked: Subscribe, tell: (message: ServerMessage) => void, now: number) {
    this.asked = asked;
    this.#tell = tell;
    this.id = asked.id;
    this.cursor = asked.cursor;
    this.view = asked.view;
    this.heardAt = now;
  }

  get query(): Record<string, string | undefined> {
    const { channel, limit, token } = this.asked;
    const { cursor, view } = this;
    return { channel, cursor, view: cursor && view, limit: limit?.toString(), channelToken: token };
  }

  /** Whether a request asks for what comes here anyway: the page after this one. */
  goesOn(asked: Subscribe): boolean {
    if (!this.isPaging || asked.cursor !== this.cursor || asked.token !== this.asked.token) return false;
    this.id = asked.id;
    return true;
  }

  tell(message: ServerMessage, place?: string): void {
    if (message.type === "snapshot") return this.page(message);
    this.#tell(message);
    if (place === undefined) return;
    // The place of an event is `cursor;view`: other eyes are told by it alone.
    const [cursor = "", view = ""] = place.split(";");
    this.cursor = cursor;
    if (view === "" || view === this.view) return;
    this.page({ type: "snapshot", channel: this.asked.channel, mode: "delta", data: [], deleted: [], cursor, view, more: false });
  }

  page(page: Snapshot): void {
    const { id } = this;
    this.id = undefined;
    this.cursor = page.cursor;
    this.view = page.view;
    this.isPaging = page.more;
    const { id: _, ...rest } = page;
    this.#tell({ ...rest, channel: this.asked.channel, ...(id !== undefined && { id }) });
  }
}

type Read = (reader: Reader, where: Where, net: Net) => Promise<Response | Closed | undefined>;

/** Reads a stream to its end. */
const stream: Read = async (reader, where, net) => {
  const { signal } = reader.ended;
  let isStarted = false;
  const late = net.after(FIRST_MS, () => isStarted || reader.ended.abort());
  try {
    const request = init(where, { headers: { accept: "text/event-stream" }, signal });
    const response = await net.fetch(address(where, "/changes", reader.query).href, request);
    if (!response.ok) return response;
    if (response.body === null) return { code: 1006, status: 200 };
    for await (const { data, id } of eventsOf(response.body, () => (reader.heardAt = net.now()))) {
      isStarted = true;
      for (const message of decode(data)) {
        if (message.type !== "error") reader.tell(message, id);
        else return { ...message.error, code: message.error.code === "unauthorized" ? 4001 : 4000 };
      }
    }
    return { code: 1006 };
  } catch (error) {
    // The session is good, and yet nothing comes through.
    if (!isStarted && signal.aborted) return { code: 1006, status: 200 };
    throw error;
  } finally {
    late();
  }
};

/** Asks for page after page, and waits where there is nothing new. */
const poll: Read = async (reader, where, net) => {
  for (;;) {
    const wait = reader.isPaging ? undefined : WAIT_S;
    const request = init(where, { signal: reader.ended.signal });
    const response = await net.fetch(address(where, "/changes", { ...reader.query, wait }).href, request);
    if (!response.ok) return response;
    reader.heardAt = net.now();
    const page = (await response.json()) as Snapshot;
    if (reader.ended.signal.aborted) return undefined;
    reader.page(page);
  }
};

function overHttp(name: string, read: Read): Transport {
  return {
    name,
    isOrdered: false,
    open(where, listener, net): Connection {
      const readers = new Map<string, Reader>();
      let isClosed = false;
      let known: { readonly identity: string | null; readonly expiresAt: number | null };
      const close = () => {
        isClosed = true;
        for (const { ended } of readers.values()) ended.abort();
      };
      const end = (how: Closed) => {
        if (isClosed) return;
        close();
        listener.closed(how);
      };
      const tell = (message: object) => void (isClosed || listener.frame(JSON.stringify(message)));
      const tokenOf = (channel: string) => readers.get(channel)?.asked.token;
      const posts = new Posts(where, net, { tell, end, tokenOf });

      const subscribe = async (asked: Subscribe) => {
        const { channel } = asked;
        if (readers.get(channel)?.goesOn(asked)) return;
        readers.get(channel)?.ended.abort();
        const reader: Reader = new Reader(asked, (message) => void (readers.get(channel) === reader && tell(message)), net.now());
        readers.set(channel, reader);
        const ended = await read(reader, where, net).catch((): Closed => ({ code: 1006 }));
        if (isClosed || ended === undefined || readers.get(channel) !== reader) return;
        if (!("headers" in ended)) return end(ended);
        const { error, closed } = await errorIn(ended);
        const isSession = closed.status === 401 && where.token !== undefined && asked.token === undefined;
        if (isSession || reader.id === undefined) return end({ ...closed, code: closed.status === 401 ? 4001 : 1006, status: undefined });
        readers.delete(channel);
        tell({ type: "reject", id: reader.id, channel, error });
      };

      const take = (message: ClientMessage) => {
        switch (message.type) {
          case "hello":
            tell({ type: "welcome", v: 1, session: "", ...known });
            return message.subscribe.forEach((asked) => void subscribe(asked));
          case "subscribe":
            return void subscribe(message);
          case "unsubscribe":
            readers.get(message.channel)?.ended.abort();
            return void readers.delete(message.channel);
          case "mutate":
            return posts.add(message);
          case "auth":
            // Every request brings its token: the next connection has the new one.
            return end({ code: 4001 });
          default:
            return tell({ type: "error", error: { code: "unavailable", message: "presence and signals need a WebSocket", retryable: false } });
        }
      };

      void session(where, net).then((answer) => {
        if ("code" in answer) return end(answer);
        known = answer;
        if (!isClosed) listener.opened();
      });

      return {
        send(text) {
          if (text === PING) {
            const isAlive = [...readers.values()].every(({ heardAt }) => net.now() - heardAt < SILENCE_MS);
            if (isAlive && !isClosed) listener.frame("pong");
            return;
          }
          // Answers come later, as over any wire.
          const frame = JSON.parse(text) as ClientMessage | ClientMessage[];
          for (const message of Array.isArray(frame) ? frame : [frame]) queueMicrotask(() => isClosed || take(message));
        },
        close,
      };
    },
  };
}

export const serverSentEvents: Transport = overHttp("server-sent events", stream);
export const longPoll: Transport = overHttp("long poll", poll);
