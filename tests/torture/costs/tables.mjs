// The tables of docs/costs.md, made of what was counted.
import { PRICES, bill, combined, unitsOf } from "./prices.mjs";

const number = (value, digits = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const dollars = (value) => `$${number(value, 2)}`;
/** Small amounts are not nothing. */
const amount = (value) => number(value, value === 0 || value >= 100 ? 0 : value >= 1 ? 1 : 3);

function table(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map((_, i) => (i === 0 ? "---" : "---:")).join("|")}|`, ...rows.map(line)].join("\n");
}

/** The units of a whole day, with what it leaves to be done later. */
const whole = ({ counts, after }) => unitsOf(combined([counts, after]));

/** The same, if nothing were open over HTTP. */
const closed = ({ counts, after }) => whole({ counts: { ...counts, heldMs: 0 }, after });

/** What is billed, for both. */
function billed({ tidewire, naive }) {
  const [ours, theirs] = [bill(whole(tidewire)), bill(whole(naive))];
  const rows = ours.lines.map((line, i) => {
    const other = theirs.lines[i];
    const days = [amount(line.day), amount(other.day)];
    return [line.name, ...days, dollars(line.list), dollars(other.list), number(PRICES[line.key].included)];
  });
  const sum = (name, field) => [name, "", "", ...[ours, theirs].map((all) => `**${dollars(all[field])}**`), ""];
  rows.push(sum("**sum**", "list"), sum("**beyond what is included**", "beyond"));
  const sockets = bill(closed(tidewire));
  rows.push(["sum, were nothing open over HTTP", "", "", dollars(sockets.list), "", ""]);
  const heads = ["Tidewire, a day", "naive, a day", "Tidewire, a month", "naive, a month", "included a month"];
  return table(["", ...heads], rows);
}

/** Where the units come from. */
function behind({ tidewire, naive }) {
  const row = (name, of) => [name, of(tidewire), of(naive)];
  const counted = (field) => (side) => number(side.counts[field]);
  const unit = (field) => (side) => number(whole(side)[field]);
  const seconds = (ms) => number(ms / 1_000);
  return table(["a day", "Tidewire", "naive"], [
    row("frames of clients that reach the object", unit("frames")),
    row("heartbeats that the runtime answers by itself", (side) => (side === naive ? "0" : number(side.counts.beats))),
    row("frames and pages to clients", counted("delivered")),
    row("times that objects are put to sleep and wake", (side) => number(side.counts.sleeps + side.after.sleeps)),
    row("alarms", unit("alarms")),
    row("seconds in handlers", (side) => seconds(whole(side).activeMs - side.counts.heldMs)),
    row("seconds held awake by what is open", (side) => seconds(side.counts.heldMs)),
  ]);
}

/** What one event costs in Tidewire. */
function events({ tidewire: { counts, after } }) {
  const { kinds } = combined([counts, after]);
  const each = (sum, count) => (count === 0 ? "–" : amount(sum / count));
  const rows = NAMES.map(([kind, name]) => {
    const { count, ms, read, written } = kinds[kind];
    return [name, number(count), each(written, count), each(read, count), each(ms, count)];
  });
  return table(["event", "a day", "rows written", "rows read", "ms"], rows);
}

const NAMES = [
  ["connect", "connecting"],
  ["frame hello", "`hello`, with what was missed"],
  ["frame mutate", "`mutate`"],
  ["frame presence", "`presence`"],
  ["frame auth", "`auth`: a new token"],
  ["close", "a socket's end"],
  ["broadcast", "a publish"],
  ["broadcast-batch", "a batch of 50"],
  ["read", "a page, or the beginning of a stream"],
  ["write", "mutating over HTTP"],
  ["timer", "a ping of what is open, or the end of a wait"],
  ["alarm", "the alarm"],
  ["wake", "waking, before any of these"],
];

/** All tables by name, as they stand between the marks of the page. */
export function tablesOf({ shapes }) {
  return {
    prices: table(
      ["unit", "price", "included a month"],
      Object.values(PRICES).map(({ name, included, per, price }) => [
        name,
        `$${price < 0.01 ? price : price.toFixed(2)} a ${per === 1 ? "GB and month" : "million"}`,
        number(included),
      ]),
    ),
    "one billed": billed(shapes.one),
    "one behind": behind(shapes.one),
    "teams billed": billed(shapes.teams),
    "teams behind": behind(shapes.teams),
    events: events(shapes.teams),
  };
}

const mark = (name) => `<!-- ${name} -->`;
const END = "<!-- end -->";

/** The page with its tables made anew. Each must have its place. */
export function written(page, recorded) {
  for (const [name, text] of Object.entries(tablesOf(recorded))) {
    const begin = page.indexOf(mark(name));
    const end = page.indexOf(END, begin);
    if (begin < 0 || end < 0) throw new Error(`the page has no place for the table "${name}"`);
    page = `${page.slice(0, begin)}${mark(name)}\n${text}\n${page.slice(end)}`;
  }
  return page;
}

/** What is printed. */
export const printed = (recorded) =>
  Object.entries(tablesOf(recorded))
    .map(([name, text]) => `${name}\n\n${text}\n`)
    .join("\n");
