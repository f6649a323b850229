// A server whose every word the test says.
import type { Connection, Listener, Transport, Where } from "../../client/src/index.ts";

interface Attempt {
  readonly where: Where;
  readonly listener: Listener;
  readonly sent: string[];
  isClosed: boolean;
  /** Whether pings are answered. */
  isAlive: boolean;
}

export function scripted(isOrdered = true) {
  const attempts: Attempt[] = [];
  const transport: Transport = {
    name: "scripted",
    isOrdered,
    open(where, listener): Connection {
      const attempt: Attempt = { where, listener, sent: [], isClosed: false, isAlive: true };
      attempts.push(attempt);
      const send = (text: string) => {
        attempt.sent.push(text);
        if (attempt.isAlive && text === '{"type":"ping"}') queueMicrotask(() => listener.frame("pong"));
      };
      return { send, close: () => void (attempt.isClosed = true) };
    },
  };
  const last = () => attempts.at(-1) as Attempt;
  const say = (...messages: object[]) => messages.forEach((message) => last().listener.frame(JSON.stringify(message)));
  const welcome = (more: object = {}) => {
    last().listener.opened();
    say({ type: "welcome", v: 1, session: "s", epoch: "e", identity: "alice", expiresAt: null, ...more });
  };
  return { attempts, transport, last, say, welcome };
}

export const word = (text: string | undefined) => JSON.parse(text ?? "{}") as Record<string, unknown>;
