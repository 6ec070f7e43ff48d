// Attention: a row of weights over the text, and the full path of one cell in numbers.
import { patches, strip } from "./charts.js";
import { facts, largest, named, namedAt, over, table } from "./tokens.js";
import { h, num, percent, read, rounded } from "./tree.js";
import { layerName, say } from "./words.js";

const OF_HEADS = ["weights", "norms"], WHOLE = ["rollout", "relevance"];

export function attention(view, ctx) {
  const offered = [...OF_HEADS.filter(name => view.layers[0].heads[0][name]), ...WHOLE.filter(name => view[name])];
  const measure = offered.includes(ctx.state.measure) ? ctx.state.measure : offered[0], form = measure === "norms" || measure === "relevance" ? rounded : percent;
  const layer = numbered(view.layers, "layer", ctx.state.layer, view.layers.length - 1), head = numbered(layer.heads, "head", ctx.state.head, 0);
  const list = OF_HEADS.includes(measure) ? row(head, measure) : row(view[measure], "weights"), found = { ...list, first: view.first, form };
  return [
    h("div", { class: "fields" }, measures(offered, measure, ctx), OF_HEADS.includes(measure) && [picker("layer", view.layers, layer, ctx), picker("head", layer.heads, head, ctx)]),
    h("p", { class: "note" }, say(`measure_${measure}_told`)),
    overInput(ctx.trace, { ...found, choose: ctx.choose, label: say("over_label") }),
    largest(ctx.trace, { ...found, name: say(`measure_${measure}`) }),
    OF_HEADS.includes(measure) && layer.heads.length > 1 && all(view, layer.heads, measure, form, head, ctx),
    facts([[say("answer"), named(view.answer)], [say("nats_explained"), num(view.nats)]]),
  ];
}
// Numbers over the tokens of the input: those that are patches over their image, the others over the text.
export function overInput(trace, list) {
  const { image } = trace, { first, values, start } = list;
  if (!image) return over(trace, list);
  const words = Math.max(0, image.begin - first), own = values.slice(words), began = start !== undefined && start !== null;
  return [(words > 0 || began) && over(trace, { ...list, values: values.slice(0, words) }),
    patches(image, { ...list, values: own, first: first + words, name: at => namedAt(trace, at) }), words > 0 && own.length > 0 && h("p", { class: "note" }, say("scales_apart"))];
}
// The entry of a number, such as layer 3; the one at a place where there is none.
const numbered = (list, name, number, place) => list.find(one => one[name] === number) ?? list[place];
const row = (of, name) => ({ values: of[name], start: name === "norms" ? of.start_norm : of.start });

function measures(offered, chosen, ctx, own = "self") {
  return h("fieldset", { class: "choice" }, h("legend", { class: "vh" }, say("measure")), offered.map(name => h("label", { class: "chip" },
    h("input", { class: "vh", type: "radio", name: `${ctx.id}-${own}`, id: `${ctx.id}-${own}-${name}`, checked: name === chosen, on: { change: () => ctx.set({ measure: name }) } }), say(`measure_${name}`))));
}
function picker(name, list, chosen, ctx, own = "self") {
  return h("label", { class: "field" }, say(name), h("select", { id: `${ctx.id}-${own}-${name}`, value: String(chosen[name]), on: { change: event => ctx.set({ [name]: +event.target.value }) } },
    list.map(one => h("option", { value: String(one[name]) }, name === "layer" ? layerName(one.layer, list.length) : one[name]))));
}
// All heads of the layer, one below the other; the start token, where there is one, is the first column.
function all(view, heads, measure, form, head, ctx) {
  const rows = heads.map(one => row(one, measure)), begins = rows[0].start === null ? view.first : view.first - 1;
  const text = at => at < view.first ? say("start") : `${at} ${namedAt(ctx.trace, at)}`;
  return headStrip(heads, head, begins, rows.map(one => one.start === null ? one.values : [one.start, ...one.values]), text, form, at => at >= view.first && ctx.choose(at));
}
function headStrip(heads, head, begin, rows, text, form, choose) {
  return [h("h4", {}, say("all_heads")), strip({
    rows, labels: heads.map(one => one === head ? `${one.head} ◂` : one.head), begin, at: -2, choose, label: say("all_heads"),
    tell: (k, t, v) => `${say("head_number", { k: heads[k].head })} · ${text(begin + t)} · ${read(v, form)}`,
  })];
}

