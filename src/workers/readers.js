// Open answers of readers over HTTP: pages that wait for news, and streams of events.
import { whenGivenUp } from "./glue.js";

/** What a reader wants of the engine, as `readers.rs` knows it. */
const ENDED = 0;
const GONE = 1;
const PAGE = 2;
const OVER = 3;

/** The longest time that a timer takes; what is later, the object's alarm does. */
const LONGEST_MS = 2 ** 31 - 1;

const encoder = new TextEncoder();

/** One open answer. What it gets is kept until its reader reads, as far as there is room. */
class Reader {
  #most;
  #controller;
  #forget;
  #timer;
  #ping;
  /** Whether another page is to be asked for as soon as all is read. */
  #lacks = false;
  /** Whether nothing has been read since the last ping. */
  #stalls = false;
  #open = true;
  #wants = [];
  #wake = () => {};

  constructor(most, until) {
    this.#most = most;
    const source = {
      start: (controller) => (this.#controller = controller),
      pull: () => this.#drained(),
      cancel: () => this.#stop(GONE),
    };
    // A mark of one byte: `pull` says that all has been read.
    this.body = new ReadableStream(source, new ByteLengthQueuingStrategy({ highWaterMark: 1 }));
    if (until !== undefined) {
      // A millisecond more, so that the time is over then by any clock.
      const ms = Math.max(0, until - Date.now()) + 1;
      this.#timer = setTimeout(() => this.#want(OVER), Math.min(ms, LONGEST_MS));
    }
    let lose;
    const lost = new Promise((resolve) => (lose = resolve));
    this.#forget = whenGivenUp(lose);
    lost.then(() => this.fail("restart"));
  }

  /** Pings every so many seconds, so that a reader which has gone is noticed, and one that does not read. */
  ping(seconds) {
    this.#ping = setInterval(() => {
      if (this.#stalls && this.#queued > 0) return this.fail("too slow");
      this.#stalls = true;
      this.send(encoder.encode(": ping\n\n"));
    }, seconds * 1000);
  }

  get #queued() {
    return 1 - this.#controller.desiredSize;
  }

  send(...chunks) {
    if (!this.#open) return;
    if (this.#queued > this.#most) return this.fail("too slow");
    for (const chunk of chunks) {
      if (chunk.byteLength > 0) this.#controller.enqueue(chunk);
    }
  }

  /** Asks for another page once all has been read. */
  lack() {
    this.#lacks = true;
    if (this.#open && this.#controller.desiredSize > 0) this.#drained();
  }

  #drained() {
    this.#stalls = false;
    if (!this.#lacks) return;
    this.#lacks = false;
    this.#want(PAGE);
  }

  /** Ends the answer in good order. */
  end() {
    if (!this.#open) return;
    this.#stop(ENDED);
    this.#controller.close();
  }

  /** Breaks the answer off: what was not read yet is dropped. */
  fail(why) {
    if (!this.#open) return;
    this.#stop(GONE);
    this.#controller.error(new Error(why));
  }

  #stop(why) {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#timer);
    clearInterval(this.#ping);
    this.#forget();
    this.#want(why);
  }

  #want(what) {
    this.#wants.push(what);
    this.#wake();
  }

  /** What it wants next; `ENDED` and `GONE` are the last. */
  async next() {
    while (this.#wants.length === 0) await new Promise((resolve) => (this.#wake = resolve));
    return this.#wants.shift();
  }
}

/** The readers of an object by number. */
export class Readers {
  #byNumber = new Map();

  /** Begins the answer to a reader that waits, until a time if there is one. */
  wait(number, most, until) {
    return this.#begin(new Reader(most, until), number, "application/json");
  }

  /** Begins a stream of events. */
  stream(number, most, until, seconds) {
    const reader = new Reader(most, until);
    // How long a browser waits before it comes back; not all at once.
    reader.send(encoder.encode(`retry: ${Math.round(1000 + 4000 * Math.random())}\n\n`));
    reader.ping(seconds);
    return this.#begin(reader, number, "text/event-stream");
  }

  #begin(reader, number, type) {
    this.#byNumber.set(number, reader);
    const headers = { "content-type": type, "cache-control": "no-store" };
    return new Response(reader.body, { headers });
  }

  /** What a reader wants next. */
  async next(number) {
    const reader = this.#byNumber.get(number);
    const what = reader === undefined ? ENDED : await reader.next();
    if (what === ENDED || what === GONE) this.#byNumber.delete(number);
    return what;
  }

  /** Sends one event to many streams, each with an id of its own, or all without. */
  send(numbers, ids, lines) {
    const data = encoder.encode(lines);
    const each = ids?.split("\n");
    numbers.forEach((number, at) => {
      const end = each === undefined ? "\n" : `id: ${each[at]}\n\n`;
      this.#byNumber.get(number)?.send(data, encoder.encode(end));
    });
  }

  lack(number) {
    this.#byNumber.get(number)?.lack();
  }

  /** Ends an answer, with its last words. */
  end(number, text) {
    const reader = this.#byNumber.get(number);
    if (text) reader?.send(encoder.encode(text));
    reader?.end();
  }
}
