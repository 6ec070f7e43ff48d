"""Datasets of records that have a key each, such as the events of every user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.data.dataset import Dataset
from chainrule.data.folds import Fold
from chainrule.data.split import by_hash, check_split, text_hashes


def split_by_key(
    name: str,
    records: Mapping[str, np.ndarray],
    split: tuple[float, float, float] | Fold = (0.9, 0.05, 0.05),
    **about: Any,
) -> Dataset:
    """Return records as a dataset, split by a hash of their keys.

    Args:
        name: the name of the data.
        records: an array for each key.
        split: shares of train, valid and test.
        about: further fields of the dataset, such as ``counted``.

    Raises:
        DataError: too few records for three splits.
        UserError: shares that do not sum to 1.

    Examples:
        >>> found = split_by_key("waits", {f"user {k}": np.arange(k + 1) for k in range(40)})
        >>> {name: len(records) for name, records in found.parts.items()}
        {'train': 35, 'valid': 3, 'test': 2}
    """
    keys, rows = list(records), [np.asarray(row) for row in records.values()]
    chosen = by_hash(text_hashes(keys), check_split(split), name)
    parts = {part: [rows[k] for k in numbers.tolist()] for part, numbers in chosen.items()}
    whole = hashlib.sha256(b"".join(key.encode() + row.tobytes() for key, row in zip(keys, rows))).hexdigest()
    places = repr({part: numbers.tolist() for part, numbers in chosen.items()})
    return Dataset(name, parts, whole, hashlib.sha256((whole + places).encode()).hexdigest(), **about)
