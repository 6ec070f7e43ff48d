"""The way text is read holds for every reader; what is left out, or cannot be measured, is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainrule.core import DataError, UserError
from chainrule.data.corpus import read
from chainrule.data.labelled import read_labelled, read_tagged
from chainrule.data.lines import read_sequences
from chainrule.data.pairs import read_pairs, side_of
from chainrule.data.recognise import infer_task
from chainrule.data.series import looks_like_series, read_held_out, read_series
from chainrule.data.table import TableOptions, read_table
from chainrule.data.text_encoding import Decoding

SKIP = Decoding("skip")
VALUES = [(f"2020-01-{day:02}", day * day % 17) for day in range(1, 31)]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("encoding", "date", "value"), [("cp949", "날짜", "값"), ("cp1252", "Tag", "Größe"), ("utf-16", "日付", "値")]
)
def test_a_series_takes_an_encoding(tmp_path: Path, encoding: str, date: str, value: str) -> None:
    path = write(tmp_path / "s.csv", f"{date},{value}\n" + "".join(f"{d},{v}\n" for d, v in VALUES), encoding)
    how = Decoding(encoding=encoding)
    assert infer_task(path, encoding=encoding) == "series" and looks_like_series(path, decoding=how)
    data = read_series(path, decoding=how)
    assert data.columns == (value,)
    assert data.parts["train"].series[0].values.tolist() == [v for _, v in VALUES]
    assert len(read_held_out(path, [value], decoding=how)) == len(VALUES)
    with pytest.raises(DataError, match=f"--encoding {encoding}"):
        read_series(path)


def test_a_series_skips_damaged_rows_and_counts_them(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "date,value\n" + "".join(f"{d},{v}\n" for d, v in VALUES) + "2020-02-01\n")
    with pytest.raises(DataError, match="line 32: 1 column"):
        read_series(path)
    data = read_series(path, decoding=SKIP)
    assert any("1 row of another length dropped" in note for note in data.notes)
    assert len(data.parts["train"].series[0].values) == len(VALUES)


@pytest.mark.parametrize(
    ("first", "rest", "mark"), [("alone", ["a,1", "b,2", "c,3"], ","), ("x,y", ["a b,1,p"] * 4, ",")]
)
def test_a_short_first_row_does_not_set_the_width(tmp_path: Path, first: str, rest: list[str], mark: str) -> None:
    path = write(tmp_path / "t.csv", "\n".join([first, *rest]) + "\n")
    wide = len(rest[0].split(mark))
    with pytest.raises(DataError, match=rf"line 1: \d columns where most rows have {wide}"):
        read_table(path)
    notes: list[str] = []
    table = read_table(path, decoding=SKIP, notes=notes)
    assert [list(row) for row in zip(*table.columns.values())] == [row.split(mark) for row in rest]
    assert table.lines.tolist() == list(range(2, len(rest) + 2))
    assert any("1 row of another length dropped" in note for note in notes)


@pytest.mark.parametrize("gaps", [{3}, {0, 5, 11}])
def test_rows_without_a_label_are_dropped_and_counted_where_that_is_asked(tmp_path: Path, gaps: set[int]) -> None:
    rows = [(f"text number {k}", "" if k in gaps else "ab"[k % 2]) for k in range(40)]
    path = write(tmp_path / "t.csv", "text,label\n" + "".join(f"{t},{y}\n" for t, y in rows))
    with pytest.raises(DataError, match=f"line {min(gaps) + 2}: no label.*--on-bad skip"):
        read_labelled(path)
    data = read_labelled(path, decoding=SKIP)
    assert sum(map(len, data.parts.values())) == len(rows) - len(gaps)
    assert any(f"t.csv: {len(gaps)} row" in note and "without a label dropped" in note for note in data.notes)


@pytest.mark.parametrize(("absent", "told"), [("c", "c"), ("cd", "c, d")])
def test_labels_that_test_lacks_are_named(tmp_path: Path, absent: str, told: str) -> None:
    for part, labels in {"train": "abcd", "valid": "abcd", "test": sorted({*"abcd"} - {*absent})}.items():
        write(
            tmp_path / f"{part}.csv",
            "text,label\n" + "".join(f"{part} {y} {k},{y}\n" for y in labels for k in range(3)),
        )
    notes = read_labelled(tmp_path).notes
    assert f"of the label {told} nothing is measured: no record of test has it" in notes


def test_tags_that_test_lacks_are_named_and_complete_ones_are_not(tmp_path: Path) -> None:
    for part, tags in {"train": "XYZ", "valid": "XYZ", "test": "XY"}.items():
        write(tmp_path / f"{part}.tsv", "".join(f"w{k}\t{tag}\n" for k, tag in enumerate(tags)) + "\n")
    assert "of the tag Z nothing is measured: no token of test has it" in read_tagged(tmp_path).notes
    write(tmp_path / "test.tsv", "a\tX\nb\tY\nc\tZ\n\n")
    assert not any("nothing is measured" in note for note in read_tagged(tmp_path).notes)


@pytest.mark.parametrize("line", ["[not json", "[1, 2"])
def test_a_line_that_is_no_list_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "t.txt", f"a b c\nb c a\n{line}\n")
    with pytest.raises(DataError, match=r"t\.txt: line 3: .*not a JSON list"):
        read(path, symbols=True, table=TableOptions())


@pytest.mark.parametrize("tokens", [["The", "cat"], ["we", "see", "cats"], ("나는", "본다")])
def test_a_list_of_single_words_is_asked_about(tokens: list[str]) -> None:
    with pytest.raises(UserError, match="single words: give the tokens of a sentence in a list of their own"):
        read_sequences(tokens)
    assert read_sequences([tokens]) == [list(tokens)]
    assert read_sequences([[word] for word in tokens]) == [[word] for word in tokens]
    assert read_sequences([" ".join(tokens)]) == [list(tokens)]


@pytest.mark.parametrize("source", ["two  spaces", " ab\tc ", "end \u00a0 start"])
def test_a_source_is_read_in_use_as_in_training(tmp_path: Path, source: str) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / f"{part}.jsonl", json.dumps({"source": source, "target": "x"}) + "\n")
    assert read_pairs(tmp_path).parts["train"].sources == (side_of(source),)
