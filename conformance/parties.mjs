// Somebody who reads and writes, over each transport in its own way: what cases say once is mapped here.
import { Copy } from "./copy.mjs";
import { within } from "./target.mjs";

/** What all have in common: an identity in a space, and a copy of each channel that is read. */
class Party {
  copies = new Map();
  /** Messages of a channel that came by themselves and that nobody has asked for yet. */
  news = [];
  #looks = new Set();

  constructor({ target, space, nextId, parties: peers }, name, claims) {
    Object.assign(this, { target, space, name, nextId, peers });
    this.token = claims === null ? undefined : target.token({ space, ...claims });
  }

  get headers() {
    return this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
  }

  path(path, query = {}) {
    return `${path}?${new URLSearchParams({ space: this.space, ...query })}`;
  }

  copy(channel) {
    const copy = this.copies.get(channel) ?? new Copy();
    this.copies.set(channel, copy);
    return copy;
  }

  /** Something has come: who waits looks again. */
  wake() {
    for (const look of this.#looks) look();
  }

  /** Waits until `find` finds something. */
  async until(find, what) {
    let look;
    const found = new Promise((resolve, reject) => {
      look = () => {
        try {
          const result = find();
          if (result === undefined) return;
          // At once: what it took, it does not take again.
          this.#looks.delete(look);
          resolve(result);
        } catch (error) {
          reject(error);
        }
      };
      this.#looks.add(look);
      look();
    });
    return within(found, what, this.target.patience).finally(() => this.#looks.delete(look));
  }

  /** The messages of a channel that came by themselves. */
  heard(channel) {
    const mine = this.news.filter((message) => message.channel === channel);
    this.news = this.news.filter((message) => message.channel !== channel);
    return mine;
  }

  /** The next message of a channel that comes by itself. */
  told(channel) {
    const find = () => {
      const at = this.news.findIndex((message) => message.channel === channel);
      return at < 0 ? undefined : this.news.splice(at, 1)[0];
    };
    return this.until(find, () => `${this.name} waits for news of ${channel}`);
  }

  /** What no case should leave behind. */
  leftovers() {
    return [];
  }
}

/** What no case should leave behind. */
const ANSWERS = new Set(["ack", "reject", "error", "snapshot", "welcome", "authed", "wrong frame"]);

/** One WebSocket: everything on it comes in order. */
class OverWebSocket extends Party {
  inbox = [];
  live = new Set();
  code;
  #isGreeted = false;

  async upgrade({ path, headers = this.headers, protocols } = {}) {
    const own = this.space === "global" ? "/api/sync" : `/api/sync/${this.space}`;
    const listener = {
      frame: (text) => this.#frame(text),
      closed: (code) => {
        this.code = code;
        this.wake();
      },
    };
    this.code = undefined;
    this.#isGreeted = false;
    const answer = await this.target.upgrade(path ?? own, { headers, protocols, listener });
    if (answer.status === 101) this.connection = answer;
    return answer;
  }

  async open({ hello = {} }) {
    const { status, body } = await this.upgrade();
    if (status !== 101) throw new Error(`${this.name} was refused: ${status} ${JSON.stringify(body)}`);
    if (hello === false) return undefined;
    this.send({ type: "hello", v: 1, ...hello });
    return this.next(`a welcome for ${this.name}`, ({ type }) => type === "welcome");
  }

  #frame(text) {
    const frame = text === "pong" ? text : JSON.parse(text);
    const isWelcome = ({ type }) => type === "welcome";
    const isJoined = Array.isArray(frame);
    // An array is for who has said hello, and a welcome is never within one.
    const isWrong = isJoined && (!this.#isGreeted || frame.length === 0 || frame.some(isWelcome));
    if (isWrong) this.inbox.push({ type: "wrong frame", text });
    this.#isGreeted ||= !isJoined && isWelcome(frame);
    for (const message of isJoined ? frame : [frame]) {
      const { type, channel, more } = message;
      if (type === "snapshot" && !more) this.live.add(channel);
      if (type === "snapshot" && more) this.live.delete(channel);
      if (type === "snapshot" || this.live.has(channel)) this.copy(channel).take(message);
      // New eyes: what is live here was seen with them.
      if (type === "authed") for (const name of this.live) this.copy(name).view = message.view;
      this.inbox.push(message);
    }
    this.wake();
  }

  send(message) {
    const isRaw = typeof message === "string" || message instanceof Uint8Array;
    this.connection.send(isRaw ? message : JSON.stringify(message));
  }

  /** Takes the first message that passes. */
  next(what, passes = () => true) {
    const find = () => {
      const at = this.inbox.findIndex(passes);
      if (at >= 0) return this.inbox.splice(at, 1)[0];
      if (this.code !== undefined) throw new Error(`${this.name} waits for ${what}, and was closed with ${this.code}`);
      return undefined;
    };
    return this.until(find, () => `${this.name} waits for ${what}, ${this.#told}`);
  }

  get #told() {
    return `has ${JSON.stringify(this.inbox).slice(0, 500)}`;
  }

  closed() {
    return this.until(() => this.code, () => `${this.name} is not closed, ${this.#told}`);
  }

  subscribe(asked) {
    const id = this.nextId();
    this.send({ type: "subscribe", id, ...asked });
    return this.next(`the answer to a subscription of ${asked.channel}`, (message) => message.id === id);
  }

  unsubscribe(channel) {
    this.live.delete(channel);
    this.send({ type: "unsubscribe", channel });
  }

  async mutate(mutations) {
    const frame = mutations.map((mutation) => ({ type: "mutate", ...mutation }));
    this.send(frame.length === 1 ? frame[0] : frame);
    const answers = [];
    for (const { id, channel, action } of mutations) {
      const answer = await this.next(`the answer to ${id}`, (message) => message.id === id);
      answers.push(answer);
      const isNews = answer.type === "ack" && !answer.replayed && this.live.has(channel);
      if (isNews) this.copy(channel).wrote({ action, ...answer });
    }
    return answers;
  }

  /**
   * All that the server sent before now has come: it answers in order, and this is its answer. The question
   * is a mutation of a channel that is not there, because only a mutation's refusal names it to legacy clients.
   */
  async settle() {
    const id = this.nextId();
    this.send({ type: "mutate", id, channel: "conformance-nowhere", action: "delete", key: "k" });
    await this.next("the answer to a question", (message) => message.id === id);
  }

  heard(channel) {
    const isNews = (message) => message.channel === channel && /^(change|batch|channel-)/.test(message.type);
    const mine = this.inbox.filter(isNews);
    this.inbox = this.inbox.filter((message) => !isNews(message));
    return mine;
  }

  leftovers() {
    return this.inbox.filter(({ type }) => ANSWERS.has(type));
  }

  drop() {
    this.connection?.close();
    this.live.clear();
  }
}

/** What plain requests have in common. */
class OverHttp extends Party {
  /** The token that each channel was last asked for with, if any. */
  #tokens = new Map();

