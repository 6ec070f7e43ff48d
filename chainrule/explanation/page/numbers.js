// Every entry of a view as a line of a table: its name, its place in each of the lists that it stands in, and its value.
export function linesOf(view) {
  const found = [];
  const walk = (value, name, places) => {
    if (Array.isArray(value)) value.forEach((one, k) => walk(one, name, [...places, k]));
    else if (value !== null && typeof value === "object") for (const [key, of] of Object.entries(value)) walk(of, name ? `${name}.${key}` : key, places);
    else found.push([name, places, value ?? ""]);
  };
  walk(view, "", []);
  const deep = Math.max(0, ...found.map(([, places]) => places.length)), lists = Array.from({ length: deep }, (_, k) => k);
  return [["entry", ...lists.map(k => `place_${k + 1}`), "value"], ...found.map(([name, places, value]) => [name, ...lists.map(k => places[k] ?? ""), value])];
}
