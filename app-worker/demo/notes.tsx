// Notes, which nobody but their owner ever sees; giving one away is what the server refuses.
import { Add, Editable, Remove, inOrder, unconfirmed } from "./list.tsx";
import { nameOf, users } from "./rows.ts";
import type { Session } from "./session.ts";

export function Notes({ session }: { session: Session }) {
  const { notes, user } = session;
  const waiting = unconfirmed(notes.pending);
  const other = users.find((name) => name !== user) ?? user;
  return (
    <div class="list">
      <h2>
        Notes <small>yours alone</small>
      </h2>
      <ul aria-label="Notes">
        {inOrder(notes.rows).map(({ id, text }) => (
          <li key={id} data-waits={waiting.has(id)}>
            <Editable text={text} label="Note" onEdit={(next) => session.write(() => notes.update(id, { text: next }))} />
            <button class="quiet" title="The server refuses it, and the note comes back" onClick={() => session.write(() => notes.update(id, { ownerId: other }))}>
              Give to {nameOf(other)}
            </button>
            <Remove text={text} onRemove={() => session.write(() => notes.delete(id))} />
          </li>
        ))}
      </ul>
      <Add label="What is nobody's business?" onAdd={(text) => session.write(() => notes.create({ text, ownerId: user }))} />
    </div>
  );
}
