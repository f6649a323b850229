// The inspector, in a real browser: what it shows, live; what it must not do; who may look.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Browser, noBrowser, picture } from "./browser.mjs";
import { secrets, start } from "./harness.mjs";

const SYNC_CHANNELS = {
  "todos": { read: "user", write: "user" },
  "notes": { read: "user", write: "user", scope: { field: "ownerId" } },
  "feed": { read: "anyone", write: "none" },
  "room:*": { read: "topic", write: "topic", presence: true, signals: true },
  "chat:*": { read: "user", write: "user", keep: "every", retain: { count: 1000, days: 7 } },
};
const payload = "a-row-that-no-page-may-show";
const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
describe("the page", () => {
  let workers;
  before(async () => (workers = await start({ vars: { SYNC_CHANNELS }, appVars: { INSPECTOR: "true" } })));
  after(() => workers?.stop());

  test("is served without a key, holds no data, and may load and be framed by nothing", async () => {
    const { status, headers, body } = await workers.http("/inspector");
    assert.equal(status, 200);
    assert.match(headers.get("content-type"), /^text\/html/);
    const policy = headers.get("content-security-policy");
    const nonce = /script-src 'nonce-([0-9a-f]{32})'/.exec(policy)[1];
    assert.match(policy, /^default-src 'none';.*connect-src 'self';.*frame-ancestors 'none'$/);
    assert.equal(body.split(`nonce="${nonce}"`).length, 3, "its style and its script");
    assert.doesNotMatch(body, /\b(src|href)="(?!data:)|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
    assert.equal(headers.get("x-frame-options"), "DENY");
    assert.equal(headers.get("cache-control"), "no-store");
    const again = await workers.http("/inspector");
    assert.notEqual(again.headers.get("content-security-policy"), policy);
    const post = await workers.http("/inspector", { method: "POST" });
    assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET"]);
  });

  test("is not there unless INSPECTOR=true, and another word is refused by the setting's name", async () => {
    for (const [INSPECTOR, expected] of [[undefined, 404], ["false", 404], ["yes", 500]]) {
      const workers = await start({ appVars: { INSPECTOR } });
      try {
        const { status, body } = await workers.http("/inspector");
        assert.equal(status, expected);
        if (expected === 500) assert.match(body.error.message, /^INSPECTOR: /);
      } finally {
        await workers.stop();
      }
    }
  });
});

describe("in a browser", { skip: noBrowser }, () => {
  let workers;
  let browser;
  before(async () => {
    workers = await start({ vars: { SYNC_CHANNELS, SYNC_SPACES: "*" }, appVars: { INSPECTOR: "true" } });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.close();
    await workers?.stop();
  });

  const text = (page, selector) => page.locator(selector).innerText();
  const holds = (page, selector, wanted) =>
    page.locator(selector).filter({ hasText: wanted }).first().waitFor({ state: "visible", timeout: 5_000 });

  test("the key comes by fragment and leaves no trace in the address or any URL", async (t) => {
    const space = workers.space();
    await space.publish("todos", "create", "k", {});
    const { page, requests } = await browser.open(t);
    await page.goto(`${workers.origin}/inspector#key=${secrets.PUBLISH_KEY}&space=${space.name}`);
    await holds(page, "#state", "live");
    assert.equal(page.url(), `${workers.origin}/inspector`);
    for (const request of requests) {
      assert.ok(request.url().startsWith(`${workers.origin}/`), request.url());
      assert.ok(!request.url().includes(secrets.PUBLISH_KEY));
    }
    assert.ok(requests.some((request) => request.url().includes(`/inspect?space=${space.name}`)));
    // It is kept for this tab, and forgotten when asked to.
    await page.reload();
    await holds(page, "#state", "live");
    await page.click("#forget");
    await holds(page, "#state", "needs a key");
    assert.equal(await page.evaluate(() => JSON.stringify({ ...sessionStorage, ...localStorage })), "{}");
  });

  test("a wrong key is refused, with words, and not tried again; the right one can be typed", async (t) => {
    const space = workers.space();
    const { page, requests } = await browser.open(t);
    await page.goto(`${workers.origin}/inspector#key=wrong`);
    await holds(page, "#state", "the publish key is missing or wrong");
    await page.waitForTimeout(1_500);
    assert.equal(requests.filter((request) => request.url().includes("/inspect?")).length, 1);
    await page.fill("#space", space.name);
    await page.fill("#key", secrets.PUBLISH_KEY);
    await page.click("button:has-text('Look')");
    await holds(page, "#state", "live");
    await holds(page, "#footer", space.name);
    assert.equal(await page.inputValue("#key"), "");
  });

  test("connections, channels, presence, the log and each publish are shown live", async (t) => {
    const space = workers.space();
    const { page } = await browser.open(t);
    await page.goto(`${workers.origin}/inspector#key=${secrets.PUBLISH_KEY}&space=${space.name}`);
    await holds(page, "#connections .empty", "Nobody is connected.");
    const topics = ["room:1"];
    const alice = await space.connect("alice", { topics });
    alice.send({ type: "hello", v: 1, device: "phone-7", subscribe: ["todos", "room:1"].map((channel) => ({ id: channel, channel })) });
    await alice.receive({ type: "snapshot", id: "room:1" });
    const bob = await space.join("bob", ["todos"]);
    alice.send({ type: "presence", channel: "room:1", state: { cursor: 7 } });
    await alice.mutate("todos", "create", "m", { text: payload });
    const { receivers } = await space.publish("todos", "create", "k", { text: payload });
    assert.equal(receivers, 2);
    await bob.mutate("feed", "create", "x", {});
    await holds(page, "#log tbody tr", "read_only");
    const connection = page.locator("#connections tbody tr", { hasText: "alice" });
    assert.match(await connection.innerText(), /alice\s+phone-7\s+.*hello.*room:1/s);
    assert.match(await text(page, "#channels tbody"), /room:1\s+room:\*\s+1\s+1/);
    assert.match(await text(page, "#presence tbody"), /room:1\s+alice\s+\{"cursor":7\}/);
    assert.match(await text(page, "#rules tbody"), /chat:\*\s+user\s+user\s+every event, 1,000, 7 d/);
    const ops = await page.locator("#log tbody tr .op").allInnerTexts();
    assert.deepEqual(ops, ["mutate", "publish", "mutate", "subscribe", "connect", "subscribe", "subscribe", "connect"]);
    const cells = await page.locator("#publishes tbody tr").first().locator("td").allInnerTexts();
    assert.match(cells[0], /^\d\d:\d\d:\d\d\.\d{3}$/);
    assert.deepEqual([cells[1], cells[2], cells[3], cells[5]], ["todos", "PUBLISH_KEY", "2", "2"]);
    assert.match(cells[4], /^\d+ B$/);
    assert.match(cells[6], /^\d+ ms$/);
    assert.match(await text(page, "#figures"), /Connections\s+2/);
    await page.check("#refused-only");
    assert.equal(await page.locator("#log tbody tr").count(), 1);
    await page.uncheck("#refused-only");
    // Another life of the object begins its numbers anew.
    await space.sleep();
    await alice.mutate("todos", "delete", "m");
    await holds(page, "#log tbody tr:first-child", "delete");
    await bob.drop();
    await page.locator("#connections tbody tr", { hasText: "bob" }).waitFor({ state: "detached", timeout: 5_000 });
    assert.ok(!(await page.content()).includes(payload));
  });

  test("names that strangers choose are text, however they look", async (t) => {
    const space = workers.space();
    const mallory = await space.connect(hostile);
    mallory.send({ type: "hello", v: 1, device: hostile.slice(0, 128), subscribe: [{ id: "s", channel: `chat:${hostile}` }] });
    await mallory.receive({ type: "snapshot" });
    const { page } = await browser.open(t);
    await page.goto(`${workers.origin}/inspector#key=${secrets.PUBLISH_KEY}&space=${space.name}`);
    await holds(page, "#channels tbody tr", `chat:${hostile}`);
    await holds(page, "#connections tbody tr", hostile);
    assert.equal(await page.title(), "Tidewire inspector");
    assert.equal(await page.locator("main img").count(), 0);
    assert.equal(await page.locator("main script").count(), 0);
  });

  test("it only asks, and only while somebody looks", async (t) => {
    const space = workers.space();
    const { page, requests } = await browser.open(t);
    await page.goto(`${workers.origin}/inspector#key=${secrets.PUBLISH_KEY}&space=${space.name}`);
    await holds(page, "#state", "live");
    assert.deepEqual([...new Set(requests.map((request) => request.method()))], ["GET"]);
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    });
    await page.waitForTimeout(1_200);
    const asked = requests.length;
    await page.waitForTimeout(2_200);
    assert.equal(requests.length, asked);
    await page.evaluate(() => {
      delete document.hidden;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await page.waitForTimeout(500);
    assert.ok(requests.length > asked);
  });

  for (const [shape, viewport] of Object.entries({ wide: { width: 1440, height: 1000 }, narrow: { width: 390, height: 844 } })) {
    for (const colorScheme of ["light", "dark"]) {
      test(`${shape} and ${colorScheme}, nothing runs out of the page`, async (t) => {
        const space = workers.space();
        const people = ["alice", "bob", "carol", "dave.with-a-rather-long-name@team.example.com"];
        const clients = [];
        for (const [at, user] of people.entries()) {
          const client = await space.connect(user, { topics: ["room:42", `team:${at}`] });
          const channels = ["todos", "room:42", `chat:${at % 2 ? "general" : "a-channel-with-a-rather-long-name-that-goes-on"}`];
          client.send({ type: "hello", v: 1, device: ["phone", "laptop"][at % 2], subscribe: channels.map((channel) => ({ id: channel, channel })) });
          await client.receive({ type: "snapshot", id: channels[2] });
          client.send({ type: "presence", channel: "room:42", state: { cursor: [at * 31, at * 17], name: user } });
          clients.push(client);
        }
        await space.join(null, ["feed"]);
        for (let n = 0; n < 12; n += 1) {
          await clients[n % 4].mutate("todos", n % 5 === 4 ? "update" : "create", `k${n % 5 === 4 ? n - 1 : n}`, { text: "milk" });
          await space.publish(["todos", "feed", "chat:general"][n % 3], "create", `p${n}`, { text: "x".repeat(n * 40) });
        }
        await clients[1].mutate("feed", "create", "x", {});
        await clients[2].subscribe("nowhere");
        await space.post("/broadcast", { channel: "nowhere", action: "create", key: "k", data: {} });
        const { page } = await browser.open(t, { viewport, colorScheme });
        await page.goto(`${workers.origin}/inspector#key=${secrets.PUBLISH_KEY}&space=${space.name}`);
        await holds(page, "#log tbody tr", "unknown_channel");
        await page.waitForTimeout(100);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(overflow <= 0, `${overflow} px too wide`);
        const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        const bright = background.match(/\d+/g).slice(0, 3).every((part) => Number(part) > 128);
        assert.equal(bright, colorScheme === "light", background);
        await picture(page, `inspector-${shape}-${colorScheme}`);
      });
    }
  }
});
