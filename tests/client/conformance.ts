// The server for tests as a target of the conformance suite: its transport for sockets, its methods for publishers.
import { createTestServer, testToken, type Publish, type PublishEvent, type Rule, type TestServer } from "../../client/src/testing/index.ts";
import type { Connection, Net } from "../../client/src/index.ts";

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

interface Said extends Partial<PublishEvent> {
  readonly space?: string;
  readonly changes?: readonly Publish[];
  readonly events?: readonly PublishEvent[];
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

  token({ sub, exp = "+3600", iat = null, space = null, ...claims }: { readonly sub: string; readonly [claim: string]: unknown }): string {
    const time = (value: unknown) => (typeof value === "string" ? this.#now() / 1000 + Number(value) : value);
    const given = Object.entries({ space, exp: time(exp), iat: time(iat) }).filter(([, value]) => value !== null);
    return testToken(sub, { ...claims, ...Object.fromEntries(given) });
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
    const space = /^\/api\/sync\/(.+)$/.exec(url.pathname)?.[1] ?? "global";
    const token = headers["authorization"]?.replace("Bearer ", "") ?? url.searchParams.get("token") ?? undefined;
    return new Promise((resolve) => {
      let isOpen = false;
      // Its transport carries text alone: bytes arrive as what they spell.
      const send = (said: string | Uint8Array) => connection.send(typeof said === "string" ? said : new TextDecoder().decode(said));
      const connection: Connection = this.#server.transport.open(
        { url, space, ...(token !== undefined && { token }) },
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
  async http(method: string, path: string, { body = "", headers = {} }: { readonly body?: string; readonly headers?: Record<string, string> }): Promise<Answer> {
    const { pathname, searchParams } = new URL(path, "http://test.invalid");
    const ask = this.#calls[`${method} ${pathname}`];
    if (ask === undefined) return { status: 404, body: { error: { code: "not_found", message: `${pathname} is not there` } } };
    const said: Said = body === "" ? {} : JSON.parse(body);
    const server = this.#server.space(said.space ?? searchParams.get("space") ?? "global");
    const key = headers["idempotency-key"];
    try {
      return { status: 200, body: key === undefined ? ask(server, said) : server.once(key, () => ask(server, said)) };
    } catch (error) {
      return { status: 400, body: { error: (error as { readonly error?: object }).error } };
    }
  }

  readonly #calls: { readonly [call: string]: (server: TestServer, said: Said) => object } = {
    "POST /broadcast": (server, { channel = "", action = "create", key = "", data, to }) => server.publish(channel, action, key, data, this.#now(), to),
    "POST /broadcast-batch": (server, { channel = "", changes, events }) => {
      if (changes !== undefined && events !== undefined) throw new TypeError("changes or events, and not both");
      return events === undefined ? server.publishAll(channel, changes ?? [], this.#now()) : server.publishEvents(events, this.#now());
    },
    "POST /broadcast-reset": (server, { channel = "", to }) => server.reset(channel, undefined, to),
    "POST /broadcast-change": (server, { channel = "" }) => server.change(channel),
    "POST /disconnect": (server, { all, identity = "" }) => {
      if (all !== true) return { disconnected: server.revoke(identity, this.#now()) };
      const disconnected = server.sessions.size;
      server.restart();
      return { disconnected };
    },
    "POST /topics": (server, { identity = "", ...topics }) => server.topics(identity, topics, this.#now()),
    "POST /epoch": (server) => {
      server.newEpoch();
      return { epoch: server.log.epoch };
    },
  };
}
