// The demo: who may have it, and in a real browser what its page shows of the client, with several people.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Browser, noBrowser, picture } from "./browser.mjs";
import { secrets, start } from "./harness.mjs";

const open = { DEMO: "true", DEV: "true", JWT_SECRET: secrets.JWT_SECRET };

describe("the demo", () => {
  const asked = [
    ["not set", { ...open, DEMO: undefined }, 404],
    ["false", { ...open, DEMO: "false" }, 404],
    ["another word", { ...open, DEMO: "yes" }, 500, /^DEMO: must be true or false/],
    ["without DEV", { ...open, DEV: undefined }, 500, /^DEMO: needs DEV=true/],
    ["without DEV and DEMO", { JWT_SECRET: secrets.JWT_SECRET }, 404],
  ];
  for (const [what, appVars, expected, says] of asked) {
    test(`is there with DEMO and DEV alone: ${what}`, async () => {
      const workers = await start({ appVars });
      try {
        for (const [path, method] of [["/", "GET"], ["/demo/token?user=alice", "POST"]]) {
          const { status, body } = await workers.http(path, { method });
          assert.equal(status, expected, path);
          if (says) assert.match(body.error.message, says);
        }
      } finally {
        await workers.stop();
      }
    });
  }

  test("signs nobody in without the secret, and says its name", async () => {
    const workers = await start({ appVars: { ...open, JWT_SECRET: undefined } });
    try {
      const { status, body } = await workers.http("/demo/token?user=alice", { method: "POST" });
      assert.equal(status, 500);
      assert.match(body.error.message, /^JWT_SECRET: is not set/);
    } finally {
      await workers.stop();
    }
  });

  describe("where it is", () => {
    let workers;
    before(async () => (workers = await start({ appVars: open })));
    after(() => workers?.stop());

    test("its page may load nothing and be framed by nothing", async () => {
      const { status, headers, body } = await workers.http("/");
      assert.equal(status, 200);
      assert.match(headers.get("content-type"), /^text\/html/);
      const policy = headers.get("content-security-policy");
      const nonce = /script-src 'nonce-([0-9a-f]{32})'/.exec(policy)[1];
      assert.match(policy, /^default-src 'none';.*connect-src 'self';.*frame-ancestors 'none'$/);
      assert.equal(body.split(`nonce="${nonce}"`).length, 3, "its style and its script");
      const post = await workers.http("/", { method: "POST" });
      assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET"]);
    });

    test("its tokens are for alice, bob and carol, and last from 1 to 300 seconds", async () => {
      const ask = (query, method = "POST") => workers.http(`/demo/token?${query}`, { method });
      for (const user of ["alice", "bob", "carol"]) {
        const { status, body } = await ask(`user=${user}`);
        assert.equal(status, 200);
        const session = await workers.http("/api/sync/session", { headers: { authorization: `Bearer ${body.token}` } });
        assert.equal(session.body.identity, user);
      }
      for (const seconds of [1, 300]) assert.equal((await ask(`user=bob&seconds=${seconds}`)).status, 200);
      for (const seconds of ["0", "301", "", "-1", "1.5", "x"]) {
        const { status, body } = await ask(`user=bob&seconds=${seconds}`);
        assert.deepEqual([status, body.error.code, body.error.field], [400, "invalid", "seconds"], seconds);
      }
      for (const user of ["user=", "user=mallory", "user=Alice", ""]) {
        const { status, body } = await ask(user);
        assert.deepEqual([status, body.error.code, body.error.field], [400, "invalid", "user"], user);
      }
      const get = await ask("user=alice", "GET");
      assert.deepEqual([get.status, get.headers.get("allow")], [405, "POST"]);
    });
  });
});

