// Listeners: told in order, and none keeps the others from being told.

export type Unsubscribe = () => void;

/** Runs the app's code: its mistakes are the app's to see, and do not break the client. */
export function guarded<R>(run: () => R): R | undefined {
  try {
    return run();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
    return undefined;
  }
}

export class Emitter<T> {
  readonly #listeners = new Set<(value: T) => void>();

  on(listener: (value: T) => void): Unsubscribe {
    // One of its own, so that the same function may listen twice.
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  emit(value: T): void {
    for (const listener of [...this.#listeners]) guarded(() => listener(value));
  }
}
