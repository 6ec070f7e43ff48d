"""generate: continue a sequence of tokens. The main metric is bits per byte, or bits per symbol."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.core import Counting
from chainrule.core.metric import Metric
from chainrule.counting.counts import Counts
from chainrule.counting.drafter import ROW_BYTES, NgramDrafter
from chainrule.data import Part, counting_batches, make_batches
from chainrule.data.dataset import EncodedData
from chainrule.inference.scoring import EvalWindow, token_nats
from chainrule.inference.speculation import can_rewind
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, register_task
from chainrule.tasks.calibration import reliability
from chainrule.tasks.generate.metrics import (
    MOST_GUESSES,
    metrics_of_symbols,
    metrics_of_text,
    symbol_items,
    text_items,
)
from chainrule.tasks.settings import ResolvedRun
from chainrule.tasks.text import VALIDATION_SYMBOLS, TextTask, head, part_bytes
from chainrule.training.loop import Source
from chainrule.training.losses import NextTokenLoss
from chainrule.training.rules import CountingRule, EMRule, GradientRule, Rule

DRAFTER_N = 5
"""Length of the n-grams that draft tokens. In bytes of tiny Shakespeare, drafts of 4 give 1.92, 2.14, 2.19 and 2.18
bytes for each verification of held-out text, for n = 4 to 7; the tables have 13, 61, 194 and 458 thousand contexts."""
DRAFTER_TOKENS = 1 << 22
"""Tokens that they are counted in, spread over the training split: a second for a million."""
DRAFTER_CONTEXTS = 1 << 16
"""Contexts that are kept of any run: 1.1 MB."""


@register_task
class Generate(TextTask):
    """Predict the next token."""

    name = "generate"
    default_models = "markov,ngram,rnn,lstm,gru,gpt"

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        return metrics_of_symbols() if counted == "symbol" else metrics_of_text()

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        part, r = data.parts["train"], ready.recipe
        if r.update == "counting":
            return _counted_once(part, model.vocab_size, max(2, (model.context or 0) + 1)), CountingRule(model)
        made = make_batches(
            part,
            model.vocab_size,
            batch_size=r.batch_size,
            sequence_length=r.sequence_length,
            stateful=r.stateful,
            reset_prob=r.reset_prob,
            seed=ready.settings.seed,
        )
        if r.update == "em":
            return Source(made.steps_per_epoch, made.at), EMRule(model, r, made.steps_per_epoch, ready.compute.device)
        return Source(made.steps_per_epoch, made.at), GradientRule(NextTokenLoss(model), r, ready.compute)

    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        part = head(data.parts["valid"], VALIDATION_SYMBOLS)
        return float(token_nats(model, part, ready.compute)[0].sum() / part_bytes(part) / math.log(2))

    def fit_drafter(self, model: Any, data: EncodedData) -> NgramDrafter | None:
        """Return the most frequent continuations in the training split, for networks that can verify them.

        It reads at most ``DRAFTER_TOKENS`` tokens, and holds ``DRAFTER_CONTEXTS`` contexts or a quarter of the bytes of
        the model, whichever is more.
        """
        if isinstance(model, Counting) or not can_rewind(model):
            return None
        part = head(data.parts["train"], DRAFTER_TOKENS)
        key = ("drafter counts", data.processor.sha256)
        counts = data.dataset.remember(key, lambda: _counts(part, model.vocab_size))
        if counts is None:
            return None
        weights = sum(x.numel() * x.element_size() for x in model.state_dict().values())
        return NgramDrafter.of(counts, max(DRAFTER_CONTEXTS, weights // 4 // ROW_BYTES))

    def evaluate(self, run: Run, part: Part) -> Evaluation:
        """Score every token, the first of a record from ``start``: its nats and its bytes."""
        began = time.perf_counter()
        reading, symbols = EvalWindow.of(run.model), part.counted == "symbol"
        most = min(MOST_GUESSES, run.model.vocab_size) if symbols else 1
        nats, guesses = token_nats(run.model, part, run.compute, reading, guesses=most)
        assert guesses is not None
        right, tables = guesses.right.astype(np.float64), {}
        more = symbol_items(guesses, run.model.vocab_size) if symbols else text_items(part)
        if "calibration" in more:
            tables["reliability"] = reliability(np.exp(guesses.log_p), right)
        window, size = run.model.window, f"{part.counted}s"
        text = {"symbols": len(nats)} if symbols else {"bytes": part.nbytes, "chars": part.nchars}
        text |= {"words": int(more["words"].sum())} if "words" in more else {}
        info = {
            "nats": float(nats.sum()), **text, "tokens": len(nats),
            "context": (window - 1) if window else run.model.context, "stride": reading.stride if window else None,
            "visible": reading.context - reading.stride, "seconds": time.perf_counter() - began,
        }  # fmt: skip
        if run.processor.tokenizer.name == "bpe":
            info["bound"] = "upper: one segmentation of many is scored"
        items = {"nats": nats, size: part.token_bytes().astype(np.float64), "right": right, **more}
        return Evaluation(
            self.metrics(part.counted), items, np.cumsum(part.ends - part.starts), info=info, tables=tables,
            totals={} if symbols or "chars" in more else {"chars": part.nchars}, positions=part.byte_ends(),
        )  # fmt: skip

    def predictions(self, run: Run, part: Part, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        """Yield the text of each record, with its log p (nats, negative) and its bytes (symbols)."""
        size = f"{part.counted}s"
        sizes, nats = evaluation.items[size].astype(np.int64), evaluation.items["nats"]
        for s, e, stop in zip(part.starts.tolist(), part.ends.tolist(), evaluation.records.tolist()):
            mine = slice(stop - (e - s), stop)
            text = run.processor.decode(part.ids[s:e]).decode(errors="replace")
            yield {"text": text, "nats": -float(nats[mine].sum()), size: int(sizes[mine].sum())}


def _counts(part: Part, vocab_size: int) -> Counts | None:
    """Counts of the n-grams that draft tokens; None where no token follows another."""
    found = [Counts.of(batch, vocab_size, DRAFTER_N) for batch in counting_batches(part, vocab_size, DRAFTER_N)]
    return functools.reduce(operator.add, found) if any(len(counts.keys) > 1 for counts in found) else None


def _counted_once(part: Part, vocab_size: int, overlap: int) -> Source:
    """Return every chunk once, in order, read on request."""
    steps = sum(1 for _ in counting_batches(part, vocab_size, overlap))
    batches = counting_batches(part, vocab_size, overlap)
    return Source(max(1, steps), lambda _epoch, _step: next(batches))
