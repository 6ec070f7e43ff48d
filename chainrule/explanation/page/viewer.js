// A trace: its text beside the panels of its views.
import { linesOf } from "./numbers.js";
import { body, isOfOne, viewsOf } from "./panels.js";
import { csv, download, pictureOf, saveBar } from "./save.js";
import { alternatives, chance, facts, heatLegend, namedAt, partsTold, predictionOf, shownAt, stretch, textOf } from "./tokens.js";
import { h, hundredths, mount, num, percent, render } from "./tree.js";
import { inWords, say, titleOf } from "./words.js";

let made = 0;

// unknown: tokens of the text that the run does not know, which stand in no trace.
export function heading(trace, label, unknown = 0) {
  const found = trace.surprise?.tokens, finite = (found || []).map(one => one.nats).filter(v => v !== null);
  const sum = finite.reduce((a, b) => a + b, 0), known = found?.length > 0 && finite.length === found.length;
  return h("header", { class: "about" }, h("h2", {}, label), h("p", { class: "note" }, trace.model, " · ", inWords(trace.task), " · ", say("counted", { n: trace.tokens.length }),
    known && [" · ", say("mean"), ` ${hundredths(sum / finite.length)}`],
    known && finite.length === trace.tokens.length && [" · ", say("whole"), ` ${hundredths(sum)}`]), unknown > 0 && h("p", { class: "note" }, say("note_unknown", { n: unknown })));  // compares runs of other tokens
}

// Buttons that save the element around them as a picture, and a part of the trace as a table.
function files(trace, name, at, part) {
  const text = part && (() => csv(linesOf(part)));
  return h("div", { after: node => { const around = node.parentElement; node.replaceWith(saveBar(`${trace.run}-${name}-${at}`, say("save_as"), () => pictureOf(around), text)); } });
}

// ctx: trace, at, state, captions, id, width, live, set, choose
export function predictionPanel(ctx) {
  const { trace, at } = ctx, found = trace.surprise.tokens[at - trace.surprise.begin];
  return h("div", { class: "panel", role: "group", "aria-labelledby": `${ctx.id}-now` }, h("h3", { id: `${ctx.id}-now` }, say("prediction", { at, text: namedAt(trace, at) })),
    h("p", { class: "note caption" }, ctx.captions.surprise), predictionOf(trace, at), files(trace, "prediction", at, found));
}
export function panel(name, ctx) {
  const view = ctx.trace[name], elsewhere = isOfOne(name, view) && ctx.at !== ctx.trace.at, title = `${ctx.id}-${name}`;
  return h("div", { class: "panel", role: "group", "aria-labelledby": title, "data-view": name },
    h("div", { class: "panel-head" }, h("h3", { id: title }, titleOf(name)), h("button", { type: "button", class: "chip maximise unpictured", "aria-pressed": "false", id: `${title}-full`, on: { click: maximise } }, say("maximise"))),
    h("p", { class: "note caption" }, ctx.captions[name] || say("unknown_view")),
    elsewhere && h("p", { class: "elsewhere" }, say(ctx.live ? "of_other_live" : "of_other", { at: ctx.trace.at, text: namedAt(ctx.trace, ctx.trace.at) })),
    body(name, ctx), files(ctx.trace, name, isOfOne(name, view) ? ctx.trace.at : ctx.at, view));
}
function maximise(event) {
  const found = event.currentTarget.closest(".panel"), full = found.classList.toggle("full");
  event.currentTarget.setAttribute("aria-pressed", String(full));
  event.currentTarget.textContent = say(full ? "restore" : "maximise");
}

