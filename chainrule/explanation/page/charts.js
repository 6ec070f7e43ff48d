// Small charts over the tokens of a stretch: lines, stacked shares, bars over distance, strips of many rows.
import { greatest, h, isNumber, read, rounded } from "./tree.js";

const HEIGHT = 150, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22;
const PLUS = [200, 74, 5], MINUS = [27, 118, 172];

const between = (low, high, k, n) => low + (high - low) * k / n;
const path = points => points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
export const swatch = style => h("svg", { class: `swatch s${style}`, viewBox: "0 0 30 12", "aria-hidden": "true" }, h("path", { class: "line", d: "M0 6H30" }));
export const names = list => h("p", { class: "names" }, list.map((name, k) => h("span", {}, swatch(k % 10), ` ${name}`)));

function frame(width, [low, high], marks, label, inside, log = false) {
  const y = v => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (v - low) / (high - low || 1));
  const ticks = log ? [low, (low + high) / 2, high] : [low, high, ...([low, high].every(v => Math.abs(y(v) - y(0)) > 12) && low < 0 && high > 0 ? [0] : [])];
  return h("div", { class: "plot" }, h("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label },
    ticks.map(v => [h("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }), h("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, read(log ? 10 ** v : v, rounded))]),
    marks.map(([x, text]) => h("text", { x, y: HEIGHT - 6, "text-anchor": "middle" }, text)), inside(y)));
}
function along(width, many, begin) {                       // places of tokens on the horizontal axis, and some of their numbers
  const x = k => between(LEFT, width - RIGHT, k + .5, many), step = Math.max(1, Math.ceil(many / (width / 70)));
  const marks = [];
  for (let k = 0; k < many; k += step) marks.push([x(k), begin + k]);
  return [x, marks];
}
const clicked = (width, many, begin, choose) => ({ click: event => {
  const edge = event.currentTarget.getBoundingClientRect(), share = ((event.clientX - edge.left) / edge.width * width - LEFT) / (width - LEFT - RIGHT);
  if (share >= 0 && share < 1) choose(begin + Math.floor(share * many));
} });

// series: lists of numbers, one for each token from begin on.
export function lines({ series, begin, at, width, label, choose }) {
  const all = series.flat().filter(isNumber), many = series[0].length, [x, marks] = along(width, many, begin);
  const low = Math.min(0, ...range(all)), high = Math.max(...range(all));
  const drawn = frame(width, [low, high], marks, label, y => [
    at >= begin && at < begin + many && h("line", { class: "cross", x1: x(at - begin), x2: x(at - begin), y1: TOP, y2: HEIGHT - BOTTOM }),
    series.map((one, s) => h("g", { class: `s${s % 10}` }, many > 1 ? h("path", { class: "line", d: path(one.map((v, k) => [x(k), y(v)])) })
      : h("rect", { class: "mark", x: x(0) - 3, y: y(one[0]) - 3, width: 6, height: 6 }))),
  ]);
  return choose ? { ...drawn, attributes: { ...drawn.attributes, on: clicked(width, many, begin, choose) } } : drawn;
}
const range = values => values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [0, 1];

// shares: one list for each token, whose entries add up to 1.
export function stacked({ shares, begin, at, width, label, choose }) {
  const many = shares.length, [x, marks] = along(width, many, begin), wide = (width - LEFT - RIGHT) / many;
  const drawn = frame(width, [0, 1], marks, label, y => [
    shares.map((parts, k) => {
      let from = 0;
      return parts.map((p, s) => { const low = from; from += p; return h("rect", { class: `area s${s % 10}`, x: (x(k) - wide / 2).toFixed(2), width: (wide + .3).toFixed(2), y: y(from).toFixed(2), height: Math.max(0, y(low) - y(from)).toFixed(2) }); });
    }),
    at >= begin && at < begin + many && h("rect", { class: "chosen", x: x(at - begin) - wide / 2, width: wide, y: TOP, height: HEIGHT - TOP - BOTTOM }),
  ]);
  return choose ? { ...drawn, attributes: { ...drawn.attributes, on: clicked(width, many, begin, choose) } } : drawn;
}

