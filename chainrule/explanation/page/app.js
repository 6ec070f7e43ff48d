// The page of a server: a text, the runs that read it side by side, and what each expects next.
import { candidates, fileOf, following, hasLayer, outdated, post, questions, sameplace } from "./ask.js";
import { parse, write } from "./link.js";
import { themeToggle } from "./theme.js";
import { stretch, visible } from "./tokens.js";
import { greatest, h, num, percent, render } from "./tree.js";
import { Viewer } from "./viewer.js";
import { say, speak } from "./words.js";

const PAUSE = 200;                                        // ms without a further choice before the server is asked again
const given = JSON.parse(document.getElementById("given").textContent), texts = given.texts;
speak(texts.words);
themeToggle();
const runs = given.runs.filter(run => run.explains || run.writes), byName = Object.fromEntries(runs.map(run => [run.name, run]));
const host = document.getElementById("app");
let state = {}, viewers = [], undone = [], timer = 0, asking = new AbortController();

// ---- the question ----------------------------------------------------------------------------------------------------
const can = run => state.mode === "write" ? run.writes : run.explains;
const chosen = () => state.run.map(name => byName[name]).filter(run => run && can(run));
const slow = () => [...new Set(chosen().flatMap(run => run.views.filter(one => !one.usual).map(one => one.name)))];
const titleOf = name => texts.words[`view_${name}`] ?? name.replaceAll("_", " ");
function check(id, name, label, checked, change) {
  return h("label", { class: "chip" }, h("input", { class: "vh", type: "checkbox", id, name, checked, on: { change: event => change(event.target.checked) } }), label);
}
function toggled(list, name, on) { return on ? [...(list || []), name] : (list || []).filter(one => one !== name); }
function form() {
  const modes = ["explain", "write"].map(mode => h("label", { class: "chip" }, h("input", { class: "vh", type: "radio", name: "mode", id: `mode-${mode}`, checked: mode === state.mode, on: { change: () => { state.mode = mode; start(); } } }), say(mode)));
  return [
    h("fieldset", { class: "choice modes" }, modes),
    h("fieldset", {}, h("legend", {}, say("runs")), runs.filter(can).map(run => check(`run-${run.name}`, "run", [run.name, run.name === run.model ? "" : ` · ${run.model}`], state.run.includes(run.name), on => { state.run = toggled(state.run, run.name, on); start(); }))),
    h("label", { for: "text", class: "vh" }, say("text_box")),
    h("textarea", { id: "text", rows: 3, spellcheck: "false", placeholder: say("text_box"), on: {
      input: event => { state.text = event.target.value; delete state.at; if (state.mode === "write") soon(() => start(false)); },
      keydown: event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); start(); } },
    }, after: node => { node.value = state.text; } }),
    h("div", { class: "tools" }, state.mode === "explain"
      ? [h("button", { type: "button", class: "chip go", id: "show", on: { click: () => start() } }, say("show")),
        slow().length > 0 && h("fieldset", {}, h("legend", {}, say("more_views")), slow().map(name => check(`view-${name}`, "view", titleOf(name), (state.view || []).includes(name), on => { state.view = toggled(state.view, name, on); start(); })))]
      : h("button", { type: "button", class: "chip", id: "undo", disabled: !undone.length, on: { click: undo } }, say("undo"))),
    h("p", { class: "alarm", role: "alert", id: "alarm" }),
    h("p", { class: "vh", role: "status", id: "status" }),
  ];
}
const alarm = text => { document.getElementById("alarm").textContent = text; };
const status = text => { document.getElementById("status").textContent = text; };
const remember = () => history.replaceState(null, "", write(state));
function soon(call) { clearTimeout(timer); timer = setTimeout(call, PAUSE); }
function failed(error) {
  if (error.name === "AbortError") return;
  alarm(error instanceof TypeError ? say("unreachable") : error.message);
}

function start(anew = true) {                             // anew: the form is drawn again too, which nobody must be typing into
  clearTimeout(timer);
  asking.abort();
  asking = new AbortController();
  remember();
  if (anew) render(host.querySelector(".ask"), form());
  alarm("");
  if (!chosen().length) return void alarm(say("choose_run"));
  const results = host.querySelector(".viewers");
  results.toggleAttribute("data-many", chosen().length > 1);
  if (state.mode === "write") return void writing(results);
  if (!state.text) { results.replaceChildren(); viewers = []; return void alarm(say("give_text")); }
  explaining(results);
}

