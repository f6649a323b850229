// A server at a URL: requests, sockets and tokens for it.
import { createHmac } from "node:crypto";
import WebSocket from "ws";

const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");

/** A promise's result in bounded time, in milliseconds. */
export async function within(promise, what, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what()} (waited ${ms / 1000} s)`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** An answer, its body parsed where it is JSON. */
function answerOf(status, headers, text) {
  const isJson = headers["content-type"]?.startsWith("application/json");
  return { status, headers, body: isJson ? JSON.parse(text) : text };
}

export class Target {
  /** How long anything may take that should happen at once, in milliseconds. */
  patience = 15_000;
  #secret;

  constructor({ url, secret, publishKey }) {
    this.origin = new URL(url).origin;
    this.publishKey = publishKey;
    this.#secret = secret;
  }

  /** An HS256 token with these claims. Times such as "+60" are seconds from now. */
  token(claims) {
    const time = (value) => (typeof value === "string" ? Date.now() / 1000 + Number(value) : value);
    const { exp = "+3600", iat = null, space = null, ...rest } = claims;
    const given = Object.entries({ space, exp: time(exp), iat: time(iat) }).filter(([, value]) => value !== null);
    const payload = { ...rest, ...Object.fromEntries(given) };
    const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(payload)}`;
    return `${signed}.${createHmac("sha256", this.#secret).update(signed).digest("base64url")}`;
  }

  pass(seconds) {
    return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }

  /** The answer to one request. */
  async http(method, path, { headers, body, signal } = {}) {
    const ask = async () => {
      const response = await this.stream(method, path, { headers, body, signal });
      return answerOf(response.status, Object.fromEntries(response.headers), await response.text());
    };
    return within(ask(), () => `no answer to ${method} ${path}`, this.patience);
  }

  /** The same as its body comes. */
  stream(method, path, { headers, body, signal } = {}) {
    return fetch(this.origin + path, { method, headers, body, signal, redirect: "manual" });
  }

  /** An upgrade: `{ status: 101, send, close }`, or the status and body of its refusal. */
  upgrade(path, { headers, protocols = [], listener }) {
    const socket = new WebSocket(this.origin.replace("http", "ws") + path, protocols, { headers });
    socket.on("message", (data) => listener.frame(data.toString()));
    socket.on("close", (code) => listener.closed(code));
    const answered = new Promise((resolve, reject) => {
      socket.once("open", () =>
        resolve({
          status: 101,
          protocol: socket.protocol,
          send: (data) => socket.send(data),
          close: () => socket.terminate(),
        }),
      );
      socket.once("error", reject);
      socket.once("unexpected-response", async (_, response) => {
        const text = Buffer.concat(await response.toArray()).toString();
        resolve(answerOf(response.statusCode, response.headers, text));
      });
    });
    return within(answered, () => `no answer to the upgrade of ${path}`, this.patience);
  }
}
