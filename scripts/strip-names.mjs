// Takes the names of functions out of a wasm file: a tenth of what is deployed, of use only in the
// stack trace of a panic, whose message tells file and line anyway.
//   node scripts/strip-names.mjs sync-worker/build/index_bg.wasm
import { readFileSync, writeFileSync } from "node:fs";

const path = process.argv[2];
const wasm = readFileSync(path);
const CUSTOM = 0;

/** An unsigned LEB128 number, and where it ends. */
function number(at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = wasm[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}

const kept = [wasm.subarray(0, 8)];
for (let at = 8; at < wasm.length; ) {
  const [size, body] = number(at + 1);
  const [length, name] = number(body);
  const isNames = wasm[at] === CUSTOM && wasm.toString("utf8", name, name + length) === "name";
  if (!isNames) kept.push(wasm.subarray(at, body + size));
  at = body + size;
}
writeFileSync(path, Buffer.concat(kept));
