// A test of an app, with a server in memory.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createSync } from "tidewire";
import { createTestServer } from "tidewire/testing";
import type { Rows } from "./rows.ts";

test("a todo that is refused is shown no more", async () => {
  const server = createTestServer({ channels: { todos: {} } });
  const sync = createSync<Rows>(server.client("alice"));
  const todos = sync.channel("todos");
  await todos.ready;

  server.reject({ code: "forbidden", message: "not yours" });
  const { confirmed } = todos.create({ id: "t1", title: "Buy milk", done: false });
  assert.equal(todos.rows.length, 1);
  await assert.rejects(confirmed, { code: "forbidden" });
  assert.equal(todos.rows.length, 0);

  server.accept();
  server.goOffline();
  todos.create({ id: "t2", title: "Call mum", done: false });
  server.goOnline();
  sync.connect();
  await sync.catchUp();
  await sync.close();
});
