// Changes as JSON, and lists of them cut into bodies that a request may have.
import { TidewireError, invalid } from "../error.ts";
import type { Action, Audience } from "./schema.ts";

/** A request's body has at most 8 MiB. */
export const BODY_BYTES = 8 * 1024 * 1024;

/** A batch has at most 1,000 changes. */
export const BATCH_CHANGES = 1_000;

/** A change before it is written. Its types are checked where it was published. */
export interface Unwritten {
  readonly channel: string;
  readonly action: Action;
  readonly key?: string | undefined;
  readonly data?: unknown;
  readonly to?: Audience | undefined;
}

/** How many bytes a text takes in UTF-8. */
export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).byteLength;
}

/** A change as JSON. A delete has no data, whatever it was given. */
export function written({ channel, action, key, data, to }: Unwritten): string {
  const row = action === "delete" ? undefined : dataOf(data);
  const parts = { channel, action, key, to };
  const envelope = JSON.stringify(parts);
  return row === undefined ? envelope : `${envelope.slice(0, -1)},"data":${row}}`;
}

function dataOf(data: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(data) as string | undefined;
  } catch {
    // Why not may tell what is in it.
    throw invalid("data", "cannot be written as JSON");
  }
  if (!json?.startsWith("{")) throw invalid("data", "must be an object");
  return json;
}

/** Some changes that go together, all or nothing. */
export interface Part<T> {
  readonly body: string;
  readonly items: readonly T[];
}

/** What a body is beside its changes. */
export const ENVELOPE = '{"events":[]}';

/** The body of a batch. */
export function batchOf(changes: readonly string[]): string {
  return `{"events":[${changes.join(",")}]}`;
}

/** Refuses a change that no request can hold. */
export function checkSize(json: string, bytes = bytesOf(json)): void {
  if (ENVELOPE.length + bytes <= BODY_BYTES) return;
  throw new TidewireError("frame_too_large", "a change alone exceeds 8 MiB: make the row smaller");
}

/** Cuts a list in order, at 1,000 changes and 8 MiB. */
export function split<T extends { readonly json: string }>(items: readonly T[]): Part<T>[] {
  const parts: T[][] = [];
  let part: T[] = [];
  let size = ENVELOPE.length;
  for (const item of items) {
    const bytes = bytesOf(item.json);
    checkSize(item.json, bytes);
    if (part.length === 0 || part.length === BATCH_CHANGES || size + bytes + 1 > BODY_BYTES) {
      parts.push((part = []));
      size = ENVELOPE.length;
    } else {
      size += 1;
    }
    size += bytes;
    part.push(item);
  }
  return parts.map((items) => ({ body: batchOf(items.map(({ json }) => json)), items }));
}

/** A name of 64 characters for some texts, the same for the same ones. */
export async function digest(...texts: readonly string[]): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(texts));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
