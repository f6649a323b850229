// What clients and publishers did, and the proof at the end: each seq of the space is one of these, once.
import assert from "node:assert/strict";
import { mutation } from "../workerd/harness.mjs";

/** A write as its client has sent it: content that is otherwise would be refused. */
const again = ({ id, channel, action, key, data }) =>
  action === "create" ? { type: "mutate", id, channel, action, data } : mutation(id, channel, action, key, data);

const seqOf = (cursor) => Number(cursor.split(".")[1]);

export class Journal {
  /** Every write of a client by its id. */
  writes = new Map();
  /** How often a code was the answer to a write. */
  refusals = {};
  #published = [];

  /** A client has written something. */
  write(device, channel, action, data, { id, key, local, confirmed }) {
    const write = { id, device, channel, action, key, data };
    this.writes.set(id, write);
    local.then(() => (write.isKept = true), () => {});
    confirmed.then(() => (write.isConfirmed = true), () => {});
  }

  /** A write was refused; says whether that may be. */
  refused(id, code) {
    const write = this.writes.get(id);
    if (write === undefined || write.isConfirmed) return false;
    if (write.refusal === undefined) this.refusals[code] = (this.refusals[code] ?? 0) + 1;
    write.refusal = code;
    return true;
  }

  settled(id) {
    const write = this.writes.get(id);
    if (write !== undefined) write.isSettled = true;
  }

  /**
   * A device has crashed: what it had not kept may have happened or not, and what it has not kept the
   * refusal of it may send again.
   */
  crashed(device) {
    for (const write of this.writes.values()) {
      if (write.device !== device || write.isSettled) continue;
      write.isUncertain ||= !write.isKept || write.refusal !== undefined;
      write.refusal = undefined;
    }
  }

  published(lastSeq, count) {
    for (let seq = lastSeq - count + 1; seq <= lastSeq; seq += 1) this.#published.push(seq);
  }

  /** Sends again what crashed devices have forgotten: whether it happened then is known afterwards. */
  async repeatUncertain(space) {
    const uncertain = [...this.writes.values()].filter((write) => write.isUncertain);
    let forgotten = 0;
    for (const [write, answer] of await this.#repeat(space, uncertain)) {
      assert.ok(!write.isConfirmed || answer.replayed, `${write.id} was confirmed and has not happened`);
      if (!answer.replayed) forgotten += 1;
      write.refusal = answer.type === "reject" ? answer.error.code : undefined;
    }
    return { uncertain: uncertain.length, forgotten };
  }

  /**
   * Every write that was not refused is known to the server as done, and what was done and published
   * makes up the sequence from its first to its last number.
   */
  async audit(space) {
    const done = [...this.writes.values()].filter(({ refusal }) => refusal === undefined);
    const seqs = [...this.#published];
    for (const [write, answer] of await this.#repeat(space, done)) {
      assert.equal(answer.type, "ack", `${JSON.stringify({ ...write, device: undefined })}: ${JSON.stringify(answer)}`);
      assert.ok(answer.replayed, `${write.id} had not happened`);
      seqs.push(seqOf(answer.cursor));
    }
    const { seq } = await space.stats();
    assert.deepEqual(seqs.toSorted((a, b) => a - b), Array.from({ length: seq }, (_, at) => at + 1));
    return { done: done.length, published: this.#published.length, seq };
  }

  /** The answers to writes that are sent once more, each by a new connection of its author. */
  async #repeat(space, writes) {
    const answers = [];
    for (const [identity, own] of Object.entries(Object.groupBy(writes, ({ device }) => device.identity))) {
      const client = await space.join(identity);
      for (let at = 0; at < own.length; at += 100) {
        const some = own.slice(at, at + 100);
        client.send(some.map(again));
        await client.pending(some.length, 20_000);
        const byId = new Map(client.inbox.splice(0).map((answer) => [answer.id, answer]));
        for (const write of some) answers.push([write, byId.get(write.id)]);
      }
      client.close();
    }
    return answers;
  }
}
