// The channels whose rows this app keeps.
import { defineSync, TidewireError, type Page, type SyncContext } from "tidewire/server";
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

/** Refuses a field that is not of its type. Columns that are not here are judged by their table. */
const fields = (types: Readonly<Record<string, "string" | "boolean">>) => ({
  parse(data: Readonly<Record<string, unknown>>) {
    for (const [field, type] of Object.entries(types)) {
      if (data[field] == null || typeof data[field] === type) continue;
      throw new TidewireError("invalid", `${field} must be a ${type}`, { field });
    }
    return data;
  },
});
const todo = fields({ title: "string", done: "boolean" });
const note = fields({ text: "string" });

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
  defineSync({ channel: "todos", ...kept(todos), validate: { create: todo, update: todo }, scope: () => "all" }),
  // A note is its owner's alone.
  defineSync({
    channel: "notes",
    ...kept(notes),
    validate: { create: note, update: note },
    scope: (_ctx, _action, { ownerId }) => [ownerId],
  }),
];
