"""Batches of sequences, batch first: made by readers, taken by objectives and counting models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from chainrule.core.prediction import scored

_NO_IDS = torch.zeros(0, 0, dtype=torch.long)
_NO_LENGTHS = torch.zeros(0, dtype=torch.long)
_NO_PIXELS = torch.zeros(0, 1, 1, 1, dtype=torch.uint8)


@dataclass(frozen=True)
class Batch:
    """Inputs and targets: ``targets_BT[b, t]`` is the token after ``inputs_BT[b, t]``; IGNORED targets are not scored.

    An input equal to the model's start token means: forget everything, a new record begins here. ``carried`` says that
    the rows go on where the previous batch's rows stopped, so that the State is carried over.

    >>> import torch
    >>> batch = Batch(torch.tensor([[4, 0, 1], [4, 2, 0]]), torch.tensor([[0, 1, 2], [2, -1, -1]]))
    >>> batch.learnt, batch.rows(1, 2).targets_BT.tolist()
    (4, [[2, -1, -1]])
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    lengths_B: Tensor | None = None
    carried: bool = False

    shared: ClassVar[tuple[str, ...]] = ()
    """Fields that are not batch first: all rows refer to them."""

    @property
    def learnt(self) -> int:
        """Number of tokens to learn from: the targets that are scored."""
        return int(scored(self.targets_BT).sum())

    def rows(self, start: int, stop: int) -> Self:
        """Return a range of rows, such as one part of gradient accumulation.

        Args:
            start: first row.
            stop: end of the range.
        """
        if start == 0 and stop == len(self.inputs_BT):
            return self
        return self._mapped(Tensor | tuple, lambda x: x[start:stop], self.shared)

    def to(self, device: str) -> Self:
        """Return the batch with its tensors on ``device``.

        Args:
            device: such as ``cpu`` or ``cuda:0``.
        """
        return self._mapped(Tensor, lambda x: x.to(device))

    def _mapped(self, kinds: Any, function: Callable[[Any], Any], left: tuple[str, ...] = ()) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left}
        return replace(self, **{name: function(x) for name, x in values.items() if isinstance(x, kinds)})


@dataclass(frozen=True)
class PairBatch(Batch):
    """Targets with their sources: ``sources_BS`` (ids of the source's own vocabulary, padded on the right) is known
    before the first target. ``inputs_BT`` begins with the start token; the last target of a row is the end.
    """

    sources_BS: Tensor = _NO_IDS
    source_lengths_B: Tensor = _NO_LENGTHS


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Whole rows with masked tokens.

    ``inputs_BT`` begins with the start token; ``targets_BT`` holds the masked tokens at their own positions, IGNORED
    elsewhere. ``segments_BT``: 0 or 1, None for 0 everywhere. ``follows_B``: 1 where the second segment follows the
    first in the text, 0 where it comes from elsewhere; None without next-sentence prediction.
    """

    segments_BT: Tensor | None = None
    follows_B: Tensor | None = None

    @property
    def learnt(self) -> int:
        """Number of tokens that are read: a masked token is learnt from all that are shown."""
        return self.inputs_BT.numel() if self.lengths_B is None else int(self.lengths_B.sum())


@dataclass(frozen=True)
class TaggedBatch(Batch):
    """Sequences of words with a tag each: ``words[b][t]`` is the word, ``targets_BT[b, t]`` its tag (IGNORED: unknown).

    ``columns[b][t]`` is a further column of the training data (a finer tag); empty where there is none. A counting
    tagger reads the words themselves. For a network a lexicon has encoded them: ``inputs_BT`` is the word (0:
    unknown), and ``spellings_UC[spelled_BT[b, t]]`` its characters (0 behind the last), each distinct word being
    spelled once. Where a lexicon splits words into subwords too, ``pieces_BS`` are those of the whole sequence (0
    behind the last), and ``owners_BS`` is the index of the word that each belongs to (T behind the last). Without a
    lexicon these are empty.
    """

    words: tuple[tuple[str, ...], ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    spelled_BT: Tensor = _NO_IDS
    spellings_UC: Tensor = _NO_IDS
    pieces_BS: Tensor = _NO_IDS
    owners_BS: Tensor = _NO_IDS

    shared = ("spellings_UC",)


@dataclass(frozen=True)
class TextBatch(Batch):
    """Texts with a label each; ``targets_BT`` is B x 1 (IGNORED: unknown).

    A counting classifier reads the texts themselves. For a network ``inputs_BT`` holds their tokens, ``lengths_B`` of
    them; otherwise it is empty.
    """

    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartsBatch(TextBatch):
    """Texts as each part of a mixture of classifiers reads them: ``parts`` are the same rows."""

    parts: tuple[TextBatch, ...] = ()

    def _mapped(self, kinds: Any, function: Callable[[Any], Any], left: tuple[str, ...] = ()) -> Self:
        made = super()._mapped(kinds, function, (*left, "parts"))
        return replace(made, parts=tuple(part._mapped(kinds, function, left) for part in self.parts))


@dataclass(frozen=True)
class ImageBatch(Batch):
    """Images with a label each; ``targets_BT`` is B x 1 (IGNORED: unknown).

    ``pixels_BCYX`` holds bytes, and once a reader has normalised them, float32.
    """

    pixels_BCYX: Tensor = _NO_PIXELS

    @property
    def learnt(self) -> int:
        """Number of images, with a label or without."""
        return len(self.pixels_BCYX)


@dataclass(frozen=True)
class CaptionImageBatch(Batch):
    """Records of a caption and an image: the first ``caption`` targets of a row are text, the rest image tokens."""

    caption: int = 0
