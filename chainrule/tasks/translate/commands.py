"""``translate``: targets of sources."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import ByLine, Constraints


class TranslateResult(Result):
    translations: list[str] = key("one for each source", always=True)
    nats: list[float] = key("log p of each", always=True)
    tokens_per_second: float = key("speed", always=True)
    n_best: list[list[dict[str, Any]]] | None = key("with --n-best: text, nats and score of each")
    cut: int | None = key("number of sources that were too long")
    unknown: int | None = key("number of tokens of the sources that the run does not know")
    unended: int | None = key("number of translations that ended at the maximum length")


@register_command("translate", TranslateResult)
class Translate(ByLine, Constraints):
    """translate each line: one line in, one line out"""

    input: Any = argument(
        "one source per line; default: standard input; in Python also a list", metavar="FILE", stdin=True
    )
    beams: int | None = option("hypotheses kept at once (default: 4; 1 is greedy)", metavar="N")
    n_best: int | None = option("list the K best translations of each source, with log p", metavar="K")
    length_penalty: float | None = option(
        "larger values favour longer translations; 0 is none (default: tuned on validation)", metavar="A"
    )
    coverage_penalty: float | None = option(
        "weight of the coverage penalty (Wu et al. 2016); for rnn, lstm, gru with attention (default: 0)", metavar="B"
    )
    min_length: int | None = option("minimum length of a translation in tokens", metavar="N")
    max_length: int | None = option(
        "maximum length in tokens (default: follows from the length of the source)", metavar="N"
    )
    no_repeat_ngram: int | None = option("never repeat a sequence of N tokens", metavar="N")
    diverse: int | None = option("diverse beam search with G groups of beams", metavar="G")
    mbr: bool = option("minimum Bayes risk (MBR) decoding with chrF over the hypotheses of the beam", False)

    def rows(self, answer: dict[str, Any]) -> Iterable[dict[str, Any]]:
        for k, (text, nats) in enumerate(zip(answer["translations"], answer["nats"])):
            listed = {"n_best": answer["n_best"][k]} if answer.get("n_best") else {}
            yield {"translation": text, "nats": nats, **listed}

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        if "n_best" not in answer:
            yield from answer["translations"]
        for k, row in enumerate(answer.get("n_best", [])):
            yield ("\n" if k else "") + "\n".join(f"{h['nats']:.3f}\t{h['text']}" for h in row)

    def totals(self, answer: dict[str, Any]) -> Iterable[str]:
        if answer.get("cut"):
            yield f"sources of more than 256 tokens, read up to there: {answer['cut']}"
        if answer.get("unknown"):
            yield f"tokens of the sources that the run does not know: {answer['unknown']}"
        if answer.get("unended"):
            yield f"translations that ended at the maximum length: {answer['unended']}; --max-length N sets it"
