// A Worker of your own: the app's routes, its queue, and its outbox.
import { drainOutbox, intoOutbox, queueConsumer, TidewireError, type QueuedChange } from "tidewire/server";
import { all, fromElsewhere, life, order, type Order } from "./publish.ts";
import type { Rows, Todo } from "./rows.ts";
import * as sync from "./routes/api/sync/[...space]/+server.ts";

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/api/sync" || pathname.startsWith("/api/sync/")) {
      const route = request.method === "POST" ? sync.POST : sync.GET;
      return route({ request, platform: { env } });
    }
    if (request.method !== "POST") return new Response("not found", { status: 404 });
    try {
      return await posted(pathname, request, env);
    } catch (error) {
      if (!(error instanceof TidewireError)) throw error;
      console.error(`${pathname}: ${error.message}`);
      return new Response(error.message, { status: error.retryable ? 503 : 500 });
    }
  },

  queue: queueConsumer(),

  async scheduled(_controller, env) {
    await drainOutbox({ db: env.DB, platform: { env } });
  },
} satisfies ExportedHandler<Env>;

async function posted(path: string, request: Request, env: Env): Promise<Response> {
  switch (path) {
    case "/order":
      return new Response((await order(env, await request.json<Order>())).cursor);
    case "/life":
      await life(env, await request.json<Todo>());
      return new Response("over");
    case "/all":
      return Response.json(await all(env, await request.json<Todo[]>()));
    case "/elsewhere": {
      const { url, key, todo } = await request.json<{ url: string; key: string; todo: Todo }>();
      return new Response(await fromElsewhere(url, key, todo));
    }
    case "/later":
      await later(env, await request.json<Todo>());
      return new Response("queued");
    case "/kept":
      await keep(env, await request.json<Todo>());
      return new Response("kept");
    default:
      return new Response("not found", { status: 404 });
  }
}

/** Publishes when the queue gets to it: whatever becomes of this request, or of the sync Worker now. */
async function later(env: Env, todo: Todo): Promise<void> {
  const change: QueuedChange<Rows> = { channel: "todos", action: "create", key: todo.id, data: todo };
  await env.CHANGES.send(change);
}

/** Keeps a todo in the app's own table and says so, both or neither. */
async function keep(env: Env, todo: Todo): Promise<void> {
  const change: QueuedChange<Rows> = { channel: "todos", action: "create", key: todo.id, data: todo };
  await env.DB.batch([
    env.DB.prepare("INSERT INTO todos (id, title) VALUES (?, ?)").bind(todo.id, todo.title),
    intoOutbox(env.DB, change),
  ]);
}
