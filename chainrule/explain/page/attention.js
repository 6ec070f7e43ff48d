// Attention: a row of weights over the text, and the full path of one cell in numbers.
import { strip } from "./charts.js";
import { facts, largest, named, over, table } from "./tokens.js";
import { h, num, percent, read, rounded } from "./tree.js";
import { say } from "./words.js";

const OF_HEADS = ["weights", "norms"], WHOLE = ["rollout", "relevance"];

export function attention(view, ctx) {
  const offered = [...OF_HEADS.filter(name => view.layers[0].heads[0][name]), ...WHOLE.filter(name => view[name])];
  const measure = offered.includes(ctx.state.measure) ? ctx.state.measure : offered[0];
  const last = view.layers.length - 1, layer = Math.min(ctx.state.layer ?? last, last), heads = view.layers[layer].heads;
  const head = Math.min(ctx.state.head ?? 0, heads.length - 1), form = measure === "norms" ? rounded : percent;
  const list = OF_HEADS.includes(measure) ? row(heads[head], measure) : row(view[measure], "weights"), found = { ...list, first: view.first, form };
  return [
    h("div", { class: "fields" }, measures(offered, measure, ctx), OF_HEADS.includes(measure) && [picker("layer", view.layers.length, layer, ctx), picker("head", heads.length, head, ctx)]),
    h("p", { class: "note" }, say(`measure_${measure}_told`)),
    over(ctx.trace, { ...found, choose: ctx.choose, label: say("over_label") }),
    largest(ctx.trace, { ...found, name: say(`measure_${measure}`) }),
    OF_HEADS.includes(measure) && heads.length > 1 && all(view, heads.map(one => row(one, measure)), form, head, ctx),
  ];
}
const row = (of, name) => ({ values: of[name], start: name === "norms" ? of.start_norm : of.start });

function measures(offered, chosen, ctx) {
  return h("fieldset", { class: "choice" }, h("legend", { class: "vh" }, say("measure")), offered.map(name => h("label", { class: "chip" },
    h("input", { class: "vh", type: "radio", name: `${ctx.id}-measure`, id: `${ctx.id}-measure-${name}`, checked: name === chosen, on: { change: () => ctx.set({ measure: name }) } }), say(`measure_${name}`))));
}
function picker(name, many, chosen, ctx) {
  return h("label", { class: "field" }, say(name), h("select", { id: `${ctx.id}-${name}`, value: String(chosen), on: { change: event => ctx.set({ [name]: +event.target.value }) } },
    Array.from({ length: many }, (_, k) => h("option", { value: String(k) }, k))));
}
// All heads of the layer, one below the other; the start token is the first column.
function all(view, rows, form, head, ctx) {
  const begins = view.first - 1, text = at => at < view.first ? say("start") : `${at} ${named(ctx.trace.tokens[at].text)}`;
  return [h("h4", {}, say("all_heads")), strip({
    rows: rows.map(one => [one.start ?? 0, ...one.values]), labels: rows.map((_, k) => k === head ? `${k} ◂` : k), begin: begins, at: -2,
    choose: at => at >= view.first && ctx.choose(at), label: say("all_heads"), tell: (k, t, v) => `${say("head")} ${k} · ${text(begins + t)} · ${read(v, form)}`,
  })];
}

export function attention_cell(view, ctx) {
  const key = view.key === null ? say("start") : [num(view.key), " ", named(ctx.trace.tokens[view.key].text)];
  const dims = view.q.map((_, d) => d), list = { first: view.first ?? ctx.trace.at - view.weights.length, values: view.weights, start: view.start_weight };
  return [
    ctx.live ? h("div", { class: "fields" }, ["layer", "head"].map(name => asked(name, view[name], ctx))) : facts([[say("layer"), num(view.layer)], [say("head"), num(view.head)]]),
    facts([[say("cell_key"), key]]),
    h("ol", { class: "path" },
      h("li", {}, say("cell_products"), table([say("dimension"), "q", "k", "q·k"], dims.map(d => [d, num(view.q[d]), num(view.k[d]), num(view.products[d])]))),
      h("li", {}, say("cell_score"), " ", num(view.score)),
      h("li", {}, say("cell_scaled"), " ", num(view.score), " × ", num(view.scale), " = ", num(view.scaled)),
      h("li", {}, say("cell_softmax"), " ", num(view.weight, percent), over(ctx.trace, { ...list, form: percent, choose: ctx.choose, label: say("over_label") })),
      h("li", {}, say("cell_mixed"), table([say("dimension"), "v", say("cell_sum")], view.v.map((v, d) => [d, num(v), num(view.mixed[d])]))),
      h("li", {}, say("cell_out"), h("details", {}, h("summary", {}, say("values", { n: view.out.length })), h("span", { class: "numbers" }, view.out.map((v, d) => [d ? ", " : "", num(v)])))),
    ),
  ];
}
const asked = (name, value, ctx) => h("label", { class: "field" }, say(name), h("input", { id: `${ctx.id}-cell-${name}`, type: "number", min: 0, value, on: { change: event => ctx.set({ [name]: +event.target.value }) } }));
