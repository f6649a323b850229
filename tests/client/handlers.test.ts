// What handlers are asked, what they are told, and what becomes of what they answer and throw.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { defineSync, repeated, syncHooks, TidewireError, type Scope, type SyncContext } from "tidewire/server";
import { ask, common, question, read, SECRET, signed, type Asked } from "./asking.ts";

let logged: string[];
beforeEach(() => {
  logged = [];
  mock.method(console, "error", (line: string) => void logged.push(line));
});
afterEach(() => mock.restoreAll());

interface Todo {
  id: string;
  title?: string;
  done?: boolean;
  ownerId?: string;
}

const todo: Todo = { id: "t1", title: "milk", done: false };
const nothing = { channel: "todos" as const, fetch: () => [] };

type Config = Parameters<typeof defineSync<Todo>>[0];

/** Asks handlers for `todos`. */
const put = (config: Partial<Config>, operation: Asked, more?: object) =>
  ask(syncHooks([defineSync<Todo>({ ...nothing, ...config } as Config)]).POST, operation, more);

const code = async (config: Partial<Config>, operation: Asked, more?: object) => {
  const { status, body } = await put(config, operation, more);
  return [status, body.error?.code, body.error?.message];
};

const thrower = (error: unknown) => () => {
  throw error;
};

describe("the context", () => {
  const told = async (operation: Asked, more: object = {}, options: object = {}) => {
    let seen: SyncContext | undefined;
    const look = (ctx: SyncContext) => ((seen = ctx), todo);
    const config = { ...nothing, fetch: (ctx: SyncContext) => [look(ctx)], create: look, update: look, delete: look, read: look, authorize: look };
    const { POST } = syncHooks([defineSync(config as never)], options);
    const platform = { env: { HOOK_SECRET: SECRET, DB: "db" }, caches: "caches" };
    const response = await POST({ request: signed(operation, question(operation, more)), platform });
    assert.equal(response.status, 200, await response.text());
    return seen as SyncContext;
  };

  test("has the app's bindings, the handshake, and who asks", async () => {
    const ctx = await told("fetch");
    assert.deepEqual([ctx.platform.env.DB, ctx.platform["caches"]], ["db", "caches"]);
    assert.ok(ctx.request instanceof Request);
    assert.equal(ctx.request.url, common.request.url);
    assert.equal(new URL(ctx.request.url).searchParams.get("lang"), "de");
    assert.equal(ctx.request.query.get("lang"), "de");
    assert.equal(ctx.request.headers.get("Cookie"), common.request.headers["cookie"]);
    assert.equal(ctx.request.headers.get("X-Tenant"), "t1");
    assert.deepEqual([...ctx.request.cookies], [["session", "abc="], ["theme", "dark"]]);
    const { identity, topics, claims, context, space, channel, session } = ctx;
    const { request: _request, v: _v, ...rest } = common;
    assert.deepEqual({ identity, topics, claims, context, space, channel, session }, rest);
  });

  test("has no auth without an identity, and none of an authenticator's either", async () => {
    const ctx = await told("fetch", { identity: null, topics: [], claims: null, context: { plan: "pro" } });
    assert.deepEqual([ctx.auth, ctx.identity, ctx.context], [null, null, { plan: "pro" }]);
  });

  test("has a user made of the claims, of the authenticator's context, or as the app says", async () => {
    const user = async (more: object, options = {}) => (await told("fetch", more, options)).auth;
    const alice = { user: { id: "alice", ...common.claims }, identity: "alice" };
    assert.deepEqual(await user({}), alice);
    assert.deepEqual(await user({ context: "pro" }), alice);
    assert.deepEqual((await user({ context: { plan: "pro" } }))?.user, { id: "alice", plan: "pro" });
    assert.deepEqual((await user({ context: { id: 7 } }))?.user, { id: 7 });
    assert.deepEqual((await user({ claims: null }))?.user, { id: "alice" });
    const made = { user: ({ identity, topics }: { identity: string; topics: readonly string[] }) => [identity, ...topics] };
    assert.deepEqual((await user({}, made))?.user, ["alice", "user:alice", "team:a"]);
  });

  test("has the operation, and a mutation's id", async () => {
    const done = async (operation: Asked, more?: object) => {
      const { operation: done, mutationId } = await told(operation, more);
      return [done.kind, done.key, done.data, mutationId];
    };
    assert.deepEqual(await done("fetch"), ["subscribe", null, null, null]);
    assert.deepEqual(await done("create"), ["create", "t1", todo, "m-1"]);
    assert.deepEqual(await done("update"), ["update", "t1", { done: true }, "m-1"]);
    assert.deepEqual(await done("delete"), ["delete", "t1", null, "m-1"]);
    const signal = { kind: "signal", key: null, data: { event: "typing" } };
    assert.deepEqual(await done("authorize", { on: signal }), ["signal", null, { event: "typing" }, null]);
  });

  test("of a plain Worker has its env and ctx", async () => {
    let platform: unknown;
    const { POST } = syncHooks([defineSync({ ...nothing, fetch: (ctx) => ((platform = ctx.platform), []) })]);
    const [env, ctx] = [{ HOOK_SECRET: SECRET }, { waitUntil() {} }];
    await POST(signed("fetch", question("fetch")), env, ctx);
    assert.deepEqual(platform, { env, ctx, context: ctx });
  });
});

