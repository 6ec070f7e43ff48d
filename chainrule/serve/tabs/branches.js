// The texts that were written: a tree, in which each text is the beginning of its children, and the way through it.
export class Branches {
  constructor(text) { Object.assign(this, { nodes: [{ text, parent: -1, how: { kind: "given" } }], at: 0, past: [], future: [] }); }
  get text() { return this.nodes[this.at].text; }
  children(id) { return [...this.nodes.keys()].filter(k => this.nodes[k].parent === id); }
  // The node of a text, which is new unless there is one: below the nearest text that it begins with, from a node upwards.
  grow(text, how, from = this.at) {
    let parent = from;
    while (parent >= 0 && !text.startsWith(this.nodes[parent].text)) parent = this.nodes[parent].parent;
    if (parent >= 0 && this.nodes[parent].text === text) return parent;
    const known = this.children(parent).find(k => this.nodes[k].text === text);
    return known ?? this.nodes.push({ text, parent, how }) - 1;
  }
  go(id) {
    if (id === this.at) return;
    this.past.push(this.at);
    this.future = [];
    this.at = id;
  }
  // A text that somebody types: it is one node until something else is done.
  type(text) {
    const now = this.nodes[this.at], above = this.nodes[now.parent]?.text ?? "";
    if (now.how.kind === "typed" && !this.children(this.at).length && text.startsWith(above)) now.text = text;
    else this.go(this.grow(text, { kind: "typed" }));
  }
  undo() { if (this.past.length) { this.future.push(this.at); this.at = this.past.pop(); } }
  redo() { if (this.future.length) { this.past.push(this.at); this.at = this.future.pop(); } }
  // Where in the text of a node that begins which a run has written last; null: it ends with what somebody else did.
  written(id) {
    const { how, parent } = this.nodes[id];
    if (how.kind !== "continued") return null;
    return this.written(parent) ?? this.nodes[parent].text.length;
  }
  // Beginnings, forks, ends and the present text, each with the number of those above it and the text that it adds.
  shown() {
    const kept = id => id === this.at || this.nodes[id].parent < 0 || this.children(id).length !== 1, found = [];
    const walk = (id, depth, above) => {
      const { text, how } = this.nodes[id];
      if (kept(id)) found.push({ id, depth, how, added: text.slice(above) });
      for (const child of this.children(id)) walk(child, depth + kept(id), kept(id) ? text.length : above);
    };
    for (const root of this.children(-1)) walk(root, 0, 0);
    return found;
  }
}
