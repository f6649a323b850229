// What the demo's channels hold, and who its users are.
export interface Todo {
  id: string;
  title: string;
  done: boolean;
}

/** Seen and written by its owner alone: the rule of `notes` scopes rows by `ownerId`. */
export interface Note {
  id: string;
  ownerId: string;
  text: string;
}

export type Rows = {
  todos: Todo;
  notes: Note;
};

export const users = ["alice", "bob", "carol"] as const;
export type User = (typeof users)[number];

export const isUser = (name: unknown): name is User => users.some((user) => user === name);

export const nameOf = (user: string) => user.charAt(0).toUpperCase() + user.slice(1);
