// Who is here, and where their cursors are.
import type { Sync } from "tidewire";
import type { Rows } from "./rows.ts";

interface Drawing {
  id: string;
  path: string;
}

export function enter(sync: Sync<Rows>, show: (text: string) => void): () => void {
  const room = sync.channel<Drawing>("room:42");
  room.presence.join({ x: 0, y: 0 });
  room.presence.subscribe((members) => {
    show(members.map(({ identity, state }) => `${identity} ${JSON.stringify(state)}`).join("; "));
  });
  room.onSignal(({ event, identity }) => show(`${identity}: ${event}`));
  room.signal("wave");
  return () => room.presence.leave();
}
