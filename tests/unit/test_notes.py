"""Notes of the data card in Korean: every note that the package can write has a translation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule.report import render
from chainrule.report.messages import Catalogue

ROOT = Path(chainrule.__file__).parent
KOREAN = Catalogue("ko")


@pytest.mark.parametrize(
    ("note", "korean"),
    [
        ("a.txt: 1 bad line dropped (--on-bad skip)", "a.txt: 잘못된 줄 1개를 제외했습니다(--on-bad skip)."),
        ("a.txt: 12 bad lines dropped (--on-bad skip)", "a.txt: 잘못된 줄 12개를 제외했습니다(--on-bad skip)."),
        (
            "split by a hash of values of 'speaker': train 1,234, valid 10, test 9",
            "'speaker' 열의 값을 해시하여 분할했습니다: 학습 세트 1,234개, 검증 세트 10개, 테스트 세트 9개",
        ),
        (
            "test: 2 records with a label that train lacks (x, y and 3 more): always wrong",
            "테스트 세트: 학습 데이터에 없는 레이블(x, y 외 3개)을 가진 레코드 2개는 항상 오답으로 셉니다.",
        ),
        (
            "en is the source and ko the target, by the alphabet; --columns ko,en turns them round",
            "알파벳순에 따라 en을 원문, ko를 참조 번역으로 읽었습니다. --columns ko,en을 주면 방향이 바뀝니다.",
        ),
        (
            "5 of 1,200 training texts are longer than 256 tokens: only the beginning is read",
            "학습 텍스트 1,200개 가운데 5개는 토큰 256개보다 길어 앞부분만 읽습니다.",
        ),
        (
            "a row is a step of alto and bass, all rows of one tune are a record: 90 rows, 3 records; "
            "4 rows were reordered by beat",
            "행 하나가 한 스텝(alto와 bass)이고, tune 값이 같은 행이 모여 레코드 하나가 됩니다(행 90개, 레코드 3개). "
            "beat 열의 순서에 따라 행 4개를 옮겼습니다.",
        ),
        ("a.fa: 7 gaps (- or .) are left out", "a.fa: 갭(- 또는 .) 7개를 제외했습니다."),
        (
            "column month is read as the time, column sales as the values; 1 to 31 days lie between two of them, "
            "and values are taken in order all the same",
            "month 열을 시각으로, sales 열을 값으로 읽었습니다. "
            "시각의 간격이 1일에서 31일까지 다르지만 값은 순서대로만 읽습니다.",
        ),
        ("column price is taken: the only one that holds numbers", "숫자가 들어 있는 유일한 열인 price를 읽었습니다."),
    ],
)
def test_a_note_is_translated_with_its_values(note: str, korean: str) -> None:
    assert KOREAN.note(note) == korean
    assert Catalogue("en").note(note) == note


def test_a_note_of_another_form_has_no_translation() -> None:
    assert KOREAN.note("One note.") is None


def test_the_korean_page_shows_notes_in_korean_and_marks_the_others_as_english() -> None:
    board: dict[str, Any] = {"data": {"notes": ["9 empty lines are no records and are left out", "One note."]}}
    page = render(board, "ko")
    assert '<p class="note">빈 줄 9개는' in page and '<p class="note" lang="en">One note.</p>' in page
    assert 'lang="en">9 empty' not in render(board) and '<p class="note">One note.</p>' in render(board)


def _text(node: ast.expr) -> str | None:
    """The text of a string in the source, its blanks filled with 3; plural endings are kept, other endings left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        text = ""
        for part in node.values:
            text += _piece(part, text[-1:].isalpha())
        return text
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{_text(node.left) or ''}{_text(node.right) or '3'}"
    return None


def _piece(part: ast.expr, ending: bool) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    value = part.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "plural":
        one, *more = [_text(word) or "" for word in value.args[1:]]
        return f"3 {more[0] if more else one + 's'}"
    if isinstance(value, ast.BinOp) and isinstance(value.left, ast.Constant) and isinstance(value.left.value, str):
        return value.left.value
    return "" if ending else "3"


def notes_in(source: str) -> Iterator[str]:
    """Strings that are put on a list called ``notes``, or that a function with ``note`` in its name returns."""
    for node in ast.walk(ast.parse(source)):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            found = node.args if ast.unparse(node.func.value) == "notes" else []
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("notes", "note"):
            found = node.value.elts if isinstance(node.value, ast.List) else [node.value]
        elif isinstance(node, ast.FunctionDef) and re.search(r"(^|_)notes?(_|$)", node.name):
            returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
            found = [e for value in returned for e in (value.elts if isinstance(value, ast.List) else [value])]
        yield from filter(None, map(_text, found))


READERS = sorted(path for path in (ROOT / "data").rglob("*.py") if "synthetic" not in path.stem)


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_every_note_of_the_data_is_translated(path: Path) -> None:
    notes = [note for note in notes_in(path.read_text(encoding="utf-8")) if re.search("[a-z]{3}", note)]
    assert [note for note in notes if KOREAN.note(note) is None] == []
