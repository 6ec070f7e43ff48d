"""One decoder of text: what training reads of a file is what every command reads of it."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from chainrule.cli import main
from chainrule.core import ChainruleError, UserError
from chainrule.data.lines import STDIN, read_bytes, read_lines, read_sequences, read_texts
from chainrule.data.source import read_file
from chainrule.data.text_encoding import PLAIN

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


@pytest.mark.parametrize(
    "content", [b"a\nb\n", BOM + "ü x\n".encode(), b"a\r\nb\r\n", "\u2028 a\x0bb\x85\n".encode(), b"no end"]
)
@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz", "x"])
def test_a_file_and_standard_input_are_decoded_as_the_data_of_training(
    tmp_path: Path, piped: Any, content: bytes, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_bytes(path) == read_bytes(str(path)) == read_file(path, PLAIN, []).tobytes()
    piped(content)
    assert read_bytes(STDIN) == read_bytes(path)


BAD = {
    "Latin-1": (b"good\ncaf\xe9 au lait\n", "line 2, byte 4"),
    "UTF-16": ("text\n".encode("utf-16"), "looks like UTF-16"),
    "NUL": (b"a\0b", "NUL byte"),
    "white": (b" \n\n", "only white space"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_text_is_refused_alike_with_the_place(tmp_path: Path, piped: Any, kind: str) -> None:
    content, told = BAD[kind]
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    messages = []
    for read in (lambda: read_bytes(path), lambda: read_file(path, PLAIN, [])):
        with pytest.raises(ChainruleError, match=told) as error:
            read()
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    piped(content)
    with pytest.raises(ChainruleError, match=told) as error:
        read_bytes(STDIN)
    assert str(error.value) == messages[0].replace(str(path), "standard input")


def test_lines_end_as_lines_of_any_system_end(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BOM + b"a b\r\n\r\nc\n")
    assert read_lines(tmp_path / "x") == ["a b", "", "c"]
    assert read_lines(["a b", "", tmp_path / "x"]) == ["a b", "", "a b", "", "c"]
    assert read_texts(tmp_path / "x") == [b"a b\r\n", b"\r\n", b"c\n"]
    assert read_texts(tmp_path / "x", "stream") == [b"a b\r\n\r\nc\n"]
    assert read_texts(["a", "b\n", b"c"]) == [b"a\n", b"b\n", b"c\n"]
    assert read_texts(["a", "b\n"], "stream") == [b"a", b"b\n"]


def test_sequences_stand_on_lines_in_blocks_and_in_memory(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("the bird\n\na sun\n")
    (tmp_path / "blocks").write_text("\nthe\tD\nbird\tN\n\n\na\tD\nsun\tN\n\n")
    want = [["the", "bird"], ["a", "sun"]]
    assert read_sequences(tmp_path / "blocks") == want
    assert read_sequences(tmp_path / "lines") == [want[0], [], want[1]]  # answers stay aligned with lines
    assert read_sequences(want) == read_sequences(["the bird", ("a", "sun")]) == want


@pytest.mark.parametrize("source", [[], 3, b"bytes", ["a", 3]])
def test_what_is_neither_path_nor_texts_is_refused(source: Any) -> None:
    with pytest.raises(UserError, match="give "):
        read_lines(source)


def test_a_path_that_does_not_exist_says_how_a_text_is_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"To be: no such file; a text itself .* in Python as a list"):
        read_lines("To be")
    with pytest.raises(UserError, match=r"none.txt: no such file$"):
        read_lines(tmp_path / ("long" * 20) / "none.txt")
    with pytest.raises(UserError, match="not a file"):
        read_lines(tmp_path)


def test_a_byte_order_mark_costs_nothing_to_score(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "corpus.txt").write_text("".join(f"{k % 7} the bird\n" for k in range(200)))
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "corpus.txt"), "--model", "ngram", "--set", "model.n=3", "--out", run]) == 0
    nats = []
    for name, content in (
        ("plain", b"the bird\n"),
        ("marked", BOM + b"the bird\n"),
        ("packed.gz", gzip.compress(b"the bird\n")),
    ):
        (tmp_path / name).write_bytes(content)
        capsys.readouterr()
        assert main(["score", run, str(tmp_path / name), "--json"]) == 0
        nats.append(json.loads(capsys.readouterr().out)["nats"])
    assert nats[0] == nats[1] == nats[2] < 0
