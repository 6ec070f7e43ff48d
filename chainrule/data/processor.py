"""Processors: what turns the raw records of a dataset into what a model reads, and ids back into text.

A processor is fitted on the training part, is saved as ``processor.json`` with every run, and is rebuilt by its
registered name.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from chainrule.core.errors import UserError


class Processor(ABC):
    """One way to encode a dataset. ``kind`` is its registered name."""

    kind: ClassVar[str]
    spec: str | None = None
    """``--tokenizer`` with nothing left open, for the same choice again; None where there is no tokenizer."""

    @abstractmethod
    def encode(self, part: Any) -> Any:
        """A raw part as models read it. Raises DataError where something in it cannot be encoded."""

    def encode_parts(self, parts: dict[str, Any]) -> dict[str, Any]:
        """All parts of a dataset. Override it where parts share memory, or where the training part is treated
        otherwise.
        """
        return {name: self.encode(part) for name, part in parts.items()}

    def decode(self, ids: Any) -> bytes:
        """The text of ids."""
        raise UserError(f"{self.kind}: this run has no ids that stand for text")

    @property
    def special_tokens(self) -> dict[str, int]:
        """Ids with a meaning of their own by name (``unknown``, ``end``, ``start``)."""
        return {}

    def sizes(self) -> dict[str, Any]:
        """Settings of a model that follow from this processor, such as the size of its vocabulary."""
        return {}

    def notes(self, parts: dict[str, Any]) -> list[str]:
        """Notes on this encoding for readers who compare figures; ``parts`` are encoded."""
        return []

    def card(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Entries of the data card on this encoding; ``parts`` (encoded) may add entries to each part of the card."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return all settings as JSON values, with the registered name under ``type``."""
        return {"type": self.kind}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the processor that ``to_json`` saved. Raises DataError, KeyError, TypeError for other content."""
        return cls()

    @property
    def sha256(self) -> str:
        """Hash of ``to_json``: equal for processors that encode alike."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


ProcessorT = TypeVar("ProcessorT", bound=Processor)
PROCESSORS: dict[str, type[Processor]] = {}
"""Registered processors by name."""


def register_processor(kind: str) -> Callable[[type[ProcessorT]], type[ProcessorT]]:
    """Class decorator: announce a processor by the name that stands in ``processor.json``."""

    def decorate(made: type[ProcessorT]) -> type[ProcessorT]:
        made.kind = kind
        PROCESSORS[kind] = made
        return made

    return decorate
