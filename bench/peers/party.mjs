// partyserver in its own words: a server with hibernation that broadcasts what is posted to it.
import { Server, getServerByName } from "partyserver";

export class Party extends Server {
  static options = { hibernate: true };

  #seq = 0;

  getConnectionTags(connection, { request }) {
    const tag = new URL(request.url).searchParams.get("tag");
    return tag === null ? [] : [tag];
  }

  async onRequest(request) {
    const { channel, action, key, data, changes, to } = await request.json();
    const at = Date.now();
    const cursor = `party.${++this.#seq}`;
    const text =
      changes === undefined
        ? JSON.stringify({ type: "change", channel, action, key, data, by: null, at, cursor })
        : JSON.stringify({
            type: "batch",
            channel,
            changes: changes.map((change) => ({ ...change, by: null, at })),
            cursor,
          });
    if (to === undefined) this.broadcast(text);
    else for (const tag of to) for (const connection of this.getConnections(tag)) connection.send(text);
    return Response.json({ cursor });
  }
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/healthz") return new Response("ok");
    const server = await getServerByName(env.PARTY, url.searchParams.get("space") ?? "global");
    return server.fetch(request);
  },
};
