"""A batch of sequences, batch first. Readers make them; objectives and counting models take them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from chainrule.core.prediction import scored


@dataclass(frozen=True)
class Batch:
    """``targets[b, t]`` is the symbol that follows ``inputs[b, t]``; IGNORED targets are not scored.

    An input equal to the model's start symbol means: forget everything, a new record begins here. ``carried`` says that
    the rows go on where the previous batch's rows stopped, so that the State is carried over.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    lengths_B: Tensor | None = None
    carried: bool = False

    @property
    def learnt(self) -> int:
        """How many symbols are learnt from: the targets that are scored."""
        return int(scored(self.targets_BT).sum())

    def rows(self, start: int, stop: int) -> Self:
        """Some of the rows: what gradient accumulation splits a batch into."""
        lengths = None if self.lengths_B is None else self.lengths_B[start:stop]
        return replace(
            self, inputs_BT=self.inputs_BT[start:stop], targets_BT=self.targets_BT[start:stop], lengths_B=lengths
        )

    def to(self, device: str) -> Self:
        lengths = None if self.lengths_B is None else self.lengths_B.to(device)
        return replace(
            self, inputs_BT=self.inputs_BT.to(device), targets_BT=self.targets_BT.to(device), lengths_B=lengths
        )


@dataclass(frozen=True)
class PairBatch(Batch):
    """Targets with what each is said of: ``sources_BS`` (symbols of the source's own alphabet, padded on the right) is known
    before the first target. ``inputs_BT`` begins with the start symbol; the last target of a row is the end.
    """

    sources_BS: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    source_lengths_B: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def rows(self, start: int, stop: int) -> Self:
        mine = slice(start, stop)
        return replace(
            super().rows(start, stop), sources_BS=self.sources_BS[mine], source_lengths_B=self.source_lengths_B[mine]
        )

    def to(self, device: str) -> Self:
        sources, lengths = self.sources_BS.to(device), self.source_lengths_B.to(device)
        return replace(super().to(device), sources_BS=sources, source_lengths_B=lengths)


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Whole rows, some of whose symbols are hidden. ``inputs_BT`` begins with the start symbol; ``targets_BT`` holds what was hidden,
    at its own place, IGNORED elsewhere. ``segments_BT``: 0 or 1, None for 0 everywhere. ``follows_B``: 1 where the second segment
    follows the first in the text, 0 where it comes from elsewhere; None where that is not asked.
    """

    segments_BT: Tensor | None = None
    follows_B: Tensor | None = None

    @property
    def learnt(self) -> int:
        """Everything that is read, for a hidden symbol is learnt from all that is shown."""
        return self.inputs_BT.numel() if self.lengths_B is None else int(self.lengths_B.sum())

    def rows(self, start: int, stop: int) -> Self:
        mine = slice(start, stop)
        segments, follows = (None if x is None else x[mine] for x in (self.segments_BT, self.follows_B))
        return replace(super().rows(start, stop), segments_BT=segments, follows_B=follows)

    def to(self, device: str) -> Self:
        segments, follows = (None if x is None else x.to(device) for x in (self.segments_BT, self.follows_B))
        return replace(super().to(device), segments_BT=segments, follows_B=follows)


@dataclass(frozen=True)
class TaggedBatch(Batch):
    """Sequences of tokens with a tag each: ``words[b][t]`` is the token, ``targets_BT[b, t]`` its tag (IGNORED: none given).

    ``columns[b][t]`` is what else was written beside the token in training data (a finer tag); empty where nothing was.

    A counting tagger reads the words themselves. For a network a lexicon has made numbers of them: ``inputs_BT`` is the word
    (0: unknown), and ``spellings_UC[spelled_BT[b, t]]`` its characters (0 behind the last), each distinct word being spelled
    once. Where a lexicon cuts words into pieces too, ``pieces_BS`` are those of the whole sequence (0 behind the last), and
    ``owners_BS`` says to which token each belongs (T behind the last). Without a lexicon these are empty.
    """

    words: tuple[tuple[str, ...], ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    spelled_BT: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    spellings_UC: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    pieces_BS: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    owners_BS: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))

    def rows(self, start: int, stop: int) -> Self:
        mine = slice(start, stop)
        return replace(
            super().rows(start, stop), words=self.words[mine], columns=self.columns[mine], spelled_BT=self.spelled_BT[mine],
            pieces_BS=self.pieces_BS[mine], owners_BS=self.owners_BS[mine],
        )  # fmt: skip

    def to(self, device: str) -> Self:
        numbers = ("spelled_BT", "spellings_UC", "pieces_BS", "owners_BS")
        return replace(super().to(device), **{name: getattr(self, name).to(device) for name in numbers})


@dataclass(frozen=True)
class TextBatch(Batch):
    """Texts with a label each, ``targets_BT`` being B x 1 (IGNORED: none given).

    A counting classifier reads the texts themselves. For a network ``inputs_BT`` holds their symbols, ``lengths_B`` of them;
    otherwise it is empty.
    """

    texts: tuple[str, ...] = ()

    def rows(self, start: int, stop: int) -> Self:
        return replace(super().rows(start, stop), texts=self.texts[start:stop])


@dataclass(frozen=True)
class ImageBatch(Batch):
    """Pictures with a label each, ``targets_BT`` being B x 1 (IGNORED: none given): ``pixels_BCYX`` holds bytes, and once a reader has
    made numbers of them, float32.
    """

    pixels_BCYX: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 1, dtype=torch.uint8))

    @property
    def learnt(self) -> int:
        """Every picture, with a label or without."""
        return len(self.pixels_BCYX)

    def rows(self, start: int, stop: int) -> Self:
        return replace(super().rows(start, stop), pixels_BCYX=self.pixels_BCYX[start:stop])

    def to(self, device: str) -> Self:
        return replace(super().to(device), pixels_BCYX=self.pixels_BCYX.to(device))


@dataclass(frozen=True)
class CaptionImageBatch(Batch):
    """Records of a caption and a picture: the first ``caption`` targets of a row are text, the rest symbols of the picture."""

    caption: int = 0
