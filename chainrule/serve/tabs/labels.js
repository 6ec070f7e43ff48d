// Tag and classify: a label for a text or an image, with the probability of every label; a tag for every token.
import { during, imageField, indexOf, keep, lookInside, own } from "./fields.js";
import { textBox } from "./place.js";
import { table, visible } from "./tokens.js";
import { h, num, percent, render } from "./tree.js";
import { say } from "./words.js";

const TAG = "/v1/tag", CLASSIFY = "/v1/classify", LISTED = 12, COLOURS = 10;
export const reads = run => run.routes.includes(TAG) ? "tokens" : run.task === "classify-images" ? "image" : "text";

// One sentence a line; white space separates tokens.
export const sentences = text => text.split("\n").map(line => line.split(/\s+/).filter(Boolean)).filter(line => line.length);
export const tagQuestion = (run, text) => ({ model: run.name, input: sentences(text), posteriors: true });
export const classQuestion = (run, content) => ({ model: run.name, input: [content] });
// Labels with their probabilities, the most probable first.
export const ranked = p => Object.entries(p).sort((a, b) => b[1] - a[1]);

export const labels = {
  name: "labels",
  can: run => run.routes.includes(TAG) || run.routes.includes(CLASSIFY),
  offered: given => given.runs.some(labels.can),
  open(place) {
    place.settle(place.runs[0], false);
    new Labelling(place).start();
  },
};

// ---- what is shown -----------------------------------------------------------------------------------------------------
export function bars(p, label) {
  const all = ranked(p), most = all[0][1] || 1, line = ([name, value], k) => h("tr", { class: k ? null : "came" }, h("th", { scope: "row" }, h("span", { class: "piece" }, visible(name))), h("td", {}, num(value, percent)),
    h("td", { class: "bar-cell" }, h("span", { class: "share", style: { "--w": `${(100 * value / most).toFixed(1)}%` } })));
  const rest = all.slice(LISTED);
  return [
    h("table", { class: "best labels" }, h("caption", { class: "vh" }, label), h("thead", { class: "vh" }, h("tr", {}, h("th", { scope: "col" }, say("label")), h("th", { scope: "col" }, say("p")), h("td", {}))), h("tbody", {}, all.slice(0, LISTED).map(line))),
    rest.length > 0 && h("details", {}, h("summary", {}, say("other_labels", { n: rest.length })), table([say("label"), say("p")], rest.map(([name, value]) => [visible(name), num(value, percent)]))),
  ];
}
// Tokens with their tags below: a button each. The colour repeats the tag, for those who see it.
export function tagged(tokens, tags, names, first, choose) {
  const style = tag => `s${names.indexOf(tag) % COLOURS}`;
  return h("ol", { class: "tagged" }, tokens.map((token, k) => h("li", {}, h("button", { type: "button", id: `token-${first + k}`, class: style(tags[k]), on: {
    pointerenter: event => event.pointerType !== "touch" && choose(first + k), focus: () => choose(first + k), click: () => choose(first + k, true),
  } }, h("span", { class: "piece" }, token), h("small", {}, tags[k])))));
}

class Labelling {
  constructor(place) { Object.assign(this, { place, file: null }); }
  get run() { return this.place.chosen()[0]; }
  get text() { return own(this.place, "text") ?? this.run.sample ?? ""; }
  start() {
    const { place, run } = this, kind = reads(run);
    place.form(this.form(kind));
    place.remember();
    if (kind === "image" && !this.file) { place.stop(); place.alarm(); return place.results(); }
    during(place, async asked => {
      if (kind !== "image" && !this.text.trim()) { place.results(); return place.alarm(say("give_text")); }
      await (kind === "tokens" ? this.tag(asked) : this.classify(asked, kind));
    });
  }
  form(kind) {
    const { place, run } = this, again = () => this.start(), input = kind === "image"
      ? imageField(place, "image-file", this.file?.name, (name, url) => { this.file = { name, url }; this.start(); })
      : textBox("label-text", say("text_box"), this.text, text => keep(place, { text, at: undefined }), again);
    return [
      place.runBoxes(again, false), input,
      h("div", { class: "tools" }, kind !== "image" && h("button", { type: "button", class: "chip go", id: "label", on: { click: again } }, say(kind === "tokens" ? "tag" : "classify")),
        h("details", {}, h("summary", {}, say(kind === "tokens" ? "known_tags" : "known_labels", { n: run.labels.length })), h("p", { class: "note" }, run.labels.join(" · ")))),
    ];
  }
  async classify(asked, kind) {
    const { place, run, file } = this, answer = await place.ask("v1/classify", classQuestion(run, kind === "image" ? file.url : this.text), asked);
    const { cut, unknown } = answer, note = (key, n) => h("p", { class: "note" }, say(key, { n }));
    place.results(kind === "image" && h("p", { class: "images" }, h("img", { class: "given", src: file.url, alt: file.name })),
      h("p", { class: "answer" }, h("b", {}, answer.labels[0])), cut && note("note_cut_text", cut.tokens), unknown && note("note_unknown", unknown[0]),
      bars(answer.p[0], say("label_p")), h("p", { class: "tools" }, kind === "text" && lookInside(place, run, { text: this.text })));
  }
  async tag(asked) {
    const { place, run } = this, answer = await place.ask("v1/tag", tagQuestion(run, this.text), asked);
    this.flat = answer.tokens.flatMap((row, line) => row.map((token, k) => ({ token, line, k, tag: answer.tags[line][k], p: answer.p[line][k] })));
    let first = 0;
    const rows = answer.tokens.map((row, line) => {
      const tree = tagged(row, answer.tags[line], run.labels, first, (at, stays) => this.show(at, stays));
      first += row.length;
      const unknown = answer.unknown?.[line];
      return [tree, h("p", { class: "note" }, say("log_p_of_tags"), " ", num(answer.nats[line])), unknown > 0 && h("p", { class: "note" }, say("note_unknown", { n: unknown }))];
    });
    place.results(h("p", { class: "note" }, say("tag_hint")), rows, h("div", { class: "panel tag-of", "aria-live": "polite" }), h("p", { class: "tools" }, run.explains && h("span", { id: "tag-look" })));
    this.show(indexOf(place, "at", this.flat.length));
  }
  show(at, stays = false) {                                // stays: the address keeps it
    const { place } = this, one = this.flat[at], host = place.resultsHost;
    if (stays) keep(place, { at });
    for (const button of host.querySelectorAll(".tagged button")) button.toggleAttribute("data-chosen", button.id === `token-${at}`);
    render(host.querySelector(".tag-of"), h("h2", {}, `“${one.token}”: ${one.tag}`), bars(one.p, say("tag_p")));
    const look = host.querySelector("#tag-look");
    if (look) render(look, lookInside(place, this.run, { text: this.flat.filter(of => of.line === one.line).map(of => of.token).join(" "), at: one.k }));
  }
}
