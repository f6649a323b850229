// Plots as SVG. Grey axes and mid-tone lines read on light and on dark paper alike.

const COLOURS = ["#8a8f98", "#2f81f7", "#d29922", "#a371f7", "#3fb950"];
const INK = "#7d8590";
const [WIDTH, HEIGHT] = [640, 320];
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 150, 36, 48];

const escaped = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);
function text(x, y, content, { anchor = "middle", size = 12, fill = INK, more = "" } = {}) {
  const style = `text-anchor="${anchor}" font-size="${size}" fill="${fill}" ${more}`;
  return `<text x="${x}" y="${y}" ${style}>${escaped(content)}</text>`;
}

/** A round step that divides 0…max into about five parts. */
function stepOf(max) {
  const rough = max / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

const label = (value) => Number(value.toPrecision(6)).toLocaleString("en-US");

/**
 * Lines with the spread of each point as a band: `series` are `{name, points: [{x, median, min, max}]}`. Both
 * axes begin at 0, so that nothing looks steeper than it is.
 */
export function lines({ title, x, y, series }) {
  const points = series.flatMap((one) => one.points);
  const [mostX, mostY] = [Math.max(...points.map((point) => point.x)), Math.max(...points.map((point) => point.max))];
  const [stepX, stepY] = [stepOf(mostX), stepOf(mostY)];
  const topY = Math.ceil(mostY / stepY) * stepY;
  const atX = (value) => LEFT + (value / mostX) * (WIDTH - LEFT - RIGHT);
  const atY = (value) => HEIGHT - BOTTOM - (value / topY) * (HEIGHT - TOP - BOTTOM);
  const at = (point, field) => `${atX(point.x).toFixed(1)},${atY(point[field]).toFixed(1)}`;
  const parts = [text(LEFT, 20, title, { anchor: "start", size: 14 })];
  for (let value = 0; value <= topY + stepY / 2; value += stepY) {
    parts.push(`<path d="M${LEFT} ${atY(value).toFixed(1)}H${WIDTH - RIGHT}" stroke="${INK}" stroke-opacity="0.25"/>`);
    parts.push(text(LEFT - 8, atY(value) + 4, label(value), { anchor: "end" }));
  }
  for (let value = 0; value <= mostX + stepX / 1e6; value += stepX)
    parts.push(text(atX(value).toFixed(1), HEIGHT - BOTTOM + 18, label(value)));
  parts.push(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x));
  parts.push(
    text(16, (TOP + HEIGHT - BOTTOM) / 2, y, { more: `transform="rotate(-90 16 ${(TOP + HEIGHT - BOTTOM) / 2})"` }),
  );
  // Names beside the ends of their lines, moved apart where these meet.
  const ends = series
    .map(({ points }, number) => ({ number, y: atY(points.at(-1).median) }))
    .toSorted((a, b) => a.y - b.y);
  ends.forEach((end, place) => (end.y = Math.max(end.y, (ends[place - 1]?.y ?? 0) + 16)));
  series.forEach(({ name, points }, number) => {
    const colour = COLOURS[number % COLOURS.length];
    const band = [...points.map((point) => at(point, "max")), ...points.toReversed().map((point) => at(point, "min"))];
    parts.push(`<polygon points="${band.join(" ")}" fill="${colour}" fill-opacity="0.15"/>`);
    const medians = points.map((point) => at(point, "median")).join(" ");
    parts.push(`<polyline points="${medians}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const point of points)
      parts.push(
        `<circle cx="${atX(point.x).toFixed(1)}" cy="${atY(point.median).toFixed(1)}" r="3" fill="${colour}"/>`,
      );
    const end = ends.find((one) => one.number === number);
    parts.push(text(WIDTH - RIGHT + 10, end.y + 4, name, { anchor: "start", fill: colour }));
  });
  return svg(parts);
}

/** Bars with their spread, one a name: `bars` are `{name, median, min, max}`. */
export function bars({ title, x, bars }) {
  const most = Math.max(...bars.map((bar) => bar.max));
  const step = stepOf(most);
  const top = Math.ceil(most / step) * step;
  const left = 190;
  const height = TOP + bars.length * 30 + BOTTOM;
  const at = (value) => left + (value / top) * (WIDTH - left - 40);
  const parts = [text(16, 20, title, { anchor: "start", size: 14 })];
  for (let value = 0; value <= top + step / 2; value += step) {
    parts.push(`<path d="M${at(value).toFixed(1)} ${TOP}V${height - BOTTOM}" stroke="${INK}" stroke-opacity="0.25"/>`);
    parts.push(text(at(value).toFixed(1), height - BOTTOM + 18, label(value)));
  }
  bars.forEach(({ name, median, min, max }, number) => {
    const [y, colour] = [TOP + number * 30 + 5, COLOURS[number % COLOURS.length]];
    parts.push(text(left - 10, y + 14, name, { anchor: "end" }));
    parts.push(`<rect x="${left}" y="${y}" width="${(at(median) - left).toFixed(1)}" height="20" fill="${colour}"/>`);
    parts.push(`<path d="M${at(min).toFixed(1)} ${y + 10}H${at(max).toFixed(1)}" stroke="${INK}" stroke-width="2"/>`);
  });
  parts.push(text((left + WIDTH) / 2, height - 10, x));
  return svg(parts, height);
}

function svg(parts, height = HEIGHT) {
  const size = `viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"`;
  const head = `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="system-ui, sans-serif">`;
  return `${head}\n${parts.join("\n")}\n</svg>\n`;
}
