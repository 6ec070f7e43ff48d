"""Objectives: what is minimised, as sums and counts, so that every split of a batch gives the same gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    CaptionImageBatch,
    Codec,
    MaskedBatch,
    MaskedLM,
    Objective,
    PairBatch,
    Prediction,
    SequenceModel,
    State,
    Terms,
    scored,
)


class NextTokenLoss(Objective):
    """-sum_t log p(x_t | x_<t) over the targets that count: the negative log-likelihood of the chain rule itself."""

    def __init__(self, model: Autoregressive):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        prediction, state = self.model(batch.inputs_BT, state, batch.lengths_B)
        nats_BT = prediction.log_prob(batch.targets_BT)
        return {"nats": (-nats_BT.sum(), scored(batch.targets_BT).sum(), 1.0)}, state


class Seq2SeqLoss(Objective):
    """-sum_t log p(y_t | y_<t, source), the source being what ``encode_prompt`` remembers; ``smoothing`` spreads a share of every
    target's probability evenly over all symbols (torch's definition; Szegedy et al. 2016).
    """

    model: Autoregressive

    def __init__(self, model: Autoregressive, smoothing: float = 0.0):
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        assert isinstance(batch, PairBatch)
        state = self.model.encode_prompt(batch.sources_BS, batch.source_lengths_B)
        prediction, _ = self.model(batch.inputs_BT, state)  # what stands behind the end of a row is not scored
        loss = smoothed(prediction, batch.targets_BT, self.smoothing if self.training else 0.0)
        return {"nats": (loss, scored(batch.targets_BT).sum(), 1.0)}, None


class MaskedLMLoss(Objective):
    """-sum log p(x_t | all that is shown) over what was hidden; where pairs are given, the cross-entropy of "follows" beside it
    (Devlin et al. 2019: the sum of both means).
    """

    model: Any

    def __init__(self, model: MaskedLM):
        super().__init__()
        self.model = model

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, MaskedBatch)
        asked = {} if batch.follows_B is None else {"follows": batch.follows_B.new_tensor(len(batch.follows_B))}
        return super().counts(batch) | asked

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        assert isinstance(batch, MaskedBatch)
        hidden_BTD, at_BT = self.model.encode(batch), scored(batch.targets_BT)
        prediction = self.model.predict(
            hidden_BTD[at_BT][None]
        )  # the output map is paid for where something was hidden
        nats = -prediction.log_prob(batch.targets_BT[at_BT][None]).sum()
        counts = self.counts(batch)
        terms: Terms = {"nats": (nats, counts["nats"], 1.0)}
        if batch.follows_B is not None:
            odds_B = self.model.next_sentence_logit(hidden_BTD).float()
            wrong = F.binary_cross_entropy_with_logits(odds_B, batch.follows_B.float(), reduction="sum")
            terms["follows"] = (wrong, counts["follows"], 1.0)
        return terms, None


def smoothed(prediction: Prediction, targets_BT: Tensor, smoothing: float) -> Tensor:
    """Sum of the losses against smoothed targets."""
    if not smoothing:
        return -prediction.log_prob(targets_BT).sum()
    logits = prediction.logits().flatten(0, 1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(
        logits, targets_BT.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )


class LabelLoss(Objective):
    """-sum log p(label | row) over the labels that are given: of every token, or of the whole row. ``model(batch)`` predicts
    them all at once; ``smoothing`` as in ``Translated``.
    """

    def __init__(self, model: SequenceModel, smoothing: float = 0.0):
        super().__init__()
        self.model, self.smoothing = model, smoothing

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        loss = smoothed(self.model(batch), batch.targets_BT, self.smoothing if self.training else 0.0)
        return {"nats": (loss, scored(batch.targets_BT).sum(), 1.0)}, None


class ReconstructionLoss(Objective):
    """A codec's own terms, each a mean over pictures."""

    model: Any

    def __init__(self, model: Codec):
        super().__init__()
        self.model = model

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return dict.fromkeys(self.model.terms, batch.targets_BT.new_tensor(len(batch.targets_BT)))

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        counts = self.counts(batch)
        return {name: (term, counts[name], 1.0) for name, term in self.model.losses(batch).items()}, None


class CaptionImageLoss(Objective):
    """-sum log p of the caption and of the picture's symbols, each divided by its own count: 1/8 text and 7/8 picture (Ramesh et al.
    2021).
    """

    model: Autoregressive

    def __init__(self, model: Autoregressive, text: float = 1 / 8):
        super().__init__()
        self.model, self.text = model, text

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, CaptionImageBatch)
        rows, places = batch.targets_BT.shape
        sizes = {"text": rows * batch.caption, "picture": rows * (places - batch.caption)}
        return {name: batch.targets_BT.new_tensor(size) for name, size in sizes.items()}

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        assert isinstance(batch, CaptionImageBatch)
        prediction, _ = self.model(batch.inputs_BT)
        nats_BT, counts = -prediction.log_prob(batch.targets_BT), self.counts(batch)
        text, picture = nats_BT[:, : batch.caption].sum(), nats_BT[:, batch.caption :].sum()
        return {"text": (text, counts["text"], self.text), "picture": (picture, counts["picture"], 1 - self.text)}, None
