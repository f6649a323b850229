// A generated part of a page, between marks.

/** Puts content between the marks of a name, `<!-- bench NAME -->` and `<!-- end NAME -->`. */
export function put(text, name, content) {
  const [begin, end] = [`<!-- bench ${name} -->`, `<!-- end ${name} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page has no place for ${name}`);
  return `${text.slice(0, from + begin.length)}\n${content}\n${text.slice(to)}`;
}
