// How a bench keeps time.
import { setTimeout as delay } from "node:timers/promises";

/** Lets what follows an answer come to its end, a commit for example, before its CPU is read. */
export const settle = () => delay(30);
