"""The board of text: the n-gram ladder, continuations, the memory curve, and what length costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.core import Counting, family
from chainrule.data import SymbolTokenizer, counting_batches
from chainrule.report import measure
from chainrule.report.exhibit import Exhibit, Figure
from chainrule.report.verdict import make_warnings
from chainrule.runs.run import Run
from chainrule.scoring.evaluate import token_nats
from chainrule.training.runs import prepare
from chainrule.training.tasks import Measured
from chainrule.training.tasks.generate import head, part_bytes
from chainrule.training.train import say

LADDER = tuple(range(1, 9))
LADDER_SYMBOLS = 1 << 17
BYTES = Figure("bits_per_byte", "{} bits per byte", "바이트당 {}비트", "bytes of test data", "시험 데이터 {}바이트")
SYMBOLS = Figure(
    "bits_per_symbol", "{} bits per symbol", "기호당 {}비트", "symbols of test data", "시험 데이터 기호 {}개"
)


class OfText(Exhibit):
    """Bits per byte (per symbol where there are no bytes), and where they come from."""

    @property
    def figure(self) -> Figure:
        return SYMBOLS if self.on.corpus.counted == "symbol" else BYTES

    def board(self) -> dict[str, Any]:
        prompt = self._prompt(self.on.corpus.parts["train"].unit)
        return {"ladder": self.on.before.get("ladder", []), "prompt": prompt, "references": self._references()}

    def _references(self) -> dict[str, float]:
        """Figures that need no model, in the board's unit; a compressor only where there are bytes to compress."""
        train, card = self.on.corpus.parts["train"], self.on.card
        spelled = 8.0 * float(train.unknown_bytes.sum())
        found = {"entropy0": (card["entropy"] * len(train) + spelled) / train.nbytes}
        if train.counted == "symbol":
            return {"uniform": math.log2(self.on.corpus.processor.tokenizer.symbols), **found}
        return {"xz": card["xz"]["bits_per_byte"], "uniform": 8.0, **found}

    def _prompt(self, unit: str) -> str:
        """The beginning of a line in the middle of the test text; nothing for short records (they begin at the beginning)."""
        if unit == "lines":
            return ""
        test = self.on.test
        middle = len(test.starts) // 2
        start, end = int(test.starts[middle]), int(test.ends[middle])
        if len(test.starts) == 1:
            start += (end - start) // 2
        tokenizer = self.on.corpus.processor.tokenizer
        if isinstance(tokenizer, SymbolTokenizer):
            form = tokenizer.form
            start += -(start - int(test.starts[middle])) % form.step
            return form.write(tokenizer.symbols_of(test.ids[start : min(end, start + 8 * form.step)]))
        text = tokenizer.decode(test.ids[start : min(end, start + 400)]).decode(errors="ignore")
        lines = [line for line in text.split("\n")[1:] if len(line.strip()) >= 16]
        return (lines[0] if lines else text)[:60]

    def before(self) -> None:
        if not self.on.board["ladder"]:
            self.climb()
        self._choose_n()

    def climb(self) -> None:
        """The ladder: one count of the training part at n = 8, eight estimates, validation bits of each."""
        corpus = self.on.corpus
        train, valid = corpus.parts["train"], head(corpus.parts["valid"], LADDER_SYMBOLS)
        chosen, compute = (
            family("ngram"),
            prepare(self.on.settings.replace(family="ngram", model={}, size="small"), self.on.dataset).compute,
        )
        top = chosen.build(chosen.configure(symbols=corpus.processor.tokenizer.symbols, n=LADDER[-1]))
        assert isinstance(top, Counting)
        stats = None
        for batch in counting_batches(train, corpus.processor.tokenizer.symbols, overlap=LADDER[-1]):
            new = top.summarize(batch)
            stats = new if stats is None else stats + new
        size = part_bytes(valid) * np.log(2)
        ladder = self.on.board["ladder"]
        for n, model in zip(LADDER, top.ladder(stats, LADDER)):  # type: ignore[attr-defined]
            ladder.append({"n": n, "value": float(token_nats(model, valid, compute)[0].sum() / size)})
        say("ladder: " + ", ".join(f"n={r['n']} {r['value']:.3f}" for r in ladder) + f" {self.on.words} (validation)")

    def _choose_n(self) -> None:
        """The n-gram row is the rung that is best on validation, unless its n was given."""
        best = min(self.on.board["ladder"], key=lambda rung: rung["value"])["n"]
        for entry in self.on.entries:
            if entry.family.name == "ngram" and "n" not in entry.settings.model:
                entry.settings = entry.settings.replace(model={**entry.settings.model, "n": best})
                entry.row["label"] = f"n-gram (n = {best})" if entry.name == "ngram" else entry.row["label"]

    def row(self, entry: Any, loaded: Run, measured: Measured) -> dict[str, Any]:
        texts, speed = measure.samples(loaded, self.on.board["prompt"], seed=entry.cells[0].seed)
        memory = measure.curve_of_memory(loaded, self.on.test, measured.losses)
        return {"samples": texts, "tokens_per_second_generate": speed, "memory": memory}

    def after(self) -> None:
        rows = []
        for entry in self.on.entries:
            if entry.row["status"] == "done":
                trainer: Any = entry.cells[0].trainer
                rows.append({"model": entry.name, **measure.growth(trainer.model, trainer.plan.compute)})
        self.on.board["growth"] = {"lengths": list(measure.GROWTH_LENGTHS), "rows": rows}

    def warnings(self, rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
        return make_warnings(self.on.card, rows)
