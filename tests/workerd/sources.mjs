// Conversations that go alike wherever the rows of a channel live: `todos` ({id, title, done}),
// which are everyone's, and `notes` ({id, text, ownerId}), which are their owner's.
import assert from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import { chance } from "../chance.ts";
import { has, mutation } from "./harness.mjs";
import { Copy } from "./talk.mjs";
import { change, transports } from "./transports.mjs";

const todo = (title, done = false) => ({ title, done });
const note = (ownerId, text = "") => ({ text, ownerId });
const times = (count, make) => Array.from({ length: count }, (_, at) => make(at));

const acked = (answer, more) => has(answer, { type: "ack", ...more });
const refused = (answer, code) => has(answer, { type: "reject", error: { code } });

/** The conversations, by what they show. */
export const conversations = {
  async "a row is created, merged, replaced and deleted: acked, told to others, there for the next"(talk) {
    const [alice, bob, away] = [await talk.open("alice"), await talk.open("bob"), await talk.open("bob")];
    const id = talk.key("a");
    const told = async (action, data) => {
      const { by, ...told } = await bob.client.receive({ type: "change", key: id });
      assert.deepEqual([by, told.action, told.data], ["alice", action, data]);
    };
    const ack = await alice.mutate("create", "a", todo("milk"));
    acked(ack, { data: { id, ...todo("milk") }, replayed: false });
    await told("create", { id, ...todo("milk") });
    away.leave();
    acked(await alice.mutate("update", "a", { done: true }), { data: { id, ...todo("milk", true) } });
    await told("update", { id, ...todo("milk", true) });
    acked(await alice.mutate("create", "a", todo("tea")), { data: { id, ...todo("tea") } });
    assert.deepEqual((await bob.client.receive({ type: "change", key: id })).data, { id, ...todo("tea") });
    acked(await alice.mutate("create", "b", todo("bread")));
    acked(await alice.mutate("delete", "a"), { data: { id } });
    await told("delete", null);
    acked(await alice.mutate("create", "fleeting", todo("?")));
    acked(await alice.mutate("delete", "fleeting"));
    acked(await alice.mutate("create", "a2", todo("again")));
    await away.connect();
    assert.deepEqual([away.fulls, away.deleted.toSorted()], [1, ["a", "fleeting"]], "a delta with what is gone");
    await talk.agree([alice, bob, away], { b: todo("bread"), a2: todo("again") });
    acked(await bob.mutate("create", "a", todo("back")));
    await talk.agree([alice, bob, away], { a: todo("back"), b: todo("bread"), a2: todo("again") });
  },

  async "a mutation is executed once, at once on two sockets, later, after sleep and after a restart"(talk) {
    const [alice, twin, bob] = [await talk.open("alice"), await talk.open("alice"), await talk.open("bob")];
    const asked = ["create", "a", todo("milk"), randomUUID()];
    const answers = await Promise.all([alice, twin].map((copy) => copy.mutate(...asked)));
    const isNew = ({ type, replayed }) => type === "ack" && !replayed;
    assert.equal(answers.filter(isNew).length, 1, JSON.stringify(answers));
    for (const { type, error } of answers) assert.ok(type === "ack" || error.retryable);
    const { cursor } = answers.find(isNew);
    acked(await bob.mutate("update", "a", { done: true }, asked.at(-1)), { replayed: false });
    const repeat = async (copy) => {
      acked(await copy.mutate(...asked), { replayed: true, cursor, data: { id: talk.key("a"), ...todo("milk", true) } });
      refused(await copy.mutate("create", "a", todo("other"), asked.at(-1)), "conflict");
      refused(await copy.mutate("delete", "a", undefined, asked.at(-1)), "conflict");
    };
    for (const copy of [alice, twin]) await repeat(copy);
    await talk.space.sleep();
    await repeat(twin);
    await bob.settle();
    const told = bob.client.all.filter(({ type, key }) => type === "change" && key === talk.key("a"));
    assert.equal(told.length, 1, "told once");
    await talk.space.restart();
    await twin.client.ended();
    for (const copy of [alice, twin, bob]) await copy.connect();
    await repeat(twin);
    await talk.agree([alice, twin, bob], { a: todo("milk", true) });
    acked(await bob.mutate("delete", "a"));
    acked(await twin.mutate(...asked), { replayed: true, data: null });
    await talk.agree([alice, twin, bob], {});
  },

  async "what is refused is refused alike, tells nothing, and is not remembered"(talk) {
    const [alice, bob] = [await talk.open("alice", "notes"), await talk.open("bob", "notes")];
    const ids = times(6, () => randomUUID());
    acked(await alice.mutate("create", "n", note("alice", "mine")));
    refused(await bob.mutate("update", "n", { text: "his" }, ids[0]), "not_found");
    refused(await bob.mutate("delete", "n", undefined, ids[1]), "not_found");
    refused(await bob.mutate("create", "n", note("bob", "his"), ids[2]), "forbidden");
    refused(await bob.mutate("create", "m", note("alice", "to her"), ids[3]), "forbidden");
    refused(await bob.mutate("update", "none", { text: "his" }, ids[4]), "not_found");
    refused(await bob.mutate("delete", "none", undefined, ids[5]), "not_found");
    refused(await alice.mutate("update", "n", { ownerId: "bob" }), "forbidden");
    await bob.settle();
    assert.deepEqual([bob.rows, bob.knows("n"), bob.knows("m")], [{}, false, false]);
    await alice.settle();
    assert.deepEqual(alice.rows, { n: note("alice", "mine") });
    acked(await alice.mutate("delete", "n"));
    acked(await bob.mutate("create", "n", note("bob", "his"), ids[2]), { replayed: false });
    acked(await bob.mutate("update", "n", { text: "his" }, ids[0]), { replayed: false });
    acked(await bob.mutate("delete", "n", undefined, ids[1]), { replayed: false });
    const todos = await talk.open("bob");
    const late = ["update", "late", { done: true }, randomUUID()];
    refused(await todos.mutate(...late), "not_found");
    refused(await todos.mutate("delete", "late"), "not_found");
    acked(await todos.mutate("create", "late", todo("now")));
    acked(await todos.mutate(...late), { replayed: false });
    await talk.agree([todos], { late: todo("now", true) });
  },

  async "a note is its owner's alone: live, in a snapshot, in a delta, and when it changes hands"(talk) {
    const open = (user) => talk.open(user, "notes");
    const [alice, twin, bob, carol] = [await open("alice"), await open("alice"), await open("bob"), await open("carol")];
    const away = [await open("alice"), await open("bob"), await open("carol")];
    acked(await alice.mutate("create", "a", note("alice", "1")));
    acked(await bob.mutate("create", "b", note("bob", "2")));
    await talk.publish("notes", "create", "both", note("alice", "3"));
    for (const copy of [...away, twin, bob]) await copy.settle();
    assert.deepEqual(twin.rows, { a: note("alice", "1"), both: note("alice", "3") });
    assert.deepEqual(bob.rows, { b: note("bob", "2") });
    assert.equal(bob.knows("both"), false);
    for (const copy of away) copy.leave();
    await talk.publish("notes", "update", "both", note("bob", "4"));
    acked(await bob.mutate("update", "both", { text: "5" }));
    acked(await alice.mutate("delete", "a"));
    acked(await alice.mutate("create", "a2", note("alice", "6")));
    for (const copy of away) await copy.connect();
    const expected = { alice: { a2: note("alice", "6") }, bob: { b: note("bob", "2"), both: note("bob", "5") }, carol: {} };
    for (const copy of [alice, twin, bob, carol, ...away]) {
      await copy.settle();
      assert.deepEqual(copy.rows, expected[copy.user], copy.user);
      assert.equal(copy.fulls, 1);
    }
    assert.deepEqual(away[0].deleted.toSorted(), ["a", "both"]);
    for (const copy of [carol, away[2]]) for (const name of ["a", "a2", "b", "both"]) assert.equal(copy.knows(name), false);
    for (const name of ["a", "a2"]) assert.equal(bob.knows(name) || away[1].knows(name), false);
    for (const [user, rows] of Object.entries(expected)) assert.deepEqual(await talk.newcomer(user, "notes"), rows);
  },

  async "whoever was away resumes at its cursor, also after sleep and restart"(talk) {
    const [alice, bob] = [await talk.open("alice"), await talk.open("bob")];
    for (const name of ["a", "b", "c"]) acked(await alice.mutate("create", name, todo(name)));
    await bob.settle();
    for (const [at, end] of ["sleep", "restart", "sleep"].entries()) {
      bob.leave();
      bob.deleted = [];
      acked(await alice.mutate("delete", "abc"[at]));
      acked(await alice.mutate("create", `new${at}`, todo(`${at}`)));
      await talk.space[end]();
      if (end === "restart") {
        await alice.client.ended();
        await alice.connect();
      }
      await bob.connect();
      assert.deepEqual([bob.fulls, bob.deleted], [1, ["abc"[at]]], `after ${end}`);
      assert.deepEqual(bob.rows, alice.rows);
    }
    await talk.agree([alice, bob], { new0: todo("0"), new1: todo("1"), new2: todo("2") });
  },

  async "pages of two rows lose and double nothing that changes between them, and end live"(talk) {
    const alice = await talk.open("alice");
    for (const at of [1, 2, 3, 4, 5, 6, 7]) acked(await alice.mutate("create", `k${at}`, todo(`${at}`)));
    const bob = new Copy(talk, "bob", "todos");
    bob.client = await talk.space.join("bob");
    await bob.ask(2, async (pages, { mode }) => {
      assert.equal(mode, pages === 1 ? "full" : "delta");
      if (pages === 1) acked(await alice.mutate("update", "k1", { done: true }));
      if (pages === 2) acked(await alice.mutate("delete", "k2"));
      if (pages === 2) acked(await alice.mutate("delete", "k7"));
      if (pages === 3) acked(await alice.mutate("create", "k0", todo("0")));
      if (pages === 3) await talk.publish("todos", "create", "k8", todo("8"));
    });
    acked(await alice.mutate("create", "k9", todo("9")));
    await bob.client.receive({ type: "change", key: talk.key("k9") });
    assert.equal(bob.fulls, 1);
    const rest = Object.fromEntries([3, 4, 5, 6, 8, 9, 0].map((at) => [`k${at}`, todo(`${at}`)]));
    await talk.agree([alice, bob], { ...rest, k1: todo("1", true) });
  },

  async "two who write the same row at once come to the same"(talk) {
    const copies = [await talk.open("alice"), await talk.open("bob"), await talk.open("carol")];
    acked(await copies[0].mutate("create", "a", todo("0")));
    for (let at = 1; at <= 20; at += 1) {
      copies[0].send("update", "a", { title: `${at}` });
      copies[1].send("update", "a", at % 3 ? { done: at % 2 === 0 } : todo(`b${at}`, true));
    }
    for (const copy of copies) await copy.finish();
    await talk.agree(copies);
    assert.equal(copies[2].client.all.filter(({ type }) => type === "change").length, 41);
  },

  async "mutations that one client sends in one go are executed and told in their order"(talk) {
    const [alice, bob] = [await talk.open("alice"), await talk.open("bob")];
    const wanted = times(24, (at) => {
      const [action, data] = at < 2 ? ["create", todo("0")] : ["update", { title: `${at}` }];
      return mutation(`${at} ${randomUUID()}`, "todos", action, talk.key(`k${at % 2}`), data);
    });
    const others = wanted.map(({ id }, at) => mutation(`n${id}`, "notes", "create", talk.key(`n${at}`), note("alice")));
    for (const [at, message] of wanted.slice(0, 12).entries()) for (const one of [message, others[at]]) alice.client.send(one);
    alice.client.send(wanted.slice(12));
    await alice.client.receive({ id: wanted.at(-1).id });
    const acks = alice.client.all.filter(({ type }) => type === "ack").map(({ id }) => id);
    const sent = wanted.flatMap((message, at) => (at < 12 ? [message, others[at]] : [message]));
    assert.deepEqual(acks, sent.map(({ id }) => id));
    await bob.settle();
    const told = bob.client.all.filter(({ type }) => type === "change").map(({ key, data }) => [key, data.title]);
    assert.deepEqual(told, wanted.map(({ key, data }) => [key, data.title]));
  },

  async "a backend that writes and publishes is heard by all, live and later"(talk) {
    const [alice, away] = [await talk.open("alice"), await talk.open("bob")];
    await talk.publish("todos", "create", "a", todo("1"));
    await talk.publish("todos", "create", "gone", todo("2"));
    await away.settle();
    away.leave();
    await talk.publish("todos", "update", "a", todo("1", true));
    await talk.publish("todos", "delete", "gone", null);
    await talk.publish("todos", "create", "b", todo("3"));
    acked(await alice.mutate("update", "b", { done: true }), { data: { id: talk.key("b"), ...todo("3", true) } });
    await away.connect();
    assert.deepEqual([away.fulls, away.deleted], [1, ["gone"]]);
    await talk.agree([alice, away], { a: todo("1", true), b: todo("3", true) });
  },

  async "over HTTP: pages, waiting, events and several mutations at once"(talk) {
    const { workers, space } = talk;
    acked(await (await talk.open("alice")).mutate("create", "a", todo("1")));
    const readers = ["events", "polls"].map((name) => new transports[name](workers, space, "bob", "todos", { limit: 2 }));
    try {
      const shows = (rows) => {
        const own = ({ rows }) => [...rows].flatMap(([key, row]) => (talk.name(key) ? [[talk.name(key), row]] : []));
        const wanted = JSON.stringify(Object.entries(rows));
        return Promise.all(readers.map((reader) => reader.shows(() => JSON.stringify(own(reader).toSorted()) === wanted)));
      };
      await shows({ a: todo("1") });
      const create = change("todos", "create", talk.key("b"), todo("2"));
      const results = await readers[1].mutate(
        create,
        change("todos", "update", talk.key("b"), { done: true }),
        change("todos", "update", talk.key("none"), { done: true }),
        change("notes", "create", talk.key("n"), note("bob")),
        change("notes", "create", talk.key("m"), note("alice")),
        change("todos", "delete", talk.key("a")),
      );
      const outcomes = results.map(({ error, replayed }) => error?.code ?? replayed);
      assert.deepEqual(outcomes, [false, false, "not_found", false, "forbidden", false]);
      await shows({ b: todo("2", true) });
      const [again, other] = await readers[1].mutate(create, { ...create, data: { id: create.key, ...todo("3") } });
      acked(again, { replayed: true, cursor: results[0].cursor, data: { id: create.key, ...todo("2", true) } });
      refused(other, "conflict");
      await talk.publish("todos", "create", "c", todo("4"));
      await shows({ b: todo("2", true), c: todo("4") });
      for (const reader of readers) assert.equal(reader.fulls, 1, "all that came later was a delta");
    } finally {
      for (const reader of readers) reader.leave();
    }
  },

  async "a client of 1.4 gets all, what is live, and what is new since a time"(talk) {
    const writer = await talk.open("alice");
    acked(await writer.mutate("create", "a", todo("1")));
    acked(await writer.mutate("create", "b", todo("2")));
    const follow = async (since) => {
      const client = await talk.space.connect("bob");
      const rows = {};
      const look = async () => {
        const set = (key, row) => talk.name(key) && (rows[talk.name(key)] = row);
        for (const { type, isDelta, data, key, changes } of await client.rest()) {
          if (type === "snapshot" && !isDelta) for (const name of Object.keys(rows)) delete rows[name];
          if (type === "snapshot") for (const row of data) set(row.id, row.title);
          if (type === "batch") for (const { key, data } of changes) set(key, data?.title);
          if (type === "change") set(key, data?.title);
        }
        for (const name of Object.keys(rows)) if (rows[name] === undefined) delete rows[name];
        return rows;
      };
      client.send({ type: "subscribe", channel: "todos", since });
      await client.receive({ type: "snapshot" }).then((first) => client.inbox.unshift(first));
      return { client, look };
    };
    const [all, since] = [await follow(), await follow(new Date().toISOString())];
    for (const { look } of [all, since]) assert.deepEqual(await look(), { a: "1", b: "2" });
    acked(await writer.mutate("update", "a", { title: "3" }));
    acked(await writer.mutate("delete", "b"));
    await talk.publish("todos", "create", "c", todo("4"));
    for (const { look } of [all, since]) assert.deepEqual(await look(), { a: "3", c: "4" });
    all.client.send(mutation("m", "todos", "update", talk.key("c"), { title: "5" }));
    acked(await all.client.receive({ id: "m" }), { data: { id: talk.key("c"), title: "5" } });
    assert.deepEqual(await since.look(), { a: "3", c: "5" });
    all.client.send(mutation("m2", "todos", "update", talk.key("none"), {}));
    assert.equal(typeof (await all.client.receive({ type: "reject", id: "m2" })).error, "string");
  },

  async "who hears of presence and signals on a channel is its subscribers"(talk) {
    const [alice, bob] = await Promise.all(["alice", "bob"].map((user) => talk.space.join(user, ["todos"])));
    alice.send({ type: "presence", channel: "todos", state: { at: "a" } });
    const { session } = alice.welcome;
    const { members, total } = await alice.receive({ type: "presence" });
    assert.deepEqual([members, total], [[{ identity: "alice", session, state: { at: "a" } }], 1]);
    bob.send({ type: "presence", channel: "todos", watch: true });
    has(await bob.receive({ type: "presence" }), { total: 1 });
    alice.send({ type: "presence", channel: "todos", state: { at: "b" } });
    assert.deepEqual((await bob.receive({ type: "presence" })).updated[0].state, { at: "b" });
    bob.send({ type: "signal", channel: "todos", event: "typing", data: { row: 1 } });
    has(await alice.receive({ type: "signal" }), { event: "typing", identity: "bob", data: { row: 1 } });
    alice.close();
    assert.equal((await bob.receive({ type: "presence" })).left.length, 1);
  },

  "random changes, sleep, restarts and lost connections leave all with the same": (talk, t) => randomly(talk, t),
};

