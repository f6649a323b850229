// Many at once: the same thing sent a hundred times, subscribing while others write, and a storm of
// clients that all come back in the middle of a flood.
import assert from "node:assert/strict";
import { execSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { has, mutation, start } from "./harness.mjs";

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

const times = (count, make) => Array.from({ length: count }, (_, at) => make(at));
const seq = ({ cursor }) => Number(cursor.split(".")[1]);

describe("the same thing at once", () => {
  test("a mutation from 100 sockets of one identity is executed once", async () => {
    const space = workers.space();
    const watcher = await space.join("bob", ["todos"]);
    const sockets = await Promise.all(times(100, () => space.join("alice", ["todos"])));
    for (const socket of sockets) socket.send(mutation("m1", "todos", "create", "k", { n: 1 }));
    const acks = await Promise.all(sockets.map((socket) => socket.receive({ type: "ack", id: "m1" })));
    assert.equal(acks.filter(({ replayed }) => replayed).length, 99);
    for (const ack of acks) has(ack, { cursor: acks[0].cursor, data: { id: "k", n: 1 } });
    assert.equal((await space.stats()).seq, 1);
    has(await watcher.rest(), { length: 1 });
    // The other sockets of the writer see the change, the one that was heard first does not.
    const seen = await Promise.all(sockets.map((socket) => socket.rest()));
    seen.forEach((messages, at) => {
      const types = messages.map(({ type }) => type);
      assert.deepEqual(types, acks[at].replayed ? ["change"] : []);
    });
  });

  test("the same id with other content is executed once and refused to all others", async () => {
    const space = workers.space();
    const sockets = await Promise.all(times(20, () => space.join("alice")));
    sockets.forEach((socket, n) => socket.send(mutation("m1", "todos", "create", "k", { n })));
    const answers = await Promise.all(sockets.map((socket) => socket.receive({ id: "m1" })));
    const [acks, rejects] = ["ack", "reject"].map((wanted) => answers.filter(({ type }) => type === wanted));
    assert.deepEqual([acks.length, rejects.length], [1, 19]);
    for (const reject of rejects) has(reject, { error: { code: "conflict", retryable: false } });
    assert.equal((await space.stats()).seq, 1);
  });

  test("an idempotency key 50 times is one publish", async () => {
    const space = workers.space();
    const watcher = await space.join("bob", ["todos"]);
    const body = { channel: "todos", changes: times(3, (n) => ({ action: "create", key: `k${n}`, data: { n } })) };
    const post = () => space.post("/broadcast-batch", body, { "idempotency-key": "once" });
    const answers = await Promise.all(times(50, post));
    for (const answer of answers) {
      assert.deepEqual([answer.status, answer.body], [200, answers[0].body]);
      has(answer.body, { seq: 3, receivers: 1 });
    }
    assert.deepEqual((await watcher.rest()).map(({ type }) => type), ["batch"]);
    assert.equal((await space.stats()).seq, 3);
  });

  test("an idempotency key with 30 different bodies publishes one of them", async () => {
    const space = workers.space();
    const post = (n) => {
      const body = { channel: "todos", action: "create", key: `k${n}`, data: {} };
      return space.post("/broadcast", body, { "idempotency-key": "once" });
    };
    const statuses = (await Promise.all(times(30, post))).map(({ status }) => status);
    assert.deepEqual(statuses.toSorted(), [200, ...times(29, () => 409)]);
    assert.equal((await space.stats()).seq, 1);
  });
});

describe("subscribing while others write", () => {
  /** What a client has of a channel: each key once, in the order of the log. */
  class Copy {
    keys = [];

    take({ type, mode, data, deleted, key, changes, cursor, view, more }) {
      if (type === "snapshot") {
        if (mode === "full") this.keys = [];
        assert.deepEqual(deleted, []);
        this.keys.push(...data.map(({ id }) => id));
        Object.assign(this, { view, more });
      } else {
        if (type === "change") changes = [{ key }];
        else assert.equal(type, "batch");
        this.keys.push(...changes.map(({ key }) => key));
      }
      this.cursor = cursor;
    }
  }

  /** Subscribes, page by page of `limit`, from where the copy stands. */
  async function follow(socket, copy, limit) {
    do {
      copy.take(await socket.subscribe("todos", { cursor: copy.cursor, view: copy.view, limit }));
    } while (copy.more);
  }

  test("a publish and a subscription in any order make each change come once, in order", async () => {
    const space = workers.space();
    const writer = await space.join("writer");
    const sockets = await Promise.all(times(4, (at) => space.join(`reader${at}`)));
    const copies = sockets.map(() => new Copy());
    const [rounds, each] = [50, 6];
    const expected = [];
    for (let round = 0; round < rounds; round += 1) {
      const write = async (n) => {
        const key = `k${round}-${n}`;
        // A publish goes over HTTP, a mutation over a socket, and they overtake one another.
        if (n % 2 === 0) return (await space.publish("todos", "create", key, {})).seq;
        return seq(await writer.mutate("todos", "create", key, {}));
      };
      const writes = times(each, async (n) => {
        await delay((n * round) % 4);
        return [await write(n), `k${round}-${n}`];
      });
      const follows = sockets.map(async (socket, at) => {
        await delay((at + round) % 5);
        const few = 1 + ((at + round) % 3);
        await follow(socket, copies[at], copies[at].cursor ? few : 50 * few);
      });
      const written = await Promise.all(writes);
      await Promise.all(follows);
      const inOrder = written.toSorted(([a], [b]) => a - b);
      expected.push(...inOrder.map(([, key]) => key));
      for (const [at, socket] of sockets.entries()) {
        for (const message of await socket.rest()) copies[at].take(message);
        assert.deepEqual(copies[at].keys, expected, `reader ${at} in round ${round}`);
        // Every other time it begins anew, every third time it goes and comes back.
        if ((round + at) % 2 === 0) copies[at] = new Copy();
        if ((round + at) % 3 === 0) {
          socket.drop();
          sockets[at] = await space.join(`reader${at}`);
        } else {
          socket.send({ type: "unsubscribe", channel: "todos" });
          assert.deepEqual(await socket.rest(), []);
        }
      }
    }
    assert.equal((await space.stats()).seq, rounds * each);
  });
});

describe("two sockets of one identity", () => {
  test("one writes, the other sees it, and the writer gets no echo", async () => {
    const space = workers.space();
    const [phone, laptop] = [await space.join("alice", ["notes"]), await space.join("alice", ["notes"])];
    for (const [writer, other, n] of [[phone, laptop, 1], [laptop, phone, 2], [phone, laptop, 3]]) {
      const row = { ownerId: "alice", n };
      const ack = await writer.mutate("notes", n === 1 ? "create" : "update", "k", row);
      has(ack, { type: "ack", data: { id: "k", ...row }, replayed: false });
      has(await other.receive({ type: "change" }), { key: "k", data: row, by: "alice", cursor: ack.cursor });
      assert.deepEqual([await writer.rest(), await other.rest()], [[], []]);
    }
  });

  test("both write the same row at once, and both end with the same", async () => {
    const space = workers.space();
    const sockets = [await space.join("alice", ["todos"]), await space.join("alice", ["todos"])];
    const last = async (socket, at) => {
      for (let n = 0; n < 30; n += 1) await socket.mutate("todos", "create", "k", { at, n });
      await socket.rest();
    };
    await Promise.all(sockets.map(last));
    const finals = sockets.map(({ all }) => {
      const states = all.filter(({ type }) => type === "ack" || type === "change");
      assert.equal(new Set(states.map(seq)).size, 60);
      return states.reduce((a, b) => (seq(b) > seq(a) ? b : a)).data;
    });
    assert.deepEqual(finals[0], finals[1]);
  });
});

test("a storm of clients that come back while a flood of publishes goes on", async (t) => {
  // Each takes a file descriptor here and some in workerd, whose bound is the same.
  const descriptors = Number(execSync("ulimit -n")) || Infinity;
  const count = Math.min(2_000, Math.floor((descriptors - 500) / 5));
  const [users, perSecond, seconds] = [50, 200, 6];
  t.diagnostic(`${count} clients`);
  // The sync Worker alone, reached itself: half the sockets.
  const sync = await start({ workers: ["sync"], direct: true });
  // What comes at once is answered at once: on a busy machine that takes a while.
  const ms = 60_000;
  t.after(() => sync.stop());
  const space = sync.space();
  const clients = times(count, (at) => ({ user: `u${at % users}`, keys: [] }));
  const tokens = new Map(times(users, (at) => [`u${at}`, space.token(`u${at}`)]));

  const take = (client, { type, data, key, cursor, view, deleted, mode, more }) => {
    if (type === "snapshot") {
      assert.equal(mode, client.cursor ? "delta" : "full");
      assert.deepEqual([deleted, more], [[], false]);
      client.keys.push(...data.map(({ id }) => id));
      client.view = view;
    } else if (type === "change") {
      client.keys.push(key);
    } else {
      return;
    }
    client.cursor = cursor;
  };
  const connect = async (client) => {
    const socket = await sync.upgrade(`${space.path}?token=${tokens.get(client.user)}`, { ms, deflate: false });
    assert.equal(socket.status, 101, JSON.stringify(socket.body));
    client.socket = socket.client;
    const { cursor, view } = client;
    const subscribe = [{ id: "s", channel: "notes", cursor, view, limit: 1_000 }];
    client.socket.send({ type: "hello", v: 1, subscribe });
    await client.socket.pending(2, ms);
  };
  /** All of them, as fast as the runtime lets them in. */
  const connectAll = async () => {
    const queue = clients.values();
    await Promise.all(
      times(50, async () => {
        for (const client of queue) await connect(client);
      }),
    );
  };
  const drop = (client) => {
    client.socket.drop();
    // What has come until now is applied; what was on its way is lost.
    for (const message of client.socket.inbox) take(client, message);
  };

  await connectAll();
  const total = perSecond * seconds;
  const begin = Date.now();
  const publish = async (n) => {
    await delay(begin + (n * 1_000) / perSecond - Date.now());
    const row = { ownerId: `u${n % users}`, n };
    const { status, body } = await space.post("/broadcast", { channel: "notes", action: "create", key: `k${n}`, data: row });
    assert.equal(status, 200, JSON.stringify(body));
    return body.seq;
  };
  const publishing = Promise.all(times(total, publish));
  // A failure of it is told at the end, not as unhandled.
  publishing.catch(() => {});
  await delay(1_000);
  for (const client of clients) drop(client);
  await connectAll();
  const seqs = await publishing;
  assert.equal(new Set(seqs).size, total);
  assert.equal((await space.stats()).seq, total);

  const expected = Object.groupBy(times(total, (n) => n).toSorted((a, b) => seqs[a] - seqs[b]), (n) => `u${n % users}`);
  for (const { socket } of clients) socket.send({ type: "subscribe", id: "end", channel: "no-such-channel" });
  for (const client of clients) {
    await client.socket.receive({ type: "reject", id: "end" }, ms);
    for (const message of client.socket.inbox) take(client, message);
    assert.deepEqual(client.keys, expected[client.user].map((n) => `k${n}`), client.user);
  }
});
