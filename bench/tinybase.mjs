// TinyBase's own client, as publisher and as reader that catches up. It runs in the bench's process: its CPU
// counts for nobody.
import { createMergeableStore } from "tinybase";
import { createWsSynchronizer } from "tinybase/synchronizers/synchronizer-ws-client";
import WebSocket from "ws";

const TABLE = "bench";
/** Seconds that a question may take: a whole store comes as one answer. */
const PATIENCE = 60;

async function connect(url) {
  const store = createMergeableStore();
  // Nobody here compresses.
  const socket = new WebSocket(url, { perMessageDeflate: false });
  const synchronizer = await createWsSynchronizer(store, socket, PATIENCE);
  return { store, synchronizer };
}

/** A client that publishes rows. */
export async function publisher(origin, space) {
  const { store, synchronizer } = await connect(`${origin}/${space}`);
  await synchronizer.startSync();
  return {
    publish: (data) => store.setRow(TABLE, data.id, data),
    fill: (list) => store.transaction(() => list.forEach((data) => store.setRow(TABLE, data.id, data))),
    stop: () => synchronizer.destroy(),
  };
}

/** A client with nothing that synchronizes until it has so many rows: how long that took. */
export async function catchUp(origin, space, rows) {
  const began = performance.now();
  const { store, synchronizer } = await connect(`${origin}/${space}`);
  const all = new Promise((resolve) => {
    const look = () => store.getRowIds(TABLE).length >= rows && resolve();
    store.addRowIdsListener(TABLE, look);
  });
  await synchronizer.startSync();
  let late;
  const tooLate = new Promise((_, reject) => {
    late = setTimeout(
      () => reject(new Error(`TinyBase has ${store.getRowIds(TABLE).length} of ${rows} rows after ${PATIENCE} s`)),
      PATIENCE * 1000,
    );
  });
  await Promise.race([all, tooLate]);
  clearTimeout(late);
  const ms = performance.now() - began;
  await synchronizer.destroy();
  return { ms };
}
