// What the storm is played against with PEER=raw: an object in plain JavaScript that keeps events, sends each to
// whose it is, and answers cursors, with the wire's own messages. No check, no token, no rule.
import { DurableObject } from "cloudflare:workers";

export class SyncEngine extends DurableObject {
  #sql = this.ctx.storage.sql;
  #seq;

  constructor(ctx, env) {
    super(ctx, env);
    this.#sql.exec(`CREATE TABLE IF NOT EXISTS events (receiver TEXT NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL,
      data TEXT NOT NULL, PRIMARY KEY (receiver, seq)) WITHOUT ROWID`);
    this.#seq = this.#sql.exec("SELECT max(seq) AS seq FROM events").one().seq ?? 0;
  }

  async fetch(request) {
    const url = new URL(request.url);
    return url.pathname === "/broadcast" ? this.#publish(await request.json()) : this.#connect(url);
  }

  #connect(url) {
    const [client, server] = Object.values(new WebSocketPair());
    const claims = url.searchParams.get("token").split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { sub } = JSON.parse(atob(claims));
    this.ctx.acceptWebSocket(server, [sub]);
    server.serializeAttachment({ sub, isLive: false });
    return new Response(null, { status: 101, webSocket: client });
  }

  #publish({ channel, action, key, data }) {
    const seq = ++this.#seq;
    this.#sql.exec("INSERT INTO events VALUES (?, ?, ?, ?)", data.for, seq, key, JSON.stringify(data));
    const text = JSON.stringify({ type: "change", channel, action, key, data, by: null, at: Date.now(), cursor: `raw.${seq}` });
    let receivers = 0;
    for (const socket of this.ctx.getWebSockets(data.for)) {
      if (!socket.deserializeAttachment().isLive) continue;
      socket.send(text);
      receivers += 1;
    }
    return Response.json({ seq, receivers });
  }

  webSocketMessage(socket, text) {
    const message = JSON.parse(text);
    const requests = message.type === "hello" ? message.subscribe : [message];
    const pages = requests.map((request) => this.#page(socket, request));
    socket.send(JSON.stringify(message.type === "hello" ? [{ type: "welcome" }, ...pages] : pages));
  }

  #page(socket, { id, channel, cursor, limit }) {
    const { sub } = socket.deserializeAttachment();
    const after = Number(cursor?.split(".")[1] ?? 0);
    const rows = this.#sql.exec("SELECT * FROM events WHERE receiver = ? AND seq > ? ORDER BY seq LIMIT ?", sub, after, limit).toArray();
    const more = rows.length === limit;
    if (!more) socket.serializeAttachment({ sub, isLive: true });
    const data = rows.map(({ key, data }) => ({ id: key, ...JSON.parse(data) }));
    const seq = more ? rows.at(-1).seq : this.#seq;
    return { type: "snapshot", id, channel, mode: cursor ? "delta" : "full", data, deleted: [], cursor: `raw.${seq}`, view: "raw", more };
  }

  webSocketClose(socket) {
    socket.close(1000);
  }
}

export default {
  fetch(request, { SYNC_ENGINE }) {
    const url = new URL(request.url);
    const space = url.searchParams.get("space") ?? url.pathname.split("/").at(-1);
    return SYNC_ENGINE.get(SYNC_ENGINE.idFromName(space)).fetch(request);
  },
};
