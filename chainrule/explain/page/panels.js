// The panels of the views: each shows what one view found out, for the chosen token where the view is about many.
import { attention, attention_cell } from "./attention.js";
import { bars, doubling, lines, names, stacked, strip } from "./charts.js";
import { facts, largest, named, over, table, visible } from "./tokens.js";
import { h, isNumber, num, percent, read, rounded } from "./tree.js";
import { say } from "./words.js";

const TOP_STATES = 8;

// The number of the chosen token in the lists of a view; a note where the view does not cover it.
const place = (view, many, at) => at >= view.begin && at < view.begin + many ? at - view.begin : null;
const uncovered = () => h("p", { class: "note" }, say("outside"));

function gates(view, ctx) {
  const kinds = Object.keys(view.means), gate = kinds.includes(ctx.state.gate) ? ctx.state.gate : kinds[0];
  const k = place(view, view.means[gate].length, ctx.at), values = view.values[gate];
  const chart = { begin: view.begin, at: ctx.at, width: ctx.width, choose: ctx.choose };
  const units = view.units.map(unit => say("unit", { unit }));
  return [
    layerOf(view, ctx),
    h("h4", {}, say("gate_means")), names(kinds), lines({ ...chart, series: kinds.map(kind => view.means[kind]), label: say("gate_means") }),
    k !== null && facts(kinds.map(kind => [kind, num(view.means[kind][k])])),
    h("h4", {}, say("gate_units")), choice(`${ctx.id}-gate`, say("gate"), kinds, gate, of => ctx.set({ gate: of })),
    strip({ ...chart, rows: view.units.map((_, u) => values.map(row => row[u])), labels: units, label: say("gate_units"),
      tell: (u, t, v) => `${units[u]} · ${t + view.begin} ${named(ctx.trace.tokens[t + view.begin].text)} · ${read(v)}` }),
    k === null ? uncovered() : h("details", {}, h("summary", {}, say("chosen_numbers")),
      table([say("unit_name"), ...kinds], view.units.map((unit, u) => [num(unit), ...kinds.map(kind => num(view.values[kind][k][u]))]))),
  ];
}
function layerOf(view, ctx) {                              // the layer that a view shows: another one must be asked for
  if (!isNumber(view.layer)) return null;
  if (!ctx.live) return facts([[say("layer"), num(view.layer)]]);
  return h("label", { class: "field" }, say("layer"), h("input", { id: `${ctx.id}-asked-layer`, type: "number", min: 0, value: view.layer, on: { change: event => ctx.set({ layer: +event.target.value }) } }));
}
export function choice(id, label, names, chosen, choose) {
  return h("label", { class: "field" }, label, h("select", { id, value: chosen, on: { change: event => choose(event.target.value) } }, names.map(name => h("option", { value: name }, name))));
}

function belief(view, ctx) {
  const sets = { before: view.before, after: view.after, p: view.p }, kinds = Object.keys(sets).filter(kind => sets[kind]);
  const kind = kinds.includes(ctx.state.moment) ? ctx.state.moment : kinds[0], p = sets[kind], k = place(view, p.length, ctx.at);
  const spoken = { before: say("belief_before"), after: say("belief_after") }, states = p[0].map((_, state) => state);
  const ranked = k === null ? [] : [...states].sort((a, b) => p[k][b] - p[k][a]).slice(0, TOP_STATES);
  const emits = state => (view.emits[state] || []).map(one => h("span", { class: "emitted" }, visible(one.text), " ", num(one.p, percent)));
  return [
    kinds.length > 1 && h("fieldset", { class: "choice" }, kinds.map(name => h("label", { class: "chip" }, h("input", { class: "vh", type: "radio", name: `${ctx.id}-moment`, id: `${ctx.id}-${name}`, checked: name === kind, on: { change: () => ctx.set({ moment: name }) } }), spoken[name]))),
    strip({ rows: states.map(state => p.map(row => row[state])), labels: states.map(state => say("state", { state })), begin: view.begin, at: ctx.at, choose: ctx.choose, label: say("belief_strip"),
      tell: (state, t, v) => `${say("state", { state })} · ${t + view.begin} ${named(ctx.trace.tokens[t + view.begin].text)} · ${read(v, percent)}` }),
    k === null ? uncovered() : table([say("state_name"), say("p"), say("emits")], ranked.map(state => [state, num(p[k][state], percent), emits(state)]),
      states.length > TOP_STATES ? say("largest", { k: TOP_STATES, n: states.length }) : null),
  ];
}

function backoff(view, ctx) {
  const k = place(view, view.tokens.length, ctx.at), orders = view.tokens.map(token => token.order);
  return [
    h("h4", {}, say("orders")), over(ctx.trace, { first: view.begin, values: orders, choose: ctx.choose, label: say("orders") }),
    k === null ? uncovered() : [
      h("p", {}, say("order_chosen"), " ", num(orders[k])),
      table([say("length"), say("context"), say("p"), say("reserved")], view.tokens[k].contexts.map(one => [num(one.length), one.text === "" ? "–" : visible(one.text), num(one.p, percent), num(one.reserved, percent)])),
    ],
  ];
}