describe("a channel", () => {
  test("is found by its name, by what a function makes of the client, by its prefix, in that order", async () => {
    const rows = (id: string) => ({ fetch: () => [{ id }] });
    const { POST } = syncHooks([
      defineSync({ channel: "todos", ...rows("prefix") }),
      defineSync({ channel: thrower(new Error("no channel for you")) as () => string, ...rows("never") }),
      defineSync({ channel: ({ identity }) => `todos:${identity}`, ...rows("own") }),
      defineSync({ channel: "todos:archive", ...rows("exact") }),
    ]);
    const found = async (channel: string, identity = "alice") => {
      const { body } = await ask(POST, "fetch", { channel, identity });
      return body.rows?.[0].id ?? body.error.code;
    };
    assert.equal(await found("todos"), "prefix");
    assert.equal(await found("todos:x:y"), "prefix");
    assert.equal(await found("todos:archive", "archive"), "exact");
    assert.equal(await found("todos:alice"), "own");
    assert.equal(await found("todos:alice", "bob"), "prefix");
    assert.equal(await found("x:todos"), "unknown_channel");
  });
});

describe("fetch", () => {
  test("gets the time as an ISO date, or in milliseconds where it says so, and the page", async () => {
    const seen: unknown[] = [];
    const page = { token: "p2", limit: 7 };
    const fetch = (_ctx: unknown, ...args: unknown[]) => (seen.push(args), []);
    await put({ fetch }, "fetch");
    await put({ fetch }, "fetch", { since: 1_700_000_000_000, page });
    await put({ fetch, since: "ms" } as never, "fetch", { since: 1_700_000_000_000, page });
    await put({ fetch, since: "ms" } as never, "fetch", { since: 0 });
    const whole = { token: null, limit: 500 };
    assert.deepEqual(seen, [[undefined, whole], ["2023-11-14T22:13:20.000Z", page], [1_700_000_000_000, page], [0, whole]]);
  });

  test("answers with an array, or with a page", async () => {
    assert.deepEqual((await put({ fetch: async () => [todo] }, "fetch")).body, { rows: [todo], next: null });
    const page = { rows: [todo], deleted: ["t2"], next: "p3", full: true };
    assert.deepEqual((await put({ fetch: () => page }, "fetch")).body, page);
    assert.deepEqual((await put({ fetch: () => ({ rows: [], next: null }) }, "fetch")).body, { rows: [], next: null });
  });

  test("that returns something else is the app's mistake, told to its log alone", async () => {
    for (const wrong of [
      undefined,
      [undefined],
      [{}],
      [{ id: 7 }],
      [{ id: "" }],
      [[]],
      { rows: "x" },
      { rows: [], deleted: [7] },
      { rows: [], next: 7 },
      { rows: [], next: "" },
      [{ id: "t1", n: 1n }],
    ]) {
      assert.deepEqual(await code({ fetch: (() => wrong) as never }, "fetch"), [500, "internal", "internal"]);
      assert.match(logged.pop() ?? "", /^subscribe of todos (must return|returned)/);
    }
  });

  test("answers 8 MiB at most, and is told to use pages", async () => {
    const envelope = JSON.stringify({ rows: [{ id: "t1", title: "" }], next: null }).length;
    const rows = (bytes: number) => ({ fetch: () => [{ id: "t1", title: "x".repeat(bytes - envelope) }] });
    const most = 8 * 1024 * 1024;
    assert.equal((await put(rows(most), "fetch")).status, 200);
    assert.deepEqual(await code(rows(most + 1), "fetch"), [500, "internal", "internal"]);
    assert.match(logged.at(-1) ?? "", /answer in pages of page.limit rows/);
  });
});

