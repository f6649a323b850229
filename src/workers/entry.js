// What the runtime calls in a sync Worker: around what `worker-build` has made of the crate, in place of its own
// shim, which makes an object and two proxies for each request. It does the same: after a panic the next event
// has the wasm instance made anew, and the objects in it as well.
import Shim, { Renewal, SyncEngine as Wrapped } from "worker-build";

// As the crate exports them, past the shim.
const { fetch, unanswered } = Shim.prototype;
const Engine = Wrapped.prototype.constructor;

/** Whether the wasm instance has panicked: nothing that is left in it may be used. */
let isBroken = false;

/** How many wasm instances there have been. */
let instances = 0;

// The shim hears of it, too.
addEventListener("error", ({ error }) => {
  if (error instanceof WebAssembly.RuntimeError) isBroken = true;
});

/** Sees to it that the wasm instance can be used. */
function renew() {
  if (!isBroken) return;
  new Renewal();
  isBroken = false;
  instances += 1;
}

/** Calls what may panic. That is an error of nobody's, see `giveUp` in `glue.js`, and fails who has called. */
function inWasm(work) {
  try {
    return work();
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) reportError(error);
    throw error;
  }
}

export default {
  async fetch(request, env, ctx) {
    try {
      renew();
      return await inWasm(() => fetch.call({ env, ctx }, request));
    } catch (error) {
      renew();
      return unanswered(request, env, error);
    }
  },
};

/** The Durable Object of a space. */
export class SyncEngine {
  #state;
  #env;
  #engine;
  #instance;

  constructor(state, env) {
    this.#state = state;
    this.#env = env;
    this.#woken();
  }

  /** The engine, in the wasm instance that can be used. */
  #woken() {
    renew();
    if (this.#instance !== instances) {
      this.#engine = inWasm(() => new Engine(this.#state, this.#env));
      this.#instance = instances;
    }
    return this.#engine;
  }

  async fetch(request) {
    const engine = this.#woken();
    const call = inWasm(() => engine.callOf(request));
    if (call === undefined) return inWasm(() => engine.fetch(request));
    // Nothing but the body is awaited, which needs no future.
    const body = await request.text();
    return inWasm(() => this.#woken().call(call, request, body));
  }

  alarm() {
    const engine = this.#woken();
    return inWasm(() => engine.alarm());
  }

  webSocketMessage(socket, message) {
    const engine = this.#woken();
    return inWasm(() => engine.webSocketMessage(socket, message));
  }

  webSocketClose(socket, code) {
    const engine = this.#woken();
    return inWasm(() => engine.webSocketClose(socket, code));
  }

  webSocketError(socket, error) {
    const engine = this.#woken();
    return inWasm(() => engine.webSocketError(socket, error));
  }
}
