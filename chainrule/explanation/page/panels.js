// The panels of the views: each shows what one view found out, for the chosen token where the view is about many.
import { attention, attention_cell, cross_attention, overInput, source_attention } from "./attention.js";
import { bars, doubling, lines, names, stacked, strip } from "./charts.js";
import { facts, largest, namedAt, over, table, visible } from "./tokens.js";
import { h, isNumber, num, percent, read } from "./tree.js";
import { inWords, layerName, say, spoken } from "./words.js";

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
    h("h4", {}, say("gate_means")), names(kinds.map(inWords)), lines({ ...chart, series: kinds.map(kind => view.means[kind]), label: say("gate_means") }),
    k !== null && facts(kinds.map(kind => [inWords(kind), num(view.means[kind][k])])),
    h("h4", {}, say("gate_units")), choice(`${ctx.id}-gate`, say("gate"), kinds, gate, of => ctx.set({ gate: of })),
    strip({ ...chart, rows: view.units.map((_, u) => values.map(row => row[u])), labels: units, label: say("gate_units"),
      tell: (u, t, v) => `${units[u]} · ${t + view.begin} ${namedAt(ctx.trace, t + view.begin)} · ${read(v)}` }),
    k === null ? uncovered() : h("details", {}, h("summary", {}, say("chosen_numbers")),
      table([say("unit_name"), ...kinds.map(inWords)], view.units.map((unit, u) => [num(unit), ...kinds.map(kind => num(view.values[kind][k][u]))]))),
  ];
}
function layerOf(view, ctx) {                              // the layer that a view shows: another one must be asked for
  if (!ctx.live) return facts([[say("layer"), num(view.layer)], [say("layers"), num(view.layers)], [say("size"), num(view.size)]]);
  const layers = Array.from({ length: view.layers }, (_, layer) => String(layer));
  return h("div", { class: "fields" }, choice(`${ctx.id}-asked-layer`, say("layer"), layers, String(view.layer), layer => ctx.set({ layer: +layer }), layer => layerName(+layer, view.layers)));
}
export function choice(id, label, names, chosen, choose, shown = inWords) {
  return h("label", { class: "field" }, label, h("select", { id, value: chosen, on: { change: event => choose(event.target.value) } }, names.map(name => h("option", { value: name }, shown(name)))));
}

function belief(view, ctx) {
  const kinds = ["predicted", "filtered"], kind = kinds.includes(ctx.state.moment) ? ctx.state.moment : kinds[0], { p, rest } = view[kind], k = place(view, p.length, ctx.at);
  const labels = view.states.map(state => say("state", { state })), left = view.size > view.states.length;
  const ranked = k === null ? [] : view.states.map((state, u) => [state, u]).sort((a, b) => p[k][b[1]] - p[k][a[1]]).slice(0, TOP_STATES);
  const emits = u => view.emits[u].map(one => h("span", { class: "emitted" }, visible(one.text), " ", num(one.p, percent)));
  const moment = name => h("label", { class: "chip" }, h("input", { class: "vh", type: "radio", name: `${ctx.id}-moment`, id: `${ctx.id}-${name}`, checked: name === kind, on: { change: () => ctx.set({ moment: name }) } }), say(`belief_${name}`));
  return [
    h("fieldset", { class: "choice" }, h("legend", { class: "vh" }, say("belief_strip")), kinds.map(moment)),
    strip({ rows: [...view.states.map((_, u) => p.map(row => row[u])), ...(left ? [rest] : [])], labels: [...labels, say("rest")], begin: view.begin, at: ctx.at, choose: ctx.choose, label: say("belief_strip"),
      tell: (u, t, v) => `${labels[u] ?? say("rest")} · ${t + view.begin} ${namedAt(ctx.trace, t + view.begin)} · ${read(v, percent)}` }),
    k === null ? uncovered() : [
      table([say("state_name"), say("p"), say("emits")], ranked.map(([state, u]) => [num(state), num(p[k][u], percent), emits(u)]), say("largest_states", { k: ranked.length, n: view.states.length })),
      facts([[say("size_states"), num(view.size)], ...(left ? [[say("rest"), num(rest[k], percent)]] : [])]),
    ],
  ];
}

function backoff(view, ctx) {
  const k = place(view, view.tokens.length, ctx.at), orders = view.tokens.map(token => token.order), one = view.tokens[k ?? 0];
  const text = context => [context.start && h("small", { class: "inline" }, say("start"), " "), context.text === "" ? (context.start ? "" : "–") : visible(context.text)];
  return [
    h("h4", {}, say("orders")), over(ctx.trace, { first: view.begin, values: orders, choose: ctx.choose, label: say("orders") }),
    k === null ? uncovered() : [
      h("p", {}, say("order_chosen"), " ", num(one.order)),
      table([say("length"), say("context"), say("seen"), say("p"), say("reserved"), say("part_of_p")], [
        ...one.contexts.map(context => [num(context.length), text(context), context.seen ? say("yes") : say("no"), num(context.p, percent), num(context.reserved, percent), num(context.share, percent)]),
        ["–", say("uniform"), "", num(view.uniform, percent), "", num(one.share, percent)],
      ], say(view.interpolated ? "interpolated" : "not_interpolated")),
    ],
  ];
}