export function cross_attention(view, ctx) {
  return toSource(view, ctx, "cross");
}
export function source_attention(view, ctx) {
  return [h("p", {}, say("source_token"), " ", num(view.token), " ", namedAt({ tokens: view.source }, view.token)), toSource(view, ctx, "source")];
}
function toSource(view, ctx, own) {                        // rows over the tokens of the source
  const offered = [...OF_HEADS.filter(name => view.layers[0].heads[0][name]), ...WHOLE.filter(name => view[name])], measure = offered.includes(ctx.state.measure) ? ctx.state.measure : offered[0], ofHead = OF_HEADS.includes(measure), form = measure === "norms" || measure === "relevance" ? rounded : percent;
  const layer = numbered(view.layers, "layer", ctx.state.layer, view.layers.length - 1), head = numbered(layer.heads, "head", ctx.state.head, 0);
  const source = { tokens: view.source }, choose = own === "source" && ctx.live ? at => ctx.set({ source: at }) : undefined, found = { first: 0, values: ofHead ? head[measure] : view[measure], form };
  return [
    h("div", { class: "fields" }, offered.length > 1 && measures(offered, measure, ctx, own), ofHead && [picker("layer", view.layers, layer, ctx, own), picker("head", layer.heads, head, ctx, own)]),
    h("p", { class: "note" }, say(`measure_${measure}_told`)),
    choose && h("p", { class: "note" }, say("source_choose")), over(source, { ...found, choose, label: say("over_label") }), largest(source, { ...found, name: say(`measure_${measure}`) }),
    ofHead && layer.heads.length > 1 && headStrip(layer.heads, head, 0, layer.heads.map(one => one[measure]), at => `${at} ${namedAt(source, at)}`, form),
  ];
}

// ---- one cell ----------------------------------------------------------------------------------------------------------
const list = values => h("span", { class: "numbers" }, values.map((v, k) => [k ? ", " : "", num(v)]));
const hidden = (label, ...trees) => h("details", {}, h("summary", {}, label), trees);
function way(path, to, name) {                             // from the output of the linear map to query or key
  const steps = [["linear", path.linear], ["normed", path.normed], [name, to]].filter(one => one[1]);
  return [
    h("p", {}, say("cell_place"), " ", num(path.place)),
    table([say("dimension"), ...steps.map(([step]) => step === name ? name : say(`cell_${step}`))], to.map((_, d) => [d, ...steps.map(one => num(one[1][d]))])),
    path.cos && [h("p", {}, say("cell_rotation")), h("p", {}, "cos ", list(path.cos)), h("p", {}, "sin ", list(path.sin))],
  ];
}
function logits(view, ctx) {
  const of = { first: view.first, values: view.logits, start: view.start_logit }, weights = { first: view.first, values: view.weights, start: view.start_weight };
  return [
    hidden(say("cell_logits"), over(ctx.trace, { ...of, choose: ctx.choose, label: say("cell_logits") }), largest(ctx.trace, { ...of, name: say("cell_logit") })),
    over(ctx.trace, { ...weights, form: percent, withStart: ctx.live, choose: ctx.live ? key => ctx.set({ key }) : ctx.choose, label: say("over_label") }),
    ctx.live && h("p", { class: "note" }, say("cell_choose")),
  ];
}
function output(view) {
  const columns = [["cell_own", view.out], ["cell_others", view.others], ["cell_bias", view.out_bias], ["cell_output", view.output]].filter(one => one[1]);
  return table([say("dimension"), ...columns.map(one => say(one[0]))], view.output.map((_, d) => [d, ...columns.map(one => num(one[1][d]))]));
}
export function attention_cell(view, ctx) {
  const key = view.key === null ? say("start") : [num(view.key), " ", namedAt(ctx.trace, view.key)];
  return [
    ctx.live ? h("div", { class: "fields" }, asked(view, ctx)) : facts([[say("layer"), num(view.layer)], [say("head"), num(view.head)]]),
    facts([[say("cell_group"), num(view.group)], [say("cell_key"), key]]),
    h("ol", { class: "path" },
      h("li", {}, say("cell_ways"), hidden(say("cell_query"), way(view.q_path, view.q, "q")), hidden(say("cell_key_way"), way(view.k_path, view.k, "k"))),
      h("li", {}, say("cell_products"), table([say("dimension"), "q", "k", "q·k"], view.q.map((v, d) => [d, num(v), num(view.k[d]), num(view.products[d])]))),
      h("li", {}, say("cell_score"), " ", num(view.score)),
      h("li", {}, say("cell_scaled"), " ", num(view.score), " × ", num(view.scale), " = ", num(view.scaled), "; ", say("cell_distance"), " ", num(view.bias)),
      h("li", {}, say("cell_softmax"), " ", num(view.weight, percent), logits(view, ctx)),
      h("li", {}, say("cell_mixed"), table([say("dimension"), "v", say("cell_weighted"), say("cell_sum")], view.v.map((v, d) => [d, num(v), num(view.weighted[d]), num(view.mixed[d])]))),
      h("li", {}, say("cell_out"), hidden(say("values", { n: view.output.length }), output(view))),
    ),
  ];
}
// The layer and the head that are shown: another one must be asked for. Those that there are stand in the view of attention.
function asked(view, ctx) {
  const layers = ctx.trace.attention?.layers ?? [view], heads = layers.find(one => one.layer === view.layer)?.heads ?? [view];
  return [picker("layer", layers, view, ctx, "cell"), picker("head", heads, view, ctx, "cell")];
}
