// Requests to the server that the page came from, and what their answers hold.
import { isOfOne } from "./panels.js";

async function answered(path, body, signal) {
  const asked = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...asked, signal });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}
export const get = async (path, signal) => (await answered(path, undefined, signal)).json();
export const post = async (path, body, signal) => (await answered(path, body, signal)).json();
// The page that `chainrule explain --out` makes of a trace.
export const fileOf = async trace => (await answered("page/explain.html", { trace, lang: document.documentElement.lang })).blob();

// Views that show one layer, head or token alone: what is chosen of them is asked for apart. All others have all of it.
const APART = { gates: ["layer"], attention_cell: ["layer", "head", "key"], source_attention: ["source"] };

// The bodies of requests for the trace of a text: shown is the stretch that is on the screen, [begin, end), if there is one.
export function questions(run, state, shown) {
  const { text, target, at, view } = state, wanted = run.views.filter(one => one.usual || (view || []).includes(one.name)).map(one => one.name);
  const inside = shown && at >= shown[0] && at < shown[1], taken = ([name]) => run.takes.includes(name);
  const body = { model: run.name, text, ...Object.fromEntries(Object.entries({ ...(target ? { target } : {}), at, view: wanted, top_k: 10, ...(inside ? { begin: shown[0], end: shown[1] } : {}) }).filter(taken)) };
  const apart = wanted.filter(name => APART[name]?.some(key => state[key] !== undefined));
  const own = name => Object.fromEntries(Object.entries(body).filter(([key]) => key !== "top_k" && (name === "gates" || !["begin", "end"].includes(key))));
  return [body, ...apart.map(name => ({ ...own(name), view: [name], ...Object.fromEntries(APART[name].map(key => [key, state[key]])) }))];
}
// Does a run have the layer that is asked for of a view? A layer chosen for one run may be missing in another.
export function hasLayer(trace, name, layer) {
  const layers = name === "gates" ? trace.gates?.layers : trace.attention?.layers.length;
  return layer === undefined || layers === undefined || layer < layers;
}
// Does the answer for another token, layer or head of the same text hold other numbers than the trace?
export function outdated(trace, changes) {
  if ("at" in changes && trace.at !== changes.at && Object.entries(trace).some(([name, view]) => isOfOne(name, view))) return true;
  return Object.entries(APART).some(([name, keys]) => name in trace && keys.some(key => changes[key] !== undefined));
}

// The most probable next tokens in an answer of /v1/completions; text is null where a token is no text by itself.
export const following = text => ({ prompt: text, max_tokens: 1, temperature: 0, logprobs: 12 });
export function candidates(answer) {
  const found = Object.entries(answer.choices[0].logprobs?.top_logprobs[0] ?? {});
  return found.sort((a, b) => b[1] - a[1]).map(([name, log_p]) => ({ name, p: Math.exp(log_p), text: /^bytes:\\x|^<\|\w+\|>$/.test(name) ? null : name }));
}
