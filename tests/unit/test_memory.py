"""Data in memory: written once, equal for equal content, and read as the records that were given."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

from chainrule.core import DataError, UserError
from chainrule.data import memory
from chainrule.data.memory import materialize, text
from chainrule.data.table import read_table
from tests.encoded import read

LOG = [(f"u{k % 7}", 100 + k, "abcd"[(k * k + k % 7) % 4]) for k in range(301)]
NAMES = ("user_id", "time", "event")


def columns(rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: list(column) for name, column in zip(NAMES, zip(*rows))}


def records_of(path: str, **options: Any) -> dict[str, list[str]]:
    """Records by what is left of them, whatever part they are in."""
    found = read(path, **options)
    tokenizer = found.processor.tokenizer
    return {
        part: sorted(" ".join(tokenizer.symbols_of(p.ids[s:e])) for s, e in zip(p.starts, p.ends))
        for part, p in found.parts.items()
    }


@pytest.mark.parametrize("make", [pandas.DataFrame, polars.DataFrame, pyarrow.table])
def test_a_frame_of_any_library_gives_the_records_of_its_groups_in_order(make: Any, tmp_path: Path) -> None:
    rows = [LOG[k] for k in np.random.default_rng(5).permutation(len(LOG))]
    path = materialize(make(columns(rows)), tmp_path / "data")
    table = {"columns": "event", "group": "user_id", "time": "time"}
    expected = {f"u{u}": [event for user, _, event in LOG if user == f"u{u}"] for u in range(7)}
    found = read(path, **table)
    tokenizer, held = found.processor.tokenizer, []
    for part in found.parts.values():
        held += [tokenizer.symbols_of(part.ids[s:e]) for s, e in zip(part.starts, part.ends)]
    assert sorted(held) == sorted(expected.values())
    assert any("301 rows, 7 records" in note and "rows were reordered by time" in note for note in found.all_notes)


def test_all_libraries_write_the_same_file(tmp_path: Path) -> None:
    rows = columns(LOG)
    made = [
        Path(materialize(frame, tmp_path / str(k)))
        for k, frame in enumerate(
            (
                pandas.DataFrame(rows),
                polars.DataFrame(rows),
                pyarrow.table(rows),
                [dict(zip(NAMES, row)) for row in LOG],
            )
        )
    ]
    assert len({path.read_bytes() for path in made}) == 1 and {path.name for path in made} == {"data.jsonl"}


def test_equal_data_find_their_file_and_other_data_are_refused(tmp_path: Path) -> None:
    first = materialize([["a", "b"], ["c"]], tmp_path)
    before = Path(first).stat().st_mtime_ns
    assert materialize([["a", "b"], ("c",)], tmp_path) == first
    assert Path(first).stat().st_mtime_ns == before
    for other in ([["a", "b"], ["d"]], text("a b c"), np.arange(5.0)):
        with pytest.raises(UserError, match=r"data\.jsonl: holds other data than were given"):
            materialize(other, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl"]


@pytest.mark.parametrize(
    ("source", "name", "content"),
    [
        (text("To be,\nor not"), "data.txt", "To be,\nor not"),
        (["anna", "mia\n"], "data.txt", "anna\nmia\n"),
        ([["a", 1], ["b"]], "data.jsonl", '{"sequence": ["a", 1]}\n{"sequence": ["b"]}\n'),
        (
            [("ein", "one"), ("zwei", "two")],
            "data.jsonl",
            '{"source": "ein", "target": "one"}\n{"source": "zwei", "target": "two"}\n',
        ),
        ([{"text": "x", "label": None}], "data.jsonl", '{"text": "x", "label": null}\n'),
        (np.array([[1, 2], [3, 4]]), "data.jsonl", '{"sequence": [1, 2]}\n{"sequence": [3, 4]}\n'),
        (np.array([1.5, np.nan]), "data.csv", "value\n1.5\n\n"),
        (np.array([[1.0, 2.0], [3.0, 4.5]]), "data.csv", "series1,series2\n1.0,2.0\n3.0,4.5\n"),
        ([3, 4.5], "data.csv", "value\n3.0\n4.5\n"),
        (np.array(["ab", "c"]), "data.txt", "ab\nc\n"),
    ],
)  # fmt: skip
def test_every_kind_is_written_as_the_file_that_holds_it(source: Any, name: str, content: str, tmp_path: Path) -> None:
    path = Path(materialize(source, tmp_path))
    assert (path.name, path.read_text(encoding="utf-8")) == (name, content)


def test_dates_missing_values_and_lists_of_a_frame(tmp_path: Path) -> None:
    moments = [datetime.datetime(2024, 5, 1, 9, 30), None]
    for k, make in enumerate((pandas.DataFrame, polars.DataFrame)):
        path = Path(
            materialize(make({"at": moments, "x": [1.5, float("nan")], "tags": [["a"], ["b", "c"]]}), tmp_path / str(k))
        )
        assert [json.loads(line) for line in path.read_text().splitlines()] == [
            {"at": "2024-05-01T09:30:00", "x": 1.5, "tags": ["a"]},
            {"at": None, "x": None, "tags": ["b", "c"]},
        ]
        assert read_table(path).columns["tags"] == ['["a"]', '["b", "c"]']


def test_sequences_of_tokens_are_the_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    words = [rng.choice(["go", "on", "up"], 1 + k % 5).tolist() for k in range(200)]
    found = records_of(materialize(words, tmp_path))
    assert sorted(record for part in found.values() for record in part) == sorted(map(" ".join, words))


def test_a_path_is_passed_through_and_a_text_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("x\n")
    assert materialize(tmp_path / "a.en", tmp_path) == str(tmp_path / "a.en")
    assert materialize(f"{tmp_path}/a.en,{tmp_path}/a.de", tmp_path) == f"{tmp_path}/a.en,{tmp_path}/a.de"
    for given in ("To be, or not to be", "x" * 9999, "a\0b", ""):
        with pytest.raises(UserError, match=r"no such file or folder; .* write chainrule\.text\(") as error:
            materialize(given, tmp_path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ([], "an empty list"),
        (["a", 3], "item 2 of the list is a int"),
        ([b"a"], "item 1 of the list is a bytes"),
        (["a\nb"], "item 1 of the list holds a line break"),
        (7, "int is no data"),
        ({"a": [1]}, "a dict of splits or columns is not data"),
        (np.zeros((2, 8, 8, 3), np.uint8), "images have to be in a file"),
        (np.zeros(0), "an array of float64"),
        (pandas.DataFrame({"a": []}), "the table has no rows"),
        (polars.LazyFrame({"a": [1]}), "collect"),
    ],
)
def test_what_is_no_data_is_one_clear_line(source: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises((UserError, DataError), match=told) as error:
        materialize(source, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_unit_of_strings_is_a_line() -> None:
    assert memory.unit_of(["a", "b"]) == "lines" and memory.unit_of([["a"]]) is None and memory.unit_of("a") is None


class HuggingFace:
    """Stand-in for ``datasets.Dataset``: its columns, and its rows as an Arrow table."""

    def __init__(self, table: pyarrow.Table, names: Any):
        self.table, self.column_names = table, names

    def with_format(self, kind: str) -> HuggingFace:
        assert kind == "arrow"
        return self

    def __getitem__(self, rows: slice) -> pyarrow.Table:
        return self.table[rows]


HuggingFace.__module__ = "datasets.arrow_dataset"


def test_a_hugging_face_dataset_is_its_table_and_of_several_splits_one_is_asked_for(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a b", "c"], "label": [0, 1]})
    path = Path(materialize(HuggingFace(table, table.column_names), tmp_path))
    assert path.read_text() == '{"text": "a b", "label": 0}\n{"text": "c", "label": 1}\n'
    with pytest.raises(UserError, match=r"give one, such as dataset\['train'\]"):
        materialize(HuggingFace(table, {"train": ["text"], "test": ["text"]}), tmp_path)
