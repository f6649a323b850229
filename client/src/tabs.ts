// Several tabs, one connection: a lock makes one of them the leader, a channel carries what they tell.
import type { TabMessage } from "./family.ts";

export interface Tab {
  /** Another tab leads. */
  follow(): void;
  /** This tab leads, now or when the others have gone. */
  lead(): void;
  take(message: TabMessage): void;
}

export interface Joined {
  post(message: TabMessage): void;
  part(): void;
}

export interface Tabs {
  join(name: string, tab: Tab): Joined;
}

/** As much of Web Locks as this takes. */
interface Locks {
  request<T>(
    name: string,
    options: { readonly ifAvailable?: boolean; readonly signal?: AbortSignal },
    held: (lock: object | null) => Promise<T>,
  ): Promise<T>;
}

/** Web Locks and BroadcastChannel, where there are both. */
export function webTabs(): Tabs | undefined {
  const { locks } = (globalThis.navigator ?? {}) as { readonly locks?: Locks };
  // Node has both, but its processes share neither.
  const isPage = "document" in globalThis || "WorkerGlobalScope" in globalThis;
  if (!isPage || locks === undefined || globalThis.BroadcastChannel === undefined) return undefined;
  return {
    join(name, tab) {
      const channel = new BroadcastChannel(name);
      channel.onmessage = ({ data }) => tab.take(data as TabMessage);
      const ended = new AbortController();
      let release = () => {};
      const held = new Promise<void>((resolve) => (release = resolve));
      const lead = async () => {
        if (ended.signal.aborted) return;
        tab.lead();
        await held;
      };
      const line = async () => {
        const isFirst = await locks.request(name, { ifAvailable: true }, async (lock) => {
          if (lock !== null) await lead();
          return lock !== null;
        });
        if (isFirst || ended.signal.aborted) return;
        tab.follow();
        await locks.request(name, { signal: ended.signal }, lead);
      };
      line().catch((error: unknown) => {
        // Without locks (the page may not use them) every tab is on its own.
        if (!ended.signal.aborted) tab.lead(), void error;
      });
      return {
        post: (message) => channel.postMessage(message),
        part() {
          ended.abort();
          release();
          channel.close();
        },
      };
    },
  };
}
