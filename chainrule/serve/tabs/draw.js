// Draw: images of a caption, one after the other, each from a seed of its own.
import { keep, lookInside, numberField, numbers, own, tabOfOne } from "./fields.js";
import { textBox } from "./place.js";
import { h, mount, render } from "./tree.js";
import { say } from "./words.js";

const MANY = 4, SEED = 42;
const COUNTED = { n: { min: 1, max: 64, placeholder: MANY }, seed: { min: 0, placeholder: SEED } };
const SAMPLER = { temperature: { min: 0, step: "any", placeholder: "–" }, guidance: { min: 0, max: 100, step: "any", placeholder: "–" }, top_k: { min: 0, placeholder: 0 }, top_p: { min: 0, max: 1, step: "any", placeholder: 1 } };

// One question for each image: the k-th has the k-th seed from the given one on, and can be drawn again by itself.
export const questions = (run, caption, { n = MANY, seed = SEED, ...sampler }) => Array.from({ length: n }, (_, k) => ({ model: run.name, prompt: caption, n: 1, seed: seed + k, ...sampler }));
export const source = answer => `data:image/png;base64,${answer.data[0].b64_json}`;
export const image = (src, caption, seed) => h("figure", {}, h("img", { src, alt: say("drawn_alt", { caption, seed }) }),
  h("figcaption", {}, say("draw_seed"), ` ${seed} `, h("a", { href: src, download: `${fileName(caption)}-${seed}.png` }, say("draw_png"))));
// What of the caption the run did not read as it was written.
export const notes = ({ cut, unknown }) => [cut > 0 && ["note_cut_caption", cut], unknown > 0 && ["note_unknown", unknown]].filter(Boolean).map(([key, n]) => h("p", { class: "note" }, say(key, { n })));
const fileName = caption => caption.trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60) || "image";

export const draw = tabOfOne("draw", "/v1/images/generations", "caption", place => new Drawing(place).form());

class Drawing {
  constructor(place) { this.place = place; }
  form() {
    const { place } = this, start = () => this.start(), fields = about => Object.entries(about).map(([name, of]) => numberField(place, name, of, () => {}));
    place.form(
      place.runBoxes(() => { place.remember(); this.form(); place.results(); }, false),
      textBox("caption", say("caption"), own(place, "caption") ?? "", text => keep(place, { caption: text }), start),
      h("div", { class: "tools" }, h("button", { type: "button", class: "chip go", id: "draw", on: { click: start } }, say("draw")), fields(COUNTED)),
      h("details", { class: "options", open: Object.keys(SAMPLER).some(name => own(place, name) !== undefined) }, h("summary", {}, say("draw_sampler")),
        h("div", { class: "tools" }, fields(SAMPLER)), h("p", { class: "note" }, say("draw_tuned"))),
    );
  }
  start() {
    const { place } = this, caption = own(place, "caption") ?? "", [run] = place.chosen();
    place.during(async asked => {
      if (!caption.trim()) { place.results(); return place.alarm(say("give_caption")); }
      const bodies = questions(run, caption, numbers(place, [...Object.keys(COUNTED), ...Object.keys(SAMPLER)]));
      place.results(h("p", { class: "note", id: "drawn", "aria-live": "polite" }, ""), h("div", { class: "notes" }), h("div", { class: "images drawn" }), h("p", { class: "tools" }, lookInside(place, run, { text: caption })));
      for (const [k, body] of bodies.entries()) {
        render(place.resultsHost.querySelector("#drawn"), h("span", {}, say("drawn_of", { k, n: bodies.length })));
        const answer = await place.ask("v1/images/generations", body, asked), src = source(answer);
        if (k === 0) render(place.resultsHost.querySelector(".notes"), notes(answer));
        place.resultsHost.querySelector(".drawn").append(mount(image(src, caption, body.seed)));
      }
      render(place.resultsHost.querySelector("#drawn"), h("span", {}, say("drawn_of", { k: bodies.length, n: bodies.length })));
    });
  }
}
