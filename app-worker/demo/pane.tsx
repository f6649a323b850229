// What one user sees: how the client stands, who else is here, and the rows.
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { Cursors } from "./cursors.tsx";
import { keep, kept } from "./kept.ts";
import { Latency } from "./meter.tsx";
import { Notes } from "./notes.tsx";
import { Outbox } from "./outbox.tsx";
import { People } from "./people.tsx";
import { isUser, nameOf, users, type User } from "./rows.ts";
import { Session } from "./session.ts";
import { Todos } from "./todos.tsx";

/** Cursors are told no more often than this, in milliseconds. */
const POINT_MS = 80;

export function Pane(props: { user: User; place: number; onUser: (user: User) => void }) {
  const { user, place } = props;
  const [isOffline, setOffline] = useState(() => kept(`offline ${place}`) === "yes");
  const [session, setSession] = useState<Session>();
  const [, changed] = useReducer((count: number) => count + 1, 0);
  const pointed = useRef(0);

  useEffect(() => {
    const opened = new Session(user, isOffline);
    const end = opened.subscribe(() => changed(undefined));
    setSession(opened);
    return () => {
      end();
      opened.close();
    };
  }, [user]);

  if (session === undefined) return <section class="pane" aria-label={nameOf(user)} />;
  const { sync } = session;

  const goOffline = (offline: boolean) => {
    keep(`offline ${place}`, offline ? "yes" : "no");
    setOffline(offline);
    if (offline) sync.disconnect();
    else sync.connect();
  };
  const point = (event: PointerEvent & { currentTarget: HTMLElement }) => {
    if (event.timeStamp - pointed.current < POINT_MS) return;
    pointed.current = event.timeStamp;
    const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
    const part = (value: number) => Math.round(value * 1e4) / 1e4;
    session.point({ x: part((event.clientX - left) / width), y: part((event.clientY - top) / height) });
  };

  return (
    <section class="pane" data-user={user} aria-label={nameOf(user)} onPointerMove={point} onPointerLeave={() => session.point({})}>
      <div class="bar">
        <span class="face" data-user={user} aria-hidden="true">
          {nameOf(user).charAt(0)}
        </span>
        <select aria-label="Signed in as" value={user} onChange={({ currentTarget: { value } }) => isUser(value) && props.onUser(value)}>
          {users.map((name) => (
            <option key={name} value={name}>
              {nameOf(name)}
            </option>
          ))}
        </select>
        <span class="status" data-is={sync.status} role="status" title={sync.error?.message}>
          {sync.status}
        </span>
        <label class="switch">
          <input type="checkbox" role="switch" checked={isOffline} onChange={(event) => goOffline(event.currentTarget.checked)} />
          <i aria-hidden="true" />
          Go offline
        </label>
      </div>
      <People session={session} />
      <Todos session={session} />
      <Notes session={session} />
      <Outbox session={session} />
      <Latency latencies={session.latency.seen} />
      <Cursors session={session} />
    </section>
  );
}
