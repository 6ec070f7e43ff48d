"""fill: masked language modelling. The main metric is the accuracy on masked tokens.

The pseudo-likelihood (each token masked alone) is not a probability of the text, and not comparable with bits per byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from chainrule.core import ConfigError, MaskedLM
from chainrule.core.metric import Metric
from chainrule.data import Part
from chainrule.data.dataset import EncodedData
from chainrule.data.masked import Masking, make_masked, word_begins
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, register_task
from chainrule.tasks.fill.metrics import Answers, each_alone, many_hidden, predict_hidden, spelling
from chainrule.tasks.settings import ResolvedRun
from chainrule.tasks.text import VALIDATION_SYMBOLS, TextTask, head
from chainrule.training.loop import Source
from chainrule.training.losses import MaskedLMLoss
from chainrule.training.rules import GradientRule, Rule

SHARE, SEED = 0.15, 0
"""Share of masked tokens and seed of an evaluation: the same for every model, however it is trained."""
ALONE = 2048
"""Tokens that are masked one by one for the pseudo-likelihood, evenly spread over the split: each costs a row."""


@register_task
class Fill(TextTask):
    """Predict masked tokens."""

    name = "fill"
    default_models = "bert"

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        return (
            Metric("masked_accuracy", "masked accuracy", "마스킹한 토큰의 정확도", sentence="accuracy {}",
                   sentence_ko="정확도 {}", higher_is_better=True, of="right", items="hidden_token", min_items=200,
                   min_block=32),
            self.validation(counted),
            Metric(f"pseudo_nats_per_{counted}", "pseudo-nats", "유사 nat"),
        )  # fmt: skip

    def validation(self, counted: str) -> Metric:
        """Return the cross-entropy, which is smoother than the main metric."""
        return Metric(
            "masked_nats", "nats per masked token", "마스킹한 토큰당 nat", of="nats",
            sentence="{} nats per masked token", sentence_ko="마스킹한 토큰당 {} nat",
        )  # fmt: skip

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        r = ready.recipe
        if not isinstance(model, MaskedLM):
            raise ConfigError(f"{ready.model_type.name} is not a masked language model: --task fill takes bert")
        if not 0 < r.mask_prob < 1:
            raise ConfigError(f"train.mask_prob={r.mask_prob}: a share between 0 and 1, such as 0.15")
        masking = Masking(
            model.vocab_size, r.mask_prob, word_begins(data.processor.tokenizer) if r.whole_word_mask else None
        )
        window = min(r.sequence_length, model.window)
        made = make_masked(
            data.parts["train"],
            masking,
            rows=r.batch_size,
            window=window,
            seed=ready.settings.seed,
            next_sentence=model.next_sentence,
        )
        return Source(made.steps_per_epoch, made.at), GradientRule(MaskedLMLoss(model), r, ready.compute)

    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        part = head(data.parts["valid"], VALIDATION_SYMBOLS)
        masked = many_hidden(part, model.window, SHARE, SEED)
        return float(predict_hidden(model, part, masked, ready.compute).nats.mean())

    def evaluate(self, run: Run, part: Part) -> Evaluation:
        """Return whether every masked token was the first guess.

        The entropy and the accuracy of a unigram model of this split are beside it.
        """
        began, model = time.perf_counter(), run.model
        questions = many_hidden(part, model.window, SHARE, SEED)
        many = predict_hidden(model, part, questions, run.compute)
        alone = predict_hidden(model, part, each_alone(part, model.window, ALONE), run.compute)
        entropy, commonest = unigram(part)
        size = float(part.token_bytes()[part.places(alone.at)].sum())
        info = {
            "unigram_nats": entropy, "unigram_accuracy": commonest, "masked_symbols": len(many.at),
            "pseudo_symbols": len(alone.at), "tokens": len(part), "context": model.window - 1,
            "seconds": time.perf_counter() - began,
        }  # fmt: skip
        pseudo = float((alone.nats + spelling(part, alone.at)).sum()) / max(size, 1.0)
        return Evaluation(
            self.metrics(part.counted), {"right": many.hits.astype(np.float64), "nats": many.nats},
            np.cumsum([len(q.hidden) for q in questions]), given={f"pseudo_nats_per_{part.counted}": pseudo}, info=info,
            positions=part.byte_ends()[part.places(many.at)], points=True, details={"many": many},
        )  # fmt: skip

    def predictions(self, run: Run, part: Part, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        """Yield every masked token: its place in the split, its text, log p, and whether it was guessed."""
        many: Answers = evaluation.details["many"]
        for place, at, nats, hit in zip(
            part.places(many.at).tolist(), many.at.tolist(), many.nats.tolist(), many.hits.tolist()
        ):
            text = run.processor.decode([part.ids[at]]).decode(errors="replace")
            yield {"place": place, "text": text, "nats": -nats, "right": hit}


def unigram(part: Part) -> tuple[float, float]:
    """Return the entropy of single tokens of a split in nats, and the share of the most frequent token."""
    ids = np.concatenate([part.ids[start:end] for start, end in zip(part.starts, part.ends)])
    counts = np.bincount(ids)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum()), float(share.max())
