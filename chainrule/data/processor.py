"""Processors: they turn the raw records of a dataset into what a model reads, and ids back into text.

A processor is fitted on the training split, is saved as ``processor.json`` with every run, and is rebuilt by its
registered name.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from chainrule.core.errors import UserError


class Processor(ABC):
    """One way to encode a dataset."""

    kind: ClassVar[str]
    """Its registered name."""
    spec: str | None = None
    """The complete value of ``--tokenizer`` that makes the same choice again; None if there is no tokenizer."""

    def encode(self, part: Any) -> Any:
        """Return a raw split as models read it; by default as it is, and batches make tensors of it.

        Raises DataError where something in it cannot be encoded.
        """
        return part

    def encode_parts(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Return all splits, encoded. Override it if splits share memory, or if training is encoded differently."""
        return {name: self.encode(part) for name, part in parts.items()}

    def decode(self, ids: Any) -> bytes:
        """Return the text of ids, UTF-8. Raises UserError if ids are no text."""
        raise UserError(f"{self.kind}: this run has no ids that stand for text")

    @property
    def special_tokens(self) -> dict[str, int]:
        """Ids of special tokens by name (``unknown``, ``end``, ``start``)."""
        return {}

    def sizes(self) -> dict[str, Any]:
        """Return settings of a model that follow from this processor, such as ``vocab_size``."""
        return {}

    def notes(self, parts: dict[str, Any]) -> list[str]:
        """Return notes on this encoding for readers who compare figures; ``parts`` are encoded."""
        return []

    def card(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Return entries of the data card on this encoding; its key ``parts`` adds entries to each split."""
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
    """Announce a processor; a class decorator.

    Args:
        kind: the name in ``processor.json``.
    """

    def decorate(made: type[ProcessorT]) -> type[ProcessorT]:
        made.kind = kind
        PROCESSORS[kind] = made
        return made

    return decorate
