// The sync Worker panics at every effect of a turn, one after the other. Each time the callers get
// an answer, every socket of the space is told to come back, whoever comes back ends complete,
// what is sent again is executed once, and other spaces of the isolate notice nothing.
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { json } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bearer, has, mutation, rows, secrets, start } from "./harness.mjs";

const syncWorker = "tidewire-sync";
const headers = bearer(secrets.PUBLISH_KEY);

/** No turn here has more effects. */
const most = 60;

/** What an answer may take: far less than the bound after which a caller gives up by itself. */
const promptly = 3_000;

let workers;
let neighbour;
before(async () => {
  const durableObjects = {
    SYNC_ENGINE: { className: "SyncEngine", scriptName: syncWorker, useSQLite: true },
  };
  const publisher = { serviceBindings: {}, durableObjects };
  workers = await start({ faults: true, workers: ["app", "sync", "publisher"], publisher });
  neighbour = await Neighbour.open(workers.space());
});
after(() => workers?.stop());

/** Arms a panic at the effect after `at` others; without a number, how many are left (-1: none). */
async function arm(at) {
  const query = at === undefined ? "" : `&at=${at}`;
  const { status, body } = await workers.ask(syncWorker, `/faults?space=armed${query}`, { headers });
  assert.equal(status, 200, JSON.stringify(body));
  return body.left;
}

/** Runs a step for each effect of a turn in whose place it panics, and once without a panic. */
async function atEveryEffect(prepare, step) {
  let crashes = 0;
  for (let at = 0; at < most; at += 1) {
    const around = await prepare(at);
    // The object for arming is another one, so that it does not wake the space.
    await arm(at);
    const after = await step(around, at);
    const crashed = (await arm()) < 0;
    await after(crashed);
    await neighbour.check(crashed);
    if (!crashed) return crashes;
    crashes += 1;
  }
  throw new Error(`it still panics after ${most} effects`);
}

/** Another space of the same isolate, whose sockets stay open all the time. */
class Neighbour {
  count = 0;

  static async open(space) {
    const self = new Neighbour();
    self.space = space;
    self.sockets = [await space.join("yves", ["notes"]), await space.join("zoe", ["notes"])];
    self.instance = (await space.stats()).instance;
    return self;
  }

  async check(crashed) {
    this.count += 1;
    const row = { ownerId: ["yves", "zoe"], n: this.count };
    has(await this.space.publish("notes", "update", "k", row), { seq: this.count, receivers: 2 });
    for (const socket of this.sockets) {
      assert.ok(socket.isOpen, "a neighbour's socket has closed");
      has(await socket.receive({ type: "change" }), { key: "k", data: { n: this.count } });
      assert.deepEqual(socket.inbox, []);
    }
    const { instance } = await this.space.stats();
    if (crashed) assert.notEqual(instance, this.instance, "the isolate has not been reset");
    this.instance = instance;
  }
}

/** How a socket ends with a crash. Who still sends may be cut off before it hears the reason. */
function checkRestart(end, { wasWriting }) {
  if (!wasWriting || end.code !== 1006) has(end, { code: 4000, reason: "restart" });
}

/** A client that keeps a copy of `notes`, and comes back with its cursor. */
class Reader {
  copy = {};

  static async open(space, user) {
    const self = new Reader();
    Object.assign(self, { space, user });
    await self.connect();
    return self;
  }

  async connect() {
    this.socket = await this.space.join(this.user);
    let page;
    do {
      const { cursor, view } = this;
      page = await this.socket.subscribe("notes", { cursor, view });
      assert.equal(page.type, "snapshot");
      if (page.mode === "full") this.copy = {};
      Object.assign(this.copy, rows(page));
      for (const key of page.deleted) delete this.copy[key];
      Object.assign(this, { cursor: page.cursor, view: page.view });
    } while (page.more);
  }

  /** Applies what has come. */
  take() {
    for (const message of this.socket.inbox.splice(0)) this.apply(message);
  }

