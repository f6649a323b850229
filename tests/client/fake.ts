// A sync Worker that answers as it was told, and remembers how it was asked.
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { mock, type TestContext } from "node:test";

export const KEY = "key-that-nobody-may-see";
export const published = { cursor: "e.7", seq: 7, receivers: 2 };

export interface Asked {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly body: string;
}

export type Answer = Response | Error | ((asked: Asked) => Response | Promise<Response>);

export const ok = () => Response.json(published);

/** A refusal in the contract's words. */
export function refusal(status: number, code: string, more: object = {}): () => Response {
  return () => Response.json({ error: { code, message: "no", retryable: false, ...more } }, { status });
}

export const unavailable = refusal(503, "unavailable", { retryable: true });

/** Answers in turn, the last one for ever. `env` is that of a Worker that may publish. */
export function fake(...answers: readonly Answer[]) {
  const asked: Asked[] = [];
  const fetch = async (input: Request | string, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init);
    const body = await request.text();
    const call = { url: new URL(request.url), method: request.method, headers: request.headers, body };
    asked.push(call);
    const answer = answers[Math.min(asked.length, answers.length) - 1] ?? ok;
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? answer(call) : answer.clone();
  };
  return { asked, fetch, env: { SYNC_WORKER: { fetch }, PUBLISH_KEY: KEY } };
}

/** Takes the chance out of pauses: none but those that a server asks for. */
export const withoutJitter = () => mock.method(Math, "random", () => 0);

/** A server on the network, for as long as a test runs: its origin. */
export async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => new Promise((resolve) => server.close(resolve)));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
