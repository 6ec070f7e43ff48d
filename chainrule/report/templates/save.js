// ---- what a page shows, as files: PNG, SVG, CSV; made here, nothing is sent anywhere -------------------------------------
// The page of an explanation has this file too.
export const SVG = "http://www.w3.org/2000/svg";
const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity", "paint-order", "font-family", "font-size", "font-weight", "font-style"];
const MARGIN = 16, MOST = 16384;                          // around a picture; pixels of a PNG's side

export function make(parent, name, attributes = {}, text) {
  const inSvg = name === "svg" || (parent.namespaceURI === SVG && name !== "div");
  const node = inSvg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}
export function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- pictures: the style sheet stays behind, so every element carries its looks ------------------------------------------
function carryLooks(copy, original) {
  const looks = getComputedStyle(original);
  for (const key of LOOKS) copy.style.setProperty(key, looks.getPropertyValue(key));
  [...original.children].forEach((child, i) => carryLooks(copy.children[i], child));
  copy.removeAttribute("class");
  if (original.localName !== "use") return;
  const mark = document.querySelector(original.getAttribute("href")).cloneNode();   // so do the markers
  mark.removeAttribute("id");
  mark.style.cssText = copy.style.cssText;
  mark.setAttribute("transform", `translate(${original.getAttribute("x")} ${original.getAttribute("y")})`);
  copy.replaceWith(mark);
}
function sheet(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) svg.setAttribute(key, value);
  make(svg, "rect", { width, height, ...inked("fill", getComputedStyle(document.body).backgroundColor) });
  return svg;
}
export function chartSvg(original) {
  const { width, height } = original.viewBox.baseVal, svg = sheet(width, height), copy = original.cloneNode(true);
  carryLooks(copy, original);
  for (const key of ["width", "height"]) copy.setAttribute(key, key === "width" ? width : height);
  copy.style.overflow = "visible";
  svg.append(copy);
  return svg;
}

