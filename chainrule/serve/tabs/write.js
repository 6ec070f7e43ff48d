// Write: the most probable next tokens, one of which is appended.
import { candidates, following } from "./ask.js";
import { textBox } from "./place.js";
import { visible } from "./tokens.js";
import { greatest, h, num, percent } from "./tree.js";
import { say } from "./words.js";

export const write = {
  name: "write",
  can: run => run.writes,
  offered: given => given.runs.some(run => run.writes),
  open(place) {
    place.settle(place.runs.find(run => run.sample) ?? place.runs[0]);
    place.state.text ??= place.chosen()[0].sample ?? "";
    new Writing(place).start();
  },
};

class Writing {
  constructor(place) { Object.assign(this, { place, undone: [] }); }
  start(anew = true) {                                     // anew: the form is drawn again too, which nobody must be typing into
    const { place } = this;
    if (anew) place.form(this.form());
    place.remember();
    place.during(async asked => {
      if (!place.chosen().length) return place.alarm(say("choose_run"));
      const found = await Promise.all(place.chosen().map(async run => [run, candidates(await place.ask("v1/completions", { model: run.name, ...following(place.state.text) }, asked))]));
      place.results(h("div", { class: "viewers", "data-many": found.length > 1 }, found.map(([run, list]) => h("section", { class: "viewer", "aria-label": run.name }, h("h2", {}, run.name), h("p", { class: "note" }, say("candidates")), this.next(run, list)))));
    });
  }
  form() {
    const { place } = this;
    return [
      place.runBoxes(() => this.start()),
      textBox("text", say("text_box"), place.state.text, text => { place.state.text = text; delete place.state.at; place.soon(() => this.start(false)); }, () => this.start()),
      h("div", { class: "tools" }, h("button", { type: "button", class: "chip", id: "undo", disabled: !this.undone.length, on: { click: () => this.undo() } }, say("undo"))),
    ];
  }
  next(run, list) {
    const most = greatest(list.map(one => one.p));
    return h("ol", { class: "candidates" }, list.map((one, k) => h("li", {}, h("button", { type: "button", id: `next-${run.name}-${k}`, disabled: one.text === null, on: { click: () => this.append(one.text) } },
      h("span", { class: "piece" }, one.name === "<|end|>" ? say("end") : visible(one.name)), num(one.p, percent), h("span", { class: "share", style: { "--w": `${100 * one.p / most}%` } })))));
  }
  append(text) {
    this.undone.push(this.place.state.text);
    this.place.state.text += text;
    this.start();
  }
  undo() {
    if (this.undone.length) this.place.state.text = this.undone.pop();
    this.start();
  }
}
