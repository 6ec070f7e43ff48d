// The state of a page in its address, behind #: places, layer and head are numbers, run may occur several times.
const NUMBERS = ["at", "layer", "head", "key", "source", "flow"];
const WORDS = ["tab", "text", "target", "claim", "measure", "gate", "moment", "temperature", "top_k", "top_p", "min_p", "seed", "max_tokens"];
const LISTS = ["run", "view"];
const OF_A_TAB = /^[a-z]+\.[a-z_]+$/;                      // tab.option: a text of that tab alone

export function parse(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, "")), state = {};
  for (const name of NUMBERS) if ((name === "key" ? /^(?:-1|\d+)$/ : /^\d+$/).test(given.get(name) ?? "")) state[name] = +given.get(name);
  for (const name of WORDS) if (given.has(name)) state[name] = given.get(name);
  for (const name of LISTS) if (given.has(name)) state[name] = given.getAll(name);
  for (const [name, text] of given) if (OF_A_TAB.test(name)) state[name] = text;
  return state;
}
export function write(state) {
  const made = new URLSearchParams();
  for (const name of LISTS) for (const one of state[name] || []) made.append(name, one);
  for (const name of [...WORDS, ...NUMBERS, ...Object.keys(state).filter(name => OF_A_TAB.test(name) && name.startsWith(`${state.tab}.`))]) if (state[name] !== undefined && state[name] !== null && state[name] !== "") made.set(name, state[name]);
  return `#${made}`;
}
