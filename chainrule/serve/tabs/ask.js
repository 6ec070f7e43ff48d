// Requests to the server that the page came from, and what their answers hold.
import { isOfOne } from "./panels.js";

async function answered(path, body, signal) {
  const headers = { "accept-language": document.documentElement.lang };       // errors are told in the language of the page
  const asked = body === undefined ? { headers } : { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...asked, signal });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  return answer;
}
export const get = async (path, signal) => (await answered(path, undefined, signal)).json();
export const post = async (path, body, signal) => (await answered(path, body, signal)).json();
// The page that `chainrule explain --out` makes of a trace.
export const fileOf = async trace => (await answered("page/explain.html", { trace, lang: document.documentElement.lang })).blob();

// An answer as server-sent events: take is called with each object. An error that comes in between is thrown.
export async function stream(path, body, signal, take) {
  const answer = await answered(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(), told = events();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) for (const one of told(piece.value)) {
    if (one.error) throw new Error(one.error.message);
    take(one);
  }
}
// The objects of the events that a piece of a stream completes.
export function events() {
  let left = "";
  return piece => {
    const parts = (left + piece).split("\n\n");
    left = parts.pop();
    return parts.map(one => one.replace(/^data: /, "")).filter(one => one !== "[DONE]").map(one => JSON.parse(one));
  };
}

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
