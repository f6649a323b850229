// A sync Worker that asks: what it sends, signed by Node's own HMAC.
import { createHmac, randomUUID } from "node:crypto";

export const SECRET = "secret-of-the-tests";

export interface Signing {
  readonly secret?: string | Buffer;
  readonly id?: string;
  /** Seconds since 1970. */
  readonly timestamp?: number | string;
}

export function signature(body: string | Buffer, id: string, timestamp: number | string, secret: string | Buffer): string {
  const mac = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body);
  return `v1,${mac.digest("base64")}`;
}

/** A request with a body, signed. */
export function signed(operation: string, body: string | Buffer, how: Signing = {}): Request {
  const { secret = SECRET, id = randomUUID(), timestamp = Math.floor(Date.now() / 1_000) } = how;
  return new Request(`https://app/sync-hooks/${operation}`, {
    method: "POST",
    body,
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(timestamp),
      "webhook-signature": signature(body, id, timestamp, secret),
    },
  });
}

/** What every question has: alice, on `todos`. */
export const common = {
  v: 1,
  space: "global",
  channel: "todos",
  session: "s-1",
  identity: "alice",
  topics: ["user:alice", "team:a"],
  claims: { sub: "alice", exp: 1_900_000_000, name: "Alice" } as object | null,
  context: null as unknown,
  request: {
    url: "https://app.example.com/api/sync?lang=de",
    headers: { cookie: "session=abc=; theme=dark; session=other", "x-tenant": "t1" } as Record<string, string>,
  },
};

const usual = {
  authorize: { on: { kind: "subscribe", key: null, data: null } },
  fetch: { since: null, page: { token: null, limit: 500 }, authorize: false },
  create: { id: "m-1", key: "t1", data: { id: "t1", title: "milk", done: false }, authorize: false },
  update: { id: "m-1", key: "t1", data: { done: true }, authorize: false },
  delete: { id: "m-1", key: "t1", data: null, authorize: false },
};

export type Asked = keyof typeof usual;

/** A question's body: the usual one, but for what is given. */
export function question(operation: Asked, more: object = {}): string {
  return JSON.stringify({ ...common, operation, ...usual[operation], ...more });
}

export interface Answer {
  readonly status: number;
  readonly body: any;
}

/** Asks, signed as it should be. */
export async function ask(
  route: (request: Request, env?: object) => Promise<Response>,
  operation: Asked,
  more?: object,
): Promise<Answer> {
  return read(await route(signed(operation, question(operation, more)), { HOOK_SECRET: SECRET }));
}

export async function read(response: Response): Promise<Answer> {
  return { status: response.status, body: await response.json() };
}