/** Those that need rows that live outside of the object. */
export const outsideConversations = {
  async "what is written past the sync Worker is asked for when it is told, and nothing published meanwhile is lost"(talk) {
    for (const [channel, row] of [["todos", (text) => todo(text)], ["notes", (text) => note("bob", text)]]) {
      const [bob, away] = [await talk.open("bob", channel), await talk.open("bob", channel)];
      for (const name of ["a", "b"]) acked(await bob.mutate("create", `${channel}-${name}`, row("1")));
      await away.settle();
      away.leave();
      await talk.write(channel, `${channel}-a`, row("2"));
      await talk.write(channel, `${channel}-b`, null);
      await talk.write(channel, `${channel}-c`, row("3"));
      await talk.publish(channel, "create", `${channel}-d`, row("4"));
      assert.equal((await talk.space.post("/broadcast-change", { channel })).status, 200);
      await talk.publish(channel, "create", `${channel}-e`, row("5"));
      await bob.client.receive({ type: "channel-change", channel });
      acked(await bob.mutate("create", `${channel}-f`, row("6")));
      const names = { a: "2", c: "3", d: "4", e: "5", f: "6" };
      const expected = Object.fromEntries(Object.entries(names).map(([name, text]) => [`${channel}-${name}`, row(text)]));
      await away.connect();
      for (const copy of [bob, away]) {
        await copy.settle();
        assert.deepEqual(copy.rows, expected);
      }
      assert.deepEqual(await talk.newcomer("bob", channel), expected);
      assert.deepEqual(await talk.newcomer("carol", channel), channel === "todos" ? expected : {});
      acked(await bob.mutate("delete", `${channel}-c`));
      await away.settle();
      assert.deepEqual(away.rows, bob.rows);
    }
  },
};

