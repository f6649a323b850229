// The workerd processes that this one has started, and what the operating system says of them.
import { readFileSync, readdirSync } from "node:fs";

/** Whether the operating system tells of processes in /proc; where it does not, nothing here works. */
export const hasProc = process.platform === "linux";

/** A tick of the CPU accounting in /proc/PID/stat, in milliseconds. */
const TICK_MS = 10;

/** The fields after the name, or undefined where the process has ended or is no workerd. */
function statOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const end = stat.lastIndexOf(")");
    return stat.slice(stat.indexOf("(") + 1, end) === "workerd" ? stat.slice(end + 2).split(" ") : undefined;
  } catch {
    return undefined;
  }
}

/** The ids of all that run. */
export function workerds() {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => Number(statOf(pid)?.[1]) === process.pid).map(Number);
}

/** Bytes of memory that a process holds. */
export const rssOf = (pid) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1_024;

/** Milliseconds of CPU that a process has used, to a tick. */
export function cpuMsOf(pid) {
  const [user, system] = statOf(pid).slice(11, 13);
  return (Number(user) + Number(system)) * TICK_MS;
}

/** The one that runs; `not` are those that ran before. */
export function workerd(not = []) {
  const pids = workerds().filter((pid) => !not.includes(pid));
  if (pids.length !== 1) throw new Error(`${pids.length} workerd processes of this one, not one`);
  return pids[0];
}
