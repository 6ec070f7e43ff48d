// The messages of the page in its language.
let known = {};
const BLANK = /\{(\w+)(?::([^{}|]*)\|([^{}|]*))?\}/g;

export function speak(messages) { known = messages; }
export const spoken = key => key in known;
// A name of the program, such as forget_gate, in the language of the page.
export const inWords = name => known[`name_${name}`] ?? name.replaceAll("_", " ");
// The number of a layer among so many, as an option: layers are counted from 0, as in a trace and on the command line.
export const layerName = (k, many) => many > 1 && k === 0 ? say("first_of", { k }) : many > 1 && k === many - 1 ? say("last_of", { k }) : String(k);
export const titleOf = view => known[`view_${view}`] ?? inWords(view);

// {n} is a value, {n:token|tokens} the first word where the value is 1, else the second.
export function say(key, values = {}) {
  return known[key].replace(BLANK, (_, name, one, many) => one === undefined ? values[name] : values[name] === 1 ? one : many);
}
