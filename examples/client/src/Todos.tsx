// Todos in React: live rows, optimistic writes, and how it all stands.
import { createCollection, eq, useLiveQuery } from "@tanstack/react-db";
import type { Sync } from "tidewire";
import { useSyncStatus } from "tidewire/react";
import { tidewireCollectionOptions } from "tidewire/tanstack";
import type { Rows } from "./rows.ts";

export const todosOf = (sync: Sync<Rows>) => createCollection(tidewireCollectionOptions({ sync, channel: "todos" }));

export function Todos({ sync, todos }: { sync: Sync<Rows>; todos: ReturnType<typeof todosOf> }) {
  const status = useSyncStatus(sync);
  const { data } = useLiveQuery((query) =>
    query
      .from({ todo: todos })
      .where(({ todo }) => eq(todo.done, false))
      .orderBy(({ todo }) => todo.title),
  );
  const finish = (id: string) => todos.update(id, (todo) => void (todo.done = true));
  return (
    <section>
      <p>{status}</p>
      <ul>
        {data.map(({ id, title }) => (
          <li key={id} onClick={() => finish(id)}>
            {title}
          </li>
        ))}
      </ul>
    </section>
  );
}
