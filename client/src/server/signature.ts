// Who asks: signatures after Standard Webhooks (https://www.standardwebhooks.com).
import { misconfigured } from "../error.ts";
import { SIGNATURES, SIGNATURE_BYTES, TOLERANCE_SECONDS } from "./limits.ts";

/** The keys that secrets stand for. Each counts, so that one can take another's place. */
export function keysOf(secrets: readonly string[]): Promise<CryptoKey[]> {
  const use = { name: "HMAC", hash: "SHA-256" };
  return Promise.all(
    secrets.map((secret) => crypto.subtle.importKey("raw", bytesOfSecret(secret), use, false, ["verify"])),
  );
}

/** A text that begins with `whsec_` is base64 after that; any other is its UTF-8 bytes. */
function bytesOfSecret(secret: string): Uint8Array<ArrayBuffer> {
  const bytes = secret.startsWith("whsec_") ? unbase64(secret.slice(6)) : new TextEncoder().encode(secret);
  // Nothing of it is quoted.
  if (bytes === undefined) throw misconfigured("secret (HOOK_SECRET) begins with whsec_, and is no base64 after it");
  if (bytes.length === 0) throw misconfigured("secret (HOOK_SECRET) is empty");
  return bytes;
}

function unbase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/** What is signed, beside the body. */
export interface Signed {
  readonly id: string;
  /** Seconds since 1970, as it was written. */
  readonly timestamp: string;
  readonly signatures: readonly Uint8Array<ArrayBuffer>[];
}

/** Reads the headers; undefined where they are no signature at all. */
export function signedOf(headers: Headers): Signed | undefined {
  const id = headers.get("webhook-id");
  const timestamp = headers.get("webhook-timestamp");
  if (!id || !timestamp || !/^\d{1,12}$/.test(timestamp)) return undefined;
  const signatures: Uint8Array<ArrayBuffer>[] = [];
  for (const entry of (headers.get("webhook-signature") ?? "").split(" ")) {
    // Those of other versions may stand beside ours.
    const bytes = entry.startsWith("v1,") ? unbase64(entry.slice(3)) : undefined;
    if (bytes?.length === SIGNATURE_BYTES) signatures.push(bytes);
    if (signatures.length === SIGNATURES) break;
  }
  return signatures.length === 0 ? undefined : { id, timestamp, signatures };
}

/** Whether a signature's time is near enough. A question that was overheard is worth nothing later. */
export function isTimely({ timestamp }: Signed, now: number): boolean {
  return Math.abs(Math.floor(now / 1_000) - Number(timestamp)) <= TOLERANCE_SECONDS;
}

/** Whether one of the keys made one of the signatures. */
export async function isGenuine(
  keys: readonly CryptoKey[],
  { id, timestamp, signatures }: Signed,
  body: Uint8Array,
): Promise<boolean> {
  const head = new TextEncoder().encode(`${id}.${timestamp}.`);
  const content = new Uint8Array(head.length + body.length);
  content.set(head);
  content.set(body, head.length);
  for (const key of keys) {
    for (const signature of signatures) {
      // It compares in constant time, which a comparison of texts would not.
      if (await crypto.subtle.verify("HMAC", key, signature, content)) return true;
    }
  }
  return false;
}
