// The server for tests is held to the wire contract by the same suite as the real one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { MockTarget, type Case, type Message, type Result, type Suite, type Tamper } from "./conformance.ts";

const { cases, casesOf, missing, play, required, server } = (await import(
  new URL("../../conformance/suite.mjs", import.meta.url).href
)) as Suite;

/**
 * What the server for tests does not promise, and why, and at which step its case therefore fails. Each must fail
 * there, and not elsewhere: what it learns leaves the list. docs/client.md tells the reasons to its users.
 */
const reasons: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  "it speaks with clients that say hello": {
    "legacy.subscribe": 4,
    "legacy.pages": 4,
    "legacy.since": 14,
    "legacy.edits": 10,
    "legacy.refused": 3,
  },
  "its tokens prove nothing, and need no end": { "upgrade.token-bad": 3 },
  "its transport is handed one token and no subprotocols, and told a status": {
    "upgrade.token-first-source": 1,
    "upgrade.token-cookie": 3,
    "upgrade.subprotocol": 1,
  },
  "publishers call its methods, without a body": { "publish.space-in-body": 5 },
  "it makes nobody wait": { "rate.deltas": 5 },
  "it answers no requests over HTTP": { "mutate.once-over-all-transports": 3, "presence.asked-by-publishers": 5, "stats": 3 },
};
const excused: Readonly<Record<string, { readonly why: string; readonly step: number }>> = Object.fromEntries(
  Object.entries(reasons).flatMap(([why, ids]) => Object.entries(ids).map(([id, step]) => [id, { why, step }])),
);

/** What no case holds at all, or not in a part of it. `docs/protocol.md` names each test, and is held to them. */
interface Unheld {
  readonly whole: { readonly [statement: string]: { readonly because?: string; readonly what?: string; readonly test: string } };
  readonly part: Unheld["whole"];
}

/** The statements of the contract, each with its text in one line. */
const contract = new Map(
  readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8")
    .split(/\n(?=- \*\*[A-Z]+\d+\*\* |\n)/)
    .flatMap((item) => {
      const statement = /^- \*\*([A-Z]+\d+)\*\* /.exec(item.trim())?.[1];
      return statement === undefined ? [] : [[statement, item.replaceAll(/\s+/g, " ")] as const];
    }),
);

const statementsOf = (holds: string) =>
  [...holds.matchAll(/(?:^|; )([A-Z]+\d+(?:, [A-Z]+\d+)*): /g)].flatMap(([, names = ""]) => names.split(", "));

describe("the server for tests, by its transport, passes", () => {
  const results: Result[] = [];
  for (const one of casesOf("plain", "ws")) {
    const excuse = excused[one.id];
    test(excuse === undefined ? one.id : `${one.id}, or not: ${excuse.why}`, async () => {
      const channels = server["plain"]?.SYNC_CHANNELS ?? {};
      const fault = await play(new MockTarget(channels, undefined, excuse === undefined ? 15_000 : 500), one, "ws");
      results.push({ transport: "ws", id: one.id, fault });
      if (excuse === undefined) assert.equal(fault, undefined, fault);
      else assert.match(fault ?? "it need not be excused any more", new RegExp(`^step ${excuse.step},`));
    });
  }

  test("no required case is left out", () => {
    assert.deepEqual(missing(results, { profile: "plain", transports: ["ws"] }), []);
    const known = required["plain"]?.["ws"] ?? [];
    assert.deepEqual(Object.keys(excused).filter((id) => !known.includes(id)), []);
  });
});

test("a case that is left out is missing, over one transport and over all", () => {
  for (const [profile, transports] of Object.entries(required)) {
    const all = Object.entries(transports).flatMap(([transport, ids]) => ids.map((id) => ({ transport, id })));
    assert.deepEqual(missing(all, { profile }), []);
    for (const left of all) {
      const rest = all.filter((other) => other !== left);
      assert.deepEqual(missing(rest, { profile }), [`${left.transport} ${left.id}`]);
    }
    const [[transport = "", ids = []] = []] = Object.entries(transports);
    assert.deepEqual(missing([], { profile, transports: [transport] }).length, ids.length);
  }
});

