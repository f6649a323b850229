// The golden frames that the server is held to: the client reads each, and says no other words itself.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { createSync, type Connection, type Listener, type Transport } from "../../client/src/index.ts";
import { Replica } from "../../client/src/replica.ts";
import { decode, type Change, type ServerMessage, type Snapshot } from "../../client/src/wire.ts";
import { World } from "./world.ts";

interface Golden {
  readonly name: string;
  readonly direction: "client" | "server";
  readonly frame?: unknown;
  readonly text?: string;
}

const folder = new URL("../golden/", import.meta.url);
const read = (file: string) => JSON.parse(readFileSync(new URL(file, folder), "utf8")) as Golden[];
const all = Object.fromEntries(readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => [name, read(name)]));

type Said = { readonly type?: string; readonly [field: string]: unknown };
const messages = ({ frame }: Golden) => (frame === undefined ? [] : [frame].flat()) as Said[];

/** Answers to publishers, and of HTTP, are no messages. */
const isMessage = ({ type }: Said) => typeof type === "string";

/** Of each message the fields that it ever has in the golden frames. */
function fields(direction: Golden["direction"]): Map<string, Set<string>> {
  const known = new Map<string, Set<string>>();
  for (const golden of Object.values(all).flat().filter((one) => one.direction === direction)) {
    for (const message of messages(golden).filter(isMessage)) {
      const names = known.get(message.type as string) ?? new Set<string>();
      known.set(message.type as string, names);
      for (const name of Object.keys(message)) names.add(name);
    }
  }
  return known;
}

test("every message of the server is understood", () => {
  const types = new Set<string>();
  for (const golden of Object.values(all).flat().filter(({ direction }) => direction === "server")) {
    const said = messages(golden).filter(isMessage);
    if (said.length === 0) continue;
    const understood = decode(JSON.stringify(golden.frame));
    assert.equal(understood.length, said.length, golden.name);
    for (const { type } of understood) types.add(type);
  }
  const expected = ["ack", "authed", "batch", "change", "channel-change", "channel-reset", "error", "presence", "reject", "signal", "snapshot", "welcome"];
  assert.deepEqual([...types].sort(), expected);
});

describe("the client's copy follows the golden frames:", () => {
  const pages = (file: string, channel: string) =>
    (all[file] ?? []).flatMap((golden) => (golden.direction === "server" ? decode(JSON.stringify(golden.frame ?? null)) : [])).filter(
      (message): message is Extract<ServerMessage, { channel: string }> => "channel" in message && message.channel === channel,
    );

  test("pages", () => {
    const replica = new Replica();
    const seen: string[][] = [];
    for (const page of pages("subscribing.json", "todos").filter((one): one is Snapshot => one.type === "snapshot")) {
      replica.snapshot(page);
      seen.push([...replica.rows.keys()]);
    }
    // Empty; the first of two pages; the last, without k1; a delta; and everything anew.
    assert.deepEqual(seen, [[], ["k1", "k2"], ["k2", "k3"], ["k2", "k3"], ["k2", "k3"]]);
    assert.equal(replica.place.cursor, "hhhhhhhh.4");
  });

  test("changes and batches", () => {
    const replica = new Replica();
    for (const message of pages("changes.json", "todos")) {
      if (message.type === "change") replica.changes([message], message.cursor);
      if (message.type === "batch") replica.changes(message.changes, message.cursor ?? "");
    }
    assert.deepEqual([...replica.rows.keys()], []);
    assert.equal(replica.place.cursor, "hhhhhhhh.10");
  });

  test("events end the same by their pages and by their changes", () => {
    const deltas = pages("events.json", "doc:1").filter((one) => one.type === "snapshot") as (Snapshot & { changes?: Change[] })[];
    for (const page of deltas) {
      const [byData, byChanges] = [new Replica(), new Replica()];
      byData.snapshot(page);
      byChanges.changes(page.changes ?? [], page.cursor);
      const rows = ({ rows: all }: Replica) => [...all.values()].map(({ row }) => row);
      assert.deepEqual(rows(byData), rows(byChanges));
    }
    assert.ok(deltas.length > 0);
  });
});

