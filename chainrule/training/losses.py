"""Objectives: losses as sums and counts, so that every split of a batch gives the same gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    CaptionImageBatch,
    MaskedBatch,
    Objective,
    PairBatch,
    Prediction,
    SequenceModel,
    State,
    Terms,
    scored,
)


class NextTokenLoss(Objective):
    """-sum_t log p(x_t | x_<t) over the scored targets: the negative log-likelihood of the chain rule itself.

    Args:
        model: predicts the next token.
    """

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        prediction, state = self.model(batch.inputs_BT, state, batch.lengths_B)
        nats_BT = prediction.log_prob(batch.targets_BT)
        return {"nats": (-nats_BT.sum(), scored(batch.targets_BT).sum(), 1.0)}, state


class Seq2SeqLoss(Objective):
    """-sum_t log p(y_t | y_<t, source).

    Args:
        model: encodes the source (``encode_prompt``) and predicts the target.
        smoothing: share of every target's probability that is spread evenly over the vocabulary, in training (torch's
            definition; Szegedy et al. 2016).
    """

    def __init__(self, model: Autoregressive, smoothing: float = 0.0):
        super().__init__(model)
        self.smoothing = smoothing

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        assert isinstance(batch, PairBatch)
        state = self.model.encode_prompt(batch.sources_BS, batch.source_lengths_B)
        prediction, _ = self.model(batch.inputs_BT, state)  # what stands behind the end of a row is not scored
        loss = smoothed(prediction, batch.targets_BT, self.smoothing if self.training else 0.0)
        return {"nats": (loss, scored(batch.targets_BT).sum(), 1.0)}, None


class MaskedLMLoss(Objective):
    """-sum log p(x_t | all shown tokens) over the masked tokens, plus the cross-entropy of next-sentence prediction.

    Devlin et al. 2019: the sum of both means; the second only where segments are paired.

    Args:
        model: a masked language model.
    """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, MaskedBatch)
        pairs = {} if batch.follows_B is None else {"follows": batch.follows_B.new_tensor(len(batch.follows_B))}
        return super().counts(batch) | pairs

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        assert isinstance(batch, MaskedBatch)
        hidden_BTD, at_BT = self.model.encode(batch), scored(batch.targets_BT)
        prediction = self.model.predict(hidden_BTD[at_BT][None])  # logits at masked positions only
        nats = -prediction.log_prob(batch.targets_BT[at_BT][None]).sum()
        counts = self.counts(batch)
        terms: Terms = {"nats": (nats, counts["nats"], 1.0)}
        if batch.follows_B is not None:
            odds_B = self.model.next_sentence_logit(hidden_BTD).float()
            wrong = F.binary_cross_entropy_with_logits(odds_B, batch.follows_B.float(), reduction="sum")
            terms["follows"] = (wrong, counts["follows"], 1.0)
        return terms, None


def smoothed(prediction: Prediction, targets_BT: Tensor, smoothing: float) -> Tensor:
    """Return the sum of the losses against smoothed targets.

    Args:
        prediction: distributions over the vocabulary.
        targets_BT: ids; IGNORED ones do not count.
        smoothing: share of every target's probability that is spread evenly.

    >>> import torch
    >>> from chainrule.core import Categorical
    >>> uniform, targets_BT = Categorical(torch.zeros(1, 2, 4)), torch.tensor([[3, -1]])
    >>> [round(smoothed(uniform, targets_BT, share).exp().item(), 3) for share in (0.0, 0.1)]
    [4.0, 4.0]
    """
    if not smoothing:
        return -prediction.log_prob(targets_BT).sum()
    logits = prediction.logits().flatten(0, 1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(
        logits, targets_BT.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )


class LabelLoss(Objective):
    """-sum log p(label | row) over the known labels: of every token, or of the whole row.

    Args:
        model: ``model(batch)`` predicts all labels at once.
        smoothing: as for ``Seq2SeqLoss``.
    """

    def __init__(self, model: SequenceModel, smoothing: float = 0.0):
        super().__init__(model)
        self.smoothing = smoothing

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        loss = smoothed(self.model(batch), batch.targets_BT, self.smoothing if self.training else 0.0)
        return {"nats": (loss, scored(batch.targets_BT).sum(), 1.0)}, None


class ReconstructionLoss(Objective):
    """The codec's own terms, each a mean over images.

    Args:
        model: the codec.
    """

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return dict.fromkeys(self.model.terms, batch.targets_BT.new_tensor(len(batch.targets_BT)))

    def forward(self, batch: Batch, state: State | None = None) -> tuple[Terms, State | None]:
        counts = self.counts(batch)
        return {name: (term, counts[name], 1.0) for name, term in self.model.losses(batch).items()}, None


class CaptionImageLoss(Objective):
    """-sum log p of the caption and of the image tokens, each divided by its own count (Ramesh et al. 2021).

    Args:
        model: reads the caption, then the image tokens.
        text: weight of the caption; the image has the rest, 7/8.
    """

    def __init__(self, model: Autoregressive, text: float = 1 / 8):
        super().__init__(model)
        self.text = text

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
