"""Series: numbers in time order, one record a column; from a table to parts of a split.

A part is a stretch of time: train comes first, then valid, then test, so that nothing is forecast from its own future. What lies
before a part is its history: read, never scored. Values keep the file's own units here; ``Scaling`` is what models see.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError
from chainrule.data.dataset import Dataset
from chainrule.data.source import suffix
from chainrule.data.split import check_split
from chainrule.data.table import read_table, times_of

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-", "."})
"""What stands for a value that was not taken, in lower case."""
LEAST = 10
"""Values that a training part needs; a single one to validate or to test on will do."""
TIMES = 5
"""Rows by which a column is told to hold times."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?|\d{8}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Shares = tuple[float, float, float]
Named = dict[str, list[str]]


@dataclass(frozen=True)
class Series:
    """One column. ``values`` has no gaps: where ``missing`` is true the last known value stands, to be read, never scored."""

    name: str
    values: np.ndarray
    missing: np.ndarray


@dataclass(frozen=True)
class Stretch:
    """Values ``start`` to ``end`` of every series, with all that came before as history."""

    series: tuple[Series, ...]
    start: tuple[int, ...]
    end: tuple[int, ...]

    def __len__(self) -> int:
        """Values that are scored."""
        return sum(len(values) for values in self.scored())

    def scored(self) -> list[np.ndarray]:
        """The known values of the stretch, series by series."""
        return [s.values[a:z][~s.missing[a:z]] for s, a, z in zip(self.series, self.start, self.end)]

    def targets(self) -> list[np.ndarray]:
        """The values of the stretch, series by series; NaN where one is missing."""
        return [np.where(s.missing[a:z], math.nan, s.values[a:z]) for s, a, z in zip(self.series, self.start, self.end)]

    def described(self) -> dict[str, int]:
        return {"values": len(self), "records": len(self.series)}


@dataclass(frozen=True)
class Scaling:
    """What turns values into what models see, (x - mean) / scale, series by series: mean and spread of the training part.

    ``naive`` is the mean absolute error of "as before" over the training part, in the series' own units: what MASE divides by.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    naive: tuple[float, ...]

    @staticmethod
    def of(part: Stretch) -> Scaling:
        """Raises DataError for a series that is too short or does not move."""
        found: list[tuple[float, float, float]] = []
        for series, known in zip(part.series, part.scored()):
            if len(known) < LEAST:
                raise DataError(f"column '{series.name}': {len(known)} values to train on; at least {LEAST} are needed")
            scale = float(known.std())
            if scale <= 1e-12 * max(1.0, float(np.abs(known).max())):
                raise DataError(
                    f"column '{series.name}': all {len(known)} values to train on are {known[0]:g}; "
                    "a series that does not move has nothing to learn: take another column, or another --split"
                )
            found.append((float(known.mean()), scale, float(np.abs(np.diff(known)).mean())))
        return Scaling(tuple(s.name for s in part.series), *zip(*found))

    def to_json(self) -> dict[str, Any]:
        return {k: list(getattr(self, k)) for k in ("columns", "mean", "scale", "naive")}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Scaling:
        return Scaling(*(tuple(values[k]) for k in ("columns", "mean", "scale", "naive")))

    def seen(self, index: int, values: np.ndarray) -> np.ndarray:
        """Values of series ``index`` as models see them."""
        return (values - self.mean[index]) / self.scale[index]

    def own(self, index: int, values: np.ndarray) -> np.ndarray:
        """The way back to the series' own units."""
        return values * self.scale[index] + self.mean[index]


