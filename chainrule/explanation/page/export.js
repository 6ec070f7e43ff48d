// The page of one trace in a file.
import { parse, write } from "./link.js";
import { themeToggle } from "./theme.js";
import { Viewer } from "./viewer.js";
import { speak } from "./words.js";

const given = name => JSON.parse(document.getElementById(name).textContent);
const trace = given("trace"), texts = given("texts");
speak(texts.words);
themeToggle();
let state = parse(location.hash);
if (!(state.at < trace.tokens.length)) delete state.at;
const viewer = new Viewer(document.getElementById("viewer"), { captions: texts.captions, changed: changes => {
  state = { ...state, ...changes };
  history.replaceState(null, "", write(state));
} });
const phone = matchMedia("(max-width: 640px)");
state.flow ??= +phone.matches;
viewer.show(trace, state);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; viewer.panels(); } });
addEventListener("hashchange", () => viewer.change(state = { ...parse(location.hash) }));