describe("a mutation", () => {
  test("is passed on and answered with its whole row", async () => {
    const asked: unknown[] = [];
    const changed = { ...todo, done: true };
    const config: Partial<Config> = {
      create: async (_ctx, data) => (asked.push(data), data),
      update: async (_ctx, key, changes) => (asked.push([key, changes]), changed),
      delete: async (_ctx, key) => void asked.push(key),
    };
    assert.deepEqual((await put(config, "create")).body, { row: todo });
    assert.deepEqual((await put(config, "update")).body, { row: changed });
    assert.deepEqual((await put(config, "delete")).body, { row: null });
    assert.deepEqual(asked, [todo, ["t1", { done: true }], "t1"]);
  });

  test("that is not implemented is read_only", async () => {
    for (const operation of ["create", "update", "delete"] as const) {
      const [status, name] = await code({}, operation);
      assert.deepEqual([status, name], [403, "read_only"]);
    }
  });

  test("of a create that returns nothing has the row that was sent, of an update found none", async () => {
    const none = (() => undefined) as never;
    assert.deepEqual((await put({ create: none }, "create")).body, { row: todo });
    assert.deepEqual(await code({ update: none }, "update"), [404, "not_found", "no such row"]);
  });

  test("must return the row of its key", async () => {
    for (const row of [{ ...todo, id: "t2" }, { title: "milk" }, [todo], "t1"] as never[]) {
      assert.deepEqual(await code({ create: () => row }, "create"), [500, "internal", "internal"]);
      assert.deepEqual(await code({ update: () => row }, "update"), [500, "internal", "internal"]);
      assert.deepEqual(await code({ read: () => row, update: thrower(new Error("unused")) }, "update"), [500, "internal", "internal"]);
    }
  });

  test("may say that it is a repeat", async () => {
    assert.deepEqual((await put({ create: () => repeated(todo) }, "create")).body, { row: todo, repeated: true });
    assert.deepEqual((await put({ update: () => repeated<Todo>(null) }, "update")).body, { row: null, repeated: true });
    assert.deepEqual((await put({ delete: () => repeated<Todo>(null) }, "delete")).body, { row: null, repeated: true });
  });

  test("is validated first, and what the validator makes of it is passed on", async () => {
    const parse = (data: unknown) => ({ ...(data as Todo), title: "parsed" });
    const config: Partial<Config> = {
      create: (_ctx, data) => data,
      update: (_ctx, id, changes) => ({ id, ...changes }),
      validate: { create: { parse }, update: { parse: async (data) => parse(data) } },
    };
    assert.equal((await put(config, "create")).body.row.title, "parsed");
    assert.equal((await put(config, "update")).body.row.title, "parsed");
  });

  test("that a validator refuses is invalid, with the field where it is known", async () => {
    let created = 0;
    const refused = async (error: unknown) => {
      const create = (_ctx: unknown, data: Todo) => ((created += 1), data);
      const { status, body } = await put({ create, validate: { create: { parse: thrower(error) } } }, "create");
      assert.equal(status, 400);
      return [body.error.code, body.error.message, body.error.field];
    };
    const issues = (path: unknown) => Object.assign(new Error("[…]"), { issues: [{ path, message: "too long" }, { path: ["x"] }] });
    assert.deepEqual(await refused(issues(["title"])), ["invalid", "too long", "title"]);
    assert.deepEqual(await refused(issues(["tags", 3])), ["invalid", "too long", "tags.3"]);
    assert.deepEqual(await refused(issues([{ key: "title" }])), ["invalid", "too long", "title"]);
    assert.deepEqual(await refused(issues([])), ["invalid", "too long", undefined]);
    assert.deepEqual(await refused(new TidewireError("forbidden", "no")).catch(() => "403"), "403");
    assert.deepEqual(await refused(new Error("s3cret")), ["invalid", "the data are not valid", undefined]);
    assert.deepEqual([created, logged], [0, ["create of todos failed: s3cret"]]);
  });
});

