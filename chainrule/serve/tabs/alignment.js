// Alignment: which words of a source a run attended to when it predicted each word of a translation.
import { choiceField } from "./fields.js";
import { apart, namedAt, shownAt, table } from "./tokens.js";
import { h, num, percent, read, render } from "./tree.js";
import { layerName, say } from "./words.js";

const SENTENCE = 48;                                       // tokens of a translation whose rows are all asked for at once
const WINDOW = 16;                                         // tokens of a longer one that are asked for around a chosen word
const MATRIX = 24;                                         // words of a side that are shown as a matrix
const AT_ONCE = 4;                                         // questions that wait for an answer at a time
const LARGEST = 3;

// ---- numbers ---------------------------------------------------------------------------------------------------------
export const question = (run, source, target, at) => ({ model: run, text: source, target, at, view: ["cross_attention"] });

// Words of a list of tokens: places from begin on, before end. White space belongs to the word behind it.
export function wordsOf(tokens) {
  const single = apart(tokens), found = [];
  tokens.forEach(({ text }, k) => {
    const last = found.at(-1), isEnd = text === "" && k === tokens.length - 1;
    if (!last || single || isEnd || /^\s/.test(text) || /\S\s+$/.test(last.text)) found.push({ text, begin: k, end: k + 1 });
    else { last.text += text; last.end = k + 1; }
  });
  return found;
}
// The weights of one token over the source: of one head, or the mean over all heads of the layer.
export function weightsOf(view, layer, head) {
  const { heads } = view.layers[layer] ?? view.layers.at(-1), one = heads.find(of => of.head === head);
  if (one) return one.weights;
  return heads[0].weights.map((_, s) => heads.reduce((sum, of) => sum + of.weights[s], 0) / heads.length);
}
// The weights of a word over the words of the source: the sum over the tokens of a source word, the mean over the tokens
// of the word; null where a row is missing.
export function weightsOfWord(word, rows, sources) {
  const mine = rows.slice(word.begin, word.end);
  if (mine.length < word.end - word.begin || mine.some(row => !row)) return null;
  const sum = (row, { begin, end }) => row.slice(begin, end).reduce((a, b) => a + b, 0);
  return sources.map(source => mine.reduce((total, row) => total + sum(row, source), 0) / mine.length);
}
const ranked = weights => weights.map((p, k) => [k, p]).filter(([, p]) => p !== null).sort((a, b) => b[1] - a[1]);

