// A route of an app that passes sync traffic on to the sync Worker, as the app Worker in Rust does
// (src/workers/gateway.rs). It holds no key and no rule.
import { TidewireError, textOf } from "../error.ts";
import { syncWorker, type Platform, type SyncWorker, type Target } from "./settings.ts";

/** What a route is called with: SvelteKit's event, `{ request, platform: { env } }`, or a request. */
export type RouteEvent = Request | { readonly request: Request; readonly platform?: Platform | null | undefined };

/** A fetch-style route. */
export type Route = (event: RouteEvent) => Promise<Response>;

/** Headers that mean something inside begin so. Nobody outside may set one. */
const INTERNAL_PREFIX = "x-tidewire-";

/** Tells the sync Worker which origin the browser used for the app. */
const ORIGIN_HEADER = "x-tidewire-origin";

/** How long a response may take to begin. */
const DEADLINE_MS = 30_000;

/**
 * Makes the routes that pass requests on: WebSocket upgrades (in Workers), sessions, and the calls
 * of publishers and operators. Path, query, cookies, body and answer go unchanged; what lies at
 * other paths than the sync Worker's own is its 404.
 */
export function syncProxy(target: Target = {}): { readonly GET: Route; readonly POST: Route } {
  const pass: Route = async (event) => {
    const { request, platform } = event instanceof Request ? { request: event, platform: undefined } : event;
    let worker: SyncWorker;
    try {
      worker = syncWorker({ ...target, platform: platform ?? target.platform });
    } catch (error) {
      console.error(textOf(error));
      return refusal(error instanceof TidewireError ? error.message : "internal");
    }
    try {
      return await within(DEADLINE_MS, () => forward(request, worker));
    } catch (error) {
      console.error(`the sync Worker did not answer: ${textOf(error)}`);
      return refusal("not available now, try again");
    }
  };
  return { GET: pass, POST: pass };
}

function forward(request: Request, { fetcher, origin }: SyncWorker): Promise<Response> {
  const from = new URL(request.url);
  // Set, not resolved: a path like `//host` names a path, and no host.
  const to = new URL(fetcher ? from : origin);
  to.pathname = from.pathname;
  to.search = from.search;
  const passed = new Request(new Request(to, request), { redirect: "manual" });
  for (const name of [...passed.headers.keys()]) {
    if (name.startsWith(INTERNAL_PREFIX)) passed.headers.delete(name);
  }
  passed.headers.set(ORIGIN_HEADER, from.origin);
  if (fetcher) return fetcher.fetch(passed);
  // These are of the connection that the request came by. Workers mend that themselves, Node does not.
  for (const name of ["host", "keep-alive", "transfer-encoding"]) passed.headers.delete(name);
  // What came back compressed would go on to clients that never asked for it.
  passed.headers.set("accept-encoding", "identity");
  return fetch(passed);
}

/** Waits for a response to begin. The response itself may go on for as long as it likes. */
async function within(ms: number, respond: () => Promise<Response>): Promise<Response> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no response within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([respond(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The sync Worker's own 503, where it cannot be asked. */
function refusal(message: string): Response {
  const error = { code: "unavailable", message, retryable: true };
  return Response.json({ error }, { status: 503, headers: { "cache-control": "no-store" } });
}
