// Plays a day: each event at its place in the order, with its own time, at full speed.
//
// What time brings about is brought about here: sleep after ten seconds without an event, alarms, timers. One
// event is over before the next begins. A player counts what Workers are asked from outside, and for how long
// objects are held awake by what is open; the meter inside counts everything else.
import assert from "node:assert/strict";
import WebSocket from "ws";
import { within } from "../../workerd/harness.mjs";
import { keysOf, rowOf, usersOf } from "./day.mjs";

/** The runtime puts an object to sleep after so long without an event. */
const IDLE_MS = 10_000;

/** How long anything may take that should happen at once. */
export const patience = 20_000;

/** A socket whose every frame the meter confirms. */
export class Peer {
  static async open(url, headers) {
    const socket = new WebSocket(url, { headers });
    const peer = new Peer(socket);
    await within(patience, new Promise((resolve, reject) => {
      socket.once("open", resolve).once("error", reject);
      socket.once("unexpected-response", (_, { statusCode }) => reject(new Error(`an upgrade answered ${statusCode}`)));
    }), () => "no upgrade");
    return peer;
  }

  /** Frames that came, without those of the meter. */
  received = 0;
  /** When the object's alarm is due, as of the last frame. */
  alarm = null;
  /** The last cursor that came. */
  cursor = undefined;
  #pongs = 0;
  #waiting = () => {};
  #messages = [];
  #booked = 0;

  constructor(socket) {
    this.socket = socket;
    socket.on("message", (data) => {
      const text = data.toString();
      if (text.startsWith("booked ")) {
        this.#booked += 1;
        this.alarm = JSON.parse(text.slice(7));
      }
      else if (text === "pong" || text === '{"type":"pong"}') this.#pongs += 1;
      else {
        this.received += 1;
        const messages = [JSON.parse(text)].flat();
        this.cursor = messages.findLast(({ cursor }) => cursor)?.cursor ?? this.cursor;
        this.#messages.push(...messages);
      }
      this.#waiting();
    });
    this.closed = new Promise((resolve) => socket.on("close", (code) => {
      this.isClosed = true;
      this.#waiting();
      resolve(code);
    }));
  }

  #until(reached, what) {
    return within(patience, new Promise((resolve, reject) => {
      this.#waiting = () => {
        if (reached()) resolve();
        else if (this.isClosed) reject(new Error(`closed before ${what}`));
      };
      this.#waiting();
    }), () => `no ${what}`);
  }

  /** Sends a frame at a time: what came until the meter had booked it. */
  async send(at, message) {
    this.#messages = [];
    const before = this.#booked;
    this.socket.send(`${at}|${JSON.stringify(message)}`);
    await this.#until(() => this.#booked > before, `answer to a ${message.type}`);
    return this.#messages;
  }

  /** Sends heartbeats as they are, which must be answered. */
  async beat(count, frame) {
    const before = this.#pongs;
    for (let i = 0; i < count; i += 1) this.socket.send(frame);
    await this.#until(() => this.#pongs >= before + count, "pongs");
  }

  async close(at) {
    this.socket.close(1000, `${at}|`);
    return within(patience, this.closed, () => "no close");
  }
}

/** What both ways to play have in common. `spaces` is "one" for all teams, or "teams", one for each. */
export class Player {
  /** Asked of Workers from outside. */
  requests = 0;
  /** Frames and heartbeats that clients were sent, and have sent. */
  delivered = 0;
  beats = 0;
  sleeps = 0;
  /** Times for which objects were held awake by something that was open. */
  heldMs = 0;
  now = 0;
  #later = [];
  #objects = new Map();
  #ids = 0;

  constructor(stage, day, spaces, began) {
    Object.assign(this, { stage, day, spaces, began });
    this.users = usersOf(day);
  }

  object(team) {
    const name = this.spaces === "one" ? "app" : `team-${team}`;
    if (!this.#objects.has(name)) this.#objects.set(name, { name, last: undefined, open: 0, since: 0, held: 0 });
    return this.#objects.get(name);
  }

