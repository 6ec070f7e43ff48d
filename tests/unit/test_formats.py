"""File formats: recognised by suffix or content, and added by one class."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from chainrule.core import DataError
from chainrule.data import formats, read
from chainrule.data.formats import RecordReader, reader_of, register_reader
from chainrule.data.recognise import infer_task
from chainrule.data.sequences import recognise
from chainrule.data.table import read_table
from tests.encoded import read as read_encoded

FASTA = b">one\nACGTACGTACGT\n>two\nGGCATTACGGAA\n"
ABC = b"% tunes\n\nX: 1\nT: One\nK:G\nGABc |\n"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_registered", dict(formats.readers()))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("genome", FASTA, "fasta"),
        ("genome.dat.gz", FASTA, "fasta"),
        ("genome", FASTA.replace(b"\n", b"\r\n"), "fasta"),
        ("genome.txt", FASTA, "text"),
        ("tunes", ABC, "abc"),
        ("mail", b"> quoted\nanswer, in words\n", "text"),
        ("notes", b"X: 3\nY: 4\n", "text"),
        ("log", b'{"event": "login"}\n', "text"),
        ("empty", b"", "text"),
    ],
)
def test_content_tells_the_format_where_the_suffix_does_not(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert recognise(path) == kind


def test_a_table_is_told_by_its_content(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["a", "b"], "label": [1, 0]}), tmp_path / "no_suffix")
    assert recognise(tmp_path / "no_suffix") == "table"
    assert read_table(tmp_path / "no_suffix").columns == {"text": ["a", "b"], "label": ["1", "0"]}


def test_a_record_format_is_one_class(registry: None, tmp_path: Path) -> None:
    @register_reader("smiles", suffixes=(".smi",))
    class Smiles(RecordReader):
        def matches(self, head: bytes) -> bool:
            return head.startswith(b"#SMILES")

        def records(self, path: Path, text: str, notes: list[str]) -> Sequence[str]:
            notes.append(f"{path.name}: the names of molecules are not modelled")
            return [line.split()[0] for line in self.split(text) if not line.startswith("#")]

        def split(self, text: str) -> list[str]:
            return text.strip().split("\n")

        def parse(self, record: str) -> str:
            return record.split()[0] if record.strip() else ""

        def write(self, symbols: str, number: int) -> str:
            return f"{symbols} molecule{number}"

    lines = "".join(f"{'C' * (k % 7 + 1)}O{'N' * (k % 5)} m{k}\n" for k in range(300))
    (tmp_path / "x.smi").write_text(lines)
    (tmp_path / "named_otherwise").write_text("#SMILES\n" + lines)
    assert recognise(tmp_path / "named_otherwise") == recognise(tmp_path / "x.smi") == "smiles"
    made = read_encoded(tmp_path / "x.smi")
    form = made.processor.tokenizer.form
    assert sorted(made.processor.tokenizer.names) == ["C", "N", "O"]
    assert "the names of molecules" in " ".join(made.all_notes)
    assert form.write(form.read("CCO m0"), 3) == "CCO molecule3"
    rebuilt = type(made.processor).from_json(made.processor.to_json())
    assert rebuilt.tokenizer.form == form
    assert read(tmp_path / "x.smi", symbols=False).counted == "byte"
    (tmp_path / "x.fa").write_bytes(FASTA)
    with pytest.raises(DataError, match=r"holds \.fa, \.smi: several kinds"):
        recognise(tmp_path)


def test_a_table_format_is_one_class(registry: None, tmp_path: Path) -> None:
    from chainrule.data.readers.delimited import Delimited

    @register_reader("pipes", suffixes=(".psv",))
    class Pipes(Delimited):
        def cells(self, path: Path, text: str) -> Iterable[tuple[int, list[str]]]:
            rows: Iterator[tuple[int, str]] = enumerate(text.splitlines(), 1)
            return ((number, line.split("|")) for number, line in rows if line.strip())

    (tmp_path / "x.psv").write_text("text|label\ngood|1\n\nbad|0\n")
    assert infer_task(tmp_path / "x.psv") == "classify"
    table = read_table(tmp_path / "x.psv")
    assert table.columns == {"text": ["good", "bad"], "label": ["1", "0"]}
    assert table.where(1).endswith("x.psv: line 4")


def test_a_file_that_cannot_be_looked_at_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(FASTA)[:20])
    assert reader_of(tmp_path / "damaged.gz") is None
