// A day of a collaborative app: what its users and its backend do, and when.
//
// Times are milliseconds since midnight, in order. The same `seed` makes the same day.
import { chance } from "../../chance.ts";

/** What a day is made of. */
export const DAY = {
  seed: 20261126,
  users: 1_000,
  /** Users of a team see one list of rows. */
  teamSize: 10,
  /** Of a team, when the day begins. */
  rows: 200,
  /** Bytes of text in a row, beside its other fields. */
  text: 120,
  sessions: 3,
  sessionMinutes: [20, 40],
  /** How many of the sessions begin in each hour of the day, relative to each other. At night nobody comes. */
  hours: [0, 0, 0, 0, 0, 0, 0, 2, 6, 10, 9, 8, 4, 7, 10, 9, 8, 6, 4, 3, 3, 2, 1, 0],
  /** By one user in the day. */
  mutations: 30,
  /** Of a session: where one is in the list, beside coming. */
  presences: 3,
  /** What a change does. As many rows come as go. */
  actions: { update: 0.7, create: 0.15, delete: 0.15 },
  /** By the backend, at the hours of the users. */
  publishes: 4_000,
  batches: 20,
  batchSize: 50,
  /** A client says that it is there. */
  heartbeatSeconds: 25,
  /** Tokens are short; clients renew them a minute before their end. */
  tokenMinutes: 15,
  renewSecondsBefore: 60,
  /** Users in a hundred whose network lets no WebSocket through: half get a stream of events, half long polls. */
  streamPercent: 1.5,
  pollPercent: 1.5,
};

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
export const MIDNIGHT = 24 * HOUR;

/** Who there is: each with a team and a way to connect. */
export function usersOf(day) {
  const streams = Math.round((day.users * day.streamPercent) / 100);
  const polls = Math.round((day.users * day.pollPercent) / 100);
  return Array.from({ length: day.users }, (_, i) => ({
    name: `user-${i}`,
    // Neighbours are in different teams, so that those without a WebSocket are.
    team: i % Math.ceil(day.users / day.teamSize),
    way: i < streams ? "stream" : i < streams + polls ? "poll" : "socket",
  }));
}

/** The keys of a team's rows when the day begins. */
export const keysOf = (day) => Array.from({ length: day.rows }, (_, i) => `row-${i}`);

/**
 * What happens, in order: `{at, kind, user | team, session?, changes?}`. `kind` is `come`, `leave`,
 * `mutate`, `presence`, `renew`, `publish` or `batch`. What follows from these (alarms, polls, pings) is
 * for those who play the day.
 */
export function timeline(day) {
  const random = chance(day.seed);
  const between = (low, high) => low + random() * (high - low);
  const weight = day.hours.reduce((sum, hour) => sum + hour, 0);
  const moment = () => {
    let rest = random() * weight;
    const hour = day.hours.findIndex((share) => (rest -= share) < 0);
    return (hour + random()) * HOUR;
  };
  const events = [];
  const users = usersOf(day);
  for (const [index, user] of users.entries()) {
    const sessions = [];
    while (sessions.length < day.sessions) {
      const length = between(...day.sessionMinutes) * MINUTE;
      const begin = Math.min(moment(), MIDNIGHT - length - MINUTE);
      const apart = ([from, to]) => begin + length + MINUTE < from || to + MINUTE < begin;
      if (sessions.every(apart)) sessions.push([begin, begin + length]);
    }
    sessions.sort(([a], [b]) => a - b);
    const pick = () => Math.floor(random() * sessions.length);
    const edits = sessions.map(() => 0);
    for (let i = 0; i < day.mutations; i += 1) edits[pick()] += 1;
    for (const [number, [begin, end]] of sessions.entries()) {
      const session = { user: index, number, begin, end };
      const during = () => between(begin + 1_000, end - 1_000);
      const add = (at, kind) => events.push({ at, kind, user: index, team: user.team, session });
      add(begin, "come");
      for (let i = 0; i < edits[number]; i += 1) add(during(), "mutate");
      for (let i = 0; i < day.presences; i += 1) add(during(), "presence");
      const renewal = day.tokenMinutes * MINUTE - day.renewSecondsBefore * 1_000;
      for (let at = begin + renewal; at < end; at += renewal) add(at, "renew");
      add(end, "leave");
    }
  }
  const teams = Math.ceil(day.users / day.teamSize);
  const backend = (kind) => events.push({ at: moment(), kind, team: Math.floor(random() * teams) });
  for (let i = 0; i < day.publishes; i += 1) backend("publish");
  for (let i = 0; i < day.batches; i += 1) backend("batch");
  for (const event of events) event.at = Math.round(event.at);
  events.sort((a, b) => a.at - b.at);

  // What the changes are is decided in their order, so that each finds the rows that there are.
  const lists = Array.from({ length: teams }, () => keysOf(day));
  let made = 0;
  const change = (team) => {
    const keys = lists[team];
    let rest = random();
    const names = Object.keys(day.actions);
    let action = names.find((name) => (rest -= day.actions[name]) < 0) ?? names[0];
    if (keys.length === 0) action = "create";
    const at = Math.floor(random() * keys.length);
    const key = action === "create" ? `new-${(made += 1)}` : keys[at];
    if (action === "create") keys.push(key);
    if (action === "delete") keys.splice(at, 1);
    return { action, key, ...(action === "delete" ? {} : { data: rowOf(day, key, made) }) };
  };
  for (const event of events) {
    if (event.kind === "mutate" || event.kind === "publish") event.changes = [change(event.team)];
    if (event.kind === "batch") event.changes = Array.from({ length: day.batchSize }, () => change(event.team));
  }
  return events;
}

/** A row as the app has it. */
export const rowOf = (day, key, number) => ({
  id: key,
  title: `Task ${number}`,
  done: number % 2 === 0,
  text: "x".repeat(day.text),
});
