// The JavaScript that wasm cannot do without, or only slowly: one crossing instead of many.

// Every step of a future in wasm is a microtask, and the platform's own way to queue one costs more than
// most steps. What a task throws is still an error of nobody's: `giveUp` hears of it.
const settled = Promise.resolve();
globalThis.queueMicrotask = (task) => {
  settled.then(() => {
    try {
      task();
    } catch (error) {
      reportError(error);
    }
  });
};

const encoder = new TextEncoder();
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What a statement without rows has. */
const NONE = [0, 0, 1];

/** Texts of this length are enough to cross at once: those of many long rows would not fit in wasm. */
const CHUNK_LENGTH = 64 * 1024;

/** Adds the values of a row, see `more`; its texts. */
function pack(row, values) {
  let texts = "";
  for (const value of row) {
    if (typeof value === "string") {
      texts += value;
      values.push(-1 - value.length);
    } else {
      values.push(value ?? NaN);
    }
  }
  return texts;
}

/** The SQLite database of an object. Statements with rows are read in chunks. */
export class Database {
  #storage;
  #cursor;
  #rows;
  #texts = "";
  #isRead = false;
  #written = 0;
  // By number: the text of a statement, whether it only reads, and whether it has rows, once it has run.
  #statements = [];
  // When the alarm rings: a promise of a time or null, once it was asked for.
  #alarm;

  constructor(storage) {
    this.#storage = storage;
  }

  /** Names a statement by a number from 0 on: its text crosses once. */
  prepare(text) {
    return this.#statements.push({ text, isRead: /^\s*SELECT\b/i.test(text), hasRows: undefined }) - 1;
  }

  /**
   * Runs a statement; its first `most` rows, packed, see `more`. All its texts come as one, in order, with
   * a number for each parameter: itself, where it is a number; below 0, -1 less the length of a text; NaN,
   * null.
   */
  exec(number, texts, numbers, most) {
    return this.#run(number, texts, numbers) ? this.more(most) : NONE;
  }

  /** Runs a statement that has few rows; the first of them. To read all at once costs less than one by one. */
  first(number, texts, numbers) {
    if (!this.#run(number, texts, numbers)) return NONE;
    const [row] = this.#rows.toArray();
    this.#count();
    const values = [row === undefined ? 0 : 1, 0, 1];
    this.#texts = row === undefined ? "" : pack(row, values);
    values[1] = this.#texts.length;
    return values;
  }

  /** Begins a statement: whether it has rows. */
  #run(number, texts, numbers) {
    const statement = this.#statements[number];
    const params = [];
    let begin = 0;
    for (const number of numbers) {
      if (number >= 0) {
        params.push(number);
      } else if (number < 0) {
        const end = begin - number - 1;
        params.push(texts.slice(begin, end));
        begin = end;
      } else {
        params.push(null);
      }
    }
    this.#cursor = this.#storage.sql.exec(statement.text, ...params);
    statement.hasRows ??= this.#cursor.columnNames.length > 0;
    this.#isRead = statement.isRead;
    if (statement.hasRows) this.#rows = this.#cursor.raw();
    else this.#count();
    return statement.hasRows;
  }

  /** Counts what the last statement has written, at its end. To ask costs as much as the statement. */
  #count() {
    if (!this.#isRead) this.#written += this.#cursor.rowsWritten;
  }

  /**
   * The next rows of the last statement, `most` of them, or fewer where they are long. First their number,
   * the length of all their texts, which `texts` hands out, and whether (1) they are the last; then their
   * values like parameters, row by row.
   */
  more(most) {
    const values = [0, 0, 0];
    let texts = "";
    let count = 0;
    for (; count < most && texts.length < CHUNK_LENGTH; count += 1) {
      const next = this.#rows.next();
      if (next.done) {
        this.#count();
        values[2] = 1;
        break;
      }
      texts += pack(next.value, values);
    }
    values[0] = count;
    values[1] = texts.length;
    this.#texts = texts;
    return values;
  }

