// So many sockets on one object, which answers all along: what they take.
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { heartbeat, start } from "../workerd/harness.mjs";
import { Chance } from "./chance.mjs";
import { Meter } from "./measure.mjs";

/** Users among whom the sockets are divided. */
const USERS = 100;
/** Sockets that are opened side by side. */
const AT_ONCE = 40;
/** Whose socket or change does not come for so long has failed. */
const GIVE_UP_MS = 120_000;

/**
 * Opens `count` sockets on one object in a workerd of its own, each with a hello and a subscription; `deflate` whether
 * they offer to have frames packed. A publish and a ping are sent about every `pauseMs`; each must be answered within
 * `answerMs`.
 */
export async function fill({ seed, count, deflate, pauseMs = 1_000, answerMs, say = () => {} }) {
  const workers = await start({ workers: ["sync"], direct: true, inspector: true, vars: { SYNC_LOG: "none" } });
  const clients = [];
  const meter = await Meter.open(workers);
  try {
    const space = workers.space();
    const chance = new Chance(seed);
    const tokens = Array.from({ length: USERS }, (_, at) => space.token(`u${at}`));
    await space.publish("feed", "create", "k", { n: 0 });
    const before = await meter.read();
    const asker = new Asker(space, chance, { pauseMs, answerMs });
    const asking = asker.run();
    asking.catch(() => {});

    const began = Date.now();
    const queue = Array.from({ length: count }, () => chance.pick(tokens)).values();
    const open = async (token) => {
      const { status, client, body } = await workers.upgrade(`${space.path}?token=${token}`, { ms: GIVE_UP_MS, deflate });
      assert.equal(status, 101, JSON.stringify(body));
      clients.push(client);
      client.send({ type: "hello", v: 1, subscribe: [{ id: "s", channel: "feed" }] });
      await client.receive({ type: "snapshot", id: "s" }, GIVE_UP_MS);
      if (clients.length % 2_500 === 0) say(`${clients.length} sockets after ${Math.round((Date.now() - began) / 1_000)} s`);
    };
    const opening = Array.from({ length: AT_ONCE }, async () => {
      for (const token of queue) await open(token);
    });
    await Promise.all(opening);
    const seconds = (Date.now() - began) / 1_000;

    const published = Date.now();
    const { receivers } = await space.publish("feed", "update", "k", { n: 1 });
    assert.equal(receivers, count);
    await Promise.all(clients.map((client) => client.receive({ type: "change", key: "k" }, GIVE_UP_MS)));
    const deliveredMs = Date.now() - published;
    // A snapshot of the heap stops the isolate: it is no time to ask.
    asker.isOver = true;
    await asking;
    const { asked, waits } = asker;
    assert.ok(asked > 0 && waits.length === asked, `${waits.length} of ${asked} were answered`);
    assert.deepEqual(workers.givenUp, []);
    return { seconds, deliveredMs, waits, before, after: await meter.read() };
  } finally {
    meter.close();
    for (const client of clients) client.drop();
    await workers.stop();
  }
}

/** A publish and a ping again and again, whatever goes on, and how long both took. */
class Asker {
  asked = 0;
  waits = [];
  isOver = false;

  constructor(space, chance, { pauseMs, answerMs }) {
    Object.assign(this, { space, chance, pauseMs, answerMs });
  }

  async run() {
    const { space, chance, answerMs } = this;
    const pinger = await space.join("pinger");
    for (; !this.isOver; await delay(this.pauseMs * (0.5 + chance.next()))) {
      this.asked += 2;
      await this.#timed(space.publish("todos", "create", `t${this.asked % 10}`, { n: this.asked }));
      pinger.send(heartbeat);
      await this.#timed(pinger.receive("pong", answerMs));
    }
    pinger.drop();
  }

  async #timed(answer) {
    const began = Date.now();
    await answer;
    const ms = Date.now() - began;
    assert.ok(ms <= this.answerMs, `an answer took ${ms} ms, ${this.answerMs} at most`);
    this.waits.push(ms);
  }
}