/** Random changes, amid random disturbances; `heal` is called before all is compared. */
export async function randomly(talk, t, heal = () => {}) {
  const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  const random = chance(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const copies = [];
  for (const user of ["alice", "alice", "bob", "carol"]) copies.push(await talk.open(user));
  const all = () => Promise.all(copies.map((copy) => copy.finish()));
  // Only what is awake can be put to sleep, or be restarted; either waits for what is under way.
  const end = (how) => all().then(() => talk.space.stats()).then(() => talk.space[how]());
  const disturb = {
    sleep: () => end("sleep"),
    restart: () => end("restart"),
    drop: () => pick(copies).leave(),
    wait: all,
    // Of rows that no client writes: who writes one beside the sync Worker while it does, too, is in
    // nobody's order.
    publish: (round) => talk.publish("todos", "create", `p${round}`, todo(`${round}`)),
    outside: async (round) => {
      await talk.write("todos", `o${round % 3}`, pick([null, todo(`${round}`)]));
      await talk.space.post("/broadcast-change", { channel: "todos" });
    },
  };
  if (!talk.outside) delete disturb.outside;
  for (let round = 0; round < 60; round += 1) {
    for (const copy of copies) {
      const data = pick([{ done: true }, { title: `${round}` }, todo(`${round} ${copy.user}`)]);
      const [action, row] = pick([["create", todo(`${round}`)], ["update", data], ["update", data], ["delete", undefined]]);
      copy.send(action, `k${Math.floor(random() * 6)}`, row);
    }
    const what = pick(["", "", ...Object.keys(disturb)]);
    await disturb[what]?.(round);
    // Whoever has lost its connection comes back with what it has not heard of.
    for (const copy of copies) if (!copy.client.isOpen) await copy.finish();
  }
  await heal();
  await all();
  await talk.agree(copies);
}
