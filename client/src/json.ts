// Values of JSON: whether two are the same, and a copy that nobody else can change.

type Fields = { readonly [name: string]: unknown };

/** Whether two values of JSON say the same, in whatever order their fields are. */
export function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && isSame((a as Fields)[name], (b as Fields)[name]));
}

/** A copy as it travels: what JSON does not know is gone. */
export function copy<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}