test("every case is required, has an id of its own, and names the statements that it holds", () => {
  const listed = Object.entries(required).flatMap(([profile, transports]) =>
    Object.entries(transports).flatMap(([transport, ids]) => ids.map((id) => `${profile} ${transport} ${id}`)),
  );
  const there = cases.flatMap((one) => one.on.map((transport) => `${one.profile ?? "plain"} ${transport} ${one.id}`));
  assert.deepEqual([...listed].sort(), [...there].sort());
  assert.equal(new Set(cases.map(({ id }) => id)).size, cases.length);
  for (const { id, holds } of cases) {
    const statements = statementsOf(holds);
    assert.ok(/^[A-Z]+\d/.test(holds) && statements.length > 0, `${id} names no statement`);
    for (const statement of statements) assert.ok(contract.has(statement), `${id} names ${statement}`);
  }
});

test("every statement of the contract is held by a case, or excused with a reason and the test that holds it", () => {
  const held = new Set(cases.flatMap(({ holds }) => statementsOf(holds)));
  const { whole, part } = JSON.parse(readFileSync(new URL("../../conformance/unheld.json", import.meta.url), "utf8")) as Unheld;
  assert.deepEqual([...contract.keys()].filter((statement) => !held.has(statement)), Object.keys(whole), "held by no case");
  assert.deepEqual(Object.keys(part).filter((statement) => !held.has(statement)), [], "not even in part");
  for (const [statement, { because, what, test: name }] of [...Object.entries(whole), ...Object.entries(part)]) {
    assert.ok((because ?? what ?? "").length > 0, `${statement} has no reason`);
    assert.ok(contract.get(statement)?.includes(`\`${name}\``), `${statement} does not name ${name}`);
  }
});

describe("a case that would look at less than it says is none:", () => {
  const good = { id: "a", holds: "W1: a", on: ["ws"], steps: [{ open: "alice" }] };
  const untouched = new Proxy({}, { get: () => assert.fail("it was run") });
  const judged = (one: object) => play(untouched, { ...good, ...one } as Case, "ws");
  const steps: Readonly<Record<string, { readonly [field: string]: unknown }>> = {
    "an unknown verb": { opens: "alice" },
    "two verbs": { open: "alice", drop: "alice" },
    "a misspelt field": { open: "alice", expects: { v: 1 } },
    "a field of another verb": { subscribe: "alice", channel: "todos", status: 200 },
    "hears without what": { hears: "alice", channel: "todos" },
    "changes without what": { changes: "alice", channel: "todos" },
    "tells without what": { tells: "alice", channel: "todos" },
    "expect without a message": { expect: "alice" },
    "shows without rows": { shows: "alice", channel: "todos" },
    "closed without a code": { closed: "alice" },
    "holds without what": { holds: "a" },
    "send without a frame": { send: "alice" },
    "send of two": { send: "alice", frame: {}, text: "" },
    "a welcome of who says no hello": { open: "alice", hello: false, expect: {} },
    "several mutations without what": { mutate: "alice", all: [{ channel: "todos" }] },
    "a misspelt field of a mutation": { mutate: "alice", all: [{ chanel: "todos" }], expect: [{}] },
    "a misspelt word of a pattern": { expect: "alice", message: { $not: { $iz: "text" } } },
    "a misspelt kind": { expect: "alice", message: { $not: { $is: "txt" } } },
    "a word beside fields": { expect: "alice", message: { $is: "object", type: "ack" } },
    "$absent: false": { expect: "alice", message: { type: { $absent: false } } },
    "a misspelt word of a value": { publish: { channel: { $repeet: "a", times: 2 } } },
    "a word of patterns as a value": { send: "alice", frame: { $is: "text" } },
  };
  for (const [name, step] of Object.entries(steps)) {
    test(name, async () => assert.match((await judged({ steps: [...good.steps, step] })) ?? "", /^this is no case: step 2,/));
  }
  const cases: Readonly<Record<string, object>> = {
    "a verb that a transport does not know": { on: ["pages"], steps: [{ hears: "alice", channel: "todos", expect: [] }] },
    "an unknown transport": { on: ["wss"] },
    "a misspelt field of the case": { profil: "strict" },
    "no steps": { steps: [] },
  };
  for (const [name, one] of Object.entries(cases)) {
    test(name, async () => assert.match((await judged(one)) ?? "", /^this is no case: /));
  }
  test("but not the one that they differ from", async () => {
    assert.doesNotMatch((await play({ token: () => "" }, good, "ws")) ?? "", /no case/);
  });
});

