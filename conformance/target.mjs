// A server at a URL: requests, sockets and tokens for it.
import { createHmac } from "node:crypto";
import WebSocket from "ws";

const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");

/** How long anything may take that should happen at once. */
const PATIENCE_MS = 15_000;

/** A promise's result in bounded time. */
export async function within(promise, what, ms = PATIENCE_MS) {
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

export class Target {
  #secret;

  constructor({ url, secret, publishKey }) {
    this.origin = new URL(url).origin;
    this.publishKey = publishKey;
    this.#secret = secret;
  }

  /** An HS256 token with these claims. Times such as "+60" are seconds from now. */
  token(claims) {
    const time = (value) => (typeof value === "string" ? Date.now() / 1000 + Number(value) : value);
    const { exp = "+3600", iat, ...rest } = claims;
    const payload = { ...rest, ...(exp !== null && { exp: time(exp) }), ...(iat !== undefined && { iat: time(iat) }) };
    const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(payload)}`;
    return `${signed}.${createHmac("sha256", this.#secret).update(signed).digest("base64url")}`;
  }

  pass(seconds) {
    return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }

  /** The answer to one request, its body parsed where it is JSON. */
  async http(method, path, { headers, body, signal } = {}) {
    const answered = this.stream(method, path, { headers, body, signal }).then(async (response) => [response, await response.text()]);
    const [response, text] = await within(answered, () => `no answer to ${method} ${path}`);
    const isJson = response.headers.get("content-type")?.startsWith("application/json");
    return { status: response.status, headers: Object.fromEntries(response.headers), body: isJson ? JSON.parse(text) : text };
  }

  /** The same as its body comes. */
  stream(method, path, { headers, body, signal } = {}) {
    return fetch(this.origin + path, { method, headers, body, signal, redirect: "manual" });
  }

  /** An upgrade: `{ status: 101, send, close }`, or the status and body of its refusal. */
  upgrade(path, { headers, listener }) {
    const socket = new WebSocket(this.origin.replace("http", "ws") + path, { headers });
    socket.on("message", (data) => listener.frame(data.toString()));
    socket.on("close", (code) => listener.closed(code));
    const answered = new Promise((resolve, reject) => {
      socket.once("open", () =>
        resolve({ status: 101, send: (data) => socket.send(data), close: () => socket.terminate() }),
      );
      socket.once("error", reject);
      socket.once("unexpected-response", async (_, response) => {
        const text = Buffer.concat(await response.toArray()).toString();
        const isJson = response.headers["content-type"]?.startsWith("application/json");
        resolve({ status: response.statusCode, headers: response.headers, body: isJson ? JSON.parse(text) : text });
      });
    });
    return within(answered, () => `no answer to the upgrade of ${path}`);
  }
}
