// What the types allow and what they refuse. Nothing here runs: `make check` compiles it.
import { createSync, type Channel } from "tidewire";
import { createBulkPublisher, createPublisher, queueConsumer, syncProxy, type QueuedChange } from "tidewire/server";

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
