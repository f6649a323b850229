// Several tabs of one identity: one connection, the same rows everywhere, and another leader when one goes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encrypted, memoryStorage, type Storage, type Sync, type SyncOptions } from "../../client/src/index.ts";
import { Family, type TabMessage } from "../../client/src/family.ts";
import { Following } from "../../client/src/following.ts";
import type { Tab, Tabs } from "../../client/src/tabs.ts";
import { chance } from "../chance.ts";
import { World, fate, type Todo } from "./world.ts";

/** Locks and channels as browsers have them: messages come later, as copies. */
class Browser implements Tabs {
  readonly #groups = new Map<string, Tab[]>();
  readonly #kept = memoryStorage();

  join(name: string, tab: Tab) {
    const group = this.#groups.get(name) ?? [];
    this.#groups.set(name, group);
    group.push(tab);
    const isFirst = group[0] === tab;
    queueMicrotask(() => (isFirst ? tab.lead() : tab.follow()));
    return {
      post: (message: TabMessage) => {
        const text = structuredClone(message);
        for (const other of group) if (other !== tab) queueMicrotask(() => group.includes(other) && other.take(text));
      },
      part: () => {
        const wasFirst = group[0] === tab;
        group.splice(group.indexOf(tab), 1);
        const next = group[0];
        if (wasFirst && next !== undefined) queueMicrotask(() => group[0] === next && next.lead());
      },
    };
  }

