// The page of a server: tabs, each of which asks the server for something and shows what it answers.
import { compare } from "./compare.js";
import { draw } from "./draw.js";
import { forecast } from "./forecast.js";
import { inspect } from "./inspect.js";
import { labels } from "./labels.js";
import { learn } from "./learn.js";
import { parse, write as written } from "./link.js";
import { Place } from "./place.js";
import { themeToggle } from "./theme.js";
import { translate } from "./translate.js";
import { h, render } from "./tree.js";
import { say, speak } from "./words.js";
import { write } from "./write.js";

const given = JSON.parse(document.getElementById("given").textContent);
speak(given.texts.words);
themeToggle();
// A tab: its name; can(run), does it ask such runs; offered(given), is there anything for it to do; open(place), which
// fills the place and returns what closes it, if anything must be stopped.
const tabs = [write, inspect, compare, translate, draw, labels, forecast, learn].filter(tab => tab.offered(given));
const host = document.getElementById("app");
let place = null;

// added: the browser's history gets an entry, so that Back returns to what was there before.
function open(name, state, added = true) {
  if (place && added) history.pushState(null, "", location.href);
  place?.close();
  const tab = tabs.find(one => one.name === name) ?? tabs.find(one => one === inspect) ?? tabs[0];
  for (const one of tabs) {
    const node = document.getElementById(`tab-${one.name}`);
    node.setAttribute("aria-selected", String(one === tab));
    node.tabIndex = one === tab ? 0 : -1;
  }
  const panel = document.getElementById("tab-panel");
  panel.setAttribute("aria-labelledby", `tab-${tab.name}`);
  place = new Place(panel, tab, given, state, state => history.replaceState(null, "", written({ ...state, tab: tab.name })));
  place.open((name, state) => {                           // from within a tab: the other one is read from its beginning
    open(name, state);
    scrollTo(0, 0);
    document.getElementById(`tab-${place.tab.name}`).focus();
  });
}
function step(event) {                                    // the arrow keys go from tab to tab
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const at = tabs.findIndex(one => one === place.tab), to = Math.max(0, Math.min(tabs.length - 1, at + steps[event.key]));
  open(tabs[to].name, place.state);
  document.getElementById(`tab-${tabs[to].name}`).focus();
}
const begin = () => { const { tab, ...state } = parse(location.hash); open(tab, state, false); };

document.getElementById("language").addEventListener("click", event => { event.currentTarget.href = event.currentTarget.getAttribute("href").split("#")[0] + location.hash; });
if (tabs.length) {
  render(host,
    h("div", { class: "tabs", role: "tablist", "aria-label": say("tabs"), on: { keydown: step } }, tabs.map(one => h("button", { type: "button", role: "tab", id: `tab-${one.name}`, "aria-controls": "tab-panel", on: { click: () => open(one.name, place.state) } }, say(`tab_${one.name}`)))),
    h("div", { role: "tabpanel", id: "tab-panel" }));
  addEventListener("hashchange", begin);
  begin();
} else render(host, h("p", { class: "note" }, say("no_tabs")));
