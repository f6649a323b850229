// Notes that the server cannot read: it sees who owns them, and a text that says nothing to it.
import { encrypted, type Channel, type Sync } from "tidewire";
import type { Note, Rows } from "./rows.ts";

const utf8 = new TextEncoder();
const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
const bytes = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

export function secretNotes(sync: Sync<Rows>, key: CryptoKey): Channel<Note> {
  return sync.channel<Note>(
    "notes",
    encrypted<Note>({
      async encrypt({ id, ownerId, ...hidden }) {
        const iv = crypto.getRandomValues(new Uint8Array(12));
        const data = utf8.encode(JSON.stringify(hidden));
        const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: utf8.encode(id) }, key, data);
        return { id, ownerId, ct: `${base64(iv)}.${base64(new Uint8Array(sealed))}` };
      },
      async decrypt({ id, ownerId, ct = "" }) {
        const [iv = "", sealed = ""] = ct.split(".");
        const way = { name: "AES-GCM", iv: bytes(iv), additionalData: utf8.encode(id) };
        const data = await crypto.subtle.decrypt(way, key, bytes(sealed));
        return { id, ownerId: String(ownerId), ...(JSON.parse(new TextDecoder().decode(data)) as { text: string }) };
      },
    }),
  );
}
