// Translate: the best translations of a text, and the words of the source that each word attended to.
import { Alignment } from "./alignment.js";
import { during, keep, lookInside, numberField, numbers, own, tabOfOne } from "./fields.js";
import { textBox } from "./place.js";
import { h, num, render } from "./tree.js";
import { say } from "./words.js";

const N_BEST = 3;
const OPTIONS = {
  beams: { min: 1, max: 32, placeholder: 4 }, n_best: { min: 1, max: 32, placeholder: N_BEST },
  length_penalty: { min: -10, max: 10, step: "any", placeholder: "–" }, coverage_penalty: { min: 0, max: 10, step: "any", placeholder: 0 },
};

export const asked = (run, source, options) => ({ model: run.name, input: [source], n_best: N_BEST, ...options });
// The translations of the one source, the best first.
export const found = answer => answer.n_best?.[0] ?? [{ text: answer.translations[0], nats: answer.nats[0], score: null }];
export const attends = run => run.views.some(one => one.name === "cross_attention");

export const translate = tabOfOne("translate", "/v1/translate", "source", place => new Translating(place).start());

class Translating {
  constructor(place) { this.place = place; }
  get run() { return this.place.chosen()[0]; }
  get source() { return own(this.place, "source") ?? ""; }
  start() {
    const { place } = this;
    place.form(this.form());
    place.remember();
    during(place, async asking => {
      if (!this.source.trim()) { place.results(); return place.alarm(say("give_text")); }
      const answer = await place.ask("v1/translate", asked(this.run, this.source, numbers(place, Object.keys(OPTIONS))), asking), list = found(answer);
      const target = list.some(one => one.text === own(place, "target")) ? own(place, "target") : list[0].text;
      place.results(this.notes(answer), list.some(one => one.text.includes("\ufffd")) && h("p", { class: "note" }, say("note_bytes")), this.list(list, target), h("div", { class: "alignment panel" }));
      await this.choose(target, asking);
    });
  }
  form() {
    const { place } = this, again = () => this.start();
    return [
      place.runBoxes(again, false),
      textBox("source-text", say("source_text"), this.source, text => keep(place, { source: text, target: undefined, word: undefined }), again),
      h("div", { class: "tools" }, h("button", { type: "button", class: "chip go", id: "translate", on: { click: again } }, say("translate")), Object.entries(OPTIONS).map(([name, about]) => numberField(place, name, about, again))),
    ];
  }
  notes({ cut, unknown, unended }) {
    return [cut && "note_cut", unknown && "note_unknown", unended && "note_unended"].filter(Boolean).map(key => h("p", { class: "note" }, say(key, { n: unknown })));
  }
  list(list, target) {
    const chosen = list.findIndex(one => one.text === target);
    const radio = (one, k) => h("input", { type: "radio", name: "translation", id: `translation-${k}`, checked: k === chosen, on: { change: () => this.place.during(asking => this.choose(one.text, asking)) } });
    const line = (one, k) => h("tr", {}, h("th", { scope: "row" }, h("label", {}, radio(one, k), " ", h("span", { class: "piece" }, one.text || say("empty_translation")))),
      h("td", {}, num(one.nats)), h("td", {}, one.score === null ? "–" : num(one.score)));
    return h("div", { class: "scroll", role: "group", tabindex: 0, "aria-label": say("translations") }, h("table", { class: "plain translations" }, h("caption", {}, say("translations")),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, say("translation")), h("th", { scope: "col" }, say("log_p")), h("th", { scope: "col" }, say("beam_score")))), h("tbody", {}, list.map(line))));
  }
  async choose(target, asking) {
    const { place, run, source } = this, host = place.resultsHost.querySelector(".alignment"), told = !target ? "empty_translation" : attends(run) ? null : "no_alignment";
    if (target !== own(place, "target")) keep(place, { target, word: undefined });
    render(host, h("div", { class: "aligning" }, told && h("p", { class: "note" }, say(told))), h("p", {}, lookInside(place, run, { text: source, target })));
    if (told) return;
    const state = Object.fromEntries(["layer", "head", "word"].map(name => [name, own(place, name)])), { captions } = place.given.texts;
    await new Alignment(host.querySelector(".aligning"), { run: run.name, source, target, state, captions, ask: body => place.ask("v1/explain", body, asking), failed: error => place.failed(error), set: changes => keep(place, changes) }).open();
  }
}
