// Tokens: one a row or as flowing text, coloured by their surprise; and any numbers drawn over a text.
import { greatest, h, hundredths, isNumber, num, percent, read, rounded } from "./tree.js";
import { say } from "./words.js";

const FULL = 8;                                            // nats that have the full colour; the legend says so
const MOST = 8;                                            // places that the table below a heat lists
const SCRIPT = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

export function visible(text) {                            // white space and control characters can be seen
  if (text === "") return "·";
  return text.replace(/^ +| +$|[\u0000-\u001f\u007f]/g, found => [...found].map(one => SCRIPT[one] ||
    String.fromCharCode(one === "\u007f" ? 0x2421 : 0x2400 + one.charCodeAt(0))).join(""));
}
const flowing = text => text === "" ? "·" : text.replace(/\n/g, "↵\n");
export const named = text => text === "" ? say("part") : `“${visible(text)}”`;

// The token at a place, to be shown and to be spoken of: the last one is empty only where it is the end of the record.
const isEnd = (trace, at) => trace.tokens[at].text === "" && at === trace.tokens.length - 1;
export const shownAt = (trace, at) => isEnd(trace, at) ? say("end") : partOf(trace.tokens, at) ?? visible(trace.tokens[at].text);
export const namedAt = (trace, at) => isEnd(trace, at) ? say("end") : partOf(trace.tokens, at, named) ?? named(trace.tokens[at].text);

// The text of a character of several tokens is that of the last one, and the others are empty: the first of three tokens
// of 가 is shown as 가 1/3. In a text that flows, the empty ones are small numbers in front of it.
function pieceOf(tokens, at) {
  let first = at, last = at;
  while (first > 0 && tokens[first - 1].text === "") first--;
  while (last < tokens.length - 1 && tokens[last].text === "") last++;
  return last > at ? { number: at - first + 1, of: last - first + 1, character: [...tokens[last].text][0] } : null;
}
function partOf(tokens, at, show = visible) {
  const piece = tokens[at].text === "" && pieceOf(tokens, at);
  return piece ? `${show(piece.character)} ${piece.number}/${piece.of}` : null;
}
const flowingAt = ({ tokens }, at) => {
  const piece = tokens[at]?.text === "" && pieceOf(tokens, at);
  return piece ? [...String(piece.number)].map(digit => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("") : flowing(tokens[at]?.text ?? "");
};

// Words and events stand apart where nothing between them is a token or part of one.
export function apart(tokens) {
  const texts = tokens.map(token => token.text);
  return texts.some(text => [...text].length > 1) && !texts.some(text => /\s/.test(text));
}

export function stretch(trace) {                           // [begin, end) of the tokens that views over many show
  const found = trace.surprise || Object.values(trace).find(view => view && isNumber(view.begin) && view.tokens);
  return found ? [found.begin, found.begin + found.tokens.length] : [0, trace.tokens.length];
}
const predicted = (trace, at) => trace.surprise?.tokens[at - trace.surprise.begin];
export const heat = nats => Math.min(1, (nats ?? Infinity) / FULL).toFixed(3);
export const chance = found => found.nats === null ? 0 : Math.exp(-found.nats);

// ---- the text ------------------------------------------------------------------------------------------------------
function row(trace, at, chosen, id) {
  const found = predicted(trace, at);
  return h("li", { id: `${id}-${at}`, role: "option", "aria-selected": String(at === chosen), "data-at": at, class: "token", style: found ? { "--p": heat(found.nats) } : {} },
    h("span", { class: "place" }, at, " "), h("span", { class: "piece" }, shownAt(trace, at)),
    found && [num(found.nats, hundredths, { class: "nats" }), h("span", { class: "vh" }, " ", say("nats")), h("span", { class: "rail" }), found.best.length > 0 && printedBest(found.best[0])]);
}
// What the model held for most probable there: printed alone, as on the screen it stands beside the token that is chosen.
const printedBest = ({ text, p }) => h("span", { class: "printed" }, h("span", { class: "piece" }, visible(text)), " ", num(p, percent));
const printedHead = () => h("li", { class: "token printed", role: "presentation" }, ["place", "token", "nats"].map(name => h("span", { class: name === "token" ? "" : name }, say(name))), h("span", { class: "printed" }, say("most_probable")));
function word(trace, at, chosen, id) {
  const found = predicted(trace, at);
  const label = found ? say("token_label", { at, text: namedAt(trace, at), nats: read(found.nats, hundredths) }) : `${at} ${namedAt(trace, at)}`;
  return h("li", {
    id: `${id}-${at}`, role: "option", "aria-selected": String(at === chosen), "aria-label": label, "data-at": at, class: "word",
    "data-value": found ? String(found.nats) : null, style: found ? { "--p": heat(found.nats) } : {},
  }, isEnd(trace, at) ? say("end") : flowingAt(trace, at));
}
export function textOf(trace, chosen, id, flow) {
  const [begin, end] = stretch(trace), most = trace.tokens.length;
  const plain = (from, to) => to > from && h("li", { role: "presentation", class: "outside" },
    flow ? trace.tokens.slice(from, to).map(token => token.text).join(apart(trace.tokens) ? " " : "") : say("not_shown", { n: to - from }));
  const items = flow || !trace.surprise ? [] : [printedHead()];
  for (let at = begin; at < end; at++) items.push((flow ? word : row)(trace, at, chosen, id));
  return h("ol", {
    id, role: "listbox", tabindex: 0, "aria-label": say("text_label"), "aria-activedescendant": `${id}-${chosen}`,
    class: `text-tokens ${flow ? "flow" : "rows"}${apart(trace.tokens) ? " apart" : ""}`,
  }, plain(0, begin), items, plain(end, most));
}
export const partsTold = ({ tokens }) => tokens.some((_, at) => partOf(tokens, at)) && h("p", { class: "note" }, say("part_told"));
export function heatLegend() {
  return h("p", { class: "heat-legend note" }, h("span", { class: "ramp", "aria-hidden": "true" }, Array.from({ length: 9 }, (_, k) => h("span", { style: { "--p": k / 8 } }))), say("heat_legend", { most: FULL }));
}

// ---- the prediction of one token --------------------------------------------------------------------------------------
export function alternatives(found, token) {
  const most = greatest(found.best.map(one => one.p));
  const line = one => h("tr", { class: one.id === token.id ? "came" : null }, h("th", { scope: "row" }, h("span", { class: "piece" }, visible(one.text)),
    one.id === token.id && h("small", {}, say("came"))), h("td", {}, num(one.p, percent)),
    h("td", { class: "bar-cell" }, h("span", { class: "share", style: { "--w": `${(100 * one.p / most).toFixed(1)}%` } })));
  return h("table", { class: "best" }, h("caption", { class: "vh" }, say("best")), h("thead", { class: "vh" }, h("tr", {},
    h("th", { scope: "col" }, say("token")), h("th", { scope: "col" }, say("p")), h("td", {}))), h("tbody", {}, found.best.map(line)));
}
export function predictionOf(trace, at) {
  const found = predicted(trace, at);
  if (!found) return [h("p", { class: "note" }, say("outside"))];
  return [
    facts([[say("nats"), num(found.nats)], [say("rank"), num(found.rank)], [say("entropy"), num(found.entropy)]]),
    found.best.length ? alternatives(found, trace.tokens[at]) : null,
  ];
}
export const facts = pairs => h("dl", {}, pairs.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));

