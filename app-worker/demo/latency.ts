// How long writes take until the server has confirmed them.

/** How many of the latest are drawn. */
const DRAWN = 40;

export interface Latencies {
  readonly count: number;
  readonly last: number;
  readonly average: number;
  readonly worst: number;
  /** The latest, oldest first. */
  readonly recent: readonly number[];
}

export class LatencyMeter {
  #seen: Latencies = { count: 0, last: 0, average: 0, worst: 0, recent: [] };

  readonly #listeners = new Set<() => void>();

  get seen(): Latencies {
    return this.#seen;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  add(ms: number): void {
    const { count, average, worst, recent } = this.#seen;
    this.#seen = {
      count: count + 1,
      last: ms,
      average: average + (ms - average) / (count + 1),
      worst: Math.max(worst, ms),
      recent: [...recent, ms].slice(-DRAWN),
    };
    for (const listener of this.#listeners) listener();
  }
}
