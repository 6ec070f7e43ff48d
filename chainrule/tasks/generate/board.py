"""The board of text and symbols: the n-gram ladder, continuations, the memory curve, and cost by sequence length."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.core.metric import Metric
from chainrule.core.progress import phase, tracked
from chainrule.report.sentences import Amount, Warned, warned
from chainrule.tasks.board import (
    BoardData,
    BoardTask,
    Row,
    duplicates,
    held_out,
    little_test,
    register_board,
    still_improving,
)
from chainrule.tasks.shell import MAX_WORDS, first_words, quoted

LADDER = tuple(range(1, 9))
LADDER_TOKENS = 1 << 17
"""Tokens of validation text that the ladder is measured on."""
MIN_TRAIN = 100_000
"""Bytes (or symbols) of training data below which small models have the advantage."""
PROMPT = 60
"""Characters of the prompt."""


@register_board("generate")
class GenerateBoard(BoardTask):
    """Bits per byte (per symbol where there are no bytes), and where they come from."""

    min_test = 50_000
    has_memory = True
    least = ("entropy0", "xz")

    def prepare(self, board: BoardData) -> dict[str, Any]:
        prompt = _prompt(board.data, board.train.unit, board.test)
        return {"ladder": ladder(board.ready), "prompt": prompt, "references": _references(board)}

    def own_choices(self, model_type: str, model: Mapping[str, Any]) -> bool:
        return model_type == "ngram" and "n" not in model

    def prepare_row(self, ready: Any) -> dict[str, Any]:
        return {"ladder": ladder(ready)}

    def block_layout(self, data: Any) -> tuple[np.ndarray, np.ndarray]:
        part = held_out(data)
        ends = part.byte_ends()
        return ends, ends[np.cumsum(part.ends - part.starts) - 1]

    def row(self, run: Any, evaluation: Any, ready: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        from chainrule.tasks.generate.inference import generate

        # Without speculation: the same bits at every time, and the speed of the model itself. What is compiled at the
        # first call is no part of the speed.
        generate(run, [facts["prompt"]], max_tokens=8, speculate="off")
        made = generate(
            run, [facts["prompt"]], max_tokens=240, temperature=0.8, seed=ready.settings.seed, speculate="off"
        )
        return {
            "samples": made.get("texts") or made["written"], "tokens_per_second_generate": made["tokens_per_second"],
            "memory": [], **evaluation.tables,
        }  # fmt: skip

    def memory(self, run: Any, ready: Any) -> dict[str, Any]:
        """Return the memory curve, and the cost by sequence length."""
        from chainrule.inference.costs import growth
        from chainrule.inference.memory import memory_curve
        from chainrule.inference.scoring import token_nats

        part, model, compute = held_out(ready.data), run.model, run.compute
        with phase("testing"):
            nats, _ = token_nats(model, part, compute)
        with phase("memory curve"):
            curve = memory_curve(model, part, nats, compute, part.nbytes / len(nats))
        with phase("cost by length"):
            return {"memory": curve, "private": {"growth": growth(model, compute)}}

    # --- pure ---------------------------------------------------------------------------------------------------------

    def choose(self, model_type: str, model: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the n of the ladder that is best on validation, unless n was given."""
        if not self.own_choices(model_type, model) or not facts.get("ladder"):
            return {}
        return {"n": min(facts["ladder"], key=lambda rung: rung["value"])["n"]}

    def label(self, model_type: str, label: str, chosen: Mapping[str, Any]) -> str:
        if "n" not in chosen:
            return label
        return f"{label[:-1]}, n = {chosen['n']})" if label.endswith(")") else f"{label} (n = {chosen['n']})"

    def entries(self, facts: Mapping[str, Any], private: Mapping[str, Row]) -> dict[str, Any]:
        rows = [{"model": name, **found["growth"]} for name, found in private.items() if "growth" in found]
        lengths = max((row["lengths"] for row in rows), key=len, default=[])
        return {
            "growth": {"lengths": lengths, "rows": [{k: v for k, v in row.items() if k != "lengths"} for row in rows]}
        }

    def warnings(self, board: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Warned]:
        card = board["data"]
        unit = card.get("counted", "byte")
        size = "bytes" if unit == "byte" else "tokens"
        train, test = card["parts"]["train"][size], card["parts"].get("test", {}).get(size, 0)
        found = [warned("little_train", size=Amount(train, unit, "amount"))] if train < MIN_TRAIN else []
        return [
            *found,
            *little_test(board.get("tested", test), unit, self.min_test),
            *duplicates(card),
            *still_improving(rows, Metric.from_json(board["validation"])),
        ]

    def commands(self, card: Mapping[str, Any]) -> tuple[str, ...]:
        if card.get("counted") == "symbol":
            more = "generate {run} --max-tokens 20 -n 3", "evaluate {run} {data}", "serve {run}"
            return ("predict {run} --top-k 3 < {words}", *more)
        return (
            "generate {run} --prompt {words} --max-tokens 100",
            "predict {run} --top-k 3 < {words}",
            "score {run} < {words}",
            "serve {run}",
        )

    def words(self, example: str) -> str:
        """Return the beginning of a record: whole items of a JSON list, or no line that only numbers or names it."""
        if listed := _shortened(example):
            return quoted(listed)
        lines = [line for line in example.splitlines() if not re.fullmatch(r">.*|X:\s*\d*\s*", line)]
        return first_words("\n".join(lines))


