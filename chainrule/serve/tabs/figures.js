// Figures of a finding: lines over an axis, tables, and strips of numbers over tokens.
import { names, strip } from "./charts.js";
import { over, table, visible } from "./tokens.js";
import { h, isNumber, num, read } from "./tree.js";
import { say } from "./words.js";

const HEIGHT = 260, LEFT = 58, RIGHT = 14, TOP = 10, BOTTOM = 30;

export const figure = (one, width) => h("figure", { class: "finding" }, h("figcaption", {}, one.title), DRAWN[one.kind](one, width));

// ---- an axis: its places and its marks ------------------------------------------------------------------------------
export function axis(values, log, from, to) {
  const known = values.filter(v => isNumber(v) && (!log || v > 0)).map(v => log ? Math.log10(v) : v);
  let low = Math.min(...known), high = Math.max(...known);
  if (!known.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - .5, high + .5];
  const place = v => isNumber(v) && (!log || v > 0) ? from + (to - from) * ((log ? Math.log10(v) : v) - low) / (high - low) : null;
  return { place, marks: log ? decades(low, high) : round(low, high) };
}
function round(low, high) {                                // about five round numbers
  const rough = (high - low) / 5, size = 10 ** Math.floor(Math.log10(rough)), step = size * [1, 2, 5, 10].find(k => k * size >= rough), marks = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) marks.push(+(k * step).toPrecision(12));
  return marks;
}
function decades(low, high) {                              // powers of ten, or of two where there are too few
  const every = Math.max(1, Math.ceil((high - low) / 6)), marks = [];
  for (let k = Math.ceil(low - 1e-9); k <= high + 1e-9; k += every) marks.push(10 ** k);
  if (marks.length >= 3) return marks;
  const twos = [], [from, to] = [low, high].map(v => v / Math.log10(2)), step = Math.max(1, Math.ceil((to - from) / 7));
  for (let k = Math.ceil(from - 1e-9); k <= to + 1e-9; k += step) twos.push(2 ** k);
  return twos.length >= 2 ? twos : [10 ** low, 10 ** high];
}

function chart(one, width) {
  const x = axis(one.x, one.log.includes("x"), LEFT, width - RIGHT), y = axis(one.series.flatMap(line => line.values), one.log.includes("y"), HEIGHT - BOTTOM, TOP);
  const line = (values, s) => {
    const points = one.x.map((at, k) => [x.place(at), y.place(values[k])]);
    let path = "", pen = "M";
    for (const [a, b] of points) if (a === null || b === null) pen = "M"; else { path += `${pen}${a.toFixed(1)} ${b.toFixed(1)}`; pen = "L"; }
    return h("g", { class: `s${s % 10}` }, h("path", { class: "line", d: path }), points.length <= 40 && points.map(([a, b]) => a !== null && b !== null && h("rect", { class: "mark", x: (a - 2.5).toFixed(1), y: (b - 2.5).toFixed(1), width: 5, height: 5 })));
  };
  const apart = x.marks.filter((v, k, all) => !k || x.place(v) - x.place(all[k - 1]) > 30);
  return [
    one.series.length > 1 && names(one.series.map(of => of.name)),
    h("div", { class: "plot" }, h("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${one.title}: ${one.y_label} / ${one.x_label}` },
      h("text", { x: LEFT - 50, y: TOP + 2, class: "axis-y" }, ""),
      y.marks.map(v => [h("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.place(v), y2: y.place(v) }), h("text", { x: LEFT - 6, y: y.place(v) + 4, "text-anchor": "end" }, read(v))]),
      apart.map(v => h("text", { x: x.place(v), y: HEIGHT - 10, "text-anchor": "middle" }, read(v))),
      one.series.map((of, s) => line(of.values, s)))),
    h("p", { class: "axis-name note" }, `${one.y_label} · ${one.x_label}`),
    h("details", {}, h("summary", {}, say("numbers")), table([one.x_label, ...one.series.map(of => of.name)], one.x.map((at, k) => [num(at), ...one.series.map(of => num(of.values[k]))]))),
  ];
}
const cell = value => isNumber(value) ? num(value) : value ?? "–";
const rows = one => table(one.columns, one.rows.map(row => row.map(cell)));
function colours(one) {
  const labels = one.rows.map(row => row.name), text = { tokens: one.tokens.map(text => ({ text })) };
  return [strip({ rows: one.rows.map(row => row.values), labels, begin: 0, at: -1, label: one.title, tell: (r, k, v) => `${labels[r]} · ${k} ${visible(one.tokens[k])} · ${read(v)}` }),
    one.rows.map((row, r) => h("details", { open: r === 0 }, h("summary", {}, row.name), over(text, { first: 0, values: row.values, label: row.name })))];
}
const DRAWN = { chart, table: rows, strip: colours };
