// The day's app on Tidewire: its clients, and its backend.
import assert from "node:assert/strict";
import { bearer, heartbeat, secrets, token, within } from "../../workerd/harness.mjs";
import { Peer, Player, patience } from "./play.mjs";

/** How long a reader waits for news at a time. */
const WAIT_SECONDS = 25;
/** How often the object pings what is open, and so finds out who has gone. */
const PING_SECONDS = 10;

export class Tidewire extends Player {
  hibernates = true;
  #live = new Map();
  /** When each object's alarm is due, as far as is known, and what calls its ringing off. */
  #alarms = new Map();
  #spaces = new Map();
  #pinging = new Set();

  get meterUrl() {
    return this.stage.tidewire;
  }

  get origin() {
    return this.stage.deployment.origin;
  }

  #space(name) {
    if (!this.#spaces.has(name)) this.#spaces.set(name, this.stage.deployment.space(name));
    return this.#spaces.get(name);
  }

  async sleep(name) {
    // Where the play is slow the runtime has seen to it by itself.
    await this.#space(name).sleep().catch((error) => assert.match(error.message, /not currently running/));
  }

  #token(user) {
    const exp = this.clock(this.now) / 1_000 + this.day.tokenMinutes * 60;
    const { name } = this.object(user.team);
    return token(user.name, { space: name, topics: [channelOf(user)], exp });
  }

  /** Looks when the object's alarm is due, after what may have moved it, and rings it then. */
  async #attend(object, peer) {
    const { alarm } = peer ?? (await this.meter(`time?object=${object.name}`));
    const known = this.#alarms.get(object.name);
    if (known?.alarm === alarm) return;
    known?.callOff();
    if (alarm === null) return void this.#alarms.delete(object.name);
    const at = alarm - this.began;
    assert.ok(at >= this.now, "an alarm is set for the past");
    const callOff = this.later(at, async () => {
      await this.reach(object);
      await this.meter(`alarm?object=${object.name}`);
      this.#alarms.delete(object.name);
      await this.#attend(object);
    });
    this.#alarms.set(object.name, { alarm, callOff });
  }

  async come({ user: index, session }) {
    const user = this.users[index];
    const object = this.object(user.team);
    const client = { user, object, session, ...(user.seen ?? {}), token: this.#token(user) };
    this.#live.set(index, client);
    if (user.way === "stream") return this.#stream(client);
    if (user.way === "poll") return this.#poll(client, {});
    await this.reach(object);
    this.requests += 1;
    const url = `${this.origin.replace("http", "ws")}/api/sync/${object.name}`;
    client.peer = await Peer.open(url, { ...bearer(client.token), "x-meter-now": String(this.clock(this.now)) });
    const channel = channelOf(user);
    const { cursor, view } = user.seen ?? {};
    const hello = { type: "hello", v: 1, subscribe: [{ id: "s", channel, cursor, view }] };
    let messages = await client.peer.send(this.clock(this.now), hello);
    for (;;) {
      const page = messages.find(({ type }) => type === "snapshot");
      assert.ok(page, JSON.stringify(messages));
      Object.assign(client, { cursor: page.cursor, view: page.view });
      if (!page.more) break;
      const more = { type: "subscribe", id: "s", channel, cursor: page.cursor, view: page.view };
      messages = await client.peer.send(this.clock(this.now), more);
    }
    await this.#show(client, "come");
    await this.#attend(object, client.peer);
  }

  async #show({ peer, user }, where) {
    await peer.send(this.clock(this.now), { type: "presence", channel: channelOf(user), state: { where } });
  }

  async presence({ user }) {
    const client = this.#live.get(user);
    if (!client.peer) return; // Over HTTP nobody shows where he is.
    await this.reach(client.object);
    await this.#show(client, `row ${this.id()}`);
    await this.#attend(client.object, client.peer);
  }

  async mutate({ user, changes: [{ action, key, data }] }) {
    const client = this.#live.get(user);
    const mutation = { type: "mutate", id: this.id(), channel: channelOf(client.user), action, key, data };
    await this.reach(client.object);
    let result;
    if (client.peer) {
      const messages = await client.peer.send(this.clock(this.now), mutation);
      result = messages.find(({ id }) => id === mutation.id);
    } else {
      const { type, ...rest } = mutation;
      const init = { method: "POST", headers: bearer(client.token), body: JSON.stringify({ mutations: [rest] }) };
      const response = await this.request(`${this.origin}/api/sync/mutate?space=${client.object.name}`, init);
      [result] = (await response.json()).results;
    }
    assert.equal(result?.type, "ack", JSON.stringify(result));
    await this.#told(client.user.team, client.object, client.peer);
  }

  async publish({ team, changes: [change] }) {
    await this.#publish(team, "/broadcast", change);
  }

  async batch({ team, changes }) {
    await this.#publish(team, "/broadcast-batch", { changes });
  }

  async #publish(team, path, body) {
    const object = this.object(team);
    await this.reach(object);
    const text = JSON.stringify({ channel: channelOf({ team }), ...body });
    const init = { method: "POST", headers: bearer(secrets.PUBLISH_KEY), body: text };
    await (await this.request(`${this.origin}${path}?space=${object.name}`, init)).json();
    await this.#told(team, object);
  }

  /** After a change: whoever waited for one is answered, and asks again. */
  async #told(team, object, peer) {
    for (const client of this.#live.values()) if (client.waits && client.user.team === team) await this.#next(client);
    await this.#attend(object, peer);
  }

  async renew({ user }) {
    const client = this.#live.get(user);
    client.token = this.#token(client.user);
    if (client.user.way === "poll") return;
    if (client.user.way === "stream") {
      // A stream ends with its token: one with the next takes its place, from where it is.
      this.#hangUp(client);
      return this.#stream(client);
    }
    await this.reach(client.object);
    const messages = await client.peer.send(this.clock(this.now), { type: "auth", token: client.token });
    assert.ok(messages.some(({ type }) => type === "authed"), JSON.stringify(messages));
    await this.#attend(client.object, client.peer);
  }

  async leave({ user: index, session }) {
    const client = this.#live.get(index);
    this.#live.delete(index);
    const { user, object, peer } = client;
    if (user.way === "stream") this.#hangUp(client);
    else if (user.way === "poll") client.giveUp.abort();
    else {
      // Where the object sleeps, heartbeats must not wake it; they come all at once, before the end.
      const beats = Math.floor((session.end - session.begin) / (this.day.heartbeatSeconds * 1_000));
      await peer.beat(beats, heartbeat);
      this.beats += beats;
      await this.reach(object);
      await peer.close(this.clock(this.now));
      this.delivered += peer.received;
      await this.#attend(object);
    }
    if (user.way === "poll") this.#overAtPing(object);
    user.seen = { cursor: peer?.cursor ?? client.cursor, view: client.view };
  }

  #url({ user, object }, more = {}) {
    const query = new URLSearchParams({ space: object.name, channel: channelOf(user), ...more });
    return `${this.origin}/api/sync/changes?${query}`;
  }

  /** A stream of events, from where the client is. */
  async #stream(client) {
    const { object, cursor, view } = client;
    await this.reach(object);
    this.opened(object);
    client.giveUp = new AbortController();
    const from = cursor === undefined ? {} : { cursor, view };
    const init = { headers: { ...bearer(client.token), accept: "text/event-stream" }, signal: client.giveUp.signal };
    const response = await this.request(this.#url(client, from), init);
    const begun = Promise.withResolvers();
    const read = async () => {
      let text = "";
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          this.delivered += /^data:/m.test(event) ? 1 : 0;
          const id = /^id: ?(.*)$/m.exec(event)?.[1];
          if (id === undefined) continue;
          client.lastId = id;
          begun.resolve();
        }
      }
    };
    read().catch(begun.reject);
    await begun.promise;
    begun.promise.catch(() => {});
    this.#ping(object);
    await this.#attend(object);
  }

  #hangUp(client) {
    client.giveUp.abort();
    this.#overAtPing(client.object);
  }

  /** The object finds out at its next ping that a reader has gone. */
  #overAtPing(object) {
    this.later(this.now + PING_SECONDS * 1_000, () => this.closed(object));
  }

  /** Pings go on as long as anything is open. */
  #ping(object) {
    if (this.#pinging.has(object)) return;
    this.#pinging.add(object);
    const ping = () =>
      this.later(this.now + PING_SECONDS * 1_000, async () => {
        await this.#ring(object);
        if (object.open > 0) return ping();
        this.#pinging.delete(object);
      });
    ping();
  }

  /** Has the object's timers ring that are due. */
  async #ring(object) {
    object.last = this.now;
    await this.meter(`timers?object=${object.name}`);
  }

  /** Asks for a page; from the second on it waits for news. */
  async #poll(client, { wait }) {
    const { object, cursor, view } = client;
    await this.reach(object);
    client.giveUp = new AbortController();
    const from = cursor === undefined ? {} : { cursor, view };
    const init = { headers: bearer(client.token), signal: client.giveUp.signal };
    const response = await this.request(this.#url(client, { ...from, ...(wait && { wait }) }), init);
    const answer = response.json();
    await this.#attend(object);
    if (!wait) return this.#take(client, await answer);
    this.opened(object);
    answer.catch(() => {}); // It is given up where the client leaves.
    client.waits = answer;
    this.#ping(object);
    const end = this.now + WAIT_SECONDS * 1_000 + 2;
    this.later(end, async () => {
      if (client.waits !== answer || this.#live.get(this.users.indexOf(client.user)) !== client) return;
      await this.#ring(object);
      await this.#next(client);
    });
  }

  /** The answer has come: the next question follows at once. */
  async #next(client) {
    const page = await within(patience, client.waits, () => "no answer to who waits");
    client.waits = undefined;
    this.closed(client.object);
    await this.#take(client, page);
  }

  async #take(client, page) {
    this.delivered += 1;
    Object.assign(client, { cursor: page.cursor, view: page.view });
    await this.#poll(client, page.more ? {} : { wait: WAIT_SECONDS });
  }
}

const channelOf = ({ team }) => `room:${team}`;