  async open() {}

  query({ channel, token: channelToken = this.#tokens.get(channel), ...more }) {
    this.#tokens.set(channel, channelToken);
    const given = Object.entries({ ...more, channelToken }).filter(([, value]) => value != null);
    return this.path("/api/sync/changes", { channel, ...Object.fromEntries(given) });
  }

  async page(asked, signal) {
    const { headers } = this;
    const { status, body } = await this.target.http("GET", this.query(asked), { headers, signal });
    if (status === 200 && !signal?.aborted) this.copy(asked.channel).take(body);
    return status === 200 ? body : this.refusal(asked.channel, status, body);
  }

  /** A refusal in the words of a socket. */
  refusal(channel, status, body) {
    if (status < 400 || body?.error === undefined) throw new Error(`${status} ${JSON.stringify(body)} is no refusal`);
    return { type: "reject", channel, error: body.error };
  }

  place(channel) {
    const { cursor, view } = this.copy(channel);
    return { channel, cursor, view };
  }

  async mutate(mutations) {
    const body = JSON.stringify({ mutations });
    const channelToken = this.#tokens.get(mutations[0].channel);
    const path = this.path("/api/sync/mutate", channelToken && { channelToken });
    const answer = await this.target.http("POST", path, { headers: this.headers, body });
    if (answer.status === 200) return answer.body.results;
    const refused = ({ id, channel }) => ({ id, ...this.refusal(channel, answer.status, answer.body) });
    return mutations.map(refused);
  }

  /** Asks until there is nothing more. */
  async settle(channel) {
    for (;;) {
      const page = await this.page(this.place(channel));
      if (page.type !== "snapshot") throw new Error(`${this.name} was refused: ${JSON.stringify(page)}`);
      if (!page.more) return;
    }
  }

  unsubscribe() {}

  drop() {}
}

class OverPages extends OverHttp {
  subscribe(asked) {
    return this.page(asked);
  }
}

/** Who is up to date waits for something new. */
class OverLongPoll extends OverHttp {
  #waits = new Map();

  async subscribe(asked) {
    this.unsubscribe(asked.channel);
    const page = await this.page(asked);
    if (page.type === "snapshot" && !page.more) this.#wait(asked.channel);
    return page;
  }

  #wait(channel) {
    const abort = new AbortController();
    // Briefly, because nothing but news has to end it.
    const ended = this.page({ ...this.place(channel), wait: 2 }, abort.signal);
    ended.catch(() => {});
    this.#waits.set(channel, { abort, ended });
  }

  /** What is held comes to its end by news, or by its time. */
  async settle(channel) {
    await this.#waits.get(channel)?.ended;
    await super.settle(channel);
    this.#wait(channel);
  }

