// Todos, which everybody sees and changes.
import { Add, Editable, Remove, inOrder, unconfirmed } from "./list.tsx";
import type { Session } from "./session.ts";

export function Todos({ session }: { session: Session }) {
  const { todos } = session;
  const waiting = unconfirmed(todos.pending);
  return (
    <div class="list">
      <h2>
        Todos <small>everybody's</small>
      </h2>
      <ul aria-label="Todos">
        {inOrder(todos.rows).map(({ id, title, done }) => (
          <li key={id} data-waits={waiting.has(id)}>
            <input type="checkbox" aria-label={`Done: ${title}`} checked={done} onChange={() => session.write(() => todos.update(id, { done: !done }))} />
            <Editable text={title} label="Title" onEdit={(next) => session.write(() => todos.update(id, { title: next }))} />
            <Remove text={title} onRemove={() => session.write(() => todos.delete(id))} />
          </li>
        ))}
      </ul>
      <Add label="What is to be done?" onAdd={(title) => session.write(() => todos.create({ title, done: false }))} />
    </div>
  );
}
