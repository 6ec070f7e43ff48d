// Line charts from specifications: see charts.py for what they hold. Nothing here knows a task.
const isNumber = v => typeof v === "number" && Number.isFinite(v);

// ---- small tools -------------------------------------------------------------------------------------------------
function swatch(parent, style) {
  const icon = make(parent, "svg", { class: `swatch s${style}`, viewBox: "0 0 30 12", "aria-hidden": "true" });
  make(icon, "path", { class: "line", d: "M0 6H30" });
  make(icon, "use", { class: "mark", href: `#m${style}`, x: 15, y: 6 });
}
const path = points => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const trim = v => String(+v.toPrecision(3));
const FORMATS = {
  plain: String,
  count: v => v.toLocaleString("en"),
  compact: v => v >= 1e9 ? trim(v / 1e9) + "G" : v >= 1e6 ? trim(v / 1e6) + "M" : v >= 1e4 ? trim(v / 1e3) + "k" : v.toLocaleString("en"),
  bytes: v => v >= 1e9 ? trim(v / 1e9) + " GB" : v >= 1e6 ? trim(v / 1e6) + " MB" : v >= 1e3 ? trim(v / 1e3) + " kB" : trim(v) + " B",
  seconds: v => v >= 1 ? trim(v) + " s" : v >= 1e-3 ? trim(v * 1e3) + " ms" : trim(v * 1e6) + " µs",
};

// ---- axes: warp turns a value into even distance --------------------------------------------------------------------
const WARPS = {
  linear: v => v,
  log: v => Math.log(v),
  doubling: k => k < 1 ? k : 1 + Math.log2(k),           // 0, 1, 2, 4, 8 … stand at equal distances
};
const extent = values => [Math.min(...values), Math.max(...values)];
function niceTicks(low, high, count) {
  const rough = (high - low || 1) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough * .999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(+(i * step).toPrecision(12));
  return ticks;
}
function logTicks(low, high) {
  const all = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) for (const m of [1, 2, 5]) all.push(m * 10 ** p);
  const inside = all.filter(v => v >= low * .999 && v <= high * 1.001), tens = inside.filter(v => Math.abs(Math.log10(v) % 1) < 1e-9);
  return tens.length >= 3 ? tens : inside;
}
function valueAxis(values, ceiling) {
  let [low, high] = extent(values);
  if (isNumber(ceiling) && ceiling > low) high = Math.min(high, ceiling);
  const room = (high - low || .2) * .06, ticks = niceTicks(low - room, high + room, 6);
  const digits = Math.min(20, Math.max(3, Math.ceil(-Math.log10(high - low || 1)) + 2));   // a series may vary in its fifth decimal
  return { from: low - room, to: high + room, ticks, text: v => String(+v.toFixed(digits)), read: v => v.toFixed(digits) };
}
function logAxis(values, text) {
  let [low, high] = extent(values);
  if (low === high) { low /= 2; high *= 2; }
  return { from: low, to: high, ticks: logTicks(low, high), text, read: text };
}
function makeAxis(wanted, values) {
  const text = FORMATS[wanted.format || "plain"], [low, high] = extent(values);
  let axis = { from: low, to: high, ticks: niceTicks(low, high, 6), text, read: text };
  if (wanted.scale === "log") axis = logAxis(values, text);
  else if (wanted.scale === "linear" && !wanted.format) axis = valueAxis(values, wanted.ceiling);
  for (const key of ["from", "to", "ticks"]) if (wanted[key] !== undefined) axis[key] = wanted[key];
  return { ...axis, warp: WARPS[wanted.scale] };
}