  // An answer that was given up may never settle: nobody waits for it.
  unsubscribe(channel) {
    this.#waits.get(channel)?.abort.abort();
    this.#waits.delete(channel);
  }

  drop() {
    for (const { abort } of this.#waits.values()) abort.abort();
    this.#waits.clear();
  }
}

const isNotice = ({ type }) => type === "channel-change";

/** A stream for each channel. What came and was not asked for yet is not in the copy yet. */
class OverEvents extends OverHttp {
  #streams = new Map();
  #ids = new Map();
  #unread = new Set();
  /** How many notices were published of a channel while its stream was open, and how many have come. */
  #notices = new Map();

  async subscribe({ channel, cursor, view, ...asked }) {
    this.#streams.get(channel)?.abort();
    this.#notices.set(channel, { published: 0, come: 0 });
    const abort = new AbortController();
    this.#streams.set(channel, abort);
    // A place goes as browsers give it back where it is whole, else by the query.
    const isWhole = cursor != null && view != null;
    const last = isWhole ? { "last-event-id": `${cursor};${view}` } : {};
    const headers = { ...this.headers, accept: "text/event-stream", ...last };
    const query = this.query({ channel, ...(!isWhole && { cursor, view }), ...asked });
    const response = await this.target.stream("GET", query, { headers, signal: abort.signal });
    if (response.status !== 200) return this.refusal(channel, response.status, await response.json());
    this.news = this.news.filter((message) => message.channel !== channel);
    void this.#read(channel, response, abort);
    return this.told(channel);
  }

  async told(channel) {
    const message = await super.told(channel);
    this.#apply(message);
    return message;
  }

  #apply(message) {
    if (!this.#unread.delete(message)) return;
    this.copy(message.channel).take(message);
    this.#ids.set(message.channel, message.eventId);
  }

  async #read(channel, response, abort) {
    try {
      for await (const { id, data } of eventsOf(response.body)) {
        if (this.#streams.get(channel) !== abort) return;
        const message = JSON.parse(data);
        const news = { channel, ...message };
        Object.defineProperty(news, "eventId", { value: id });
        this.#unread.add(news);
        this.news.push(news);
        if (isNotice(news)) this.#notices.get(channel).come += 1;
        this.wake();
      }
    } catch (error) {
      if (!abort.signal.aborted) this.news.push({ channel, type: "broken", error: String(error) });
    }
    if (this.#streams.get(channel) === abort) this.#streams.delete(channel);
    this.wake();
  }

  /**
   * A notice to all who read the channel comes after all that was sent before; nobody keeps it as news. It is told from
   * those that a case publishes by its number alone.
   */
  async settle(channel) {
    const readers = [...this.peers.values()].filter((peer) => peer.reads?.(channel));
    const headers = { authorization: `Bearer ${this.target.publishKey}` };
    for (const reader of readers) reader.isToNotice(channel);
    await this.target.http("POST", this.path("/broadcast-change"), { headers, body: JSON.stringify({ channel }) });
    for (const reader of readers) {
      const hasNoticed = () => !reader.reads(channel) || reader.hasNoticed(channel) || undefined;
      await reader.until(hasNoticed, () => `${reader.name} waits for a notice of ${channel}`);
      const last = reader.news.findLast((message) => isNotice(message) && message.channel === channel);
      reader.news = reader.news.filter((message) => message !== last);
    }
    for (const message of this.news) if (message.channel === channel) this.#apply(message);
  }

  idOf(channel) {
    return this.#ids.get(channel);
  }

  reads(channel) {
    return this.#streams.has(channel);
  }

  /** A notice of a channel is published. */
  isToNotice(channel) {
    if (this.reads(channel)) this.#notices.get(channel).published += 1;
  }

  /** Whether all notices of a channel have come. */
  hasNoticed(channel) {
    const { published, come } = this.#notices.get(channel);
    return come >= published;
  }

  unsubscribe(channel) {
    this.#streams.get(channel)?.abort();
    this.#streams.delete(channel);
  }

  drop() {
    for (const abort of this.#streams.values()) abort.abort();
    this.#streams.clear();
  }
}

/** The events of a stream that have data, with their ids. */
export async function* eventsOf(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").map((line) => /^(\w*): ?(.*)$/.exec(line) ?? []);
      const data = lines.filter(([, name]) => name === "data").map(([, , value]) => value);
      const id = lines.find(([, name]) => name === "id")?.[2];
      if (data.length > 0) yield { id, data: data.join("\n") };
    }
  }
}

/** Transports by name; `http` is for cases that read over none. */
export const parties = {
  ws: OverWebSocket,
  sse: OverEvents,
  "long-poll": OverLongPoll,
  pages: OverPages,
  http: OverPages,
};