// Part of a page as a picture: boxes, text, charts and images, each where it stands. Nothing scrolls or is cut off in it.
export function pictureOf(host) {
  host.classList.add("pictured");
  try {
    const place = host.getBoundingClientRect(), wide = Math.max(place.width, host.scrollWidth), svg = sheet(Math.ceil(wide + 2 * MARGIN), Math.ceil(place.height + 2 * MARGIN));
    draw(svg, host, { left: place.left - MARGIN, top: place.top - MARGIN });
    return svg;
  } finally { host.classList.remove("pictured"); }
}
function draw(svg, node, edge) {
  if (!node.checkVisibility() || node.matches(".vh, .save, .unpictured")) return;
  const place = node.getBoundingClientRect(), at = { x: place.left - edge.left, y: place.top - edge.top, width: place.width, height: place.height };
  if (node.localName === "svg") return void chart(svg, node, at);
  if (node.localName === "canvas") return void make(svg, "image", { ...at, preserveAspectRatio: "none", href: enlarged(node, place) });
  const looks = getComputedStyle(node);
  for (const one of looks.display === "inline" ? node.getClientRects() : [place]) box(svg, looks, one, edge);
  if (node.matches("select, input")) return void line(svg, looks, node.selectedOptions?.[0].text ?? node.value, { left: place.left + parseFloat(looks.paddingLeft) + 4, top: place.top, height: place.height }, edge);
  for (const child of node.childNodes) {
    if (child.nodeType === Node.ELEMENT_NODE) draw(svg, child, edge);
    else if (child.nodeType === Node.TEXT_NODE) for (const [text, spot] of wordsByLine(child)) line(svg, looks, text, spot, edge);
  }
}
function chart(svg, node, at) {
  const copy = node.cloneNode(true);
  carryLooks(copy, node);
  for (const [key, value] of Object.entries(at)) copy.setAttribute(key, value);
  copy.style.overflow = "visible";
  svg.append(copy);
}
function enlarged(canvas, place) {                        // each of its pixels is a cell, with sharp edges
  const large = document.createElement("canvas");
  [large.width, large.height] = [Math.round(2 * place.width), Math.round(2 * place.height)];
  const pen = large.getContext("2d");
  pen.fillStyle = getComputedStyle(canvas).backgroundColor;
  pen.fillRect(0, 0, large.width, large.height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(canvas, 0, 0, large.width, large.height);
  return large.toDataURL();
}
// A colour as attributes that every program which reads SVG knows.
function inked(name, colour) {
  const mixed = /^color\(srgb (\S+) (\S+) (\S+?)(?: \/ (\S+))?\)$/.exec(colour), plain = /^rgba?\((\S+), (\S+), ([^\s,)]+)(?:, (\S+))?\)$/.exec(colour);
  const [red, green, blue, alpha = 1] = mixed ? [...mixed.slice(1, 4).map(v => Math.round(255 * v)), mixed[4]] : plain.slice(1);
  return { [name]: `rgb(${red}, ${green}, ${blue})`, ...(alpha === 1 ? {} : { [`${name}-opacity`]: alpha }) };
}
const clear = colour => /[,/] 0\)$/.test(colour);
function box(svg, looks, place, edge) {
  const x = place.left - edge.left, y = place.top - edge.top, { width, height } = place, round = { rx: Math.min(parseFloat(looks.borderTopLeftRadius) || 0, width / 2, height / 2) };
  if (!clear(looks.backgroundColor)) make(svg, "rect", { x, y, width, height, ...round, ...inked("fill", looks.backgroundColor) });
  const sides = ["Top", "Right", "Bottom", "Left"].map(side => [parseFloat(looks[`border${side}Width`]), looks[`border${side}Color`]]);
  if (sides.every(([thick]) => thick)) make(svg, "rect", { x: x + .5, y: y + .5, width: Math.max(0, width - 1), height: Math.max(0, height - 1), ...round, fill: "none", ...inked("stroke", sides[0][1]) });
  else [`M${x} ${y}h${width}`, `M${x + width} ${y}v${height}`, `M${x} ${y + height}h${width}`, `M${x} ${y}v${height}`].forEach((d, k) => sides[k][0] && make(svg, "path", { d, fill: "none", "stroke-width": sides[k][0], ...inked("stroke", sides[k][1]) }));
  if (looks.outlineStyle !== "none") make(svg, "rect", { x, y, width, height, fill: "none", "stroke-width": parseFloat(looks.outlineWidth), ...inked("stroke", looks.outlineColor) });
}
function line(svg, looks, text, place, edge) {
  const size = parseFloat(looks.fontSize), y = place.top - edge.top + place.height / 2 + size * .35;
  make(svg, "text", { x: place.left - edge.left, y, ...inked("fill", looks.color), "font-size": size, "font-family": looks.fontFamily, "font-weight": looks.fontWeight }, text.replaceAll("\u00ad", ""));
}
function wordsByLine(node) {                              // a text may be broken into lines: [text, place of the line]
  const lines = [], range = document.createRange();
  for (const found of node.data.matchAll(/\S+/g)) {
    range.setStart(node, found.index);
    range.setEnd(node, found.index + found[0].length);
    const place = range.getBoundingClientRect(), last = lines.at(-1);
    if (!place.width) continue;
    if (last && Math.abs(last[1].top - place.top) < 3) last[0] += ` ${found[0]}`; else lines.push([found[0], place]);
  }
  return lines;
}
function savePng(name, svg) {
  const image = new Image(), canvas = document.createElement("canvas"), text = new XMLSerializer().serializeToString(svg);
  image.onload = () => {
    const size = ["width", "height"].map(side => +svg.getAttribute(side)), scale = Math.min(2, MOST / Math.max(...size));
    [canvas.width, canvas.height] = size.map(side => Math.floor(scale * side));
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(made => download(`${name}.png`, made), "image/png");
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
}

// ---- numbers -----------------------------------------------------------------------------------------------------------
const quote = value => /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
export const csv = lines => lines.map(line => line.map(quote).join(",") + "\n").join("");

// The buttons below something; svg() and text() make its picture and its CSV where there are such.
export function saveBar(name, told, svg, text) {
  const bar = document.createElement("div");
  bar.className = "save";
  make(bar, "span", {}, told);
  const saves = {
    PNG: svg && (() => savePng(name, svg())),
    SVG: svg && (() => download(`${name}.svg`, new Blob([new XMLSerializer().serializeToString(svg())], { type: "image/svg+xml" }))),
    CSV: text && (() => download(`${name}.csv`, new Blob(["\ufeff", text()], { type: "text/csv" }))),
  };
  for (const [kind, save] of Object.entries(saves)) if (save) make(bar, "button", { type: "button", "aria-label": `${told} ${kind}: ${name}` }, kind).addEventListener("click", save);
  return bar;
}
