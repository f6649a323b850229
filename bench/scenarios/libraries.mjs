// Other libraries' objects beside raw and Tidewire: fan-out to 1,000, catch-up of 10,000 rows, waking.
import { of, ratioOf, spread, table } from "../format.mjs";
import { interleaved, settle } from "../pace.mjs";
import { newSpace, row } from "../peer.mjs";
import { startPeers, stopPeers } from "../peers.mjs";

export const name = "libraries";

const PAGE = 1_000;

/** Whose objects the runtime may refuse to put to sleep: its word for it stands on the page then. */
const SLEEPLESS = ["livestore"];

export async function run({ rounds, subscribers, messages, rows, names }) {
  const peers = await startPeers(["raw", "tidewire", ...names]);
  const [live, kept] = [newSpace(), newSpace()];
  try {
    for (const peer of peers) {
      await peer.load.open(live, peer.sockets(live, 0, subscribers));
      await peer.load.open(kept, peer.sockets(kept, 0, 1, { channel: null }));
      const list = Array.from({ length: rows }, (_, at) => ({ ...row(at, 200), id: `k${at}` }));
      await peer.fill(kept, list);
    }
    const fanout = await interleaved(peers, rounds, (peer) => deliver(peer, live, subscribers, messages));
    const refusals = {};
    const sleepy = [];
    for (const peer of peers) {
      await peer.deliver(live, subscribers);
      await settle();
      const refusal = await peer.sleep(live).then(
        () => undefined,
        (error) => error,
      );
      if (refusal === undefined) sleepy.push(peer);
      else if (SLEEPLESS.includes(peer.name)) refusals[peer.name] = refusal.message;
      else throw refusal;
    }
    const waking = await interleaved(sleepy, rounds, (peer) => wake(peer, live, subscribers));
    const catchup = await interleaved(peers, rounds, async (peer) => {
      // An object that has slept wakes with the first, which is not measured.
      await peer.readAll(kept, rows, PAGE);
      await settle();
      const before = peer.cpu();
      const { ms } = await peer.readAll(kept, rows, PAGE);
      await settle();
      return { cpuMs: (peer.cpu() - before) / 1000, ms };
    });
    return { subscribers, rows, fanout, waking, refusals, catchup };
  } finally {
    await stopPeers(peers);
  }
}

async function deliver(peer, space, subscribers, messages) {
  await peer.deliver(space, subscribers);
  await settle();
  const before = peer.cpu();
  let ms = 0;
  for (let at = 0; at < messages; at += 1) ms += (await peer.deliver(space, subscribers)).lastMs;
  await settle();
  return { cpuUs: (peer.cpu() - before) / (messages * subscribers), ms: ms / messages };
}

async function wake(peer, space, subscribers) {
  await peer.deliver(space, subscribers);
  await settle();
  await peer.sleep(space);
  const before = peer.cpu();
  const { firstMs } = await peer.deliver(space, subscribers);
  await settle();
  return { firstMs, cpuMs: (peer.cpu() - before) / 1000 };
}

export function report({ subscribers, rows, fanout, waking, refusals, catchup }) {
  const line = (peer) => [
    peer,
    spread(ratioOf(fanout[peer], fanout.raw, "cpuUs"), " ×"),
    spread(of(fanout[peer], "cpuUs")),
    ...(waking[peer] ? ["firstMs", "cpuMs"].map((field) => spread(of(waking[peer], field))) : ["see below", ""]),
    spread(of(catchup[peer], "cpuMs")),
    spread(of(catchup[peer], "ms")),
  ];
  const head = [
    "peer",
    `fan-out to ${subscribers.toLocaleString("en-US")}: CPU, to raw`,
    "CPU of a delivery, µs",
    "waking: first delivery, ms",
    "CPU, ms",
    `catch-up of ${rows.toLocaleString("en-US")} rows: CPU, ms`,
    "ms",
  ];
  const stopped = Object.entries(refusals).map(
    ([peer, message]) => `Putting the object of ${peer} to sleep was refused: \`${message}\``,
  );
  return {
    title: `Other libraries: ${subscribers.toLocaleString("en-US")} sockets`,
    tables: [table(head, Object.keys(fanout).map(line)), ...stopped],
    floors: [],
    plots: {},
  };
}
