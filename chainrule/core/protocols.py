"""Protocols of objects that are passed in, so that sibling packages need not know each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Encoded:
    """Ids of a text, and the positions of those outside the vocabulary (with the length of each in bytes)."""

    ids: np.ndarray
    unknown_at: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    unknown_bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


class Tokenizer(Protocol):
    """Text to ids and back, reversible up to what is declared unknown."""

    name: str
    vocab_size: int
    unknown: int | None

    def encode(self, text: bytes) -> Encoded: ...

    def decode(self, ids: Any) -> bytes: ...

    def to_json(self) -> dict[str, Any]: ...
