"""``classify``: labels of texts or images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chainrule.options import Options, Result, argument, key, register_command
from chainrule.tasks.groups import ByLine, paths_among


class ClassifyResult(Result):
    inputs: list[str] = key("the texts or files, in order", always=True)
    labels: list[str] = key("the label of each", always=True)
    p: list[dict[str, float]] = key("the probability of every label", always=True)
    unknown: list[int] | None = key("for each text: tokens that the run does not know, if there are any")
    cut: dict[str, int] | None = key("texts that were longer than the run reads, and the tokens that it reads of each")


@register_command("classify", ClassifyResult)
class Classify(ByLine):
    """predict the label of each text or image"""

    input: Any = argument(
        "texts, files whose lines are texts, or image files; default: the lines of standard input",
        nargs="*",
        metavar="INPUT",
        stdin=True,
    )

    def completed(self) -> Options:
        """Return the options with inputs that name files as paths."""
        return replace(self, input=paths_among(self.input, self.command))

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        for k, (given, label, p) in enumerate(zip(answer["inputs"], answer["labels"], answer["p"])):
            unknown = {"unknown": answer["unknown"][k]} if answer.get("unknown") else {}
            yield {"input": given, "label": label, "p": p, **unknown}

    def totals(self, answer: dict[str, Any]) -> Iterable[str]:
        if blank := sum(not text.strip() for text in answer["inputs"]):
            yield f"{blank} blank line{'s' * (blank > 1)}: the label is that of an empty text"
        if unknown := answer.get("unknown"):
            yield f"tokens that the run does not know: {sum(unknown)}"
        if cut := answer.get("cut"):
            told = f"texts of more than {cut['tokens']} tokens, read up to there: {cut['texts']}"
            yield f"{told}; train with a larger --context to read more"

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        for label, p, given in zip(answer["labels"], answer["p"], answer["inputs"]):
            yield f"{label}\t{p[label]:.4f}\t{given}"
