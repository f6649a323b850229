// What the shell takes from its surroundings: browsers, Node and Workers alike; tests bring their own.
import type { Net } from "./transport.ts";

export interface Platform extends Net {
  random(): number;
  /** Calls when the network is back, or somebody looks at the page again. */
  onWake(run: () => void): () => void;
}

type Listen = (type: string, listener: () => void) => void;

interface Page {
  readonly addEventListener?: Listen;
  readonly removeEventListener?: Listen;
  readonly document?: Page & { readonly visibilityState: string };
}

export function platform(): Platform {
  const page = globalThis as unknown as Page;
  return {
    fetch: (input, init) => fetch(input, init),
    WebSocket: globalThis.WebSocket,
    now: () => Date.now(),
    random: () => Math.random(),
    after(ms, run) {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    onWake(run) {
      const { document } = page;
      const look = () => document?.visibilityState === "visible" && run();
      const each = (listen: "addEventListener" | "removeEventListener") => {
        page[listen]?.("online", run);
        document?.[listen]?.("visibilitychange", look);
      };
      each("addEventListener");
      return () => each("removeEventListener");
    },
  };
}
