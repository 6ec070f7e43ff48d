"""Subjects of the laws on whole rows: rows with masked tokens, and captions with images."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from chainrule.core import IGNORED, MaskedBatch, MaskedLM, Objective, SequenceModel, model_type, total
from chainrule.laws.subject import LawBroken, Subject, same
from chainrule.training.losses import MaskedLMLoss


class CaptionImages(Subject):
    """Records of a caption and an image.

    Captions have 3 places over 5 words or a filler per place; images of 2 x 2 have 4 tokens.
    """

    words, caption, codes = 5, 3, 4
    vocab_size = 12
    resting = ("codec.",)

    def shape(self, vocab_size: int) -> dict[str, Any]:
        chosen = model_type("vq", "codes")
        made = chosen.configure("tiny", image_size=8, channels=1, quantiser="ema", **{"codebook_size": self.codes})
        codec = {"model_type": "vq", "model": made.model_dump()}
        return {"vocab_size": self.vocab_size, "words": self.words, "caption": self.caption, "codec": codec}

    def choices(self) -> list[list[int]]:
        captions = [[*range(self.words), self.words + place] for place in range(self.caption)]
        return [*captions, [self.words + self.caption + code for code in range(self.codes)]]

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        """Return tokens that are possible at each place, behind a start token."""
        rng = self.rng(salt)
        place_T = torch.arange(length)
        words_BT = torch.randint(self.words, (batch, length), generator=rng)
        filled_BT = torch.rand(batch, length, generator=rng) < 0.3
        text_BT = torch.where(filled_BT, self.words + place_T, words_BT)
        image_BT = self.words + self.caption + torch.randint(self.codes, (batch, length), generator=rng)
        return torch.where(place_T < self.caption, text_BT, image_BT)


class WholeRows(Subject):
    """Rows with masked tokens, for a model that sees the whole row."""

    def batch(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> MaskedBatch:
        """Return ragged rows behind the start token with two masked tokens each (one in a row of one)."""
        model, lengths_B = self.masked_lm, super().batch(batch, length, salt, vocab_size).lengths_B
        rows_BT = torch.cat([self.start_rows(batch), self.rows(batch, length, salt)], 1)
        assert lengths_B is not None
        hidden_BT = torch.zeros(rows_BT.shape, dtype=torch.bool)
        for b, n in enumerate(lengths_B.tolist()):
            hidden_BT[b, [1 + n // 3, n]] = True
        inputs_BT = rows_BT.masked_fill(hidden_BT, model.mask_id)
        targets_BT = rows_BT.masked_fill(~hidden_BT, IGNORED)
        made = MaskedBatch(inputs_BT, targets_BT, lengths_B + 1)
        if not model.next_sentence:
            return made
        segments_BT = (torch.arange(length + 1) > length // 2).long().expand(batch, -1)
        return replace(made, segments_BT=segments_BT, follows_B=torch.arange(batch) % 2)

    @cached_property
    def masked_lm(self) -> MaskedLM:
        model = self.build()
        assert isinstance(model, MaskedLM)
        return model

    @torch.no_grad()
    def log_p(self, batch: MaskedBatch, model: Any = None) -> Tensor:
        """Return log p of every token at every place, B x T x V; entries after a row's end have no meaning.

        Args:
            batch: the rows.
            model: the model; None: that of the subject.
        """
        model = model or self.masked_lm
        return self.table(model.predict(model.encode(batch)), batch.inputs_BT)

    def answers(self, model: SequenceModel) -> Tensor:
        batch = self.batch(3, 7, salt=60)
        assert batch.lengths_B is not None
        return self.log_p(batch, model)[torch.arange(8) < batch.lengths_B[:, None]][None]

    def objective(self, model: Any) -> Objective:
        return MaskedLMLoss(model)

    def loss(self, model: SequenceModel) -> Tensor:
        objective, batch = self.objective(model), self.batch(5, 13, salt=62)
        return total(objective(batch)[0], objective.counts(batch))


ROWS, TIME = 5, 13


def padded(rows: WholeRows) -> None:
    """A row has the same predictions alone and in a padded batch."""
    batch = rows.batch(ROWS, TIME, salt=70)
    assert batch.lengths_B is not None
    got = rows.log_p(batch)
    for b, length in enumerate(batch.lengths_B.tolist()):
        one = batch.rows(b, b + 1)
        segments = None if one.segments_BT is None else one.segments_BT[:, :length]
        alone = replace(
            one, inputs_BT=one.inputs_BT[:, :length], targets_BT=one.targets_BT[:, :length], segments_BT=segments
        )
        for lengths, way in ((one.lengths_B, ""), (None, " and without a length")):
            want = rows.log_p(replace(alone, lengths_B=lengths))
            same(got[b : b + 1, :length], want, f"row {b} of a padded batch against alone{way}")


def padding_is_ignored(rows: WholeRows) -> None:
    """Other tokens after the ends of rows change no prediction, bit for bit."""
    batch = rows.batch(ROWS, TIME, salt=71)
    assert batch.lengths_B is not None
    inside_BT = torch.arange(TIME + 1) < batch.lengths_B[:, None]
    other = replace(batch, inputs_BT=torch.where(inside_BT, batch.inputs_BT, rows.other(batch.inputs_BT)))
    got, want = rows.log_p(other), rows.log_p(batch)
    same(got[inside_BT], want[inside_BT], "predictions with other padding", 0)


def rows_are_independent(rows: WholeRows) -> None:
    """Rows in another order have the same predictions."""
    order = torch.tensor([3, 0, 4, 2, 1])
    batch = rows.batch(ROWS, TIME, salt=72)
    assert batch.lengths_B is not None
    segments = None if batch.segments_BT is None else batch.segments_BT[order]
    moved = replace(
        batch, inputs_BT=batch.inputs_BT[order], targets_BT=batch.targets_BT[order], lengths_B=batch.lengths_B[order],
        segments_BT=segments,
    )  # fmt: skip
    inside_BT = torch.arange(TIME + 1) < moved.lengths_B[:, None]  # type: ignore[index]
    want = rows.log_p(batch)[order]
    same(rows.log_p(moved)[inside_BT], want[inside_BT], "rows in another order")


def both_sides_are_seen(rows: WholeRows) -> None:
    """The prediction of a masked token depends on the token before it and on the token after it."""
    shown_BT = torch.cat([rows.start_rows(1), rows.rows(1, TIME, salt=73)], 1)
    shown_BT[:, 7] = rows.masked_lm.mask_id
    batch = replace(rows.batch(1, TIME, salt=73), inputs_BT=shown_BT, lengths_B=None)
    want = rows.log_p(batch)[0, 7]
    for place, side in ((6, "before"), (8, "after")):
        other = shown_BT.clone()
        other[0, place] = rows.other(shown_BT[0, place])
        if torch.equal(rows.log_p(replace(batch, inputs_BT=other))[0, 7], want):
            raise LawBroken(f"the token just {side} a masked token changes nothing")


def sums_to_one(rows: WholeRows) -> None:
    """The probabilities of a masked token sum to 1."""
    batch = rows.batch(ROWS, TIME, salt=74)
    at_BT = batch.targets_BT >= 0
    sums = rows.log_p(batch)[at_BT].exp().sum(-1)
    same(sums, torch.ones_like(sums), "p of a masked token over all tokens")
