// A channel as a TanStack DB collection; how a client stands, in React and Svelte.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { createCollection } from "@tanstack/db";
import { build } from "esbuild";
import type { Sync } from "../../client/src/index.ts";
import { tidewireCollectionOptions } from "../../client/src/tanstack.ts";
import { World, calm, fate, storage, type Todo } from "./world.ts";

type Rows = Record<string, Todo>;
const titles = (collection: { readonly toArray: Todo[] }) => collection.toArray.map(({ title }) => title).sort();

test("a collection has the channel's rows, and is ready when they are", async () => {
  const world = new World();
  world.server.publish("todos", "create", "a", { title: "milk" });
  const sync = world.client();
  const todos = createCollection(tidewireCollectionOptions<Todo>({ sync, channel: "todos" }));
  const ready = todos.preload();
  assert.equal(await fate(ready), "waits");
  await world.pass();
  assert.equal(await fate(ready), undefined);
  assert.deepEqual(titles(todos), ["milk"]);
  world.server.publishAll("todos", [{ action: "create", key: "b", data: { title: "beer" } }, { action: "update", key: "a", data: { title: "tea" } }]);
  await world.pass();
  assert.deepEqual(titles(todos), ["beer", "tea"]);
  world.server.publish("todos", "delete", "a");
  await world.pass();
  assert.deepEqual(titles(todos), ["beer"]);
});

test("writes to a collection are writes to the channel, also offline", async () => {
  const world = new World();
  const sync = world.client("alice", { storage: storage() });
  const todos = createCollection(tidewireCollectionOptions<Todo>({ sync, channel: "todos" }));
  void todos.preload();
  await world.pass();
  sync.disconnect();
  const inserted = todos.insert({ id: "a", title: "milk" });
  assert.deepEqual(titles(todos), ["milk"]);
  await inserted.isPersisted.promise;
  const updated = todos.update("a", (row) => void (row.done = true));
  await updated.isPersisted.promise;
  assert.deepEqual(titles(todos), ["milk"]);
  assert.equal(todos.get("a")?.done, true);
  assert.equal(todos.utils.channel.pending.length, 2);
  sync.connect();
  await world.pass();
  assert.deepEqual(world.server.rows("todos"), [{ id: "a", title: "milk", done: true }]);
  await todos.delete("a").isPersisted.promise;
  await world.pass();
  assert.deepEqual([todos.toArray, world.server.rows("todos")], [[], []]);
});

test("what the server refuses goes from a collection again", async () => {
  const world = new World();
  const sync = world.client();
  const todos = createCollection(tidewireCollectionOptions<Todo>({ sync, channel: "todos" }));
  void todos.preload();
  await world.pass();
  world.server.reject({ code: "invalid", message: "no" });
  await todos.insert({ id: "a", title: "bad" }).isPersisted.promise;
  assert.deepEqual(titles(todos), ["bad"]);
  await world.pass();
  assert.deepEqual(titles(todos), []);
  const strict = createCollection(tidewireCollectionOptions<Todo>({ sync, channel: "todos", id: "strict", until: "confirmed" }));
  void strict.preload();
  await calm();
  const refused = strict.insert({ id: "b", title: "bad" });
  assert.deepEqual(titles(strict), ["bad"]);
  await world.pass();
  assert.equal(await fate(refused.isPersisted.promise), "invalid");
  assert.deepEqual(titles(strict), []);
  world.server.accept();
  const taken = strict.insert({ id: "c", title: "good" });
  await world.pass();
  await taken.isPersisted.promise;
  assert.deepEqual([titles(strict), titles(todos)], [["good"], ["good"]]);
});

test("a collection of kept rows is ready without a network; a refused one never", async () => {
  const world = new World({ channels: { todos: {}, secret: { read: "none" } } });
  const kept = storage();
  const before = world.client("alice", { storage: kept });
  before.channel("todos").create({ id: "a", title: "milk" });
  await world.pass();
  await before.close();
  const refused = createCollection(tidewireCollectionOptions<Todo>({ sync: world.client(), channel: "secret" }));
  const loading = refused.preload();
  await world.pass();
  assert.equal(await fate(loading), "forbidden");
  world.server.goOffline();
  const todos = createCollection(tidewireCollectionOptions<Todo>({ sync: world.client("alice", { storage: kept }), channel: "todos" }));
  assert.equal(await fate(todos.preload()), undefined);
  assert.deepEqual(titles(todos), ["milk"]);
});

const root = fileURLToPath(new URL("../../examples/client/", import.meta.url));

/** An example as a module: what it imports is found where examples are. */
async function example<Module>(file: string, text?: string): Promise<Module> {
  mkdirSync(`${root}build`, { recursive: true });
  const outfile = `${root}build/${file}.mjs`;
  if (text === undefined) {
    await build({ entryPoints: [`${root}src/${file}`], outfile, bundle: true, packages: "external", format: "esm", jsx: "automatic", logLevel: "error" });
  } else writeFileSync(outfile, text);
  return (await import(outfile)) as Module;
}

/** A client with two todos, one of them done. */
async function shown(): Promise<Sync<Rows>> {
  const world = new World();
  world.server.publish("todos", "create", "a", { title: "milk", done: false });
  world.server.publish("todos", "create", "b", { title: "beer", done: true });
  const sync = world.client();
  sync.channel("todos");
  await world.pass();
  return sync;
}

test("the example in React shows open todos, and how it stands", async () => {
  const { createElement } = await import("react");
  const { renderToString } = (await import("react-dom/server" as string)) as { renderToString(element: object): string };
  const { Todos, todosOf } = await example<{
    Todos: (props: { sync: unknown; todos: unknown }) => null;
    todosOf: (sync: unknown) => { preload(): Promise<void> };
  }>("Todos.tsx");
  const sync = await shown();
  const todos = todosOf(sync);
  await todos.preload();
  const html = renderToString(createElement(Todos, { sync, todos }));
  assert.match(html, /synced.*milk/);
  assert.doesNotMatch(html, /beer/);
});

test("the example in Svelte shows open todos, and how it stands", async () => {
  const { compile } = await import("svelte/compiler");
  const { render } = await import("svelte/server");
  const source = readFileSync(`${root}src/Todos.svelte`, "utf8");
  const { js } = compile(source, { generate: "server" });
  const { default: Todos } = await example<{ default: never }>("Todos.svelte", js.code);
  const props = { sync: await shown() };
  const { body } = (render as (component: unknown, options: object) => { body: string })(Todos, { props });
  assert.match(body, /synced/);
  assert.match(body, /milk/);
  assert.doesNotMatch(body, /beer/);
});
