"""Stress: what happens to the cost of a text when it is trimmed, when tokens are omitted or permuted, and when it is
lengthened; and that padding and batching change nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from chainrule.core import IGNORED, Autoregressive, UserError
from chainrule.core.bootstrap import mean_interval
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.inference.sampling import pad
from chainrule.inference.scoring import token_nats

DRAWS = 5
"""Random changes of each kind; a token's cost is its mean over these."""
LEAST = 8
"""Tokens of a text that can be changed in all of these ways."""
Kind = Literal["trim", "omit", "permute", "permute_nearby", "lengthen"]


class Changed(Facts):
    """The cost of the tokens of a changed text, beside that of the same tokens in the text as it is."""

    kind: Kind
    amount: float = Field(
        description="trim and omit: share of the tokens that is left out; permute_nearby: tokens of the blocks inside "
        "which they change places; permute: tokens of the text; lengthen: times as long"
    )
    tokens: int = Field(description="tokens that are in both texts, and are compared")
    nats: float = Field(description="their mean -log p in the changed text")
    change: float = Field(description="the same less that in the text as it is")
    interval: tuple[float, float] = Field(description="95 % bootstrap interval of the change, paired by token")
    bag: float = Field(description="change of a model that only counts the tokens before each")


class Stress(Facts):
    """The changes, and two checks of what must not matter."""

    nats: float = Field(description="mean -log p of the tokens of the stretch, read by itself")
    changes: list[Changed]
    padding: float = Field(description="largest change of a token's nats when the row is padded, in float64")
    batching: float = Field(description="largest change of a token's nats beside other rows, in float64")


@view(predicts_tokens, usual=False, takes=ALONG)
def stress(given: ModelInput, asked: Asked) -> Stress:
    """Return how much more the tokens of a stretch cost when it is trimmed, when tokens are omitted or permuted, and
    when a permuted copy of it stands before it, beside a control that ignores order.

    It shows what the run depends on for this text; changed texts are unlike those that it was trained on, so that a
    part of the cost may be that of the unfamiliar.
    """
    ids = given.ids[asked.begin : asked.end]
    if len(ids) < LEAST:
        raise UserError(f"--view stress: {len(ids)} tokens cannot be changed in every way; give at least {LEAST}")
    ways = [*variants(len(ids))]
    texts = [ids, *(ids[text.order] for way in ways for text in way.texts)]
    nats, bag = _nats(given, texts), [_bag_nats(text, given.run.model.vocab_size) for text in texts]
    changes, done = [], 1
    for way in ways:
        these = slice(done, done := done + len(way.texts))
        changes.append(_changed(way, nats[0], nats[these], bag[0], bag[these]))
    padding, batching = invariance(given, ids)
    return Stress(nats=float(nats[0].mean()), changes=changes, padding=padding, batching=batching)


# ---------------------------------------------------------------------------------------------------------- the changes


@dataclass(frozen=True)
class Text:
    """A changed text.

    Args:
        order: for each of its places, the place in the text as it is.
        first: the first of its places whose tokens are compared; those before it are only read.
    """

    order: np.ndarray
    first: int = 0