// ---- one chart ------------------------------------------------------------------------------------------------------
function drawChart(host, wanted, hidden, noPoints) {
  host.replaceChildren();
  const series = ((wanted || {}).series || []).filter(one => !hidden.has(one.model) && one.points.length).map(one => ({ ...one }));
  if (!series.length) { make(host, "p", { class: "note" }, noPoints); return; }
  const all = axis => series.flatMap(one => one.points.map(p => p[axis]).concat(one.range ? (axis ? one.range.slice(1) : one.range[0]) : []));
  const inside = (wanted.references || []).filter(line => line.inside).map(line => line.value);
  const spec = { ...wanted, series, x: makeAxis(wanted.x, all(0)), y: makeAxis(wanted.y, all(1).concat(inside)) };
  if (wanted.extend) for (const one of series) if (one.points.length === 1) one.flat = [one.points[0], [spec.x.to, one.points[0][1]]];
  const width = Math.max(host.clientWidth, 260), named = width >= 460 && series.length > 1;
  const heights = [].concat(wanted.height || 330), height = heights[width > 700 ? 0 : Math.min(heights.length - 1, width > 480 ? 1 : 2)];
  const box = { left: Math.max(46, 16 + 7 * Math.max(0, ...spec.y.ticks.map(tick => spec.y.text(tick).length))), right: width - (named ? nameRoom(spec) : 12), top: 26, bottom: height - 40 };
  const scale = (axis, r0, r1) => v => r0 + (axis.warp(v) - axis.warp(axis.from)) / (axis.warp(axis.to) - axis.warp(axis.from)) * (r1 - r0);
  const x = scale(spec.x, box.left, box.right), y = scale(spec.y, box.bottom, box.top);
  const svg = make(host, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": spec.about });
  const art = { svg, host, spec, box, x, y, width };
  drawFrame(art);
  drawReferences(art);
  drawSeries(art);
  if (named) drawNames(art);
  addReadout(art);
}
const nameRoom = spec => Math.max(...spec.series.map(one => [...one.name].reduce((w, c) => w + (c > "\u1100" ? 12.5 : 7.4), one.power === undefined ? 0 : 44))) + 24;
function roomyLabels({ ticks, text }, x) {             // every label, or every second, third … counted from the end; the first stays
  const half = tick => text(tick).length * 3.5 + 3;
  const fits = kept => kept.every((tick, i) => !i || x(tick) - x(kept[i - 1]) > half(tick) + half(kept[i - 1]));
  for (let step = 1; step <= ticks.length; step++) {
    const kept = ticks.filter((_, i) => i === 0 || (ticks.length - 1 - i) % step === 0);
    if (fits(kept)) return kept;
  }
  return ticks.slice(0, 1);
}
function drawFrame({ svg, spec, box, x, y }) {
  for (const tick of spec.y.ticks) {
    make(svg, "path", { class: "grid", d: `M${box.left} ${y(tick)}H${box.right}` });
    make(svg, "text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, spec.y.text(tick));
  }
  make(svg, "path", { class: "axis", d: `M${box.left} ${box.bottom}H${box.right}` });
  const labels = roomyLabels(spec.x, x);
  for (const tick of spec.x.ticks) {
    make(svg, "path", { class: "axis", d: `M${x(tick)} ${box.bottom}v4` });
    if (labels.includes(tick)) make(svg, "text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, spec.x.text(tick));
  }
  make(svg, "text", { x: 0, y: 11 }, spec.yName);
  make(svg, "text", { x: box.right, y: box.bottom + 36, "text-anchor": "end" }, spec.xName);
}
function drawReferences({ svg, spec, box, y }) {
  for (const { value, name } of spec.references || []) {
    if (!isNumber(value) || value < spec.y.from || value > spec.y.to) continue;
    make(svg, "path", { class: "reference", d: `M${box.left} ${y(value)}H${box.right}` });
    make(svg, "text", { class: "halo", x: spec.referencesRight ? box.right - 4 : box.left + 6, y: y(value) - 5, "text-anchor": spec.referencesRight ? "end" : "start" }, `${name} ${value.toFixed(3)}`);
  }
}
function drawSeries({ svg, host, spec, box, x, y }) {
  const clip = make(make(svg, "clipPath", { id: `clip-${host.id}` }), "rect", { x: box.left - 6, y: box.top - 6, width: box.right - box.left + 12, height: box.bottom - box.top + 6 });
  for (const one of spec.series) {
    const group = make(svg, "g", { class: `s${one.style}`, "clip-path": `url(#${clip.parentNode.id})` });
    const at = points => points.map(([a, b]) => [x(a), y(b)]);
    if (one.band) make(group, "path", { class: "band", d: path(at(one.band.map(([t, , high]) => [t, high])).concat(at(one.band.map(([t, low]) => [t, low]).reverse()))) + "Z" });
    if (one.range) make(group, "path", { class: "range", d: `M${x(one.range[0])} ${y(one.range[1])}V${y(one.range[2])}` });
    if (one.flat) make(group, "path", { class: "flat", d: path(at(one.flat)) });
    make(group, "path", { class: "line", d: path(at(one.points)) });
    const every = Math.ceil(one.points.length / 12);
    at(one.points).forEach(([a, b], i) => { if (!one.plain && (one.points.length - 1 - i) % every === 0) make(group, "use", { class: "mark", href: `#m${one.style}`, x: a, y: b }); });
    if (one.end) make(group, "circle", { class: "end", cx: x(one.end[0]), cy: y(one.end[1]), r: 6.5 });
    for (const [a, b] of one.called || []) make(svg, "text", { class: "halo", x: x(a) + 5, y: y(b) - 9 }, spec.y.read(b));
  }
}
function drawNames({ svg, spec, box, x, y }) {
  const clamp = v => Math.min(Math.max(v, box.top), box.bottom);
  const names = spec.series.map(one => { const [a, b] = (one.flat || one.points).at(-1); return { one, from: x(a), want: clamp(y(b)), above: b > spec.y.to }; });
  names.sort((a, b) => a.want - b.want);
  names.forEach((n, i) => { n.at = i ? Math.max(n.want, names[i - 1].at + 15) : n.want; });
  let limit = box.bottom + 4;                           // a stack that ran over the bottom is pushed back up
  for (const n of names.slice().reverse()) { n.at = Math.min(n.at, limit); limit = n.at - 15; }
  for (const { one, at, want, from, above } of names) {
    const group = make(svg, "g", { class: `s${one.style}` });
    if (Math.abs(from - box.right) < 12) make(group, "path", { class: "leader", d: `M${box.right + 7} ${want}L${box.right + 15} ${at}` });
    const text = make(group, "text", { class: "name", x: box.right + 19, y: at + 4 }, above ? `${one.name} ↑` : one.name);
    if (one.power === undefined) continue;
    text.append(" · n");
    make(text, "tspan", { dy: -4, "font-size": "9.5px" }, one.power);
  }
}

// ---- read-out: mouse, finger and arrow keys --------------------------------------------------------------------------
function valueAt(one, at, warp) {
  const points = one.points, last = points.at(-1);
  if (at > last[0]) {                                    // the dotted continuation
    if (!one.flat || at > one.flat[1][0]) return undefined;
    const [a, b] = one.flat;
    return a[1] + (b[1] - a[1]) * (warp(at) - warp(a[0])) / (warp(b[0]) - warp(a[0]));
  }
  const next = points.findIndex(p => p[0] >= at);
  if (points[next][0] === at) return points[next][1];
  if (next === 0) return undefined;
  const [a, b] = [points[next - 1], points[next]], part = (warp(at) - warp(a[0])) / (warp(b[0]) - warp(a[0]));
  return a[1] + part * (b[1] - a[1]);
}
function addReadout({ svg, host, spec, box, x, y, width }) {
  const stops = [...new Set(spec.series.flatMap(one => one.points.map(p => p[0]).concat(one.range ? one.range[0] : [])))].sort((a, b) => a - b);
  const layer = make(svg, "g", {}), tip = make(host, "div", { class: "tip", hidden: "", "aria-live": "polite" });
  let stop = -1;
  const hide = () => { layer.replaceChildren(); tip.hidden = true; };
  const show = index => {
    stop = Math.min(Math.max(index, 0), stops.length - 1);
    const at = stops[stop], px = x(at);
    const rows = spec.series.map(one => ({ one, value: valueAt(one, at, spec.x.warp) })).filter(r => isNumber(r.value)).sort((a, b) => a.value - b.value);
    layer.replaceChildren();
    make(layer, "path", { class: "cross", d: `M${px} ${box.top}V${box.bottom}` });
    for (const { one, value } of rows) if (value <= spec.y.to) make(layer, "circle", { class: `end s${one.style}`, cx: px, cy: y(value), r: 4.5 });
    tip.replaceChildren();
    make(tip, "b", {}, `${spec.xShort} ${spec.x.read(at)}`.trim());
    for (const { one, value } of rows) { const line = make(tip, "div"); swatch(line, one.style); make(line, "span", {}, one.name); make(line, "span", {}, spec.y.read(value)); }
    tip.hidden = false;
    const share = host.clientWidth / width, left = px * share;
    tip.style.left = `${left > host.clientWidth / 2 ? Math.max(left - tip.offsetWidth - 14, 0) : Math.min(left + 14, host.clientWidth - tip.offsetWidth)}px`;
  };
  const follow = event => {
    const frame = svg.getBoundingClientRect(), px = (event.clientX - frame.left) / frame.width * width;
    show(stops.reduce((best, v, i) => Math.abs(x(v) - px) < Math.abs(x(stops[best]) - px) ? i : best, 0));
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (step) { event.preventDefault(); show(stop + step); }
  });
}

