"""``generate``: continue sequences of tokens, symbols or numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from chainrule.core.digits import in_full
from chainrule.core.errors import UserError
from chainrule.options import Options, Result, argument, key, option, register_command
from chainrule.tasks.groups import Constraints, Sampling, Speculation, UsesRun


class GenerateResult(Result):
    prompts: list[Any] | None = key("the prompts, where a file holds them")
    texts: list[str] | None = key("continuations, without their prompts")
    sequences: list[Any] | None = key("of symbols and series: whole records as lists")
    written: list[str] | None = key("of symbols: the same as predict and score read them from a file")
    nats: list[float] = key("log p of each", always=True)
    unknown: list[int] | None = key("for each prompt: tokens that the run does not know, if there are any")
    tokens_per_second: float = key("speed", always=True)
    draft_tokens: int | None = key("with speculative decoding: tokens that were drafted")
    accepted_tokens: int | None = key("of these: tokens that the model accepted")
    columns: list[str] | None = key("of a series: the name of each")
    levels: list[float] | None = key("of a series: the probabilities of the quantiles")
    quantiles: list[Any] | None = key("of a series: quantiles at each step")


@register_command("generate", GenerateResult)
class Generate(UsesRun, Sampling, Speculation, Constraints):
    """generate text, sequences of symbols, or forecasts of a series"""

    by_line = "input"

    prompt: tuple[str, ...] = option("text to continue (may be repeated)", (), metavar="TEXT", place=True)
    input: Any = argument(
        "prompts, one per line (of FASTA an entry, of ABC a tune; -: standard input), instead of --prompt; in Python "
        "also a list",
        nargs="?",
        metavar="FILE",
        place=False,
    )
    max_tokens: int | None = option(
        "maximum number of tokens (default: 200), or number of values of a series (default: 24)", metavar="N"
    )
    n: int | None = option("continuations of each prompt (default: 1)", metavar="N")
    min_p: float | None = option("drop tokens less probable than P times the most probable one", metavar="P")
    stop: tuple[str, ...] = option(
        "end the text before the first occurrence of TEXT (may be repeated)", (), metavar="TEXT"
    )
    beams: int | None = option(
        "beam search for the -n most probable continuations, with N beams, instead of sampling", metavar="N"
    )

    def completed(self) -> Options:
        if self.input not in (None, "-") and not os.path.exists(self.input):
            raise UserError(f"{self.input}: no such file of prompts; a text to continue is given by --prompt TEXT")
        return self

    def notes(self, answer: dict[str, Any]) -> Iterable[str]:
        for number, count in enumerate(answer.get("unknown", []), 1):
            where = f"--prompt {self.prompt[number - 1]}" if self.prompt else f"line {number}"
            if count:
                yield f"{where}: tokens that the run does not know: {count}"

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        n = self.n or 1
        several = [name for name in ("texts", "sequences", "written", "nats") if name in answer]
        one = {"prompt": "prompts", "column": "columns", "unknown": "unknown", "quantiles": "quantiles"}
        for k in range(len(answer["nats"]) // n):
            alone = {name: answer[of][k] for name, of in one.items() if of in answer}
            yield {**alone, **{name: answer[name][k * n : (k + 1) * n] for name in several}}

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if "quantiles" in answer:
            for name, steps in zip(answer["columns"], answer["quantiles"]):
                spread = min(high - low for low, _, high in steps)
                shown = [[in_full(value, spread) for value in step] for step in steps]
                width = max(12, *(len(number) for row in shown for number in row))
                for t, row in enumerate([["10 %", "median", "90 %"], *shown]):
                    yield (f"{t:>6}" if t else f"{name}\n  step") + "".join(f" {number:>{width}}" for number in row)
        elif "written" in answer:
            yield from answer["written"]
        else:
            prompts = answer.get("prompts") or self.prompt or ("",)
            for k, text in enumerate(answer["texts"]):
                yield ("\n---\n" if k else "") + prompts[k // (self.n or 1)] + text
