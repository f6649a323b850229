/** What wrangler.jsonc and the secrets give; `wrangler types` makes such a file. */
interface Env {
  SYNC_WORKER?: Fetcher;
  SYNC_WORKER_URL?: string;
  PUBLISH_KEY: string;
  CHANGES: Queue;
  DB: D1Database;
}
