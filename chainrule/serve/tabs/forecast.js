// Forecast: a series and what is expected of its next values, with the quantiles of sampled paths.
import { choiceField, during, fileField, indexOf, keep, numberField, numbers, own } from "./fields.js";
import { download } from "./save.js";
import { axis } from "./figures.js";
import { textBox } from "./place.js";
import { columnsOf, firstColumn, numbersOf } from "./series.js";
import { swatch } from "./charts.js";
import { table } from "./tokens.js";
import { h, isNumber, num, percent, read } from "./tree.js";
import { say } from "./words.js";

const ROUTE = "/v1/forecast", HEIGHT = 320, LEFT = 58, RIGHT = 14, TOP = 10, BOTTOM = 30;
const OPTIONS = { max_tokens: { min: 1, max: 4096, placeholder: 24 }, n: { min: 1, max: 20, placeholder: 1 }, seed: { min: 0, placeholder: 42 } };
const KEPT = 8000;                                         // characters of a series that the address keeps

// Without values, the run goes on with its own series.
export const question = (run, values, options) => ({ model: run.name, ...(values.length ? { prompt: [values] } : {}), ...options });
// The forecast of one series in an answer: quantiles[t][level], and its paths.
export function forecastOf(answer, k) {
  const each = answer.sequences.length / answer.columns.length;
  return { name: answer.columns[k], levels: answer.levels, quantiles: answer.quantiles[k], paths: answer.sequences.slice(k * each, (k + 1) * each) };
}
const headOf = one => [...one.levels.map(level => say("series_level", { level: percent(level).replace(".0%", "%") })), ...one.paths.map((_, k) => say("series_path", { k: k + 1 }))];
const rowsOf = one => one.quantiles.map((row, t) => [t + 1, ...row, ...one.paths.map(path => path[t])]);
export const csv = one => [["step", ...one.levels.map(level => `q${level}`), ...one.paths.map((_, k) => `path${k + 1}`)], ...rowsOf(one)].map(row => row.join(",")).join("\n") + "\n";

export const forecast = {
  name: "forecast",
  can: run => run.routes.includes(ROUTE),
  offered: given => given.runs.some(forecast.can),
  open(place) {
    place.settle(place.runs[0], false);
    const made = new Forecasting(place);
    made.start();
    let width = innerWidth;
    const resized = () => { if (innerWidth !== width) { width = innerWidth; made.show(); } };
    addEventListener("resize", resized);
    return () => removeEventListener("resize", resized);
  },
};

