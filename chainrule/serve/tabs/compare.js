// Compare: the boards that are served, as they are now; everything in them was computed and worded by the report.
import { swatch } from "./charts.js";
import { axis } from "./figures.js";
import { h, read, render } from "./tree.js";
import { say } from "./words.js";

const EVERY = 3000;                                        // ms between two questions
const HEIGHT = 300, LEFT = 46, RIGHT = 14, TOP = 12, BOTTOM = 28;

export const compare = {
  name: "compare",
  can: () => true,
  offered: given => given.boards.length > 0,
  open(place) {
    const { boards } = place.given;
    place.results(boards.map((_, k) => h("article", { class: "board-of", id: `board-${k}` }, h("p", { class: "note" }, say("computing")))));
    const shown = boards.map((name, k) => new Board(place, name, document.getElementById(`board-${k}`)));
    const look = () => { if (document.visibilityState === "visible") for (const one of shown) one.refresh(); };
    const timer = setInterval(look, EVERY);
    document.addEventListener("visibilitychange", look);
    let width = innerWidth;
    const resized = () => { if (innerWidth !== width) { width = innerWidth; for (const one of shown) one.draw(); } };
    addEventListener("resize", resized);
    look();
    return () => { clearInterval(timer); document.removeEventListener("visibilitychange", look); removeEventListener("resize", resized); };
  },
};

class Board {
  constructor(place, name, host) { Object.assign(this, { place, name, host, version: "", clock: 0, order: null, asking: false }); }
  async refresh() {                                        // nothing is drawn again unless the board has changed
    if (this.asking) return;
    this.asking = true;
    try {
      const answer = await fetch(`page/boards/${encodeURIComponent(this.name)}?lang=${this.place.given.lang}`, { cache: "no-cache", signal: this.place.asking.signal });
      const found = await answer.json(), version = answer.headers.get("etag");
      if (!answer.ok) throw new Error(found.error.message);
      if (this.failed) this.place.alarm();
      this.failed = false;
      if (version === this.version) return;
      Object.assign(this, { version, found });
      this.draw();
    } catch (error) {
      this.failed = true;
      this.place.failed(error);
    } finally {
      this.asking = false;
    }
  }
  draw() {
    if (!this.found) return;
    const places = [...this.host.querySelectorAll(".scroll")].map(one => one.scrollLeft);
    render(this.host, page(this));
    this.host.querySelectorAll(".scroll").forEach((one, k) => { one.scrollLeft = places[k] ?? 0; });
  }
}

export function page(board) {
  const { found, name, place, host } = board, { words } = found, id = host.id;
  const of = key => ({ role: "region", tabindex: 0, "aria-label": words[key] });
  return [
    h("div", { class: `verdict ${found.confidence_class}` }, h("p", { class: "ui" }, h("span", { class: "confidence" }, found.confidence), `${found.title} · ${found.budget}`),
      h("h2", {}, found.headline),
      found.headline_facts.length > 0 && h("dl", { class: "headline" }, found.headline_facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])),
      found.verdict && h("details", {}, h("summary", {}, say("verdict_text")), h("p", { class: "note" }, found.verdict)),
      found.state && h("p", { class: "state", role: "status" }, say(`board_${found.state}`, found.counts)),
      h("p", {}, h("a", { class: "chip", href: `page/boards/${encodeURIComponent(name)}/report?lang=${place.given.lang}`, target: "_blank", rel: "noopener", id: `${id}-report` }, say("whole_report")))),
    found.warnings.length > 0 && h("section", {}, h("h3", {}, words.warnings_title), h("ul", { class: "warnings" }, found.warnings.map(text => h("li", {}, h("span", {}, text))))),
    h("section", {}, h("h3", {}, words.table_title), h("div", { class: "scroll", ...of("table_title") }, table(board, found.results, "cells", true)), h("p", { class: "note" }, found.note),
      notes(found).map(text => h("p", { class: "note" }, text))),
    h("section", {}, h("h3", {}, words.costs_title), h("div", { class: "scroll", ...of("costs_title") }, table(board, found.costs, "costs", false))),
    h("section", {}, h("h3", {}, words.curves_title), h("p", { class: "note" }, words.curves_note), curves(board)),
  ];
}
function notes(found) {                                    // rows that cannot be asked as they are now
  const missing = found.rows.filter(row => row.run === null && / ?done/.test(row.classes)).map(row => row.label), stale = found.rows.filter(row => row.stale).map(row => row.label);
  return [missing.length > 0 && say("not_loaded", { models: missing.join(", ") }), stale.length > 0 && say("stale", { models: stale.join(", ") })].filter(Boolean);
}
function table(board, groups, cells, asks) {
  const { found, host } = board, { words } = found, width = groups.flatMap(one => one.columns).length;
  const sorts = board.order?.cells === cells ? board.order : {}, id = k => `${host.id}-${cells}-${k}`;
  const turn = k => { board.order = sorts.column !== k ? { cells, column: k, sign: 1 } : sorts.sign === 1 ? { cells, column: k, sign: -1 } : null; board.draw(); };
  return h("table", { class: `board${asks ? "" : " costs"}` },
    h("thead", {}, h("tr", {}, h("td", {}), groups.map(one => h(one.title ? "th" : "td", { colspan: one.columns.length, ...(one.title ? { scope: "colgroup", class: "group" } : {}) }, h("span", {}, one.title)))),
      h("tr", {}, h("th", { scope: "col" }, words.col_model), groups.flatMap(one => one.columns).map((text, k) => h("th", { scope: "col", "aria-sort": sorts.column !== k ? null : sorts.sign === 1 ? "ascending" : "descending" }, h("button", { type: "button", id: id(k), title: words.sort, on: { click: () => turn(k) } }, text))))),
    h("tbody", {}, sorted(found.rows, cells, sorts).map(([row, k]) => h("tr", { class: row.classes }, h("th", { scope: "row" }, swatch(row.style), row.label, row.tags.map(text => [" ", h("small", { class: "tag" }, text)]), row.details.map(text => h("small", {}, text)), asks && use(board, row, k)),
      message(row, words) ? h("td", { class: "message", colspan: width }, h("div", {}, message(row, words))) : row[cells].map(cell => shown(cell, row.style))))));
}
// Rows with their places on the board, by the numbers of a column; those without one come last.
export function sorted(rows, cells, { column, sign }) {
  const key = row => row[cells][column]?.key ?? null, placed = rows.map((row, k) => [row, k]);
  if (column === undefined) return placed;
  return placed.sort(([a], [b]) => key(a) === null || key(b) === null ? (key(a) === null) - (key(b) === null) : sign * (key(a) - key(b)));
}
function message(row, words) {
  if (row.error) return [h("b", {}, words.status_failed), ": ", h("span", { lang: row.foreign ? "en" : null }, row.error)];
  if (!row.message) return null;
  const { steps, seconds, validation } = row.progress;
  return [row.message, steps && h("small", {}, say("so_far", { steps, seconds }), validation && ` · ${say("so_far_validation", { validation })}`)];
}
function shown(cell, style) {
  const { bar } = cell;
  return h("td", { class: cell.main ? "value" : null }, cell.main ? h("b", {}, cell.text) : cell.text, bar && h("svg", { class: `bar s${style}`, viewBox: "0 0 104 14", role: "img", "aria-label": bar.about }, h("path", { class: "rail", d: "M0 7H104" }), bar.tick !== null && h("path", { class: "tick", d: `M${bar.tick} 2V12` }),
    bar.high === null ? h("path", { class: "mark", d: "M97 3L104 7L97 11Z" }) : [h("path", { class: "span", d: `M${bar.low} 7H${bar.high}` }), h("rect", { class: "mark", x: bar.value - 2.5, y: 4.5, width: 5, height: 5 })]),
    cell.notes.map(text => h("small", {}, text)));
}
// What can be done with the run of a row: each tab that asks one run.
function use({ place, host }, row, k) {
  const run = place.given.runs.find(one => one.name === row.run);
  const go = (tab, message) => h("button", { type: "button", class: "chip", id: `${host.id}-${tab}-${k}`, "aria-label": `${say(message)}: ${row.label}`, on: { click: () => place.go(tab, { ...place.state, run: [run.name], at: undefined }) } }, say(message));
  return run && (run.explains || run.writes) && h("span", { class: "use" }, run.explains && go("inspect", "tab_inspect"), run.writes && go("write", "tab_write"));
}

