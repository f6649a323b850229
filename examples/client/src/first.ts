// The first five minutes: see rows, write rows.
import { createSync } from "tidewire";
import type { Rows } from "./rows.ts";

export async function first(url: string, token: string): Promise<readonly string[]> {
  const sync = createSync<Rows>({ url, token });
  const todos = sync.channel("todos");

  todos.subscribe(({ rows }) => {
    console.log(rows.map(({ title }) => title).join(", "));
  });

  await todos.ready;
  todos.create({ id: "t1", title: "Buy milk", done: false });
  todos.update("t1", { done: true });

  await todos.create({ title: "Call mum", done: false }).confirmed;
  const titles = todos.rows.map(({ title }) => title);
  await sync.close();
  return titles;
}
