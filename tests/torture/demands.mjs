// What a game demands at its end, whatever else it does: that it came across enough, and was answered.
import assert from "node:assert/strict";

/**
 * Requests that had no answer in their time and were made anew, in one run at most. Why there are any is not known
 * (docs/reliability.md, Evictions): at most one was seen in ten minutes.
 */
const GIVEN_UP = 2;

export function demandAnswers({ givenUp }) {
  assert.ok(givenUp.length <= GIVEN_UP, `${givenUp.length} requests were given up, ${GIVEN_UP} at most: ${givenUp.join(", ")}`);
}

/** Everything came across often enough; `least` says how often. */
export function demandCounts(counts, least) {
  for (const [name, bound] of Object.entries(least)) {
    assert.ok(counts[name] >= bound, `${counts[name]} ${name}, at least ${bound}: ${JSON.stringify(counts)}`);
  }
}
