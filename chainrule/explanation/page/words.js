// The messages of the page in its language.
let known = {};
const BLANK = /\{(\w+)(?::([^{}|]*)\|([^{}|]*))?\}/g;

export function speak(messages) { known = messages; }
export const spoken = key => key in known;

// {n} is a value, {n:token|tokens} the first word where the value is 1, else the second.
export function say(key, values = {}) {
  return known[key].replace(BLANK, (_, name, one, many) => one === undefined ? values[name] : values[name] === 1 ? one : many);
}
