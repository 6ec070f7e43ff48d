"""``tag``: tags of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.options import Result, argument, key, register_command
from chainrule.tasks.groups import ReadsText


class TagResult(Result):
    tokens: list[list[str]] = key("the tokens of each sequence", always=True)
    tags: list[list[str]] = key("their tags", always=True)
    nats: list[float] = key("log p of the tags of each sequence", always=True)


@register_command("tag", TagResult)
class Tag(ReadsText):
    """predict the tag of each token"""

    input: Any = argument(
        "one sequence per line, or one token per line with blank lines between sequences; default: standard input; "
        "in Python also a list",
        metavar="FILE",
        stdin=True,
    )

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        for k, (words, tags) in enumerate(zip(answer["tokens"], answer["tags"])):
            yield ("\n" if k else "") + "\n".join(f"{w}\t{t}" for w, t in zip(words, tags))
