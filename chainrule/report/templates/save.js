// ---- charts and tables as files: PNG, SVG, CSV; made here, nothing is sent anywhere --------------------------------------
const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity", "paint-order", "font-family", "font-size", "font-weight", "font-style"];

function download(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
function carryLooks(copy, original) {                     // the style sheet stays behind, and so do the markers
  const looks = getComputedStyle(original);
  for (const key of LOOKS) copy.style.setProperty(key, looks.getPropertyValue(key));
  [...original.children].forEach((child, i) => carryLooks(copy.children[i], child));
  copy.removeAttribute("class");
  if (original.localName !== "use") return;
  const mark = document.querySelector(original.getAttribute("href")).cloneNode();
  mark.removeAttribute("id");
  mark.setAttribute("style", copy.getAttribute("style"));
  mark.setAttribute("transform", `translate(${original.getAttribute("x")} ${original.getAttribute("y")})`);
  copy.replaceWith(mark);
}
function sheet(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) svg.setAttribute(key, value);
  make(svg, "rect", { width, height, fill: getComputedStyle(document.body).backgroundColor });
  return svg;
}
function chartSvg(original) {
  const { width, height } = original.viewBox.baseVal, svg = sheet(width, height), copy = original.cloneNode(true);
  carryLooks(copy, original);
  for (const key of ["width", "height"]) copy.setAttribute(key, key === "width" ? width : height);
  copy.style.overflow = "visible";
  svg.append(copy);
  return svg;
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
function tableSvg(table) {
  const edge = table.getBoundingClientRect(), svg = sheet(Math.ceil(edge.width), Math.ceil(edge.height));
  const clear = "rgba(0, 0, 0, 0)";
  for (const cell of table.querySelectorAll("th, td")) {
    const place = cell.getBoundingClientRect(), looks = getComputedStyle(cell), x = place.left - edge.left, y = place.top - edge.top;
    const ground = looks.backgroundColor === clear ? getComputedStyle(cell.parentNode).backgroundColor : looks.backgroundColor;
    if (ground !== clear) make(svg, "rect", { x, y, width: place.width, height: place.height, fill: ground });
    for (const [side, at] of [["Top", y], ["Bottom", y + place.height]]) {
      if (parseFloat(looks[`border${side}Width`])) make(svg, "path", { d: `M${x} ${at}h${place.width}`, stroke: looks[`border${side}Color`] });
    }
  }
  for (const icon of table.querySelectorAll("td svg, th svg")) {
    const place = icon.getBoundingClientRect(), copy = icon.cloneNode(true);
    carryLooks(copy, icon);
    for (const [key, value] of Object.entries({ x: place.left - edge.left, y: place.top - edge.top, width: place.width, height: place.height })) copy.setAttribute(key, value);
    svg.append(copy);
  }
  const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, looks = getComputedStyle(node.parentNode);
    if (node.parentNode.closest("caption, title")) continue;
    for (const [text, place] of wordsByLine(node)) {
      const size = parseFloat(looks.fontSize), y = place.top - edge.top + place.height / 2 + size * .35;
      make(svg, "text", { x: place.left - edge.left, y, fill: looks.color, "font-size": size, "font-family": looks.fontFamily, "font-weight": looks.fontWeight }, text.replaceAll("\u00ad", ""));
    }
  }
  return svg;
}
function savePng(name, svg) {
  const image = new Image(), canvas = document.createElement("canvas"), text = new XMLSerializer().serializeToString(svg);
  image.onload = () => {
    [canvas.width, canvas.height] = [2 * svg.getAttribute("width"), 2 * svg.getAttribute("height")];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(made => download(`${name}.png`, made), "image/png");
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
}
const quote = value => /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
const csv = lines => lines.map(line => line.map(quote).join(",") + "\n").join("");
function chartCsv(chart) {
  const lines = [["model", "name", chart.xName, chart.yName]];
  for (const one of chart.series) for (const [x, y] of one.points) lines.push([one.model ?? "", one.name, x, y]);
  return csv(lines);
}
function cellValue(cell) {                               // the number behind a cell where there is one, else its text without the small print
  if (cell.dataset.v !== undefined) return cell.dataset.v;
  const copy = cell.cloneNode(true);
  for (const small of copy.querySelectorAll("small")) small.remove();
  const text = copy.textContent.replaceAll("\u00ad", "").trim();
  return text === "–" ? "" : text;
}
function tableCsv(table) {
  const lines = [...table.tHead.rows].slice(-1).concat([...table.tBodies[0].rows]);
  return csv(lines.map(row => [...row.cells].map(cellValue)));
}
function offerFiles(host, name, svg, text) {
  const bar = document.createElement("div");
  bar.className = "save";
  make(bar, "span", {}, words.save);
  const saves = {
    PNG: () => savePng(name, svg()),
    SVG: () => download(`${name}.svg`, new Blob([new XMLSerializer().serializeToString(svg())], { type: "image/svg+xml" })),
    CSV: text && (() => download(`${name}.csv`, new Blob(["\ufeff", text()], { type: "text/csv" }))),
  };
  for (const [kind, save] of Object.entries(saves)) if (save) make(bar, "button", { type: "button", "aria-label": `${words.save} ${kind}: ${name}` }, kind).addEventListener("click", save);
  host.after(bar);
}
function offerAll() {
  for (const host of document.querySelectorAll(".plot[data-chart]")) {
    const chart = () => view.charts[host.dataset.chart];
    if (chart() && chart().series.some(one => one.points.length)) offerFiles(host, host.id, () => chartSvg(host.querySelector("svg")), () => chartCsv(chart()));
  }
  for (const [i, box] of [...document.querySelectorAll(".scroll")].entries()) {
    const [table, svg] = [box.querySelector("table"), box.querySelector(":scope > svg")];
    const name = `${(box.closest("section") || document.body).querySelector("h2").id.slice(2)}-${i + 1}`;
    if (table) offerFiles(box, name, () => tableSvg(table), () => tableCsv(table)); else if (svg) offerFiles(box, name, () => chartSvg(svg));
  }
}
