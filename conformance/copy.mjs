// One channel as a reader of it has it: rows by key, and the place from which it goes on.
export class Copy {
  rows = new Map();
  cursor;
  view;
  #parts = [];

  /** Applies a message as the contract says. */
  take(message) {
    switch (message.type) {
      case "snapshot":
        if (message.mode === "full") this.rows.clear();
        for (const row of message.data) this.rows.set(row.id, row);
        for (const key of message.deleted) this.rows.delete(key);
        this.view = message.view;
        break;
      case "change":
        this.#apply(message);
        break;
      case "batch":
        this.#parts.push(...message.changes);
        if (message.more) return;
        for (const change of this.#parts.splice(0)) this.#apply(change);
        break;
      default:
        return;
    }
    this.cursor = message.cursor;
  }

  #apply({ key, data }) {
    if (data === null) this.rows.delete(key);
    else this.rows.set(key, data);
  }

  /** A write of its own was acknowledged where no echo comes. */
  wrote({ action, data, cursor }) {
    if (action === "delete") this.rows.delete(data.id);
    // Without a row it is out of sight: a delete follows.
    else if (data !== null) this.rows.set(data.id, data);
    this.cursor = cursor;
  }
}
