"""``data make``: synthetic data with known answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Seed


class MakeDataResult(Result):
    kinds: list[dict[str, Any]] | None = key("without a kind: all kinds")
    out: str | None = key("the folder")
    kind: str | None = key("the kind of the data")
    task: str | None = key("the task that they are for")
    description: str | None = key("the same in words")
    entropy_rate: float | None = key("of a stream: bits per symbol")
    lag: int | None = key("of a stream: the distance of the furthest symbol that the next one depends on")
    chance: dict[str, float] | None = key("of a task: the values that guessing reaches, by metric")


@register_command("data make", MakeDataResult, section=SECTIONS[2], function="make_data")
class MakeData(Seed):
    """make synthetic data with known answers"""

    kind: str | None = argument(
        "a stream (markov, hmm, copy, uniform) or data of a task (copy with --task translate, reverse, sort, recall, "
        "parity, adding, agreement, rainbow); without KIND, all are listed",
        nargs="?",
    )
    out: str | None = option("the folder to write", metavar="DIR", place=True)
    task: str | None = option("generate or translate, for the kind copy, which exists for both")
    size: float | None = option(
        "number of symbols of a stream (default: 1e6), or of training records of a task", metavar="N"
    )

    def call(self) -> dict[str, Any]:
        from chainrule.data.synthetic import make_data

        return make_data(**self.given())

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if "kinds" in answer:
            yield from _table(answer["kinds"])
        elif "chance" in answer:
            guesses = ", ".join(f"{what.replace('_', ' ')} {value:.4g}" for what, value in answer["chance"].items())
            yield f"{answer['out']}: {answer['description']}; chance level: {guesses}"
        else:
            bits = answer["entropy_rate"]
            yield f"{answer['out']}: {answer['description']}; entropy rate {bits} bits per symbol"

    def hints(self) -> Iterable[str]:
        """Return the table of all kinds, if this kind is not among them."""
        from chainrule.data.synthetic import make_data

        known = make_data()["kinds"]
        return [] if self.kind in {None, *(found["kind"] for found in known)} else _table(known)


def _table(kinds: list[dict[str, Any]]) -> Iterable[str]:
    yield "  KIND       --task     what is made (only the kind copy needs --task translate)"
    for found in kinds:
        yield f"  {found['kind']:<11}{found['task'] or '-':<11}{found['summary']}"