@dataclass(frozen=True)
class SeriesDataset(Dataset):
    """Series, split in time order. Parts are `Stretch`."""

    unit: str = "stream"
    counted: str = "value"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the series."""
        return tuple(series.name for series in self.parts["train"].series)

    def card(self) -> dict[str, Any]:
        """The ``data`` object of a board."""
        return {
            "name": self.name, "unit": self.unit, "counted": self.counted, "columns": list(self.columns),
            "parts": {name: part.described() for name, part in self.parts.items()},
            "sha256": self.sha256, "notes": list(self.notes),
        }  # fmt: skip


def read_series(
    source: Path | str, columns: str | None = None, split: Shares = (0.7, 0.1, 0.2), time: str | None = None
) -> SeriesDataset:
    """The chosen columns of a table of numbers, split in time order: that of the rows, or of the column ``time``.

    Raises:
        DataError: no such file, no column of numbers or more than one to choose from, a cell that is no number (with its line), an
            infinity, or too few values.
    """
    shares, path, notes = check_split(split), Path(source), []
    series = tuple(read_columns(path, columns, notes, time))
    parts: dict[str, Stretch] = {}
    begin = tuple(0 for _ in series)
    for number, name in enumerate(("train", "valid", "test")):
        if name in shares and shares[name] > 0:
            until = sum(list(shares.values())[: number + 1])
            end = tuple(_cut(len(s.values), until, begin[i]) for i, s in enumerate(series))
            parts[name] = Stretch(series, begin, end)
            begin = end
    for name, part in parts.items():
        for s, known in zip(series, part.scored()):
            if not len(known) and name != "train":
                raise DataError(
                    f"{path}: column '{s.name}': no value falls into the {name} part; give more data or another --split"
                )
    whole = hashlib.sha256(b"".join(s.values.tobytes() + s.missing.tobytes() for s in series)).hexdigest()
    ends = ",".join(f"{name}:{part.start}-{part.end}" for name, part in parts.items())
    return SeriesDataset(
        path.name.split(".")[0] or path.name,
        parts,
        whole,
        hashlib.sha256(f"{whole} {ends}".encode()).hexdigest(),
        notes,
    )


def _cut(length: int, share: float, begin: int) -> int:
    """The end of a part that reaches to this share of the series; at least one value long where there is one left."""
    return min(length, max(begin + 1, round(share * length)))


def read_held_out(
    source: Path | str, names: Sequence[str], columns: str | None = None, time: str | None = None
) -> Stretch:
    """A held-out file: as many series as the model was trained on, scored from their first value on."""
    path = Path(source)
    series = tuple(read_columns(path, _fitting(path, names, columns), [], time))
    if len(series) != len(names):
        raise DataError(
            f"{path}: {len(series)} series, and the model was trained on {len(names)} ({', '.join(names)}): "
            "say which with --columns"
        )
    if not any((~s.missing).any() for s in series):
        raise DataError(f"{path}: every value is missing; there is nothing to evaluate")
    return Stretch(series, tuple(0 for _ in series), tuple(len(s.values) for s in series))


def _fitting(path: Path, names: Sequence[str], columns: str | None) -> str | None:
    """``columns`` of the run, unless the file needs none (it has one column) or names the run's series itself."""
    if not path.is_file():
        return columns
    cells = read_table(path).columns
    if len(cells) == 1:
        return None
    return ",".join(names) if set(names) <= {c[0].strip() for c in cells.values()} else columns


# ------------------------------------------------------------------------------------------------------------- reading


