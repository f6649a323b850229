// The rows of this app, by channel.

export interface Todo {
  id: string;
  title: string;
  done: boolean;
}

export interface Note {
  id: string;
  ownerId: string;
  text: string;
}

/** `todos` stands for every `todos:suffix` too. */
export type Rows = {
  todos: Todo;
  notes: Note;
};
