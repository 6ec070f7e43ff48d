// The page of traces in a file: several of one text stand side by side, and a choice in one is made in all.
import { parse, write } from "./link.js";
import { placeIn } from "./places.js";
import { themeToggle } from "./theme.js";
import { Viewer } from "./viewer.js";
import { speak } from "./words.js";

const given = name => JSON.parse(document.getElementById(name).textContent);
const traces = given("traces"), texts = given("texts"), host = document.getElementById("viewers");
speak(texts.words);
themeToggle();
let state = parse(location.hash);
if (!(state.at < traces[0].tokens.length)) delete state.at;
const stateOf = trace => state.at === undefined ? state : { ...state, at: trace === traces[0] ? state.at : placeIn(traces[0], state.at, trace) };
const viewers = traces.map(trace => {
  const viewer = new Viewer(document.createElement("div"), { captions: texts.captions, changed: changes => {
    state = { ...state, ...changes };
    if ("at" in changes && trace !== traces[0]) state.at = placeIn(trace, changes.at, traces[0]);
    history.replaceState(null, "", write(state));
    viewers.forEach((one, k) => { if (one !== viewer) one.change(stateOf(traces[k])); });
  } });
  viewer.host.className = "viewer";
  host.append(viewer.host);
  return viewer;
});
host.toggleAttribute("data-many", traces.length > 1);
const phone = matchMedia("(max-width: 640px)");
state.flow ??= +phone.matches;
viewers.forEach((one, k) => one.show(traces[k], stateOf(traces[k])));
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; for (const one of viewers) one.panels(); } });
addEventListener("hashchange", () => { state = parse(location.hash); viewers.forEach((one, k) => one.change({ ...stateOf(traces[k]) })); });
