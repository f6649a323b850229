/**
 * `tidewire/svelte`: how a client stands, as a value that Svelte 5 follows. Rows come by `tidewire/tanstack`.
 *
 * @module
 */
import { createSubscriber } from "svelte/reactivity";
import type { Standing } from "./react.ts";
import type { Status } from "./effects.ts";

/** `current` is `offline`, `connecting`, `syncing`, `synced` or `error`, wherever it is read. */
export function useSyncStatus(sync: Standing): { readonly current: Status } {
  const subscribe = createSubscriber((changed) => sync.on("status", changed));
  return {
    get current() {
      subscribe();
      return sync.status;
    },
  };
}
