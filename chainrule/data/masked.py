"""Rows with masked tokens, for models that read left and right context (Devlin et al. 2019).

A row is the start token and up to ``window`` - 1 tokens: a window of a stream, or a record. round(``share`` x its
length) tokens of a row are selected, at least one; the length counts the start token and separators, which themselves
are never selected (Google's ``create_pretraining_data.py``). 80 % of the selected tokens are replaced by the mask, 10 %
by a random token, and 10 % stay as they are, so that the model has to represent every token. The selection changes
every epoch: it is a function of (seed, epoch, step) alone.

Ids from V on are only read: V is the start token, V + 1 the mask, V + 2 the separator. The random token is one of the
V.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import Batch, MaskedBatch
from chainrule.core.prediction import IGNORED
from chainrule.data.batches import Batches, make_batches
from chainrule.data.encoding import Part

MASKED, RANDOM = 0.8, 0.1
"""Shares of the selected tokens that are replaced by the mask, and by a random token."""


@dataclass(frozen=True)
class Masking:
    """Selection of the tokens to predict.

    Args:
        vocab_size: V.
        share: share of the tokens of a row.
        begins_V: mask of the tokens that begin a word, to select whole words; None: single tokens.
    """

    vocab_size: int
    share: float = 0.15
    begins_V: np.ndarray | None = None

    def choose(self, rows_BT: np.ndarray, valid_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a mask of the selected tokens, B x T."""
        wanted_B = np.maximum(1, np.round(self.share * valid_BT.sum(1))).astype(int)
        open_BT = valid_BT & (rows_BT < self.vocab_size)
        order_BT = np.argsort(np.where(open_BT, rng.random(rows_BT.shape), 2.0), axis=1)
        if self.begins_V is not None:
            return self._words(rows_BT, open_BT, order_BT, wanted_B)
        hidden_BT = np.zeros(rows_BT.shape, bool)
        np.put_along_axis(hidden_BT, order_BT, np.arange(rows_BT.shape[1]) < wanted_B[:, None], 1)
        return hidden_BT & open_BT

    def _words(
        self, rows_BT: np.ndarray, open_BT: np.ndarray, order_BT: np.ndarray, wanted_B: np.ndarray
    ) -> np.ndarray:
        """Select words in random order, as long as they do not exceed the number that is wanted."""
        assert self.begins_V is not None
        begins_BT = ~open_BT | np.append(self.begins_V, np.ones(3, bool))[rows_BT]
        word_BT = begins_BT.cumsum(1)  # what follows a separator has its number, and is the only one that counts for it
        hidden_BT = np.zeros(rows_BT.shape, bool)
        for b, wanted in enumerate(wanted_B):
            sizes = np.bincount(word_BT[b][open_BT[b]], minlength=word_BT[b, -1] + 1)
            words = word_BT[b, order_BT[b][: open_BT[b].sum()]]
            left, chosen = wanted, np.zeros(len(sizes), bool)
            for word in dict.fromkeys(words.tolist()):
                if sizes[word] <= left:
                    left, chosen[word] = left - sizes[word], True
            hidden_BT[b] = chosen[word_BT[b]] & open_BT[b]
        return hidden_BT

    def hide(self, rows: MaskedBatch, rng: np.random.Generator) -> MaskedBatch:
        """Return rows with masked inputs, and the selected tokens as targets."""
        rows_BT = rows.inputs_BT.numpy()
        valid_BT = np.ones(rows_BT.shape, bool)
        if rows.lengths_B is not None:
            valid_BT = np.arange(rows_BT.shape[1]) < rows.lengths_B.numpy()[:, None]
        hidden_BT = self.choose(rows_BT, valid_BT, rng)
        fate_BT = rng.random(rows_BT.shape)
        other_BT = rng.integers(self.vocab_size, size=rows_BT.shape)
        shown_BT = np.select([fate_BT < MASKED, fate_BT < MASKED + RANDOM], [self.vocab_size + 1, other_BT], rows_BT)
        inputs_BT = torch.from_numpy(np.where(hidden_BT, shown_BT, rows_BT))
        return replace(rows, inputs_BT=inputs_BT, targets_BT=torch.from_numpy(np.where(hidden_BT, rows_BT, IGNORED)))