describe("in a browser", { skip: noBrowser }, () => {
  let workers;
  let browser;
  before(async () => {
    workers = await start({ appVars: open });
    browser = await Browser.start();
  });
  after(async () => {
    await browser?.close();
    await workers?.stop();
  });

  const narrow = { viewport: { width: 640, height: 820 } };

  /** One person's page with one pane, ready. */
  async function enter(t, user, { query = "", ...options } = {}) {
    const { page, ...seen } = await browser.open(t, { ...narrow, ...options });
    await page.goto(`${workers.origin}/${query}`);
    const pane = page.locator(".pane");
    const signedIn = pane.getByLabel("Signed in as");
    if ((await signedIn.inputValue()) !== user) await signedIn.selectOption(user);
    await page.locator(`.pane[data-user=${user}]`).waitFor();
    await stands(pane, "synced");
    return { page, pane, ...seen };
  }

  const stands = (pane, status) => pane.locator(`.status[data-is=${status}]`).waitFor({ timeout: 15_000 });
  const item = (pane, text) => pane.locator("li").filter({ has: pane.page().getByRole("button", { name: `Delete: ${text}`, exact: true }) });
  const shows = (pane, text) => item(pane, text).waitFor({ timeout: 10_000 });
  const confirms = (pane, text) => item(pane, text).and(pane.page().locator("[data-waits=false]")).waitFor({ timeout: 10_000 });
  const lacks = (pane, text) => item(pane, text).waitFor({ state: "detached", timeout: 10_000 });
  const waits = (pane, count) => pane.getByText(count === 1 ? "1 write waits" : `${count} writes wait`).waitFor();
  const flip = (pane) => pane.getByRole("switch", { name: "Go offline" }).click();

  async function add(pane, text, label = "What is to be done?") {
    await pane.getByLabel(label).fill(text);
    await pane.getByLabel(label).press("Enter");
  }

  async function rename(pane, from, to) {
    const field = item(pane, from).locator(".text");
    await field.fill(to);
    await field.press("Enter");
  }

  const addNote = (pane, text) => add(pane, text, "What is nobody's business?");

  test("what one writes the other sees at once, and a private note nobody else", async (t) => {
    const [alice, bob] = [await enter(t, "alice"), await enter(t, "bob")];
    await addNote(alice.pane, "alice's secret");
    await add(alice.pane, "seen by both");
    await shows(bob.pane, "seen by both");
    await rename(bob.pane, "seen by both", "renamed by bob");
    await shows(alice.pane, "renamed by bob");
    await item(alice.pane, "renamed by bob").getByRole("checkbox").click();
    await item(bob.pane, "renamed by bob").getByRole("checkbox", { checked: true }).waitFor();
    await item(bob.pane, "renamed by bob").getByRole("button", { name: "Delete" }).click();
    await lacks(alice.pane, "renamed by bob");
    // The note came before all this, so that bob's page would have it by now.
    await confirms(alice.pane, "alice's secret");
    assert.equal(await item(bob.pane, "alice's secret").count(), 0);
  });

  test("offline one goes on writing, and on return both have all of it", async (t) => {
    const [alice, bob] = [await enter(t, "alice"), await enter(t, "bob")];
    await add(alice.pane, "from before");
    await shows(bob.pane, "from before");
    await flip(alice.pane);
    await stands(alice.pane, "offline");
    await add(alice.pane, "written offline");
    await rename(alice.pane, "from before", "renamed offline");
    await waits(alice.pane, 2);
    await add(bob.pane, "written meanwhile");
    await confirms(bob.pane, "written meanwhile");
    assert.equal(await item(alice.pane, "written meanwhile").count(), 0);
    assert.equal(await item(bob.pane, "written offline").count(), 0);
    await picture(alice.page, "demo-offline");
    await flip(alice.pane);
    await stands(alice.pane, "synced");
    for (const { pane } of [alice, bob]) {
      for (const text of ["written offline", "renamed offline", "written meanwhile"]) await confirms(pane, text);
      await lacks(pane, "from before");
    }
  });

  test("a network that goes and comes back is the same as the switch, without a hand", async (t) => {
    const context = await browser.context(t, narrow);
    const [alice, bob] = [await enter(t, "alice", { context }), await enter(t, "bob")];
    await context.setOffline(true);
    await add(alice.pane, "written in a tunnel");
    await waits(alice.pane, 1);
    await context.setOffline(false);
    await shows(bob.pane, "written in a tunnel");
    await confirms(alice.pane, "written in a tunnel");
  });

  test("what the server refuses is taken back, is told, and nothing else is lost", async (t) => {
    const alice = await enter(t, "alice");
    await addNote(alice.pane, "not to be given away");
    await confirms(alice.pane, "not to be given away");
    await item(alice.pane, "not to be given away").getByRole("button", { name: "Give to Bob" }).click();
    await addNote(alice.pane, "written after");
    await alice.pane.getByRole("alert").filter({ hasText: "forbidden" }).waitFor();
    await confirms(alice.pane, "not to be given away");
    await confirms(alice.pane, "written after");
    await picture(alice.page, "demo-refused");
    await alice.pane.getByRole("button", { name: "All right" }).click();
    assert.equal(await alice.pane.getByRole("alert").count(), 0);
  });

  test("a reload keeps rows and outbox, and what waited is sent on return", async (t) => {
    const [alice, bob] = [await enter(t, "alice"), await enter(t, "bob")];
    await add(alice.pane, "known before");
    await confirms(alice.pane, "known before");
    await flip(alice.pane);
    await add(alice.pane, "kept over a reload");
    await waits(alice.pane, 1);
    await alice.page.reload();
    await stands(alice.pane, "offline");
    await shows(alice.pane, "known before");
    await shows(alice.pane, "kept over a reload");
    await waits(alice.pane, 1);
    await flip(alice.pane);
    await confirms(alice.pane, "kept over a reload");
    await shows(bob.pane, "kept over a reload");
  });

  test("what one is typing stays while others write, and the keyboard keeps its place", async (t) => {
    const [alice, bob] = [await enter(t, "alice"), await enter(t, "bob")];
    for (const text of ["to be renamed", "to be deleted", "the next one"]) {
      await add(alice.pane, text);
      await confirms(alice.pane, text);
    }
    const field = item(alice.pane, "to be renamed").locator(".text");
    await field.press("End");
    await field.pressSequentially(" by hand");
    await add(bob.pane, "written meanwhile by bob");
    await shows(alice.pane, "written meanwhile by bob");
    assert.equal(await field.inputValue(), "to be renamed by hand");
    await field.press("Enter");
    await shows(bob.pane, "to be renamed by hand");
    const focused = () => alice.page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    assert.equal(await focused(), "Title");
    await item(alice.pane, "to be deleted").getByRole("button", { name: "Delete" }).press("Enter");
    await lacks(bob.pane, "to be deleted");
    assert.equal(await focused(), "Delete: the next one");
  });

  test("each sees who is here, where they point and when they wave; who goes is gone", async (t) => {
    const [alice, bob] = [await enter(t, "alice"), await enter(t, "bob")];
    const here = (pane) => pane.getByRole("list", { name: "Who is here" });
    await here(alice.pane).getByText("Bob").waitFor();
    await here(bob.pane).getByText("Alice").waitFor();
    const { x, y, width, height } = await alice.pane.boundingBox();
    // Two moves: the second counts only after a while, so the first must be told.
    await alice.page.mouse.move(x + width * 0.5, y + height * 0.25);
    const cursor = bob.pane.locator(".cursor[data-user=alice]");
    await cursor.waitFor();
    const style = await cursor.evaluate(({ style: { left, top } }) => [left, top].map(parseFloat));
    assert.ok(Math.abs(style[0] - 50) < 1 && Math.abs(style[1] - 25) < 1, `${style}`);
    assert.equal(await alice.pane.locator(".cursor[data-user=alice]").count(), 0, "one's own");
    await alice.page.mouse.move(x + width * 0.5, y - 20);
    await cursor.waitFor({ state: "detached" });
    await alice.pane.getByRole("button", { name: "Wave" }).click();
    await here(bob.pane).locator("li[data-waves=true]").filter({ hasText: "Alice" }).waitFor();
    await alice.page.close();
    await here(bob.pane).getByText("Alice").waitFor({ state: "detached" });
  });

  test("a session that ends is renewed, without a gap in what one sees", async (t) => {
    const alice = await enter(t, "alice", { query: "?seconds=2" });
    const bob = await enter(t, "bob");
    const tokens = () => alice.requests.filter((request) => request.url().includes("/demo/token")).length;
    for (let round = 0; tokens() < 4; round += 1) {
      assert.ok(round < 60, `only ${tokens()} tokens were asked for`);
      await add(bob.pane, `round ${round}`);
      await shows(alice.pane, `round ${round}`);
    }
    await add(alice.pane, "still allowed to write");
    await confirms(alice.pane, "still allowed to write");
    await shows(bob.pane, "still allowed to write");
  });

  test("an object that stops comes back, and so do its people", async (t) => {
    const [alice, bob] = [await enter(t, "alice"), await enter(t, "bob")];
    await workers.space("global").restart();
    await add(alice.pane, "after the restart");
    await shows(bob.pane, "after the restart");
    await confirms(alice.pane, "after the restart");
  });

  test("two tabs of one person share a connection, and the second goes on when the first is closed", async (t) => {
    const context = await browser.context(t, narrow);
    const first = await enter(t, "alice", { context });
    const second = await enter(t, "alice", { context });
    await add(second.pane, "written in the second tab");
    await shows(first.pane, "written in the second tab");
    assert.deepEqual([first.sockets.length, second.sockets.length], [1, 0]);
    await first.page.close();
    await add(second.pane, "written when the first was gone");
    await confirms(second.pane, "written when the first was gone");
    assert.equal(second.sockets.length, 1);
    await shows((await enter(t, "bob")).pane, "written when the first was gone");
  });

  test("another person in the same browser sees nothing of the one before, who finds all again", async (t) => {
    const { page, pane } = await enter(t, "alice");
    await addNote(pane, "alice's own");
    await confirms(pane, "alice's own");
    await pane.getByLabel("Signed in as").selectOption("carol");
    await page.locator(".pane[data-user=carol]").waitFor();
    await stands(pane, "synced");
    assert.equal(await item(pane, "alice's own").count(), 0);
    await pane.getByLabel("Signed in as").selectOption("alice");
    await shows(pane, "alice's own");
  });

  for (const colorScheme of ["light", "dark"]) {
    // `PICTURES=docs/pictures` makes them anew.
    test(`looks as the README shows it, ${colorScheme}`, async (t) => {
      const workers = await start({ appVars: open });
      t.after(() => workers.stop());
      const { page } = await browser.open(t, { viewport: { width: 1100, height: 720 }, colorScheme });
      await page.goto(workers.origin);
      const [alice, bob] = [page.locator(".pane[data-user=alice]"), page.locator(".pane[data-user=bob]")];
      for (const pane of [alice, bob]) await stands(pane, "synced");
      for (const text of ["Book the boat", "Ask Carol about the tide", "Pack the tent"]) await add(alice, text);
      await addNote(alice, "Surprise: Bob turns 30 on board");
      await shows(bob, "Pack the tent");
      await item(bob, "Book the boat").getByRole("checkbox").click();
      await item(alice, "Book the boat").getByRole("checkbox", { checked: true }).waitFor();
      await flip(bob);
      await add(bob, "Written without a network");
      await waits(bob, 1);
      await flip(bob);
      await confirms(alice, "Written without a network");
      await flip(bob);
      await add(bob, "And one more");
      await rename(bob, "Pack the tent", "Pack the big tent");
      await waits(bob, 2);
      await picture(page, `demo-${colorScheme}`);
      assert.equal(await item(alice, "And one more").count(), 0);
    });
  }

  for (const [shape, viewport] of Object.entries({ wide: { width: 1200, height: 760 }, narrow: { width: 360, height: 740 } })) {
    for (const colorScheme of ["light", "dark"]) {
      test(`fits a ${shape} window, ${colorScheme}, with a second user and latencies`, async (t) => {
        const { page } = await browser.open(t, { viewport, colorScheme });
        await page.goto(workers.origin);
        const panes = page.locator(".pane");
        if (shape === "narrow") await page.getByRole("button", { name: "Add a second user" }).click();
        await panes.nth(1).waitFor();
        for (const pane of await panes.all()) await stands(pane, "synced");
        const text = `${shape} and ${colorScheme}`;
        await add(panes.first(), text);
        await confirms(panes.first(), text);
        await shows(panes.nth(1), text);
        for (const name of ["last", "average", "worst"]) {
          const shown = panes.first().locator(`[data-latency=${name}]`);
          await shown.filter({ hasText: /^\d+(\.\d)?$/ }).waitFor();
        }
        const [overflow, scheme] = await page.evaluate(() => [
          document.documentElement.scrollWidth - innerWidth,
          getComputedStyle(document.body).backgroundColor,
        ]);
        assert.ok(overflow <= 0, `${overflow} pixels too wide`);
        assert.equal(scheme, colorScheme === "light" ? "rgb(244, 246, 248)" : "rgb(14, 19, 24)");
        await picture(page, `demo-${shape}-${colorScheme}`);
        await page.getByRole("button", { name: "Remove the second user" }).click();
        assert.equal(await panes.count(), 1);
      });
    }
  }
});
