// A Worker of your own: it answers the sync Worker for its rows, and passes its visitors' traffic on.
import { createPublisher, type SchemaOf } from "tidewire/server";
import type { handlers, Todo } from "./handlers.ts";
import * as sync from "./routes/api/sync/[...space]/+server.ts";
import * as hooks from "./routes/sync-hooks/[operation]/+server.ts";

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/sync-hooks/")) return hooks.POST(request, env, ctx);
    if (pathname === "/api/sync" || pathname.startsWith("/api/sync/")) {
      const route = request.method === "POST" ? sync.POST : sync.GET;
      return route({ request, platform: { env } });
    }
    if (pathname === "/finish" && request.method === "POST") return finish(env, await request.json<Todo["id"]>());
    return new Response("not found", { status: 404 });
  },

  async scheduled(_controller, env) {
    const old = Date.now() - 7 * 24 * 60 * 60 * 1_000;
    await env.DB.batch([
      env.DB.prepare("DELETE FROM mutations WHERE at < ?").bind(old),
      env.DB.prepare("DELETE FROM todos WHERE deleted = 1 AND updated < ?").bind(old),
      env.DB.prepare("DELETE FROM notes WHERE deleted = 1 AND updated < ?").bind(old),
    ]);
  },
} satisfies ExportedHandler<Env>;

/** A write of the app's own, past the sync Worker: it is told of it. */
async function finish(env: Env, id: string): Promise<Response> {
  const sql = `UPDATE todos SET done = 1, updated = ?
    WHERE space = 'global' AND channel = 'todos' AND id = ? AND deleted = 0 RETURNING id, title`;
  const todo = await env.DB.prepare(sql).bind(Date.now(), id).first<Omit<Todo, "done">>();
  if (todo === null) return new Response("no such todo", { status: 404 });
  // The whole row, as the database has it: the log may hold an older one, or none to merge fields into.
  const publish = createPublisher<SchemaOf<typeof handlers>>({ platform: { env } });
  return new Response((await publish("todos", "update", id, { ...todo, done: true })).cursor);
}
