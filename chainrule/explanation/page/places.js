// Places in texts that were read as different tokens.

// Where each token begins in its text; the token of another trace at the same place of the text.
export function starts(trace) {
  let place = 0;
  return trace.tokens.map(token => { const start = place; place += token.text.length; return start; });
}
// Do two traces hold the same text? Where one does not know a word, its places are not those of the other.
export const sameText = (one, other) => [one, other].map(trace => trace.tokens.map(token => token.text).join("").length).every((length, _, all) => length === all[0]);
export function placeIn(from, at, to) {
  const place = starts(from)[at], found = starts(to);
  return Math.max(0, found.findLastIndex((start, k) => start <= place && (to.tokens[k].text !== "" || start === place)));
}
