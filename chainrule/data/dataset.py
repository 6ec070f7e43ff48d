"""Datasets: records that were read, split and hashed, before any tokenizer has seen them; and the same as a processor
encodes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from chainrule.data.processor import Processor

MadeT = TypeVar("MadeT")
ProcessorT = TypeVar("ProcessorT", bound="Processor")


@dataclass(frozen=True)
class Dataset:
    """DATA, split. The parts ``train``, ``valid`` and ``test`` hold raw records; a `Processor` encodes them.

    ``unit`` says what a record is, ``counted`` what a figure is per (byte, symbol, value, token, record …); ``sha256``
    identifies the records, ``split_sha256`` which part holds which. ``notes`` say what was left out, repaired,
    reordered or guessed.
    """

    name: str
    parts: dict[str, Any]
    sha256: str
    split_sha256: str
    notes: list[str] = field(default_factory=list)
    unit: str = "records"
    counted: str = "record"
    made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was made of this dataset already (fitted processors, encoded parts), by what it was made with."""

    def card(self) -> dict[str, Any]:
        """Return the data card: plain values that describe the dataset, whatever the tokenizer."""
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted, "sha256": self.sha256,
            "parts": {name: {"records": len(part)} for name, part in self.parts.items()}, "notes": list(self.notes),
        }  # fmt: skip

    def remember(self, key: Any, make: Callable[[], MadeT]) -> MadeT:
        """Return the result of ``make``, made once for each key: rows of a board with equal tokenizers share it."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    @property
    def encoding_files(self) -> list[Path]:
        """Files beside the records that decide how they are encoded where no tokenizer is named."""
        return []

    @property
    def held_out(self) -> Any:
        """The part that is shown beside the training part: test, else valid, else train."""
        return self.parts.get("test", self.parts.get("valid", self.parts["train"]))


@dataclass(frozen=True)
class EncodedData(Generic[ProcessorT]):
    """A dataset as one processor encodes it. ``parts`` are encoded; ``notes`` are those of the encoding alone."""

    dataset: Dataset
    processor: ProcessorT
    parts: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """The unit of a record: stream, lines, docs."""
        return self.dataset.unit

    @property
    def counted(self) -> str:
        """The unit that figures are given per: byte, symbol, value."""
        return self.dataset.counted

    @property
    def carved(self) -> bool:
        """Whether the validation part was split off, because none was given."""
        return bool(getattr(self.dataset, "carved", False))

    @property
    def all_notes(self) -> list[str]:
        """The notes of the dataset, then those of the encoding."""
        return [*self.dataset.notes, *self.notes]

    def card(self) -> dict[str, Any]:
        """The card of the dataset with what this processor adds: its tokenizer, and the tokens of each part."""
        card, more = self.dataset.card(), self.processor.card(self.parts)
        sizes = more.pop("parts", {})
        parts = {name: {**found, **sizes.get(name, {})} for name, found in card["parts"].items()}
        return {**card, **more, "parts": parts, "notes": self.all_notes}
