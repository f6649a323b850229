// How a bench keeps time, and how peers take turns.
import { setTimeout as delay } from "node:timers/promises";

/** Lets what follows an answer come to its end, a commit for example, before its CPU is read. */
export const settle = () => delay(30);

const byName = (peers) => Object.fromEntries(peers.map((peer) => [peer.name, []]));

/** Peers from number `at` on, and those before it. */
const from = (peers, at) => peers.map((_, next) => peers[(at + next) % peers.length]);

/**
 * Runs rounds of all peers, one peer's whole visit after the other's, each round beginning with another, the first
 * with number `first`.
 */
export async function interleaved(peers, rounds, visit, first = 0) {
  const results = byName(peers);
  for (let round = 0; round < rounds; round += 1)
    for (const peer of from(peers, first + round)) results[peer.name].push(await visit(peer, round));
  return results;
}

/**
 * Runs rounds in which peers take turns step by step, each step beginning with another, so that what drifts on a
 * shared machine falls on all alike: CPU of each peer's own process over a round, and what its turns returned.
 * `before` and `after` are done by each peer outside of what is measured.
 */
export async function inTurns(peers, rounds, steps, { before, turn, after }) {
  const results = byName(peers);
  for (let round = 0; round < rounds; round += 1) {
    for (const peer of peers) await before(peer);
    await settle();
    const began = peers.map((peer) => peer.cpu());
    const turns = byName(peers);
    for (let step = 0; step < steps; step += 1)
      for (const peer of from(peers, round + step)) turns[peer.name].push(await turn(peer));
    await settle();
    const used = peers.map((peer, at) => peer.cpu() - began[at]);
    for (const [at, peer] of peers.entries()) {
      await after(peer);
      results[peer.name].push({ cpuUs: used[at], turns: turns[peer.name] });
    }
  }
  return results;
}
