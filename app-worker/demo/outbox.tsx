// What the server has not confirmed yet, and what it has refused.
import type { Session } from "./session.ts";

export function Outbox({ session }: { session: Session }) {
  const { todos, notes } = session;
  const waiting = todos.pending.length + notes.pending.length;
  const refused = [todos, notes].flatMap((channel) => channel.rejected.map((write) => ({ channel, write })));
  return (
    <div class="outbox" aria-label="Outbox" role="group">
      {waiting > 0 && <p class="waits">{waiting === 1 ? "1 write waits" : `${waiting} writes wait`} for the server</p>}
      {refused.map(({ channel, write }) => (
        <p key={write.id} class="refused" role="alert">
          <span>
            Refused and taken back: <b>{write.error.code}</b>, {write.error.message}
          </span>
          <button class="quiet" onClick={() => channel.dismiss(write.id)}>
            All right
          </button>
        </p>
      ))}
    </div>
  );
}