describe("authorize", () => {
  const refuse = thrower(new TidewireError("forbidden", "not yours"));

  test("runs first where it is asked for, and only there", async () => {
    const ran: string[] = [];
    const note = (name: string) => () => (ran.push(name), todo) as never;
    const config = { authorize: note("authorize"), read: note("read"), create: note("create"), update: note("update"), delete: note("delete"), validate: { update: { parse: note("validate") } }, fetch: () => (ran.push("fetch"), []) };
    for (const operation of ["fetch", "create", "update", "delete"] as const) {
      await put(config, operation, { authorize: true });
      await put(config, operation);
    }
    assert.deepEqual(ran.join(" "), "authorize fetch fetch authorize read create read create authorize validate read update validate read update authorize read delete read delete");
  });

  test("refuses whatever comes after it", async () => {
    const forbidden = [403, "forbidden", "not yours"];
    assert.deepEqual(await code({ authorize: refuse }, "authorize"), forbidden);
    for (const operation of ["fetch", "create", "update", "delete"] as const) {
      assert.deepEqual(await code({ authorize: refuse }, operation, { authorize: true }), forbidden);
    }
  });

  test("that is not there, or says nothing, lets the sync Worker's rules decide", async () => {
    assert.deepEqual(await put({}, "authorize"), { status: 200, body: {} });
    assert.deepEqual(await put({ authorize: async () => {} }, "authorize"), { status: 200, body: {} });
  });
});

