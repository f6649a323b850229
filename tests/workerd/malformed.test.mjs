// Whatever a peer sends, it gets a defined answer, and nobody else notices.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { has, mutation, start } from "./harness.mjs";

const frameBytes = 256 * 1024;

let workers;
before(async () => (workers = await start()));
after(() => workers?.stop());

const error = (code) => ({ type: "error", error: { code, retryable: false } });
const reject = (code, field) => ({ type: "reject", id: "x", error: { code, ...(field && { field }) } });
const subscribe = (fields) => ({ type: "subscribe", id: "x", channel: "todos", ...fields });
const mutate = (fields) => ({ ...mutation("x", "todos", "create", "k", {}), ...fields });

/** A create whose row is this JSON. */
const create = (row, id = "x") => `{"type":"mutate","id":"${id}","channel":"todos","action":"create","data":${row}}`;

/** Frames that tie to no request. */
const unreadable = {
  "an empty frame": "",
  "blanks": " \n\t",
  "no JSON": "garbage",
  "half an object": "{",
  "half a message": '{"type":"subscribe","channel":"todos"',
  "null": "null",
  "a number": "42",
  "a text": '"subscribe"',
  "true": "true",
  "an empty array": "[]",
  "an array of arrays": '[["subscribe"]]',
  "an array of null": "[null]",
  "an array that does not end": '[{"type":"ping"}',
  "an array of 1,001 messages": `[${Array(1_001).fill('{"type":"ping"}').join()}]`,
  "two messages without an array": '{"type":"ping"}{"type":"ping"}',
  "a comma too many": '{"type":"ping",}',
  "a comment": '{"type":"ping"/**/}',
  "a field that comes twice": '{"type":"ping","type":"ping"}',
  "a number that JSON has not": '{"type":"ping","n":NaN}',
  "a line break inside a text": '{"type":"pi\nng"}',
  "half a surrogate pair": '{"type":"\\ud800"}',
  "a byte order mark": '\ufeff{"type":"ping"}',
  "arrays nested 100,000 deep": "[".repeat(100_000),
  "objects nested 100,000 deep": '{"a":'.repeat(50_000),
  "no type": {},
  "a type that is null": { type: null },
  "a type that is a number": { type: 7 },
  "a type that nobody knows": { type: "subscribed" },
  "a type of the server's": { type: "welcome", v: 1 },
  "a type in capitals": { type: "SUBSCRIBE", channel: "todos" },
  "a second hello": { type: "hello", v: 1 },
  "a hello without a version": { type: "hello" },
  "a hello whose version is a text": { type: "hello", v: "1" },
  "a hello whose subscriptions are no list": { type: "hello", v: 1, subscribe: {} },
  "a subscription without id and channel": { type: "subscribe" },
  "a subscription whose id is no text": subscribe({ id: 7 }),
  "a subscription whose id is empty": subscribe({ id: "" }),
  "a subscription whose id is too long": subscribe({ id: "x".repeat(129) }),
  "an unsubscribe without a channel": { type: "unsubscribe" },
  "a mutation without an id": mutate({ id: undefined }),
  "a mutation whose id is no text": mutate({ id: 1 }),
  "a mutation whose id is empty": mutate({ id: "" }),
  "a mutation whose id is too long": mutate({ id: "x".repeat(129) }),
  "an auth without a token": { type: "auth" },
  "a presence without a channel": { type: "presence", state: {} },
  "a signal without an event": { type: "signal", channel: "room:1" },
  "an auth whose token is null": { type: "auth", token: null },
  "an auth whose token is an object": { type: "auth", token: {} },
  "an unsubscribe whose channel is a number": { type: "unsubscribe", channel: 7 },
  "a hello whose version is beyond all numbers": '{"type":"hello","v":1e999}',
  "a subscription whose id is a flag": subscribe({ id: true }),
  "a subscription whose id is a list": subscribe({ id: ["x"] }),
  "a channel that comes twice": '{"type":"subscribe","id":"x","channel":"todos","channel":"notes"}',
  "a channel that comes twice, once in disguise": '{"type":"subscribe","id":"x","channel":"todos","ch\\u0061nnel":"notes"}',
  "an id that comes twice": '{"type":"subscribe","id":"x","id":"y","channel":"todos"}',
  "a row that comes twice": '{"type":"mutate","id":"x","channel":"todos","action":"create","data":{"id":"k"},"data":{"id":"l"}}',
  "an id with half a surrogate pair": '{"type":"subscribe","id":"\\ud800","channel":"todos"}',
  "a field's name with half a surrogate pair": '{"type":"ping","\\udc00":1}',
  "an id with a NUL": '{"type":"subscribe","id":"a\\u0000","channel":"todos"}',
  "a bare NUL inside a text": '{"type":"ping\u0000"}',
  "a NUL before a message": '\u0000{"type":"ping"}',
  "a NUL after a message": '{"type":"ping"}\u0000',
  "objects nested 65 deep in a field that nobody reads": `{"type":"ping","x":${'{"a":'.repeat(64)}0${"}".repeat(64)}}`,
  "a row nested 65 deep": `{"type":"mutate","id":"x","channel":"todos","action":"create","data":{"id":"k","n":${"[".repeat(63)}${"]".repeat(63)}}}`,
  "a number with a leading zero": '{"type":"ping","n":01}',
  "a number with a plus": '{"type":"ping","n":+1}',
  "a number in hexadecimal": '{"type":"ping","n":0x1}',
  "a number that ends with a dot": '{"type":"ping","n":1.}',
  "infinity": '{"type":"ping","n":Infinity}',
  "an escape that JSON has not": '{"type":"\\x41"}',
  "half an escape": '{"type":"\\u12"}',
  "a text in single quotes": "{'type':'ping'}",
  "a name without quotes": '{type:"ping"}',
  "two lines": '{"type":"ping"}\n{"type":"ping"}',
  "a message and more": '{"type":"ping"}x',
  "a blank that JSON has not": '\u00a0{"type":"ping"}',
  "another protocol": "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
  "bytes": Buffer.from('{"type":"ping"}'),
  "no bytes": Buffer.alloc(0),
  "bytes that are no text": Buffer.from([0xff, 0xfe, 0x00]),
};