test("the client says nothing that is not in the golden frames", async () => {
  const world = new World();
  const sent: Said[] = [];
  let listener: Listener | undefined;
  const transport: Transport = {
    name: "ear",
    isOrdered: true,
    open(_, given): Connection {
      listener = given;
      return { send: (text) => void sent.push(...([JSON.parse(text)].flat() as Said[])), close() {} };
    },
  };
  const sync = createSync({ url: "http://x", transports: [transport], platform: world.platform, token: "a.b.c", schemaVersion: 3, device: "d-1", batchSize: 2 });
  const room = sync.channel<{ id: string; text?: string }>("room:42", { token: "t" });
  await world.pass(0);
  const say = (message: object) => listener?.frame(JSON.stringify(message));
  listener?.opened();
  say({ type: "welcome", v: 1, session: "s", identity: null, expiresAt: null });
  await world.pass(0);
  const asked = () => sent.filter(({ type }) => type === "subscribe").at(-1)?.["id"];
  const page = { type: "snapshot", channel: "room:42", mode: "full", data: [{ id: "k" }], deleted: [], view: "v" };
  say({ ...page, id: asked(), cursor: "e.1.1.v", more: true });
  say({ ...page, mode: "delta", id: asked(), cursor: "e.1", more: false });
  room.create({ id: "a" });
  room.update("k", { text: "x" });
  room.delete("k");
  room.presence.join({ x: 1 });
  room.presence.watch();
  room.presence.leave();
  room.signal("typing", { on: true });
  sync.setToken("a.b.d");
  await world.pass(26_000);
  room.close();
  const known = fields("client");
  // Only publishers' and HTTP's frames beside; these tokens are in the reference alone.
  known.get("subscribe")?.add("token");
  for (const message of sent) {
    const { type = "" } = message;
    for (const name of Object.keys(message)) assert.ok(known.get(type)?.has(name), `${type} has ${name}`);
  }
  const said = ["auth", "hello", "mutate", "ping", "presence", "signal", "subscribe", "unsubscribe"];
  assert.deepEqual([...new Set(sent.map(({ type }) => type))].sort(), said);
  await sync.close();
});

test("the server for tests speaks as the real one does", async () => {
  const world = new World({ channels: { todos: {}, timed: { timestamp: "t" }, notes: { scope: { field: "ownerId" } }, feed: { write: "none", read: "anyone" }, "room:*": { presence: true, signals: true } } });
  const heard: Said[] = [];
  const hello = (identity: string | null, ...said: object[]) =>
    new Promise<Connection>((resolve) => {
      const connection: Connection = world.server.transport.open(
        { url: new URL("http://x"), space: "global", ...(identity !== null && { token: world.server.client(identity).token as string }) },
        {
          opened: () => {
            for (const message of [{ type: "hello", v: 1 }, ...said]) connection.send(JSON.stringify(message));
            resolve(connection);
          },
          frame: (text) => text !== "pong" && heard.push(...([JSON.parse(text)].flat() as Said[])),
          closed() {},
        },
        world.platform,
      );
    });
  const subscribe = (channel: string, more: object = {}) => ({ type: "subscribe", id: "s", channel, ...more });
  const mutate = (channel: string, action: string, key: string, data: object = {}, id = `${channel} ${action} ${key}`) => ({ type: "mutate", id, channel, action, data: { id: key, ...data } });
  world.server.publishAll("todos", [{ action: "create", key: "x" }, { action: "create", key: "y" }]);
  const first = hello("alice", subscribe("todos", { limit: 1 }), subscribe("todos"), subscribe("room:42"), { type: "presence", channel: "room:42", watch: true }, subscribe("nowhere"), subscribe("todos", { cursor: "17" }));
  await world.pass();
  const second = hello("bob", subscribe("room:42"), { type: "presence", channel: "room:42", state: { x: 1 } }, { type: "signal", channel: "room:42", event: "wave" }, { type: "signal", channel: "todos", event: "wave" });
  await world.pass();
  const writes = [mutate("todos", "create", "a"), mutate("todos", "create", "a"), mutate("todos", "create", "a", { n: 1 }), mutate("todos", "update", "b"), mutate("notes", "create", "n"), mutate("feed", "create", "f"), mutate("timed", "create", "t", { t: 2 }), mutate("timed", "update", "t", { t: 1 }, "t2")];
  for (const write of writes) (await second).send(JSON.stringify(write));
  (await first).send(JSON.stringify({ type: "auth", token: world.server.client("alice").token }));
  await world.pass();
  world.server.publishAll("todos", [{ action: "update", key: "x" }, { action: "delete", key: "y" }]);
  world.server.reset("todos");
  world.server.change("todos");
  (await second).close();
  await world.pass();
  const golden = fields("server");
  for (const message of heard) {
    const known = golden.get(message.type ?? "");
    for (const name of Object.keys(message)) assert.ok(known?.has(name), `${message.type} has ${name}`);
  }
  assert.deepEqual([...new Set(heard.map(({ type }) => type))].sort(), [...golden.keys()].filter((type) => type !== "pong").sort());
  const codes = Object.values(all).flat().flatMap(messages).flatMap(({ error }) => (error as { code?: string } | undefined)?.code ?? []);
  const errors = heard.flatMap(({ error }) => (error as { code: string; message: string } | undefined) ?? []);
  for (const { code } of errors) assert.ok(codes.includes(code), code);
  assert.deepEqual([...new Set(errors.map(({ code }) => code))].sort(), ["conflict", "forbidden", "invalid", "malformed", "not_found", "read_only", "unknown_channel"]);
});
