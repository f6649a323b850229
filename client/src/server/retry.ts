// Trying again: only what may succeed later, in bounded number and time, with full jitter.
import { TidewireError, misconfigured } from "../error.ts";

/** How often, and for how long, a call is made. */
export interface Retry {
  /** Attempts, the first one counted: 1–10, by default 4. */
  readonly attempts?: number | undefined;
  /** All attempts and pauses together, in milliseconds: 1–120,000, by default 30,000. */
  readonly timeoutMs?: number | undefined;
}

const ATTEMPTS = { usual: 4, most: 10 };
const TIMEOUT_MS = { usual: 30_000, most: 120_000 };

/** A call that hangs is given up, so that there is time for another. */
const ATTEMPT_MS = 10_000;

/** The longest pause after the first attempt; it doubles with each further one. */
const PAUSE_MS = 200;

/** The longest pause of all, unless the server asks for more. */
const LONGEST_PAUSE_MS = 5_000;

/** What is not pure. */
export interface Clock {
  now(): number;
  random(): number;
  sleep(ms: number): Promise<void>;
}

const clock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};

function bounded(name: string, value: number | undefined, bounds: { usual: number; most: number }) {
  const number = value ?? bounds.usual;
  if (Number.isInteger(number) && number >= 1 && number <= bounds.most) return number;
  throw misconfigured(`retry.${name} must be an integer of 1 to ${bounds.most}`);
}

/** How often a call is made at most. */
export function attemptsOf(retry: Retry): number {
  return bounded("attempts", retry.attempts, ATTEMPTS);
}

/** How long all attempts take at most, in milliseconds. */
export function timeoutOf(retry: Retry): number {
  return bounded("timeoutMs", retry.timeoutMs, TIMEOUT_MS);
}

/**
 * Makes a call until it succeeds, fails for good, or attempts or time are used up; then the last
 * error is thrown. `attempt` gets the milliseconds that it may take. A pause that would outlast the
 * time is not begun: the caller gets the error, with its `retryAfterMs`, at once.
 */
export async function retrying<T>(
  retry: Retry,
  attempt: (ms: number) => Promise<T>,
  { now, random, sleep }: Clock = clock,
): Promise<T> {
  const attempts = attemptsOf(retry);
  const end = now() + timeoutOf(retry);
  for (let made = 1; ; made += 1) {
    try {
      return await attempt(Math.min(ATTEMPT_MS, end - now()));
    } catch (error) {
      if (!(error instanceof TidewireError && error.retryable) || made >= attempts) throw error;
      const jitter = random() * Math.min(LONGEST_PAUSE_MS, PAUSE_MS * 2 ** (made - 1));
      const pause = (error.retryAfterMs ?? 0) + jitter;
      if (now() + pause >= end) throw error;
      await sleep(pause);
    }
  }
}
