// Options of one tab: each is a field of its form, kept in the address as tab.option; an empty one is left out of questions.
import { h } from "./tree.js";
import { say } from "./words.js";

const keyOf = (place, name) => `${place.tab.name}.${name}`;
export const own = (place, name) => place.state[keyOf(place, name)];
export const keep = (place, changes) => place.set(Object.fromEntries(Object.entries(changes).map(([name, value]) => [keyOf(place, name), value === undefined || value === "" ? undefined : String(value)])));
// The options that are given, as numbers.
export function numbers(place, names) {
  const given = names.map(name => [name, own(place, name)]).filter(([, text]) => text !== undefined);
  return Object.fromEntries(given.map(([name, text]) => [name, Number(text)]));
}
// The option as the place in a list of so many; 0 where the address has none.
export function indexOf(place, name, many) { const k = Number(own(place, name)); return Number.isInteger(k) && k >= 0 && k < many ? k : 0; }
// A tab for one run at a time. Its text is an option of the tab: that of the address, else one that the run reads.
export function tabOfOne(name, route, option, begin) {
  const can = run => run.routes.includes(route);
  return { name, can, offered: given => given.runs.some(can), open(place) {
    place.settle(place.runs[0], false);
    if (own(place, option) === undefined) keep(place, { [option]: place.chosen()[0].sample });
    begin(place);
  } };
}
// Ask the server; where that fails, nothing older is shown.
export const during = (place, call) => place.during(async asked => {
  try {
    await call(asked);
  } catch (error) {
    if (error.name !== "AbortError") place.results();
    throw error;
  }
});
// about: min, max, step of the input, and placeholder: what holds where nothing is given
export function numberField(place, name, about, change) {
  return h("label", { class: "field" }, say(`${place.tab.name}_${name}`), h("input", { id: `option-${name}`, type: "number", value: own(place, name) ?? "", ...about, on: {
    change: event => { keep(place, { [name]: event.target.value }); change(); },
  } }));
}
// options: [value, label] of each
export function choiceField(id, label, options, chosen, change) {
  return h("label", { class: "field" }, label, h("select", { id, value: String(chosen), on: { change: event => change(event.target.value) } }, options.map(([value, text]) => h("option", { value: String(value) }, text))));
}
// A file of the reader's own, chosen or dropped here: read(file) gets it. trees: what stands beside the button.
export function fileField(id, label, accept, read, ...trees) {
  const taken = files => { if (files.length) read(files[0]); };
  return h("div", { class: "tools drop", on: { dragover: event => event.preventDefault(), drop: event => { event.preventDefault(); taken(event.dataTransfer.files); } } },
    h("label", { class: "chip file" }, label, h("input", { class: "vh", id, type: "file", accept, on: { change: event => taken(event.target.files) } })), trees);
}
// An image of the reader's own: read(name, url) gets it as a data URL; name: of the one that was read.
export function imageField(place, id, name, read) {
  const taken = file => {
    const reader = new FileReader();
    reader.onload = () => read(file.name, reader.result);
    reader.onerror = () => place.alarm(say("file_unread", { name: file.name }));
    reader.readAsDataURL(file);
  };
  return fileField(id, say("choose_image"), "image/png,image/jpeg,image/webp", taken, h("span", { class: "note" }, name ?? say("drop_image")));
}
// A button that opens the tab Look inside, where the run explains what it reads.
export function lookInside(place, run, state) {
  const go = () => place.go("inspect", { ...place.state, at: undefined, layer: undefined, head: undefined, target: undefined, ...state, run: [run.name] });
  return run.explains && h("button", { type: "button", class: "chip", id: "look", on: { click: go } }, say("look"));
}
