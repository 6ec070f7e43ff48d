"""Data with a known truth: the registry of its kinds, and how they are made and written.

A kind is a function from sizes and random numbers to files and facts, announced with ``@made_by(kind, task, ...)``.
There are streams of known entropy (`chainrule.data.synthetic_streams`) and tasks with known answers
(`chainrule.data.synthetic_tasks`). Data are a pure function of (kind, task, size, seed).
"""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import UserError, nearest

Sizes = dict[str, int]
"""Records (or symbols) of train, valid and test."""
Files = Mapping[str, str | bytes]
"""Contents by file name."""
Contents = tuple[Files, dict[str, Any]]
"""Files by name, and known facts."""
Maker = Callable[[Sizes, np.random.Generator], Contents]
"""From sizes and random numbers to the files and the known facts."""
KINDS: dict[tuple[str, str], Kind] = {}
"""Registered kinds by name and task; the task is "" where no command trains on it yet."""


@dataclass(frozen=True)
class Kind:
    """One kind of data. ``size`` is the default, ``least`` the smallest, in training records or symbols (``unit``)."""

    summary: str
    size: int
    make: Maker
    unit: str
    least: int


@dataclass(frozen=True)
class Made:
    """The files of a kind by name, and ``truth``: the facts that ``truth.json`` holds."""

    files: Files
    truth: dict[str, Any]


def made_by(
    kind: str, task: str, summary: str, size: int, *, unit: str = "records", least: int = 100
) -> Callable[[Maker], Maker]:
    """Decorator that registers a kind of data.

    Args:
        kind: its name.
        task: the task that it is for; "" where there is none yet.
        summary: one line about it.
        size: training records (or symbols) unless others are asked for.
        unit: ``records``, or ``symbols`` of a stream.
        least: the smallest size.
    """

    def announce(function: Maker) -> Maker:
        KINDS[kind, task] = Kind(summary, size, function, unit, least)
        return function

    return announce


def facts(alignment: str | None, remember: str, chance: dict[str, tuple[float, str]], **more: Any) -> dict[str, Any]:
    """Return facts for ``truth.json``.

    Args:
        alignment: where the answer stands in a record, in words.
        remember: what has to be remembered.
        chance: scores of guessing by metric, each with its reason.
        more: further facts.
    """
    scores = {metric: {"value": value, "how": how} for metric, (value, how) in chance.items()}
    return {**more, "alignment": alignment, "remember": remember, "chance": scores}


def json_lines(records: Iterable[dict[str, Any]]) -> str:
    """Return records as lines of JSON.

    Args:
        records: one object for each line.
    """
    return "".join(json.dumps(record) + "\n" for record in records)


def known() -> dict[tuple[str, str], Kind]:
    """Return all kinds by (kind, task): streams first, so that ``copy`` alone means the stream."""
    for module in ("synthetic_streams", "synthetic_tasks", "rainbow"):
        importlib.import_module(f"chainrule.data.{module}")
    return dict(sorted(KINDS.items(), key=lambda item: item[1].unit != "symbols"))


def task_of(kind: str, task: str | None = None) -> str:
    """Return the task that a kind is made for; ``task`` chooses where there are several.

    >>> task_of("recall"), task_of("copy"), task_of("copy", "translate")
    ('classify', 'generate', 'translate')

    Args:
        kind: the name of a kind.
        task: the task, where it is named.

    Raises:
        UserError: no such kind, or not for this task.
    """
    tasks = [t for name, t in known() if name == kind]
    if not tasks:
        raise UserError(f"data make {kind}: no such kind; {nearest(kind, {name for name, _ in known()})}")
    if task is not None and task not in tasks:
        allowed = " or ".join(f"--task {t}" if t else "no task yet" for t in tasks)
        raise UserError(f"data make {kind} --task {task}: {kind} is for {allowed}")
    return tasks[0] if task is None else task


def make(kind: str, task: str | None = None, *, size: int | None = None, seed: int = 42) -> Made:
    """Make data of a kind.

    >>> list(make("parity", size=100).files)
    ['train.tsv', 'valid.tsv', 'test.tsv']

    Args:
        kind: a registered name.
        task: chooses where a kind is for several tasks.
        size: training records, or symbols of a stream; a twentieth of it is made for validation, and as much for the
            test.
        seed: seed of the random numbers.

    Raises:
        UserError: no such kind or task, or too small a size.
    """
    chosen = task_of(kind, task)
    found = known()[kind, chosen]
    size = found.size if size is None else size
    if size < found.least:
        raise UserError(f"--size {size}: {kind} needs at least {found.least:,} {found.unit}")
    sizes = {"train": size, "valid": size // 20, "test": size // 20}
    name = kind if found.unit == "symbols" else f"{kind} {chosen}"
    files, facts = found.make(sizes, np.random.default_rng([seed, zlib.crc32(name.encode())]))
    told = {"format": 1, "kind": kind, "task": chosen or None, "size": size, "seed": seed, found.unit: sizes}
    return Made(files, told | {"description": found.summary} | facts)


def write(made: Made, directory: Path) -> None:
    """Write the files of a kind and ``truth.json``.

    Args:
        made: the files.
        directory: a folder, which is made if need be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in made.files.items():
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (directory / "truth.json").write_text(json.dumps(made.truth, indent=1) + "\n", encoding="utf-8")


def make_data(
    kind: str | None = None,
    out: str | None = None,
    *,
    task: str | None = None,
    size: float | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """Write data of a kind to a folder, or list all kinds.

    Args:
        kind: the kind; None: list all.
        out: the folder.
        task: the task, where a kind is for several.
        size: training records, or symbols of a stream.
        seed: seed of the random numbers.

    Returns:
        ``kinds``, each with its task and a summary; or what was made, with its entropy rate, or the scores of guessing.

    Raises:
        UserError: no such kind or task, no folder, too small a size.
    """
    if kind is None:
        return {
            "kinds": [{"kind": k, "task": t or None, "summary": found.summary} for (k, t), found in known().items()]
        }
    chosen = task_of(kind, task)
    if not out:
        raise UserError(f"data make {kind}: say where to, with --out DIR")
    made = make(kind, chosen, size=None if size is None else int(size), seed=seed)
    write(made, Path(out))
    truth = made.truth
    about = {"out": out, "kind": kind, "task": chosen or None, "description": truth["description"]}
    if "chance" in truth:
        return {**about, "chance": {metric: found["value"] for metric, found in truth["chance"].items()}}
    return {**about, "entropy_rate": truth["entropy_rate"], "lag": truth["lag"]}