describe("an audience", () => {
  const own = { ...todo, ownerId: "alice" };
  const config: Partial<Config> = {
    create: (_ctx, data) => data,
    update: (_ctx, id, changes) => ({ ...own, ...changes, id }),
    delete: () => {},
    scope: (_ctx, _action, row) => [row.ownerId as string],
  };

  test("is all, ids of users, or topics", async () => {
    const to = async (scope: unknown) => (await put({ ...config, scope: () => scope as Scope }, "create")).body.to;
    assert.equal(await to("all"), "all");
    assert.deepEqual(await to(["alice", "bob", "alice"]), ["user:alice", "user:bob"]);
    assert.deepEqual(await to({ topics: ["team:a"] }), ["team:a"]);
    assert.deepEqual(await to(Promise.resolve(["alice"])), ["user:alice"]);
    assert.deepEqual(logged, []);
  });

  test("is the channel's rule without a scope", async () => {
    assert.deepEqual(Object.keys((await put({ create: (_ctx, data) => data }, "create")).body), ["row"]);
  });

  test("is nobody where the scope names none, fails, or makes no sense: the write stands", async () => {
    const to = async (scope: () => unknown) => {
      const { status, body } = await put({ ...config, scope: scope as never }, "create");
      assert.equal(status, 200);
      assert.deepEqual(body.row, todo);
      return body.to;
    };
    assert.equal(await to(() => []), null);
    assert.deepEqual(logged, []);
    for (const scope of [thrower(new Error("s3cret")), thrower(new TidewireError("forbidden", "x")), () => undefined, () => [undefined], () => [7], () => [""], () => "alice", () => ({})]) {
      assert.equal(await to(scope), null);
      assert.match(logged.pop() ?? "", /^scope of create of todos failed, nobody is told: /);
    }
  });

  test("has 64 names at most", async () => {
    const to = async (count: number) => {
      const scope = () => Array.from({ length: count }, (_, n) => `u${n}`);
      return (await put({ ...config, scope }, "create")).body.to;
    };
    assert.equal((await to(64)).length, 64);
    assert.equal(await to(65), null);
    assert.match(logged.at(-1) ?? "", /grant users a topic/);
  });

  test("of before is known with read, for who loses the row", async () => {
    const scopes: unknown[] = [];
    const scope = (_ctx: unknown, action: string, row: Todo) => (scopes.push([action, row]), [row.ownerId as string]);
    const moved = { data: { ownerId: "bob" } };
    assert.deepEqual((await put({ ...config, scope, read: () => own }, "update", moved)).body, {
      row: { ...own, ownerId: "bob" },
      to: ["user:bob"],
      before: ["user:alice"],
    });
    assert.deepEqual(scopes, [["update", own], ["update", { ...own, ownerId: "bob" }]]);
    assert.equal("before" in (await put({ ...config, read: () => null }, "update")).body, false);
    assert.equal("before" in (await put(config, "update")).body, false);
    assert.equal("before" in (await put(config, "create")).body, false);
  });

  test("of before is known of a create over a row, too", async () => {
    const data = { id: "t1", ownerId: "bob" };
    assert.deepEqual((await put({ ...config, read: () => own }, "create", { data })).body, {
      row: data,
      to: ["user:bob"],
      before: ["user:alice"],
    });
    assert.equal("before" in (await put({ ...config, read: () => null }, "create", { data })).body, false);
  });

  test("of before is that of the row before the handler writes, which may be the same object", async () => {
    const held: Record<string, unknown> = { ...own };
    const update = (_ctx: unknown, _key: string, changes: object) => Object.assign(held, changes) as never;
    const { body } = await put({ ...config, read: () => held as never, update }, "update", { data: { ownerId: "bob" } });
    assert.deepEqual(body, { row: { ...own, ownerId: "bob" }, to: ["user:bob"], before: ["user:alice"] });
    const away = () => void Object.assign(held, { ownerId: "nobody" });
    const gone = await put({ ...config, read: () => held as never, delete: away }, "delete");
    assert.deepEqual(gone.body, { row: null, to: ["user:bob"], before: ["user:bob"] });
  });

  test("of a delete is that of the row that was, which read knows", async () => {
    assert.deepEqual((await put({ ...config, read: () => own }, "delete")).body, { row: null, to: ["user:alice"], before: ["user:alice"] });
    // The log may know it.
    assert.deepEqual((await put({ ...config, read: () => null }, "delete")).body, { row: null });
    // As in 1.4.
    const byKey = { ...config, scope: (_ctx: unknown, _action: unknown, row: Todo) => [`owner-of-${row.id}`] };
    assert.deepEqual((await put(byKey, "delete")).body, { row: null, to: ["user:owner-of-t1"] });
    assert.deepEqual((await put(config, "delete")).body, { row: null, to: null });
    assert.match(logged.at(-1) ?? "", /may need the handler read/);
  });

  test("of before that cannot be told is left out, and a read that fails ends the mutation before it happens", async () => {
    let updated = 0;
    const update = (_ctx: unknown, id: string) => ((updated += 1), { ...own, id, ownerId: "bob" });
    const scope = (_ctx: unknown, _action: unknown, row: Todo) => (row.ownerId === "alice" ? thrower(new Error("x"))() : ["bob"]);
    const { body } = await put({ update, scope, read: () => own }, "update");
    assert.deepEqual([body.to, "before" in body, updated], [["user:bob"], false, 1]);
    assert.deepEqual(await code({ update, read: thrower(new Error("D1_ERROR: gone")) }, "update"), [500, "internal", "internal"]);
    assert.equal(updated, 1);
  });
});

describe("what is refused before a handler has written", () => {
  const done = async (config: Partial<Config>, operation: Asked, more?: object) => (await put(config, operation, more)).body.error.done;
  const failing = thrower(new Error("s3cret"));

  test("says that nothing is done, whatever it is", async () => {
    const update = thrower(new Error("unused"));
    assert.equal(await done({}, "update"), false);
    assert.equal(await done({ update, authorize: failing }, "update", { authorize: true }), false);
    assert.equal(await done({ update, read: failing }, "update"), false);
    assert.equal(await done({ update, validate: { update: { parse: failing } } }, "update"), false);
    assert.equal(await done({ update }, "update", { channel: "unknown" }), false);
    assert.equal(await done({ update }, "update", { v: 2 }), false);
    const forged = await read(await syncHooks([]).POST(signed("update", question("update"), { secret: "other" }), { HOOK_SECRET: SECRET }));
    const misconfigured = await read(await syncHooks([]).POST(signed("update", question("update")), {}));
    assert.deepEqual([forged.body.error.done, misconfigured.body.error.done], [false, false]);
  });

  test("says no such thing once the handler runs, unless that does", async () => {
    assert.equal(await done({ update: failing }, "update"), undefined);
    assert.equal(await done({ create: () => ({ id: "other" }) as never }, "create"), undefined);
    assert.equal(await done({ delete: thrower(new TidewireError("unavailable", "?")) }, "delete"), undefined);
    const undone = Object.assign(new TidewireError("unavailable", "later"), { done: false });
    assert.equal(await done({ update: thrower(undone) }, "update"), false);
    assert.equal(await done({ update: thrower(Object.assign(undone, { done: true })) }, "update"), undefined);
  });
});

