// A text as a run reads it: its tokens by their probability, what could stand in their place, and what may come next.
import { chance, facts, heat, namedAt, visible } from "./tokens.js";
import { greatest, h, mount, num, percent, render } from "./tree.js";
import { Viewer } from "./viewer.js";
import { say } from "./words.js";

const nameOf = name => name === "<|end|>" ? say("end") : visible(name.replace(/^bytes:/, ""));
const share = (p, most, kind) => h("span", { class: `measure ${kind}` }, h("span", p > 0 ? { class: "share", style: { "--w": `${100 * p / most}%` } } : {}), num(p, percent));

export class Draft extends Viewer {
  // swap(draft, text), append(draft, text), take(draft), look(draft): what the buttons do
  constructor(host, { captions, acts }) {
    super(host, { captions, live: true });
    Object.assign(this, { acts, picked: false });
  }
  // from: place of the first character that a run has written, null where none did; apart: the text is not the common one;
  // notes: on how it was written
  display(trace, next, { from, apart, notes }) {
    Object.assign(this, { next, from, apart, notes, picked: false });
    const focused = this.host.contains(document.activeElement);
    this.show(trace, { flow: 1 }, trace.run);
    if (focused && !this.host.contains(document.activeElement)) this.host.querySelector(`#${this.id}-text`).focus({ preventScroll: true });
    this.markOwn();
  }
  fail(name, message) { render(this.host, h("h2", {}, name), h("p", { class: "alarm" }, message)); this.trace = null; }
  candidates(next) { this.next = next; if (this.trace) this.panels(); }
  tools() {
    const go = (name, call) => h("button", { type: "button", class: "chip", id: `${this.id}-${name}`, on: { click: call } }, say(name));
    return h("div", { class: "tools" }, this.apart && go("take", () => this.acts.take(this)), this.acts.look && go("look_inside", () => this.acts.look(this)),
      [...this.notes, this.trace.unknown > 0 && say("unknown_read", { n: this.trace.unknown })].filter(Boolean).map(text => h("p", { class: "note" }, text)));
  }
  markOwn() {                                              // what a run has written
    if (this.from === null) return;
    let place = 0;
    this.trace.tokens.forEach((token, at) => {
      place += token.text.length;
      if (place > this.from) this.host.querySelector(`#${this.id}-text [data-at="${at}"]`)?.classList.add("own");
    });
  }
  // Tokens as they are written: of a chunk of a stream.
  grow(logprobs) {
    const list = this.host.querySelector(`#${this.id}-text`);
    for (const [k, name] of (logprobs?.tokens ?? []).entries()) {
      const nats = -logprobs.token_logprobs[k];
      list?.append(mount(h("li", { class: "word own", role: "presentation", style: { "--p": heat(nats) } }, /^(?:bytes:|<\|)/.test(name) ? nameOf(name) : name)));
    }
    if (list) list.scrollTop = list.scrollHeight;
  }
  choose(at) {
    this.picked = true;
    if (at === this.at) this.panels(); else super.choose(at);
  }
  panels() {
    const host = this.host.querySelector(".side-panels");
    render(host, this.picked && this.chosenPanel(), this.next && this.nextPanel());
  }
  chosenPanel() {
    const { trace, at } = this, found = trace.surprise.tokens[at - trace.surprise.begin];
    if (!found) return null;
    const most = greatest(found.best.map(one => one.p)), came = trace.tokens[at].id;
    const before = trace.tokens.slice(0, at).map(token => token.text).join("");
    return h("div", { class: "panel", role: "group", "aria-labelledby": `${this.id}-chosen` }, h("h3", { id: `${this.id}-chosen` }, say("prediction", { at, text: namedAt(trace, at) })),
      facts([[say("p"), num(chance(found), percent)], [say("rank"), num(found.rank)], [say("nats"), num(found.nats)], [say("entropy"), num(found.entropy)]]),
      h("p", { class: "note" }, say("swap")),
      h("ol", { class: "candidates" }, found.best.map((one, k) => h("li", {}, h("button", { type: "button", id: `swap-${this.run.name}-${k}`, disabled: one.adds === null || one.id === came, title: one.adds === null ? say("no_text") : null, on: { click: () => this.acts.swap(this, before + one.adds) } },
        h("span", { class: "piece" }, visible(one.text), one.id === came && h("small", {}, ` ${say("came")}`)), share(one.p, most, "drawn"))))));
  }
  nextPanel() {
    const { candidates, others, can_come } = this.next, most = greatest([...candidates, others].flatMap(one => [one.p, one.drawn]));
    const both = one => h("span", { class: "measures" }, share(one.p, most, "predicted"), share(one.drawn, most, "drawn"));
    return h("div", { class: "panel", role: "group", "aria-labelledby": `${this.id}-next` }, h("h3", { id: `${this.id}-next` }, say("next_token")),
      h("p", { class: "note" }, say("append")),
      h("p", { class: "names" }, ["predicted", "drawn"].map(kind => h("span", {}, h("span", { class: `measure key ${kind}`, "aria-hidden": "true" }, h("span", { class: "share", style: { "--w": "22px" } })), say(kind)))),
      h("ol", { class: "candidates" }, candidates.map((one, k) => h("li", {}, h("button", { type: "button", id: `next-${this.run.name}-${k}`, disabled: one.adds === null, title: one.adds === null ? say("no_text") : null, class: one.drawn === 0 ? "out" : null, on: { click: () => this.acts.append(this, one.adds) } },
        h("span", { class: "piece" }, nameOf(one.name)), both(one)))),
        others.n > 0 && h("li", { class: "others" }, h("span", {}, say("others", { n: others.n })), both(others))),
      h("p", { class: "note" }, say("can_come", { n: can_come, all: candidates.length + others.n })));
  }
}
