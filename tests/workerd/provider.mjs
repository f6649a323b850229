// What stands around the Workers when somebody is to be known: key pairs that sign tokens, HTTP
// servers on this machine that count what they are asked, and a clock that a test can put forward.
import { createPublicKey, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

const pairs = {
  RS256: () => generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  EdDSA: () => generateKeyPairSync("ed25519"),
};

const encode = (part) => Buffer.from(typeof part === "string" ? part : JSON.stringify(part)).toString("base64url");

/** A token's text: `header.claims.signature`, the signature made by `signed`. */
export function compact(header, claims, signed) {
  const text = `${encode(header)}.${encode(claims)}`;
  return `${text}.${Buffer.from(signed(text)).toString("base64url")}`;
}

/** A key pair. `published` overrides members of its public JWK; undefined ones are left out. */
export class Key {
  #private;

  constructor(alg, published = {}) {
    const { privateKey } = pairs[alg]();
    this.#private = privateKey;
    const open = createPublicKey(privateKey);
    this.alg = alg;
    this.jwk = JSON.parse(
      JSON.stringify({ ...open.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg, ...published }),
    );
    this.kid = this.jwk.kid;
    this.pem = open.export({ format: "pem", type: "spki" });
    this.der = open.export({ format: "der", type: "spki" });
  }

  signature(text) {
    const hash = this.alg === "EdDSA" ? null : "sha256";
    return sign(hash, Buffer.from(text), { key: this.#private, dsaEncoding: "ieee-p1363" });
  }

  /** A token of alice, for an hour, and what else is claimed. */
  token(claims = {}, header = {}) {
    const { alg, kid } = this;
    const all = { sub: "alice", exp: Math.floor(Date.now() / 1000) + 3600, ...claims };
    return compact({ alg, kid, typ: "JWT", ...header }, all, (text) => this.signature(text));
  }
}

/**
 * An HTTP server on this machine. `answer`, which may be replaced at any time, makes of a request
 * `{status, headers, body}`, the body as JSON unless it is a text; or it answers by itself and
 * returns nothing.
 */
export class Server {
  #server;
  /** All requests so far. */
  asked = [];

  static async start(answer) {
    const server = new Server();
    server.answer = answer;
    server.#server = createServer((request, response) => server.#serve(request, response));
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    server.origin = `http://127.0.0.1:${server.#server.address().port}`;
    return server;
  }

  async #serve(request, response) {
    const { method, url, headers } = request;
    const asked = { method, url, headers };
    this.asked.push(asked);
    const answer = await this.answer(asked, response);
    if (answer === undefined) return;
    const { status = 200, headers: more = {}, body = "" } = answer;
    // Without keep-alive: on a connection that was used before, a failed GET is tried twice.
    response.writeHead(status, { "content-type": "application/json", connection: "close", ...more });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  }

  /** No longer listens; `resume` takes the same port again. */
  async pause() {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async resume() {
    this.#server.listen(Number(new URL(this.origin).port), "127.0.0.1");
    await once(this.#server, "listening");
  }

  async stop() {
    if (this.#server.listening) await this.pause();
  }
}

/** An identity provider: a server that answers with the public halves of its keys. */
export async function provider(...keys) {
  const server = await Server.start(() => ({ body: { keys: server.keys.map(({ jwk }) => jwk) } }));
  server.keys = keys;
  return server;
}

const clock = `
import worker from "./index.js";
export * from "./index.js";
const now = Date.now;
let ahead = 0;
Date.now = () => now() + ahead;
export default {
  fetch(request, env, ctx) {
    const by = new URL(request.url).searchParams.get("clock-forward-by");
    if (!by) return worker.fetch(request, env, ctx);
    ahead += Number(by);
    return new Response("");
  },
};`;

/** For `amend` of `start`: the Worker's clock can be put forward with `forward`. */
export function clocked(sync) {
  const path = `${sync.modulesRoot}/clock.js`;
  return { ...sync, modules: [{ type: "ESModule", path, contents: clock }, ...sync.modules] };
}

/** Puts the clock of a Worker that was started `clocked` forward. */
export async function forward(workers, ms) {
  await workers.ask("tidewire-sync", `/?clock-forward-by=${ms}`);
}
