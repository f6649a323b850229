// What the types allow and what they refuse. Nothing here runs: `make check` compiles it.
import { createSync, type Channel } from "tidewire";
import {
  createBulkPublisher,
  createPublisher,
  defineSync,
  queueConsumer,
  repeated,
  syncHooks,
  syncProxy,
  type QueuedChange,
  type SchemaOf,
  type SyncContext,
} from "tidewire/server";

interface Todo {
  id: string;
  title: string;
  done: boolean;
}
interface Message {
  id: string;
  text: string;
}
interface Rows {
  todos: Todo;
  "todos:archive": { id: string; year: number };
  chat: Message;
}

declare const anyChannel: string;
const todo: Todo = { id: "t1", title: "milk", done: false };
const publish = createPublisher<Rows>({ platform: { env: {} }, binding: "SYNC_WORKER", key: "k" });
const publishAll = createBulkPublisher<Rows>({ fallbackUrl: new URL("https://sync.example.com") });

export async function single(): Promise<void> {
  const { seq, cursor, receivers } = await publish("todos", "create", "t1", todo);
  void (seq satisfies number), void (cursor satisfies string), void (receivers satisfies number);
  await publish("todos", "update", "t1", { done: true });
  await publish("todos", "delete", "t1");
  await publish("todos", "delete", "t1", undefined, { to: "all" });
  await publish("todos:team-7", "create", "t1", todo, { to: ["user:alice"], idempotencyKey: "o1" });
  await publish("todos:team-7", "update", "t1", { title: "tea" });
  await publish("todos:archive", "update", "t1", { year: 2020 });
  await publish("chat:1", "create", undefined, { id: "m1", text: "hi" });

  // @ts-expect-error a channel that is not declared
  await publish("notes", "delete", "n1");
  // @ts-expect-error a channel that only begins like one
  await publish("todosx", "delete", "n1");
  // @ts-expect-error a channel that may be any
  await publish(anyChannel, "delete", "n1");
  // @ts-expect-error a create takes the whole row
  await publish("todos", "create", "t1", { id: "t1", done: true });
  // @ts-expect-error and needs one
  await publish("todos", "create", "t1");
  // @ts-expect-error an update knows the fields' types
  await publish("todos", "update", "t1", { done: "yes" });
  // @ts-expect-error and their names, behind a suffix too
  await publish("todos:team-7", "update", "t1", { finished: true });
  // @ts-expect-error with exact optional properties a field is given or not
  await publish("todos", "update", "t1", { title: undefined });
  // @ts-expect-error a name declared as a whole is that row alone
  await publish("todos:archive", "update", "t1", { done: true });
  // @ts-expect-error a delete takes no data
  await publish("todos", "delete", "t1", { title: "milk" });
  // @ts-expect-error there is no such action
  await publish("todos", "upsert", "t1", todo);
  // @ts-expect-error an audience is "all" or topics
  await publish("todos", "delete", "t1", undefined, { to: "alice" });
}

export async function lists(): Promise<void> {
  const [first] = await publishAll("todos:team-7", [
    { action: "create", key: "t1", data: todo, to: ["user:alice"] },
    { action: "update", key: "t1", data: { done: true } },
    { action: "delete", key: "t1" },
  ]);
  // A batch each, and maybe none.
  void (first?.seq satisfies number | undefined);
  await publishAll([
    { channel: "todos:team-7", action: "update", key: "t1", data: { done: true } },
    { channel: "chat", action: "create", data: { id: "m1", text: "hi" } },
  ]);
  // @ts-expect-error an update of another row
  await publishAll("todos", [{ action: "update", key: "t1", data: { text: "hi" } }]);
  // @ts-expect-error a delete needs its key
  await publishAll("todos", [{ action: "delete" }]);
  // @ts-expect-error a channel that is not declared
  await publishAll([{ channel: "notes", action: "delete", key: "n1" }]);
  // @ts-expect-error a row of another channel
  await publishAll([{ channel: "chat", action: "create", key: "t1", data: todo }]);
}

export async function undeclared(): Promise<void> {
  const publish = createPublisher({});
  await publish(anyChannel, "update", "t1", todo);
  await publish("todos", "delete", "t1");
  // @ts-expect-error rows are objects
  await publish("todos", "create", "t1", "milk");
}

export const queued: QueuedChange<Rows> = { channel: "todos:x", action: "update", key: "t1", data: { done: true }, space: "s" };
export const consumer = queueConsumer({ separately: true, onRefused: (message, error) => void [message.id, error.code] });
// @ts-expect-error its bindings come with each delivery
export const bound = queueConsumer({ platform: { env: {} } });
export const { GET, POST } = syncProxy({ binding: "SYNC_WORKER", fallbackUrl: "https://sync.example.com/api/sync" });
// @ts-expect-error rows of a schema are objects
export const scalar = createPublisher<{ todos: string }>({});

