// One user's client, and what a pane asks of it.
import { createSync, type Sync } from "tidewire";
import { indexedDbStorage } from "tidewire/indexeddb";
import { LatencyMeter } from "./latency.ts";
import type { Rows, User } from "./rows.ts";

/** Where others point; nothing while they point elsewhere. Parts of the pane's width and height. */
export interface Pointer {
  readonly x?: number;
  readonly y?: number;
}

/** A token lasts as long as the page asks: `?seconds=5` shows what happens when sessions end. */
const seconds = new URLSearchParams(location.search).get("seconds");

async function getToken(user: User): Promise<string> {
  const response = await fetch(`/demo/token?user=${user}${seconds ? `&seconds=${seconds}` : ""}`, { method: "POST" });
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  const { token } = (await response.json()) as { token: string };
  return token;
}

export class Session {
  readonly user: User;
  readonly sync: Sync<Rows>;
  readonly latency = new LatencyMeter();
  /** How often the connection has changed: a write that outlives one tells nothing of latency. */
  #connections = 0;

  constructor(user: User, isOffline: boolean) {
    this.user = user;
    this.sync = createSync<Rows>({
      token: () => getToken(user),
      storage: indexedDbStorage(),
      autoConnect: !isOffline,
      onError: (error) => console.info(`${user}: ${error.code}: ${error.message}`),
    });
    this.sync.on("status", (status) => {
      if (status !== "synced" && status !== "syncing") this.#connections += 1;
    });
    this.room.presence.join({});
  }

  get todos() {
    return this.sync.channel("todos");
  }

  get notes() {
    return this.sync.channel("notes");
  }

  get room() {
    return this.sync.channel<object>("room:demo");
  }

  /** Tells `changed` of everything that a pane shows. */
  subscribe(changed: () => void): () => void {
    const { sync, latency, todos, notes, room } = this;
    const ends = [
      sync.on("status", changed),
      room.presence.subscribe(changed),
      latency.subscribe(changed),
      ...[todos, notes].flatMap((channel) => [channel.subscribe(changed), channel.onOutbox(changed)]),
    ];
    return () => ends.forEach((end) => end());
  }

  /** Measures a write, unless the connection is not there or goes meanwhile. A refusal stays in `rejected`. */
  write(write: () => { readonly confirmed: Promise<unknown> }): void {
    const { status } = this.sync;
    const [began, connection] = [performance.now(), this.#connections];
    write().confirmed.then(
      () => {
        const isWhole = (status === "synced" || status === "syncing") && connection === this.#connections;
        if (isWhole) this.latency.add(performance.now() - began);
      },
      () => {},
    );
  }

  point(pointer: Pointer): void {
    this.room.presence.join(pointer);
  }

  close(): void {
    void this.sync.close();
  }
}