/** Requests that are refused by their id. */
const refused = {
  "a subscription without a channel": [subscribe({ channel: undefined }), reject("malformed")],
  "a channel that is no text": [subscribe({ channel: 7 }), reject("malformed")],
  "an empty channel": [subscribe({ channel: "" }), reject("malformed")],
  "a channel that is too long": [subscribe({ channel: "c".repeat(257) }), reject("malformed")],
  "a channel with a control character": [subscribe({ channel: "to\u0000dos" }), reject("malformed")],
  "a channel that no rule matches": [subscribe({ channel: "todos " }), reject("unknown_channel")],
  "a cursor that is no text": [subscribe({ cursor: 7 }), reject("malformed")],
  "a cursor that is none": [subscribe({ cursor: "yesterday" }), reject("malformed")],
  "a cursor with a negative seq": [subscribe({ cursor: "abc.-1" }), reject("malformed")],
  "a cursor that is too long": [subscribe({ cursor: `abc.${"1".repeat(10_000)}` }), reject("malformed")],
  "a view that is no text": [subscribe({ view: {} }), reject("malformed")],
  "a limit of 0": [subscribe({ limit: 0 }), reject("malformed")],
  "a limit of 1,001": [subscribe({ limit: 1_001 }), reject("malformed")],
  "half a row as limit": [subscribe({ limit: 0.5 }), reject("malformed")],
  "a limit beyond all numbers": [`{"type":"subscribe","id":"x","channel":"todos","limit":1e999}`, reject("malformed")],
  "a meta that is no flag": [subscribe({ meta: "yes" }), reject("malformed")],
  "a mutation without a channel": [mutate({ channel: undefined }), reject("malformed")],
  "a mutation of an unknown channel": [mutate({ channel: "x" }), reject("unknown_channel")],
  "a mutation without an action": [mutate({ action: undefined }), reject("malformed")],
  "an action that nobody knows": [mutate({ action: "upsert" }), reject("malformed")],
  "a create without data": [mutate({ data: undefined }), reject("invalid", "data")],
  "a create of null": [mutate({ data: null }), reject("invalid", "data")],
  "a create of a list": [mutate({ data: [] }), reject("invalid", "data")],
  "a create without an id in its row": [mutate({ data: {} }), reject("invalid", "id")],
  "a row whose id is no text": [mutate({ key: undefined, data: { id: 7 } }), reject("invalid", "id")],
  "a row whose id is empty": [mutate({ key: undefined, data: { id: "" } }), reject("invalid", "id")],
  "a key that disagrees with the row": [mutate({ data: { id: "other" } }), reject("invalid", "key")],
  "a key that is no text": [mutate({ key: 7 }), reject("malformed")],
  "a key that is too long": [mutate({ key: "k".repeat(257), data: { id: "k".repeat(257) } }), reject("invalid", "key")],
  "an update without a key": [mutate({ action: "update", key: undefined, data: {} }), reject("invalid", "key")],
  "a delete without a key": [mutate({ action: "delete", key: undefined, data: undefined }), reject("invalid", "key")],
  "a field that comes twice in the row": [
    '{"type":"mutate","id":"x","channel":"todos","action":"create","data":{"id":"k","a":1,"a":2}}',
    reject("invalid", "data"),
  ],
  "a field named __proto__": [
    '{"type":"mutate","id":"x","channel":"todos","action":"create","data":{"id":"k","__proto__":{}}}',
    reject("invalid"),
  ],
  "a channel that is an object": [subscribe({ channel: {} }), reject("malformed")],
  "a channel with half a surrogate pair": ['{"type":"subscribe","id":"x","channel":"\\ud800"}', reject("malformed")],
  "a cursor with half a surrogate pair": ['{"type":"subscribe","id":"x","channel":"todos","cursor":"\\ud800"}', reject("malformed")],
  "a cursor with a NUL": [subscribe({ cursor: "a\u0000.1" }), reject("malformed")],
  "a cursor beyond all safe numbers": [subscribe({ cursor: "abc.9007199254740993" }), reject("malformed")],
  "a cursor beyond 64 bits": [subscribe({ cursor: "abc.18446744073709551616" }), reject("malformed")],
  "a view with half a surrogate pair": ['{"type":"subscribe","id":"x","channel":"todos","view":"\\ud800"}', reject("malformed")],
  "a negative limit": [subscribe({ limit: -1 }), reject("malformed")],
  "a limit beyond 64 bits": ['{"type":"subscribe","id":"x","channel":"todos","limit":18446744073709551616}', reject("malformed")],
  "a limit that is a text": [subscribe({ limit: "10" }), reject("malformed")],
  "a limit with an exponent": ['{"type":"subscribe","id":"x","channel":"todos","limit":1e2}', reject("malformed")],
  "a token that is no text": [subscribe({ token: 7 }), reject("malformed")],
  "an action that is a number": [mutate({ action: 7 }), reject("malformed")],
  "an action in capitals": [mutate({ action: "CREATE" }), reject("malformed")],
  "a row that is a text": [mutate({ data: "k" }), reject("invalid", "data")],
  "a key with half a surrogate pair": [create('{"id":"\\ud800"}'), reject("invalid", "id")],
  "a key with a NUL": [create('{"id":"a\\u0000b"}'), reject("invalid", "id")],
  "a row whose id comes twice": [create('{"id":"k","id":"l"}'), reject("invalid", "data")],
  "a field that comes twice, once in disguise": [create('{"id":"k","a":1,"\\u0061":2}'), reject("invalid", "data")],
  "a field of the row with half a surrogate pair": [create('{"id":"k","\\ud800":1}'), reject("invalid", "data")],
  "a field named __proto__, in disguise": [create('{"id":"k","__pr\\u006fto__":1}'), reject("invalid")],
  "a field named constructor": [create('{"id":"k","constructor":1}'), reject("invalid")],
  "a field named prototype": [create('{"id":"k","prototype":1}'), reject("invalid")],
  "an auth without a text in its token": [{ type: "auth", token: "" }, error("unauthorized")],
  "an update of nothing": [mutate({ action: "update", data: {} }), reject("not_found")],
  "a delete of nothing": [mutate({ action: "delete" }), reject("not_found")],
};

