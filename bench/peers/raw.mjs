// The platform's limit: a Durable Object in plain JavaScript that does the loop and nothing else. No check, no
// token, no rule; what it sends has the shape and size of Tidewire's frames.
import { DurableObject } from "cloudflare:workers";

export class Raw extends DurableObject {
  #sql = this.ctx.storage.sql;
  #seq;
  #written = 0;

  constructor(ctx, env) {
    super(ctx, env);
    this.#sql.exec(`CREATE TABLE IF NOT EXISTS rows (channel TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL,
      data TEXT, by TEXT, at INTEGER NOT NULL, PRIMARY KEY (channel, key)) WITHOUT ROWID`);
    this.#sql.exec("CREATE INDEX IF NOT EXISTS rows_by_seq ON rows (channel, seq)");
    this.#sql.exec(`CREATE TABLE IF NOT EXISTS outcomes (owner TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL,
      PRIMARY KEY (owner, id)) WITHOUT ROWID`);
    this.#sql.exec(`CREATE TABLE IF NOT EXISTS todos (channel TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL,
      n TEXT, title TEXT, done INTEGER, text TEXT, PRIMARY KEY (channel, id)) WITHOUT ROWID`);
    this.#sql.exec("CREATE INDEX IF NOT EXISTS todos_by_seq ON todos (channel, seq)");
    this.#seq = this.#sql.exec("SELECT max(seq) AS seq FROM rows").one().seq ?? 0;
  }

  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/connect":
        return this.#connect(url);
      case "/broadcast":
        return this.#broadcast(await request.json(), url.searchParams.has("log"));
      case "/broadcast-batch":
        return this.#batch(await request.json());
      case "/fill":
        return this.#fill(await request.json());
      case "/stats":
        return Response.json({ rowsWritten: this.#written });
      default:
        return new Response(null, { status: 404 });
    }
  }

  #connect(url) {
    const [client, server] = Object.values(new WebSocketPair());
    const by = url.searchParams.get("user");
    this.ctx.acceptWebSocket(server, url.searchParams.has("tag") ? [url.searchParams.get("tag")] : []);
    server.serializeAttachment({ by, isCareful: url.searchParams.has("careful") });
    return new Response(null, { status: 101, webSocket: client });
  }

  #broadcast({ channel, action, key, data, to }, isLogged) {
    const cursor = `raw.${++this.#seq}`;
    if (isLogged) this.#put(channel, key, this.#seq, data, null);
    const text = JSON.stringify({ type: "change", channel, action, key, data, by: null, at: Date.now(), cursor });
    return Response.json({ cursor, receivers: this.#send(text, to) });
  }

  #batch({ channel, changes }) {
    const at = Date.now();
    const list = changes.map(({ action, key, data }) => ({ action, key, data, by: null, at }));
    const cursor = `raw.${(this.#seq += changes.length)}`;
    return Response.json({
      cursor,
      receivers: this.#send(JSON.stringify({ type: "batch", channel, changes: list, cursor })),
    });
  }

  #send(text, to) {
    let receivers = 0;
    for (const socket of this.ctx.getWebSockets(...(to ?? []))) {
      socket.send(text);
      receivers += 1;
    }
    return receivers;
  }

  /** Rows for catch-up, with a column for each of their fields. */
  #fill({ channel, rows }) {
    for (const { id, n, title, done, text } of rows) {
      const [seq, values] = [++this.#seq, [n, title, done ? 1 : 0, text]];
      this.#sql.exec("INSERT INTO todos VALUES (?, ?, ?, ?, ?, ?, ?)", channel, id, seq, ...values);
    }
    return Response.json({ cursor: this.#seq });
  }

  webSocketMessage(socket, text) {
    const message = JSON.parse(text);
    switch (message.type) {
      case "mutate":
        return this.#mutate(socket, message);
      case "subscribe":
        return this.#page(socket, message);
    }
  }

  /** The three rows of a mutation: the row, its index entry, the outcome. */
  #mutate(socket, message) {
    const { by, isCareful } = socket.deserializeAttachment();
    const seq = ++this.#seq;
    if (isCareful) this.#look(by, message, () => this.#write(by, message, seq));
    else this.#write(by, message, seq);
    const { id, data } = message;
    socket.send(JSON.stringify({ type: "ack", id, data, cursor: `raw.${seq}`, replayed: false }));
  }

  #write(by, { id, channel, key, data }, seq) {
    const row = this.#put(channel, key, seq, data, by);
    const outcome = this.#sql.exec("INSERT INTO outcomes (owner, id, seq) VALUES (?, ?, ?)", by, id, seq);
    this.#written += row.rowsWritten + outcome.rowsWritten;
  }

  #put(channel, key, seq, data, by) {
    return this.#sql.exec(
      `INSERT INTO rows (channel, key, seq, data, by, at) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET seq = excluded.seq, data = excluded.data, by = excluded.by, at = excluded.at`,
      ...[channel, key, seq, JSON.stringify(data), by, Date.now()],
    );
  }

  /** What it takes to execute a mutation once and whole: looks for its outcome and its row, and writes both or none. */
  #look(by, { id, channel, key }, write) {
    const done = this.#sql.exec("SELECT seq FROM outcomes WHERE owner = ? AND id = ?", by, id).raw().next();
    if (!done.done) throw new Error("a mutation came twice");
    this.#sql.exec("SELECT seq, data, by, at FROM rows WHERE channel = ? AND key = ?", channel, key).raw().next();
    this.ctx.storage.transactionSync(write);
  }

  /** A page of rows after a seq, as the runtime gives them. */
  #page(socket, { id, channel, cursor, limit }) {
    const rows = this.#sql.exec(
      "SELECT id, n, title, done, text, seq FROM todos WHERE channel = ? AND seq > ? ORDER BY seq LIMIT ?",
      ...[channel, Number(cursor ?? 0), limit],
    );
    const list = rows.toArray();
    const data = JSON.stringify(list);
    const more = list.length === limit;
    socket.send(
      `{"type":"snapshot","id":"${id}","data":${data},"cursor":"${list.at(-1)?.seq ?? cursor}","more":${more}}`,
    );
  }

  webSocketClose(socket) {
    socket.close(1000);
  }
}

export default {
  fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/healthz") return new Response("ok");
    const space = url.searchParams.get("space") ?? "global";
    return env.RAW.get(env.RAW.idFromName(space)).fetch(request);
  },
};
