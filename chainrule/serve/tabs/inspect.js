// Look inside: traces of one text side by side.
import { fileOf, hasLayer, outdated, questions } from "./ask.js";
import { placeIn, sameText } from "./places.js";
import { imageField } from "./fields.js";
import { reads } from "./labels.js";
import { box, textBox, toggled } from "./place.js";
import { stretch } from "./tokens.js";
import { h } from "./tree.js";
import { Viewer } from "./viewer.js";
import { say, titleOf } from "./words.js";

export const inspect = {
  name: "inspect",
  can: run => run.explains,
  offered: given => given.runs.some(run => run.explains),
  open(place) {
    place.settleText();
    place.state = { flow: +matchMedia("(max-width: 640px)").matches, ...place.state };
    const inspection = new Inspection(place);
    inspection.start();
    let width = innerWidth;
    const resized = () => { if (innerWidth !== width) { width = innerWidth; inspection.redraw(); } };
    addEventListener("resize", resized);
    return () => removeEventListener("resize", resized);
  },
};
const ofImage = run => reads(run) === "image";
const inside = one => { const [begin, end] = stretch(one.trace); return one.at >= begin && one.at < end; };

class Inspection {
  constructor(place) { Object.assign(this, { place, viewers: [] }); }
  redraw() { for (const one of this.viewers) if (one.trace) one.panels(); }
  slow() { return [...new Set(this.place.chosen().flatMap(run => run.views.filter(one => !one.usual).map(one => one.name)))]; }
  form() {
    const { place } = this, { state } = place;
    const more = name => box("checkbox", `view-${name}`, "view", titleOf(name), (state.view || []).includes(name), on => { state.view = toggled(state.view, name, on); this.start(); });
    return [
      place.runBoxes(() => { place.state.text ||= place.chosen().at(-1)?.sample ?? ""; this.start(); }),
      place.chosen().some(ofImage) ? imageField(place, "inspect-image", this.image?.name, (name, url) => { this.image = { name, url }; delete state.at; this.start(); }) : textBox("text", say("text_box"), state.text, text => { state.text = text; delete state.at; delete state.target; }, () => this.start()),
      place.chosen().some(run => run.takes.includes("target")) && textBox("target", say("target_box"), state.target ?? "", text => { state.target = text; delete state.at; }, () => this.start()),
      h("div", { class: "tools" }, h("button", { type: "button", class: "chip go", id: "show", on: { click: () => this.start() } }, say("show")),
        this.slow().length > 0 && h("fieldset", {}, h("legend", {}, say("more_views")), this.slow().map(more))),
    ];
  }
  // What the chosen runs read. An image is not kept in the address, and runs of images and of texts are not mixed: the
  // last one that was chosen decides.
  get input() { return this.place.chosen().some(ofImage) ? this.image?.url : this.place.state.text; }
  start() {
    const { place } = this, last = place.chosen().at(-1), runs = place.chosen().filter(run => ofImage(run) === ofImage(last));
    place.state.run = runs.map(run => run.name);
    place.form(this.form());
    place.remember();
    const asked = place.anew();
    if (!runs.length || !this.input) {
      place.results();
      this.viewers = [];
      return place.alarm(say(!runs.length ? "choose_run" : ofImage(last) ? "give_image" : "give_text"));
    }
    this.arrange(runs);
    this.explain(asked).catch(error => place.failed(error));
  }
  arrange(runs) {                                          // a viewer for each run; those that are there already stay
    const old = Object.fromEntries(this.viewers.map(one => [one.run.name, one])), { captions } = this.place.given.texts;
    this.viewers = runs.map(run => Object.assign(old[run.name] ?? new Viewer(document.createElement("div"), { captions, live: true, file: trace => fileOf(trace).catch(error => this.place.failed(error)) }), { run }));
    for (const one of this.viewers) { one.host.className = "viewer"; one.changed = changes => this.changed(one, changes); }
    const row = this.place.resultsHost.querySelector(".viewers");
    if (!row) this.place.results(h("div", { class: "viewers" }));
    const host = row ?? this.place.resultsHost.querySelector(".viewers");
    host.toggleAttribute("data-many", runs.length > 1);
    if (this.viewers.some((one, k) => host.children[k] !== one.host) || host.children.length !== runs.length) host.replaceChildren(...this.viewers.map(one => one.host));
  }
  async explain(asked) {
    const { place, viewers } = this, { state } = place;
    const first = await this.traced(viewers[0], state.at, asked);
    state.at = first.at;
    viewers[0].show(first, state, viewers[0].run.name);
    place.remember();
    await Promise.all(viewers.slice(1).map(async one => {
      let trace = await this.traced(one, Math.min(state.at, first.tokens.length - 1), asked).catch(error => { if (error.name === "AbortError") throw error; return this.traced(one, undefined, asked); });
      if (!sameText(first, trace)) {
        place.alarm(say("other_text", { name: one.run.name }));
        return one.show(trace, { ...state, at: trace.at }, one.run.name);
      }
      const at = placeIn(first, state.at, trace);
      if (trace.at !== at) trace = await this.traced(one, at, asked);
      one.show(trace, { ...state, at }, one.run.name);
    }));
  }
  async traced(viewer, at, asked, shown) {
    const { place } = this;
    viewer.host.setAttribute("aria-busy", "true");
    place.status(say("computing"));
    try {
      const [whole, ...apart] = questions(viewer.run, { ...place.state, text: this.input, at }, shown), { trace, unknown = 0 } = await place.ask("v1/explain", whole, asked);
      for (const body of apart) {
        const [name] = body.view;
        const one = hasLayer(trace, name, body.layer) && await place.ask("v1/explain", { ...body, at: trace.at }, asked).catch(error => place.failed(error));
        if (one) trace[name] = one.trace[name];
      }
      asked.signal.throwIfAborted();
      viewer.unknown = unknown;
      return trace;
    } finally {
      if (!asked.signal.aborted) { viewer.host.removeAttribute("aria-busy"); place.status(); }
    }
  }
  changed(viewer, changes) {                               // something was chosen in one viewer: all follow
    const { place } = this, from = viewer.trace, at = viewer.at, viewers = this.viewers.filter(one => one === viewer || (one.trace && sameText(one.trace, from)));
    const [first] = this.viewers, kept = !viewers.includes(first) ? place.state.at : viewer === first ? at : placeIn(from, at, first.trace);
    Object.assign(place.state, changes, { at: kept });
    place.remember();
    for (const one of viewers) if (one !== viewer) one.change({ ...place.state, at: placeIn(from, at, one.trace) });
    const stale = viewers.filter(one => outdated(one.trace, { ...changes, at: one.at }) || !inside(one));
    if (stale.length) place.soon(() => this.recompute(stale));
  }
  async recompute(stale) {
    const asked = this.place.anew();
    await Promise.all(stale.map(async one => {
      try { one.refresh(await this.traced(one, one.at, asked, stretch(one.trace))); } catch (error) { this.place.failed(error); }
    }));
  }
}
