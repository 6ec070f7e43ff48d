"""Tables: columns by name, whatever the format; every error says the file and the line."""

from __future__ import annotations

import builtins
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from chainrule.core import DataError, UserError
from chainrule.data.source import read_file
from chainrule.data.split import divide_parts
from chainrule.data.table import Table, items, read_table, read_tables
from chainrule.data.text_encoding import Decoding


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'text,label\n"a, ""b""\nc",x\n한국,y\n'),
        ("t.csv.gz", 'text,label\r\n"a, ""b""\nc",x\r\n한국,y\r\n'),
        ("t.jsonl", '{"text": "a, \\"b\\"\\nc", "label": "x"}\n\n{"label": "y", "text": "한국"}\n'),
    ],
)
def test_a_header_names_the_columns_in_every_format(tmp_path: Path, name: str, content: str) -> None:
    table = read_table(write(tmp_path / name, content))
    assert table.columns == {"text": ['a, "b"\nc', "한국"], "label": ["x", "y"]}
    assert table.names == ("text", "label")
    assert table.where(0).endswith(f"{name}: line {1 if 'jsonl' in name else 2}")
    assert table.where(1).endswith(f"{name}: line {3 if 'jsonl' in name else 4}")


def test_columns_name_what_has_no_header_skip_and_join(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", 'ham\tsub"ject\tbody\t7\nspam\t \tbuy\t8\n')
    table = read_table(path, "label,text,text,-")
    assert table.columns == {"label": ["ham", "spam"], "text": ['sub"ject body', "  buy"]}
    assert read_table(path).columns["2"] == ['sub"ject', " "]


def test_columns_pick_and_rename_under_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "review,stars,id\nfine,5,a\nbad,1,b\n")
    table = read_table(path, "text=review,label=stars")
    assert table.names == ("text", "label")
    assert (table.columns["text"], table.columns["label"], table.columns["id"]) == (
        ["fine", "bad"],
        ["5", "1"],
        ["a", "b"],
    )
    assert read_table(path, "review").names == ("review",)
    joined = read_table(path, "text=review,text=id")
    assert joined.columns["text"] == ["fine a", "bad b"]


def test_a_first_row_is_data_unless_it_is_a_known_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "text\tT EH K S T\nsource\tS AO R S\n")
    assert len(read_table(path, "source,target")) == 2
    path = write(tmp_path / "u.tsv", "source\ttarget\na\tb\n")
    assert read_table(path).columns == {"source": ["a"], "target": ["b"]}


def test_lists_and_numbers_are_kept_as_json(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '{"n": 3, "l": ["a b", "c"], "x": null}\n{"n": 2.5, "l": []}\n')
    table = read_table(path)
    assert table.columns == {"n": ["3", "2.5"], "l": ['["a b", "c"]', "[]"], "x": ["", ""]}
    assert items(table.columns["l"][0]) == ["a b", "c"]
    assert items("a b") == ["a", "b"]
    assert items("[ -") == ["[", "-"]