@dataclass(frozen=True)
class Variant:
    """A way in which a text is changed, and the texts that it gives."""

    kind: Kind
    amount: float
    texts: Sequence[Text]

    def paired(self, before_T: np.ndarray, after: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return which tokens are compared, and the mean change of each.

        Args:
            before_T: cost of each token of the text as it is.
            after: costs of the tokens of each changed text.
        """
        times_T, sum_T = np.zeros(len(before_T)), np.zeros(len(before_T))
        for text, cost in zip(self.texts, after, strict=True):
            place = text.order[text.first :]
            times_T[place] += 1
            sum_T[place] += cost[text.first :] - before_T[place]
        return times_T > 0, sum_T / np.maximum(times_T, 1)


def variants(size: int) -> Iterator[Variant]:
    """Yield the ways in which a text is changed, random ones by fixed seeds.

    Args:
        size: tokens of the text.
    """
    rng, place = np.random.default_rng(0), np.arange(size)
    for share in (0.5, 0.75):
        yield Variant("trim", share, [Text(place[round(size * share) :])])
    for share in (0.05, 0.1, 0.25):
        kept = size - max(1, round(size * share))
        yield Variant("omit", share, [Text(np.sort(rng.permutation(size)[:kept])) for _ in range(DRAWS)])
    for block in (2, 4, 16):
        yield Variant("permute_nearby", block, [Text(_nearby(place, block, rng)) for _ in range(DRAWS)])
    yield Variant("permute", size, [Text(rng.permutation(size)) for _ in range(DRAWS)])
    for times in (2, 4):
        before = [np.concatenate([rng.permutation(size) for _ in range(times - 1)]) for _ in range(DRAWS)]
        yield Variant("lengthen", times, [Text(np.concatenate([some, place]), len(some)) for some in before])


def _nearby(place: np.ndarray, block: int, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.permutation(place[k : k + block]) for k in range(0, len(place), block)])


def _changed(
    way: Variant, nats_T: np.ndarray, nats: Sequence[np.ndarray], bag_T: np.ndarray, bag: Sequence[np.ndarray]
) -> Changed:
    in_both, change_T = way.paired(nats_T, nats)
    change_T = change_T[in_both]
    return Changed(
        kind=way.kind,
        amount=way.amount,
        tokens=len(change_T),
        nats=float((nats_T[in_both] + change_T).mean()),
        change=float(change_T.mean()),
        interval=mean_interval(change_T),
        bag=float(way.paired(bag_T, bag)[1][in_both].mean()),
    )


# ------------------------------------------------------------------------------------------------------------ the costs


@dataclass
class Records:
    """Texts as records of a split, in which no token is unknown."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    unknown_at: np.ndarray
    unknown_bytes: np.ndarray


def _nats(given: ModelInput, texts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """-log p of the tokens of each text."""
    ends = np.cumsum([*map(len, texts)])
    none = np.zeros(0, np.int64)
    records = Records(np.concatenate(texts), np.concatenate([[0], ends[:-1]]), ends, none, none)
    nats, _ = token_nats(given.run.model, records, given.run.compute)
    return np.split(nats, ends[:-1])


def _bag_nats(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """-log p of each token from the counts of those before it, each token counted half a time more (Krichevsky &
    Trofimov 1981). The order of the tokens does not change the sum.
    """
    seen, costs = np.full(vocab_size, 0.5), np.zeros(len(ids))
    for t, token in enumerate(ids.tolist()):
        costs[t] = np.log((t + vocab_size / 2) / seen[token])
        seen[token] += 1
    return costs


@torch.no_grad()
def invariance(given: ModelInput, ids: np.ndarray) -> tuple[float, float]:
    """Return by how much padding changes the nats of a token at most, and by how much other rows of a batch do.

    Scores are computed in float64, so that what remains is far below any error of logic.

    Args:
        given: the record, whose run is examined.
        ids: the tokens; of a model with a window as many as it holds.
    """
    model = copy.deepcopy(given.run.model).double().eval()
    row = ids[: model.window].tolist()
    half = row[: len(row) // 2]
    (alone,), (short,) = (_row_nats(given, model, [some]) for some in (row, half))
    (padded,) = _row_nats(given, model, [half], pads=len(row) - len(half))
    batched = _row_nats(given, model, [row[::-1], row, half, row])
    changes = [batched[1] - alone, batched[2] - short, batched[3] - alone]
    return float(np.abs(padded - short).max()), max(float(np.abs(change).max()) for change in changes)


def _row_nats(given: ModelInput, model: Autoregressive, rows: Sequence[list[int]], pads: int = 0) -> list[np.ndarray]:
    """-log p of the tokens of each row, read in one batch with more pads behind the longest row."""
    device: Any = given.run.compute.device
    inputs_BT, lengths_B = pad([row[:-1] for row in rows], model.start_id)
    inputs_BT = F.pad(inputs_BT, (0, pads))
    targets_BT = torch.full_like(inputs_BT, IGNORED)
    for targets_T, row in zip(targets_BT, rows):
        targets_T[: len(row)] = torch.tensor(row)
    prediction, _ = model(inputs_BT.to(device), None, lengths_B.to(device))
    nats_BT = -prediction.log_prob(targets_BT.to(device)).double().cpu().numpy()
    return [nats[: len(row)] for nats, row in zip(nats_BT, rows)]