  /** Writes the texts of the last rows as UTF-8; how many bytes, or nothing where there is no room. */
  texts(into) {
    const { read, written } = encoder.encodeInto(this.#texts, into);
    return read === this.#texts.length ? written : undefined;
  }

  /** Rows written by all statements that were read to their end. */
  get written() {
    return this.#written;
  }

  /** Bytes that the database takes. */
  get size() {
    return this.#storage.sql.databaseSize;
  }

  /** Runs `body` in a transaction that a throw rolls back. */
  transaction(body) {
    this.#storage.transactionSync(body);
  }

  /** Sees to it that the alarm rings at `at` or before; one that is set earlier stays. */
  ringBy(at) {
    this.#alarm ??= this.#storage.getAlarm();
    this.#moveAlarm(async (set) => {
      if (set !== null && set <= at) return set;
      await this.#storage.setAlarm(at);
      return at;
    });
  }

  /**
   * Has the storage restored when the object is next made: to a bookmark, or to a time. The bookmark
   * that it will be, and the one that takes it back.
   */
  async restore(at, bookmark) {
    const to = bookmark ?? (await this.#storage.getBookmarkForTime(at));
    return [to, await this.#storage.onNextSessionRestoreBookmark(to)];
  }

  /** The alarm rang: it is set no more. Sets it for `next`, if that is given. */
  rang(next) {
    this.#alarm ??= Promise.resolve();
    this.#moveAlarm(async () => {
      if (next === undefined) return null;
      await this.#storage.setAlarm(next);
      return next;
    });
  }

  /** One move after the other. After a failure nothing is known of the alarm: ask again. */
  #moveAlarm(move) {
    this.#alarm = this.#alarm.then(move).catch((error) => {
      console.error("the alarm could not be set:", error);
      return this.#storage.getAlarm().catch(() => null);
    });
  }
}

// What outlives a reset of the wasm instance, by the names of objects: the sockets of the one that is in the
// middle of a turn, and who keeps frames which they have not handled yet.
const turning = new Map();
const keeping = new Set();

// Requests that this Worker has not answered yet, or not to the end.
const unanswered = new Set();

/** Why a request fails with its wasm instance. `entry.js` has the next one answer it. */
const LOST = "the wasm instance is no more";

// How many wasm instances are no more.
let instances = 0;

/** Gives up what waits in a wasm instance that is no more. */
export function giveUp() {
  instances += 1;
  for (const answer of unanswered) answer();
  unanswered.clear();
}

/** Calls `lose` when the wasm instance is no more; returns what calls that off. */
export function whenGivenUp(lose) {
  unanswered.add(lose);
  return () => unanswered.delete(lose);
}

// An error of nobody's. If it is a panic, the requests of all spaces in this isolate die with it, not only the one
// that caused it. A turn is synchronous: one that has not ended is that of the object whose event this is.
addEventListener("error", ({ error }) => {
  if (error instanceof WebAssembly.RuntimeError) giveUp();
  for (const sockets of turning.values()) attempt(() => sockets.giveUp());
});

/** Passes an answer on, or fails in place of an instance that can no longer give it. */
export async function answered(answer) {
  let lose;
  const lost = new Promise((_, reject) => (lose = () => reject(new Error(LOST))));
  const forget = whenGivenUp(lose);
  try {
    return await Promise.race([answer, lost]);
  } finally {
    forget();
  }
}

/** The close code of a restart: reconnect and resume. */
const RESTART = 4000;

/** When the alarm rings again if its work did not end. */
const ALARM_AGAIN_MS = 60_000;

/** The hibernatable sockets of an object by number. */
export class Sockets {
  #state;
  #name;
  #byNumber = new Map();
  #numbers = new Map();

  constructor(state) {
    this.#state = state;
    this.#name = state.id.toString();
    state.setWebSocketAutoResponse(
      new WebSocketRequestResponsePair('{"type":"ping"}', "pong"),
    );
  }

  /** All open sockets, for waking. */
  open() {
    return this.#state.getWebSockets();
  }

  /** Takes a new socket in, so that it outlives sleep. */
  accept(number, socket) {
    this.#state.acceptWebSocket(socket);
    this.insert(number, socket);
  }

  insert(number, socket) {
    this.#byNumber.set(number, socket);
    this.#numbers.set(socket, number);
  }