export class Viewer {
  // captions: sentences of the views by name; live: a server computes what is asked for; file(trace): the page of a file, nothing where it failed; changed(changes): the state was changed here.
  constructor(host, { captions, live = false, file = null, changed = () => {} }) {
    Object.assign(this, { host, captions, live, file, changed, id: `viewer${++made}`, state: {} });
  }
  show(trace, state, label = trace.run) {
    Object.assign(this, { trace, label, state: { ...state } });
    this.at = state.at ?? trace.at;
    this.search = "";
    render(this.host, heading(trace, label, this.unknown), h("div", { class: "sides" }, h("div", { class: "side-text" }, this.tools(), h("div", {}, h("div", { class: "text-box" }, this.text()), trace.surprise && heatLegend(), partsTold(trace), files(trace, "text", `${stretch(trace).join("-")}`, trace.surprise))), h("div", { class: "side-panels" })));
    this.listen();
    this.panels();
    this.reveal();
  }
  refresh(trace) {                                         // the trace of the same text for what was chosen meanwhile
    const same = String(stretch(trace)) === String(stretch(this.trace)) && trace.tokens.length === this.trace.tokens.length;
    if (!same) return this.show(trace, { ...this.state, at: trace.at }, this.label);
    this.trace = trace;
    this.panels();
  }
  change(state) {                                          // another token, layer, head … of the same trace
    const flow = this.state.flow;
    this.state = { ...state };
    if (state.flow !== flow) this.retext();
    this.mark(state.at ?? this.trace.at);
  }
  tools() {
    return h("div", { class: "tools" }, h("button", { type: "button", class: "chip", id: `${this.id}-flow`, "aria-pressed": String(!!this.state.flow), on: { click: () => this.set({ flow: this.state.flow ? 0 : 1 }) } }, say("flow")),
      this.live && this.further(), h("input", { type: "search", id: `${this.id}-find`, placeholder: say("find"), "aria-label": say("find"), on: { keydown: event => event.key === "Enter" && this.find(event.target.value) } }),
      h("button", { type: "button", class: "chip", id: `${this.id}-save`, on: { click: () => this.save() } }, say("save_trace")),
      this.file && h("button", { type: "button", class: "chip", id: `${this.id}-save-page`, on: { click: () => this.savePage() } }, say("save_page")));
  }
  further() {                                              // the stretches of a long text before and behind the one that is shown
    const [begin, end] = stretch(this.trace), go = (name, at) => h("button", { type: "button", class: "chip", id: `${this.id}-${name}`, on: { click: () => this.set({ at }) } }, say(name));
    return [begin > 0 && go("earlier", Math.max(0, 2 * begin - end)), end < this.trace.tokens.length && go("later", end)];
  }
  text() { return textOf(this.trace, this.at, `${this.id}-text`, !!this.state.flow); }
  retext() {
    render(this.host.querySelector(".text-box"), this.text());
    this.host.querySelector(`#${this.id}-flow`).setAttribute("aria-pressed", String(!!this.state.flow));
    this.listen();
    this.reveal();
  }
  save() {
    download(`explain-${this.trace.run}-${this.trace.at}.json`, new Blob([JSON.stringify(this.trace)], { type: "application/json" }));
  }
  async savePage() {                                       // the server makes the page of a file
    const name = `explain-${this.trace.run}-${this.trace.at}.html`, made = await this.file(this.trace);
    if (made) download(name, made);
  }
  panels() {
    const host = this.host.querySelector(".side-panels");
    const ctx = { trace: this.trace, at: this.at, state: this.state, captions: this.captions, id: this.id, live: this.live, width: Math.max(260, Math.min(900, host.clientWidth)), set: changes => this.set(changes), choose: at => this.choose(at) };
    const full = host.querySelector(".panel.full")?.dataset.view;
    render(host, this.trace.surprise && predictionPanel(ctx), viewsOf(this.trace).map(name => panel(name, ctx)));
    if (full) host.querySelector(`[data-view="${full}"] .maximise`)?.click();
    for (const box of host.querySelectorAll(".over")) box.querySelector(`[data-at="${this.at}"]`)?.classList.add("chosen");
  }
  set(asked) {                                             // a key belongs to the token that attends to it
    const changes = "at" in asked ? { ...asked, key: undefined } : asked;
    this.change({ ...this.state, at: this.at, ...changes });
    this.changed(changes);
  }
  choose(at) { if (at !== this.at) this.set({ at }); }
  mark(at) {
    const list = this.host.querySelector(`#${this.id}-text`);
    list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.at = at;
    list.querySelector(`[data-at="${at}"]`)?.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", `${this.id}-text-${at}`);
    this.panels();
    this.reveal();
  }
  reveal() {                                               // scrolls the list of tokens alone, never the page
    const list = this.host.querySelector(`#${this.id}-text`), one = list.querySelector("[aria-selected=true]");
    if (!one) return;
    const place = one.getBoundingClientRect(), edge = list.getBoundingClientRect();
    if (place.top < edge.top) list.scrollTop -= edge.top - place.top + 40;
    if (place.bottom > edge.bottom) list.scrollTop += place.bottom - edge.bottom + 40;
  }
  listen() {
    const list = this.host.querySelector(`#${this.id}-text`), [begin, end] = stretch(this.trace);
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    list.addEventListener("keydown", event => {
      if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.choose(Math.max(begin, Math.min(end - 1, this.at + steps[event.key])));
    });
    list.addEventListener("click", event => {
      const one = event.target.closest("[data-at]");
      if (one) this.choose(+one.dataset.at);
    });
    list.addEventListener("pointerover", event => event.pointerType !== "touch" && this.hint(event.target.closest("[data-at]")));
    list.addEventListener("pointerleave", () => this.hint(null));
  }
  hint(node) {                                             // what the run expected in place of the token under the pointer
    this.host.querySelector(".hint")?.remove();
    const found = node && this.trace.surprise?.tokens[+node.dataset.at - this.trace.surprise.begin];
    if (!found) return;
    const at = +node.dataset.at, token = this.trace.tokens[at], edge = this.host.getBoundingClientRect(), place = node.getBoundingClientRect();
    const tip = mount(h("div", { class: "hint", role: "presentation" }, h("b", {}, `${at} ${shownAt(this.trace, at)}`), facts([[say("p"), num(chance(found), percent)], [say("nats"), num(found.nats)], [say("rank"), num(found.rank)]]), alternatives({ best: found.best.slice(0, 5) }, token)));
    this.host.append(tip);
    tip.style.left = `${Math.max(0, Math.min(place.left - edge.left + 24, edge.width - tip.offsetWidth))}px`;
    tip.style.top = `${place.bottom - edge.top + 6}px`;
  }
  find(text) {                                             // the next token in which the text begins, from the chosen one on
    if (!text) return;
    const [begin, end] = stretch(this.trace), texts = this.trace.tokens.map(token => token.text), starts = [];
    let whole = "";
    for (const one of texts) { starts.push(whole.length); whole += one; }
    const from = starts[this.at + 1] ?? whole.length, low = whole.toLowerCase(), wanted = text.toLowerCase();
    const inside = place => place >= 0 ? starts.findLastIndex(start => start <= place) : -1;
    for (const place of [low.indexOf(wanted, from), low.indexOf(wanted, starts[begin])]) {
      const at = inside(place);
      if (at >= begin && at < end) return void this.choose(at);
    }
  }
}
