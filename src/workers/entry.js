// What the runtime calls in a sync Worker: around what `worker-build` has made of the crate, in place of its own
// shim, which makes an object and two proxies for each request. It does the same: after a panic the next event
// has the wasm instance made anew, and the objects in it as well.
import Shim, { Renewal, SyncEngine as Wrapped } from "worker-build";

// As the crate exports them, past the shim.
const { fetch, unanswered } = Shim.prototype;
const Engine = Wrapped.prototype.constructor;

/** Of the crate `worker`: whether the wasm instance has panicked, and the number of the one there is. */
const state = globalThis.__worker_init_state;

/** Sees to it that the wasm instance can be used. */
function renew() {
  if (state.criticalError) new Renewal();
}

/** Calls what may panic. That is an error of nobody's, see `giveUp` in `glue.js`, and fails who has called. */
function inWasm(work) {
  renew();
  try {
    return work();
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) reportError(error);
    throw error;
  }
}

/** The 503 of `respond.rs`, where even that fails. */
function unavailable() {
  const error = { code: "unavailable", message: "not available now, try again", retryable: true };
  return Response.json({ error }, { status: 503, headers: { "cache-control": "no-store" } });
}

export default {
  async fetch(request, env, ctx) {
    try {
      return await inWasm(() => fetch.call({ env, ctx }, request));
    } catch (error) {
      try {
        return inWasm(() => unanswered(request, env, error));
      } catch {
        return unavailable();
      }
    }
  },
};

/** The Durable Object of a space. */
export class SyncEngine {
  #context;
  #env;
  #engine;
  #instance;

  constructor(context, env) {
    this.#context = context;
    this.#env = env;
    this.#use(() => {});
  }

  /** Does something with the engine, which is made anew where its wasm instance is no more. */
  #use(work) {
    return inWasm(() => {
      if (this.#instance !== state.instanceId) {
        this.#engine = new Engine(this.#context, this.#env);
        this.#instance = state.instanceId;
      }
      return work(this.#engine);
    });
  }

  async fetch(request) {
    const call = this.#use((engine) => engine.callOf(request));
    if (call === undefined) return this.#use((engine) => engine.fetch(request));
    const body = await this.#use((engine) => engine.bodyOf(request));
    return this.#use((engine) => engine.call(call, request, body));
  }

  alarm() {
    return this.#use((engine) => engine.alarm());
  }

  webSocketMessage(socket, message) {
    return this.#use((engine) => engine.webSocketMessage(socket, message));
  }

  webSocketClose(socket, code) {
    return this.#use((engine) => engine.webSocketClose(socket, code));
  }

  webSocketError(socket, error) {
    return this.#use((engine) => engine.webSocketError(socket, error));
  }
}