  /** The number of a socket, or undefined. */
  number(socket) {
    return this.#numbers.get(socket);
  }

  remove(number) {
    const socket = this.#byNumber.get(number);
    this.#byNumber.delete(number);
    this.#numbers.delete(socket);
    return socket;
  }

  save(number, attachment) {
    this.#byNumber.get(number)?.serializeAttachment(attachment);
  }

  /** Sends one string to many sockets. A socket that is closing hears nothing more. */
  send(numbers, text) {
    for (const number of numbers) {
      try {
        this.#byNumber.get(number)?.send(text);
      } catch {
        // send() after close() throws; its close event is on the way.
      }
    }
  }

  close(number, code, reason) {
    const socket = this.remove(number);
    if (socket) closeSocket(socket, code, reason);
  }

  /**
   * Marks the object as being in a turn. A turn is synchronous, so whoever finds the mark outside
   * of one knows that the wasm instance was reset in its midst: some sockets may have missed what
   * it committed. All are closed at once and resume from their cursors.
   */
  begin() {
    turning.set(this.#name, this);
  }

  /**
   * Closes all sockets, which resume, and ends the object as soon as what it wrote is durable: whoever waits
   * for an answer would wait in vain, and is told at once. The next object finds it made anew. Where an
   * alarm's turn did not end, the alarm must ring again.
   */
  giveUp() {
    turning.delete(this.#name);
    keeping.delete(this.#name);
    for (const socket of this.open()) closeSocket(socket, RESTART, "restart");
    const { storage } = this.#state;
    const again = async () => (await storage.getAlarm()) ?? storage.setAlarm(Date.now() + ALARM_AGAIN_MS);
    const written = again().catch(() => {}).then(() => storage.sync());
    // Once the sockets have been looked at, the close frames are out as well.
    written.catch(() => {}).then(() => sleep(0)).then(() => this.#state.abort("restart"));
  }

  /** Ends the object, which the next question makes anew. Whoever asks for it gets no answer. */
  async restart() {
    await this.#state.storage.sync();
    this.#state.abort("restore");
    await new Promise(() => {});
  }

  end() {
    turning.delete(this.#name);
  }

  /** Says that the object keeps frames which it has not handled, or no more. */
  keeps(waiting) {
    if (waiting) keeping.add(this.#name);
    else keeping.delete(this.#name);
  }

  /**
   * Ends when the runtime has looked at its sockets, and whatever has come has been handed over. Should the
   * wasm instance be reset meanwhile, those whose frames it kept must not wait in vain.
   */
  looked() {
    const now = instances;
    return new Promise((resolve) => {
      setTimeout(() => {
        if (now === instances) resolve();
        else if (keeping.has(this.#name)) this.giveUp();
      }, 0);
    });
  }

  /** Whether a reset interrupted a turn of this object, or took frames that it kept. */
  wasInterrupted() {
    const hasLost = keeping.delete(this.#name);
    return turning.delete(this.#name) || hasLost;
  }
}

/** A socket's attachment; undefined where it has none. */
export function attachment(socket) {
  const attachment = socket.deserializeAttachment();
  return attachment instanceof Uint8Array ? attachment : undefined;
}

/** Closes a socket for good: without its attachment it is not taken back in on waking. */
export function closeSocket(socket, code, reason) {
  attempt(() => socket.serializeAttachment(null));
  // A peer may have sent a code that only peers may send.
  attempt(() => socket.close(code, reason)) || attempt(() => socket.close(1000, reason));
}

function attempt(action) {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

/** A setting as text; JSON settings as JSON text; undefined where it is not set. */
export function setting(env, name) {
  const value = env[name];
  return typeof value === "object" && value !== null ? JSON.stringify(value) : value?.toString();
}

/**
 * What a peer sends, as text: null where it is longer than `limit` bytes, undefined where it is no UTF-8, false
 * where it has not come within `ms`. Room is made for up to `short` bytes before they have come.
 *
 * A peer that still sends when the connection closes may never see the answer. So a body is read
 * to its end, unless it is longer by far.
 */
export function uploaded(request, limit, short, ms) {
  const length = Number(request.headers.get("content-length") ?? Infinity);
  // What is said to be short is read at once, for a fraction of what reading piece by piece costs.
  const text = length <= short ? shortText(request.body, length) : textOf(request, limit, 2 * limit);
  // Reading ends with the request, and that with its answer.
  return within(text, ms, true).catch(() => false);
}

/** A body of so many bytes as text. A Worker that asks over a binding can say what it likes of its length. */
async function shortText(body, length) {
  if (body === null) return "";
  const most = length + 1;
  try {
    const { value } = await body.getReader({ mode: "byob" }).readAtLeast(most, new Uint8Array(most));
    return value?.byteLength === length ? utf8.decode(value) : undefined;
  } catch {
    return undefined; // It is no UTF-8, or the peer has gone.
  }
}

/**
 * The body of a request that the router has made, as bytes: null where it is longer than `limit`, undefined where
 * it breaks off. Here the length is what the runtime knows: a body that was passed on under a false one has none.
 */
export async function bodyBytes(request, limit) {
  if (!(Number(request.headers.get("content-length") ?? Infinity) <= limit)) {
    const text = await textOf(request, limit, 2 * limit);
    return typeof text === "string" ? encoder.encode(text) : text;
  }
  try {
    return new Uint8Array(await request.arrayBuffer());
  } catch {
    return undefined; // The peer has gone.
  }
}

/** The same as text; undefined also where it is no UTF-8. */
export async function bodyText(request, limit) {
  const bytes = await bodyBytes(request, limit);
  try {
    return bytes && utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * What `answer` makes of a body when it has come. What it throws is an error of nobody's, see `giveUp`, and fails
 * who has called; so does a reset of the wasm instance while the body comes.
 */
export async function withBody(coming, answer) {
  const now = instances;
  const body = await coming;
  if (now !== instances) throw new Error(LOST);
  let answered;
  try {
    answered = answer(body);
  } catch (error) {
    reportError(error);
    throw error;
  }
  return answered;
}

/** Bytes of a body that are read at once: the platform's own chunks are far shorter, and each costs as much. */
const PIECE_BYTES = 64 * 1024;

/** A body in pieces, each of which is gone when the next is asked for. */
async function* piecesOf(body) {
  const reader = body?.getReader({ mode: "byob" });
  let buffer = new ArrayBuffer(PIECE_BYTES);
  try {
    while (reader) {
      const { done, value } = await reader.readAtLeast(PIECE_BYTES, new Uint8Array(buffer));
      if (done) return;
      yield value;
      buffer = value.buffer;
    }
  } finally {
    await reader?.cancel();
  }
}

/**
 * The body of a request or response as text, read up to `most` bytes: null where it is longer than `limit`,
 * undefined where it is no UTF-8. No more is held than has come, and a piece.
 */
async function textOf(request, limit, most) {
  if (Number(request.headers.get("content-length")) > most) return null;
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  let bytes = 0;
  const append = (piece) => {
    try {
      text += decoder.decode(piece, { stream: piece !== undefined });
    } catch {
      text = undefined;
    }
  };
  try {
    for await (const piece of piecesOf(request.body)) {
      bytes += piece.byteLength;
      if (bytes > most) return null;
      if (bytes <= limit && text !== undefined) append(piece);
    }
  } catch {
    return undefined; // The peer has gone.
  }
  if (bytes > limit) return null;
  if (text !== undefined) append();
  return text;
}

/** A request for another Worker: `strip` is never passed on, `set` always. */
export function forwarded(request, url, strip, set) {
  const out = new Request(url, request);
  for (const name of strip) out.headers.delete(name);
  for (const [name, value] of set) out.headers.set(name, value);
  return out;
}

/**
 * Status and text of an answer: text null where it is longer than `most` bytes. All of it must have
 * come within `ms`. A redirect is an answer: it is not followed.
 */
export async function ask(fetcher, request, ms, most) {
  // Not `AbortSignal.timeout`: its timer runs on, and keeps an object awake, when all is answered.
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error(`no answer within ${ms} ms`)), ms);
  try {
    const question = new Request(request, { redirect: "manual", signal: late.signal });
    const response = await (fetcher ? fetcher.fetch(question) : fetch(question));
    return [response.status, await textOf(response, most, most)];
  } finally {
    clearTimeout(timer);
    // What is too long is not read: its connection would stay open for it.
    late.abort();
  }
}

/**
 * Runs statements, given as JSON, in one transaction of a D1 database. The rows of each, as JSON:
 * each row a list of its values.
 */
export async function batch(database, statements) {
  const prepare = ([sql, params]) => database.prepare(sql).bind(...params);
  const answers = await database.batch(JSON.parse(statements).map(prepare));
  return JSON.stringify(answers.map(({ results }) => results.map((row) => Object.values(row))));
}

const HASHED = { "RSASSA-PKCS1-v1_5": "SHA-256", ECDSA: "SHA-256" };

/** Whether the key, a public JWK, made the signature of the text. */
export async function verify(name, jwk, signature, signed) {
  const algorithm = { name, hash: HASHED[name], namedCurve: "P-256" };
  const key = await crypto.subtle.importKey("jwk", JSON.parse(jwk), algorithm, false, ["verify"]);
  return crypto.subtle.verify(algorithm, key, signature, new TextEncoder().encode(signed));
}

/** The dataset of Analytics Engine; undefined where it is not bound. */
export function dataset(env) {
  return env.SYNC_ANALYTICS;
}

/** Writes a data point. What is measured must not fail over it. */
export function writePoint(dataset, index, blobs, doubles) {
  try {
    dataset.writeDataPoint({ indexes: [index], blobs, doubles: [...doubles] });
  } catch (error) {
    console.error("SYNC_ANALYTICS:", error);
  }
}

/** An URL, by the platform's own reader: one in wasm would be a tenth of what is deployed. */
export class Address {
  #url;

  constructor(text) {
    this.#url = new URL(text);
  }

  get text() {
    return this.#url.href;
  }

  get origin() {
    return this.#url.origin;
  }

  get path() {
    return this.#url.pathname;
  }

  /** The query with its question mark, or nothing. */
  get search() {
    return this.#url.search;
  }

  get isHttp() {
    return /^https?:$/.test(this.#url.protocol);
  }

  /** The first value of a parameter. */
  query(name) {
    return this.#url.searchParams.get(name) ?? undefined;
  }

  /** Another place of the same host. */
  at(path, search) {
    const to = new Address(this.#url);
    [to.#url.pathname, to.#url.search, to.#url.hash] = [path, search, ""];
    return to;
  }

  /** Adds a parameter; what is there stays as it is written. */
  add(name, value) {
    const search = this.#url.search;
    this.#url.search = `${search}${search === "" ? "?" : "&"}${new URLSearchParams([[name, value]])}`;
  }
}

/** A time that can be called off: what runs on keeps an object awake. */
export class Timer {
  #id;
  #over;

  constructor(ms) {
    this.#over = new Promise((resolve) => (this.#id = setTimeout(resolve, ms)));
  }

  over() {
    return this.#over;
  }

  cancel() {
    clearTimeout(this.#id);
  }
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * What comes of a promise, if it comes within `ms`. The timer may be left to end with the request that waits: to
 * call it off costs as much as to set it.
 */
function within(promise, ms, isLeft = false) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no response within ${ms} ms`)), ms);
    const end = (settle) => (value) => {
      if (!isLeft) clearTimeout(timer);
      settle(value);
    };
    promise.then(end(resolve), end(reject));
  });
}

/** Fetches, but waits no longer than `ms` for the response to begin. */
export async function fetchWithin(fetcher, request, ms) {
  return within(fetcher ? fetcher.fetch(request) : fetch(request), ms);
}

/**
 * Asks the object of a space; with a body it is a POST. `head` is lines, which cross at once: the space, the
 * URL, names and values of headers by turns. It has so many milliseconds; `isPassedOn` says that its answer is that
 * to a request as well.
 */
export async function fetchObject(objects, head, body, ms, isPassedOn) {
  const [space, url, ...lines] = head.split("\n");
  const headers = {};
  for (let at = 0; at < lines.length; at += 2) headers[lines[at]] = lines[at + 1];
  const init = { method: body === undefined ? "GET" : "POST", headers, body };
  return within(objects.getByName(space).fetch(url, init), ms, isPassedOn);
}

/** Whether a body may name a space. Its name would be read where it stands; most have none. */
export function mentionsSpace(body) {
  return body.includes('"space"');
}

/**
 * What every request is asked for first, a line each: its method and URL, who asks, how long its body is said to be;
 * last an idempotency key, where it has one.
 */
export function headOf({ method, url, headers }) {
  const [who, length] = [headers.get("authorization") ?? "", headers.get("content-length") ?? ""];
  const key = headers.get("idempotency-key");
  return `${method} ${url}\n${who}\n${length}${key === null ? "" : `\n${key}`}`;
}

/** A header of a request; undefined where it has none of the name. */
export function header(request, name) {
  return request.headers.get(name) ?? undefined;
}

/** An answer with a body of text that nobody keeps. */
export function response(status, body, retryAfter, kind = "application/json") {
  const headers = { "content-type": kind, "cache-control": "no-store" };
  if (retryAfter !== undefined) headers["retry-after"] = `${retryAfter}`;
  return new Response(body, { status, headers });
}

/** How often a question to an object is asked that did not answer. Each pause is longer. */
const ATTEMPTS = 4;
const PAUSE_MS = 250;

/** How long an object may take for one page or piece. */
const TURN_MS = 30_000;

/** Asks an object until it answers. It must not matter whether it has heard the question before. */
async function persistently(objects, space, request) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await fetchWithin(objects.getByName(space), request(), TURN_MS);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await sleep(attempt * PAUSE_MS);
    }
  }
}

/**
 * A space as a stream: its pages, each asked for when the one before has been read. The first line
 * of each, which the next is asked for with, is taken off; it is empty in the last. A refusal of
 * the first page is the answer; whoever reads on from a page that does not come finds no end.
 */
export async function exported(objects, space, url, headers) {
  const ask = (after) =>
    persistently(objects, space, () => new Request(url, { method: "POST", headers, body: after }));
  const taken = async (response) => {
    const bytes = new Uint8Array(await response.arrayBuffer());
    const end = bytes.indexOf(10);
    return [bytes.subarray(0, end), bytes.subarray(end + 1)];
  };
  const first = await ask("");
  if (first.status !== 200) return first;
  let [after, page] = await taken(first);
  const body = new ReadableStream({
    async pull(controller) {
      try {
        if (page === undefined) {
          const response = await ask(after);
          if (response.status !== 200) throw new Error(await response.text());
          [after, page] = await taken(response);
        }
      } catch (error) {
        console.error("an export broke off:", error);
        throw error;
      }
      controller.enqueue(page);
      page = undefined;
      if (after.length === 0) controller.close();
    },
  });
  const type = "application/x-ndjson; charset=utf-8";
  return new Response(body, { headers: { "content-type": type, "cache-control": "no-store" } });
}

/**
 * Hands a body to an object in pieces of whole lines of about `bytes`, one after the other; `line`
 * is the number of the first, and goes along under the name `lineHeader`. The answer to the last
 * piece, or to the first that was refused; the body is read to its end also then.
 */
export async function imported(objects, space, url, headers, lineHeader, request, line, bytes) {
  let refused;
  let answer;
  let held = [];
  let size = 0;
  const send = async (piece) => {
    const numbered = new Headers(headers);
    numbered.set(lineHeader, line);
    const ask = () => new Request(url, { method: "POST", headers: numbered, body: piece });
    answer = await persistently(objects, space, ask);
    if (answer.status !== 200) refused = answer;
    for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, at + 1)) line += 1;
  };
  for await (const chunk of request.body ?? []) {
    if (refused) continue;
    held.push(chunk);
    size += chunk.byteLength;
    if (size < bytes) continue;
    const all = joined(held, size);
    // A line that does not end is sent as it is, to be refused.
    const end = all.lastIndexOf(10) + 1 || (size > 2 * bytes ? size : 0);
    if (end > 0) await send(all.subarray(0, end));
    held = [all.slice(end)];
    size -= end;
  }
  if (!refused && (size > 0 || !answer)) await send(joined(held, size));
  return refused ?? answer;
}

function joined(chunks, size) {
  const all = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.byteLength;
  }
  return all;
}
