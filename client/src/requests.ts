// Plain requests to the server: where to, and what their refusals say.
import type { Closed } from "./link.ts";
import type { Net, Where } from "./transport.ts";
import type { WireError } from "./wire.ts";

/** An address below `/api/sync`. */
export function address({ url, space }: Where, path: string, query: Readonly<Record<string, string | undefined>> = {}): URL {
  const to = new URL(url);
  to.pathname = to.pathname.replace(/\/+$/, "") + path;
  const all = { space: space === "global" ? undefined : space, ...query };
  for (const [name, value] of Object.entries(all)) if (value !== undefined) to.searchParams.set(name, value);
  return to;
}

/** A request with the token in its header. */
export function init({ token }: Where, more: RequestInit = {}): RequestInit {
  const headers = { ...(more.headers as Record<string, string> | undefined) };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  // Cookies of the server's origin, as a WebSocket brings them; Workers have none, and refuse the word.
  return { ...("document" in globalThis && { credentials: "include" as const }), ...more, headers };
}

/** What an answer that is no success says: the error, and when to come back. */
export async function errorIn(response: Response): Promise<{ readonly error: WireError; readonly closed: Closed }> {
  const body = (await response.json().catch(() => undefined)) as { readonly error?: WireError } | undefined;
  const { status } = response;
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  const error = body?.error ?? { code: "unavailable", message: `the answer was ${status}`, retryable: status >= 500 };
  const retryAfterMs = error.retryAfterMs ?? (Number.isFinite(seconds) ? seconds * 1000 : undefined);
  return { error, closed: { code: 1006, status, reason: error.message, retryAfterMs } };
}

/** The session's answer: who this is, or why nobody. */
export async function session(
  where: Where,
  net: Net,
): Promise<{ readonly identity: string | null; readonly expiresAt: number | null } | Closed> {
  try {
    const response = await net.fetch(address(where, "/session").href, init(where));
    if (response.ok) return (await response.json()) as { identity: string | null; expiresAt: number | null };
    return (await errorIn(response)).closed;
  } catch {
    return { code: 1006, status: 0 };
  }
}

/** Why a connection did not open: browsers do not say. */
export async function probe(where: Where, net: Net): Promise<Closed> {
  const answer = await session(where, net);
  return "code" in answer ? answer : { code: 1006, status: 200 };
}
