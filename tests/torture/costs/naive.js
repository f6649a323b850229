// What one writes first: a Durable Object with ordinary sockets, to compare with.
//
// It keeps its sockets in memory, rows as JSON in a table, sends all of a team's rows to whoever connects and
// each change to everyone of the team, answers pings itself and tells every half minute who is there. It checks
// no tokens, remembers no mutations, and knows no cursors: whatever that would cost is not in its bill.
import { DurableObject } from "cloudflare:workers";

const PRESENCE_MS = 30_000;

export class Naive extends DurableObject {
  clients = new Map();

  constructor(ctx, env) {
    super(ctx, env);
    this.sql = ctx.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS rows (team TEXT, id TEXT, json TEXT, PRIMARY KEY (team, id))");
  }

  async fetch(request) {
    const url = new URL(request.url);
    const team = url.searchParams.get("team");
    if (url.pathname === "/connect") return this.connect(team, url.searchParams.get("user"));
    if (url.pathname === "/rows") return Response.json(this.rows(team));
    for (const change of await request.json()) this.apply(team, change);
    return Response.json({ ok: true });
  }

  connect(team, user) {
    const { 0: client, 1: server } = new WebSocketPair();
    server.accept();
    this.clients.set(server, { team, user });
    server.addEventListener("message", ({ data }) => this.message(server, JSON.parse(data)));
    server.addEventListener("close", () => this.leave(server));
    server.send(JSON.stringify({ type: "snapshot", rows: this.rows(team) }));
    this.broadcast(team, { type: "joined", user });
    this.timer ??= setInterval(() => this.tellPresence(), PRESENCE_MS);
    return new Response(null, { status: 101, webSocket: client });
  }

  message(socket, message) {
    const { team, user } = this.clients.get(socket);
    if (message.type === "ping") return socket.send(JSON.stringify({ type: "pong" }));
    if (message.type === "presence") return this.broadcast(team, { type: "presence", user, state: message.state });
    this.apply(team, message.change, socket);
    socket.send(JSON.stringify({ type: "ack", id: message.id }));
  }

  leave(socket) {
    const { team, user } = this.clients.get(socket);
    this.clients.delete(socket);
    socket.close();
    this.broadcast(team, { type: "left", user });
    // Without the timer the object can be put away when all have gone.
    if (this.clients.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  apply(team, { action, key, data }, except) {
    if (action === "delete") this.sql.exec("DELETE FROM rows WHERE team = ? AND id = ?", team, key);
    else {
      const sql = "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET json = excluded.json";
      this.sql.exec(sql, team, key, JSON.stringify(data));
    }
    this.broadcast(team, { type: "change", action, key, data }, except);
  }

  rows(team) {
    return this.sql.exec("SELECT json FROM rows WHERE team = ?", team).toArray().map(({ json }) => JSON.parse(json));
  }

  tellPresence() {
    const teams = Object.groupBy(this.clients.values(), ({ team }) => team);
    for (const [team, members] of Object.entries(teams)) {
      this.broadcast(team, { type: "present", users: members.map(({ user }) => user) });
    }
  }

  broadcast(team, message, except) {
    const text = JSON.stringify(message);
    for (const [socket, client] of this.clients) if (client.team === team && socket !== except) socket.send(text);
  }
}

/** `?object=` names the object. */
export default {
  fetch: (request, env) => env.NAIVE.getByName(new URL(request.url).searchParams.get("object")).fetch(request),
};
