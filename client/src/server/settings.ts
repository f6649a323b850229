// Finding the way to the sync engine in bindings and settings. What is missing or wrong is refused
// by its name, and no message holds a key or an URL: either may be a secret.
import { invalid, misconfigured } from "../error.ts";

/** Whatever holds the bindings: SvelteKit's `event.platform`, or `{ env }` of any Worker. */
export interface Platform {
  readonly env?: object | undefined;
}

/** Where the sync Worker is. */
export interface Target {
  readonly platform?: Platform | null | undefined;
  /** The name of the service binding; `SYNC_WORKER` by default. */
  readonly binding?: string | undefined;
  /**
   * Where there is no binding: the origin of the sync Worker or the app Worker, or its URL that ends
   * in `/api/sync`. The setting `SYNC_WORKER_URL` by default.
   */
  readonly fallbackUrl?: string | URL | undefined;
}

/** A service binding, or the stub of an object. */
export interface Fetcher {
  fetch(request: Request | string, init?: RequestInit): Promise<Response>;
}

/** The Durable Object's binding. */
export interface Namespace {
  idFromName(name: string): unknown;
  get(id: unknown): Fetcher;
}

/** The sync Worker: behind a binding, or at an origin on the network. */
export interface SyncWorker {
  readonly fetcher: Fetcher | undefined;
  readonly origin: string;
}

/** A way for a publisher. */
export type Way =
  | { readonly kind: "object"; readonly namespace: Namespace }
  | { readonly kind: "worker"; readonly worker: SyncWorker; readonly key: string };

export const OBJECT_BINDING = "SYNC_ENGINE";
export const SERVICE_BINDING = "SYNC_WORKER";

function bound(target: Target, name: string): unknown {
  return (target.platform?.env as Record<string, unknown> | undefined)?.[name];
}

// By asking for the method, not with `in`: local development stands proxies in for bindings.
const isFetcher = (value: unknown): value is Fetcher =>
  typeof (value as Partial<Fetcher> | null | undefined)?.fetch === "function";

const isNamespace = (value: unknown): value is Namespace =>
  typeof (value as Partial<Namespace> | null | undefined)?.idFromName === "function";

/** A text of the options, else of the settings; none where it is empty. */
function setting(target: Target, given: unknown, name: string): string | undefined {
  const value = given ?? bound(target, name);
  const text = value instanceof URL ? value.href : value;
  return typeof text === "string" && text !== "" ? text : undefined;
}

/** Finds the sync Worker: the service binding, else the URL. */
export function syncWorker(target: Target): SyncWorker {
  const name = target.binding ?? SERVICE_BINDING;
  const fetcher = bound(target, name);
  // Behind a binding the host means nothing.
  if (isFetcher(fetcher)) return { fetcher, origin: "https://sync-worker" };
  const text = setting(target, target.fallbackUrl, "SYNC_WORKER_URL");
  if (text === undefined) {
    throw misconfigured(`neither the binding ${name} nor fallbackUrl (SYNC_WORKER_URL) is set`);
  }
  return { fetcher: undefined, origin: originOf(text) };
}

function originOf(text: string): string {
  const wrong = (what: string) => misconfigured(`fallbackUrl (SYNC_WORKER_URL) ${what}`);
  if (!URL.canParse(text)) throw wrong("is no URL");
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") throw wrong("is no http(s) URL");
  if (url.username !== "" || url.password !== "") throw wrong("must not hold credentials");
  if (!/^\/(api\/sync\/?)?$/.test(url.pathname)) {
    throw wrong("must be an origin, or end in /api/sync right after it");
  }
  return url.origin;
}

/** Finds a publisher's way: the object's binding, else the sync Worker, which needs the key. */
export function wayOf(target: Target & { readonly key?: string | undefined }): Way {
  const namespace = bound(target, OBJECT_BINDING);
  if (isNamespace(namespace)) return { kind: "object", namespace };
  const worker = syncWorker(target);
  const key = setting(target, target.key, "PUBLISH_KEY");
  if (key === undefined) throw misconfigured("key (PUBLISH_KEY) is not set");
  // What builds the header would quote the key in its error.
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw misconfigured("key (PUBLISH_KEY) has characters that a header cannot carry");
  }
  return { kind: "worker", worker, key };
}

const RESERVED = ["changes", "mutate", "session"];

/** A space's name. Over the object's binding nobody else would check it. */
export function spaceNamed(name: unknown = "global"): string {
  const isName = typeof name === "string" && /^[a-z0-9_-]{1,64}$/.test(name);
  if (!isName || RESERVED.includes(name)) {
    throw invalid("space", "is no name of a space: [a-z0-9_-]{1,64}, and not reserved");
  }
  return name;
}
