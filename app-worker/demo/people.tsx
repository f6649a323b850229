// Who is here: everybody's face, once for all of their tabs, and a wave to the others.
import { useEffect, useState } from "preact/hooks";
import { nameOf } from "./rows.ts";
import type { Session } from "./session.ts";

/** How long a face shows that it waved, in milliseconds. */
const WAVE_MS = 1_600;

export function People({ session }: { session: Session }) {
  const { room, user } = session;
  const [waving, setWaving] = useState<string | null>(null);
  useEffect(() => room.onSignal(({ event, identity }) => event === "wave" && setWaving(identity)), [session]);
  useEffect(() => {
    if (waving === null) return;
    const timer = setTimeout(() => setWaving(null), WAVE_MS);
    return () => clearTimeout(timer);
  }, [waving]);

  const here = [...new Set(room.presence.members.map(({ identity }) => identity ?? "?"))].sort();
  return (
    <div class="people">
      {here.length === 0 && <p>Without a connection nobody is seen</p>}
      <ul aria-label="Who is here">
        {here.map((name) => (
          <li key={name} data-waves={name === waving}>
            <span class="face small" data-user={name} aria-hidden="true">
              {name === waving ? "👋" : nameOf(name).charAt(0)}
            </span>
            {name === user ? "You" : nameOf(name)}
          </li>
        ))}
      </ul>
      <button class="quiet" disabled={here.length < 2} onClick={() => room.signal("wave")}>
        Wave
      </button>
    </div>
  );
}
