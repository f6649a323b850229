// The channels whose rows this app keeps.
import { defineSync, type Page, type SyncContext } from "tidewire/server";
import { Table } from "./table.ts";

export interface Todo {
  id: string;
  title: string;
  done: boolean;
}

export interface Note {
  id: string;
  text: string;
  ownerId: string;
}

const todos = new Table<Todo>("todos", {
  columns: ["title", "done"],
  row: ({ done, ...todo }) => ({ ...todo, done: done === 1 }) as Todo,
});
const notes = new Table<Note>("notes", { columns: ["text", "ownerId"], owner: "ownerId" });

/** What a table does of itself. */
const kept = <Row extends { id: string }>(table: Table<Row>) => ({
  since: "ms" as const,
  fetch: (ctx: SyncContext, since: number | undefined, page: Page) => table.fetch(ctx, since, page),
  create: (ctx: SyncContext, row: Row) => table.create(ctx, row),
  update: (ctx: SyncContext, key: string, changes: Partial<Row>) => table.update(ctx, key, changes),
  delete: (ctx: SyncContext, key: string) => table.delete(ctx, key),
  read: (ctx: SyncContext, key: string) => table.read(ctx, key),
});

export const handlers = [
  defineSync({ channel: "todos", ...kept(todos), scope: () => "all" }),
  // A note is its owner's alone.
  defineSync({ channel: "notes", ...kept(notes), scope: (_ctx, _action, note) => [note.ownerId] }),
];
