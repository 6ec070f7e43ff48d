// Learn: claims that people repeat, each measured on the loaded runs.
import { get } from "./ask.js";
import { figure } from "./figures.js";
import { h, render } from "./tree.js";
import { say } from "./words.js";

export const learn = {
  name: "learn",
  can: () => true,
  offered: given => given.claims.length > 0,
  open(place) {
    const { claims } = place.given;
    place.state.claim = claims.some(one => one.name === place.state.claim) ? place.state.claim : claims[0].name;
    place.results(h("div", { class: "book" }, h("nav", { class: "contents", "aria-label": say("contents") }, h("ol", {}, claims.map((one, k) => h("li", {}, h("button", { type: "button", id: `claim-${one.name}`, on: { click: () => go(place, one) } }, `${k + 1}. ${one.title}`))))), h("article", { id: "claim", "aria-live": "polite" })));
    turn(place, claims.find(one => one.name === place.state.claim));
  },
};

function go(place, claim) {                                // by a reader, who is then at the beginning of it
  history.pushState(null, "", location.href);
  turn(place, claim);
  const title = document.getElementById("claim-title");
  title.scrollIntoView();
  title.focus({ preventScroll: true });
}
function turn(place, claim) {
  const { claims } = place.given, at = claims.indexOf(claim);
  place.set({ claim: claim.name });
  for (const one of claims) document.getElementById(`claim-${one.name}`).toggleAttribute("aria-current", one === claim);
  const page = document.getElementById("claim"), head = [h("h2", { id: "claim-title", tabindex: -1 }, `${at + 1}. ${claim.title}`), h("p", { class: "claim-text" }, claim.text)];
  render(page, head, h("p", { class: "note" }, say("measuring")));
  place.during(async asked => {
    const found = await get(`page/claims/${claim.name}?lang=${place.given.lang}`, asked.signal);
    render(page, head, finding(place, found, page.clientWidth), step(place, at));
  });
}
function finding(place, found, width) {
  return [
    h("p", { class: `holds ${found.holds}` }, say(`holds_${found.holds}`)),
    found.told.map(text => h("p", { class: "told" }, text)),
    found.command && h("div", { class: "command" }, h("p", { class: "note" }, say(found.holds === "unmeasured" ? "command_missing" : "command_more")), h("pre", { tabindex: 0, role: "group", "aria-label": say("command") }, h("code", {}, found.command))),
    found.figures.map(one => figure(one, Math.max(260, Math.min(760, width)))),
    Object.keys(found.inspect).length > 0 && h("p", {}, h("button", { type: "button", class: "chip go", id: "look", on: { click: () => place.go("inspect", { ...place.state, run: undefined, at: undefined, ...found.inspect }) } }, say("look"))),
  ];
}
function step(place, at) {                                 // to the claim before and behind
  const { claims } = place.given, button = (name, to) => claims[to] && h("button", { type: "button", class: "chip", id: `claim-${name}`, on: { click: () => go(place, claims[to]) } }, say(name), ` ${claims[to].title}`);
  return h("p", { class: "tools" }, button("before", at - 1), button("behind", at + 1));
}