// ---- the chart -----------------------------------------------------------------------------------------------------------
// Known values that are drawn: more than the forecast has, and no more than can be told apart.
const drawn = (one, width) => Math.max(3 * one.quantiles.length, Math.floor(width / 3));
// past: known values, null where one is missing; the last one is step 0.
export function chart(past, one, width) {
  const shown = past.slice(-drawn(one, width)), low = one.quantiles.map(row => row[0]), high = one.quantiles.map(row => row.at(-1)), median = one.quantiles.map(row => row[one.levels.indexOf(.5)]);
  const steps = median.map((_, k) => k + 1), before = shown.map((_, k) => k - shown.length + 1);
  const x = axis([...before, ...steps], false, LEFT, width - RIGHT), y = axis([...shown, ...low, ...high, ...one.paths.flat()], false, HEIGHT - BOTTOM, TOP);
  const line = (at, values) => {
    let path = "", pen = "M";
    values.forEach((v, k) => { if (!isNumber(v)) pen = "M"; else { path += `${pen}${x.place(at[k]).toFixed(1)} ${y.place(v).toFixed(1)}`; pen = "L"; } });
    return path;
  };
  const band = `${line(steps, high)}${line([...steps].reverse(), [...low].reverse()).replace("M", "L")}Z`;
  const marks = x.marks.filter((v, k, all) => Number.isInteger(v) && (!k || x.place(v) - x.place(all[k - 1]) > 30));
  return h("div", { class: "plot" }, h("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": say("forecast_chart", { n: shown.length, steps: steps.length, low: read(low.at(-1)), high: read(high.at(-1)) }) },
    y.marks.map(v => [h("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.place(v), y2: y.place(v) }), h("text", { x: LEFT - 6, y: y.place(v) + 4, "text-anchor": "end" }, read(v))]),
    marks.map(v => h("text", { x: x.place(v), y: HEIGHT - 10, "text-anchor": "middle" }, v)),
    h("g", { class: "s3" }, h("path", { class: "band", d: band })), one.paths.map(path => h("g", { class: "s1 path" }, h("path", { class: "line", d: line(steps, path) }))),
    h("g", { class: "sobserved" }, h("path", { class: "line", d: line(before, shown) })), h("g", { class: "s3" }, h("path", { class: "line", d: line(steps, median) }))));
}
const LINES = [["observed", "series_known"], [3, "series_median"], [1, "series_paths"]];
const legend = one => h("p", { class: "names" }, LINES.map(([style, key]) => h("span", {}, swatch(style), ` ${say(key)}`)),
  h("span", {}, h("span", { class: "s3 band-swatch", "aria-hidden": "true" }), ` ${say("series_band", { share: percent(one.levels.at(-1) - one.levels[0]).replace(".0%", "%") })}`));

class Forecasting {
  constructor(place) { Object.assign(this, { place, text: own(place, "series") ?? "", columns: [], column: undefined, found: null }); }
  get run() { return this.place.chosen()[0]; }
  get many() { return this.run.series.length > 1; }
  get shown() { return this.many ? indexOf(this.place, "which", this.run.series.length) : 0; }
  start() {
    const { place } = this;
    during(place, async asked => {
      this.found = null;
      let values = [];
      try { values = this.values(); } finally { place.form(this.form()); place.remember(); }
      const answer = await place.ask("v1/forecast", question(this.run, values, numbers(place, Object.keys(OPTIONS))), asked);
      this.found = { answer, values };
      this.show();
    });
  }
  values() {                                               // none: the run's own series
    if (this.many || !this.text.trim()) { this.columns = []; keep(this.place, { series: undefined }); return []; }
    this.columns = columnsOf(this.text);
    if (!(this.column < this.columns.length)) this.column = firstColumn(this.columns);
    const values = numbersOf(this.columns[this.column]), kept = values.join(" ");
    keep(this.place, { series: kept.length <= KEPT ? kept : undefined });
    return values;
  }
  form() {
    const { place, run } = this, again = () => this.start(), { values } = run.series[0];
    const whole = !this.many && values.length > 0 && !values.includes(null);
    return [
      place.runBoxes(() => { delete this.column; again(); }, false),
      this.many ? h("p", { class: "note" }, say("series_many", { n: run.series.length })) : [
        textBox("series", say("series_box"), this.text, text => { this.text = text; delete this.column; }, again),
        fileField("series-file", say("series_file"), ".csv,.tsv,.txt,text/csv,text/plain", file => this.take(file),
          whole && h("button", { type: "button", class: "chip", id: "series-own", on: { click: () => this.read(values.join(" ")) } }, say("series_own")), h("span", { class: "note" }, say("series_told")))],
      h("div", { class: "tools" }, h("button", { type: "button", class: "chip go", id: "forecast", on: { click: again } }, say("forecast")), Object.entries(OPTIONS).map(([name, about]) => numberField(place, name, about, again)),
        this.columns.length > 1 && choiceField("series-column", say("series_of_column"), this.columns.map((one, k) => [k, one.name]), this.column, k => { this.column = +k; again(); }),
        this.many && choiceField("series-which", say("series_which"), run.series.map((one, k) => [k, one.name]), this.shown, k => { keep(place, { which: k }); this.show(); })),
    ];
  }
  read(text) {
    this.text = text;
    delete this.column;
    this.start();
  }
  take(file) {
    file.text().then(text => this.read(text)).catch(() => this.place.alarm(say("file_unread", { name: file.name })));
  }
  show() {
    if (!this.found) return this.place.results();
    const { place, run } = this, { answer, values } = this.found, one = forecastOf(answer, this.shown), series = run.series[this.shown], past = values.length ? values : series.values;
    const name = values.length ? this.columns[this.column].name : one.name, width = Math.max(260, Math.min(960, place.resultsHost.clientWidth));
    place.results(
      h("figure", { class: "forecast" },
        h("figcaption", {}, name && [h("b", {}, name), " · "], say(values.length ? "series_given" : "series_from_run", { n: values.length || series.read }), past.length > drawn(one, width) && `; ${say("series_drawn", { n: drawn(one, width) })}`),
        chart(past, one, width), legend(one), h("p", { class: "axis-name note" }, say("series_axis"))),
      h("p", { class: "note" }, say("series_proves")),
      h("p", { class: "tools" }, h("button", { type: "button", class: "chip", id: "save-csv", on: { click: () => download(`forecast-${run.name}.csv`, new Blob([csv(one)], { type: "text/csv" })) } }, say("forecast_csv"))),
      h("details", { open: true }, h("summary", {}, say("series_table")), table([say("series_step"), ...headOf(one)], rowsOf(one).map(([step, ...rest]) => [step, ...rest.map(v => num(v))]))));
  }
}
