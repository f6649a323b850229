// Several clients on a network that delays, repeats and cuts, reloads and long absences among it: in
// the end all see what the server has, and every write happened once. Seeds that once failed are kept.
import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryStorage, type Storage, type Sync } from "../../client/src/index.ts";
import { chance } from "../chance.ts";
import { World, type Todo } from "./world.ts";

/**
 * Seeds that failed once, and some more. 117: the repeat of a delete brought the row that had been
 * created anew since, and the client took it away again.
 */
const kept = [117, 1, 2, 3, 4, 5, 6, 7];
const seeds = process.env["SEEDS"] === undefined ? kept : Array.from({ length: Number(process.env["SEEDS"]) }, (_, i) => i + 1);

type Client = Sync<Record<string, Todo>>;

interface Device {
  client: Client;
  readonly identity: string;
  readonly storage: Storage;
}

const sorted = (rows: readonly Todo[]) => [...rows].sort((a, b) => (a.id < b.id ? -1 : 1));

async function history(seed: number, ordered: boolean): Promise<void> {
  const random = chance(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const world = new World({ channels: { todos: {}, notes: { scope: { field: "for" } } } }, seed);
  const { server } = world;
  const options = { batchSize: 1 + Math.floor(random() * 5), reconnectInterval: 500, maxReconnectInterval: 4_000 };
  const transports = [ordered ? server.transport : server.httpTransport];
  const connect = (identity: string, storage: Storage): Client => {
    const client = world.client(identity, { storage, transports, ...options });
    for (const channel of ["todos", "notes"]) client.channel(channel);
    return client;
  };
  const device = (identity: string): Device => {
    const storage = memoryStorage();
    return { identity, storage, client: connect(identity, storage) };
  };
  const devices = [device("alice"), device("alice"), device("bob"), device("carol")];
  server.faults.delay = () => Math.floor(random() * 80);
  server.faults.cut = () => random() < 0.02;
  server.faults.repeat = (text) => !text.includes('"pong"') && random() < 0.05;
  server.reject(() => {
    const chosen = random();
    if (chosen < 0.03) return { code: "unavailable", message: "later", retryable: true, retryAfterMs: 300 };
    return chosen < 0.06 ? { code: "invalid", message: "no", retryable: false } : undefined;
  });
  const keys = Array.from({ length: 12 }, (_, i) => `k${i}`);
  /** Each title is written once: who counts them knows what happened twice. */
  const confirmed = new Map<string, "created" | undefined>();
  for (let step = 0; step < 160; step += 1) {
    const one = pick(devices);
    const channel = one.client.channel(pick(["todos", "notes"]));
    const key = pick(keys);
    const title = `${seed}.${step}`;
    const chosen = random();
    if (chosen < 0.3) {
      const id = channel.name === "notes" ? `${one.identity}-${key}` : key;
      const row = { id, title, for: one.identity };
      channel.create(row).confirmed.then(
        () => confirmed.set(title, "created"),
        () => {},
      );
    } else if (chosen < 0.6) channel.update(pick(channel.rows)?.id ?? key, { title, [`f${step % 3}`]: step });
    else if (chosen < 0.7) channel.delete(pick(channel.rows)?.id ?? key);
    else if (chosen < 0.78) server.publish("todos", pick(["create", "update", "delete"] as const), key, { title });
    else if (chosen < 0.82) server.publish("notes", "create", `shared-${key}`, { title, for: pick([["alice"], ["bob", "carol"], ["alice", "bob"]]) });
    else if (chosen < 0.86) one.client.disconnect();
    else if (chosen < 0.92) one.client.connect();
    else if (chosen < 0.95) {
      await one.client.close();
      one.client = connect(one.identity, one.storage);
    } else if (chosen < 0.96) server.restart();
    else if (chosen < 0.97) server.reset(channel.name);
    else if (chosen < 0.975) server.log.trim(channel.name);
    else if (chosen < 0.98) server.newEpoch();
    else if (chosen < 0.99) server.change(channel.name);
    else void one.client.catchUp();
    if (random() < 0.7) await world.pass(Math.floor(random() * 200));
  }
  delete server.faults.cut;
  server.accept();
  for (const { client } of devices) client.connect();
  await world.pass(120_000);
  for (const { client, identity } of devices) {
    const name = `seed ${seed}, ${identity}`;
    assert.equal(client.status, "synced", name);
    assert.deepEqual(sorted(client.channel("todos").rows), sorted(server.rows<Todo>("todos")), name);
    const visible = server.rows<Todo>("notes").filter((row) => [row["for"]].flat().includes(identity));
    assert.deepEqual(sorted(client.channel("notes").rows), sorted(visible), name);
    assert.equal(client.channel("todos").pending.length + client.channel("notes").pending.length, 0, name);
  }
  assert.ok(confirmed.size > 0);
  // What is kept is what is seen: a reload without a network shows the same.
  server.goOffline();
  for (const one of devices) {
    const before = sorted(one.client.channel("todos").rows);
    await one.client.close();
    one.client = connect(one.identity, one.storage);
    await world.pass(10);
    assert.deepEqual(sorted(one.client.channel("todos").rows), before, `seed ${seed}, reloaded`);
  }
  await world.close();
}

for (const seed of seeds) {
  test(`all copies end equal on a bad network, seed ${seed}`, () => history(seed, true));
  test(`all copies end equal where answers and changes take different ways, seed ${seed}`, () => history(seed, false));
}
