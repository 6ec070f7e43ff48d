"""Datasets: records that were read, split and hashed, and the same records as a processor encodes them."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from chainrule.data.processor import Processor

MadeT = TypeVar("MadeT")
ProcessorT = TypeVar("ProcessorT", bound="Processor")


def _counted(size: tuple[str, int]) -> str:
    return f"{size[1]:,} {size[0]}"


@dataclass(frozen=True, repr=False)
class Dataset:
    """DATA, split, before any tokenizer has seen it."""

    name: str
    parts: dict[str, Any]
    """The splits ``train``, ``valid`` and ``test``: raw records, which a `Processor` encodes."""
    sha256: str
    """Identity of the records."""
    split_sha256: str
    """Identity of the split: which records are in which part."""
    notes: list[str] = field(default_factory=list)
    """Everything that was left out, repaired, reordered or guessed."""
    unit: str = "records"
    """Kind of a record: ``stream``, ``lines``, ``docs`` …"""
    counted: str = "record"
    """The unit that figures are given per: byte, symbol, value, token, record …"""
    made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """Fitted processors and encoded parts, by the settings that they were made with."""

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name} {' '.join(map(_counted, self.sizes(part).items()))}" for name, part in self.parts.items()
        )
        return f"<{type(self).__name__} {self.name}: {sizes}>"

    def _repr_html_(self) -> str:
        """Return the sizes of the splits and the notes, for notebooks."""
        rows = {name: ", ".join(map(_counted, self.sizes(part).items())) for name, part in self.parts.items()}
        rows |= {"note": html.escape("; ".join(self.notes))} if self.notes else {}
        cells = "".join(f"<tr><th>{name}</th><td>{told}</td></tr>" for name, told in rows.items())
        return f"<table><caption>{html.escape(self.name)}</caption>{cells}</table>"

    def card(self) -> dict[str, Any]:
        """Return the data card (``data`` of a board): plain values that describe the data, whatever the tokenizer."""
        return {
            "name": self.name,
            "unit": self.unit,
            "counted": self.counted,
            "parts": {name: self.sizes(part) for name, part in self.parts.items()},
            **self.described(self.parts["train"], self.held_out),
            "sha256": self.sha256,
            "notes": list(self.notes),
        }

    def sizes(self, part: Any) -> dict[str, int]:
        """Return the counts of one split for the card."""
        return {"records": len(part)}

    def described(self, train: Any, held: Any) -> dict[str, Any]:
        """Return further entries of the card: a comparison of training with the held-out split, examples."""
        return {}

    def remember(self, key: Any, make: Callable[[], MadeT]) -> MadeT:
        """Return the result of ``make``, called once for each key: rows of a board with equal tokenizers share it."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    @property
    def encoding_files(self) -> list[Path]:
        """Files in the folder of the data that determine the encoding unless a tokenizer is named."""
        return []

    @property
    def held_out(self) -> Any:
        """The split that is shown beside training: test, else valid, else train."""
        return self.parts.get("test", self.parts.get("valid", self.parts["train"]))


@dataclass(frozen=True)
class EncodedData(Generic[ProcessorT]):
    """A dataset as one processor encodes it."""

    dataset: Dataset
    processor: ProcessorT
    parts: dict[str, Any]
    """The encoded splits."""
    notes: list[str] = field(default_factory=list)
    """Notes on the encoding alone."""

    @property
    def unit(self) -> str:
        """The unit of a record."""
        return self.dataset.unit

    @property
    def counted(self) -> str:
        """The unit that figures are given per."""
        return self.dataset.counted

    @property
    def carved(self) -> bool:
        """True if valid was split off because none was given."""
        return bool(getattr(self.dataset, "carved", False))

    @property
    def all_notes(self) -> list[str]:
        """The notes of the dataset, then those of the encoding."""
        return [*self.dataset.notes, *self.notes]

    def card(self) -> dict[str, Any]:
        """Return the card of the dataset with the entries of this processor: its tokenizer, tokens of each split."""
        card, more = self.dataset.card(), self.processor.card(self.parts)
        sizes = more.pop("parts", {})
        parts = {name: {**found, **sizes.get(name, {})} for name, found in card["parts"].items()}
        return {**card, **more, "parts": parts, "notes": self.all_notes}
