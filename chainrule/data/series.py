"""Series: numbers in time order, one record a column, from a table to the stretches of a split.

A split is a stretch of time: train comes first, then valid, then test, so that nothing is forecast from its own
future. The values before a stretch are its history: read, never scored. Values keep the units of the file here;
models see them through `Scaling`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.errors import DataError
from chainrule.core.plural import plural
from chainrule.data.clock import Columns, order_by, time_column, uneven_days, unused_times
from chainrule.data.dataset import Dataset
from chainrule.data.folds import Fold
from chainrule.data.numerals import is_value, mostly_numbers, number_of, with_points
from chainrule.data.readers.delimited import has_semicolons
from chainrule.data.records import Shares
from chainrule.data.source import PARTS, suffix
from chainrule.data.split import Wanted, check_split
from chainrule.data.table import Table, asked_names, read_table
from chainrule.data.text_encoding import PLAIN, Decoding
from chainrule.data.times import read_times

MIN_VALUES = 10
"""Values that a training split needs; a single one to validate or to test on will do."""


@dataclass(frozen=True)
class Series:
    """One column. ``values`` has no gaps: where ``missing`` is true the last known value is repeated, for models that
    cannot skip a value; it is never scored.
    """

    name: str
    values: np.ndarray
    missing: np.ndarray

    def tail(self, longest: int) -> list[float | None]:
        """Return at most the last ``longest`` values as JSON has them, None where one is missing."""
        return [None if gap else x for x, gap in zip(self.values.tolist(), self.missing.tolist())][-longest:]


def inputs_of(model: Any, seen: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return values as a model reads them: infinity stands for a missing one where the model skips it.

    Args:
        model: the model.
        seen: values without gaps, as models see them.
        missing: which of them are missing.
    """
    return np.where(missing, math.inf, seen) if model.skips_missing else seen


@dataclass(frozen=True)
class Stretch:
    """Values ``start`` to ``end`` of every series, with all earlier values as history."""

    series: tuple[Series, ...]
    start: tuple[int, ...]
    end: tuple[int, ...]

    def __len__(self) -> int:
        """Values that are scored."""
        return sum(map(len, self.scored()))

    def scored(self) -> list[np.ndarray]:
        """The known values of the stretch, series by series."""
        return [values[~np.isnan(values)] for values in self.targets()]

    def targets(self) -> list[np.ndarray]:
        """The values of the stretch, series by series; NaN where one is missing."""
        return [np.where(s.missing[a:z], math.nan, s.values[a:z]) for s, a, z in zip(self.series, self.start, self.end)]

    def described(self) -> dict[str, int]:
        """Sizes of the stretch for the data card."""
        return {"values": len(self), "records": len(self.series)}


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each series over the training split: models see (x - mean) / scale.

    ``naive`` is the mean absolute error of repeating the last value over the training split, in the units of the
    series: the denominator of MASE.

    >>> scaling = Scaling(("sales",), (10.0,), (2.0,), (1.0,))
    >>> scaling.seen(0, np.array([10.0, 14.0])).tolist(), scaling.own(0, np.array([2.0])).tolist()
    ([0.0, 2.0], [14.0])
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    naive: tuple[float, ...]

    @staticmethod
    def of(part: Stretch) -> Scaling:
        """Return the scaling of a training split. Raises DataError for a series that is too short or constant."""
        found: list[tuple[float, float, float]] = []
        for series, known in zip(part.series, part.scored()):
            told = f"column '{series.name}'"
            if len(known) < MIN_VALUES:
                raise DataError(f"{told}: {len(known)} values to train on; at least {MIN_VALUES} are needed")
            scale = float(known.std())
            if scale <= 1e-14 * max(1e-2, float(np.abs(known).max())):
                raise DataError(
                    f"{told}: all {len(known)} values to train on are {known[0]:.15g}; a constant series has "
                    "nothing to learn: take another column, or another --split"
                )
            found.append((float(known.mean()), scale, float(np.abs(np.diff(known)).mean())))
        return Scaling(tuple(s.name for s in part.series), *zip(*found))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {name: list(values) for name, values in asdict(self).items()}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Scaling:
        """Return the inverse of ``to_json``."""
        return Scaling(*(tuple(values[name]) for name in ("columns", "mean", "scale", "naive")))

    def seen(self, index: int, values: np.ndarray) -> np.ndarray:
        """Return values of series ``index`` as models see them."""
        return (values - self.mean[index]) / self.scale[index]

    def own(self, index: int, values: np.ndarray) -> np.ndarray:
        """Return values of series ``index`` in its own units: the inverse of ``seen``."""
        return values * self.scale[index] + self.mean[index]