// ---- the panel ---------------------------------------------------------------------------------------------------------
export class Alignment {
  // run: its name; ask(body) answers with a trace, failed(error) tells of one; state: layer, head and the word that is chosen; set(changes): into the address
  constructor(host, { run, source, target, ask, failed, captions, state, set }) {
    Object.assign(this, { host, run, source, target, ask, failed, captions, state, set, views: [], chosen: null });
  }
  async open() {
    const first = await this.row(0);
    this.targets = wordsOf(first.tokens);
    this.sources = wordsOf(this.views[0].source);
    this.trace = first;
    this.draw();
    if (first.tokens.length <= SENTENCE) await this.load(0, first.tokens.length);
    if (this.targets[Number(this.state.word)]) await this.choose("target", +this.state.word);
  }
  async row(at) {
    const { trace } = await this.ask(question(this.run, this.source, this.target, at));
    this.views[at] = trace.cross_attention;
    return trace;
  }
  async load(begin, end) {                                 // the rows of a stretch that are missing, a few at a time; null: it is asked for
    const missing = Array.from({ length: end - begin }, (_, k) => begin + k).filter(at => this.views[at] === undefined), queue = [...missing];
    if (!missing.length) return;
    for (const at of missing) this.views[at] = null;
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, async () => { while (queue.length) await this.row(queue.shift()); }));
    } finally {
      for (const at of missing) if (this.views[at] === null) delete this.views[at];
    }
    this.fill();
  }
  get layer() { const last = this.views[0].layers.length - 1; return this.views[0].layers[this.state.layer] ? +this.state.layer : last; }
  get head() { return this.state.head === undefined ? undefined : +this.state.head; }
  // Of each word of the translation: its weights over the words of the source, or null.
  weights() {
    const rows = this.trace.tokens.map((_, at) => this.views[at] && weightsOf(this.views[at], this.layer, this.head));
    return this.targets.map(word => weightsOfWord(word, rows, this.sources));
  }
  draw() {
    render(this.host, h("h2", {}, say("alignment")), h("p", { class: "note" }, say("alignment_how"), " ", this.captions.cross_attention), this.choices(),
      this.side("source", this.sources), this.side("target", this.targets),
      h("p", { class: "readout note", id: "aligned", "aria-live": "polite" }, say("alignment_hint")), h("div", { class: "filled" }));
    this.fill();
  }
  choices() {
    const { layers } = this.views[0], { heads } = layers[this.layer] ?? layers.at(-1);
    const change = changes => { Object.assign(this.state, changes); this.set(changes); this.draw(); };
    const headNames = [["", say("mean_of_heads")], ...heads.map(one => [one.head, one.head])];
    return h("div", { class: "fields" },
      layers.length > 1 && choiceField("align-layer", say("layer"), layers.map(one => [one.layer, layerName(one.layer, layers.length)]), this.layer, layer => change({ layer: +layer })),
      heads.length > 1 && choiceField("align-head", say("head"), headNames, this.head ?? "", head => change({ head: head === "" ? undefined : +head })));
  }
  side(name, words) {
    const choose = (k, stays) => this.choose(name, k, stays).catch(this.failed);
    const button = (_, k) => h("li", {}, h("button", { type: "button", id: `${name}-${k}`, "aria-describedby": "aligned", on: {
      pointerenter: event => event.pointerType !== "touch" && choose(k), focus: () => choose(k), click: () => choose(k, true),
    } }, this.label(name, k)));
    return [h("h3", { id: `aligned-${name}` }, say(`aligned_${name}`)), h("ol", { class: "aligned", "aria-labelledby": `aligned-${name}` }, words.map(button))];
  }
  tokens(name) { return name === "source" ? { tokens: this.views[0].source } : this.trace; }
  word(name, k) { return (name === "source" ? this.sources : this.targets)[k]; }
  label(name, k) { const { text, begin } = this.word(name, k); return text.trim() || shownAt(this.tokens(name), begin); }
  text(name, k) { const { text, begin } = this.word(name, k); return text.trim() ? `“${text.trim()}”` : namedAt(this.tokens(name), begin); }
  async choose(name, k, stays = false) {                   // stays: the address keeps it
    if (stays) this.set({ word: name === "target" ? k : undefined });
    if (this.chosen?.[0] === name && this.chosen[1] === k) return;
    this.chosen = [name, k];
    this.mark();
    if (name !== "target" || this.weights()[k]) return;
    const { begin, end } = this.targets[k], from = Math.max(0, begin - WINDOW / 2);
    await this.load(from, Math.min(this.trace.tokens.length, Math.max(end, from + WINDOW)));
  }
  // The weights of the chosen word over the words of the other side.
  shares() {
    const [name, k] = this.chosen, all = this.weights();
    return name === "target" ? all[k] : all.map(row => row && row[k]);
  }
  mark() {                                                 // the other side, as dark as its weights
    if (!this.chosen) return;
    const [name, k] = this.chosen, other = name === "source" ? "target" : "source", found = this.shares();
    for (const button of this.host.querySelectorAll(".aligned button")) {
      const [side, at] = button.id.split("-"), p = side === other ? found?.[+at] : null;
      button.style.setProperty("--p", p ? p.toFixed(3) : "0");
      button.toggleAttribute("data-chosen", side === name && +at === k);
      button.toggleAttribute("data-most", side === other && !!found && ranked(found)[0]?.[0] === +at);
    }
    const told = found ? ranked(found).slice(0, LARGEST).map(([at, p]) => `${this.text(other, at)} ${read(p, percent)}`).join(" · ") : say("computing");
    const partly = name === "source" && found.includes(null);
    this.host.querySelector("#aligned").textContent = `${this.text(name, k)} ${name === "target" ? "←" : "→"} ${told}${partly ? ` · ${say("alignment_partly")}` : ""}`;
  }
  fill() {                                                 // what needs many rows
    const all = this.weights(), rows = all.map((row, k) => row && [k, row]).filter(Boolean);
    const most = rows.map(([k, row]) => { const [[at, p]] = ranked(row); return [this.text("target", k), this.text("source", at), num(p, percent)]; });
    const small = rows.length === this.targets.length && this.targets.length <= MATRIX && this.sources.length <= MATRIX;
    const told = table([say("aligned_target"), say("most_attended"), say("weight")], most);
    render(this.host.querySelector(".filled"), small && this.matrix(all), h("details", {}, h("summary", {}, say("alignment_table", { n: rows.length, of: this.targets.length })), told));
    this.mark();
  }
  matrix(all) {
    const cell = (p, s, k) => h("td", { style: { "--p": p.toFixed(3) }, title: `${this.text("target", k)} ← ${this.text("source", s)} ${read(p, percent)}` }, num(p, percent, { class: "vh" }));
    const about = h("p", { class: "note", id: "align-matrix" }, say("alignment_matrix"));
    return [about, h("div", { class: "scroll", role: "group", tabindex: 0, "aria-labelledby": "align-matrix" }, h("table", { class: "align-matrix", "aria-labelledby": "align-matrix" },
      h("thead", {}, h("tr", {}, h("td", {}), this.sources.map((_, s) => h("th", { scope: "col" }, h("span", {}, this.label("source", s)))))),
      h("tbody", {}, all.map((row, k) => h("tr", {}, h("th", { scope: "row" }, this.label("target", k)), row.map((p, s) => cell(p, s, k)))))))];
  }
}
