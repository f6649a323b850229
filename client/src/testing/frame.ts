// Reading what a client says: the messages of a frame, or why it is none.
import { bytesOf } from "../wire.ts";

export interface Said {
  readonly type: string;
  readonly id?: string;
  readonly channel?: string;
  readonly [field: string]: unknown;
}

/** What the server holds its clients to, as a welcome names it. */
export const limits = {
  frameBytes: 262_144,
  frameMessages: 1_000,
  channelBytes: 256,
  keyBytes: 256,
  idBytes: 128,
  rowBytes: 262_144,
  pageRows: 1_000,
  subscriptionsBytes: 8_192,
  stateBytes: 1_024,
  presenceBytes: 2_048,
  presences: 16,
  signalBytes: 16_384,
  messagesPerSecond: 200,
};

/** A page has fewer bytes, and looks at so many rows, whether its reader may see them or not. */
export const pages = { bytes: 900_000, reads: 10_000 };

/** How deep JSON may nest. */
const DEPTH = 64;
/** The name of a signal has so many bytes at most. */
const EVENT_BYTES = 128;

export class Malformed extends Error {
  /** The message that it is about, where one can be told. */
  readonly said: Said | undefined;
  constructor(message: string, said?: Said) {
    super(message);
    this.said = said;
  }
}

/** The messages of a frame, each perhaps malformed; or throws for all of it. */
export function messagesOf(text: string, isGreeted: boolean): (Said | Malformed)[] {
  const frame = parse(text);
  if (!Array.isArray(frame)) return [messageOf(frame)];
  if (!isGreeted) throw new Malformed("a frame is one JSON object before hello");
  if (frame.length === 0) throw new Malformed("an array must hold a message");
  if (frame.length > limits.frameMessages) throw new Malformed("an array holds at most 1000 messages");
  return frame.map(messageOf);
}

function parse(text: string): unknown {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    throw new Malformed("a frame is one JSON object, or an array of objects");
  }
  if (typeof frame !== "object" || frame === null) throw new Malformed("a frame is one JSON object, or an array of objects");
  if (depthOf(frame) > DEPTH) throw new Malformed("JSON nests at most 64 deep");
  return frame;
}

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

function messageOf(value: unknown): Said | Malformed {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return new Malformed("a message is a JSON object");
  // Null counts as absent, but a state of null is one.
  const fields = Object.entries(value).filter(([name, field]) => field !== null || name === "state");
  const said = Object.fromEntries(fields) as Said;
  const why = faultIn(said);
  return why === undefined ? said : new Malformed(why, said);
}

function isText(value: unknown, bytes: number): boolean {
  return typeof value === "string" && value !== "" && bytesOf(value) <= bytes && !/[\u0000-\u001f\u007f]/.test(value);
}

/** Why a message is malformed, by what its type needs. */
function faultIn(said: Said): string | undefined {
  const { type, id, channel, action, token, event } = said;
  if (typeof type !== "string") return "a message needs a type";
  if (id !== undefined && !isText(id, limits.idBytes)) return "id must be a text of 1 to 128 bytes";
  if (type === "mutate" && id === undefined) return "id is missing";
  const isOfChannel = ["subscribe", "unsubscribe", "mutate", "presence", "signal"].includes(type);
  if (isOfChannel && !isText(channel, limits.channelBytes)) return "channel is missing, or no name";
  if (type === "mutate" && !["create", "update", "delete"].includes(String(action))) return "action must be create, update or delete";
  if (type === "auth" && typeof token !== "string") return "token is missing";
  if (type === "signal" && !isText(event, EVENT_BYTES)) return "event must be a text of 1 to 128 bytes";
  return undefined;
}