def read_columns(path: Path, columns: str | None, notes: list[str], time: str | None = None) -> list[Series]:
    """The columns of a table that ``columns`` names, or the only one that holds numbers, in the order of the column ``time``."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; a series is a .csv, .tsv or .txt file (also .gz) with a column of numbers"
        )
    table = read_table(path, columns, notes=notes, keep=(time,) if time else ())
    named = {name: [cell.strip() for cell in table.columns[name]] for name in table.names if name != time}
    lines = table.lines.tolist()
    if time:
        table.need(time)
        order = sorted(range(len(lines)), key=times_of(table, time).__getitem__)
        named, lines = {name: [cells[r] for r in order] for name, cells in named.items()}, [lines[r] for r in order]
        notes.append(f"{sum(r != k for k, r in enumerate(order)):,} rows were reordered by {time}")
    if not columns:
        named, lines = _only_numbers(path, *_below_header(named, lines), notes)
    if len(table.columns) == 1:  # an empty line is an empty cell there
        named, lines = _with_gaps(named, lines)
    return [_column(path, name, list(zip(lines, cells)), notes) for name, cells in named.items()]


def looks_like_series(path: Path, columns: str | None = None) -> bool:
    """Is this a CSV or TSV file of one column of numbers, of times and numbers, or one of which ``columns`` picks just one column?"""
    if suffix(path) not in (".csv", ".tsv") or not path.is_file():
        return False
    try:
        table = read_table(path, columns)
    except DataError:
        return False
    named, _ = _below_header({name: [c.strip() for c in table.columns[name]] for name in table.names}, [])
    if not columns and (time := time_column(named)):
        named = {name: cells for name, cells in named.items() if name != time}
    return len(named) == 1 and all(map(_is_value, *named.values()))


def time_column(named: Named) -> str | None:
    """The first of two columns, if it says when each value of the second was taken: dates that rise, or numbers that rise in
    even steps. None where that is in doubt: few rows, a second column that rises evenly too, numbers that are called ids.
    """
    if len(named) != 2 or len(next(iter(named.values()))) < TIMES:
        return None
    (first, times), (_, values) = named.items()
    dated = _days(times) is not None
    if not dated and (not _rises_evenly(times) or re.fullmatch(r"(.*[_ ])?id", first.lower())):
        return None
    doubtful = not _mostly_numbers(values) or _rises_evenly(values) or _days(values) is not None
    return None if doubtful else first


def _days(cells: Sequence[str]) -> list[float] | None:
    """Days since 1970 of dates that rise: 1959-01, 1959-01-31, 1959/01/31, 19590131, with or without a time of day."""
    found = []
    for cell in cells:
        text = cell.replace("/", "-")
        text += "-01" if re.fullmatch(r"\d{4}-\d{2}", text) else ""
        if not _DATE.fullmatch(text):
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        found.append((moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH).total_seconds() / 86400)
    return found if all(a < b for a, b in zip(found, found[1:])) else None


def _rises_evenly(cells: Sequence[str]) -> bool:
    """Numbers that rise by one step throughout, but for a last place that was rounded (1959.08, 1959.17, 1959.25)."""
    if not all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in cells):
        return False
    places = max(len(cell.partition(".")[2]) for cell in cells)
    units = [int(Decimal(cell).scaleb(places)) for cell in cells]
    steps = {b - a for a, b in zip(units, units[1:])}
    rounded = places > 0 and min(steps, default=0) >= 5 and max(steps) - min(steps) == 1
    return min(steps, default=0) > 0 and (len(steps) == 1 or rounded)


def _below_header(named: Named, lines: list[int]) -> tuple[Named, list[int]]:
    """Columns under the names that their first line gives, where it holds words above numbers."""
    header = any(not _is_value(c[0]) and len(c) > 1 and _is_value(c[1]) and c[1] for c in named.values())
    if not header:
        return named, lines
    return {cells[0] or name: cells[1:] for name, cells in named.items()}, lines[1:]


def _only_numbers(path: Path, named: Named, lines: list[int], notes: list[str]) -> tuple[Named, list[int]]:
    """The one column that holds numbers, else an error that says what to type."""
    numbers = [name for name, cells in named.items() if _mostly_numbers(cells)]
    if len(named) == 1:
        return {name if not name.isdigit() else "value": cells for name, cells in named.items()}, lines
    if time := time_column(named):
        numbers = [name for name in numbers if name != time]
        notes.append(f"column {time} is read as the time, column {numbers[0]} as the values{_gaps(named[time])}")
    elif len(numbers) == 1:
        notes.append(f"column {numbers[0]} is taken: the only one that holds numbers")
    if len(numbers) == 1:
        return {numbers[0] if not numbers[0].isdigit() else "value": named[numbers[0]]}, lines
    headless = all(name.isdigit() for name in named)
    example = ",".join(["-"] * (len(named) - 1) + ["value"]) if headless else ",".join(numbers) or next(iter(named))
    raise DataError(
        f"{path}: {len(numbers)} of {len(named)} columns hold numbers; say which are the series, for example "
        f"--columns {example}" + (" ('-' skips a column)" if headless else "")
    )


def _gaps(times: Sequence[str]) -> str:
    """What is to be said of dates that lie apart unevenly, beyond months of 28 to 31 days."""
    days = _days(times) or [0.0, 1.0]
    steps = [b - a for a, b in zip(days, days[1:])]
    if max(steps) <= 1.2 * min(steps):
        return ""
    return (
        f"; {min(steps):g} to {max(steps):g} days lie between two of them, and values are taken in order all the same"
    )


def _with_gaps(named: Named, lines: list[int]) -> tuple[Named, list[int]]:
    every = range(lines[0], lines[-1] + 1)
    filled = {name: dict(zip(lines, cells)) for name, cells in named.items()}
    return {name: [known.get(line, "") for line in every] for name, known in filled.items()}, list(every)


def _mostly_numbers(cells: Iterable[str]) -> bool:
    known = [cell for cell in cells if cell.lower() not in MISSING]
    return bool(known) and sum(map(_is_value, known)) > len(known) / 2


def _is_value(cell: str) -> bool:
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _column(path: Path, name: str, cells: list[tuple[int, str]], notes: list[str]) -> Series:
    values = np.array([_number(path, name, line, cell) for line, cell in cells])
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise DataError(f"{path}: column '{name}': every value is missing")
    values = values[known[0] : known[-1] + 1]
    missing = np.isnan(values)
    if missing.any():
        notes.append(
            f"column '{name}': {int(missing.sum())} missing values: the last known one is read in their place, and they are not scored"
        )
    last = np.maximum.accumulate(np.where(missing, 0, np.arange(len(values))))
    return Series(name, values[last], missing)


def _number(path: Path, name: str, line: int, cell: str) -> float:
    if cell.lower() in MISSING:
        return math.nan
    value = float(cell) if _is_value(cell) else math.inf
    if math.isinf(value):
        raise DataError(
            f"{path}: line {line}: column '{name}': '{cell[:40]}' is no finite number; mend it, or leave the cell empty where none was taken"
        )
    return value
