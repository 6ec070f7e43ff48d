// ---- the page: charts, legends, sorting, theme, print ----------------------------------------------------------------
const view = JSON.parse(document.getElementById("view-data").textContent), words = view.words;
const hidden = new Set();

function drawAll() {
  for (const host of document.querySelectorAll(".plot[data-chart]")) drawChart(host, view.charts[host.dataset.chart], hidden, words.no_points);
}
function toggle(model) {
  if (!hidden.delete(model)) hidden.add(model);
  for (const button of document.querySelectorAll(".legend button")) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.model)));
  drawAll();
}
function buildLegends() {
  for (const host of document.querySelectorAll(".legend")) for (const { model, name, style } of view.models) {
    const button = make(host, "button", { type: "button", class: "chip", "aria-pressed": "true", "data-model": model });
    swatch(button, style);
    make(button, "span", {}, name);
    button.addEventListener("click", () => toggle(model));
  }
}
function chooseCharts() {                                // a choice of what one place shows, such as the horizontal axis of the curves
  for (const choice of document.querySelectorAll(".choice[data-plot]")) choice.addEventListener("change", event => {
    document.getElementById(choice.dataset.plot).dataset.chart = event.target.value;
    drawAll();
  });
}
function sortBy(table, header, column) {
  const order = { none: "ascending", ascending: "descending", descending: "none" }[header.getAttribute("aria-sort") || "none"];
  for (const th of table.querySelectorAll("th[aria-sort]")) th.removeAttribute("aria-sort");
  if (order !== "none") header.setAttribute("aria-sort", order);
  const sign = order === "descending" ? -1 : 1, body = table.tBodies[0];
  const key = row => order === "none" ? +row.dataset.index : row.cells.length > 2 && row.cells[column].dataset.v !== undefined ? sign * row.cells[column].dataset.v : Infinity;
  const ranked = [...body.rows].map(row => [key(row), row]).sort((a, b) => a[0] === b[0] ? a[1].dataset.index - b[1].dataset.index : a[0] - b[0]);
  body.append(...ranked.map(pair => pair[1]));
}
function makeSortable(table) {
  for (const [column, header] of [...table.tHead.rows].at(-1).querySelectorAll("th").entries()) {
    if (column === 0) continue;                          // the order that was given is the third click on any other
    const label = header.textContent;
    header.replaceChildren();
    make(header, "button", { type: "button", title: words.sort }, label).addEventListener("click", () => sortBy(table, header, column));
  }
}
function themeToggle() {
  const root = document.documentElement, button = document.getElementById("theme"), kept = "chainrule-theme";
  const store = { get: () => { try { return localStorage.getItem(kept); } catch { return null; } }, set: v => { try { localStorage.setItem(kept, v); } catch { /* a file opened from disk may have no storage */ } } };
  if (["dark", "light"].includes(store.get())) root.dataset.theme = store.get();
  button.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    store.set(root.dataset.theme);
  });
}
function copyCommands() {
  for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", () => {
    const text = button.previousElementSibling, chosen = getSelection();
    chosen.selectAllChildren(text);
    const done = () => { chosen.removeAllRanges(); button.textContent = words.copied; };
    if (navigator.clipboard) navigator.clipboard.writeText(text.textContent).then(done, () => {}); else if (document.execCommand("copy")) done();
  });
}
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
function offerFiles() {
  const offer = (host, name, svg, text) => host.after(saveBar(name, words.save, svg, text));
  for (const host of document.querySelectorAll(".plot[data-chart]")) {
    const chart = () => view.charts[host.dataset.chart];
    if (chart() && chart().series.some(one => one.points.length)) offer(host, host.id, () => chartSvg(host.querySelector("svg")), () => chartCsv(chart()));
  }
  for (const [i, box] of [...document.querySelectorAll(".scroll")].entries()) {
    const [table, svg] = [box.querySelector("table"), box.querySelector(":scope > svg")];
    const name = `${(box.closest("section") || document.body).querySelector("h2").id.slice(2)}-${i + 1}`;
    if (table) offer(box, name, () => pictureOf(table), () => tableCsv(table)); else if (svg) offer(box, name, () => chartSvg(svg));
  }
}
function hintAtScrolling() {                             // a word above whatever is wider than the screen
  for (const box of document.querySelectorAll(".scroll")) {
    box.dataset.hint = words.scroll_hint;
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  }
}
function openForPrint() {
  const opened = [];
  addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details:not([open])")) { d.open = true; opened.push(d); } });
  addEventListener("afterprint", () => { for (const d of opened.splice(0)) d.open = false; });
}
function reloadWhileRunning() {
  if (!view.running) return;
  const timer = setTimeout(() => location.reload(), 15000);         // stops at the first touch: nobody loses what they read
  for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => clearTimeout(timer), { once: true });
}
for (const node of document.querySelectorAll(".toggle")) node.hidden = false;
themeToggle();
buildLegends();
chooseCharts();
for (const table of document.querySelectorAll("table.board")) makeSortable(table);
copyCommands();
offerFiles();
openForPrint();
reloadWhileRunning();
drawAll();
hintAtScrolling();
addEventListener("toggle", hintAtScrolling, true);       // what was closed had no width
let lastWidth = innerWidth;
addEventListener("resize", () => { if (innerWidth !== lastWidth) { lastWidth = innerWidth; drawAll(); hintAtScrolling(); } });