function mixture(view, ctx) {
  const k = place(view, view.posterior.length, ctx.at);
  return [
    names(view.parts), stacked({ shares: view.posterior, begin: view.begin, at: ctx.at, width: ctx.width, choose: ctx.choose, label: say("posterior") }),
    k === null ? uncovered() : table([say("part_name"), say("weight"), say("posterior"), say("nats")],
      view.parts.map((name, part) => [name, num(view.weights[part], percent), num(view.posterior[k][part], percent), num(view.nats[k][part])])),
  ];
}

function reach(view, ctx) {
  const list = { first: view.first, values: view.norms, start: view.start };
  return [
    bars({ values: [...view.norms].reverse(), width: ctx.width, label: say("reach_bars"), distance: say("distance") }),
    over(ctx.trace, { ...list, choose: ctx.choose, label: say("over_label") }), largest(ctx.trace, { ...list, name: say("norm") }),
  ];
}
function memory(view, ctx) {
  return [
    doubling({ points: view.visible.map((k, n) => [k, view.nats[n]]), width: ctx.width, label: say("memory_curve"), name: say("visible") }),
    table([say("visible"), say("nats"), say("interval")], view.visible.map((k, n) => [num(k), num(view.nats[n]), [view.interval[n]].flat().map((v, i) => [i ? " – " : "± ".repeat(!Array.isArray(view.interval[n])), num(v)])])),
  ];
}
function scores(view, ctx) {
  const list = { first: view.first, values: view.scores, start: view.start };
  return [
    h("p", { class: "note" }, say("signs")), over(ctx.trace, { ...list, choose: ctx.choose, label: say("over_label") }), largest(ctx.trace, { ...list, name: say("score") }),
    facts([[say("total"), num(view.total)], [say("difference"), num(view.difference)]]),
  ];
}
function units(view) {
  return view.trackers.map(one => [
    h("h4", {}, one.name.replaceAll("_", " ")), h("p", { class: "note" }, one.told),
    one.best.length ? table([say("layer"), say("value"), say("unit_name"), say("correlation")], one.best.map(best => [num(best.layer), best.value, num(best.unit), num(best.correlation)])) : h("p", {}, "–"),
  ]);
}

// ---- views that nothing here knows: every number, as tables ---------------------------------------------------------------
const isScalar = v => v === null || typeof v !== "object";
const cell = v => isNumber(v) ? num(v) : v === null ? "–" : typeof v === "string" ? visible(v) : String(v);
const isRow = v => v && typeof v === "object" && Object.values(v).every(of => isScalar(of));
export function generic(value) {
  if (isScalar(value)) return cell(value);
  if (Array.isArray(value)) {
    if (value.every(isScalar)) return folded(value.length, h("span", { class: "numbers" }, value.map((v, k) => [k ? ", " : "", cell(v)])));
    if (value.every(isRow)) {
      const head = [...new Set(value.flatMap(Object.keys))];
      return folded(value.length, table(["", ...head], value.map((row, k) => [k, ...head.map(name => row[name] === undefined ? "" : cell(row[name]))])));
    }
    return folded(value.length, table(["", ""], value.map((one, k) => [k, generic(one)])));
  }
  return facts(Object.entries(value).map(([name, of]) => [name, generic(of)]));
}
const folded = (many, tree) => many > 12 ? h("details", {}, h("summary", {}, say("values", { n: many })), tree) : tree;

export const PANELS = { attention, attention_cell, backoff, belief, gates, integrated_gradients: scores, memory, mixture, occlusion: scores, reach, units };

// Names of the entries of a trace that are views, the best known first.
const HEAD = ["format", "run", "task", "model", "tokens", "at"];
const ORDER = ["attention", "attention_cell", "gates", "units", "belief", "backoff", "mixture", "reach", "integrated_gradients", "occlusion", "memory"];
export function viewsOf(trace) {
  const found = Object.keys(trace).filter(name => !HEAD.includes(name) && name !== "surprise" && trace[name] !== null);
  return found.sort((a, b) => (ORDER.indexOf(a) + 1 || 99) - (ORDER.indexOf(b) + 1 || 99));
}
// Is the view about the prediction of one token, that of trace.at?
export const isOfOne = (name, view) => name === "attention_cell" || (view && typeof view === "object" && "first" in view);

// The body of a panel; a view that differs from what its panel expects is shown as a table all the same.
export function body(name, ctx) {
  const view = ctx.trace[name];
  if (!Object.hasOwn(PANELS, name)) return [generic(view)];
  try {
    return PANELS[name](view, ctx);
  } catch (error) {
    console.error(error);
    return [generic(view)];
  }
}
