// Whose pages may use their visitors' cookies: the app's own, the listed ones, and nobody else's.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { bearer, has, start, token } from "./harness.mjs";

const ALLOWED_ORIGINS = "https://partner.example, https://*.example.org, http://dev.example:3000";

/** The app's word for who somebody is: alice, whatever she shows. It remembers how often it was asked. */
let questions = 0;
let app;
before(async () => {
  app = createServer((_, response) => {
    questions += 1;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ identity: "alice", expiresAt: Date.now() + 600_000 }));
  });
  await new Promise((resolve) => app.listen(0, "127.0.0.1", resolve));
});
after(() => app?.close());

/** The ways to the sync Worker. Each answers the Workers, and those that hold the objects. */
const ways = {
  "through the app Worker": async (vars) => {
    const workers = await start({ vars });
    return { workers, sync: workers };
  },
  "through the app Worker, without the binding": async (vars) => {
    const sync = await start({ workers: ["sync"], vars });
    const workers = await start({ workers: ["app"], appVars: { SYNC_WORKER_URL: sync.origin } });
    return { workers, sync };
  },
  "at the sync Worker itself": async (vars) => {
    const workers = await start({ workers: ["sync"], vars });
    return { workers, sync: workers };
  },
};

const cookie = { cookie: "theme=dark; session=opaque; lang=en" };

