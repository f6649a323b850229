// What Cloudflare asks for, and what counts as one of it: the only place for both.
//
// Workers Paid, in US dollars, as of November 2026. From these pages, of which docs/costs.md says more:
//   https://developers.cloudflare.com/durable-objects/platform/pricing/
//   https://developers.cloudflare.com/durable-objects/concepts/durable-object-lifecycle/
//   https://developers.cloudflare.com/workers/platform/pricing/

/** What is billed: `included` a month, and the price of `per` more. */
export const PRICES = {
  workerRequests: { name: "Worker requests", included: 10e6, per: 1e6, price: 0.3 },
  workerCpuMs: { name: "Worker CPU, ms", included: 30e6, per: 1e6, price: 0.02 },
  objectRequests: { name: "object requests", included: 1e6, per: 1e6, price: 0.15 },
  objectGbSeconds: { name: "object duration, GB-s", included: 400e3, per: 1e6, price: 12.5 },
  rowsRead: { name: "rows read", included: 25e9, per: 1e6, price: 0.001 },
  rowsWritten: { name: "rows written", included: 50e6, per: 1e6, price: 1 },
  storedGb: { name: "stored, GB", included: 5, per: 1, price: 0.2 },
};

/** So many frames of clients are one request. */
export const FRAMES_A_REQUEST = 20;

/** An object is billed for so much memory, whatever it uses. */
export const OBJECT_GB = 0.128;

export const DAYS_A_MONTH = 30;

/** What was counted in a day, in the units of the bill. */
export function unitsOf(counts) {
  const kinds = Object.entries(counts.kinds);
  const sum = (field, wanted = () => true) =>
    kinds.reduce((all, [name, sums]) => all + (wanted(name) ? sums[field] : 0), 0);
  const isFrame = (name) => name.startsWith("frame ");
  // The end of a socket, a timer and a constructor are no requests.
  const isRequest = (name) => !isFrame(name) && !["close", "later", "timer", "wake"].includes(name);
  const activeMs = sum("ms") + counts.heldMs;
  return {
    workerRequests: counts.requests,
    workerCpuMs: counts.cpuMs,
    objectRequests: sum("count", isRequest) + sum("count", isFrame) / FRAMES_A_REQUEST,
    objectGbSeconds: (activeMs / 1_000) * OBJECT_GB,
    rowsRead: sum("read"),
    rowsWritten: sum("written") + counts.alarmsSet,
    storedGb: counts.bytes / 1e9,
    // Not billed as such, but what the above comes from.
    activeMs,
    wakes: counts.kinds.wake?.count ?? 0,
    alarms: counts.kinds.alarm?.count ?? 0,
    frames: sum("count", isFrame),
  };
}

/** A month of such days: each line with its units, its price without what is included, and with it. */
export function bill(units) {
  const lines = Object.entries(PRICES).map(([key, { name, included, per, price }]) => {
    // What is stored stays; all else comes each day anew.
    const month = key === "storedGb" ? units[key] : units[key] * DAYS_A_MONTH;
    const list = (month / per) * price;
    const beyond = (Math.max(0, month - included) / per) * price;
    return { key, name, day: units[key], month, list, beyond };
  });
  const total = (field) => lines.reduce((sum, line) => sum + line[field], 0);
  return { lines, list: total("list"), beyond: total("beyond") };
}

/** Adds counts that belong to the same day, and takes so many times of them. */
export function combined(all, times = 1) {
  const out = { kinds: {} };
  for (const counts of all) {
    for (const [field, value] of Object.entries(counts)) {
      // What is stored is as much as there is in the end.
      if (field === "bytes") out.bytes = value * times;
      else if (field !== "kinds") out[field] = (out[field] ?? 0) + value * times;
    }
    for (const [name, sums] of Object.entries(counts.kinds)) {
      const into = (out.kinds[name] ??= { count: 0, ms: 0, read: 0, written: 0 });
      for (const [field, value] of Object.entries(sums)) into[field] += value * times;
    }
  }
  return out;
}
