// Where the others point, drawn over the pane.
import { nameOf } from "./rows.ts";
import type { Pointer, Session } from "./session.ts";

export function Cursors({ session }: { session: Session }) {
  const { room, sync } = session;
  return (
    <div class="cursors" aria-hidden="true">
      {room.presence.members.map((member) => {
        const { x, y } = (member.state ?? {}) as Pointer;
        if (member.session === sync.session || typeof x !== "number" || typeof y !== "number") return null;
        const name = member.identity ?? "?";
        return (
          <div key={member.session} class="cursor" data-user={name} style={{ left: `${x * 100}%`, top: `${y * 100}%` }}>
            <svg viewBox="0 0 16 16" width="16" height="16">
              <path d="M2 1l12 6-5.4 1.6L6 14z" />
            </svg>
            {nameOf(name)}
          </div>
        );
      })}
    </div>
  );
}
