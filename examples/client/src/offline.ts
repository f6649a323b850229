// A client that outlives its page: rows and writes are in IndexedDB, tabs share one connection.
import { createSync, type Sync } from "tidewire";
import { indexedDbStorage } from "tidewire/indexeddb";
import type { Rows } from "./rows.ts";

export function open(url: string, getToken: () => Promise<string | null>): Sync<Rows> {
  const sync = createSync<Rows>({
    url,
    token: getToken,
    schemaVersion: 1,
    storage: indexedDbStorage(),
    onError: (error) => console.warn(error.code, error.message),
    onConflict: (_channel, _key, fields, { mine, theirs }) => {
      // Titles are worth keeping both; of anything else the last write counts.
      if (!fields.includes("title")) return "mine";
      return { title: `${String(theirs["title"])} / ${String(mine["title"])}` };
    },
  });
  return sync;
}

/** What did not go through, for people to see. */
export async function complaints(sync: Sync<Rows>): Promise<readonly string[]> {
  const todos = sync.channel("todos");
  const { local, confirmed } = todos.update("t1", { title: "Buy oat milk" });
  await local;
  await confirmed.catch(() => {});
  return todos.rejected.map(({ id, key, error }) => {
    if (error.code === "not_found") todos.dismiss(id);
    return `${key}: ${error.message}`;
  });
}
