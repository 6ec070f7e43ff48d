"""``explain``: what a run knows and uses when it reads an input."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import Language, UsesRun


class ExplainResult(Result):
    trace: dict[str, Any] = key("tokens, and each view under its name, as in schema", always=True)
    out: str | None = key("the page of --out")


@register_command("explain", ExplainResult)
class Explain(UsesRun, Language):
    """show what a run expects, remembers and uses when it reads a text"""

    text: str = argument("the text; of symbols, a record as it is written in a file", metavar="TEXT")
    target: str | None = option(
        "translate: explain this translation of the text (default: the best that beam search finds)", metavar="TEXT"
    )
    view: tuple[str, ...] = option(
        "show only this view (may be repeated; default: the usual ones of the model type)", (), metavar="NAME"
    )
    at: int | None = option(
        "explain the prediction of token N, counted from 0 (default: the most surprising one)", metavar="N"
    )
    top_k: int | None = option("alternatives at each place (default: 5)", metavar="K")
    layer: int | None = option("show this layer, counted from 0", metavar="N")
    head: int | None = option("show this attention head, counted from 0", metavar="N")
    key: int | None = option(
        "attention_cell: the weight of token N, -1: of the start token (default: the largest weight)", metavar="N"
    )
    begin: int | None = option(
        "first token of the stretch that is shown (default: 256 tokens from --at on)", metavar="N"
    )
    end: int | None = option("token behind its last one", metavar="N")

    out: str | None = option("write the trace as one HTML page, which needs no network", metavar="PAGE.html")

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError
        from chainrule.explanation.export import write_page
        from chainrule.tasks.inference import answered

        if self.lang and not self.out:
            raise UserError(f"--lang {self.lang}: the language of a page: give --out PAGE.html too, or leave it out")
        answer = answered(replace(self, out=None, lang=None))
        if self.out:
            write_page(answer["trace"], self.out, self.lang or "en")
        return {**answer, "out": self.out}

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if self.out:
            yield f"{self.out}: written"
            return
        trace = answer["trace"]
        shown = trace.get("surprise")
        for place, one in enumerate(shown["tokens"], shown["begin"]) if shown else ():
            text, mark = json.dumps(trace["tokens"][place]["text"], ensure_ascii=False), " <" * (place == trace["at"])
            nats = "  never" if one["nats"] is None else f"{one['nats']:7.3f}"
            yield f"{place:>5}  {text:<12} {nats} nats  rank {one['rank']:<6}{mark}"
        texts = [token["text"] for token in trace["tokens"]]
        if found := trace.get("attention"):
            yield f"attention of token {trace['at']}: {found['nats']:.3f} nats for {_named(found['answer'])}"
            yield from _heads(found["layers"], texts[found["first"] :])
            for name in ("rollout", "relevance"):
                yield f"  {name:<16} {_largest(found[name], texts[found['first'] :])}"
        if found := trace.get("cross_attention"):
            yield f"attention of token {trace['at']} to the source"
            yield from _heads(found["layers"], [token["text"] for token in found["source"]])


def _heads(layers: list[dict[str, Any]], texts: list[str]) -> Iterable[str]:
    """A line for each head: what it weighs most."""
    for layer in layers:
        for head in layer["heads"]:
            yield f"  layer {layer['layer']:<2} head {head['head']:<2} {_largest(head, texts)}"


def _largest(row: dict[str, Any], texts: list[str]) -> str:
    """The three largest numbers of a row over tokens."""
    named = [(weight, _named(text)) for weight, text in zip(row["weights"], texts)]
    start = [] if row.get("start") is None else [(row["start"], "(start)")]
    return "  ".join(f"{text} {weight:.3g}" for weight, text in sorted(start + named, reverse=True)[:3])


def _named(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