describe("what a handler throws", () => {
  const thrown = (error: unknown, more: object = {}) => code({ update: thrower(error), authorize: thrower(error) }, "update", more);

  test("is told with its code, its text and its details, where it has one of the contract's", async () => {
    const current = { id: "t1", title: "newer" };
    const error = new TidewireError("conflict", "it is newer", { field: "title", retryable: true, retryAfterMs: 50, current });
    const { status, body } = await put({ update: thrower(error) }, "update");
    assert.deepEqual([status, body], [409, { error: { code: "conflict", message: "it is newer", field: "title", retryable: true, retryAfterMs: 50, current } }]);
    for (const [name, status] of [["unauthorized", 401], ["forbidden", 403], ["read_only", 403], ["invalid", 400], ["not_found", 404], ["conflict", 409], ["rate_limited", 429], ["unavailable", 503]] as const) {
      assert.deepEqual(await thrown(new TidewireError(name, "why")), [status, name, "why"]);
      assert.deepEqual(await thrown(Object.assign(new Error("why"), { code: name })), [status, name, "why"]);
    }
    assert.deepEqual(logged, []);
  });

  test("is internal else, and its text goes to the log alone", async () => {
    class QueryError extends Error {
      override name = "QueryError";
    }
    const coded = (code: string) => Object.assign(new Error("s3cret"), { code });
    for (const error of [new Error("s3cret"), new TypeError("s3cret"), new QueryError("s3cret"), coded("ECONNRESET"), coded("toString"), "s3cret", undefined, { code: "forbidden", message: "s3cret" }, new TidewireError("internal", "s3cret"), new TidewireError("misconfigured", "s3cret")]) {
      assert.deepEqual(await thrown(error), [500, "internal", "internal"]);
      assert.match(logged.pop() ?? "", /^update of todos failed: (s3cret|undefined|\[object Object\])$/);
    }
  });

  test("of a publish in it is not taken for the client's fault", async () => {
    assert.deepEqual(await thrown(new TidewireError("unauthorized", "bad key", { status: 401 })), [500, "internal", "internal"]);
    const lost = new TidewireError("no_answer", "lost", { retryable: true });
    assert.deepEqual(await thrown(lost), [503, "unavailable", "not available now, try again"]);
  });

  /** The error that carries its text to clients of 1.4: its name is its code. */
  class SerializableError extends Error {
    static readonly code: string = "SerializableError";
    readonly code: string;
    constructor(message: string, code?: string) {
      super(message);
      this.code = code ?? (new.target as typeof SerializableError).code;
      this.name = this.code;
    }
  }
  class TodoNotFound extends SerializableError {
    static override readonly code = "TodoNotFound";
  }

  test("as 1.4's SerializableError is told with its text, under the code that is most like its own", async () => {
    assert.deepEqual(await thrown(new SerializableError("the list is full")), [400, "invalid", "the list is full"]);
    assert.deepEqual(await thrown(new TodoNotFound("gone")), [404, "not_found", "gone"]);
    assert.deepEqual(await thrown(new SerializableError("gone", "not_found")), [404, "not_found", "gone"]);
    for (const [name, status, like] of [["UnauthorizedError", 401, "unauthorized"], ["AccessDenied", 403, "forbidden"], ["VersionConflict", 409, "conflict"], ["TooManyTodos", 429, "rate_limited"]] as const) {
      assert.deepEqual(await thrown(new SerializableError("why", name)), [status, like, "why"]);
    }
  });

  test("as 1.4's plain errors refuses, where authorize throws it, or where it begins so", async () => {
    const anonymous = { identity: null, topics: [], claims: null };
    const judged = (error: unknown, more: object = {}) => thrown(error, { authorize: true, ...more });
    assert.deepEqual(await judged(new Error("Login required"), anonymous), [401, "unauthorized", "sign in first"]);
    assert.deepEqual(await judged(new Error("Login required")), [403, "forbidden", "this is not allowed"]);
    assert.deepEqual(await thrown(new Error("Forbidden")), [403, "forbidden", "this is not allowed"]);
    assert.deepEqual(await thrown(new Error("Not found")), [404, "not_found", "no such row"]);
    assert.deepEqual(await thrown(new Error("Unauthorized"), anonymous), [401, "unauthorized", "sign in first"]);
    assert.deepEqual(await thrown(new Error("Notes are unavailable")), [500, "internal", "internal"]);
    assert.equal(logged.length, 6);
  });

  test("by authorize because something failed does not refuse", async () => {
    for (const error of [new Error("D1_ERROR: no such table: users"), new TypeError("x is undefined"), new Error("x", { cause: "y" }), Object.assign(new Error("x"), { code: "ECONNRESET" }), "x"]) {
      assert.deepEqual(await thrown(error, { authorize: true }), [500, "internal", "internal"]);
    }
  });
});