test("the lines of another runner are judged as our own: what failed or is left out fails it", () => {
  const folder = mkdtempSync(join(tmpdir(), "conformance-"));
  const judge = (lines: readonly string[]) => {
    writeFileSync(join(folder, "lines"), lines.join("\n"));
    const run = new URL("../../conformance/run.mjs", import.meta.url).pathname;
    const { status, stdout } = spawnSync(process.execPath, [run, "--check", join(folder, "lines"), "--transport", "ws"], { encoding: "utf8" });
    return { status, last: stdout.trim().split("\n").slice(-2) };
  };
  const [first = "", ...rest] = (required["plain"]?.["ws"] ?? []).map((id) => `ok ws ${id}`);
  const count = rest.length + 1;
  assert.deepEqual(judge([first, ...rest]), { status: 0, last: [`${count} passed, 0 failed, 0 required cases left out`] });
  const left = judge(rest);
  assert.deepEqual(left, { status: 1, last: [`missing ${first.slice(3)}`, `${count - 1} passed, 0 failed, 1 required cases left out`] });
  assert.equal(judge([`not ${first}`, ...rest]).status, 1);
  rmSync(folder, { recursive: true });
});

describe("the suite finds a server that", () => {
  const each = (change: (message: Message) => unknown[]): Tamper => (frame) => [frame].flat().flatMap(change);
  const withField = (type: string, fields: object) => each((message) => [message.type === type ? { ...message, ...fields } : message]);
  const faults: Readonly<Record<string, Tamper>> = {
    "tells a change twice": each((message) => (message.type === "change" ? [message, message] : [message])),
    "tells no changes": each((message) => (message.type === "change" ? [] : [message])),
    "forgets who made a change": withField("change", { by: undefined }),
    "acks without the row": withField("ack", { data: { id: "k1" } }),
    "gives no view": withField("snapshot", { view: undefined }),
    "takes every answer for full": withField("snapshot", { mode: "full", isDelta: false }),
    "tells no deletions": withField("snapshot", { deleted: [] }),
    "says that a first execution was a repeat": withField("ack", { replayed: true }),
    "has one code for all errors": each((message) =>
      message["error"] === undefined ? [message] : [{ ...message, error: { code: "invalid", message: "no" } }],
    ),
    "takes batches apart": each((message) => {
      const { changes, ...rest } = message;
      return message.type === "batch" ? (changes as object[]).map((one) => ({ ...rest, ...one, type: "change" })) : [message];
    }),
    "tells signals to nobody": each((message) => (message.type === "signal" ? [] : [message])),
    "welcomes within an array": (frame) => (!Array.isArray(frame) && frame.type === "welcome" ? [[frame]] : [frame]),
    "sends empty arrays": (frame) => [frame, []],
    "names nobody who left": each((message) => (message["left"] === undefined ? [message] : [])),
  };
  const telling = /^(subscribe|live|mutate|presence\.(join|dropped)|signal\.passed|page)/;
  for (const [name, tamper] of Object.entries(faults)) {
    test(name, async () => {
      // Those that need not wait to see it.
      const few = casesOf("plain", "ws").filter(({ id }) => telling.test(id) && excused[id] === undefined);
      for (const one of few) {
        const fault = await play(new MockTarget(server["plain"]?.SYNC_CHANNELS ?? {}, tamper, 500), one, "ws");
        if (fault !== undefined) return;
      }
      assert.fail("every case passed");
    });
  }
});