  get storage(): Storage {
    return { ...this.#kept, family: { following: (inside) => new Following(inside), family: (self) => new Family(this, self) } };
  }
}

function browser(world: World) {
  const shared = new Browser();
  return (identity = "alice", more: SyncOptions = {}) => world.client(identity, { storage: shared.storage, ...more });
}

const titles = (sync: Sync<Record<string, Todo>>, name = "todos") => sync.channel(name).rows.map(({ title }) => title);

test("tabs have one connection and see the same", async () => {
  const world = new World();
  const tab = browser(world);
  const [one, two] = [tab(), tab()];
  one.channel("todos");
  await world.pass();
  const late = two.channel("todos");
  await world.pass();
  assert.equal(world.server.sessions.size, 1);
  assert.equal(await fate(late.ready), undefined);
  world.server.publish("todos", "create", "a", { title: "milk" });
  await world.pass();
  assert.deepEqual([titles(one), titles(two)], [["milk"], ["milk"]]);
  assert.deepEqual([one.status, two.status], ["synced", "synced"]);
});

test("a write of any tab is seen in all at once, and confirmed to its own", async () => {
  const world = new World();
  const tab = browser(world);
  const [one, two] = [tab(), tab()];
  for (const sync of [one, two]) sync.channel("todos");
  await world.pass();
  const written = two.channel("todos").create({ id: "a", title: "milk" });
  assert.deepEqual(titles(two), ["milk"]);
  await world.pass();
  assert.deepEqual(await written.confirmed, { id: "a", title: "milk" });
  assert.deepEqual([titles(one), titles(two)], [["milk"], ["milk"]]);
  world.server.reject({ code: "invalid", message: "no", retryable: false });
  const bad = two.channel("todos").update("a", { title: "bad" });
  await world.pass();
  assert.equal(await fate(bad.confirmed), "invalid");
  assert.deepEqual([titles(one), titles(two)], [["milk"], ["milk"]]);
  assert.deepEqual([one.channel("todos").rejected.length, two.channel("todos").rejected.length], [1, 1]);
  two.channel("todos").dismiss(bad.id);
  await world.pass();
  assert.equal(one.channel("todos").rejected.length, 0);
});

test("when the leader goes another one leads, from where it was", async () => {
  const world = new World();
  const tab = browser(world);
  const [one, two] = [tab(), tab()];
  for (const sync of [one, two]) sync.channel("todos");
  await world.pass();
  world.server.goOffline();
  one.channel("todos").create({ id: "a", title: "by one" });
  two.channel("todos").create({ id: "b", title: "by two" });
  await world.pass();
  await one.close();
  world.server.goOnline();
  world.server.publish("todos", "create", "c", { title: "by the server" });
  await world.pass(3_000);
  assert.equal(world.server.sessions.size, 1);
  assert.equal(two.status, "synced");
  assert.deepEqual(titles(two).sort(), ["by one", "by the server", "by two"]);
  assert.equal(two.channel("todos").pending.length, 0);
});

test("a tab that goes offline leaves the others alone, and comes back to what they have", async () => {
  const world = new World();
  const tab = browser(world);
  const [one, two] = [tab(), tab()];
  for (const sync of [one, two]) sync.channel("todos");
  await world.pass();
  one.disconnect();
  one.channel("todos").create({ id: "a", title: "offline" });
  await world.pass();
  world.server.publish("todos", "create", "b", { title: "online" });
  await world.pass();
  assert.deepEqual([one.status, two.status], ["offline", "synced"]);
  assert.deepEqual(titles(one), ["offline"]);
  assert.ok(titles(two).includes("online"));
  one.connect();
  await world.pass();
  assert.deepEqual([titles(one).sort(), titles(two).sort()], [["offline", "online"], ["offline", "online"]]);
});

test("presence and signals of all tabs go by the leader", async () => {
  const world = new World({ channels: { room: { presence: true, signals: true } } });
  const tab = browser(world);
  const [one, two, bob] = [tab(), tab(), world.client("bob")];
  for (const sync of [one, two, bob]) sync.channel("room");
  await world.pass();
  two.channel("room").presence.join({ x: 1 });
  bob.channel("room").presence.watch();
  await world.pass();
  assert.deepEqual(bob.channel("room").presence.members.map(({ state }) => state), [{ x: 1 }]);
  assert.equal(two.channel("room").presence.total, 1);
  const heard: string[] = [];
  two.channel("room").onSignal(({ event }) => heard.push(`two ${event}`));
  bob.channel("room").onSignal(({ event }) => heard.push(`bob ${event}`));
  bob.channel("room").signal("from bob");
  two.channel("room").signal("from two");
  await world.pass();
  assert.deepEqual(heard.sort(), ["bob from two", "two from bob"]);
  await one.close();
  await world.pass(1_000);
  assert.deepEqual(bob.channel("room").presence.members.map(({ state }) => state), [{ x: 1 }]);
});

test("tokens of channels come from whichever tab makes them", async () => {
  const world = new World();
  const tab = browser(world);
  const [one, two] = [tab(), tab()];
  const asked: string[] = [];
  world.server.faults.cut = (to, text) => (to === "server" && asked.push(text), false);
  one.channel("todos");
  await world.pass();
  const doc = two.channel("doc", { token: async () => "made by two" });
  await world.pass();
  assert.equal(await fate(doc.ready), undefined);
  assert.ok(asked.some((text) => text.includes('"token":"made by two"')));
});

test("catching up, resets and refusals reach all tabs", async () => {
  const world = new World({ channels: { todos: {}, secret: { read: "none" } } });
  const tab = browser(world);
  const resets: string[] = [];
  const [one, two] = [tab(), tab("alice", { onReset: (channel) => resets.push(channel) })];
  one.channel("todos");
  two.channel("todos");
  const secret = two.channel("secret");
  await world.pass();
  assert.equal(await fate(secret.ready), "forbidden");
  const caught = two.catchUp();
  await world.pass();
  assert.equal(await fate(caught), undefined);
  world.server.reset("todos");
  await world.pass();
  assert.deepEqual(resets, ["todos"]);
});

test("who signs out in one tab is signed out in all", async () => {
  const world = new World();
  const tab = browser(world);
  const [one, two] = [tab(), tab()];
  for (const sync of [one, two]) sync.channel("todos").create({ id: `by ${sync === one ? 1 : 2}`, title: "x" });
  await world.pass();
  two.setToken(null);
  await world.pass();
  assert.deepEqual([one.status, two.status], ["offline", "offline"]);
  assert.deepEqual([titles(one), titles(two)], [[], []]);
});

for (const seed of [1, 2, 3, 4, 5, 6, ...(process.env["SEEDS"] === undefined ? [] : Array.from({ length: Number(process.env["SEEDS"]) }, (_, i) => i + 7))]) {
  test(`tabs that come and go all end equal, seed ${seed}`, async () => {
    const world = new World({}, seed);
    const random = chance(seed);
    const tab = browser(world);
    const open = () => {
      const sync = tab("alice", { batchSize: 3, reconnectInterval: 200, maxReconnectInterval: 1_000 });
      sync.channel("todos");
      return sync;
    };
    const tabs = [open(), open(), open()];
    const bob = world.client("bob");
    const his = bob.channel("todos");
    world.server.faults.delay = () => Math.floor(random() * 40);
    world.server.faults.cut = () => random() < 0.02;
    for (let step = 0; step < 120; step += 1) {
      const at = Math.floor(random() * tabs.length);
      const todos = (tabs[at] as Sync<Record<string, Todo>>).channel("todos");
      const key = `k${Math.floor(random() * 8)}`;
      const chosen = random();
      if (chosen < 0.35) todos.create({ id: key, title: `${step}` });
      else if (chosen < 0.6) todos.update(key, { title: `${step}`, [`f${step % 3}`]: step });
      else if (chosen < 0.7) todos.delete(key);
      else if (chosen < 0.8) his.create({ id: key, title: `bob ${step}` });
      else if (chosen < 0.85) tabs[at]?.disconnect();
      else if (chosen < 0.92) tabs[at]?.connect();
      else if (chosen < 0.97) {
        await tabs[at]?.close();
        tabs[at] = open();
      } else world.server.restart();
      if (random() < 0.6) await world.pass(Math.floor(random() * 100));
    }
    delete world.server.faults.cut;
    for (const sync of [...tabs, bob]) sync.connect();
    await world.pass(60_000);
    const sorted = (rows: readonly Todo[]) => [...rows].sort((a, b) => (a.id < b.id ? -1 : 1));
    const expected = sorted(world.server.rows<Todo>("todos"));
    for (const [i, sync] of [...tabs, bob].entries()) {
      assert.equal(sync.status, "synced", `tab ${i}`);
      assert.deepEqual(sorted(sync.channel("todos").rows), expected, `tab ${i}`);
      assert.equal(sync.channel("todos").pending.length, 0, `tab ${i}`);
    }
    assert.equal(world.server.sessions.size, 2);
    await world.close();
  });
}

test("a channel that another tab wanted first is ready, and says what it is refused for, in the tab that leads", async () => {
  const world = new World({ channels: { todos: {}, notes: {} } });
  const tab = browser(world);
  world.server.publish("notes", "create", "a", { ct: '{"title":"hidden"}' });
  const leader = tab();
  await world.pass();
  const other = tab();
  for (const name of ["todos", "notes", "nowhere"]) other.channel(name);
  await world.pass();
  const [todos, nowhere] = [leader.channel("todos"), leader.channel("nowhere")];
  const cipher = {
    encrypt: ({ id, ...hidden }: Todo) => ({ id, ct: JSON.stringify(hidden) }),
    decrypt: ({ id, ct = "{}" }: { id: string; ct?: string }) => ({ id, ...JSON.parse(ct) }) as Todo,
  };
  const notes = leader.channel("notes", encrypted<Todo>(cipher));
  await world.pass();
  assert.deepEqual([await fate(todos.restored), await fate(todos.ready), await fate(nowhere.ready)], [undefined, undefined, "unknown_channel"]);
  assert.deepEqual(notes.rows, [{ id: "a", title: "hidden" }]);
  // Closed here, it goes on for the other tab; whoever opens it again is told once more.
  todos.close();
  const again = leader.channel("todos");
  await world.pass();
  assert.equal(await fate(again.ready), undefined);
});