  id() {
    return `m${(this.#ids += 1)}`;
  }

  /** The object's clock at a time of the day. */
  clock(at) {
    return this.began + at;
  }

  /** Has something happen later; what is at the same time keeps its order. */
  later(at, run) {
    const index = this.#later.findLastIndex((event) => event.at <= at) + 1;
    const event = { at, run };
    this.#later.splice(index, 0, event);
    return () => {
      const index = this.#later.indexOf(event);
      if (index >= 0) this.#later.splice(index, 1);
    };
  }

  /** Something of an object is open and holds it awake, from now on until `closed`. */
  opened(object) {
    if (object.open === 0) object.since = this.now;
    object.open += 1;
  }

  closed(object) {
    object.open -= 1;
    if (object.open === 0) this.heldMs += this.now - object.since;
  }

  /** Before an event of an object: it sleeps if it could since the last. */
  async reach(object) {
    const idle = object.last === undefined ? 0 : this.now - object.last;
    object.last = this.now;
    if (this.hibernates && object.open === 0 && idle >= IDLE_MS) {
      this.sleeps += 1;
      // The constructor runs before the event that wakes the object tells the time.
      await Promise.all([this.sleep(object.name), this.meter(`time?object=${object.name}`)]);
    }
  }

  async request(url, init = {}) {
    this.requests += 1;
    return this.ask(url, init);
  }

  async ask(url, { headers, ...init } = {}) {
    const time = { "x-meter-now": String(this.clock(this.now)) };
    const response = await fetch(url, { ...init, headers: { ...headers, ...time } });
    if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
    return response;
  }

  /** Asks the meter. */
  async meter(path) {
    const response = await this.ask(`${this.meterUrl}/meter/${path}`);
    return response.headers.get("content-type")?.startsWith("application/json") ? response.json() : response.text();
  }

  /** Plays events, and what comes of them until `end`. */
  async play(events, end) {
    const progress = process.env.COSTS_PROGRESS ? events.length : 0;
    for (const [index, event] of events.entries()) {
      await this.until(event.at);
      this.now = event.at;
      await this[event.kind](event);
      if (progress && index % 5_000 === 0) console.error(`${index}/${progress}`);
    }
    await this.until(end);
    this.now = end;
  }

  async until(at) {
    while (this.#later[0]?.at <= at) {
      const { at: now, run } = this.#later.shift();
      assert.ok(now >= this.now, `something at ${now} is found at ${this.now}`);
      this.now = now;
      await run();
    }
  }

  /** What the meter has counted since the last time, with what is counted here. */
  async count() {
    const { objects } = await this.meter("report?begin");
    const { requests, delivered, beats, sleeps, heldMs } = this;
    Object.assign(this, { requests: 0, delivered: 0, beats: 0, sleeps: 0, heldMs: 0 });
    const kinds = {};
    for (const object of objects) {
      for (const [name, sums] of Object.entries(object.kinds)) {
        const all = (kinds[name] ??= { count: 0, ms: 0, read: 0, written: 0 });
        for (const field of Object.keys(all)) all[field] += sums[field];
      }
    }
    const sum = (field) => objects.reduce((sum, object) => sum + object[field], 0);
    const sorted = Object.fromEntries(Object.entries(kinds).sort(([a], [b]) => (a < b ? -1 : 1)));
    const [alarmsSet, bytes] = [sum("alarmsSet"), sum("bytes")];
    return { requests, delivered, beats, sleeps, heldMs, alarmsSet, bytes, kinds: sorted };
  }

  /** The rows that there are when the day begins. */
  async prepare(at, plays = () => true) {
    this.now = at;
    for (let team = 0; team < Math.ceil(this.day.users / this.day.teamSize); team += 1) {
      if (!plays(team)) continue;
      const changes = keysOf(this.day).map((key, i) => ({ action: "create", key, data: rowOf(this.day, key, i) }));
      await this.batch({ team, changes });
    }
  }
}
