// Medians and spreads of rounds, and ratios of what was measured in the same round.

const sorted = (values) => values.toSorted((a, b) => a - b);

/** The value below which a share of the values lies, between two of them in proportion. */
function quantile(values, share) {
  const list = sorted(values);
  const place = share * (list.length - 1);
  const [low, high] = [list[Math.floor(place)], list[Math.ceil(place)]];
  return low + (high - low) * (place - Math.floor(place));
}

export const median = (values) => quantile(values, 0.5);

/** The median, the quartiles, between which half of the rounds lie, and the smallest and the largest value. */
export const summary = (values) => ({
  median: median(values),
  quartiles: [quantile(values, 0.25), quantile(values, 0.75)],
  min: Math.min(...values),
  max: Math.max(...values),
  rounds: values.length,
});

/** Of two series of the same rounds: the ratio in each round, summed up. */
export const ratio = (values, to) => summary(values.map((value, round) => value / to[round]));

/** Adds the rounds of another start, by peer: processes have other places in memory then, which alone is some percent. */
export function addRounds(all, more) {
  for (const [peer, rounds] of Object.entries(more)) all[peer].push(...rounds);
}
