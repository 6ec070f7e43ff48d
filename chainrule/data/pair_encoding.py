"""Pairs of text as ids: length-bucketed batches, and the tokenizers of both sides, which may share one vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from chainrule.core.batch import PairBatch
from chainrule.core.errors import DataError, UserError
from chainrule.core.prediction import IGNORED
from chainrule.data.batches import Buckets
from chainrule.data.pairs import SIDES, PairDataset, SentencePairs, count_pairs, is_closed, words_of
from chainrule.data.processor import Processor, register_processor
from chainrule.data.reading import padded
from chainrule.data.records import pick
from chainrule.data.split import spans_of
from chainrule.data.tokenizers import (
    Spec,
    TextTokenizer,
    check_tokenizer,
    fit_tokenizer,
    missing,
    text_tokenizer_from_json,
)
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

    def sizes(self) -> dict[str, int]:
        """Return pairs, and tokens of both sides, for the data card."""
        tokens = {"target_tokens": int(self.target_lengths.sum()), "source_tokens": int(self.source_lengths.sum())}
        return {"records": len(self), **tokens}

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


class PairBatches(Buckets):
    """Length-bucketed batches of pairs: ``at(epoch, step)`` is a function of (seed, epoch, step) alone.

    Pairs are sorted by the longer of source and target (its end included), those of equal length shuffled every
    epoch, and cut where rows × longest would exceed ``tokens``; so the cuts, and their number, are those of every
    epoch. The order of the batches is shuffled every epoch.
    """

    def __init__(self, part: PairPart, tokens: int, seed: int, start: int, end: int):
        """Raises DataError where there is no pair."""
        if not len(part):
            raise DataError("no pairs to make batches of")
        self.part, self.start, self.end = part, start, end
        lengths = np.maximum(part.source_lengths, part.target_lengths + 1)
        super().__init__(lengths, _cuts(np.sort(lengths), tokens), seed, mega=len(lengths))

    def at(self, epoch: int, step: int) -> PairBatch:
        """Return the batch of a step. Raises IndexError outside the epoch."""
        return self.part.batch(self.rows(epoch, step), self.start, self.end)


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


# ------------------------------------------------------------------------------------------------------------ processor


@register_processor("pairs")
class PairProcessor(Processor):
    """Encodes sources and targets, by a tokenizer each or by one for both.

    Args:
        source: tokenizer of sources.
        target: tokenizer of targets; the same object where one vocabulary serves both.
        spec: the value of ``--tokenizer``.
        longest: tokens of a source that are read.
        choice: notes on how the tokenizers were chosen.
    """

    def __init__(
        self,
        source: TextTokenizer,
        target: TextTokenizer,
        spec: str,
        longest: int = LONGEST,
        choice: Sequence[str] = (),
    ):
        self.source, self.target, self.spec, self.longest, self.choice = source, target, spec, longest, list(choice)

    @classmethod
    def fit(cls, dataset: PairDataset, spec: str | None = None, longest: int = LONGEST) -> Self:
        """Return the processor with tokenizers that are fitted on the training split.

        Args:
            dataset: the pairs.
            spec: one name (``bpe:4000``: one vocabulary over both sides), or two (``char,word``: each its own), source
                first; None: chosen by the training split: ``word`` for symbols of a small closed set, ``char`` for
                single words, else ``bpe``.
            longest: tokens of a source that are read.

        Raises:
            UserError: an unknown name.
        """
        train = dataset.parts["train"]
        sides = [list(train.sources), list(train.targets)]
        specs, notes = (check_pair_tokenizers(spec), []) if spec else _chosen(sides)
        texts = [sides[0] + sides[1]] if len(specs) == 1 else sides
        sized = [_sized(one, cells) for one, cells in zip(specs, texts)]
        made = [fit_tokenizer(one, spans_of(cells, "pairs"), lines=True) for one, cells in zip(sized, texts)]
        name = ",".join(str(s.file) if s.file else f"{s.kind}:{s.size}" if s.size else s.kind for s in sized)
        return cls(made[0], made[-1], name, longest, notes)

    @property
    def joint(self) -> bool:
        """True if one vocabulary serves both sides."""
        return self.source is self.target

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids of ``end``, which closes a target and is predicted, and ``start``, which precedes its first token."""
        return {"end": self.target.vocab_size, "start": self.target.vocab_size + 1}

    def encode(self, part: SentencePairs) -> PairPart:
        """Return the ids of one split.

        Raises:
            DataError: a character that a tokenizer without an unknown token lacks (with its line).
        """
        sources, targets = (
            _encode(part.sources, self.source, part.where),
            _encode(part.targets, self.target, part.where),
        )
        notes, cut = list(part.notes), sum(len(ids) > self.longest for ids in sources)
        if cut and part.name != "train":  # of train, longer pairs are left out
            told = f"source{'s' * (cut != 1)} of more than {self.longest} tokens are cut at that length"
            notes.append(f"{part.name}: {cut:,} {told}")
        return PairPart(part.sources, part.targets, sources, targets, self.longest, notes)

    def encode_parts(self, parts: dict[str, SentencePairs]) -> dict[str, PairPart]:
        """Return the ids of all splits. Training pairs that are too long or too uneven are left out, with a note.

        Raises:
            DataError: no training pair is left, or as `encode`.
        """
        made = {name: self.encode(part) for name, part in parts.items()}
        return {**made, "train": self._trained_on(made["train"])}

    def _trained_on(self, train: PairPart) -> PairPart:
        """Return the training split without pairs that are too long, and without misaligned ones: lengths are compared
        where both sides are text in the same units.
        """
        comparable = self.source.name == self.target.name
        comparable &= not (isinstance(self.target, WordTokenizer) and is_closed(train.targets))
        lengths = np.array([[len(ids) for ids in side] for side in (train.source_ids, train.target_ids)])
        longer, shorter = lengths.max(0), lengths.min(0)
        long = longer > train.longest
        uneven = ~long & (shorter > FEW) & (longer > MAX_RATIO * shorter) & comparable
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

    def decode(self, ids: Any) -> bytes:
        """Return the text of the ids of a target."""
        return self.target.decode(ids)

    def sizes(self) -> dict[str, Any]:
        """Return the sizes of both vocabularies, the end of a target included."""
        sizes = {"vocab_size": self.target.vocab_size + 1, "source_vocab_size": self.source.vocab_size}
        return {**sizes, "joint": self.joint}

    def notes(self, parts: dict[str, PairPart]) -> list[str]:
        """Return notes on the choice of tokenizers, sources that are cut, pairs that are left out, unknown tokens."""
        train, notes = parts["train"], [*self.choice, *(note for part in parts.values() for note in part.notes)]
        for side, share in self._unknown(train).items():
            if share:
                shown = "; in output one is written as \N{REPLACEMENT CHARACTER}" if side == "target" else ""
                notes.append(f"Out-of-vocabulary tokens in the {side}s of train: {share:.2%}{shown}")
        return notes

    def card(self, parts: dict[str, PairPart]) -> dict[str, Any]:
        """Return entries of the data card.

        Returns:
            Vocabulary sizes, tokens of each split, lengths, and the shares of held-out tokens that are ``unknown``.
        """
        train, held = parts["train"], parts.get("test", parts["valid"])
        lengths = {"source": train.source_lengths, "target": train.target_lengths}
        return {
            "tokenizer": self.spec,
            "joint": self.joint,
            "vocab_size": self.target.vocab_size,
            "source_vocab_size": self.source.vocab_size,
            "parts": {name: part.sizes() for name, part in parts.items()},
            "lengths": {side: {"mean": float(x.mean()), "longest": int(x.max())} for side, x in lengths.items()},
            "unknown": self._unknown(held),
        }

    def _unknown(self, part: PairPart) -> dict[str, float]:
        """Return the shares of unknown tokens among sources and targets."""
        sides = zip(SIDES, (part.source_ids, part.target_ids), (self.source, self.target))
        return {
            side: 0.0 if tokenizer.unknown is None else float((np.concatenate(ids) == tokenizer.unknown).mean())
            for side, ids, tokenizer in sides
        }

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        source = None if self.joint else self.source.to_json()
        settings = {"type": self.kind, "spec": self.spec, "longest": self.longest}
        return {**settings, "source": source, "target": self.target.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        target = text_tokenizer_from_json(saved["target"])
        source = text_tokenizer_from_json(saved["source"]) if saved["source"] else target
        return cls(source, target, saved["spec"], saved["longest"])


def _encode(cells: Sequence[str], tokenizer: TextTokenizer, where: Callable[[int], str]) -> list[np.ndarray]:
    spans = spans_of(cells, "pairs")
    encoded, starts, ends = tokenizer.encode_spans(spans)
    if tokenizer.unknown is None and len(encoded.unknown_at):
        at = int(encoded.unknown_at[0])
        row = int(np.searchsorted(ends, at, "right"))
        raise DataError(f"{where(row)}: {missing(cells[row][at - int(starts[row])], tokenizer.vocab_size)}")
    ids = encoded.ids.astype(np.int32, copy=False)
    return [ids[start:end] for start, end in zip(starts.tolist(), ends.tolist())]
