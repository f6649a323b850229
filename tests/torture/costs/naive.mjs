// The day's app on the naive object: its clients, and its backend.
import assert from "node:assert/strict";
import { Peer, Player } from "./play.mjs";

/** Who has no WebSocket asks for all rows so often. */
const POLL_SECONDS = 25;

export class Naive extends Player {
  hibernates = false;
  #live = new Map();

  get meterUrl() {
    return this.stage.naive;
  }

  #url(path, team, more = {}) {
    const query = new URLSearchParams({ object: this.object(team).name, team, ...more });
    return `${this.stage.naive}/${path}?${query}`;
  }

  async come({ user: index, session }) {
    const user = this.users[index];
    const client = { user, session };
    this.#live.set(index, client);
    if (user.way !== "socket") return this.#poll(client);
    this.opened(this.object(user.team));
    this.requests += 1;
    const url = this.#url("connect", user.team, { user: user.name }).replace("http", "ws");
    client.peer = await Peer.open(url, { "x-meter-now": String(this.clock(this.now)) });
    await this.#show(client, "come");
  }

  async #poll(client) {
    await (await this.request(this.#url("rows", client.user.team))).json();
    this.delivered += 1;
    const next = this.now + POLL_SECONDS * 1_000;
    if (next < client.session.end) this.later(next, () => this.#poll(client));
  }

  async #show({ peer }, where) {
    await peer.send(this.clock(this.now), { type: "presence", state: { where } });
  }

  async presence({ user }) {
    const client = this.#live.get(user);
    if (client.peer) await this.#show(client, `row ${this.id()}`);
  }

  async mutate({ user, team, changes }) {
    const { peer } = this.#live.get(user);
    if (!peer) return this.#publish(team, changes);
    const id = this.id();
    const messages = await peer.send(this.clock(this.now), { type: "mutate", id, change: changes[0] });
    assert.ok(messages.some((message) => message.id === id && message.type === "ack"), JSON.stringify(messages));
  }

  async publish({ team, changes }) {
    await this.#publish(team, changes);
  }

  async batch({ team, changes }) {
    await this.#publish(team, changes);
  }

  async #publish(team, changes) {
    await (await this.request(this.#url("publish", team), { method: "POST", body: JSON.stringify(changes) })).json();
  }

  /** It has no tokens. */
  async renew() {}

  async leave({ user, session }) {
    const { peer, user: { team } } = this.#live.get(user);
    this.#live.delete(user);
    if (!peer) return;
    const beats = Math.floor((session.end - session.begin) / (this.day.heartbeatSeconds * 1_000));
    await peer.beat(beats, `${this.clock(this.now)}|{"type":"ping"}`);
    this.beats += beats;
    await peer.close(this.clock(this.now));
    this.delivered += peer.received;
    this.closed(this.object(team));
  }
}