describe("a frame that is wrong is answered, and neither its socket nor anybody else's suffers", () => {
  let space, client, witness, instance;
  before(async () => {
    space = workers.space();
    client = await space.join("mallory", ["todos"]);
    witness = await space.join("alice", ["todos"]);
    ({ instance } = await space.stats());
  });
  after(async () => {
    has(await client.mutate("todos", "create", "k", {}), { type: "ack" });
    assert.deepEqual((await witness.rest()).map(({ key }) => key), ["k"]);
    has(await space.stats(), { instance, seq: 1, connections: 2 });
    const told = workers.logs.filter((line) => !line.startsWith("debug") && !line.includes('{"op":'));
    assert.deepEqual(told, []);
  });

  /** Waits until the object, in its one life, has so many connections. */
  async function connections(count) {
    let stats;
    for (const from = Date.now(); stats?.connections !== count && Date.now() - from < 5_000; ) {
      stats = await space.stats();
    }
    has(stats, { connections: count, instance });
  }

  for (const [name, frame] of Object.entries(unreadable)) {
    test(name, async () => {
      client.send(frame);
      await client.receive(error("malformed"));
      assert.deepEqual(await client.rest(), []);
    });
  }
  for (const [name, [frame, answer]] of Object.entries(refused)) {
    test(name, async () => {
      client.send(frame);
      await client.receive(answer);
      assert.deepEqual(await client.rest(), []);
    });
  }

  test("a text frame that is no UTF-8", async () => {
    client.send(Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), { binary: false });
    await client.receive(error("malformed"));
  });

  test("a message in fragments is one message", async () => {
    client.send('{"type":"sub', { fin: false });
    client.send('scribe","id":"fragments","cha', { fin: false });
    client.send('nnel":"todos"}', { fin: true });
    await client.receive({ type: "snapshot", id: "fragments" });
  });

  const violations = {
    "an unknown opcode": [0x83, 0x80, 0, 0, 0, 0],
    "reserved bits": [0xf1, 0x80, 0, 0, 0, 0],
    "a length beyond all bounds": [0x81, 0xff, ...Array(8).fill(0xff), 0, 0, 0, 0],
  };
  for (const [name, bytes] of Object.entries(violations)) {
    test(`beneath the protocol, ${name}: only that socket ends`, async () => {
      const violator = await space.join("eve", ["todos"]);
      violator.raw(Buffer.from(bytes));
      await connections(2);
      // The runtime keeps the TCP connection of such a peer until the object sleeps.
      violator.drop();
    });
  }

  test("half a frame, and then nothing: only that socket ends", async () => {
    const quitter = await space.join("eve", ["todos"]);
    quitter.raw(Buffer.from([0x81, 0xfe, 0x10]));
    await connections(3);
    quitter.drop();
    await connections(2);
  });

  test("a bad message among good ones is refused alone", async () => {
    client.send([{ type: "ping" }, 7, subscribe({ id: "good" }), subscribe({ limit: 0 }), { type: "ping" }]);
    await client.receive({ type: "snapshot", id: "good" });
    const others = (await client.rest()).map((message) => message.error?.code ?? message);
    assert.deepEqual(others, ["pong", "malformed", "malformed", "pong"]);
  });
});