function mixture(view, ctx) {
  const k = place(view, view.posterior.length, ctx.at), parts = view.parts.map(part => part.run ? `${part.model} (${part.run.split(/[\\/]/).at(-1)})` : part.model);
  return [
    names(parts), stacked({ shares: view.posterior.map(shares => shares ?? []), begin: view.begin, at: ctx.at, width: ctx.width, choose: ctx.choose, label: say("posterior") }),
    k === null ? uncovered() : table([say("part_name"), say("weight"), say("posterior"), say("nats")],
      parts.map((name, part) => [name, num(view.weights[part], percent), num(view.posterior[k]?.[part] ?? null, percent), num(view.nats[k][part])])),
  ];
}

function reach(view, ctx) {
  const list = { first: view.first, values: view.norms, start: view.start };
  return [
    bars({ values: [...view.norms].reverse(), width: ctx.width, label: say("reach_bars"), distance: say("distance") }),
    overInput(ctx.trace, { ...list, choose: ctx.choose, label: say("over_label") }), largest(ctx.trace, { ...list, name: say("norm") }),
  ];
}
const interval = ([low, high]) => [num(low), " – ", num(high)];
function memory(view, ctx) {
  return [
    doubling({ points: view.visible.map((k, n) => [k, view.nats[n]]), width: ctx.width, label: say("memory_curve"), name: say("visible") }),
    table([say("visible"), say("nats"), say("interval")], view.visible.map((k, n) => [num(k), num(view.nats[n]), interval(view.interval[n])])),
  ];
}
function stress(view) {
  return [
    table([say("change_kind"), say("amount"), say("compared"), say("nats"), say("change"), say("interval"), say("bag")],
      view.changes.map(one => [say(`stress_${one.kind}`), num(one.amount), num(one.tokens), num(one.nats), num(one.change), interval(one.interval), num(one.bag)])),
    facts([[say("unchanged"), num(view.nats)], [say("padding"), num(view.padding)], [say("batching"), num(view.batching)]]),
  ];
}
function scores(view, ctx) {
  const list = { first: view.first, values: view.scores };
  return [
    h("p", { class: "note" }, say("signs")), overInput(ctx.trace, { ...list, choose: ctx.choose, label: say("over_label") }), largest(ctx.trace, { ...list, name: say("score") }),
    facts([[say("total"), num(view.total)], [say("difference"), num(view.difference)], ...(isNumber(view.steps) ? [[say("steps"), num(view.steps)]] : [])]),
  ];
}
const labels = view => table([say("label"), say("p")], view.best.map(one => [visible(one.label), num(one.p, percent)]));
function units(view) {
  return view.trackers.map(one => [
    h("h4", {}, spoken(`property_${one.name}`) ? say(`property_${one.name}`) : one.told),
    one.best.length ? table([say("layer"), say("value"), say("unit_name"), say("correlation")], one.best.map(best => [num(best.layer), inWords(best.value), num(best.unit), num(best.correlation)])) : h("p", {}, "–"),
    facts([[say("chance"), num(one.chance)]]),
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
      return folded(value.length, table(["#", ...head], value.map((row, k) => [k, ...head.map(name => row[name] === undefined ? "" : cell(row[name]))])));
    }
    return folded(value.length, table(["#", say("value")], value.map((one, k) => [k, generic(one)])));
  }
  return facts(Object.entries(value).map(([name, of]) => [name, generic(of)]));
}
const folded = (many, tree) => many > 12 ? h("details", {}, h("summary", {}, say("values", { n: many })), tree) : tree;

// The panel of each view, and what it shows of it.
export const PANELS = {
  attention: [attention, "first answer nats layers rollout relevance"],
  attention_cell: [attention_cell, "layer head group first key q_path k_path q k products score scale scaled bias start_logit logits start_weight weights weight v weighted mixed out others out_bias output"],
  backoff: [backoff, "begin uniform interpolated tokens"],
  belief: [belief, "begin size states predicted filtered emits"],
  cross_attention: [cross_attention, "source layers relevance"],
  gates: [gates, "begin layer layers size units means values"],
  labels: [labels, "best"],
  integrated_gradients: [scores, "first scores total difference steps"],
  memory: [memory, "visible nats interval"],
  mixture: [mixture, "begin parts weights posterior nats"],
  occlusion: [scores, "first scores total difference"],
  reach: [reach, "first start norms"],
  source_attention: [source_attention, "source token layers rollout"],
  stress: [stress, "nats changes padding batching"],
  units: [units, "trackers"],
};

// Names of the entries of a trace that are views, the best known first.
const HEAD = ["format", "run", "task", "model", "tokens", "at", "image"];
const ORDER = ["labels", "cross_attention", "source_attention", "attention", "attention_cell", "gates", "units", "belief", "backoff", "mixture", "reach", "integrated_gradients", "occlusion", "memory", "stress"];
export function viewsOf(trace) {
  const found = Object.keys(trace).filter(name => !HEAD.includes(name) && name !== "surprise" && trace[name] !== null);
  return found.sort((a, b) => (ORDER.indexOf(a) + 1 || 99) - (ORDER.indexOf(b) + 1 || 99));
}
// Is the view about the prediction of one token, that of trace.at?
export const isOfOne = (name, view) => ["cross_attention", "source_attention"].includes(name) || (view && typeof view === "object" && "first" in view);

// The body of a panel. What a panel does not show of its view follows as a table, and so does a whole view that is not
// what its panel takes it for: nothing is left out.
export function body(name, ctx) {
  const view = ctx.trace[name];
  if (!Object.hasOwn(PANELS, name)) return [generic(view)];
  const [draw, keys] = PANELS[name], others = Object.entries(view).filter(([key]) => !keys.split(" ").includes(key));
  try {
    return [draw(view, ctx), others.length > 0 && generic(Object.fromEntries(others))];
  } catch (error) {
    console.error(error);
    return [generic(view)];
  }
}
