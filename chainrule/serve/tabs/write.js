// Write: a text that one run or several continue, token by token; every change is a branch to go back to.
import { post, stream } from "./ask.js";
import { Branches } from "./branches.js";
import { Draft } from "./draft.js";
import { textBox } from "./place.js";
import { visible } from "./tokens.js";
import { h, render } from "./tree.js";
import { say } from "./words.js";

export const write = {
  name: "write",
  can: run => run.writes,
  offered: given => given.runs.some(run => run.writes),
  open(place) {
    place.settleText();
    if (!kept) kept = new Branches(place.state.text);
    else if (kept.text !== place.state.text) kept.go(kept.grow(place.state.text, { kind: "given" }));
    new Writing(place, kept).start();
  },
};
let kept = null;                                           // the branches stay while the page does
const SETTINGS = [                                         // fields of a request to /v1/completions
  { name: "temperature", usual: 1, min: 0, max: 100, step: .1 }, { name: "top_k", usual: 0, min: 0, step: 1 }, { name: "top_p", usual: 1, min: 0, max: 1, step: .05 },
  { name: "min_p", usual: 0, min: 0, max: 1, step: .01 }, { name: "seed", usual: "", min: 0, step: 1 },
];
const LENGTH = { name: "max_tokens", usual: 40, min: 1, max: 4096, step: 1 };
export function settings(state) {                          // what differs from the usual
  return Object.fromEntries(SETTINGS.map(({ name }) => [name, state[name]]).filter(([, value]) => value !== undefined && value !== "").map(([name, value]) => [name, +value]));
}

