"""Pairs of text as ids: tokenizers of both sides, which may share one vocabulary, and length-bucketed batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import PairBatch
from chainrule.core.errors import DataError, UserError
from chainrule.core.prediction import IGNORED
from chainrule.data.pairs import SIDES, SentencePairs, count_pairs, is_closed, words_of
from chainrule.data.reading import padded
from chainrule.data.records import pick
from chainrule.data.split import spans_of
from chainrule.data.tokenizers import Spec, TextTokenizer, check_tokenizer, fit_tokenizer, missing
from chainrule.data.words import WordTokenizer

LONGEST = 256
"""Tokens of a side beyond which a pair is not trained on, and a source is cut."""
MAX_RATIO, FEW = 9, 3
"""Training pairs of text whose sides both have more than FEW tokens, one of them MAX_RATIO times the other, are
misaligned."""
MOSTLY = 0.8
"""Share of cells of a single word from which on a side is read character by character."""
MIN_SIZE, MAX_SIZE, BYTES_PER_TOKEN = 512, 8192, 800
"""Vocabulary sizes of byte-pair encoding, between which a power of two is chosen by the bytes of the training text."""


@dataclass(frozen=True)
class PairPart:
    """The pairs of one split; ids are int32 arrays without an end token. A source is read up to ``longest`` tokens."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_ids: list[np.ndarray]
    target_ids: list[np.ndarray]
    longest: int = LONGEST
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    @cached_property
    def source_lengths(self) -> np.ndarray:
        """Tokens that are read of each source."""
        return np.minimum([len(ids) for ids in self.source_ids], self.longest).astype(np.int64)

    @cached_property
    def target_lengths(self) -> np.ndarray:
        """Tokens of each target, without its end."""
        return np.array([len(ids) for ids in self.target_ids], np.int64)

    def batch(self, rows: Sequence[int] | np.ndarray, start: int, end: int) -> PairBatch:
        """Return a batch of the pairs at these positions.

        Args:
            rows: positions of B pairs.
            start: id before the first token of a target.
            end: id after its last token.

        Returns:
            Inputs ``start y1 .. yn`` and targets ``y1 .. yn end``, B × T, padded on the right (with 0, and IGNORED);
            sources B × S; int64.
        """
        read, sources = [self.target_ids[r] for r in rows], [self.source_ids[r][: self.longest] for r in rows]
        return PairBatch(
            padded([np.append(start, ids) for ids in read]),
            padded([np.append(ids, end) for ids in read], IGNORED),
            torch.tensor([len(ids) + 1 for ids in read]),
            sources_BS=padded(sources),
            source_lengths_B=torch.tensor([len(ids) for ids in sources]),
        )

    def take(self, rows: Sequence[int] | np.ndarray) -> PairPart:
        """Return the pairs at these positions, in the order given."""
        sources, targets = pick(self.sources, rows), pick(self.targets, rows)
        ids = [[column[r] for r in rows] for column in (self.source_ids, self.target_ids)]
        return replace(self, sources=sources, targets=targets, source_ids=ids[0], target_ids=ids[1])


class PairBatches:
    """Length-bucketed batches of pairs: ``at(epoch, step)`` is a function of (seed, epoch, step) alone.

    Pairs are sorted by the longer of source and target (its end included), those of equal length shuffled every
    epoch, and cut where rows × longest would exceed ``tokens``; so the cuts, and their number, are those of every
    epoch. The order of the batches is shuffled every epoch.
    """

    def __init__(self, part: PairPart, tokens: int, seed: int, start: int, end: int):
        """Raises DataError where there is no pair."""
        if not len(part):
            raise DataError("no pairs to make batches of")
        self.part, self.seed, self.start, self.end = part, seed, start, end
        self.lengths = np.maximum(part.source_lengths, part.target_lengths + 1)
        self.edges = _cuts(np.sort(self.lengths), tokens)
        self.steps_per_epoch = len(self.edges) - 1
        self._epoch = lru_cache(maxsize=2)(self._arrange)

    def at(self, epoch: int, step: int) -> PairBatch:
        """Return the batch of a step. Raises IndexError outside the epoch."""
        return self.part.batch(self.rows(epoch, step), self.start, self.end)

    def rows(self, epoch: int, step: int) -> np.ndarray:
        """Return the positions of the pairs in the batch of a step."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        order, batches = self._epoch(epoch)
        return order[self.edges[batches[step]] : self.edges[batches[step] + 1]]

    def _arrange(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs in order of length, and the order of the batches."""
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.lengths))
        return shuffled[np.argsort(self.lengths[shuffled], kind="stable")], rng.permutation(self.steps_per_epoch)


