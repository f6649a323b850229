// A small day in compressed time: what events cost is counted exactly, and that nothing else costs
// anything. The long form, and what it counts, is in tests/torture/costs/.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { DAY, MIDNIGHT, timeline, usersOf } from "../torture/costs/day.mjs";
import { BEGAN } from "../torture/costs/record.mjs";
import { bill, unitsOf } from "../torture/costs/prices.mjs";
import { open } from "../torture/costs/stage.mjs";
import { tablesOf, written } from "../torture/costs/tables.mjs";
import { Tidewire } from "../torture/costs/tidewire.mjs";
import { bearer, secrets } from "./harness.mjs";

const day = {
  ...DAY,
  ...{ users: 12, teamSize: 6, rows: 20, sessions: 1, sessionMinutes: [5, 8], tokenMinutes: 4, mutations: 8 },
  ...{ publishes: 12, batches: 2, batchSize: 5, streamPercent: 8, pollPercent: 8 },
};
const spaces = day.users / day.teamSize;

describe("a day of a small app", () => {
  const events = timeline(day);
  const users = usersOf(day);
  const how = (kind, way = undefined) =>
    events.filter((event) => event.kind === kind && [users[event.user]?.way, undefined].includes(way)).length;
  let stage, counts, week, silence;
  before(async () => {
    stage = await open();
    const player = new Tidewire(stage, day, "teams", BEGAN);
    await player.prepare(-MIDNIGHT / 24);
    await player.count();
    await player.play(events, MIDNIGHT);
    counts = await player.count();
    await player.play([], 10 * MIDNIGHT);
    week = await player.count();
    await player.play([], 100 * MIDNIGHT);
    silence = await player.count();
  });
  after(() => stage?.deployment.stop());

  test("has users who come in every way, and does all that it should", () => {
    assert.deepEqual(users.map(({ way }) => way).filter((way) => way !== "socket"), ["stream", "poll"]);
    const frames = Object.fromEntries(Object.entries(counts.kinds).map(([kind, { count }]) => [kind, count]));
    assert.equal(frames["frame hello"], how("come", "socket"));
    assert.equal(frames["frame mutate"], how("mutate", "socket"));
    assert.equal(frames.write, how("mutate") - how("mutate", "socket"));
    assert.equal(frames["frame auth"], how("renew", "socket"));
    assert.equal(frames.close, how("leave", "socket"));
    assert.equal(frames.broadcast, day.publishes);
    assert.equal(frames["broadcast-batch"], day.batches);
    assert.deepEqual(stage.deployment.logs, []);
  });

  test("writes three rows a mutation, two a published change, and none for who only reads", () => {
    const { "frame mutate": mutate, write, broadcast, "broadcast-batch": batch, ...others } = counts.kinds;
    // The first of a day in each space makes the table of the day's outcomes anew.
    const anew = 3 * spaces;
    assert.equal(mutate.written + write.written, 3 * (mutate.count + write.count) + anew);
    assert.equal(broadcast.written, 2 * broadcast.count);
    assert.equal(batch.written, 2 * day.batchSize * batch.count);
    for (const [kind, { written }] of Object.entries(others)) assert.equal(written, 0, kind);
  });

  test("has heartbeats that reach no object, and objects that sleep between events", () => {
    assert.ok(counts.beats >= 100);
    const frames = Object.keys(counts.kinds).filter((kind) => kind.startsWith("frame "));
    assert.deepEqual(frames, ["frame auth", "frame hello", "frame mutate", "frame presence"]);
    assert.ok(counts.sleeps > 50);
    assert.equal(counts.kinds.wake.count, counts.sleeps);
  });

  test("sets the alarm at most once for each that rings, and once where a session's end comes first", () => {
    const { count } = counts.kinds.alarm;
    assert.ok(count > 0);
    assert.ok(counts.alarmsSet <= count + how("come"), `${counts.alarmsSet} for ${count}`);
    assert.ok(week.alarmsSet <= week.kinds.alarm.count, `${week.alarmsSet} for ${week.kinds.alarm.count}`);
  });

  test("is trimmed in few alarms, each tombstone for a row, and then nothing happens any more", () => {
    assert.ok(week.kinds.alarm.count <= 3 * spaces, `${week.kinds.alarm.count} alarms`);
    const gone = events.flatMap(({ changes = [] }) => changes).filter(({ action }) => action === "delete").length;
    assert.ok(week.kinds.alarm.written >= gone);
    assert.ok(week.kinds.alarm.written <= gone + 12 * spaces, `${week.kinds.alarm.written} rows for ${gone}`);
    assert.deepEqual(silence.kinds, {});
    assert.equal(silence.alarmsSet, 0);
  });
});

