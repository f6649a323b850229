// Medians and spreads of rounds, and ratios of what was measured in the same round.

export const sorted = (values) => values.toSorted((a, b) => a - b);

export function median(values) {
  const list = sorted(values);
  const half = list.length >> 1;
  return list.length % 2 === 1 ? list[half] : (list[half - 1] + list[half]) / 2;
}

/** The median with the smallest and the largest value. */
export const summary = (values) => ({
  median: median(values),
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

/** Runs rounds of all peers in turn, each round beginning with another: the results by peer. */
export async function interleaved(peers, rounds, measure) {
  const results = new Map(peers.map((peer) => [peer.name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (let at = 0; at < peers.length; at += 1) {
      const peer = peers[(at + round) % peers.length];
      results.get(peer.name).push(await measure(peer, round));
    }
  }
  return Object.fromEntries(results);
}
