// LiveStore's wire protocol, as its client speaks it: Effect RPC as JSON over a WebSocket. Pushes events and
// pulls the log.
import WebSocket from "ws";

/** Events of a push, at most (`MAX_PUSH_EVENTS_PER_REQUEST`). */
const PUSH = 100;

export const path = (space) => `/?storeId=${space}&transport=ws`;

export const request = (id, what, payload) =>
  JSON.stringify({ _tag: "Request", id: String(id), tag: `SyncWsRpc.${what}`, payload, headers: [] });

/** What a client sends to hear of all events, those of before included. */
export const pull = (space, live) => request(0, "Pull", { storeId: space, live, cursor: { _tag: "None" } });

async function connect(url) {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return socket;
}

const messages = (frame) => {
  const parsed = JSON.parse(frame);
  return Array.isArray(parsed) ? parsed : [parsed];
};

/** A client that publishes rows as events. */
export async function publisher(origin, space) {
  const socket = await connect(origin + path(space));
  let [number, seq] = [0, 0];
  const waiting = new Map();
  socket.on("message", (frame) => {
    for (const message of messages(frame)) {
      if (message._tag !== "Exit") continue;
      const { resolve, reject } = waiting.get(message.requestId);
      waiting.delete(message.requestId);
      if (message.exit._tag === "Success") resolve();
      else reject(new Error(`LiveStore: ${JSON.stringify(message.exit)}`));
    }
  });
  const push = (list) => {
    const batch = list.map((args) => ({
      name: "put",
      args,
      seqNum: ++seq,
      parentSeqNum: seq - 1,
      clientId: "bench",
      sessionId: "bench",
    }));
    const id = String(++number);
    const done = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    socket.send(request(id, "Push", { storeId: space, batch, backendId: { _tag: "None" } }));
    return done;
  };
  return {
    publish: (data) => push([data]),
    fill: async (list) => {
      for (let at = 0; at < list.length; at += PUSH) await push(list.slice(at, at + PUSH));
    },
    stop: () => socket.terminate(),
  };
}

/** A client with nothing that pulls until it has so many events: how long that took. */
export async function catchUp(origin, space, rows) {
  const began = performance.now();
  const socket = await connect(origin + path(space));
  await new Promise((resolve, reject) => {
    let count = 0;
    socket.on("error", reject);
    socket.on("close", () => reject(new Error(`LiveStore closed after ${count} of ${rows} events`)));
    socket.on("message", (frame) => {
      for (const message of messages(frame)) {
        if (message._tag === "Exit" && message.exit._tag !== "Success")
          reject(new Error(`LiveStore: ${JSON.stringify(message.exit)}`));
        if (message._tag !== "Chunk") continue;
        for (const { batch } of message.values) count += batch.length;
        socket.send(JSON.stringify({ _tag: "Ack", requestId: message.requestId }));
        if (count === rows) resolve();
        if (count > rows) reject(new Error(`LiveStore sent ${count} events of ${rows}`));
      }
    });
    socket.send(pull(space, false));
  });
  const ms = performance.now() - began;
  socket.removeAllListeners("close");
  socket.terminate();
  return { ms };
}
