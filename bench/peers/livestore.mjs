// LiveStore in its own words: its sync backend, which keeps the log of events in the object's SQLite.
import { makeDurableObject, makeWorker } from "@livestore/sync-cf/cf-worker";

export class LiveStore extends makeDurableObject({}) {}

const worker = makeWorker({ syncBackendBinding: "LIVESTORE" });

export default {
  fetch(request, env, context) {
    return new URL(request.url).pathname === "/healthz" ? new Response("ok") : worker.fetch(request, env, context);
  },
};
