/** What wrangler.jsonc and the secrets give; `wrangler types` makes such a file. */
interface Env {
  SYNC_WORKER?: Fetcher;
  SYNC_WORKER_URL?: string;
  HOOK_SECRET: string;
  PUBLISH_KEY?: string;
  DB: D1Database;
}
