"""Checks of ids and texts that tokenizers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.errors import DataError


def check_ids(ids: Any, vocab_size: int) -> np.ndarray:
    """Return ids as a flat array. Raises ValueError where one is outside the vocabulary.

    >>> check_ids([[3, 1]], 4)
    array([3, 1])
    """
    array = np.asarray(ids).reshape(-1).astype(np.int64, copy=False)
    if len(array) and not (array.min() >= 0 and array.max() < vocab_size):
        raise ValueError(f"ids outside 0..{vocab_size - 1} are not in the vocabulary")
    return array


def check_utf8(text: bytes) -> str:
    """Return a text that is UTF-8 as a string. Raises DataError with the place of the first byte that is not."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start + 1} of the text is not UTF-8 (0x{text[error.start]:02x})") from error
