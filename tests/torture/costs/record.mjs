// Plays the day in all ways and keeps what was counted.
import { cpuMsOf, workerd } from "../../workerd/process.mjs";
import { DAY, MIDNIGHT, timeline } from "./day.mjs";
import { Naive } from "./naive.mjs";
import { combined } from "./prices.mjs";
import { open } from "./stage.mjs";
import { Tidewire } from "./tidewire.mjs";

/** The objects' midnight. Any will do, as long as it stays. */
export const BEGAN = Date.UTC(2027, 0, 4);

/** What a day's deletes leave is trimmed within this time. */
const AFTER_DAYS = 9;

/**
 * All teams in one space, or a space for each. Spaces do not know of each other: of many like these every
 * `each`th is played, and counted so many times.
 */
export const SHAPES = {
  one: { each: 1 },
  teams: { each: 5 },
};

/** Plays a day on one of both: what a day costs. `end` adds what is left to do in the days after. */
export async function playDay(stage, Kind, day, spaces, each = 1) {
  const pid = workerd();
  const player = new Kind(stage, day, spaces, BEGAN);
  const plays = (team) => team % each === 0;
  await player.prepare(-MIDNIGHT / 24, plays);
  await player.count();
  const before = cpuMsOf(pid);
  await player.play(timeline(day).filter(({ team }) => plays(team)), MIDNIGHT);
  const counts = { ...(await player.count()), cpuMs: cpuMsOf(pid) - before };
  await player.play([], AFTER_DAYS * MIDNIGHT);
  // The time that passes in between belongs to no day.
  const { bytes, ...rest } = await player.count();
  const after = { ...rest, cpuMs: 0, bytes: counts.bytes };
  return { counts: combined([counts], each), after: combined([after], each) };
}

/** Plays one day in a workerd of its own, so that nothing is left of another. */
export async function recordDay(Kind, spaces, day = DAY) {
  const stage = await open();
  try {
    const played = await playDay(stage, Kind, day, spaces, SHAPES[spaces].each);
    if (stage.deployment.logs.length > 0) throw new Error(stage.deployment.logs.slice(0, 5).join("\n"));
    return played;
  } finally {
    await stage.deployment.stop();
  }
}

/** Plays everything; `tell` hears of each day. */
export async function record({ tell = () => {} } = {}) {
  const shapes = {};
  for (const spaces of Object.keys(SHAPES)) {
    shapes[spaces] = {};
    for (const [name, Kind] of Object.entries({ tidewire: Tidewire, naive: Naive })) {
      const began = performance.now();
      shapes[spaces][name] = await recordDay(Kind, spaces);
      tell(spaces, name, Math.round((performance.now() - began) / 1_000));
    }
  }
  return shapes;
}