  apply({ type, data, changes, cursor, ...change }) {
    if (type === "ack") changes = [{ action: "update", key: data.id, data }];
    else if (type === "change") changes = [{ ...change, data }];
    else assert.equal(type, "batch");
    for (const { action, key, data } of changes) {
      if (action === "delete") delete this.copy[key];
      else this.copy[key] = rows({ data: [data] })[key];
    }
    this.cursor = cursor;
  }

  /** After a crash: the server has closed the socket, and says so soon. */
  async comeBack({ wasWriting = false } = {}) {
    checkRestart(await this.socket.ended(promptly), { wasWriting });
    this.take();
    await this.connect();
  }

  /** What is left to come has come. */
  async settle() {
    assert.ok(this.socket.isOpen, `${this.user}'s socket has closed`);
    this.socket.inbox.unshift(...(await this.socket.rest()));
    this.take();
  }
}

/** Two identities with two sockets each, a row that both see, and one that is bob's. */
async function crowded() {
  const space = workers.space();
  const readers = [];
  for (const user of ["alice", "alice", "bob", "bob"]) readers.push(await Reader.open(space, user));
  await space.publish("notes", "create", "k", { ownerId: ["alice", "bob"] });
  await space.publish("notes", "create", "b", { ownerId: "bob" });
  for (const reader of readers) await reader.settle();
  return { space, readers };
}

/** Everyone holds what somebody new would get. */
async function complete({ space, readers }, seq) {
  const truth = {};
  for (const reader of readers) {
    await reader.settle();
    const { user, copy } = reader;
    truth[user] ??= rows((await space.join(user, ["notes"])).snapshots.notes);
    assert.deepEqual(copy, truth[user], `${user}'s copy`);
  }
  assert.equal((await space.stats()).seq, seq);
  return truth;
}

test("a mutation that two identities see", async () => {
  // It goes out of bob's sight: four sockets, three different frames.
  const change = ["m1", "notes", "update", "k", { ownerId: "alice", v: 2 }];
  const crashes = await atEveryEffect(crowded, async ({ space, readers }) => {
    const [writer] = readers;
    writer.socket.send(mutation(...change));
    await Promise.race([writer.socket.ended(), writer.socket.pending(1)]);
    const acked = writer.socket.inbox.some(({ type }) => type === "ack");
    return async (crashed) => {
      if (crashed) await Promise.all(readers.map((reader) => reader.comeBack()));
      const { seq } = await space.stats();
      assert.ok(seq === 2 || seq === 3, `${seq} changes`);
      if (acked) assert.equal(seq, 3, "what was acknowledged is lost");
      writer.socket.send(mutation(...change));
      const repeat = await writer.socket.receive({ type: "ack", id: "m1", replayed: seq === 3 });
      has(repeat, { data: { id: "k", ownerId: "alice", v: 2 } });
      writer.apply(repeat);
      const truth = await complete({ space, readers }, 3);
      assert.deepEqual(truth.bob, { b: { ownerId: "bob" } });
      assert.deepEqual(truth.alice, { k: { ownerId: "alice", v: 2 } });
    };
  });
  assert.ok(crashes >= 2 + 4, `only ${crashes} effects`);
});

test("mutations that come together", async () => {
  // The first is handled as it comes, the others in one go: a crash between two of them takes the rest along.
  const each = 3;
  const crashes = await atEveryEffect(crowded, async ({ space, readers }) => {
    const [alice, , bob] = readers;
    const write = (reader) => {
      for (let n = 0; n < each; n += 1)
        reader.socket.send(mutation(`m${n}`, "notes", "create", `${reader.user}${n}`, { ownerId: reader.user, n }));
    };
    const acks = ({ socket }) => socket.inbox.filter(({ type }) => type === "ack").length;
    const answered = async (reader) => {
      for (let count = 1; acks(reader) < each && reader.socket.isOpen; count += 1)
        await Promise.race([reader.socket.ended(), reader.socket.pending(count)]);
    };
    write(alice);
    write(bob);
    await Promise.all([answered(alice), answered(bob)]);
    const acked = acks(alice) + acks(bob);
    return async (crashed) => {
      const wasWriting = (reader) => reader === alice || reader === bob;
      if (crashed)
        await Promise.all(readers.map((reader) => reader.comeBack({ wasWriting: wasWriting(reader) })));
      else assert.equal(acked, 2 * each);
      const { seq } = await space.stats();
      assert.ok(seq >= 2 + acked && seq <= 2 + 2 * each, `${acked} acknowledged, ${seq} changes`);
      write(alice);
      write(bob);
      for (const reader of [alice, bob]) {
        for (let n = 0; n < each; n += 1) reader.apply(await reader.socket.receive({ type: "ack", id: `m${n}` }));
      }
      const truth = await complete({ space, readers }, 2 + 2 * each);
      assert.deepEqual(Object.keys(truth.alice), ["k", "alice0", "alice1", "alice2"]);
    };
  });
  assert.ok(crashes >= 2 * each * 3, `only ${crashes} effects`);
});