// values[k] at distance k + 1, drawn on a logarithmic axis; zeros have no bar.
export function bars({ values, width, label, distance }) {
  const some = values.filter(v => v > 0).map(Math.log10), many = values.length;
  if (!some.length) return null;
  const [least, most] = range(some), low = Math.floor(least - .15), high = Math.max(Math.ceil(most), low + 1), [x, marks] = along(width, many, 1), wide = Math.max(1, (width - LEFT - RIGHT) / many * .72);
  return h("div", {}, frame(width, [low, high], marks, label, y => h("g", { class: "s3" }, h("path", {
    class: "line bars", "stroke-width": wide, style: { "stroke-width": wide },
    d: values.map((v, k) => v > 0 ? `M${x(k).toFixed(1)} ${y(low)}V${y(Math.log10(v)).toFixed(1)}` : "").join(""),
  })), true), h("p", { class: "axis-name note" }, distance));
}

// points: [x, y] with x on a logarithmic axis to the base 2.
export function doubling({ points, width, label, name }) {
  const [low, high] = range(points.map(point => point[1])), last = Math.log2(points.at(-1)[0]) || 1;
  const x = v => between(LEFT + 8, width - RIGHT - 12, Math.log2(v), last);
  return h("div", {}, frame(width, [low, high], points.map(([v]) => [x(v), v]).filter(([place], k, all) => !k || place - all[k - 1][0] > 26), label, y => h("g", { class: "s3" }, h("path", { class: "line", d: path(points.map(([v, of]) => [x(v), y(of)])) }))),
    h("p", { class: "axis-name note" }, name));
}

// ---- strips: rows of one number for each token, as colour --------------------------------------------------------------
function paint(canvas, rows) {
  const pen = canvas.getContext("2d"), image = pen.createImageData(canvas.width, canvas.height), most = greatest(rows.flat()) || 1;
  rows.forEach((row, r) => row.forEach((v, k) => {
    if (isNumber(v)) image.data.set([...(v < 0 ? MINUS : PLUS), Math.round(255 * Math.abs(v) / most)], 4 * (r * canvas.width + k));
  }));
  pen.putImageData(image, 0, 0);
}
// rows: lists of numbers of the tokens from begin on; tell: a line on row and token under the pointer.
export function strip({ rows, labels, begin, at, choose, tell, label }) {
  const many = rows[0].length, out = { node: null };
  const under = event => {
    const edge = event.currentTarget.getBoundingClientRect(), k = Math.floor((event.clientX - edge.left) / edge.width * many), r = Math.floor((event.clientY - edge.top) / edge.height * rows.length);
    return k >= 0 && k < many && r >= 0 && r < rows.length ? [r, k] : null;
  };
  const height = Math.max(rows.length <= 40 ? 11 : 6, Math.min(22, 260 / rows.length));
  return h("div", { class: "strip" }, h("ol", { class: "strip-labels", "aria-hidden": "true", style: { "--row": `${height}px` } }, height >= 11 && labels.map(one => h("li", {}, one))),
    h("div", { class: "strip-box" }, h("canvas", {
      width: many, height: rows.length, role: "img", "aria-label": label, "data-rows": JSON.stringify(rows), style: { height: `${height * rows.length}px` },
      after: canvas => { canvas.removeAttribute("data-rows"); paint(canvas, rows); },
      on: {
        pointermove: event => { const found = under(event); if (found && out.node) out.node.textContent = tell(...found, rows[found[0]][found[1]]); },
        click: event => { const found = under(event); if (found && choose) choose(begin + found[1]); },
      },
    }), at >= begin && at < begin + many && h("span", { class: "cursor", style: { left: `${100 * (at - begin) / many}%`, width: `${100 / many}%` } })),
    h("p", { class: "readout note unpictured", after: node => { out.node = node; } }, "\u00a0"));
}