// ---- look inside: traces side by side ----------------------------------------------------------------------------------
async function explaining(results) {
  const mine = asking, old = Object.fromEntries(viewers.map(one => [one.run.name, one]));
  viewers = chosen().map(run => old[run.name] ?? new Viewer(document.createElement("div"), { captions: texts.captions, live: true, file: fileOf }));
  viewers.forEach((one, k) => { one.run = chosen()[k]; one.host.className = "viewer"; one.changed = changes => changed(one, changes); });
  if (viewers.some((one, k) => results.children[k] !== one.host) || results.children.length !== viewers.length) results.replaceChildren(...viewers.map(one => one.host));
  try {
    const first = await traced(viewers[0], state.at, mine);
    state.at = first.at;
    viewers[0].show(first, state, viewers[0].run.name);
    remember();
    await Promise.all(viewers.slice(1).map(async one => {
      let trace = await traced(one, Math.min(state.at, first.tokens.length - 1), mine).catch(error => { if (error.name === "AbortError") throw error; return traced(one, undefined, mine); });
      const at = sameplace(first, state.at, trace);
      if (trace.at !== at) trace = await traced(one, at, mine);
      one.show(trace, { ...state, at }, one.run.name);
    }));
  } catch (error) { failed(error); }
}
async function traced(viewer, at, asked, shown) {
  viewer.host.setAttribute("aria-busy", "true");
  status(say("computing"));
  try {
    const [whole, ...apart] = questions(viewer.run, { ...state, at }, shown), { trace } = await post("v1/explain", whole, asked.signal);
    for (const body of apart) {
      const [name] = body.view;
      const one = hasLayer(trace, name, body.layer) && await post("v1/explain", { ...body, at: trace.at }, asked.signal).catch(failed);
      if (one) trace[name] = one.trace[name];
    }
    asked.signal.throwIfAborted();
    return trace;
  } finally {
    if (!asked.signal.aborted) { viewer.host.removeAttribute("aria-busy"); status(""); }
  }
}
function changed(viewer, changes) {                       // something was chosen in one viewer: all follow
  state = { ...state, ...changes };
  const from = viewer.trace, at = viewer.at;
  state.at = viewer === viewers[0] ? at : sameplace(from, at, viewers[0].trace ?? from);
  remember();
  for (const one of viewers) if (one !== viewer && one.trace) one.change({ ...state, at: sameplace(from, at, one.trace) });
  const stale = viewers.filter(one => one.trace && (outdated(one.trace, { ...changes, at: one.at }) || !inside(one)));
  if (stale.length) soon(() => recompute(stale));
}
const inside = one => { const [begin, end] = stretch(one.trace); return one.at >= begin && one.at < end; };
async function recompute(stale) {
  asking.abort();
  const mine = asking = new AbortController();
  alarm("");
  await Promise.all(stale.map(async one => {
    try { one.refresh(await traced(one, one.at, mine, stretch(one.trace))); } catch (error) { failed(error); }
  }));
}

// ---- write: the most probable next tokens, one of which is appended ------------------------------------------------------
async function writing(results) {
  const mine = asking;
  viewers = [];
  try {
    const found = await Promise.all(chosen().map(async run => [run, candidates(await post("v1/completions", { model: run.name, ...following(state.text) }, mine.signal))]));
    render(results, found.map(([run, list]) => h("section", { class: "viewer", "aria-label": run.name }, h("h2", {}, run.name), h("p", { class: "note" }, say("candidates")), next(run, list))));
  } catch (error) { failed(error); }
}
function next(run, list) {
  const most = greatest(list.map(one => one.p));
  return h("ol", { class: "candidates" }, list.map((one, k) => h("li", {}, h("button", { type: "button", id: `next-${run.name}-${k}`, disabled: one.text === null, on: { click: () => append(one.text) } },
    h("span", { class: "piece" }, one.name === "<|end|>" ? say("end") : visible(one.name)), num(one.p, percent), h("span", { class: "share", style: { "--w": `${100 * one.p / most}%` } })))));
}
function append(text) {
  undone.push(state.text);
  state.text += text;
  start();
}
function undo() {
  if (undone.length) state.text = undone.pop();
  start();
}

// ---- the beginning ---------------------------------------------------------------------------------------------------------
function begin() {
  const linked = parse(location.hash), first = runs.find(run => run.sample) ?? runs[0];
  const known = (linked.run || []).filter(name => byName[name]);
  state = { flow: +matchMedia("(max-width: 640px)").matches, ...linked, mode: linked.mode === "write" ? "write" : "explain", run: known.length ? known : [first.name] };
  state.text ??= byName[state.run[0]].sample ?? "";
  undone = [];
  start();
}
document.getElementById("language").addEventListener("click", event => { event.currentTarget.href = event.currentTarget.getAttribute("href").split("#")[0] + location.hash; });
if (runs.length) {
  render(host, h("form", { class: "ask", on: { submit: event => event.preventDefault() } }), h("div", { class: "viewers" }));
  addEventListener("hashchange", begin);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; for (const one of viewers) if (one.trace) one.panels(); } });
  begin();
} else render(host, h("p", { class: "note" }, say("no_runs")));
