"""Predictions of masked tokens: many masked at once, or each alone (pseudo-likelihood)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from chainrule.core import IGNORED, MaskedBatch, MaskedLM
from chainrule.core.compute import Compute
from chainrule.core.progress import tracked
from chainrule.inference.batching import longest_first
from chainrule.inference.scoring import Symbols


@dataclass(frozen=True)
class Question:
    """A row ``ids[read:stop]`` with the places ``hidden`` (numbers in ids) masked."""

    read: int
    stop: int
    hidden: np.ndarray

    def __len__(self) -> int:
        return self.stop - self.read


@dataclass(frozen=True)
class Answers:
    """For every masked token, in order: its place, its -log p, and whether it was the first guess."""

    at: np.ndarray
    nats: np.ndarray
    hits: np.ndarray


def many_hidden(part: Symbols, window: int, share: float, seed: int) -> list[Question]:
    """Return rows of at most ``window`` - 1 tokens that cover a split, with round(share × length) masked in each.

    Args:
        part: the split.
        window: length of the model's input, with the start token.
        share: share of masked tokens.
        seed: seed of the choice, which is the same for every model.
    """
    rng, questions = np.random.default_rng(seed), []
    for start, end in zip(part.starts.tolist(), part.ends.tolist()):
        for read in range(start, end, window - 1):
            stop = min(end, read + window - 1)
            count = min(stop - read, max(1, round(share * (stop - read + 1))))
            questions.append(Question(read, stop, np.sort(rng.permutation(stop - read)[:count]) + read))
    return questions


def each_alone(part: Symbols, window: int, most: int) -> list[Question]:
    """Return a row for each of at most ``most`` tokens, evenly spread, masked in the middle if its record allows."""
    sizes = part.ends - part.starts
    first = np.cumsum(sizes) - sizes
    chosen = np.unique(np.linspace(0, int(sizes.sum()), min(most, int(sizes.sum())), endpoint=False).astype(int))
    record = np.searchsorted(first, chosen, "right") - 1
    questions = []
    for place, r in zip(chosen.tolist(), record.tolist()):
        start, end = int(part.starts[r]), int(part.ends[r])
        at = start + place - int(first[r])
        read = max(start, min(at - (window - 1) // 2, end - (window - 1)))
        questions.append(Question(read, min(end, read + window - 1), np.array([at])))
    return questions


@torch.no_grad()
def predict_hidden(model: MaskedLM, part: Symbols, questions: Sequence[Question], compute: Compute) -> Answers:
    """Predict masked tokens; all of them are replaced by the mask, none is kept or replaced at random."""
    model.eval()  # type: ignore[attr-defined]
    first = np.cumsum([0, *(len(q.hidden) for q in questions)])
    nats, hits = np.zeros(first[-1]), np.zeros(first[-1], bool)
    for group in tracked([*longest_first([len(q) for q in questions])]):
        where = np.concatenate([np.arange(first[k], first[k + 1]) for k in group])
        nats[where], hits[where] = _answer(model, part, [questions[k] for k in group], compute)
    at = np.concatenate([q.hidden for q in questions]) if questions else np.zeros(0, np.int64)
    return Answers(at, nats, hits)


def spelling(part: Symbols, at: np.ndarray) -> np.ndarray:
    """Return the nats of the bytes of unknown tokens at some places: 8 bits a byte, 0 for known tokens."""
    nats = np.zeros(len(at))
    found = np.isin(at, part.unknown_at)
    nats[found] = part.unknown_bytes[np.searchsorted(part.unknown_at, at[found])] * math.log(256)
    return nats


def _answer(model: MaskedLM, part: Symbols, group: list[Question], compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(q) + 1 for q in group]
    rows = np.zeros((len(group), max(lengths)), np.int64)
    hidden = np.zeros(rows.shape, bool)
    for b, q in enumerate(group):
        rows[b, 0] = model.start_id
        rows[b, 1 : lengths[b]] = part.ids[q.read : q.stop]
        hidden[b, q.hidden - q.read + 1] = True
    inputs, targets = np.where(hidden, model.mask_id, rows), np.where(hidden, rows, IGNORED)
    batch = MaskedBatch(torch.from_numpy(inputs), torch.from_numpy(targets), torch.tensor(lengths)).to(compute.device)
    with compute.autocast():
        vectors = model.encode(batch)[batch.targets_BT != IGNORED][None]
        prediction, wanted = model.predict(vectors), batch.targets_BT[batch.targets_BT != IGNORED][None]
        log_prob, best = prediction.log_prob(wanted)[0], prediction.top(1)[1][0, :, 0]
    return -log_prob.double().cpu().numpy(), (best == wanted[0]).cpu().numpy()
