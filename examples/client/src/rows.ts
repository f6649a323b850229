// What the channels of this app hold.
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

export type Rows = {
  todos: Todo;
  notes: Note;
};
