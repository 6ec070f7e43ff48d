"""``tag``: tags of tokens."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import ByLine


class TagResult(Result):
    tokens: list[list[str]] = key("the tokens of each sequence", always=True)
    tags: list[list[str]] = key("their tags", always=True)
    nats: list[float] = key("log p of the tags of each sequence", always=True)
    p: list[list[dict[str, float]]] | None = key("with --posteriors: the probability of every tag at each token")
    unknown: list[int] | None = key("number of tokens of each sequence that the run does not know")


@register_command("tag", TagResult)
class Tag(ByLine):
    """predict the tag of each token"""

    input: Any = argument(
        "one token per line with blank lines between sequences, as a tagger is trained on, or one sequence per line (a "
        "blank one is an empty sequence); "
        "default: standard input; in Python also a list",
        metavar="FILE",
        stdin=True,
    )

    posteriors: bool = option("also give the probability of every tag at each token, given all tokens", False)

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        names = [name for name in ("tokens", "tags", "nats", "p") if name in answer]
        for values in zip(*(answer[name] for name in names)):
            yield dict(zip(names, values))

    def totals(self, answer: dict[str, Any]) -> Iterable[str]:
        spaced = sum(" " in word for row in answer["tokens"] for word in row)
        if spaced and isinstance(self.input, str | os.PathLike):
            yield f"read as one token a line: {spaced} token{'s' * (spaced > 1)} with a space inside"
        if answer.get("unknown"):
            yield f"tokens that the run does not know: {sum(answer['unknown'])}"

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        for k, (words, tags) in enumerate(zip(answer["tokens"], answer["tags"])):
            p = [f"\t{of[tag]:.4f}" for of, tag in zip(answer["p"][k], tags)] if "p" in answer else [""] * len(tags)
            yield ("\n" if k else "") + "\n".join(f"{w}\t{t}{told}" for w, t, told in zip(words, tags, p))
