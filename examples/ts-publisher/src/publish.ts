// Publishing, in the ways that there are.
import { createBulkPublisher, createPublisher, TidewireError, type Published } from "tidewire/server";
import type { Note, Rows, Todo } from "./rows.ts";

export interface Order {
  id: string;
  owner: string;
  item: string;
}

/** Tells an order's owner, on every device. */
export function order(env: Env, { id, owner, item }: Order): Promise<Published> {
  const publish = createPublisher<Rows>({ platform: { env } });
  // `notes` is scoped by its field `ownerId`: only the owner sees this row.
  const note: Note = { id, ownerId: owner, text: item };
  // The key makes an order that is sent again one order.
  return publish("notes", "create", id, note, { idempotencyKey: id });
}

/** The life of a todo, in three publishes. */
export async function life(env: Env, todo: Todo): Promise<void> {
  const publish = createPublisher<Rows>({ platform: { env } });
  await publish("todos", "create", todo.id, todo);
  await publish("todos", "update", todo.id, { done: true });
  await publish("todos", "delete", todo.id);
}

/** Many todos at once: a receiver gets them in one frame, or none of them. */
export function all(env: Env, todos: Todo[]): Promise<Published[]> {
  const publishAll = createBulkPublisher<Rows>({ platform: { env } });
  const changes = todos.map((todo) => ({ action: "create", key: todo.id, data: todo }) as const);
  return publishAll("todos", changes);
}

/** Publishes from where there are no bindings, and says what became of it. */
export async function fromElsewhere(url: string, key: string, todo: Todo): Promise<string> {
  const publish = createPublisher<Rows>({ fallbackUrl: url, key });
  try {
    const { seq, receivers } = await publish("todos", "create", todo.id, todo);
    return `change ${seq}, sent to ${receivers}`;
  } catch (error) {
    if (!(error instanceof TidewireError)) throw error;
    return error.retryable ? `later: ${error.code}` : `never: ${error.code} ${error.field ?? ""}`;
  }
}
