// Listeners: told in order, and none keeps the others from being told.

export type Unsubscribe = () => void;

export class Emitter<T> {
  readonly #listeners = new Set<(value: T) => void>();

  on(listener: (value: T) => void): Unsubscribe {
    // One of its own, so that the same function may listen twice.
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  emit(value: T): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(value);
      } catch (error) {
        // The app's own mistake is the app's to see, and does not break the client.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