def _shortened(example: str) -> str:
    """As many first items of a JSON list as a command shows, at least one; nothing for other examples."""
    try:
        found = json.loads(example)
    except ValueError:
        return ""
    items = next(iter(found.values()), None) if isinstance(found, dict) else found
    if not isinstance(items, list) or not items:
        return ""
    shown = [json.dumps(items[:k], ensure_ascii=False) for k in range(1, len(items) + 1)]
    return next((text for text in reversed(shown) if len(text) <= MAX_WORDS), shown[0])


def _references(board: BoardData) -> dict[str, float]:
    """Return references that need no model, in the board's unit; a compressor only if there are bytes to compress."""
    train, card = board.train, board.card
    symbols = board.data.processor.tokenizer.vocab_size
    found = {"entropy0": train.unigram_bits(symbols)}
    if train.counted == "symbol":
        return {"uniform": math.log2(symbols), **found}
    return {"xz": card["xz"]["bits_per_byte"], "uniform": 8.0, **found}


def _prompt(data: Any, unit: str, test: Any) -> str:
    """Return the beginning of a line in the middle of the test text; nothing for short records."""
    from chainrule.data import SymbolTokenizer

    if unit == "lines":
        return ""
    middle = len(test.starts) // 2
    start, end = int(test.starts[middle]), int(test.ends[middle])
    if len(test.starts) == 1:
        start += (end - start) // 2
    tokenizer = data.processor.tokenizer
    if isinstance(tokenizer, SymbolTokenizer):
        form = tokenizer.form
        start += -(start - int(test.starts[middle])) % form.step
        return form.write(tokenizer.symbols_of(test.ids[start : min(end, start + 8 * form.step)]))
    text = tokenizer.decode(test.ids[start : min(end, start + 400)]).decode(errors="ignore")
    lines = [line for line in text.split("\n")[1:] if len(line.strip()) >= 16]
    return (lines[0] if lines else text)[:PROMPT]


def ladder(ready: Any) -> list[dict[str, float]]:
    """Return the bits on validation of n-grams of each n: counted once at the largest n, estimated at each."""
    from chainrule.core import Counting, model_type
    from chainrule.data import counting_batches
    from chainrule.inference.scoring import token_nats
    from chainrule.tasks.text import head, part_bytes

    data, symbols = ready.data, ready.data.processor.tokenizer.vocab_size
    valid, chosen = head(data.parts["valid"], LADDER_TOKENS), model_type("ngram")
    top = chosen.build(chosen.configure(vocab_size=symbols, n=LADDER[-1]))
    assert isinstance(top, Counting)
    stats = None
    for batch in counting_batches(data.parts["train"], symbols, overlap=LADDER[-1]):
        new = top.summarize(batch)
        stats = new if stats is None else stats + new
    size = part_bytes(valid) * np.log(2)
    with phase("n-gram ladder"):
        return [
            {"n": n, "value": float(token_nats(model, valid, ready.compute)[0].sum() / size)}
            for n, model in tracked([*zip(LADDER, top.ladder(stats, LADDER))])  # type: ignore[attr-defined]
        ]
