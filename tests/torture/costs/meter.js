// Counts, inside of a Worker, what the platform bills of its objects, and gives them a clock of their own.
//
// It wraps the Worker's object class and its handler and changes neither: what it reports is what the
// runtime has delivered, what SQLite's cursors say, and which alarms were asked for. The time that the
// object sees is told with each event; timers of a second and more, and alarms, happen when they are told to.

/** Timers that are shorter run by the real clock. */
const LONG_MS = 1_000;

const meter = {
  now: undefined,
  /** What is known of each object by name, and by its storage. */
  objects: new Map(),
  records: new WeakMap(),
  /** Whose event is or was the last. */
  current: undefined,
  /** Statements that are not booked yet. */
  cursors: [],
  timers: new Map(),
  /** Above those of the platform's own timers. */
  ids: 1e9,
};

const realNow = Date.now.bind(Date);
Date.now = () => meter.now ?? realNow();

for (const [set, clear, repeats] of [["setTimeout", "clearTimeout", false], ["setInterval", "clearInterval", true]]) {
  const [realSet, realClear] = [globalThis[set], globalThis[clear]];
  globalThis[set] = (call, ms = 0, ...args) => {
    if (ms < LONG_MS || meter.now === undefined) return realSet(call, ms, ...args);
    const every = repeats ? ms : undefined;
    const timer = { object: meter.current, call: () => call(...args), due: meter.now + ms, every };
    meter.timers.set((meter.ids += 1), timer);
    return meter.ids;
  };
  globalThis[clear] = (id) => meter.timers.delete(id) || realClear(id);
}

function recordOf(ctx) {
  const name = ctx.id.name;
  if (!meter.objects.has(name)) meter.objects.set(name, { name, kinds: {}, alarm: null, alarmsSet: 0, bytes: 0 });
  const record = meter.objects.get(name);
  meter.records.set(ctx.storage, record);
  return record;
}

let isPatched = false;
function patch({ storage }) {
  if (isPatched) return;
  isPatched = true;
  const sql = Object.getPrototypeOf(storage.sql);
  const { exec } = sql;
  sql.exec = function (...args) {
    const cursor = exec.apply(this, args);
    meter.cursors.push(cursor);
    return cursor;
  };
  const alarms = Object.getPrototypeOf(storage);
  const record = (storage) => {
    const found = meter.records.get(storage);
    if (!found) throw new Error("a storage that the meter does not know");
    return found;
  };
  alarms.getAlarm = async function () {
    return record(this).alarm;
  };
  alarms.setAlarm = async function (at) {
    Object.assign(record(this), { alarm: Number(at), alarmsSet: record(this).alarmsSet + 1 });
  };
  alarms.deleteAlarm = async function () {
    record(this).alarm = null;
  };
}

/** Adds what has happened to a kind of event. */
function add(record, kind, count, ms) {
  const sums = (record.kinds[kind] ??= { count: 0, ms: 0, read: 0, written: 0 });
  sums.count += count;
  sums.ms += ms;
  for (const { rowsRead, rowsWritten } of meter.cursors) {
    sums.read += rowsRead;
    sums.written += rowsWritten;
  }
  meter.cursors = [];
}

/** Runs an event's handler and books what it does. */
async function book(record, kind, handler) {
  if (meter.cursors.length > 0) add(meter.current ?? record, "later", 0, 0);
  meter.current = record;
  const began = performance.now();
  try {
    return await handler();
  } finally {
    add(record, kind, 1, performance.now() - began);
    record.bytes = record.ctx.storage.sql.databaseSize;
  }
}

/** A frame, or the reason of a close, is told the time before it: `time|text`. */
function told(text) {
  const at = text.indexOf("|");
  meter.now = Number(text.slice(0, at));
  return text.slice(at + 1);
}