class Writing {
  constructor(place, branches) { Object.assign(this, { place, branches, drafts: [], own: {}, notes: {}, writing: false }); }
  get state() { return this.place.state; }
  node(draft) { return this.own[draft.run.name] ?? this.branches.at; }
  textFor(draft) { return this.branches.nodes[this.node(draft)].text; }
  // anew: the form is drawn again too, which nobody must be typing into
  start(anew = true) {
    const { place } = this;
    if (anew) place.form(this.form());
    place.remember();
    if (!place.chosen().length) { place.stop(); place.results(); this.drafts = []; return place.alarm(say("choose_run")); }
    this.arrange();
    place.during(asked => Promise.all(this.drafts.map(draft => this.read(draft, asked))));
  }
  go(id, notes = {}) {                                     // another text is the common one
    this.branches.go(id);
    Object.assign(this, { own: {}, notes });
    this.state.text = this.branches.text;
    delete this.state.at;
    this.start();
  }
  step(name) {
    this.branches[name]();
    Object.assign(this, { own: {}, notes: {} });
    this.state.text = this.branches.text;
    this.start();
  }
  // ---- what is shown ---------------------------------------------------------------------------------------------------
  arrange() {
    const { place } = this, old = Object.fromEntries(this.drafts.map(one => [one.run.name, one])), { captions } = place.given.texts;
    const acts = run => ({ swap: (draft, text) => this.turn(draft, text, "swapped"), append: (draft, text) => this.turn(draft, this.textFor(draft) + text, "appended"), take: draft => this.go(this.node(draft)),
      look: run.explains && (draft => place.go("inspect", { ...this.state, run: [run.name], text: this.textFor(draft), at: undefined })) });
    this.drafts = place.chosen().map(run => old[run.name] ?? Object.assign(new Draft(document.createElement("section"), { captions, acts: acts(run) }), { run }));
    for (const one of this.drafts) { one.host.className = "viewer draft"; one.host.setAttribute("aria-label", one.run.name); }
    if (!place.resultsHost.querySelector(".viewers")) place.results(h("nav", { class: "branches", "aria-label": say("branches") }), h("div", { class: "viewers" }));
    const host = place.resultsHost.querySelector(".viewers");
    host.toggleAttribute("data-many", this.drafts.length > 1);
    if (host.children.length !== this.drafts.length || this.drafts.some((one, k) => host.children[k] !== one.host)) host.replaceChildren(...this.drafts.map(one => one.host));
    this.list();
  }
  list() {
    const found = this.branches.shown(), host = this.place.resultsHost.querySelector(".branches");
    const tail = text => [...visible(text)].length > 48 ? `… ${[...visible(text)].slice(-46).join("")}` : visible(text);
    render(host, found.length > 1 && h("details", { open: !this.folded, on: { toggle: event => { this.folded = !event.currentTarget.open; } } }, h("summary", {}, say("branches_of", { n: found.length })), h("ol", {}, found.map(({ id, depth, how, added }) => h("li", { style: { "--depth": depth } },
      h("button", { type: "button", id: `branch-${id}`, "aria-current": id === this.branches.at ? "true" : null, on: { click: () => this.go(id) } }, h("span", { class: "piece" }, tail(added)), h("small", {}, say(`how_${how.kind}`, how))))))));
  }
  async read(draft, asked) {
    const { place } = this, prompt = this.textFor(draft), model = draft.run.name;
    const next = this.next(draft, asked).catch(error => { place.failed(error); return null; });
    try {
      const trace = await place.ask("page/written", { model, prompt }, asked);
      draft.display(trace, await next, { from: this.branches.written(this.node(draft)), apart: model in this.own, notes: this.notes[model] ?? [] });
    } catch (error) {
      if (asked.signal.aborted) throw error;
      draft.fail(model, error instanceof TypeError ? say("unreachable") : error.message);
    }
  }
  next(draft, asked) { return post("page/next", { model: draft.run.name, prompt: this.textFor(draft), ...settings(this.state) }, asked.signal); }
  form() {
    const { place, branches } = this, tool = (name, call, more = {}) => h("button", { type: "button", class: "chip", id: name, on: { click: call }, ...more }, say(name));
    return [
      place.runBoxes(() => { Object.assign(this, { own: {}, notes: {} }); this.start(); }),
      textBox("text", say("text_box"), place.state.text, text => this.type(text), () => this.proceed()),
      h("div", { class: "tools" }, tool("proceed", () => this.proceed(), { class: "chip go" }), tool("halt", () => place.asking.abort("halt"), { disabled: true }), this.field(LENGTH, () => place.remember()),
        tool("undo", () => this.step("undo"), { disabled: !branches.past.length }), tool("redo", () => this.step("redo"), { disabled: !branches.future.length })),
      h("fieldset", { class: "fields" }, h("legend", {}, say("sampler")), SETTINGS.map(one => this.field(one, () => this.resample()))),
    ];
  }
  field({ name, usual, ...more }, changed) {
    return h("label", { class: "field" }, say(`set_${name}`), h("input", { type: "number", id: `set-${name}`, value: this.state[name] ?? usual, placeholder: usual === "" ? say("any_seed") : null, ...more, on: { input: event => {
      const { value } = event.target;
      this.state[name] = value === "" || +value === usual && usual !== "" ? undefined : value;
      changed();
    } } }));
  }
  // ---- what is done ----------------------------------------------------------------------------------------------------
  type(text) {
    this.state.text = text;
    Object.assign(this, { own: {}, notes: {} });
    delete this.state.at;
    this.branches.type(text);
    for (const name of ["undo", "redo"]) document.getElementById(name).disabled = !this.branches[name === "undo" ? "past" : "future"].length;
    this.place.soon(() => this.start(false));
  }
  turn(draft, text, kind) { this.go(this.branches.grow(text, { kind, run: draft.run.name }, this.node(draft))); }
  resample() {                                             // only what may come next depends on the sampler
    const { place } = this;
    place.remember();
    if (this.writing) return place.soon(() => this.start(false));
    place.soon(() => place.during(asked => Promise.all(this.drafts.map(async draft => draft.trace ? draft.candidates(await this.next(draft, asked)) : this.read(draft, asked)))));
  }
  async proceed() {
    const { place } = this, typing = document.activeElement?.id === "text" ? "text" : "proceed";
    if (!place.chosen().length) return place.alarm(say("choose_run"));
    const asked = place.anew();
    this.busy(true);
    place.status(say("writing"));
    const found = await Promise.all(this.drafts.map(draft => this.continued(draft, asked).catch(error => ({ error, draft }))));
    this.busy(false);
    if (asked.signal.aborted && asked.signal.reason !== "halt") return;
    this.adopt(found.filter(one => !one.error));
    place.alarm(found.filter(one => one.error).map(one => `${one.draft.run.name}: ${one.error instanceof TypeError ? say("unreachable") : one.error.message}`).join(" "));
    document.getElementById(typing).focus();
  }
  busy(on) {
    this.writing = on;
    for (const [name, off] of [["halt", !on], ["proceed", on]]) document.getElementById(name)?.toggleAttribute("disabled", off);
  }
  async continued(draft, asked) {
    const prompt = this.textFor(draft), found = { draft, from: this.node(draft), prompt, added: "", finish: null };
    const body = { model: draft.run.name, prompt, stream: true, logprobs: 0, max_tokens: +(this.state.max_tokens ?? LENGTH.usual), ...settings(this.state) };
    try {
      await stream("v1/completions", body, asked.signal, ({ choices: [choice] }) => {
        found.added += choice.text;
        found.finish = choice.finish_reason ?? found.finish;
        draft.grow(choice.logprobs);
      });
    } catch (error) {
      if (asked.signal.reason !== "halt") throw error;     // what was written until then stays
    }
    return found;
  }
  adopt(found) {                                           // one run: its text is the common one; several: each has its own
    const notes = Object.fromEntries(found.map(({ draft, added, finish }) => [draft.run.name, [finish === "stop" && say("ended"), added.includes("\ufffd") && say("replaced")].filter(Boolean)]));
    const ids = found.filter(one => one.added).map(({ draft, from, prompt, added }) => [draft.run.name, this.branches.grow(prompt + added, { kind: "continued", run: draft.run.name }, from)]);
    if (this.drafts.length === 1 && ids.length) return this.go(ids[0][1], notes);
    Object.assign(this.own, Object.fromEntries(ids));
    this.notes = notes;
    this.start();
  }
}