// ---- learning curves ----------------------------------------------------------------------------------------------------
function curves(board) {
  const { found, host } = board, chosen = found.curves[board.clock], words = [found.words.over_seconds, found.words.over_items];
  const clocks = h("fieldset", { class: "choice" }, h("legend", { class: "vh" }, say("clock")), found.curves.map((_, k) => h("label", { class: "chip" }, h("input", { class: "vh", type: "radio", name: `${host.id}-clock`, id: `${host.id}-clock-${k}`, checked: k === board.clock, on: { change: () => { board.clock = k; board.draw(); } } }), words[k])));
  if (!chosen.series.length) return h("p", { class: "note" }, say("no_curves"));
  return [h("p", { class: "names" }, chosen.series.map(one => h("span", {}, swatch(one.style), ` ${one.name}`))), clocks, lines(chosen, Math.max(280, Math.min(900, host.clientWidth)))];
}
export function lines(chart, width) {
  const points = chart.series.flatMap(one => one.points), values = points.map(point => point[1]);
  const x = axis(points.map(point => point[0]), chart.x.scale === "log", LEFT, width - RIGHT), y = axis(values, false, HEIGHT - BOTTOM, TOP);
  const inside = one => one.value >= Math.min(...values) && one.value <= Math.max(...values);
  return h("div", { class: "plot" }, h("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${chart.about}: ${chart.yName} / ${chart.xName}` },
    y.marks.map(v => [h("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.place(v), y2: y.place(v) }), h("text", { x: LEFT - 6, y: y.place(v) + 4, "text-anchor": "end" }, read(v))]),
    x.marks.map(v => h("text", { x: x.place(v), y: HEIGHT - 8, "text-anchor": "middle" }, read(v))),
    chart.references.filter(inside).map(one => [h("line", { class: "reference", x1: LEFT, x2: width - RIGHT, y1: y.place(one.value), y2: y.place(one.value) }), h("text", { x: LEFT + 4, y: y.place(one.value) - 4 }, `${one.name} ${read(one.value)}`)]),
    chart.series.map(one => {
      const at = one.points.map(([a, b]) => [x.place(a).toFixed(1), y.place(b).toFixed(1)]);
      return h("g", { class: `s${one.style}` }, at.length > 1 ? h("path", { class: "line", d: at.map(([a, b], k) => `${k ? "L" : "M"}${a} ${b}`).join("") }) : h("path", { class: "flat", d: `M${at[0][0]} ${at[0][1]}H${width - RIGHT}` }), at.map(([a, b], k) => h("rect", { class: "mark", x: a - 3, y: b - 3, width: 6, height: 6 }, h("title", {}, `${one.name} ${read(one.points[k][1])}`))));
    })), h("p", { class: "axis-name note" }, `${chart.yName} · ${chart.xName}`));
}