def test_parquet_is_read_like_the_others(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["a", "b"], "tags": [["x"], ["y", "z"]]}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns == {"text": ["a", "b"], "tags": ['["x"]', '["y", "z"]']}
    write(tmp_path / "bad.parquet", b"no parquet")
    with pytest.raises(DataError, match=r"bad\.parquet: not a Parquet file") as error:
        read_table(tmp_path / "bad.parquet")
    assert "\n" not in str(error.value)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install pyarrow"):
        read_table(write(tmp_path / "t.parquet", b"PAR1"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", b"a,b\n1,2\n3\n", r"line 3: 1 columns where the first row has 2"),
        ("t.tsv", b"a\tb\n1\t2\n\n3\t4\t5\n", r"line 4: 3 columns"),
        ("t.csv", b'a,b\n1,"2\n', r"line 2: not valid CSV"),
        ("t.csv", b"a,b\n\xff,2\n", r"line 2, byte 1"),
        ("t.csv", b"a,b\n1,\0\n", r"line 2.*NUL"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', r"line 2: not valid JSON"),
        ("t.jsonl", b'{"a": 1}\n[1]\n', r"line 2: a JSON object"),
        ("t.csv", b"text,label\n", r"no rows"),
        ("t.csv", b"", r"empty"),
    ],
)
def test_bad_tables_are_one_line_with_file_and_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=told) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_ragged_rows_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    notes: list[str] = []
    table = read_table(write(tmp_path / "t.csv", "a,b\n1\n2,3\n"), decoding=Decoding("skip"), notes=notes)
    assert table.columns == {"a": ["2"], "b": ["3"]}  # a word above a number is a header
    assert notes[0] == "t.csv: 1 row of another length dropped (--on-bad skip)"
    many = write(tmp_path / "u.csv", "a,b\n" + "1\n" * 11)
    with pytest.raises(DataError, match="too many to skip"):
        read_table(many, decoding=Decoding("skip"))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("a,b,c", "3 names for the 2 columns"),
        ("a,", "expected names"),
        ("-,-", "expected names"),
        ("x=a,y", "no header"),
    ],
)
def test_columns_that_do_not_fit_are_one_clear_line(tmp_path: Path, columns: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_table(write(tmp_path / "t.csv", "1,2\n3,4\n"), columns)


def test_a_column_that_is_missing_is_named_with_those_there_are(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.jsonl", '{"text": "a"}\n'))
    with pytest.raises(DataError, match="no column 'label'; there are: text"):
        table.need("text", "label")
    with pytest.raises(DataError, match=r"no column 'when'.*says which is which$"):
        table.need("when")
    with pytest.raises(UserError, match=r"no such column.*did you mean 'text'"):
        read_table(tmp_path / "t.jsonl", "texts")


def test_a_header_of_other_names_is_answered_with_the_option_that_renames_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "내용\t평가\n정말 좋아요\t긍정\n")
    with pytest.raises(DataError) as caught:
        read_table(path).need("text", "label")
    assert "no column 'text'; there are: 1, 2 (the first line has: 내용, 평가)" in str(caught.value)
    assert str(caught.value).endswith("for example --columns text=내용,label=평가")
    assert read_table(path, "text=내용,label=평가").need("text", "label") == [["정말 좋아요"], ["긍정"]]


def test_a_first_line_of_long_cells_is_no_example_of_a_header(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the first line has: a{20}…, x\); --columns says which is which$"):
        read_table(write(tmp_path / "t.tsv", f"{'a' * 60}\tx\n")).need("text", "label")


def test_files_named_after_parts_and_a_field_split_are_kept(tmp_path: Path) -> None:
    for part, text in {"train": "1,2\n3,4\n", "dev": "5,6\n", "test": "7,8\n"}.items():
        write(tmp_path / "given" / f"{part}.csv.gz", text)
    name, tables = read_tables(tmp_path / "given")
    assert (name, {p: t.columns["1"] for p, t in tables.items()}) == (
        "given",
        {"train": ["1", "3"], "valid": ["5"], "test": ["7"]},
    )
    rows = [("a", "train"), ("b", "test"), ("c", "Train"), ("d", "val")]
    path = write(tmp_path / "f.jsonl", "".join(json.dumps({"text": t, "split": s}) + "\n" for t, s in rows))
    tables = read_tables(path)[1]
    assert {p: t.columns["text"] for p, t in tables.items()} == {"train": ["a", "c"], "valid": ["d"], "test": ["b"]}
    assert tables["test"].where(0).endswith("line 2")
    write(path, '{"text": "a", "split": "rest"}\n')
    with pytest.raises(DataError, match="line 1: split is 'rest'"):
        read_tables(path)


def test_rows_of_one_key_stay_on_one_side_and_given_parts_are_kept(tmp_path: Path) -> None:
    rows = [(f"t{k}", f"g{k % 37}") for k in range(997)]
    path = write(tmp_path / "t.csv", "".join(f"{a},{b}\n" for a, b in rows))
    whole = read_tables(path, "text,group")[1]
    shares = {"train": 0.8, "valid": 0.1, "test": 0.1}

    def divided(tables: dict[str, Table]) -> dict[str, Table]:
        return divide_parts(tables, shares, lambda part: tables[part].columns["group"], Table.take, "t.csv")

    parts = divided(whole)
    groups = [set(part.columns["group"]) for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 37
    assert sum(map(len, parts.values())) == 997
    given = {"train": whole["all"].take(range(900)), "test": whole["all"].take(range(900, 997))}
    carved = divided(given)
    assert carved["test"] is given["test"]
    assert len(carved["train"]) + len(carved["valid"]) == 900


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("what,when,who", "allowed: what, when, who"),
        ("who,what_event,when", "did you mean 'what_event'?"),
        ("who,EVENT,when", "did you mean 'EVENT'?"),
        ("when,page,user", "allowed: page, user, when"),
    ],
)
def test_a_column_that_is_not_there_is_sought_by_its_name_not_by_the_order_of_columns(
    header: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\n" + "a,b,3\n" * 30)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "a.csv", "event")
    assert str(error.value).endswith(told)


@pytest.mark.parametrize(
    ("suffix", "mark"), [(".csv", ";"), (".csv", "|"), (".csv", "\t"), (".csv", ","), (".tsv", "\t")]
)
def test_a_short_first_row_does_not_hide_the_separator(suffix: str, mark: str, tmp_path: Path) -> None:
    rows = [f"word {k}{mark}label{mark}{k}" for k in range(40)]
    path = write(tmp_path / f"a{suffix}", "\n".join([rows[0].rpartition(mark)[0], *rows[1:]]) + "\n")
    with pytest.raises(DataError, match="line 1: 2 columns where most rows have 3"):
        read_table(path, "text,label,-")
    whole = write(tmp_path / f"b{suffix}", "report\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match="line 1: 1 columns where most rows have 3"):
        read_table(whole, "text,label,-")


@pytest.mark.parametrize(
    ("name", "line", "skips"), [("a.csv", 1, False), ("a.tsv", 1, False), ("a.csv", 5, True), ("a.txt", 1, True)]
)
def test_a_header_that_is_not_utf8_is_not_offered_to_be_skipped(
    name: str, line: int, skips: bool, tmp_path: Path
) -> None:
    mark = "\t" if name.endswith("tsv") else ","
    rows = [f"text{mark}label", *(f"word {k}{mark}{'ab'[k % 2]}" for k in range(40))]
    rows[line - 1] = rows[line - 1].replace("text", "téxt").replace("word", "wörd")
    path = write(tmp_path / name, "\n".join(rows).encode("latin-1"))
    with pytest.raises(DataError, match=rf"line {line}\b.*not UTF-8") as error:
        read_file(path, Decoding(), [])
    assert ("--on-bad skip" in str(error.value)) == skips and ("--encoding" in str(error.value)) != skips
    if not skips:  # what is offered reads the file
        assert "téxt" in read_file(path, Decoding(encoding="cp1252"), []).tobytes().decode()