def _cuts(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Edges of stretches of ascending lengths, such that count × longest is at most ``tokens``, or the count 1."""
    edges = [0]
    while (low := edges[-1]) < len(lengths):
        reach = lengths[low : low + max(1, tokens // int(lengths[low]))]
        fitting = np.searchsorted(reach * np.arange(1, len(reach) + 1), tokens, "right")
        edges.append(low + max(1, int(fitting)))
    return np.array(edges)


# ----------------------------------------------------------------------------------------------------------- tokenizers


def check_pair_tokenizers(spec: str) -> list[Spec]:
    """Return the tokenizer of both sides, or those of source and target.

    >>> [one.kind for one in check_pair_tokenizers("char, word")]
    ['char', 'word']

    Args:
        spec: one name, or two joined by a comma, as ``--tokenizer`` takes them.

    Raises:
        UserError: an unknown name, ``none``, or more than two names.
    """
    names = [name.strip() for name in spec.split(",")]
    if len(names) > 2:
        wanted = "one for both sides, or source,target such as char,word"
        raise UserError(f"--tokenizer {spec}: {len(names)} names; {wanted}")
    if "none" in names:
        raise UserError(f"--tokenizer {spec}: pairs are text, which takes byte, char, word or bpe")
    return [check_tokenizer(name) for name in names]


def fit_pair_tokenizers(
    train: SentencePairs, tokenizer: str | None
) -> tuple[TextTokenizer, TextTokenizer, str, list[str]]:
    """Fit the tokenizers of source and target on the training split.

    Args:
        train: the training split.
        tokenizer: one name (``bpe:4000``: one vocabulary over both sides), or two (``char,word``: each its own), source
            first; None: chosen by the training split: ``word`` for symbols of a small closed set, ``char`` for single
            words, else ``bpe``.

    Returns:
        The tokenizers of source and target (one object where one was named), their names with nothing left open, notes.

    Raises:
        UserError: an unknown name.
    """
    sides = [list(train.sources), list(train.targets)]
    specs, notes = (check_pair_tokenizers(tokenizer), []) if tokenizer else _chosen(sides)
    texts = [sides[0] + sides[1]] if len(specs) == 1 else sides
    sized = [_sized(spec, cells) for spec, cells in zip(specs, texts)]
    made = [fit_tokenizer(spec, spans_of(cells, "pairs"), lines=True) for spec, cells in zip(sized, texts)]
    name = ",".join(str(s.file) if s.file else f"{s.kind}:{s.size}" if s.size else s.kind for s in sized)
    return made[0], made[-1], name, notes


def _chosen(train: Sequence[list[str]]) -> tuple[list[Spec], list[str]]:
    """The tokenizers that suit the training split, and a note; the same on both sides is one for both."""
    kinds, reasons = zip(*map(_suited, train))
    specs = [Spec(kind) for kind in dict.fromkeys(kinds)]
    told = f"{specs[0].kind} for both sides, one vocabulary" if len(specs) == 1 else ",".join(kinds)
    reason = f"sources are {reasons[0]}, targets {reasons[1]}"
    return specs, [f"--tokenizer: {told}, chosen from the training split: {reason}"]


def _suited(cells: Sequence[str]) -> tuple[str, str]:
    if is_closed(cells):
        return "word", f"of a closed set of {len(set(words_of(cells)))} symbols"
    single = sum(len(cell.split()) == 1 for cell in cells) / len(cells)
    return ("char", "mostly single words") if single >= MOSTLY else ("bpe", "running text")


def _sized(spec: Spec, cells: Sequence[str]) -> Spec:
    """The specification with a vocabulary size of byte-pair encoding, where that was left open."""
    if spec.kind != "bpe" or spec.size:
        return spec
    wanted = sum(len(cell.encode()) for cell in cells) / BYTES_PER_TOKEN
    return replace(spec, size=int(np.clip(2 ** round(np.log2(max(wanted, 1))), MIN_SIZE, MAX_SIZE)))


# ------------------------------------------------------------------------------------------------------------------ ids


def encode_pairs(part: SentencePairs, tokenizers: Sequence[TextTokenizer], longest: int = LONGEST) -> PairPart:
    """Encode both sides of pairs.

    Args:
        part: the pairs.
        tokenizers: those of source and target.
        longest: tokens that are read of a source.

    Raises:
        DataError: a character that a tokenizer without an unknown token lacks (with its line).
    """
    sources, targets = (
        _encode(cells, tokenizer, part.where) for cells, tokenizer in zip((part.sources, part.targets), tokenizers)
    )
    notes, cut = list(part.notes), sum(len(ids) > longest for ids in sources)
    if cut and part.name != "train":  # of train, longer pairs are left out
        notes.append(
            f"{part.name}: {cut:,} source{'s' * (cut != 1)} of more than {longest} tokens are cut at that length"
        )
    return PairPart(part.sources, part.targets, sources, targets, longest, notes)


def _encode(cells: Sequence[str], tokenizer: TextTokenizer, where: Callable[[int], str]) -> list[np.ndarray]:
    spans = spans_of(cells, "pairs")
    encoded, starts, ends = tokenizer.encode_spans(spans)
    if tokenizer.unknown is None and len(encoded.unknown_at):
        at = int(encoded.unknown_at[0])
        row = int(np.searchsorted(ends, at, "right"))
        raise DataError(f"{where(row)}: {missing(cells[row][at - int(starts[row])], tokenizer.vocab_size)}")
    ids = encoded.ids.astype(np.int32, copy=False)
    return [ids[start:end] for start, end in zip(starts.tolist(), ends.tolist())]


def trained_on(train: PairPart, source: TextTokenizer, target: TextTokenizer) -> PairPart:
    """Return the training split without pairs that are too long, and without misaligned ones; a note says how many.

    Args:
        train: the training split.
        source: the tokenizer of sources.
        target: the tokenizer of targets; lengths are compared where both sides are text in the same units.

    Raises:
        DataError: nothing is left.
    """
    closed = isinstance(target, WordTokenizer) and is_closed(train.targets)
    lengths = np.array([[len(ids) for ids in side] for side in (train.source_ids, train.target_ids)])
    longer, shorter = lengths.max(0), lengths.min(0)
    long = longer > train.longest
    uneven = ~long & (shorter > FEW) & (longer > MAX_RATIO * shorter) & (not closed and source.name == target.name)
    reasons = {
        f"of more than {train.longest} tokens on a side": int(long.sum()),
        f"with one side more than {MAX_RATIO} times as long as the other": int(uneven.sum()),
    }
    told = ", ".join(f"{count_pairs(count)} {why}" for why, count in reasons.items() if count)
    if not told:
        return train
    kept = np.flatnonzero(~long & ~uneven)
    if not len(kept):
        raise DataError(f"train: nothing left to train on: {told}")
    return replace(train.take(kept), notes=[*train.notes, f"left out of training: {told}, of {len(train):,}"])


def pair_card(parts: dict[str, PairPart], tokenizers: Sequence[TextTokenizer]) -> dict[str, Any]:
    """Return the entries of the data card on encoded pairs.

    Args:
        parts: encoded splits.
        tokenizers: those of source and target.

    Returns:
        Vocabulary sizes, tokens of each split, lengths, and the shares of held-out tokens that are ``unknown``.
    """
    source, target = tokenizers
    train, held = parts["train"], parts.get("test", parts["valid"])
    lengths = {"source": train.source_lengths, "target": train.target_lengths}
    return {
        "vocab_size": target.vocab_size,
        "source_vocab_size": source.vocab_size,
        "parts": {
            name: {
                "records": len(part),
                "target_tokens": int(part.target_lengths.sum()),
                "source_tokens": int(part.source_lengths.sum()),
            }
            for name, part in parts.items()
        },
        "lengths": {side: {"mean": float(x.mean()), "longest": int(x.max())} for side, x in lengths.items()},
        "unknown": {"source": _unknown(held.source_ids, source), "target": _unknown(held.target_ids, target)},
    }


def _unknown(ids: Sequence[np.ndarray], tokenizer: TextTokenizer) -> float:
    if tokenizer.unknown is None:
        return 0.0
    return float((np.concatenate(ids) == tokenizer.unknown).mean())


def pair_notes(parts: dict[str, PairPart], tokenizers: Sequence[TextTokenizer]) -> list[str]:
    """Return notes on encoded pairs: sources that are cut, training pairs that are left out, unknown tokens.

    Args:
        parts: encoded splits.
        tokenizers: those of source and target.
    """
    train, notes = parts["train"], [note for part in parts.values() for note in part.notes]
    for side, ids, tokenizer in zip(SIDES, (train.source_ids, train.target_ids), tokenizers):
        share = _unknown(ids, tokenizer)
        if share:
            shown = "; in output one is written as \N{REPLACEMENT CHARACTER}" if side == "target" else ""
            notes.append(f"Out-of-vocabulary tokens in the {side}s of train: {share:.2%}{shown}")
    return notes