/** The `type` that a frame begins with. */
const kindOf = (text) => /^\{"type":"(\w+)"/.exec(text)?.[1] ?? "?";

/** The class of an object, metered. Hibernatable sockets come to its handlers, others to listeners. */
export function metered(Base) {
  const records = new WeakMap();
  class Metered extends Base {
    constructor(ctx, env) {
      patch(ctx);
      const record = recordOf(ctx);
      if (meter.cursors.length > 0) add(meter.current ?? record, "later", 0, 0);
      meter.current = record;
      const began = performance.now();
      super(ctx, env);
      add(record, "wake", 1, performance.now() - began);
      record.ctx = ctx;
      records.set(this, record);
    }
  }
  const handlers = {
    fetch: (object, request) => {
      const { pathname } = new URL(request.url);
      const record = records.get(object);
      if (pathname === "/meter/alarm") {
        return book(record, "alarm", () => object.alarm()).then(() => new Response());
      }
      if (pathname === "/meter/timers") return rung(record);
      return book(record, pathname.slice(1), () => Base.prototype.fetch.call(object, request));
    },
    webSocketMessage: async (object, socket, text) => {
      const frame = told(text);
      const record = records.get(object);
      const handle = () => Base.prototype.webSocketMessage.call(object, socket, frame);
      await book(record, `frame ${kindOf(frame)}`, handle);
      await confirm(socket, record);
    },
    webSocketClose: (object, socket, code, reason, wasClean) => {
      const said = told(reason);
      const handle = () => Base.prototype.webSocketClose.call(object, socket, code, said, wasClean);
      return book(records.get(object), "close", handle);
    },
  };
  for (const [name, handler] of Object.entries(handlers)) {
    Metered.prototype[name] = async function (...args) {
      return handler(this, ...args);
    };
  }
  return Metered;
}

/** Turns of the microtask queue within which an object has moved its alarm. */
const SETTLED = 32;

/** Tells whoever plays that a frame is done, and when the alarm is due. */
async function confirm(socket, record) {
  for (let turn = 0; turn < SETTLED; turn += 1) await null;
  try {
    socket.send(`booked ${record.alarm}`);
  } catch {
    // It was closed over the frame.
  }
}

/** Rings an object's timers that are due, in the object. */
async function rung(record) {
  const due = [...meter.timers].filter(([, { object, due }]) => object === record && due <= meter.now);
  for (const [id, timer] of due.sort(([, a], [, b]) => a.due - b.due)) {
    if (!meter.timers.has(id)) continue; // Called off by the one before.
    if (timer.every === undefined) meter.timers.delete(id);
    else timer.due += timer.every;
    await book(record, "timer", timer.call);
  }
  return new Response();
}

// Sockets of an object that does not hibernate.
const listen = EventTarget.prototype.addEventListener;
WebSocket.prototype.addEventListener = function (type, listener, ...rest) {
  const record = meter.current;
  const heard = async (event) => {
    const data = told(type === "message" ? event.data : event.reason);
    const kind = type === "message" ? `frame ${kindOf(data)}` : type;
    await book(record, kind, () => listener.call(this, { data, code: event.code, reason: data }));
    if (type === "message") await confirm(this, record);
  };
  return listen.call(this, type, type === "error" ? listener : heard, ...rest);
};

/** What was counted; `begin` counts anew from here. */
function report(begin) {
  const objects = [...meter.objects.values()].map(({ ctx, ...record }) => structuredClone(record));
  if (begin) for (const record of meter.objects.values()) Object.assign(record, { kinds: {}, alarmsSet: 0 });
  return Response.json({ objects });
}

/**
 * A Worker's handler, told the time by a header, with what the meter itself is asked beside it:
 * `/meter/report`, and of one object `/meter/time`, `/meter/alarm` and `/meter/timers`. `binding` is the
 * objects' namespace.
 */
export function toldTime(request, env, binding, handle) {
  const time = request.headers.get("x-meter-now");
  if (time !== null) meter.now = Number(time);
  const url = new URL(request.url);
  if (!url.pathname.startsWith("/meter/")) return handle();
  if (url.pathname === "/meter/report") return report(url.searchParams.has("begin"));
  const name = url.searchParams.get("object");
  const record = meter.objects.get(name);
  // When the alarm is due. The object itself is not asked: that would wake it.
  if (url.pathname === "/meter/time") return Response.json({ alarm: record?.alarm ?? null });
  // The platform forgets an alarm before it rings.
  if (url.pathname === "/meter/alarm") record.alarm = null;
  return env[binding].getByName(name).fetch(request);
}
