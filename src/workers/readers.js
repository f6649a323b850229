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
  #later;
  #ping;
  /** Whether another page is to be asked for as soon as all is read. */
  #lacks = false;
  /** Bytes that were sent to it alone since it had read all. */
  #own = 0;
  /** Whether nothing has been read since the last ping. */
  #stalls = false;
  #open = true;
  /** Whether the instance that it tells what it wants is no more. */
  #lost = false;
  #wants = [];
  #wake = () => {};

  constructor(until, most, seconds, ping) {
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
    lost.then(() => {
      this.#lost = true;
      this.fail("restart");
    });
    // Only who writes hears that a reader has gone. One that does not read has gone, too.
    this.#ping = setInterval(() => {
      if (this.#stalls && this.#queued > 0) return this.fail("too slow");
      this.#stalls = true;
      this.send(ping);
    }, seconds * 1000);
  }

  get #queued() {
    return 1 - this.#controller.desiredSize;
  }

  /** Bytes of memory that are held for it and nobody else. */
  get held() {
    return this.#open ? Math.min(this.#own, this.#queued) : 0;
  }

  /** Notes that so many bytes are for it alone. */
  own(bytes) {
    this.#own += bytes;
  }

  send(...chunks) {
    if (!this.#open) return;
    if (this.#queued > this.#most) return this.fail("too slow");
    try {
      for (const chunk of chunks) {
        if (chunk.byteLength > 0) this.#controller.enqueue(chunk);
      }
    } catch {
      this.#stop(GONE); // The platform has ended it.
    }
  }

  /** Asks for another page once all has been read, after some time. */
  lack(ms) {
    if (!this.#open) return;
    if (ms > 0) {
      this.#later = setTimeout(() => this.lack(0), ms);
      return;
    }
    this.#lacks = true;
    if (this.#open && this.#controller.desiredSize > 0) this.#drained();
  }

  #drained() {
    this.#stalls = false;
    this.#own = 0;
    if (!this.#lacks) return;
    this.#lacks = false;
    this.#want(PAGE);
  }

  /** Ends the answer in good order. */
  end() {
    if (!this.#open) return;
    this.#stop(ENDED);
    try {
      this.#controller.close();
    } catch {
      // It is closed.
    }
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
    clearTimeout(this.#later);
    clearInterval(this.#ping);
    this.#forget();
    this.#want(why);
  }

  #want(what) {
    if (this.#lost) return;
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
  #storage;
  #most;
  #byNumber = new Map();
  /** What was told to readers before. */
  #told = Promise.resolve();

  /** `most` bytes may be held for streams that do not read. */
  constructor(storage, most) {
    this.#storage = storage;
    this.#most = most;
  }

  /**
   * Does something for readers once all that was written so far is durable, one after the other. What
   * sockets are sent, and whole answers, the platform holds back by itself.
   */
  #tell(action) {
    const written = this.#storage.sync();
    // Where storage fails, the object ends, and with it what it had open.
    this.#told = Promise.all([this.#told, written]).then(action).catch(() => {});
  }

  /**
   * Begins the answer to a reader that waits for a page, or to one that gets a stream: it ends at a
   * time, if there is one, holds so many bytes, and is pinged every so many seconds.
   */
  begin(number, streams, until, most, seconds) {
    // A comment, and the white space that may precede JSON.
    const ping = encoder.encode(streams ? ": ping\n\n" : " ");
    const reader = new Reader(until, most, seconds, ping);
    // How long a browser waits before it comes back; not all at once.
    const retry = Math.round(1000 + 4000 * Math.random());
    if (streams) reader.send(encoder.encode(`retry: ${retry}\n\n`));
    this.#byNumber.set(number, reader);
    const type = streams ? "text/event-stream" : "application/json";
    return new Response(reader.body, { headers: { "content-type": type, "cache-control": "no-store" } });
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
    // The numbers lie in the memory of the wasm instance, for as long as this call takes.
    const to = [...numbers];
    this.#tell(() => {
      to.forEach((number, at) => {
        const end = each === undefined ? "\n" : `id: ${each[at]}\n\n`;
        this.#byNumber.get(number)?.send(data, encoder.encode(end));
      });
      // What goes to many is one piece of memory; a page is its reader's own.
      if (to.length === 1) {
        this.#byNumber.get(to[0])?.own(data.byteLength);
        this.#makeRoom();
      }
    });
  }

  /** Breaks the fullest streams off, where they hold too much together. */
  #makeRoom() {
    const readers = [...this.#byNumber.values()];
    let held = readers.reduce((sum, reader) => sum + reader.held, 0);
    if (held <= this.#most) return;
    for (const reader of readers.toSorted((a, b) => b.held - a.held)) {
      held -= reader.held;
      reader.fail("too slow");
      if (held <= this.#most) return;
    }
  }

  /** Has a stream ask for another page once some time is over and all that it got is read. */
  lack(number, ms) {
    this.#tell(() => this.#byNumber.get(number)?.lack(ms));
  }

  /** Ends an answer, with its last words. */
  end(number, text) {
    this.#tell(() => {
      const reader = this.#byNumber.get(number);
      if (text) reader?.send(encoder.encode(text));
      reader?.end();
    });
  }
}