/** Rows that are sound, however odd. */
const odd = {
  "half a surrogate pair": '{"id":"k","t":"\\ud800","u":"\\udc00\\ud800","v":[{"w":"\\ud800"}]}',
  "NULs": '{"id":"k","t":"a\\u0000b","\\u0000":1}',
  "numbers beyond all bounds": `{"id":"k","a":1e999,"b":-1e999,"c":1e-999,"d":${"9".repeat(400)},"e":18446744073709551616,"f":-0}`,
  "a field that comes twice further in": '{"id":"k","n":{"a":1,"a":2}}',
  "__proto__ further in": '{"id":"k","n":{"__proto__":{"x":1},"constructor":2}}',
  "lists nested 64 deep": `{"id":"k","n":${"[".repeat(62)}${"]".repeat(62)}}`,
  "brackets inside a text": `{"id":"k","t":"${"[{".repeat(10_000)}\\""}`,
  "twenty thousand fields": `{"id":"k",${Array.from({ length: 20_000 }, (_, i) => `"f${i}":1`).join()}}`,
  "blanks": '\t{ "id" :\r\n"k" , "a": [ ] } ',
};

test("a row that is odd but sound goes to everyone as it came, and others after it", async () => {
  const space = workers.space();
  const [client, witness] = [await space.join("mallory", ["todos"]), await space.join("alice", ["todos"])];
  for (const [name, row] of Object.entries(odd)) {
    const expected = JSON.parse(row);
    client.send(create(row, name));
    assert.deepEqual((await client.receive({ id: name })).data, expected, name);
    assert.deepEqual((await witness.receive({ type: "change" })).data, expected, name);
    const { data } = await witness.subscribe("todos");
    assert.deepEqual(data, [expected], name);
    const merged = await client.mutate("todos", "update", "k", { more: name });
    assert.deepEqual(merged.data, { ...expected, more: name }, name);
    await witness.receive({ type: "change", data: { more: name } });
  }
  assert.deepEqual([await client.rest(), await witness.rest()], [[], []]);
});

