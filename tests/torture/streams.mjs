// Requests that stay open: they end when the object is put away, as its sockets do. workerd's own eviction,
// made for tests, waits for them instead, and lets nobody in meanwhile.

export class Streams {
  #open = new Set();
  #held;

  /** `fetch`, where what reads changes can be ended from here. */
  fetch = async (input, init = {}) => {
    if (!String(input).includes("/changes")) return fetch(input, init);
    await this.#held?.promise;
    const ended = new AbortController();
    this.#open.add(ended);
    const signal = init.signal ? AbortSignal.any([init.signal, ended.signal]) : ended.signal;
    return fetch(input, { ...init, signal });
  };

  /** Ends all that are open, and lets none begin until something is done. */
  async without(act) {
    this.#held = Promise.withResolvers();
    for (const ended of this.#open) ended.abort();
    this.#open.clear();
    try {
      return await act();
    } finally {
      this.#held.resolve();
      this.#held = undefined;
    }
  }
}
