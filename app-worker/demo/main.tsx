// The demo: one user, or two side by side, each with a client of its own.
import { render } from "preact";
import { useState } from "preact/hooks";
import { keep, kept } from "./kept.ts";
import { Pane } from "./pane.tsx";
import { isUser, type User } from "./rows.ts";

/** From this width on two panes have room side by side. */
const WIDE = 860;

function Demo() {
  const [users, setUsers] = useState<readonly User[]>(() => {
    const known = kept("users")?.split(",").filter(isUser) ?? [];
    if (known.length > 0) return known;
    return innerWidth >= WIDE ? ["alice", "bob"] : ["alice"];
  });
  const show = (next: readonly User[]) => {
    keep("users", next.join(","));
    setUsers(next);
  };
  return (
    <>
      <header>
        <h1>
          <svg viewBox="0 0 24 24" width="24" height="24" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" aria-hidden="true">
            <path d="M2 9c3.3-4 6.7-4 10 0s6.7 4 10 0M2 16c3.3-4 6.7-4 10 0s6.7 4 10 0" />
          </svg>
          Tidewire
        </h1>
        <p>Write on one side, see it on the other. Go offline, go on writing, come back.</p>
        {users.length < 2 ? (
          <button onClick={() => show([...users, users[0] === "bob" ? "alice" : "bob"])}>Add a second user</button>
        ) : (
          <button onClick={() => show(users.slice(0, 1))}>Remove the second user</button>
        )}
      </header>
      <main class={users.length > 1 ? "two" : ""}>
        {users.map((user, place) => (
          <Pane key={`${place} ${user}`} user={user} place={place} onUser={(next) => show(users.with(place, next))} />
        ))}
      </main>
    </>
  );
}

const root = document.getElementById("demo");
if (root !== null) render(<Demo />, root);
