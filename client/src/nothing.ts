// Keeping nothing: rows and writes end with the client.
import type { Keeper } from "./storage.ts";

const nothing = async () => undefined;

export const nothingKept: Keeper = {
  open: async () => [],
  outbox: nothing,
  load: nothing,
  commit: nothing,
  flush: nothing,
  destroy: nothing,
  close: nothing,
  recall: nothing,
  remember: nothing,
};
