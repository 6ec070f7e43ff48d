// The page as trees of plain objects: tests read them without a browser, and mount() makes elements of them.
const SVG = "http://www.w3.org/2000/svg";
const INSIDE_SVG = new Set(["svg", "g", "path", "line", "rect", "text", "title"]);

// on: {event: listener}; style: {property: value}; after: called with the element once it stands in the page.
export function h(name, attributes, ...children) {
  const kept = children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false);
  return { name, attributes: attributes || {}, children: kept };
}

export function mount(tree, last = []) {
  if (typeof tree !== "object") return document.createTextNode(String(tree));
  const inSvg = INSIDE_SVG.has(tree.name);
  const node = inSvg ? document.createElementNS(SVG, tree.name) : document.createElement(tree.name);
  for (const [name, value] of Object.entries(tree.attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "style") for (const [property, of] of Object.entries(value)) node.style.setProperty(property, of);
    else if (name === "after") last.push(() => value(node));
    else if (name === "value" && tree.name !== "data") node.value = value;
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of tree.children) node.append(mount(child, last));
  if (tree.name === "select") node.value = tree.attributes.value;         // only now it has options
  return node;
}

export function render(host, ...trees) {                                  // what had the focus by its id has it again
  const focused = host.contains(document.activeElement) ? document.activeElement.id : "", last = [];
  host.replaceChildren(...trees.flat(Infinity).filter(Boolean).map(tree => mount(tree, last)));
  for (const call of last) call();
  if (focused) document.getElementById(focused)?.focus();
}

// ---- numbers: the element holds each one in full, people read some of its digits -----------------------------------
export function rounded(v) {
  const size = Math.abs(v);
  if (v === 0) return "0";
  if (Number.isInteger(v) || size >= 1000) return Math.round(v).toLocaleString("en");
  return size >= 1e-3 ? v.toPrecision(3) : v.toExponential(1);
}
export const hundredths = v => v.toFixed(2);
export function percent(v) {
  const hundred = 100 * v;
  if (v === 0) return "0%";
  if (hundred >= 10) return `${hundred.toFixed(1)}%`;
  return hundred >= 1e-3 ? `${hundred.toPrecision(2)}%` : `${hundred.toExponential(1)}%`;
}
export const read = (v, form = rounded) => v === null || v === undefined ? "–" : form(v);
export const num = (v, form = rounded, attributes = {}) => h("data", { ...attributes, value: String(v) }, read(v, form));
export const isNumber = v => typeof v === "number";
export const greatest = values => values.reduce((most, v) => isNumber(v) ? Math.max(most, Math.abs(v)) : most, 0);