@dataclass(frozen=True, repr=False)
class SeriesDataset(Dataset):
    """Series, split in time order. Parts are `Stretch`."""

    unit: str = "stream"
    counted: str = "value"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the series."""
        return tuple(series.name for series in self.parts["train"].series)

    def sizes(self, part: Stretch) -> dict[str, int]:
        """Return the sizes of one split."""
        return part.described()

    def described(self, train: Stretch, held: Stretch) -> dict[str, Any]:
        """Return the names of the series."""
        return {"columns": list(self.columns)}


def read_series(
    source: Path | str,
    columns: str | None = None,
    split: Shares = (0.7, 0.1, 0.2),
    time: str | None = None,
    decoding: Decoding = PLAIN,
) -> SeriesDataset:
    """Read columns of numbers and split them in time order.

    Args:
        source: a CSV or TSV file.
        columns: names of the series (see `chainrule.data.table`); None: the only column of numbers.
        split: shares of train, valid and test.
        time: the column that orders the rows; None: they are in order.
        decoding: how text is read, and whether a damaged row stops reading or is left out.

    Raises:
        DataError: no such file, no column of numbers or several to choose from, a cell that is not a number (with its
            line), an infinity, or too few values.
        UserError: shares or columns that do not fit.
    """
    shares, path, notes = check_split(split), Path(source), list[str]()
    series = tuple(read_columns(path, columns, notes, time, decoding))
    parts = _parts(series, shares)
    for name, part in parts.items():
        empty = next((s.name for s, known in zip(series, part.scored()) if not len(known)), None)
        if empty is not None and name != "train":
            told = f"no value falls into the {name} part; give more data or another --split"
            raise DataError(f"{path}: column '{empty}': {told}")
    whole = hashlib.sha256(b"".join(s.values.tobytes() + s.missing.tobytes() for s in series)).hexdigest()
    ends = ",".join(f"{name}:{part.start}-{part.end}" for name, part in parts.items())
    cut = hashlib.sha256(f"{whole} {ends}".encode()).hexdigest()
    return SeriesDataset(path.name.split(".")[0] or path.name, parts, whole, cut, notes)


def _parts(series: tuple[Series, ...], shares: Wanted) -> dict[str, Stretch]:
    """The splits of series in time order."""
    ends: dict[str, tuple[int, ...]] = {}
    begin, reached = tuple(0 for _ in series), 0.0
    if isinstance(shares, Fold):
        windows = [shares.window(len(s.values)) for s in series]
        ends = dict(zip(PARTS, zip(*windows, strict=True), strict=True))
        shares = {}
    for name, share in shares.items():
        if share > 0:
            reached += share  # at least one value long, where there is one left
            last = ends[[*ends][-1]] if ends else begin
            ends[name] = tuple(
                min(len(s.values), max(start + 1, round(reached * len(s.values)))) for s, start in zip(series, last)
            )
    starts = [begin, *ends.values()]
    return {name: Stretch(series, start, end) for (name, end), start in zip(ends.items(), starts)}


def read_held_out(
    source: Path | str,
    names: Sequence[str],
    columns: str | None = None,
    time: str | None = None,
    decoding: Decoding = PLAIN,
) -> Stretch:
    """Read a held-out file, scored from its first value on.

    Args:
        source: a CSV or TSV file.
        names: the series that the model was trained on.
        columns: the columns of the run; not needed where the file has one column, or columns with the names of the
            series.
        time: the column that orders the rows.
        decoding: how text is read.

    Raises:
        DataError: another number of series, or no known value.
    """
    path = Path(source)
    if path.is_file():
        cells = read_table(path, None, decoding).columns
        if len(cells) == 1:
            columns = None
        elif set(names) <= {*cells, *(c[0].strip() for c in cells.values())}:
            columns = ",".join(names)
    series = tuple(read_columns(path, columns, [], time, decoding))
    if len(series) != len(names):
        told = f"{len(series)} series, and the model was trained on {len(names)} ({', '.join(names)})"
        raise DataError(f"{path}: {told}: say which with --columns")
    if all(s.missing.all() for s in series):
        raise DataError(f"{path}: every value is missing; there is nothing to evaluate")
    return Stretch(series, tuple(0 for _ in series), tuple(len(s.values) for s in series))


# -------------------------------------------------------------------------------------------------------------- reading


def read_columns(
    path: Path, columns: str | None, notes: list[str], time: str | None = None, decoding: Decoding = PLAIN
) -> list[Series]:
    """Read series without splitting them.

    Args:
        path: a CSV or TSV file.
        columns: names of the series; None: the only column of numbers.
        notes: a list that notes are added to.
        time: the column that orders the rows; None: a column of dates, or of numbers in even steps, if there is one.
        decoding: how text is read.

    Raises:
        DataError: as `read_series`.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; a series is a .csv, .tsv or .txt file (also .gz) with a column of numbers"
        )
    table = read_table(path, columns, decoding, notes, keep=(time,) if time else ())
    if time:
        table.need(time)
    lines, cells = table.lines.tolist(), _stripped(table.columns, [name for name in table.names if name != time])
    own = time_column(cells) if not columns else None
    if not columns:
        cells = _only_numbers(path, cells, own, notes)
    whole = (
        read_table(path, None, decoding) if "-" in asked_names(columns) else table
    )  # with the columns that --columns skips
    if clock := time or own or unused_times(whole, cells, notes):
        order = order_by(path, whole, clock, notes, bool(time))
        lines, cells = [lines[r] for r in order], {name: [c[r] for r in order] for name, c in cells.items()}
        _note_clock(whole, clock, order, next(iter(cells)) if own else "", notes)
    if len(whole.columns) == 1:  # an empty line is an empty cell there
        lines, every = list(range(lines[0], lines[-1] + 1)), lines
        known = {name: dict(zip(every, column)) for name, column in cells.items()}
        cells = {name: [column.get(line, "") for line in lines] for name, column in known.items()}
    return [_series(path, name, lines, column, notes) for name, column in cells.items()]