test("garbage between the messages of many sockets at once harms none of them", async () => {
  const space = workers.space();
  const witness = await space.join("alice", ["todos"]);
  const { instance } = await space.stats();
  const garbage = Object.values(unreadable);
  const senders = await Promise.all(["bob", "carol", "dave", "erin", "frank", "grace"].map((user) => space.join(user)));
  // One of them speaks as the clients of before do.
  senders.push(await space.connect("heidi"));
  senders.at(-1).send({ type: "unsubscribe", channel: "todos" });
  for (let round = 0; round < garbage.length; round += 1) {
    for (const [number, sender] of senders.entries()) {
      // Each begins somewhere else, so that at any time all kinds are on their way.
      sender.send(garbage[(round + 13 * number) % garbage.length]);
      sender.send(mutation(`m${round}`, "todos", "create", `${sender.name}-${round}`, { round }));
    }
  }
  await witness.pending(senders.length * garbage.length);
  for (const sender of senders) {
    await sender.pending(2 * garbage.length);
    const mine = sender.inbox.splice(0);
    const own = mine.filter(({ type }) => type === "ack");
    assert.deepEqual(own.map(({ id }) => id), garbage.map((_, round) => `m${round}`), sender.name);
    const errors = mine.filter(({ type }) => type !== "ack");
    assert.equal(errors.length, garbage.length, sender.name);
    for (const wrong of errors) has(wrong, error("malformed"));
  }
  const seen = await witness.rest();
  for (const { name } of senders) {
    const keys = seen.filter(({ by }) => by === name).map(({ type, action, key }) => [type, action, key].join(" "));
    assert.deepEqual(keys, garbage.map((_, round) => `change create ${name}-${round}`));
  }
  assert.equal(seen.length, senders.length * garbage.length);
  has(await space.stats(), { instance, seq: seen.length, connections: senders.length + 1 });
});

test("wrong frames before hello leave the choice of dialect open", async () => {
  const space = workers.space();
  const client = await space.connect("alice");
  for (const frame of ["", "{", "[]", "null", { type: "nothing" }, Buffer.from("{}")]) {
    client.send(frame);
    await client.receive(error("malformed"));
  }
  client.send({ type: "hello", v: 1 });
  await client.receive({ type: "welcome" });
});

