"""Rows with hidden symbols, for models that see before and after (Devlin et al. 2019).

A row is the start symbol and up to ``window`` - 1 symbols: a window of a stream, or a record. Of a row, round(``share`` x its length)
symbols are hidden, at least one; the length counts the start symbol and separators, which themselves are never hidden (Google's
``create_pretraining_data.py``). Of the hidden ones 80 % are replaced by the mask, 10 % by a random symbol, 10 % are left as they are,
so that no shown symbol can be trusted and the vectors of shown symbols are of use. What is hidden is drawn anew every epoch: a
function of (seed, epoch, step) alone.

Ids from V on are only read: V the start symbol, V + 1 the mask, V + 2 the separator. The random symbol is one of the V.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import Batch, MaskedBatch
from chainrule.core.prediction import IGNORED
from chainrule.data.batches import Batches, make_batches
from chainrule.data.encoding import Part

MASKED, RANDOM = 0.8, 0.1
"""Shares of the hidden symbols that are replaced by the mask, and by a random one."""


@dataclass(frozen=True)
class Masking:
    """How rows are hidden. ``begins_V``: which symbols begin a word, so that words are hidden whole; None: single symbols."""

    vocab_size: int
    share: float = 0.15
    begins_V: np.ndarray | None = None

    def choose(self, rows_BT: np.ndarray, valid_BT: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Which places are hidden, B x T: as many in each row as its length says."""
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
        """Words in random order, each with all of its symbols, as long as they do not exceed the number."""
        assert self.begins_V is not None
        begins_BT = ~open_BT | np.append(self.begins_V, np.ones(3, bool))[rows_BT]
        word_BT = begins_BT.cumsum(1)  # what follows a separator has its number, and is the only one that counts for it
        hidden_BT = np.zeros(rows_BT.shape, bool)
        for b, wanted in enumerate(wanted_B):
            sizes = np.bincount(word_BT[b][open_BT[b]], minlength=word_BT[b, -1] + 1)
            words = word_BT[b, order_BT[b][: open_BT[b].sum()]]
            left, chosen = wanted, np.zeros(len(sizes), bool)
            for word in words[np.sort(np.unique(words, return_index=True)[1])]:
                if sizes[word] <= left:
                    left, chosen[word] = left - sizes[word], True
            hidden_BT[b] = chosen[word_BT[b]] & open_BT[b]
        return hidden_BT

    def hide(self, rows: MaskedBatch, rng: np.random.Generator) -> MaskedBatch:
        """The rows as they are shown, and what was hidden as targets."""
        rows_BT = rows.inputs_BT.numpy()
        valid_BT = np.ones(rows_BT.shape, bool)
        if rows.lengths_B is not None:
            valid_BT = np.arange(rows_BT.shape[1]) < rows.lengths_B.numpy()[:, None]
        hidden_BT = self.choose(rows_BT, valid_BT, rng)
        fate_BT = rng.random(rows_BT.shape)
        other_BT = rng.integers(self.vocab_size, size=rows_BT.shape)
        shown_BT = np.where(
            fate_BT < MASKED, self.vocab_size + 1, np.where(fate_BT < MASKED + RANDOM, other_BT, rows_BT)
        )
        inputs_BT = torch.from_numpy(np.where(hidden_BT, shown_BT, rows_BT))
        targets_BT = torch.from_numpy(np.where(hidden_BT, rows_BT, IGNORED))
        return MaskedBatch(
            inputs_BT, targets_BT, rows.lengths_B, segments_BT=rows.segments_BT, follows_B=rows.follows_B
        )


def word_begins(tokenizer: Any) -> np.ndarray:
    """Which symbols begin a word, V: those that begin with white space, as "Ġthe" does; a word of ``word`` is one symbol."""
    if tokenizer.name == "word":
        return np.ones(tokenizer.vocab_size, bool)
    return np.array([tokenizer.decode([k])[:1].isspace() for k in range(tokenizer.vocab_size)])


class MaskedBatches:
    """``at(epoch, step)`` for steps 0..steps_per_epoch - 1, like `Batches`; every symbol is read once an epoch."""

    def __init__(self, made: Batches, masking: Masking, *, next_sentence: bool):
        self.made, self.masking, self.next_sentence = made, masking, next_sentence
        self.steps_per_epoch = made.steps_per_epoch

    def at(self, epoch: int, step: int) -> MaskedBatch:
        rng = self.made.plan.rng(epoch, step, 4)
        rows = whole_rows(self.made.at(epoch, step), self.masking.vocab_size)
        if self.next_sentence:
            rows = in_pairs(rows, self.masking.vocab_size, rng)
        return self.masking.hide(rows, rng)


def make_masked(
    part: Part, masking: Masking, *, rows: int, window: int, seed: int, next_sentence: bool = False
) -> MaskedBatches:
    """Batches of ``rows`` rows of ``window`` symbols, the start symbol and separators among them."""
    special = 3 if next_sentence else 1
    made = make_batches(
        part,
        masking.vocab_size,
        batch_size=rows,
        sequence_length=window - special,
        stateful=False,
        longest=1,
        seed=seed,
    )
    return MaskedBatches(made, masking, next_sentence=next_sentence)


def whole_rows(batch: Batch, vocab_size: int) -> MaskedBatch:
    """The start symbol and all that follows it; a record that begins within a row does so behind a separator (Liu et al. 2019)."""
    start_B1 = torch.full((len(batch.targets_BT), 1), vocab_size)
    shown_BT = batch.targets_BT.masked_fill(batch.targets_BT == IGNORED, vocab_size + 2)
    lengths_B = None if batch.lengths_B is None else batch.lengths_B + 1
    rows_BT = torch.cat([start_B1, shown_BT], 1)
    return MaskedBatch(rows_BT, torch.full_like(rows_BT, IGNORED), lengths_B)


def in_pairs(rows: MaskedBatch, vocab_size: int, rng: np.random.Generator) -> MaskedBatch:
    """[start] first half [separator] second half [separator]; for every other row or so, the second half of another row."""
    whole = [row[1:n] for row, n in zip(rows.inputs_BT, _lengths(rows))]
    halves = [(row[: len(row) // 2], row[len(row) // 2 :]) for row in whole]
    moved = rng.random(len(halves)) < 0.5
    moved &= len(halves) > 1
    start, end = torch.tensor([vocab_size]), torch.tensor([vocab_size + 2])
    pairs, firsts = [], []
    for b, (first, second) in enumerate(halves):
        if moved[b]:
            second = halves[(b + int(rng.integers(1, len(halves)))) % len(halves)][1]
        pairs.append(torch.cat([start, first, end, second, end]))
        firsts.append(len(first) + 2)
    lengths_B = torch.tensor([len(pair) for pair in pairs])
    rows_BT = torch.nn.utils.rnn.pad_sequence(pairs, batch_first=True, padding_value=vocab_size + 2)
    segments_BT = (torch.arange(rows_BT.shape[1]) >= torch.tensor(firsts)[:, None]).long()
    nothing_BT = torch.full_like(rows_BT, IGNORED)
    return MaskedBatch(
        rows_BT, nothing_BT, lengths_B, segments_BT=segments_BT, follows_B=torch.from_numpy(~moved).long()
    )


def _lengths(rows: Batch) -> list[int]:
    if rows.lengths_B is None:
        return [rows.inputs_BT.shape[1]] * len(rows.inputs_BT)
    return rows.lengths_B.tolist()
