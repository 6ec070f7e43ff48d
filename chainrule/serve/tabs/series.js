// Numbers of a series in a text: a list of them, or the columns of a table such as CSV.
import { say } from "./words.js";

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i, WITH_COMMA = /^[+-]?\d+,\d+$/;
const SEPARATORS = ["\t", ";", ","];

const isNumber = text => NUMBER.test(text);
const isValue = (cell, mark) => isNumber(cell) || (mark !== "," && WITH_COMMA.test(cell));
const fault = (key, values) => new Error(say(key, values));

// Columns with name and cells: {text, line} each; points: decimal points alone are read, for commas separate cells.
export function columnsOf(text) {
  const lines = text.split(/\r\n|\n|\r/).map((line, k) => ({ text: line.trim(), line: k + 1 })).filter(one => one.text);
  const mark = lines.length > 1 ? SEPARATORS.find(one => isTable(lines, one)) : undefined;
  return mark === undefined ? [list(lines)] : columns(lines, mark);
}
// Is this a table whose cells a separator parts? A first line with words is one of a table, whatever follows; numbers are
// cells where all lines have as many, and a list where every line but the last ends with a comma.
function isTable(lines, mark) {
  const cells = lines.map(one => cellsOf(one.text, mark)), [first] = cells;
  if (first.length === 1) return false;
  if (first.some(cell => cell && !isValue(cell, mark))) return true;
  return cells.every(one => one.length === first.length) && !lines.slice(0, -1).every(one => one.text.endsWith(","));
}
function cellsOf(line, mark) {                             // a separator between double quotes is none
  const cells = [""];
  let quoted = false;
  for (const c of line) if (c === '"') quoted = !quoted; else if (c === mark && !quoted) cells.push(""); else cells[cells.length - 1] += c;
  return cells.map(cell => cell.trim());
}
function columns(lines, mark) {
  const rows = lines.map(one => ({ cells: cellsOf(one.text, mark), line: one.line })), [first] = rows, many = first.cells.length;
  const odd = rows.find(row => row.cells.length !== many);
  if (odd) throw fault("series_cells", { line: odd.line, n: odd.cells.length, many });
  const headed = !first.cells.some(cell => isValue(cell, mark));
  return first.cells.map((cell, k) => ({ name: headed && cell ? cell : say("series_column", { k: k + 1 }), points: mark === ",", cells: rows.slice(+headed).map(row => ({ text: row.cells[k], line: row.line })) }));
}
// Numbers between white space, semicolons or commas. A comma between digits is a decimal one where each number has one
// and something else separates them, as the server reads a prompt; a first line of words is the name.
function list(lines) {
  const named = lines.length > 1 && !/\d/.test(lines[0].text), rows = named ? lines.slice(1) : lines;
  const words = rows.flatMap(one => one.text.split(/[\s;]+/).filter(Boolean).map(text => ({ text, line: one.line })));
  const glued = words.filter(one => one.text.replace(/^,+|,+$/g, "").includes(",")), decimal = glued.length > 0 && !words.some(one => one.text.endsWith(",")) && !glued.some(one => one.text.split(",").length > 2);
  if (decimal && words.length === 1) throw fault("series_one_comma", { text: words[0].text });
  const cells = decimal ? words : words.flatMap(one => one.text.split(",").filter(Boolean).map(text => ({ text, line: one.line })));
  return { name: named ? lines[0].text : "", points: !decimal, cells };
}

// The numbers of a column; an error names the first cell that is none.
export function numbersOf({ name, points, cells }) {
  return cells.map(({ text, line }) => {
    const plain = !points && WITH_COMMA.test(text) ? text.replace(",", ".") : text;
    if (!isNumber(plain)) throw fault(text ? "series_no_number" : "series_empty", { line, text, name: name || say("series_numbers") });
    return Number(plain);
  });
}
// The column to begin with: the first of numbers that is not a count of the rows, such as years.
export function firstColumn(columns) {
  const numeric = columns.filter(one => { try { return numbersOf(one).length > 0; } catch { return false; } });
  const counted = one => { const values = numbersOf(one); return values.length > 2 && values.every((v, k) => !k || v - values[k - 1] === 1); };
  return columns.indexOf(numeric.find(one => !counted(one)) ?? numeric[0] ?? columns[0]);
}