describe("handlers of @sveltebase/sync 1.4", () => {
  // Written as for that library, types and all.
  interface User {
    id: string;
    role: "admin" | "member";
  }
  interface Note {
    id: string;
    text: string;
    userId: string;
    updatedAt: string;
  }
  const notes = new Map<string, Note>();
  const sessionOf = (ctx: SyncContext) => /session=(\w+)/.exec(ctx.request.headers.get("Cookie") ?? "")?.[1];
  const noteSync = defineSync<Note, User>({
    channel: "notes",
    authorize: async (ctx) => {
      if (!ctx.auth) throw new Error("Unauthorized");
    },
    fetch: async (ctx, since) => {
      const visible = [...notes.values()].filter(({ userId }) => userId === ctx.identity);
      return since ? visible.filter(({ updatedAt }) => updatedAt > since) : visible;
    },
    create: async (ctx, data) => {
      if (sessionOf(ctx) === undefined) throw new Error("Forbidden");
      notes.set(data.id, data);
      return data;
    },
    update: async (ctx, key, changes) => {
      const note = notes.get(key);
      if (note?.userId !== ctx.auth?.user.id) throw new Error("Not found");
      const changed = { ...note, ...changes } as Note;
      notes.set(key, changed);
      return changed;
    },
    delete: async (ctx, key) => {
      if (ctx.auth?.user.role !== "admin") throw new Error("Only admins can delete items.");
      notes.delete(key);
    },
    scope: (ctx) => (ctx.identity ? [ctx.identity] : []),
  });
  const { POST } = syncHooks([noteSync]);
  const asked = (operation: Asked, more: object = {}) => ask(POST, operation, { channel: "notes", authorize: true, ...more });

  test("work unchanged, through a note's life", async () => {
    const note = { id: "n1", text: "hi", userId: "alice", updatedAt: "2026-01-02T00:00:00.000Z" };
    const created = await asked("create", { key: "n1", data: note });
    assert.deepEqual(created.body, { row: note, to: ["user:alice"] });
    assert.deepEqual((await asked("fetch")).body.rows, [note]);
    assert.deepEqual((await asked("fetch", { since: Date.parse("2026-01-01") })).body.rows, [note]);
    assert.deepEqual((await asked("fetch", { since: Date.parse("2026-01-02") })).body.rows, []);
    assert.deepEqual((await asked("fetch", { identity: "bob" })).body.rows, []);
    assert.deepEqual((await asked("update", { key: "n1", data: { text: "ho" } })).body.row, { ...note, text: "ho" });
    assert.equal((await asked("update", { key: "n1", identity: "bob", data: {} })).body.error.code, "not_found");
    assert.equal((await asked("fetch", { identity: null, claims: null })).body.error.code, "unauthorized");
    assert.equal((await asked("delete", { key: "n1" })).body.error.code, "internal");
    const admin = { claims: { sub: "alice", role: "admin" } };
    assert.deepEqual((await asked("delete", { key: "n1", ...admin })).body, { row: null, to: ["user:alice"] });
    assert.equal(notes.size, 0);
  });
});
