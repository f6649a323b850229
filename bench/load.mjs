// The clients, in a process of their own so that their CPU counts for nobody: opens sockets, counts what
// comes on each, writes and reads pages, as its parent says (load-client.mjs).
//
// What is published carries a mark, `#17;`, whose number grows by one. Every socket must see each number
// once and in order; anything else is a fault, which ends the run.
import { once } from "node:events";
import WebSocket from "ws";

const HASH = "#".charCodeAt(0);
const SEMICOLON = ";".charCodeAt(0);

const groups = new Map();
const now = () => Number(process.hrtime.bigint()) / 1e6;

function fault(message) {
  process.send({ fault: message });
  throw new Error(message);
}

/** Sockets that hear the same space. */
class Group {
  sockets = [];
  /** By mark: how many deliveries, when the first and the latest came. */
  #seen = new Map();
  #waiting = new Map();
  #strict;

  constructor(strict) {
    this.#strict = strict;
  }

  async open({ sockets, concurrency }) {
    const began = now();
    let next = 0;
    const worker = async () => {
      while (next < sockets.length) {
        const spec = sockets[next++];
        await this.#connect(spec);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
    return { ms: now() - began };
  }

  #connect({ url, headers, first, ready }) {
    return new Promise((resolve, reject) => {
      const options = { headers, perMessageDeflate: false, skipUTF8Validation: true };
      const socket = new WebSocket(url, options);
      const entry = { socket, last: undefined, on: undefined, number: this.sockets.length };
      this.sockets.push(entry);
      socket.binaryType = "nodebuffer";
      socket.on("open", () => {
        for (const text of first) socket.send(text);
        if (ready === undefined) resolve();
      });
      let isReady = ready === undefined;
      socket.on("message", (data) => {
        if (!isReady && data.includes(ready)) {
          isReady = true;
          return resolve();
        }
        if (entry.on !== undefined) entry.on(data);
        else this.#take(entry, data);
      });
      socket.on("error", reject);
      socket.on("close", (code, reason) => {
        if (!this.closing) fault(`socket ${entry.number} was closed: ${code} ${reason}`);
      });
    });
  }

  #take(entry, data) {
    for (let at = data.indexOf(HASH); at >= 0; at = data.indexOf(HASH, at)) {
      let mark = 0;
      for (at += 1; data[at] !== SEMICOLON; at += 1) {
        const digit = data[at] - 48;
        if (!(digit >= 0 && digit <= 9)) fault(`a mark that is no number in ${data.toString().slice(0, 300)}`);
        mark = mark * 10 + digit;
      }
      const isWrong = this.#strict ? entry.last !== undefined && mark !== entry.last + 1 : mark <= (entry.last ?? -1);
      if (isWrong) fault(`socket ${entry.number} heard ${mark} after ${entry.last}`);
      entry.last = mark;
      let seen = this.#seen.get(mark);
      if (seen === undefined) this.#seen.set(mark, (seen = { count: 0, first: now() }));
      seen.count += 1;
      const waiting = this.#waiting.get(mark);
      if (waiting !== undefined && seen.count >= waiting.count) this.#answer(mark, seen, waiting);
    }
  }

  #answer(mark, seen, { resolve }) {
    this.#waiting.delete(mark);
    resolve({ count: seen.count, first: seen.first, last: now() });
  }

  /** Waits until a mark has come so many times. */
  wait({ mark, count }) {
    return new Promise((resolve) => {
      const seen = this.#seen.get(mark);
      const waiting = { count, resolve };
      if (seen !== undefined && seen.count >= count) this.#answer(mark, seen, waiting);
      else this.#waiting.set(mark, waiting);
    });
  }

  /** How many deliveries there were of each mark from `from` on; forgets them. */
  counts({ from }) {
    const counts = [];
    for (const [mark, { count }] of this.#seen) if (mark >= from) counts.push([mark, count]);
    this.#seen.clear();
    return { counts };
  }

  /** Each socket writes `each` mutations, `window` of them under way. Each must be acknowledged, once and in order. */
  async mutate({ each, window, channel, run, text }) {
    const began = now();
    await Promise.all(
      this.sockets.map((entry, who) => {
        let [sent, acked] = [0, 0];
        return new Promise((resolve) => {
          const send = () => {
            const [id, key] = [`${run}-${who}-${sent}`, `k${who}-${sent % 100}`];
            sent += 1;
            const data = { id: key, n: sent, title: "a mutation", done: false, text };
            entry.socket.send(JSON.stringify({ type: "mutate", id, channel, action: "create", key, data }));
          };
          entry.on = (frame) => {
            const parsed = JSON.parse(frame);
            for (const message of Array.isArray(parsed) ? parsed : [parsed]) {
              const want = `${run}-${who}-${acked}`;
              if (message.type !== "ack" || message.id !== want || message.data.n !== acked + 1) {
                fault(`wanted the ack of ${want}, came ${frame.toString().slice(0, 300)}`);
              }
              acked += 1;
              if (sent < each) send();
              if (acked === each) {
                entry.on = undefined;
                resolve();
              }
            }
          };
          for (let at = 0; at < window && sent < each; at += 1) send();
        });
      }),
    );
    return { ms: now() - began };
  }

  /** Reads a channel page by page from a cursor, so many times; all its rows must come, each once. */
  async read({ channel, cursor, view, limit, rows: want, times }) {
    const [entry] = this.sockets;
    const began = now();
    let [pages, end] = [0, undefined];
    for (let time = 0; time < times; time += 1) {
      const ids = new Set();
      let [at, more] = [{ cursor, view }, true];
      while (more) {
        const came = new Promise((resolve) => (entry.on = resolve));
        entry.socket.send(JSON.stringify({ type: "subscribe", id: `p${pages}`, channel, limit, ...at }));
        const page = JSON.parse(await came);
        if (page.type !== "snapshot") fault(`a page was refused: ${JSON.stringify(page)}`);
        pages += 1;
        for (const { id } of page.data) ids.add(id);
        [at, more] = [{ cursor: page.cursor, view: page.view }, page.more];
        end = at;
      }
      entry.on = undefined;
      if (ids.size !== want) fault(`read ${ids.size} rows of ${channel}, wanted ${want}`);
    }
    return { ms: now() - began, ...end };
  }

  async close() {
    this.closing = true;
    await Promise.all(
      this.sockets.map(({ socket }) => {
        if (socket.readyState === WebSocket.CLOSED) return undefined;
        const closed = once(socket, "close");
        socket.close(1000);
        return closed;
      }),
    );
    this.sockets = [];
    return {};
  }
}

const group = ({ group, strict = true }) => {
  if (!groups.has(group)) groups.set(group, new Group(strict));
  return groups.get(group);
};

process.on("message", async ({ number, command, ...options }) => {
  try {
    if (command === "forget") groups.delete(options.group);
    process.send({ number, answer: command === "forget" ? {} : await group(options)[command](options) });
  } catch (error) {
    process.send({ fault: `${command}: ${error.stack}` });
  }
});
process.on("disconnect", () => process.exit());
