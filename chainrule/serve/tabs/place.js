// Where a tab stands: its form, messages and results, the state that the address keeps, and questions to the server.
import { post } from "./ask.js";
import { h, render } from "./tree.js";
import { say } from "./words.js";

const PAUSE = 200;                                        // ms without a further choice before the server is asked again

export class Place {
  // given: what the server told the page; state: of all tabs; keep(state): into the address
  constructor(host, tab, given, state, keep) {
    Object.assign(this, { host, tab, given, state: { ...state }, keep, timer: 0, asking: new AbortController() });
    this.runs = given.runs.filter(run => tab.can?.(run));
    this.byName = Object.fromEntries(this.runs.map(run => [run.name, run]));
  }
  // go(name, state): to another tab
  open(go) {
    this.go = go;
    const told = `lead_${this.tab.name}`;
    render(this.host, h("p", { class: "lead" }, say(told)), h("form", { class: "ask", on: { submit: event => event.preventDefault() } }),
      h("p", { class: "alarm", role: "alert", id: "alarm" }), h("p", { class: "vh", role: "status", id: "status" }), h("div", { class: "results" }));
    this.closing = this.tab.open(this);
    this.remember();
  }
  close() {
    this.stop();
    this.closing?.();
  }
  form(...trees) { render(this.host.querySelector(".ask"), ...trees); }
  results(...trees) { render(this.host.querySelector(".results"), ...trees); }
  get resultsHost() { return this.host.querySelector(".results"); }

  // ---- the chosen runs ---------------------------------------------------------------------------------------------
  chosen() { return (this.state.run || []).map(name => this.byName[name]).filter(Boolean); }
  // Begin with runs that the tab can ask: those of the address, else the first; a tab for one run has one.
  settle(first = this.runs[0], many = true) {
    const known = this.chosen().map(run => run.name);
    this.state.run = known.length ? (many ? known : known.slice(0, 1)) : [first.name];
  }
  // The same for runs of text, and a text where the address has none.
  settleText() {
    this.settle(this.runs.find(run => run.sample) ?? this.runs[0]);
    this.state.text ??= this.chosen()[0].sample ?? "";
  }
  runBoxes(change, many = true) {
    const name = run => [run.name, run.name === run.model ? "" : ` · ${run.model}`];
    return h("fieldset", {}, h("legend", {}, say("runs")), this.runs.map(run => box(many ? "checkbox" : "radio", `run-${run.name}`, "run", name(run), this.state.run.includes(run.name), on => {
      this.state.run = many ? toggled(this.state.run, run.name, on) : [run.name];
      change();
    })));
  }

  // ---- the address and the server --------------------------------------------------------------------------------------
  set(changes) { Object.assign(this.state, changes); this.remember(); }
  remember() { this.keep(this.state); }
  alarm(text = "") { this.host.querySelector("#alarm").textContent = text; }
  status(text = "") { this.host.querySelector("#status").textContent = text; }
  soon(call) { clearTimeout(this.timer); this.timer = setTimeout(call, PAUSE); }
  stop() { clearTimeout(this.timer); this.asking.abort(); }
  // A new question: what was asked before is dropped. The answer holds what ask() needs to know whether it still stands.
  anew() {
    this.stop();
    this.alarm();
    return this.asking = new AbortController();
  }
  ask(path, body, asked = this.asking) { return post(path, body, asked.signal); }
  failed(error) {
    if (error.name === "AbortError") return;
    this.alarm(error instanceof TypeError ? say("unreachable") : error.message);
  }
  // Do something that asks the server; the results are marked as busy meanwhile.
  async during(call) {
    const asked = this.anew(), results = this.resultsHost;
    results.setAttribute("aria-busy", "true");
    this.status(say("computing"));
    try {
      await call(asked);
    } catch (error) {
      this.failed(error);
    } finally {
      if (this.asking === asked && !asked.signal.aborted) { results.removeAttribute("aria-busy"); this.status(); }
    }
  }
}

// type: "checkbox" or "radio", as a chip
export function box(type, id, name, label, checked, change) {
  return h("label", { class: "chip" }, h("input", { class: "vh", type, id, name, checked, on: { change: event => change(event.target.checked) } }), label);
}
export function toggled(list, name, on) { return on ? [...(list || []), name] : (list || []).filter(one => one !== name); }
// A text of several lines: Ctrl + Enter submits it.
export function textBox(id, label, value, input, submit) {
  return [
    h("label", { for: id, class: "vh" }, label),
    h("textarea", { id, rows: 3, spellcheck: "false", placeholder: label, on: {
      input: event => input(event.target.value),
      keydown: event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); } },
    }, after: node => { node.value = value; } }),
  ];
}
