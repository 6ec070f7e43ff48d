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
// A file of the reader's own, chosen or dropped on the form: read(file) gets it.
export function fileField(id, label, accept, read) {
  const taken = files => { if (files?.length) read(files[0]); };
  return h("label", { class: "chip file", id: `${id}-label`, on: {
    dragover: event => event.preventDefault(),
    drop: event => { event.preventDefault(); taken(event.dataTransfer.files); },
  } }, label, h("input", { class: "vh", id, type: "file", accept, on: { change: event => taken(event.target.files) } }));
}
// A button that opens the tab Look inside, where the run explains what it reads.
export function lookInside(place, run, state) {
  return run.explains && h("button", { type: "button", class: "chip", id: "look", on: { click: () => place.go("inspect", { ...place.state, at: undefined, layer: undefined, head: undefined, target: undefined, ...state, run: [run.name] }) } }, say("look"));
}
// A file with some content, saved by the browser.
export function save(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