for (const [way, deploy] of Object.entries(ways)) {
  describe(way, () => {
    let workers, sync;
    before(async () => {
      const AUTH_URL = `http://127.0.0.1:${app.address().port}/session`;
      ({ workers, sync } = await deploy({ AUTH_URL, JWT_SECRET: undefined, ALLOWED_ORIGINS, SYNC_SPACES: "*" }));
    });
    after(async () => {
      await workers?.stop();
      if (sync !== workers) await sync?.stop();
    });

    /** Everything that a page can reach: sockets, who its visitor is, readers, and writers. */
    const reads = (space, headers) => ({
      "/api/sync": () => workers.upgrade("/api/sync", { headers }),
      "/api/sync/<space>": () => workers.upgrade(`/api/sync/${space}`, { headers }),
      "/api/sync, no upgrade": () => workers.http("/api/sync", { headers }),
      "/api/sync/session": () => workers.http("/api/sync/session", { headers }),
      "/api/sync/session?space=": () => workers.http(`/api/sync/session?space=${space}`, { headers }),
      "/api/sync/changes": () => workers.http(`/api/sync/changes?channel=feed&space=${space}`, { headers }),
      "/api/sync/mutate": () =>
        workers.http(`/api/sync/mutate?space=${space}`, { headers, method: "POST", body: '{"mutations":[{}]}' }),
    });
    const statuses = async (space, headers) => {
      const answers = [];
      for (const read of Object.values(reads(space, headers))) answers.push((await read()).status);
      return answers;
    };
    const [open, closed] = [[101, 101, 426, 200, 200, 200, 200], Array(7).fill(403)];

    /** Headers of a page: its origin, and whatever its browser adds. */
    const page = (origin, more = cookie) => ({ origin, ...more });

    test("a page of another origin that brings a cookie is turned away before anything runs", async () => {
      const own = new URL(workers.origin);
      const foreign = [
        ...["https://evil.example", "null", "file://", `https://${own.host}`, `http://${own.hostname}`],
        ...[`http://${own.hostname}:1`, `${workers.origin}.evil.example`, `${workers.origin}/`, `http://localhost:${own.port}`],
        ...["http://partner.example", "https://partner.example:8443", "https://partner.example.evil.example"],
        ...["https://example.org", "https://evilexample.org", "https://a.example.org:444", "http://a.example.org"],
        ...["https://.example.org", "http://dev.example", "https://evil.example,https://partner.example"],
      ];
      if (sync !== workers) foreign.push(sync.origin);
      const asked = questions;
      for (const origin of foreign) {
        for (const more of [cookie, { ...cookie, ...bearer("opaque") }, { cookie: "unrelated=1" }]) {
          for (const [what, read] of Object.entries(reads("unseen", page(origin, more)))) {
            const { status, body } = await read();
            assert.equal(status, 403, `${origin} ${what}`);
            assert.equal(body.error.code, "forbidden");
          }
        }
        const query = await workers.upgrade("/api/sync?token=opaque", { headers: page(origin) });
        assert.equal(query.status, 403, `${origin} with a token in the query`);
      }
      const image = { ...cookie, "sec-fetch-site": "cross-site" };
      assert.deepEqual(await statuses("unseen", image), closed, "a browser that says no origin");
      assert.equal(questions, asked, "a credential was judged");
      for (const space of ["global", "unseen"]) assert.equal(await sync.space(space).wasWoken(), false, space);
    });

    test("the app's own page and listed ones may use cookies", async () => {
      for (const origin of [
        ...[workers.origin, "https://partner.example", "https://a.example.org", "https://a.b.example.org"],
        "http://dev.example:3000",
      ]) {
        assert.deepEqual(await statuses("seen", page(origin)), open, origin);
      }
      const { body } = await workers.http("/api/sync/session", { headers: page(workers.origin) });
      assert.equal(body.identity, "alice");
    });

    test("any page may use a token that it holds itself, and any program anything", async () => {
      for (const headers of [page("https://evil.example", bearer("opaque")), page("null", {}), cookie, { ...cookie, "sec-fetch-site": "same-origin" }, {}]) {
        assert.deepEqual(await statuses("seen", headers), open);
      }
      const { status } = await workers.upgrade("/api/sync?token=opaque", { headers: page("https://evil.example", {}) });
      assert.equal(status, 101);
    });

    test("the app's origin is the one that the browser used, with scheme, name and port", async () => {
      // Only the upgrades: `fetch` lets nobody set the host.
      const used = async (host, origin) => (await statuses("seen", { host, ...page(origin) })).slice(0, 2);
      const [open, refused] = [[101, 101], [403, 403]];
      assert.deepEqual(await used("app.example:8443", "http://app.example:8443"), open);
      assert.deepEqual(await used("app.example:8443", workers.origin), refused);
      assert.deepEqual(await used("app.example:8443", "http://app.example"), refused);
      assert.deepEqual(await used("app.example", "http://app.example:8443"), refused);
      assert.deepEqual(await used("app.example:8443", "https://app.example:8443"), refused);
    });

    test("no answer lets a page of another origin read it", async () => {
      const headers = page("https://partner.example", {});
      const preflight = { ...headers, "access-control-request-method": "GET", "access-control-request-headers": "x-tidewire-origin" };
      for (const answer of [
        await workers.http("/api/sync/session", { headers }),
        await workers.http("/api/sync/session", { method: "OPTIONS", headers: preflight }),
        await workers.http("/broadcast", { method: "OPTIONS", headers: preflight }),
      ]) {
        const names = [...answer.headers.keys()].filter((name) => name.startsWith("access-control"));
        assert.deepEqual(names, []);
      }
    });

    test("x-tidewire-origin from outside does no more than leaving the origin out", async () => {
      const origin = "https://evil.example";
      const claimed = { ...page(origin), "x-tidewire-origin": origin };
      if (way === "at the sync Worker itself") {
        // No browser sends this header to another origin without asking first, see above, and none
        // at all with an upgrade. A program that can holds the cookie and could send no origin.
        assert.deepEqual(await statuses("seen", claimed), open);
      } else {
        assert.deepEqual(await statuses("seen", claimed), closed);
      }
      const nobody = { ...page("null"), "x-tidewire-origin": "null" };
      assert.deepEqual(await statuses("seen", nobody), closed, "null is nobody's origin");
    });
  });
}

test("without ALLOWED_ORIGINS only the app's own pages may use cookies, here a token", async (t) => {
  const workers = await start();
  t.after(() => workers.stop());
  const headers = (origin) => ({ origin, cookie: `session=${token("alice")}` });
  has(await workers.upgrade("/api/sync", { headers: headers(workers.origin) }), { status: 101 });
  for (const origin of ["https://partner.example", "null"]) {
    has(await workers.upgrade("/api/sync", { headers: headers(origin) }), { status: 403 });
  }
  // A cookie that would be refused anyway is not even looked at.
  const bad = { origin: "https://partner.example", cookie: "session=bad" };
  has(await workers.upgrade("/api/sync", { headers: bad }), { status: 403 });
});