test("frames that wait in another space when one crashes", async () => {
  const write = (client, count) => {
    for (let n = 0; n < count; n += 1)
      client.send(mutation(`m${n}`, "notes", "create", `k${n}`, { ownerId: "alice" }));
  };
  // Which of the two crashes is up to chance; neither may leave a frame without an answer and say nothing.
  const count = 30;
  let ended = 0;
  for (const at of [1, 4, 7, 10, 13, 16, 30, 60, 100]) {
    const spaces = [workers.space(), workers.space()];
    const clients = await Promise.all(spaces.map((space) => space.join("alice", ["notes"])));
    await arm(at);
    for (const client of clients) write(client, count);
    for (const [i, client] of clients.entries()) {
      for (let acked = 0; acked < count && client.isOpen; acked = client.inbox.length)
        await Promise.race([client.ended(promptly), client.pending(acked + 1)]);
      if (client.inbox.length < count) {
        checkRestart(await client.ended(promptly), { wasWriting: true });
        ended += 1;
      }
      const again = await spaces[i].join("alice");
      write(again, count);
      for (let n = 0; n < count; n += 1) await again.receive({ type: "ack", id: `m${n}` });
      assert.equal((await spaces[i].stats()).seq, count);
    }
    assert.equal(await arm(), -1, "nothing has crashed");
    await neighbour.check(true);
  }
  assert.ok(ended > 9, "no space but those that crashed kept frames");
});

for (const through of ["the app Worker", "the sync Worker"]) {
  test(`a published batch, through ${through}`, async () => {
    const body = JSON.stringify({
      channel: "notes",
      changes: [
        { action: "update", key: "k", data: { ownerId: "bob", v: 3 } },
        { action: "delete", key: "b" },
        { action: "create", key: "new", data: { ownerId: ["alice", "bob"] } },
      ],
    });
    const post = async (space) => {
      const once = { "idempotency-key": "order-17" };
      if (through === "the app Worker") return space.post("/broadcast-batch", body, once);
      const init = { method: "POST", headers: { ...headers, ...once }, body };
      return workers.ask(syncWorker, `/broadcast-batch?space=${space.name}`, init);
    };
    const crashes = await atEveryEffect(crowded, async ({ space, readers }) => {
      const asked = Date.now();
      const answer = await post(space);
      assert.ok(Date.now() - asked < promptly, "the caller had to wait");
      return async (crashed) => {
        assert.equal(answer.status, crashed ? 503 : 200, JSON.stringify(answer.body));
        if (crashed) {
          has(answer.body, { error: { code: "unavailable", retryable: true } });
          await Promise.all(readers.map((reader) => reader.comeBack()));
        }
        const [first, second] = [await post(space), await post(space)];
        assert.equal(first.status, 200, JSON.stringify(first.body));
        assert.deepEqual(second.body, first.body);
        if (!crashed) assert.deepEqual(first.body, answer.body);
        const truth = await complete({ space, readers }, 5);
        assert.deepEqual(Object.keys(truth.alice), ["new"]);
        assert.deepEqual(Object.keys(truth.bob), ["k", "new"]);
      };
    });
    assert.ok(crashes >= 2 + 4, `only ${crashes} effects`);
  });
}

