// CPU profiles of an isolate in workerd, with the names of functions.
export { inspect } from "../tests/workerd/isolate.mjs";

/** Self and total time of each function in a profile, in µs, largest first. */
export function functions(profile) {
  const [nodes, own, parents] = [new Map(), new Map(), new Map()];
  for (const node of profile.nodes) {
    nodes.set(node.id, node);
    for (const child of node.children ?? []) parents.set(child, node.id);
  }
  profile.samples.forEach((id, at) => own.set(id, (own.get(id) ?? 0) + profile.timeDeltas[at]));
  const names = ({ callFrame }) => `${callFrame.functionName || "(anonymous)"} ${callFrame.url.split("/").at(-1)}`;
  const totals = new Map();
  const add = (name, field, us) => {
    const entry = totals.get(name) ?? { name, self: 0, total: 0 };
    entry[field] += us;
    totals.set(name, entry);
  };
  for (const [id, us] of own) {
    add(names(nodes.get(id)), "self", us);
    const seen = new Set();
    for (let at = id; at !== undefined; at = parents.get(at)) {
      const name = names(nodes.get(at));
      if (!seen.has(name)) add(name, "total", us);
      seen.add(name);
    }
  }
  return [...totals.values()].toSorted((a, b) => b.self - a.self);
}
