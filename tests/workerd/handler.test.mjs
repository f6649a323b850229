// The example with a handler of its own: tickets that all may read, and agents change.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { has, repository, rows, start } from "./harness.mjs";

let workers, desk;
before(async () => {
  const folder = `${repository}/examples/rust-handler/migrations`;
  workers = await start({ workers: ["app", "handler"] });
  desk = await workers.database("tidewire-sync", "DESK", folder);
  await write("t1", "The printer burns");
});
after(() => workers?.stop());

const write = (id, title, status = "open") =>
  desk.prepare("INSERT OR REPLACE INTO tickets VALUES (?, ?, ?, ?)").bind(id, title, status, Date.now()).run();
const agents = { topics: ["agents"] };

test("everybody reads tickets, agents say how they stand, nobody makes or deletes any", async () => {
  const space = workers.space();
  const [alice, agent] = [await space.join("alice", ["tickets"]), await space.join("bob", ["tickets"], agents)];
  const burning = { title: "The printer burns", status: "open" };
  assert.deepEqual(rows(alice.snapshots.tickets), { t1: burning });
  for (const [action, data] of [["update", { status: "closed" }], ["create", { title: "?" }], ["delete"]]) {
    has(await alice.mutate("tickets", action, "t1", data), { type: "reject", error: { code: "forbidden" } });
  }
  has(await agent.mutate("tickets", "create", "t2", { title: "?" }), { error: { code: "read_only" } });
  has(await agent.mutate("tickets", "delete", "t1"), { error: { code: "read_only" } });
  has(await agent.mutate("tickets", "update", "none", { status: "closed" }), { error: { code: "not_found" } });
  const ack = await agent.mutate("tickets", "update", "t1", { status: "closed" }, "m1");
  has(ack, { type: "ack", data: { id: "t1", ...burning, status: "closed" }, replayed: false });
  has(await alice.receive({ type: "change" }), { action: "update", key: "t1", by: "bob", data: { status: "closed" } });
  has(await agent.mutate("tickets", "update", "t1", { status: "closed" }, "m1"), { type: "ack", replayed: true, cursor: ack.cursor });
  assert.deepEqual(await alice.rest(), []);
});

test("what the desk writes itself is asked for when it is told, and a delta needs nobody", async () => {
  const space = workers.space();
  const alice = await space.join("alice", ["tickets"]);
  const { cursor, view } = alice.snapshots.tickets;
  await write("t3", "No paper");
  await space.post("/broadcast-change", { channel: "tickets" });
  await alice.receive({ type: "channel-change" });
  assert.deepEqual(rows(await alice.subscribe("tickets", { cursor, view })).t3, { title: "No paper", status: "open" });
  // What the desk has deleted, nothing tells: so all there is is told.
  const then = await alice.subscribe("tickets", { cursor, view });
  await desk.prepare("DELETE FROM tickets WHERE id = 't3'").run();
  await space.post("/broadcast-change", { channel: "tickets" });
  const later = await alice.subscribe("tickets", { cursor: then.cursor, view: then.view });
  assert.deepEqual([later.mode, rows(later).t3], ["full", undefined]);
  await write("t3", "No paper");
  const agent = await space.join("bob", ["tickets"], agents);
  const back = agent.snapshots.tickets;
  has(await agent.mutate("tickets", "update", "t3", { status: "waiting" }), { type: "ack" });
  const delta = await (await space.join("bob", [], agents)).subscribe("tickets", { cursor: back.cursor, view: back.view });
  assert.deepEqual([delta.mode, rows(delta)], ["delta", { t3: { title: "No paper", status: "waiting" } }]);
});
