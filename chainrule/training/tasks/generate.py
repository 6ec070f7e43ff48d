"""generate: continue a sequence of symbols. Judged by the bits that the text costs, symbol after symbol."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import Autoregressive, ConfigError, Counting, Expecting, Family, SequenceModel
from chainrule.core.metric import Metric
from chainrule.data import Part, counting_batches, make_batches, read
from chainrule.data.corpus import SymbolDataset, TextDataset, holds_symbols
from chainrule.data.dataset import EncodedData
from chainrule.data.processor import Processor
from chainrule.data.processors import encode_held_out, fit_tokens
from chainrule.data.table import TableOptions
from chainrule.runs.run import Run
from chainrule.scoring.evaluate import Reading, token_nats
from chainrule.scoring.objectives import NextSymbol
from chainrule.training.loop import Source
from chainrule.training.rules import CountingRule, EMRule, GradientRule, Rule
from chainrule.training.settings import Prepared, RunConfig
from chainrule.training.tasks import Evaluation, Task, register_task

VALIDATION_SYMBOLS = 1 << 15
"""Symbols of validation text that are looked at to choose the best weights, taken evenly from the whole part."""


class OfText(Task):
    """A task over tokens of text, or symbols without bytes: how they are read, and what of them a run keeps."""

    card_of_encoding = True
    data_options = ("tokenizer", "unit", "group", "time", "on_bad")

    def read(self, settings: RunConfig) -> TextDataset | SymbolDataset:
        s = settings
        symbols = holds_symbols(s.data, s.tokenizer)
        return read(
            s.data, symbols=symbols, unit=s.unit, split=s.split, on_bad=s.on_bad, table=table_options(s.model_dump())
        )

    def fit_processor(
        self, dataset: Any, chosen: Family | None, settings: RunConfig, learnt: Run | None = None
    ) -> Processor:
        return fit_tokens(dataset, settings.tokenizer)

    def read_split(self, run: Run, source: Path | str, options: dict[str, Any]) -> Part:
        return encode_held_out(run.processor, source, options["unit"], options["on_bad"], table_options(options))

    def described(self, data: EncodedData) -> dict[str, Any]:
        return {"parts": {name: len(part) for name, part in data.parts.items()}}


def table_options(told: dict[str, Any]) -> TableOptions:
    """Columns, group and time among the settings of a run."""
    return TableOptions(told.get("columns"), told.get("group"), told.get("time"))


@register_task
class Generate(OfText):
    name = "generate"
    rows = "markov,ngram,rnn,lstm,gru,gpt"

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        accuracy = Metric("accuracy", "accuracy", "정확도", higher_is_better=True, of="right")
        perplexity = Metric("perplexity", "perplexity per token", "토큰당 퍼플렉시티", of="nats", aggregate="exp")
        if counted == "symbol":
            main = Metric("bits_per_symbol", "bits per symbol", "기호당 비트", sentence="{} bits per symbol",
                          sentence_ko="기호당 {}비트", of="nats", per="symbols", scale=math.log(2), items="symbol")  # fmt: skip
            return main, accuracy, perplexity
        return (
            Metric("bits_per_byte", "bits per byte", "바이트당 비트", sentence="{} bits per byte", sentence_ko="바이트당 {}비트",
                   of="nats", per="bytes", scale=math.log(2), items="byte"),
            Metric("bits_per_char", "bits per character", "글자당 비트", of="nats", per="chars", scale=math.log(2)),
            accuracy,
            perplexity,
        )  # fmt: skip

    def learning(self, model: Autoregressive, data: EncodedData, ready: Prepared) -> tuple[Source, Rule]:
        part, r = data.parts["train"], ready.recipe
        if r.update == "counting":
            if not isinstance(model, Counting):
                raise ConfigError(f"{ready.family.name} is no Counting model: its recipe cannot say update=counting")
            return _counted_once(part, model.symbols, max(2, (model.context or 0) + 1)), CountingRule(model)
        made = make_batches(
            part,
            model.symbols,
            rows=r.rows,
            window=r.window,
            windows=r.windows,
            forget=r.forget,
            seed=ready.settings.seed,
        )
        if r.update == "em":
            if not isinstance(model, Expecting):
                raise ConfigError(f"{ready.family.name} counts nothing that is hidden: its recipe cannot say update=em")
            return Source(made.steps_per_epoch, made.at), EMRule(model, r, made.steps_per_epoch, ready.compute.device)
        return Source(made.steps_per_epoch, made.at), GradientRule(NextSymbol(model), r, ready.compute)

    def validator(self, data: EncodedData, ready: Prepared) -> Callable[[SequenceModel], float]:
        part = head(data.parts["valid"], VALIDATION_SYMBOLS)
        size = part_bytes(part)

        def validate(model: SequenceModel) -> float:
            assert isinstance(model, Autoregressive)
            return float(token_nats(model, part, ready.compute)[0].sum() / size / math.log(2))

        return validate

    def evaluate(self, loaded: Run, part: Part) -> Evaluation:
        """Every symbol is scored, the first of a record from ``start``; nats, and the bytes that each symbol stands for."""
        began = time.perf_counter()
        reading = Reading.of(loaded.model)
        nats, hits = token_nats(loaded.model, part, loaded.compute, reading, guesses=True)
        assert hits is not None
        window, size = loaded.model.window, f"{part.counted}s"
        text = {"bytes": part.nbytes, "chars": part.nchars} if part.counted == "byte" else {"symbols": len(nats)}
        info = {
            "nats": float(nats.sum()), **text, "tokens": len(nats),
            "context": (window - 1) if window else loaded.model.context, "stride": reading.stride if window else None,
            "evaluation": reading.text, "seconds": time.perf_counter() - began,
        }  # fmt: skip
        if loaded.processor.tokenizer.name == "bpe":
            info["bound"] = "upper: one segmentation of many is scored"
        items = {"nats": nats, size: part.token_bytes().astype(np.float64), "right": hits.astype(np.float64)}
        return Evaluation(
            self.metrics(part.counted), items, np.cumsum(part.ends - part.starts), totals={"chars": part.nchars}, info=info, positions=part.byte_ends()
        )  # fmt: skip

    def predictions(self, loaded: Run, part: Part, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        """The text of each record, with its log p (nats, negative) and its bytes (symbols)."""
        size = f"{part.counted}s"
        sizes, nats = evaluation.items[size].astype(np.int64), evaluation.items["nats"]
        for s, e, stop in zip(part.starts.tolist(), part.ends.tolist(), evaluation.records.tolist()):
            mine = slice(stop - (e - s), stop)
            text = loaded.processor.decode(part.ids[s:e]).decode(errors="replace")
            yield {"text": text, "nats": -float(nats[mine].sum()), size: int(sizes[mine].sum())}


def _counted_once(part: Part, symbols: int, overlap: int) -> Source:
    """Every chunk once, in order, read when it is asked for."""
    steps = sum(1 for _ in counting_batches(part, symbols, overlap))
    batches = counting_batches(part, symbols, overlap)
    return Source(max(1, steps), lambda _epoch, _step: next(batches))


def head(part: Part, symbols: int) -> Part:
    """About the first ``symbols`` of a part, taken evenly from all over it: every record (or 64 stretches of a stream) gives
    its share from its beginning.
    """
    size = len(part)
    if size <= symbols:
        return part
    if len(part.starts) >= 64:
        keep = np.zeros(len(part.starts), dtype=bool)
        keep[:: math.ceil(size / symbols)] = True
        starts, ends = part.starts[keep], part.ends[keep]
    else:
        pieces = [
            np.linspace(s, e, max(2, round(64 * (e - s) / size) + 1)).astype(int)[:-1]
            for s, e in zip(part.starts, part.ends)
        ]
        starts = np.concatenate(pieces)
        limits = np.concatenate([np.append(p[1:], e) for p, e in zip(pieces, part.ends)])
        ends = np.minimum(limits, starts + math.ceil(symbols / len(starts)))
    return restrict(part, starts, ends)


def restrict(part: Part, starts: np.ndarray, ends: np.ndarray) -> Part:
    """The part that consists of these stretches of ``part.ids`` alone."""
    index = np.searchsorted(starts, part.unknown_at, "right") - 1
    inside = (index >= 0) & (part.unknown_at < ends[np.maximum(index, 0)])
    small = replace(
        part, starts=starts, ends=ends, nbytes=0, nchars=0, unknown_at=part.unknown_at[inside],
        unknown_bytes=part.unknown_bytes[inside], record_bytes=None,
    )  # fmt: skip
    small.nbytes = part_bytes(small)
    return small


def part_bytes(part: Part) -> int:
    """Bytes of text in a part; symbols where there are no bytes."""
    return sum(part.bytes_between(s, e) for s, e in zip(part.starts.tolist(), part.ends.tolist()))