interface User {
  id: string;
  admin: boolean;
}
declare const stored: Promise<Todo[]>;
declare const unknownRow: Promise<Todo | undefined>;

const inferred = defineSync({
  channel: "todos",
  fetch: (_ctx, since) => (void (since satisfies string | undefined), stored),
  create: async (_ctx, data) => (void (data satisfies Todo), data),
  update: (_ctx, key, changes) => {
    void (key satisfies string), void (changes satisfies Partial<Todo>);
    // @ts-expect-error not every field is given
    void (changes satisfies Todo);
    return unknownRow;
  },
  delete: async () => repeated<Todo>(null),
  scope: (_ctx, action, row) => (action === "delete" || row.done ? "all" : [row.id]),
  read: () => unknownRow,
});
const named = defineSync<Message, User, "chat">({
  channel: "chat",
  since: "ms",
  authorize: (ctx) => void (ctx.auth?.user.admin satisfies boolean | undefined),
  fetch: async (ctx: SyncContext<User, { DB: object }>, since, { token, limit }) => {
    void (since satisfies number | undefined), void (ctx.platform.env.DB satisfies object);
    void (ctx.request.cookies.get("session") satisfies string | undefined);
    return { rows: [], deleted: [token ?? ""], next: limit > 1 ? "x" : null };
  },
});
const perUser = defineSync({
  channel: ({ identity }): `user:${string}` => `user:${identity}`,
  fetch: async (): Promise<Message[]> => [],
});

const handlers = [inferred, named, perUser];

export async function published(): Promise<void> {
  const publish = createPublisher<SchemaOf<typeof handlers>>({ platform: { env: {} } });
  await publish("todos", "update", "t1", { done: true });
  await publish("todos:x", "create", "t1", todo);
  await publish("chat", "update", "m1", { text: "hi" });
  await publish("user:alice", "create", "m1", { id: "m1", text: "hi" });
  await publish("todos", "delete", "t1");
  // @ts-expect-error a row of another channel
  await publish("chat", "create", "t1", todo);
  // @ts-expect-error no handler is for it
  await publish("notes", "delete", "n1");
  // @ts-expect-error fields have the types that the handlers' rows have
  await publish("todos", "update", "t1", { done: "yes" });
}

// As 1.4 types them: the row alone, or row and user.
export const shaped = defineSync<Todo>({ channel: "todos", fetch: async (_ctx, since) => (since ? stored : []) });
export const hooks = syncHooks([...handlers, shaped], { secret: ["new", "old"], user: ({ identity }) => ({ id: identity }) });
export const worker = { fetch: (request: Request, env: object, ctx: object) => hooks.POST(request, env, ctx) };
// @ts-expect-error rows are asked for, at least
defineSync({ channel: "todos" });
// @ts-expect-error milliseconds are asked for by name
defineSync({ channel: "todos", fetch: async (_ctx, since?: number) => [{ id: `${since}` }] });
// @ts-expect-error a row is returned whole
defineSync<Todo>({ channel: "todos", fetch: () => stored, update: async (_ctx, id) => ({ id }) });
// @ts-expect-error an audience is "all" or a list
defineSync<Todo>({ channel: "todos", fetch: () => stored, scope: () => "alice" });

export async function synced(): Promise<void> {
  const sync = createSync<Rows>({ url: "https://app.example.com", token: async () => "t" });
  const todos = sync.channel("todos");
  void (todos satisfies Channel<Todo>);
  void (sync.channel("todos:team-7").rows satisfies readonly Todo[]);
  void (sync.channel("todos:archive").get("t1")?.year satisfies number | undefined);
  // A name that is not declared says what its rows are.
  void (sync.channel<Message>("room:42") satisfies Channel<Message>);
  // @ts-expect-error or is refused
  sync.channel("rooms");
  const { local, confirmed } = todos.create({ title: "milk", done: false });
  await local;
  void ((await confirmed)?.title satisfies string | undefined);
  // @ts-expect-error a create takes the whole row
  todos.create({ title: "milk" });
  todos.update("t1", { done: true });
  // @ts-expect-error an update knows the fields' types
  todos.update("t1", { done: "yes" });
  // @ts-expect-error and leaves the id alone
  todos.update("t1", { id: "t2" });
  todos.delete("t1");
  todos.subscribe(({ rows, changes }) => void [rows[0]?.title, changes[0]?.previous?.done]);
  // @ts-expect-error rows are the client's
  todos.rows.push(todo);
  createSync().channel("anything").create({ id: "x" });
  // @ts-expect-error options have names that are known
  createSync({ reconnect: true });
}