// ---- numbers over the tokens of a text ----------------------------------------------------------------------------------
// values: of the tokens from first on; start: of the start token, if it has one, which is -1 where it can be chosen.
export function over(trace, { first, values, start, choose, withStart = false, form = rounded, label }) {
  const most = greatest([...values, start]), spaced = apart(trace.tokens);
  const tone = v => ({ "--p": (most && v ? Math.abs(v) / most : 0).toFixed(3) });
  const piece = (v, text, at) => h("span", {
    class: `word${v < 0 ? " minus" : ""}${at === null ? " start" : ""}`, "data-at": choose ? at ?? (withStart ? -1 : null) : null, "data-value": String(v), title: `${at ?? ""} ${read(v, form)}`, style: tone(v),
  }, text);
  const text = [start === undefined || start === null ? null : piece(start, say("start"), null),
    ...values.map((v, k) => piece(v, flowingAt(trace, first + k), first + k))];
  return h("div", { class: `over${spaced ? " apart" : ""}`, role: "img", "aria-label": label, on: choose ? {
    click: event => { const at = event.target.dataset?.at; if (at !== undefined) choose(+at); },
  } : {} }, text);
}
// The places of the largest numbers, as a table.
export function largest(trace, { first, values, start, form = rounded, name }) {
  const found = values.map((v, k) => [v, first + k]);
  if (start !== undefined && start !== null) found.push([start, null]);
  const top = found.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, MOST);
  return table([say("place"), say("token"), name], top.map(([v, at]) => [at === null ? "–" : at, at === null ? say("start") : shownAt(trace, at), num(v, form)]),
    found.length > MOST ? say("largest", { k: MOST, n: found.length }) : null);
}
export function table(head, lines, caption = null) {
  const holds = (tree, name) => Array.isArray(tree) ? tree.some(one => holds(one, name)) : tree?.name === name;
  const words = k => k > 0 && !lines.some(line => holds(line[k], "data")) ? "words" : null;                  // no numbers: from the left
  return h("div", { class: "scroll", role: "group", tabindex: 0, "aria-label": caption || head.join(", ") }, h("table", { class: "plain" }, caption && h("caption", {}, caption),
    h("thead", {}, h("tr", {}, head.map((cell, k) => h("th", { scope: "col", class: words(k) }, cell)))),
    h("tbody", {}, lines.map(line => h("tr", {}, line.map((cell, k) => k ? h("td", { class: words(k) }, cell) : h("th", { scope: "row" }, cell)))))));
}
