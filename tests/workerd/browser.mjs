// A real browser for tests of pages: Chromium, as scripts/browser.sh finds or installs it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { repository } from "./harness.mjs";

/** A folder for pictures of the pages, if somebody wants to see them. */
const pictures = process.env.PICTURES;

function find() {
  const found = spawnSync(`${repository}/scripts/browser.sh`, { encoding: "utf8" });
  if (found.status === 3) return undefined;
  assert.equal(found.status, 0, found.stderr);
  return found.stdout.trim();
}

const executablePath = find();

/** Why tests in a browser are skipped; false where there is one. */
export const noBrowser = executablePath === undefined && "no Chromium here";

export class Browser {
  #browser;

  static async start() {
    const one = new Browser();
    // Nothing of it asks anything outside this machine.
    const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
    const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ...quiet];
    one.#browser = await chromium.launch({ executablePath, args });
    return one;
  }

  close() {
    return this.#browser?.close();
  }

  /** Somebody else's browser, as far as a page can see: what it keeps is its own. Closed with its test. */
  async context(t, options) {
    const context = await this.#browser.newContext(options);
    t.after(() => context.close());
    return context;
  }

  /** A page, in a context of its own unless one is given; complaints of the browser fail its test. */
  async open(t, { context, ...options } = {}) {
    const page = await (context ?? (await this.context(t, options))).newPage();
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(`${error}`));
    page.on("console", (message) => {
      // What was refused, or could not be reached, is reported by the browser itself.
      const isExpected = /status of 4\d\d|WebSocket connection to|net::ERR_(INTERNET|CONNECTION|NETWORK)/.test(message.text());
      if (message.type() === "error" && !isExpected) complaints.push(message.text());
    });
    const requests = [];
    page.on("request", (request) => requests.push(request));
    const sockets = [];
    page.on("websocket", (socket) => sockets.push(socket));
    t.after(() => assert.deepEqual(complaints, []));
    return { page, requests, sockets };
  }
}

/** A picture of a page, where pictures are wanted. */
export async function picture(page, name) {
  if (pictures === undefined) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
}