test("an alarm whose work does not end rings again a minute later", async () => {
  const stage = await open({ faults: true });
  const now = BEGAN;
  const ask = (path, init = {}) =>
    fetch(stage.tidewire + path, { ...init, headers: { ...bearer(secrets.PUBLISH_KEY), "x-meter-now": String(now) } });
  const alarm = async (space) => (await (await ask(`/meter/time?object=${space}`)).json()).alarm;
  try {
    const alarms = [];
    for (let point = 0; point < 8; point += 1) {
      const space = `crash-${point}`;
      const body = JSON.stringify({ channel: "todos", action: "create", key: "k", data: {} });
      assert.equal((await ask(`/broadcast?space=${space}`, { method: "POST", body })).status, 200);
      const due = await alarm(space);
      assert.equal((await ask(`/faults?space=armed&at=${point}`)).status, 200);
      const { ok } = await ask(`/meter/alarm?object=${space}`);
      await ask("/faults?space=armed");
      alarms.push({ ok, alarm: (await alarm(space)) === due ? "as before" : (await alarm(space)) - now });
    }
    const crashes = alarms.findIndex(({ ok }) => ok);
    assert.ok(crashes >= 2, JSON.stringify(alarms));
    const [crashed, whole] = [{ ok: false, alarm: 60_000 }, { ok: true, alarm: "as before" }];
    assert.deepEqual(alarms, alarms.map((_, point) => (point < crashes ? crashed : whole)));
  } finally {
    await stage.deployment.stop();
  }
});

describe("docs/costs.md", () => {
  const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
  const recorded = JSON.parse(read("../torture/costs/recorded.json"));

  test("shows what was counted in the day as it is, at today's prices", () => {
    assert.deepEqual(recorded.day, DAY);
    assert.equal(written(read("../../docs/costs.md"), recorded), read("../../docs/costs.md"));
    assert.ok(Object.values(tablesOf(recorded)).every((table) => !table.includes("NaN")));
  });

  test("bills frames by twenties, setting the alarm as a row, and not what the runtime does by itself", () => {
    const kind = (count, written = 0) => ({ count, ms: 1, read: 10, written });
    const free = { close: kind(7), wake: kind(9), later: kind(3), timer: kind(5) };
    const kinds = { connect: kind(1), "frame mutate": kind(40, 120), ...free, alarm: kind(2, 4) };
    const units = unitsOf({ requests: 5, cpuMs: 6, heldMs: 993, alarmsSet: 3, bytes: 2e9, kinds });
    assert.equal(units.objectRequests, 1 + 40 / 20 + 2);
    assert.equal(units.rowsWritten, 120 + 4 + 3);
    assert.equal(units.activeMs, 1_000);
    assert.equal(units.objectGbSeconds, 0.128);
    const { lines } = bill({ ...units, objectRequests: 1e6 });
    const requests = lines.find(({ key }) => key === "objectRequests");
    assert.deepEqual([requests.month, requests.list, requests.beyond.toFixed(2)], [30e6, 4.5, "4.35"]);
    assert.equal(lines.find(({ key }) => key === "storedGb").list, 0.4);
  });
});