def word_begins(tokenizer: Any) -> np.ndarray:
    """Return a mask of the tokens that begin a word, V: those that begin with white space, or all of ``word``."""
    if tokenizer.name == "word":
        return np.ones(tokenizer.vocab_size, bool)
    return np.array([tokenizer.decode([k])[:1].isspace() for k in range(tokenizer.vocab_size)])


class MaskedBatches:
    """Masked rows: ``at(epoch, step)`` for steps 0..steps_per_epoch - 1, like `Batches`."""

    def __init__(self, made: Batches, masking: Masking, *, next_sentence: bool):
        self.made, self.masking, self.next_sentence = made, masking, next_sentence
        self.steps_per_epoch = made.steps_per_epoch

    def at(self, epoch: int, step: int) -> MaskedBatch:
        """Return the batch of a step. Raises IndexError outside the epoch."""
        rng = self.made.plan.rng(epoch, step, 4)
        rows = whole_rows(self.made.at(epoch, step), self.masking.vocab_size)
        if self.next_sentence:
            rows = in_pairs(rows, self.masking.vocab_size, rng)
        return self.masking.hide(rows, rng)


def make_masked(
    part: Part, masking: Masking, *, rows: int, window: int, seed: int, next_sentence: bool = False
) -> MaskedBatches:
    """Return batches of masked rows; every token is read once an epoch.

    Args:
        part: encoded split.
        masking: which tokens are selected.
        rows: rows of a batch.
        window: tokens of a row, the start token and separators included.
        seed: with epoch and step it determines every batch.
        next_sentence: rows are two halves, and the model predicts whether the second follows the first.

    Raises:
        DataError: the split has no token.
    """
    length = window - (3 if next_sentence else 1)
    made = make_batches(
        part, masking.vocab_size, batch_size=rows, sequence_length=length, stateful=False, longest=1, seed=seed
    )
    return MaskedBatches(made, masking, next_sentence=next_sentence)


def whole_rows(batch: Batch, vocab_size: int) -> MaskedBatch:
    """Return rows with their start token; a separator precedes a record that begins within a row (Liu et al. 2019)."""
    start_B1 = torch.full((len(batch.targets_BT), 1), vocab_size)
    shown_BT = batch.targets_BT.masked_fill(batch.targets_BT == IGNORED, vocab_size + 2)
    lengths_B = None if batch.lengths_B is None else batch.lengths_B + 1
    rows_BT = torch.cat([start_B1, shown_BT], 1)
    return MaskedBatch(rows_BT, torch.full_like(rows_BT, IGNORED), lengths_B)


def in_pairs(rows: MaskedBatch, vocab_size: int, rng: np.random.Generator) -> MaskedBatch:
    """Return rows ``[start] first half [separator] second half [separator]``; about half of the second halves come from
    another row.
    """
    lengths = [rows.inputs_BT.shape[1]] * len(rows.inputs_BT) if rows.lengths_B is None else rows.lengths_B.tolist()
    whole = [row[1:n] for row, n in zip(rows.inputs_BT, lengths)]
    halves = [(row[: len(row) // 2], row[len(row) // 2 :]) for row in whole]
    moved = (rng.random(len(halves)) < 0.5) & (len(halves) > 1)
    start, end = torch.tensor([vocab_size]), torch.tensor([vocab_size + 2])
    pairs, firsts = [], []
    for b, (first, second) in enumerate(halves):
        if moved[b]:
            second = halves[(b + int(rng.integers(1, len(halves)))) % len(halves)][1]
        pairs.append(torch.cat([start, first, end, second, end]))
        firsts.append(len(first) + 2)
    rows_BT = torch.nn.utils.rnn.pad_sequence(pairs, batch_first=True, padding_value=vocab_size + 2)
    return MaskedBatch(
        rows_BT,
        torch.full_like(rows_BT, IGNORED),
        torch.tensor([len(pair) for pair in pairs]),
        segments_BT=(torch.arange(rows_BT.shape[1]) >= torch.tensor(firsts)[:, None]).long(),
        follows_B=torch.from_numpy(~moved).long(),
    )
