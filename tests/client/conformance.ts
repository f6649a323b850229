// The server for tests as a target of the conformance suite: its transport for sockets, its methods for publishers.
import { createTestServer, testToken, type Rule, type TestServer } from "../../client/src/testing/index.ts";
import type { Connection, Net } from "../../client/src/index.ts";
import type { Action } from "../../client/src/wire.ts";

interface Answer {
  readonly status: number;
  readonly headers?: object;
  readonly body?: unknown;
}

/** The part of the suite that is used here; it is written in plain JavaScript. */
export interface Suite {
  readonly cases: readonly Case[];
  readonly server: { readonly [profile: string]: { readonly SYNC_CHANNELS: Readonly<Record<string, Rule>> } };
  readonly required: { readonly [profile: string]: { readonly [transport: string]: readonly string[] } };
  readonly casesOf: (profile: string, transport: string) => readonly Case[];
  readonly play: (target: object, one: Case, transport: string) => Promise<string | undefined>;
  readonly missing: (results: readonly Omit<Result, "fault">[], more: object) => string[];
}

export interface Case {
  readonly profile?: string;
  readonly id: string;
  readonly holds: string;
  readonly on: readonly string[];
  readonly steps: readonly object[];
}

export interface Result {
  readonly transport: string;
  readonly id: string;
  readonly fault: string | undefined;
}

interface Change {
  readonly action: Action;
  readonly key: string;
  readonly data?: object;
  readonly to?: "all" | readonly string[];
}

interface Said extends Partial<Change> {
  readonly channel?: string;
  readonly changes?: readonly Change[];
  readonly all?: boolean;
  readonly identity?: string;
  readonly add?: readonly string[];
  readonly remove?: readonly string[];
}

/** What becomes of a frame: none, one or several. */
export type Tamper = (frame: Message | Message[]) => unknown[];

export type Message = { readonly type: string; readonly [field: string]: unknown };

/** One server in memory. Time passes as it does, and when a case says so. */
export class MockTarget {
  readonly publishKey = "key";
  readonly patience: number;
  readonly #server: TestServer;
  readonly #tamper: Tamper;
  #skew = 0;

  /** `tamper` changes what clients are told, to see that the suite finds it. */
  constructor(channels: Readonly<Record<string, Rule>>, tamper: Tamper = (frame) => [frame], patience = 15_000) {
    this.patience = patience;
    this.#server = createTestServer({ channels });
    this.#tamper = tamper;
  }

  token({ sub, exp = "+3600", iat, ...claims }: { readonly sub: string; readonly [claim: string]: unknown }): string {
    const time = (value: unknown) => (typeof value === "string" ? this.#now() / 1000 + Number(value) : value);
    return testToken(sub, { ...claims, ...(exp !== null && { exp: time(exp) }), ...(iat !== undefined && { iat: time(iat) }) } as object);
  }

  #now(): number {
    return Date.now() + this.#skew;
  }

  async pass(seconds: number): Promise<void> {
    this.#skew += seconds * 1000;
  }

  get #net(): Net {
    return {
      now: () => this.#now(),
      after(ms, run) {
        const timer = ms > 0 ? setTimeout(run, ms) : setImmediate(run);
        return () => clearTimeout(timer as NodeJS.Timeout);
      },
      fetch: () => Promise.reject(new TypeError("offline")),
      WebSocket,
    };
  }

  upgrade(path: string, given: { headers: Record<string, string>; listener: { frame(text: string): void; closed(code: number): void } }): Promise<Answer> {
    const { headers, listener } = given;
    const url = new URL(path, "http://test.invalid");
    const token = headers["authorization"]?.replace("Bearer ", "") ?? url.searchParams.get("token") ?? undefined;
    return new Promise((resolve) => {
      let isOpen = false;
      // Its transport carries text alone: bytes arrive as what they spell.
      const send = (said: string | Uint8Array) => connection.send(typeof said === "string" ? said : new TextDecoder().decode(said));
      const connection: Connection = this.#server.transport.open(
        { url, space: "global", ...(token !== undefined && { token }) },
        {
          opened() {
            isOpen = true;
            resolve({ status: 101, send, close: () => connection.close() } as Answer);
          },
          frame: (text) => {
            for (const frame of text === "pong" ? [text] : this.#tamper(JSON.parse(text)).map((one) => JSON.stringify(one))) listener.frame(frame);
          },
          closed: ({ code, status = 0 }) => (isOpen ? listener.closed(code) : resolve({ status })),
        },
        this.#net,
      );
    });
  }

  /** What publishers and operators may ask of it. */
  async http(method: string, path: string, { body = "" }: { readonly body?: string }): Promise<Answer> {
    const name = `${method} ${new URL(path, "http://test.invalid").pathname}`;
    const ask = this.#calls[name];
    if (ask === undefined) return { status: 404, body: { error: { code: "not_found", message: `${name} is not there` } } };
    try {
      return { status: 200, body: ask(body === "" ? {} : JSON.parse(body)) };
    } catch (error) {
      return { status: 400, body: { error: (error as { readonly error?: object }).error } };
    }
  }

  readonly #calls: { readonly [call: string]: (said: Said) => object } = {
    "POST /broadcast": ({ channel = "", ...change }) => this.#server.publishAll(channel, [change as Change], this.#now()),
    "POST /broadcast-batch": ({ channel = "", changes = [] }) => this.#server.publishAll(channel, changes, this.#now()),
    "POST /broadcast-reset": ({ channel = "" }) => this.#server.reset(channel),
    "POST /broadcast-change": ({ channel = "" }) => this.#server.change(channel),
    "POST /disconnect": ({ all }) => {
      const disconnected = this.#server.sessions.size;
      if (all) this.#server.restart();
      return { disconnected };
    },
    "POST /topics": ({ identity = "", ...topics }) => this.#server.topics(identity, topics),
    "POST /epoch": () => {
      this.#server.newEpoch();
      return { epoch: this.#server.log.epoch };
    },
  };
}
