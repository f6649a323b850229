// Writes over HTTP: none is left behind, whenever it comes, and none waits forever for an answer.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Closed } from "../../client/src/link.ts";
import { Posts } from "../../client/src/posts.ts";
import type { Mutate } from "../../client/src/wire.ts";
import { Clock, calm } from "./world.ts";

const where = { url: new URL("http://sync.test/api/sync"), space: "global", token: undefined };
const mutate = (id: string): Mutate => ({ type: "mutate", id, channel: "todos", action: "delete", key: id }) as Mutate;

/** Posts to a server that answers as told. */
function posting(answer: (ids: string[], init: RequestInit) => Promise<Response>, tell: (message: { id: string }, posts: Posts) => void = () => {}) {
  const clock = new Clock();
  const asked: string[][] = [];
  const ends: Closed[] = [];
  const fetch = (_: unknown, init: RequestInit = {}) => {
    const ids = (JSON.parse(init.body as string) as { mutations: Mutate[] }).mutations.map(({ id }) => id);
    asked.push(ids);
    return answer(ids, init);
  };
  const net = { now: () => clock.time, after: (ms: number, run: () => void) => clock.after(ms, run), fetch, WebSocket } as never;
  const posts: Posts = new Posts(where, net, {
    tell: (message) => tell(message as { id: string }, posts),
    end: (how) => void ends.push(how),
    tokenOf: () => undefined,
  });
  return { posts, clock, asked, ends };
}

const acked = async (ids: string[]) => Response.json({ results: ids.map((id) => ({ type: "ack", id })) });

test("a write that comes as the last one is answered is sent, too", async () => {
  for (let wait = 0; wait < 8; wait += 1) {
    const { posts, asked } = posting(acked, ({ id }, posts) => {
      if (id !== "a") return;
      // After so many microtasks: there is no moment at which nobody takes care of it.
      let later = () => posts.add(mutate("b"));
      for (let i = 0; i < wait; i += 1) later = ((next) => () => queueMicrotask(next))(later);
      later();
    });
    posts.add(mutate("a"));
    await calm();
    assert.deepEqual(asked, [["a"], ["b"]], `after ${wait} microtasks`);
  }
});

test("a write that gets no answer ends the connection, so that it is sent again", async () => {
  const never = (_: string[], { signal }: RequestInit) =>
    new Promise<Response>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error)));
  const { posts, clock, ends } = posting(never);
  posts.add(mutate("a"));
  await clock.pass(29_000);
  assert.deepEqual(ends, []);
  await clock.pass(2_000);
  assert.deepEqual(ends, [{ code: 1006 }]);
  assert.equal(clock.next, Infinity, "no timer is left");
});

test("an answer in time leaves no timer", async () => {
  const { posts, clock, ends } = posting(acked);
  posts.add(mutate("a"));
  await clock.pass(1);
  assert.deepEqual([ends, clock.next], [[], Infinity]);
});
