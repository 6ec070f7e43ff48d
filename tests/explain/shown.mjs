// Prints, as JSON, what the modules of a page show of a trace: for each view the numbers with their texts, and all texts.
// given: {"trace": …, "words": …, "captions": …}, and what else is asked for
const { trace } = given;
const [{ speak }, { PANELS, body, isOfOne, viewsOf }, tokens, { panel, heading, predictionPanel }, link] = await Promise.all(["words", "panels", "tokens", "viewer", "link"].map(load));
speak(given.words);
const failures = [];
console.error = error => failures.push(String(error));

function collect(tree, into) {
  if (tree === null || tree === undefined || tree === false) return;
  if (Array.isArray(tree)) { for (const one of tree) collect(one, into); return; }
  if (typeof tree !== "object") { into.texts.push(String(tree)); return; }
  const { name, attributes, children } = tree;
  if (name === "data") into.numbers.push([attributes.value, children.join("")]);
  if (attributes["data-value"] !== undefined && attributes["data-value"] !== null) into.drawn.push(attributes["data-value"]);
  if (attributes["data-rows"]) into.drawn.push(...JSON.parse(attributes["data-rows"]).flat().map(String));
  if (attributes.role) into.roles.push([attributes.role, attributes["aria-label"] ?? attributes["aria-labelledby"] ?? null]);
  if (attributes["aria-label"]) into.texts.push(attributes["aria-label"]);
  collect(children, into);
}
const all = tree => { const into = { numbers: [], drawn: [], texts: [], roles: [] }; collect(tree, into); return into; };
const context = (at, state, live = false) => ({ trace, at, state, captions: given.captions, id: "v", width: 640, live, set: () => {}, choose: () => {} });
const states = [...(given.states ?? [{}])];
const shown = {};
for (const name of viewsOf(trace)) {
  shown[name] = { numbers: [], drawn: [], texts: [], roles: [], places: {} };
  for (const state of states) for (let at = 0; at < trace.tokens.length; at++) for (const live of [false, true]) {
    const found = all(panel(name, context(at, state, live)));
    for (const [kind, list] of Object.entries(found)) shown[name][kind].push(...list);
    (shown[name].places[at] ??= []).push(...found.numbers.map(one => one[0]));
  }
}
const [begin, end] = tokens.stretch(trace);
const now = [];
if (trace.surprise) for (let at = begin; at < end; at++) now.push(predictionPanel(context(at, {})));
const text = Object.fromEntries(["rows", "flow"].map(kind => [kind, all(tokens.textOf(trace, trace.at, "v-text", kind === "flow"))]));
console.log(JSON.stringify({ views: shown, prediction: all(now), text, heading: all(heading(trace, trace.run)), failures, known: Object.keys(PANELS),
  ofOne: viewsOf(trace).filter(name => isOfOne(name, trace[name])), links: (given.links ?? []).map(hash => [link.parse(hash), link.write(link.parse(hash))]) }));