test("connecting, and hello with a subscription", async () => {
  const crashes = await atEveryEffect(crowded, async ({ space, readers }) => {
    // Each of the two turns may be the one that does not end.
    const asked = Date.now();
    const answer = await workers.upgrade(space.path, { headers: bearer(space.token("alice")) });
    assert.ok(Date.now() - asked < promptly, "the upgrade had to wait");
    const { status, client } = answer;
    if (status === 101) {
      client.send({ type: "hello", v: 1, subscribe: [{ id: "s", channel: "notes" }] });
      await Promise.race([client.ended(), client.pending(2)]);
    }
    return async (crashed) => {
      if (status !== 101) {
        assert.ok(crashed);
        assert.equal(status, 503);
        has(answer.body, { error: { code: "unavailable", retryable: true } });
      } else if (crashed) {
        assert.equal((await client.ended(promptly)).code, 4000);
      } else {
        await client.receive({ type: "welcome" });
        assert.deepEqual(Object.keys(rows(await client.receive({ type: "snapshot" }))), ["k"]);
      }
      if (crashed) await Promise.all(readers.map((reader) => reader.comeBack()));
      await complete({ space, readers }, 2);
      has(await space.publish("notes", "update", "k", { v: 2 }), { seq: 3 });
      await complete({ space, readers }, 3);
    };
  });
  assert.ok(crashes >= 4 + 4, `only ${crashes} effects`);
});

test("a socket that closes", async () => {
  const prepare = async () => {
    const around = await crowded();
    return { ...around, leaver: await around.space.join("alice", ["notes"]) };
  };
  const crashes = await atEveryEffect(prepare, async ({ space, readers, leaver }) => {
    leaver.close(4321);
    await leaver.ended(promptly);
    return async (crashed) => {
      if (crashed) await Promise.all(readers.map((reader) => reader.comeBack()));
      await complete({ space, readers }, 2);
      // Those of `complete`, too; but not the one that has gone.
      const { connections } = await space.stats();
      assert.equal((await space.publish("notes", "create", "a", { ownerId: "alice" })).seq, 3);
      assert.equal(connections, readers.length + 2);
    };
  });
  assert.ok(crashes >= 4, `only ${crashes} effects`);
});

test("sessions whose tokens have ended", async () => {
  // All rounds wait together. Turns of other spaces do not wake these.
  const rounds = 16;
  // On the full minute their alarms ring: they must not come between.
  const left = 60_000 - (Date.now() % 60_000);
  if (left < 20_000) await delay(left);
  const end = Date.now() + 6_000;
  const prepared = [];
  for (let i = 0; i < rounds; i += 1) {
    const around = await crowded();
    const exp = { exp: end / 1000 };
    const ending = [await around.space.join("alice", ["notes"], exp), await around.space.join("bob", [], exp)];
    prepared.push({ ...around, ending });
  }
  assert.ok(Date.now() < end, "preparing took too long");
  await delay(end + 10 - Date.now());
  const crashes = await atEveryEffect((at) => prepared[at], async ({ space, readers, ending }) => {
    const change = { channel: "notes", action: "update", key: "k", data: { v: 2 } };
    const post = () => space.post("/broadcast", change, { "idempotency-key": "late" });
    const { status } = await post();
    return async (crashed) => {
      assert.equal(status, crashed ? 503 : 200);
      for (const client of ending) {
        // Closed by the turn, or, where that did not end, with all others.
        const { code } = await client.ended(promptly);
        assert.ok(code === 4001 || (crashed && code === 4000), `closed with ${code}`);
        assert.deepEqual(client.inbox, [], "an ended session received something");
      }
      if (crashed) await Promise.all(readers.map((reader) => reader.comeBack()));
      assert.equal((await post()).status, 200);
      await complete({ space, readers }, 3);
    };
  });
  assert.ok(crashes >= 4 + 4 + 2, `only ${crashes} effects`);
});

