// Numbers and tables as the documentation has them.
import { ratio, summary } from "./stats.mjs";

const digits = (value) => (value >= 100 ? 0 : value >= 10 ? 1 : 2);
export const number = (value) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits(value), maximumFractionDigits: digits(value) });

/** A median with its spread. */
export const spread = ({ median, min, max }, unit = "") => `${number(median)}${unit} (${number(min)}–${number(max)})`;

/** Between what half of the rounds lie. */
export const halves = ({ quartiles: [low, high] }) => `${number(low)}–${number(high)}`;

/** A field of some rounds, summed up. */
export const of = (rounds, field) => summary(rounds.map((round) => round[field]));

/** The ratio of a field, round by round. */
export const ratioOf = (rounds, to, field) =>
  ratio(
    rounds.map((round) => round[field]),
    to.map((round) => round[field]),
  );

export const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

/** One line about a floor: what was measured, what it must be. `least` is for what must not be less. */
export function floor(what, measured, bound, { least = false } = {}) {
  const met = least ? measured.median >= bound : measured.median <= bound;
  return { what, measured, bound: `${least ? "≥" : "≤"} ${bound} ×`, met };
}
