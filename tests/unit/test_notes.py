"""Notes of the data card in Korean: every note that the package can write has a translation."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule.data.corpus import read
from chainrule.data.labelled import read_tagged
from chainrule.data.series import read_series
from chainrule.report import render
from chainrule.report.messages import Catalogue

ROOT = Path(chainrule.__file__).parent
KOREAN = Catalogue("ko")
WORDS = ("one", "more", "they")
"""Names of variables for the words of a note that depend on a number."""


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
    if isinstance(value, ast.IfExp):
        return _text(value.orelse) or "3"
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "plural":
        one, *more = [_text(word) for word in value.args[1:]]
        return f"3 {more[0] if more else f'{one}s'}" if None not in (one, *more) else "3"
    if isinstance(value, ast.BinOp) and isinstance(value.left, ast.Constant) and isinstance(value.left.value, str):
        return value.left.value
    return "" if ending else "3"


class _Inlined(ast.NodeTransformer):
    """Puts the words of ``one, more = "row", "rows"`` and ``they = …`` where the names stand."""

    def __init__(self, tree: ast.AST) -> None:
        self.words: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                pairs = [(node.targets[0], node.value)]
                if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(node.targets[0].elts, node.value.elts))
                self.words |= {ast.unparse(name): value for name, value in pairs if ast.unparse(name) in WORDS}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.words.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def notes_in(source: str) -> Iterator[str]:
    """Strings that are put on a list called ``notes``, or that a function with ``note`` in its name returns."""
    tree = ast.parse(source)
    for node in ast.walk(_Inlined(tree).visit(tree)):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            found = node.args if ast.unparse(node.func.value) == "notes" else []
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("notes", "note"):
            found = node.value.elts if isinstance(node.value, ast.List) else [node.value]
        elif isinstance(node, ast.FunctionDef) and re.search(r"(^|_)notes?(_|$)", node.name):
            returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
            found = [e for value in returned for e in (value.elts if isinstance(value, ast.List) else [value])]
        yield from filter(None, map(_text, found))


FIXED = ("symbols", "tokens", "folds", "voices", "days", "training", "sources", "times")
"""Words behind limits and totals, of which there are several."""


def test_a_number_of_the_data_is_not_followed_by_a_fixed_plural() -> None:
    entries = json.loads((ROOT / "report" / "notes.json").read_text(encoding="utf-8"))
    told = [found[0] for entry in entries.values() for found in re.finditer(r"\{\w\} [a-z-]+s\b", entry["en"])]
    assert [text for text in told if not text.endswith(FIXED)] == [] and len(told) > 5


ROWS = "".join(f"2024-01-{day:02},{'' if day == 7 else day}\n" for day in range(1, 31))


@pytest.mark.parametrize(
    ("reader", "name", "content", "notes"),
    [
        (read, "a.fa", ">a\n" + "ACGT" * 30 + "a-N\n>b\n" + "ACGT" * 30 + "\n>c\n", 4),
        (read, "a.abc", "by hand\n" + "X: 1\nK: C\nC D E F |\n\n" * 30 + "X: 2\n", 2),
        (read_series, "a.csv", "date,sales\n" + ROWS + "2024-01-30,4\n", 2),
        (read_tagged, "a.conllu", "# one\n" + "".join(f"a{k}\tX\nb\t{'XY'[k % 2]}\n\n" for k in range(40)), 1),
    ],
)
def test_notes_on_a_single_thing_are_in_the_singular(
    reader: Callable[[Path], Any], name: str, content: str, notes: int, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    ones = [note for note in reader(tmp_path / name).notes if re.search(r"\b1 ", note)]
    assert len(ones) == notes, reader(tmp_path / name).notes
    assert not any(re.search(r"\b1 [a-z-]+s\b|\bare left\b|\bare read\b", note) for note in ones), ones
    assert None not in map(KOREAN.note, ones)


READERS = sorted(path for path in (ROOT / "data").rglob("*.py") if "synthetic" not in path.stem)


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.stem)
def test_every_note_of_the_data_is_translated(path: Path) -> None:
    notes = [note for note in notes_in(path.read_text(encoding="utf-8")) if re.search("[a-z]{3}", note)]
    assert [note for note in notes if KOREAN.note(note) is None] == []