test("a caller when nothing else happens that could wake the isolate", async () => {
  for (const path of ["/broadcast-change", "/disconnect", "/epoch"]) {
    const body = JSON.stringify({ channel: "todos", ...(path === "/disconnect" && { all: true }) });
    const target = `${path}?space=${workers.space().name}`;
    await arm(0);
    const asked = Date.now();
    const answer = await workers.ask(syncWorker, target, { method: "POST", headers, body });
    assert.ok(Date.now() - asked < promptly, "the caller had to wait");
    has(answer, { status: 503, body: { error: { code: "unavailable", retryable: true } } });
    assert.equal((await workers.ask(syncWorker, target, { method: "POST", headers, body })).status, 200);
    await neighbour.check(true);
  }
});

test("a caller in another isolate", async () => {
  // A publisher with the object's own binding: nothing of the sync Worker stands between.
  const order = () =>
    workers.ask("tidewire-rust-publisher", "/order", {
      method: "POST",
      body: JSON.stringify({ id: "k", owner: "bob", item: "tea" }),
    });
  const space = workers.space("global");
  const bob = await Reader.open(space, "bob");
  let cursor;
  const crashes = await atEveryEffect(() => {}, async () => {
    const asked = Date.now();
    const answer = await order();
    assert.ok(Date.now() - asked < promptly, "the caller had to wait");
    return async (crashed) => {
      assert.equal(answer.status, crashed ? 503 : 200, answer.body);
      if (crashed) {
        assert.match(answer.body, /^no answer, retry with the same idempotency key/);
        await bob.comeBack();
      }
      const again = await order();
      assert.equal(again.status, 200, again.body);
      assert.equal(again.body, (cursor ??= again.body));
      await complete({ space, readers: [bob] }, 1);
      assert.deepEqual(bob.copy, { k: { ownerId: "bob", text: "tea" } });
    };
  });
  assert.ok(crashes >= 4, `only ${crashes} effects`);
});

test("calls that are under way in other spaces are answered, too, and may be repeated", async () => {
  const others = Array.from({ length: 20 }, () => workers.space());
  for (let round = 1; round <= 5; round += 1) {
    const data = { round };
    const once = { "idempotency-key": `round ${round}` };
    const publish = (space) =>
      space.post("/broadcast", { channel: "todos", action: "update", key: "k", data }, once);
    await arm(round * 7);
    const asked = Date.now();
    const statuses = (await Promise.all(others.map(publish))).map(({ status }) => status);
    assert.ok(Date.now() - asked < promptly, "a caller had to wait");
    assert.equal(await arm(), -1, "nothing has crashed");
    assert.deepEqual([...new Set(statuses)].filter((status) => status !== 200), [503]);
    const again = await Promise.all(others.map(publish));
    assert.deepEqual(again.map(({ status, body }) => [status, body.seq]), others.map(() => [200, round]));
  }
});

test("a body that comes slowly while another space crashes", async () => {
  const text = JSON.stringify({ channel: "todos", action: "create", key: "k", data: { n: 1 } });
  const space = workers.space();
  const upload = async (length, meanwhile) => {
    const to = `${workers.origin}/broadcast?space=${space.name}`;
    const call = request(to, { method: "POST", headers: { ...headers, ...length } });
    const answered = once(call, "response");
    call.write(text.slice(0, 20));
    await meanwhile();
    call.end(text.slice(20));
    const [response] = await answered;
    return { status: response.statusCode, body: await json(response) };
  };
  const other = workers.space();
  const crash = async () => {
    await delay(100);
    await arm(0);
    const { status } = await other.post("/broadcast", { channel: "todos", action: "create", key: "k", data: {} });
    assert.equal(status, 503);
    await arm();
  };
  // The router reads it.
  has(await upload({}, crash), { status: 503, body: { error: { code: "unavailable", retryable: true } } });
  has(await upload({}, async () => {}), { status: 200, body: { seq: 1 } });
  // The object reads it, which is made anew meanwhile.
  const length = { "content-length": text.length };
  has(await upload(length, crash), { status: 200, body: { seq: 2 } });
  has(await upload(length, async () => {}), { status: 200, body: { seq: 3 } });
});
