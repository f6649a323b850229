/**
 * `tidewire/react`: how a client stands, as a hook. Rows come by `tidewire/tanstack`.
 *
 * @module
 */
import { useCallback, useSyncExternalStore } from "react";
import type { Status } from "./effects.ts";
import type { Unsubscribe } from "./emitter.ts";

/** As much of a client as this needs. */
export interface Standing {
  readonly status: Status;
  on(event: "status", listener: (status: Status) => void): Unsubscribe;
}

/** `offline`, `connecting`, `syncing`, `synced` or `error`; renders anew when that changes. */
export function useSyncStatus(sync: Standing): Status {
  const subscribe = useCallback((changed: () => void) => sync.on("status", changed), [sync]);
  const look = () => sync.status;
  return useSyncExternalStore(subscribe, look, look);
}
