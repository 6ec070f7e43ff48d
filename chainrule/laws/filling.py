"""Laws of models that see a whole row: padding, order of rows, context on both sides, and a proper distribution."""

from __future__ import annotations

from dataclasses import replace

import torch

from chainrule.laws.masked import WholeRows
from chainrule.laws.subject import LawBroken, same

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