test("a frame is judged by its bytes: at the bound it is read, past it the socket closes with 4502", async () => {
  const space = workers.space();
  const witness = await space.join("alice", ["todos"]);
  const { instance } = await space.stats();
  const wide = JSON.stringify(mutation("m", "todos", "create", "k", { text: "ü".repeat(100_000) }));
  const atBound = wide.padEnd(wide.length + frameBytes - Buffer.byteLength(wide));
  const client = await space.join("bob");
  client.send(atBound);
  has(await client.receive({ id: "m" }), { type: "ack" });
  await witness.receive({ type: "change" });
  for (const frame of [`${atBound} `, "ü".repeat(frameBytes / 2 + 1), "x".repeat(5 * 1024 * 1024)]) {
    const sender = await space.join("mallory", ["todos"]);
    sender.send(frame);
    await sender.receive(error("frame_too_large"));
    assert.equal((await sender.ended()).code, 4502);
  }
  assert.deepEqual(await witness.rest(), []);
  has(await space.stats(), { instance, connections: 2 });
});

test("a row has at most 256 KiB, also after a merge", async () => {
  const space = workers.space();
  const client = await space.join("alice");
  const half = "x".repeat(140_000);
  await client.mutate("todos", "create", "k", { a: half });
  has(await client.mutate("todos", "update", "k", { b: half }), { error: { code: "invalid" } });
  has(await client.mutate("todos", "update", "k", { a: half }), { type: "ack" });
});

test("a connection's subscriptions are bounded, and it hears so", async () => {
  const space = workers.space();
  const client = await space.join("alice");
  const names = Array.from({ length: 1_025 }, (_, i) => `chat:${i.toString(36)}`);
  const frames = [names.slice(0, 1_000), names.slice(1_000)];
  for (const frame of frames) client.send(frame.map((channel) => ({ type: "subscribe", id: channel, channel })));
  await client.pending(1_025);
  const answers = (await client.rest()).map(({ type, error }) => error?.code ?? type);
  assert.deepEqual(answers, [...Array(1_024).fill("snapshot"), "too_many_subscriptions"]);
  // Their names have a bound of their own, all together.
  const other = await space.join("bob");
  const long = Array.from({ length: 33 }, (_, i) => `chat:${i}`.padEnd(256, "x"));
  other.send(long.map((channel, i) => ({ type: "subscribe", id: `${i}`, channel })));
  await other.pending(33);
  const others = (await other.rest()).map(({ type, error }) => error?.code ?? type);
  assert.deepEqual(others, [...Array(32).fill("snapshot"), "too_many_subscriptions"]);
  await space.sleep();
  has(await client.subscribe("chat:0"), { type: "snapshot" });
});

test("frames that chance has damaged break nothing", async () => {
  const space = workers.space();
  await space.join("alice");
  const { instance } = await space.stats();
  let state = 20_261_122;
  const random = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const seeds = [
    subscribe({ cursor: "abc.1.2", view: "v", limit: 5, meta: true, since: 0 }),
    mutation("m", "todos", "update", "k", { a: [1, { b: "ü\\" }] }),
    { type: "hello", v: 1, schema: 1, device: "d", subscribe: [subscribe()] },
    [{ type: "ping" }, mutation("n", "notes", "create", "k", { ownerId: ["mallory"] })],
    { type: "presence", channel: "room:1", state: { x: 1 }, watch: true },
  ].map((seed) => JSON.stringify(seed));
  const damage = (text) => {
    const bytes = [...text];
    for (let times = 1 + random(3); times > 0; times -= 1) {
      const at = random(bytes.length);
      const pieces = ["", '"', "{", "}", "[", "]", ",", ":", "\\", "null", "1e9", "-", "\u0000", "🌊"];
      bytes.splice(at, random(4), pieces[random(pieces.length)]);
    }
    return bytes.join("");
  };
  for (let connection = 0; connection < 4; connection += 1) {
    const client = await space.connect("mallory");
    if (connection % 2 === 0) client.send({ type: "hello", v: 1 });
    for (let i = 0; i < 250; i += 1) client.send(damage(seeds[random(seeds.length)]));
    await client.rest();
    client.close(1000);
    assert.equal((await client.ended()).code, 1000);
  }
  has(await space.stats(), { instance, connections: 1 });
});