def looks_like_series(path: Path, columns: str | None = None, decoding: Decoding = PLAIN) -> bool:
    """Return True for a CSV or TSV file of one column of numbers, of times and numbers, or with one column picked.

    Args:
        path: a file.
        columns: columns that are picked.
        decoding: how text is read.
    """
    if suffix(path) not in (".csv", ".tsv") or not path.is_file():
        return False
    try:
        table = read_table(path, columns, decoding)
    except DataError:
        return False
    named = _stripped(table.columns, table.names)
    if not columns and (time := time_column(named)):
        del named[time]
    return len(named) == 1 and all(map(is_value, *named.values()))


def _stripped(columns: Columns, names: Iterable[str]) -> Columns:
    return {name: [cell.strip() for cell in columns[name]] for name in names}


def _only_numbers(path: Path, named: Columns, time: str | None, notes: list[str]) -> Columns:
    """The one column that holds numbers. Raises DataError, with what to type, where there is not exactly one."""
    numbers = [name for name, cells in named.items() if mostly_numbers(cells) and name != time]
    if len(named) == 1:
        numbers = list(named)
    elif len(numbers) == 1 and not time:
        notes.append(f"column {numbers[0]} is taken: the only one that holds numbers")
    if len(numbers) == 1:
        return {"value" if numbers[0].isdigit() else numbers[0]: named[numbers[0]]}
    headless = all(name.isdigit() for name in named)
    example = ",".join(["-"] * (len(named) - 1) + ["value"]) if headless else ",".join(numbers) or next(iter(named))
    told = f"{len(numbers)} of {len(named)} columns hold numbers; say which are the series"
    skips = " ('-' skips a column)" if headless else ""
    raise DataError(f"{path}: {told}, for example --columns {example}{skips}")


def _note_clock(table: Table, time: str, order: list[int], values: str, notes: list[str]) -> None:
    """Add notes on a column of times: that it was recognised beside a column of ``values``, and uneven steps."""
    times = read_times(table, time)
    apart = uneven_days([times.values[r] for r in order]) if times.dated else None
    told = f"column {time} is read as the time, column {values} as the values" if values else ""
    if apart:
        told = f"{told}; " if told else f"column {time}: "
        told += f"{apart[0]:g} to {apart[1]:g} days lie between two of them, and values are taken in order all the same"
    if told:
        notes.append(told)


def _series(path: Path, name: str, lines: list[int], cells: list[str], notes: list[str]) -> Series:
    cells, commas = with_points(cells, f"{path}: column '{name}'", has_semicolons(path))
    if commas:
        notes.append(f"column '{name}': numbers are read with {commas}")
    values = np.array([number_of(f"{path}: line {line}: column '{name}'", cell) for line, cell in zip(lines, cells)])
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise DataError(f"{path}: column '{name}': every value is missing")
    values = values[known[0] : known[-1] + 1]
    missing = np.isnan(values)
    if missing.any():
        told = plural(int(missing.sum()), "missing value")
        notes.append(
            f"column '{name}': {told}: they are not scored; kalman and hmm skip them, other models read the last known "
            "value in their place"
        )
    last = np.maximum.accumulate(np.where(missing, 0, np.arange(len(values))))
    return Series(name, values[last], missing)
