import { start } from "./harness.mjs";
import { createSync, webSocket, memoryStorage } from "../../client/src/index.ts";
import { longPoll, serverSentEvents } from "../../client/src/http.ts";
const workers = await start();
const only = process.argv[2];
const deep = (n) => { let o = {}; for (let i = 0; i < n; i++) o = { o }; return o; };
const cases = {
  surrogateTitle: (c) => c.create({ id: "a", title: "\ud800" }),
  surrogateId: (c) => c.create({ id: "a\ud800", title: "x" }),
  surrogateField: (c) => c.create({ id: "b", ["\udc00"]: 1 }),
  deep100: (c) => c.create({ id: "c", d: deep(100) }),
  deep130: (c) => c.create({ id: "d", d: deep(130) }),
  deep5000: (c) => c.create({ id: "d", d: deep(5000) }),
  longKey: (c) => c.create({ id: "x".repeat(257), title: "x" }),
  key256: (c) => c.create({ id: "x".repeat(256), title: "x" }),
  emoji: (c) => c.create({ id: "👩‍👩‍👧", title: "x" }),
  control: (c) => c.create({ id: "a\u0000b\n", title: "x" }),
  proto: (c) => c.create({ id: "__proto__", title: "x" }),
  protoField: (c) => c.create(JSON.parse('{"id":"p","__proto__":{"a":1}}')),
  nul: (c) => c.create({ id: "n", title: "a\u0000b\u2028" }),
  bigrow: (c) => c.create({ id: "big", title: "x".repeat(262_144 - 115) }),
  bigrow2: (c) => c.create({ id: "big2", title: "x".repeat(262_144 - 200) }),
  grow1: (c) => c.update("big2", { more: "y".repeat(1000) }),
  updNull: (c) => c.update("n", null),
  updUndef: (c) => c.update("n", undefined),
  updNum: (c) => c.update("n", 5),
  updArr: (c) => c.update("n", [1]),
  updStr: (c) => c.update("n", "xy"),
  updEmpty: (c) => c.update("n", {}),
  updId: (c) => c.update("n", { id: "other" }),
  nums: (c) => c.create({ id: "num", a: 1e308, b: -0, c: 2 ** 60, d: 1e-320, e: NaN, f: new Date(0), g: undefined, h: () => 1 }),
  dup: (c) => c.create({ id: "n", title: "again" }),
  signal: (c) => (c.signal("x".repeat(1000), "y".repeat(100)), { confirmed: Promise.resolve() }),
};
for (const [tn, tr] of [["ws", webSocket], ["poll", longPoll]]) {
  for (const [name, run] of Object.entries(cases)) {
    if (only && name !== only) continue;
    const space = globalThis[`s${tn}`] ??= workers.space();
    const errors = [];
    const sync = createSync({ url: workers.origin, space: space.name, token: space.token("alice"), transports: [tr], reconnectInterval: 50, maxReconnectInterval: 200, onError: (e) => errors.push(e.code + ":" + e.message) });
    const c = sync.channel("todos"); await c.ready;
    let out;
    try {
      const w = run(c);
      const other = c.create({ id: "other-" + name, title: "fine" });
      const late = (p) => Promise.race([p.then((v) => "ok " + JSON.stringify(v)?.slice(0, 150), (e) => `${e.code}:${e.message}`), new Promise((y) => setTimeout(() => y("HANGS"), 2500))]);
      out = [await late(w.confirmed), (await late(other.confirmed)).slice(0, 60)];
    } catch (e) { out = ["threw", String(e)]; }
    console.log(tn, name, out.join(" | ").slice(0, 300), sync.status, errors.join(",").slice(0, 200));
    await sync.close();
  }
}
await workers.stop();
process.exit(0);
