// TinyBase in its own words: a server that synchronizes clients and keeps the store in the object's SQLite.
import { createMergeableStore } from "tinybase";
import { createDurableObjectSqlStoragePersister } from "tinybase/persisters/persister-durable-object-sql-storage";
import {
  WsServerDurableObject,
  getWsServerDurableObjectFetch,
} from "tinybase/synchronizers/synchronizer-ws-server-durable-object";

export class Tiny extends WsServerDurableObject {
  createPersister() {
    return createDurableObjectSqlStoragePersister(createMergeableStore(), this.ctx.storage.sql, { mode: "fragmented" });
  }
}

const serve = getWsServerDurableObjectFetch("TINY");

export default {
  fetch(request, env) {
    return new URL(request.url).pathname === "/healthz" ? new Response("ok") : serve(request, env);
  },
};
