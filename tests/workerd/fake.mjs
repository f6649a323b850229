// A small app with hooks, in the test's own process, that answers as a test wants.
import { Response } from "miniflare";

export class App {
  /** The questions, and the ids of the mutations that were executed. */
  asked = [];
  executed = [];
  /** Answers in its place, where it returns something. */
  instead;
  #rows = new Map();
  #known = new Set();

  static never = new Promise(() => {});

  static answer(body, status = 200) {
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
  }

  /** What a service binding calls. */
  fetch = async (request) => {
    const question = await request.json();
    this.asked.push(question);
    return (await this.instead?.(question)) || this.answer(question);
  };

  /** Writes past the sync Worker. */
  put(id, row) {
    this.#rows.set(id, { id, ...row });
  }

  remove(id) {
    this.#rows.delete(id);
  }

  get rows() {
    return Object.fromEntries(this.#rows);
  }

  /** As an app should; pages follow the keys. */
  answer({ operation, identity, id, key, data, page }) {
    const row = this.#rows.get(key) ?? null;
    switch (operation) {
      case "authorize":
        return App.answer({});
      case "fetch": {
        const rest = [...this.#rows.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1)).filter(({ id }) => id > (page.token ?? ""));
        const rows = rest.slice(0, page.limit);
        return App.answer({ rows, next: rest.length > rows.length ? rows.at(-1).id : null, full: true });
      }
    }
    const mutation = `${identity} ${id}`;
    if (this.#known.has(mutation)) return App.answer({ row, to: "all", repeated: true });
    if (operation !== "create" && row === null) return App.answer({ error: { code: "not_found", message: "no such row" } }, 404);
    this.#known.add(mutation);
    this.executed.push(mutation);
    if (operation === "delete") this.#rows.delete(key);
    else this.#rows.set(key, operation === "create" ? data : { ...row, ...data });
    return App.answer({ row: this.#rows.get(key) ?? null, to: "all" });
  }
}
