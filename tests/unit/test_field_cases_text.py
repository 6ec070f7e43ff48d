"""Text, tags, labels and images as people have them: cases from public bug reports, each with another of its kind."""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import main
from chainrule.core import DataError, UserError
from chainrule.data import read
from chainrule.data.image_files import decode
from chainrule.data.images import read_images
from chainrule.data.labelled import read_labelled, read_tagged
from chainrule.data.lines import STDIN, read_sequences
from chainrule.data.pairs import read_pairs
from chainrule.data.text_encoding import TWO_MARKS, Decoding, compose, likely_encoding, with_marks_in_order

NFC = Decoding("stop", normalize="nfc")


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def answer(capsys: Any, *arguments: str) -> Any:
    """The JSON that a command prints, or its only line of error."""
    capsys.readouterr()
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return json.loads(out) if status == 0 else (status, err.strip().splitlines()[-1])


# --- one token a line -------------------------------------------------------------------------------------------------

TOKENS = "we\tPRON\nsee\tVERB\nNew York\tNOUN\n.\tPUNCT\n \n10\u00a0000\tNUM\nhouses\tNOUN\n"
SEQUENCES = [["we", "see", "New York", "."], ["10\u00a0000", "houses"]]


@pytest.mark.parametrize(
    "content",
    [
        TOKENS,
        TOKENS.replace("\n", "\r\n"),
        "we\nsee\nNew York\n.\n \n10\u00a0000\nhouses\n",
        "# a comment\nwe\tPRON\nsee\tVERB\nNew York\tNOUN\n.\tPUNCT\n\u00a0\n10\u00a0000\tNUM\nhouses\tNOUN",
    ],
)
def test_one_token_a_line_is_read_alike_in_training_and_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = write(tmp_path / "in.txt", content)
    assert read_sequences(path) == SEQUENCES
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert read_sequences(STDIN) == SEQUENCES
    if "\t" in content:
        many = "".join(f"{k}\tNUM\n\n{content}\n\n" for k in range(30))
        rows = [list(row.words) for part in read_tagged(write(path, many)).parts.values() for row in part.rows]
        assert len(rows) == 90 and all(rows.count(sequence) == 30 for sequence in SEQUENCES)


def test_the_layout_follows_most_lines_and_not_the_first(tmp_path: Path) -> None:
    """A sequence a line, of which one holds a single word, stays a sequence a line."""
    for text, want in (
        ("we see New York .\nYes\nno way\n", [["we", "see", "New", "York", "."], ["Yes"], ["no", "way"]]),
        ("New York\nwe\nsee\n", [["New York", "we", "see"]]),
    ):
        assert read_sequences(write(tmp_path / "x.txt", text)) == want


CONLLU = """# sent_id = 1
1\tHaus\thaus\tNOUN\tNN\t_\t_\t_\t_\t_
2-3\tim\t_\t_\t_\t_\t_\t_\t_\t_
2\tin\tin\tADP\tAPPR\t_\t_\t_\t_\t_
3\tdem\tder\tDET\tART\t_\t_\t_\t_\t_
3.1\tnicht\tnicht\tPART\tPTKNEG\t_\t_\t_\t_\t_

# sent_id = 2
1\tKind\tkind\tNOUN\tNN\t_\t_\t_\t_\t_
2\tsingt\tsingen\tVERB\tVVFIN\t_\t_\t_\t_\t_

"""


@pytest.mark.parametrize(
    ("columns", "tags"),
    [
        (None, {"NOUN", "ADP", "DET", "VERB"}),
        ("FORM,XPOS", {"NN", "APPR", "ART", "VVFIN"}),
        ("tokens=FORM,tags=LEMMA", {"haus", "in", "der", "kind", "singen"}),
    ],
)
@pytest.mark.parametrize("name", ["t.conllu", "t.txt"])
def test_conllu_gives_words_and_counts_what_is_left_out(
    tmp_path: Path, name: str, columns: str | None, tags: set[str]
) -> None:
    text = "".join(CONLLU.replace("Haus", f"Haus{k}").replace("Kind", f"Kind{k}") for k in range(20))
    data = read_tagged(write(tmp_path / name, text), columns)
    words = [list(row.words) for part in data.parts.values() for row in part.rows]
    wanted = [row for k in range(20) for row in ([f"Haus{k}", "in", "dem"], [f"Kind{k}", "singt"])]
    assert sorted(words) == sorted(wanted) and set(data.labels) == tags
    assert f"{name}: 20 multiword tokens are left out, and their words kept" in data.notes
    assert f"{name}: 20 empty nodes, words that are not written, are left out" in data.notes
    assert f"{name}: 40 comment lines are left out" in data.notes
    assert read_sequences(tmp_path / name) == wanted


def test_conllu_columns_that_do_not_exist_are_answered_with_those_that_do(tmp_path: Path) -> None:
    path = write(tmp_path / "t.conllu", CONLLU)
    with pytest.raises(UserError, match=r"is CoNLL-U, with the columns ID, FORM, .* such as FORM,XPOS"):
        read_tagged(path, "word,pos")


# --- Unicode normalisation --------------------------------------------------------------------------------------------


def test_composed_and_decomposed_text_have_the_same_label_and_probability(tmp_path: Path, capsys: Any) -> None:
    """Labels, too, are one where they are written in both ways; so are the words of a prompt in Python."""
    rows = [("맑음 햇살 봄날", "긍정"), ("폭우 한파 눈물", "부정"), ("café crème", "긍정"), ("naïve déjà vu", "부정")]
    lines = [f"{text} {k},{label}" for k in range(20) for text, label in rows]
    mixed = "text,label\n" + "".join(f"{nfd(line) if k % 3 else line}\n" for k, line in enumerate(lines))
    run = str(tmp_path / "run")
    data = read_labelled(write(tmp_path / "mixed.csv", mixed), decoding=NFC)
    assert data.labels == ("긍정", "부정")
    assert any("hold decomposed characters and are composed" in note for note in data.notes)
    for model in ("ngram", "gru"):
        given = [str(tmp_path / "mixed.csv"), "--model", model, "--budget", "2steps", "--set", "size=tiny"]
        assert main(["train", *given, "--overwrite", "--out", run]) == 0
        found = []
        for form in (str, nfd):
            path = write(tmp_path / "in.txt", form("맑음 햇살 봄날\nnaïve déjà vu\n"))
            found.append(answer(capsys, "classify", run, str(path))["p"])
            found.append(answer(capsys, "classify", run, *form("맑음 햇살 봄날\nnaïve déjà vu").split("\n"))["p"])
        assert all(p == found[0] for p in found)


@pytest.mark.parametrize("form", [str, nfd])
def test_words_tags_pairs_symbols_and_names_are_compared_composed(tmp_path: Path, form: Callable[[str], str]) -> None:
    tags = "".join(f"햇살\t명사\n{form('é')}\t{form('감탄')}\n\n{k}\t수\n\n" for k in range(30))
    tagged = read_tagged(write(tmp_path / "t.tsv", tags), decoding=NFC)
    assert set(tagged.labels) == {"명사", "감탄", "수"} and "é" in tagged.parts["train"].tokens
    rows = [{"source": f"{form('봄날')} {k}", "target": form("printemps é")} for k in range(60)]
    pairs = read_pairs(write(tmp_path / "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), decoding=NFC)
    assert set(pairs.parts["train"].targets) == {"printemps é"}
    table = "sequence\n" + f"{form('봄 é')} a\n봄 é b\n" * 200
    symbols = read(write(tmp_path / "s.csv", table), symbols=True, decoding=NFC)
    assert set(symbols.parts["train"].names) == {"봄", "é", "a", "b"}
    for label in ("긍정", "부정"):
        for k in range(20):
            write(tmp_path / "folders" / form(label) / f"{k}.txt", f"text {k} {label}")
    assert read_labelled(tmp_path / "folders", decoding=NFC).labels == ("긍정", "부정")


def test_bytes_of_text_are_kept_with_a_warning_or_composed_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", nfd("봄날의 햇살 café\n") * 100)
    kept, composed = read(path), read(path, decoding=NFC)
    assert kept.parts["train"].nbytes > composed.parts["train"].nbytes
    assert any("--normalize nfc composes them" in note for note in kept.notes)
    assert any("100 lines hold decomposed" in note for note in composed.notes)
    plain = read(write(tmp_path / "b.txt", "봄날의 햇살 café\n" * 100))
    assert composed.sha256 == plain.sha256 and not any("ompose" in note for note in plain.notes)


def test_prompts_and_texts_of_a_composed_run_are_composed(tmp_path: Path, capsys: Any) -> None:
    run, data = str(tmp_path / "run"), write(tmp_path / "a.txt", nfd("봄날의 햇살 café\n") * 100)
    assert main(["train", str(data), "--model", "ngram", "--normalize", "nfc", "--out", run]) == 0
    for text in ("봄날의 햇살\n", "café\n"):
        found = [answer(capsys, "score", run, str(write(tmp_path / "in.txt", form(text)))) for form in (str, nfd)]
        assert found[0] == found[1]
        given = [answer(capsys, "generate", run, "--prompt", form(text), "--seed", "1") for form in (str, nfd)]
        assert given[0]["texts"] == given[1]["texts"]


def test_names_of_columns_and_files_are_compared_composed(tmp_path: Path) -> None:
    rows = "".join(f"text {k},{'ab'[k % 2]}\n" for k in range(60))
    path = write(tmp_path / "t.csv", nfd("내용,평가\n") + rows)
    for columns in ("text=내용,label=평가", nfd("text=내용,label=평가")):
        assert read_labelled(path, columns).labels == ("a", "b")
    for k in range(30):
        (tmp_path / nfd(f"é{k}.png")).write_bytes(saved("PNG", (8 * k, 9, 200)))
    table = "image,label\n" + "".join(f"é{k}.png,{'ab'[k % 2]}\n" for k in range(30))
    data = read_images(write(tmp_path / "images.csv", table))
    assert sum(map(len, data.parts.values())) == 30


# --- encodings --------------------------------------------------------------------------------------------------------

KOREAN = [("지루한 연기", "부정"), ("최고의 연기", "긍정")]
JAPANESE = [("つまらない映画でした", "だめ"), ("とても良い映画", "よい")]
GERMAN = [("schöne Grüße aus Köln", "gut"), ("müde und böse", "übel")]
CASES = [("cp949", KOREAN), ("utf-16", KOREAN), ("cp932", JAPANESE), ("euc_jp", JAPANESE), ("cp1252", GERMAN)]


def numbered(rows: Sequence[tuple[str, str]], times: int = 40) -> list[tuple[str, str]]:
    """The rows many times, each with a number that makes it a record of its own."""
    return [(f"{text} {k}", label) for k in range(times) for text, label in rows]


WAYS: dict[str, Callable[[Sequence[tuple[str, str]]], str]] = {
    "a.csv": lambda rows: "text,label\n" + "".join(f"{t},{y}\n" for t, y in rows),
    "a.tsv": lambda rows: "text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in rows),
    "a.jsonl": lambda rows: "".join(json.dumps({"text": t, "label": y}, ensure_ascii=False) + "\n" for t, y in rows),
}


@pytest.mark.parametrize(("encoding", "rows"), CASES)
@pytest.mark.parametrize("name", WAYS)
def test_every_table_names_its_likely_encoding_and_takes_it(
    tmp_path: Path, capsys: Any, name: str, encoding: str, rows: list[tuple[str, str]]
) -> None:
    path = str(write(tmp_path / name, WAYS[name](numbered(rows)), encoding))
    status, told = answer(capsys, "data", path)
    assert status == 2 and f"--encoding {encoding} reads it" in told and "\n" not in told
    assert "skip" not in told  # skipping every line cannot help
    card = answer(capsys, "data", path, "--encoding", encoding)
    assert card["task"] == "classify" and {found["label"] for found in card["labels"]} == {y for _, y in rows}


@pytest.mark.parametrize(("encoding", "rows"), CASES)
def test_text_tags_pairs_and_symbols_take_an_encoding_too(tmp_path: Path, encoding: str, rows: Any) -> None:
    how = Decoding("stop", encoding)
    many = numbered(rows, 60)
    lines = "".join(f"{t}\n" for t, _ in many)
    found = read(write(tmp_path / "l.txt", lines, encoding), decoding=how)
    assert found.sha256 == read(write(tmp_path / "u.txt", lines)).sha256
    tagged = write(tmp_path / "t.conll", "".join(f"{t}\t{y}\n\n" for t, y in many), encoding)
    assert set(read_tagged(tagged, decoding=how).labels) == {y for _, y in rows}
    table = write(tmp_path / "p.tsv", "".join(f"{t}\t{y}\n" for t, y in many), encoding)
    assert set(read_pairs(table, "source,target", decoding=how).parts["train"].targets) == {y for _, y in rows}
    symbols = read(tmp_path / "l.txt", symbols=True, decoding=how)
    assert {t.split()[0] for t, _ in rows} <= set(symbols.parts["train"].names)


def test_commands_that_use_a_run_take_an_encoding(tmp_path: Path, capsys: Any) -> None:
    run = str(tmp_path / "run")
    assert (
        main(
            ["train", str(write(tmp_path / "a.csv", WAYS["a.csv"](numbered(KOREAN)))), "--model", "ngram", "--out", run]
        )
        == 0
    )
    lines = "최고의 연기\n지루한 연기\n"
    for encoding in ("cp949", "utf-16"):
        path = str(write(tmp_path / "in.txt", lines, encoding))
        status, told = answer(capsys, "classify", run, path)
        assert status == 2 and f"--encoding {encoding}" in told
        assert answer(capsys, "classify", run, path, "--encoding", encoding)["labels"] == ["긍정", "부정"]
        held = str(write(tmp_path / "held.csv", WAYS["a.csv"](numbered(KOREAN, 4)), encoding))
        assert answer(capsys, "evaluate", run, held, "--encoding", encoding)["accuracy"] == 1
    status, told = answer(capsys, "classify", run, "a text", "--encoding", "cp949")
    assert status == 2 and "these texts are given as they are: leave it out" in told
    status, told = answer(capsys, "classify", run, path, "--encoding", "klingon")
    assert status == 2 and "--encoding klingon: no such encoding of text" in told
    status, told = answer(capsys, "classify", run, str(write(tmp_path / "u.txt", lines)), "--encoding", "cp949")
    assert status == 2 and "not CP949 but UTF-8; leave out --encoding cp949" in told


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Hello, world: nothing strange\n", None),
        ("가을 하늘\n높고\n".encode() * 9 + b"\xff\xfe bad\n", None),
        (bytes(range(256)) * 20, None),
        ("Отличный фильм, но скучно\n".encode("cp1251"), "cp1251"),
        ("Отличный фильм, но скучно\n".encode("koi8-r"), "koi8-r"),
        ("我昨天去了学校，今天在家里看书。他是一个好人\n".encode("gb18030"), "gb18030"),
        ("我昨天去了學校，今天在家裡看書。他是一個好人\n".encode("big5"), "big5"),
        ("plain ASCII in two bytes a character\n".encode("utf-16-le"), "utf-16-le"),
        ("plain ASCII in two bytes a character\n".encode("utf-16-be"), "utf-16-be"),
    ],
)
def test_the_likely_encoding(content: bytes, expected: str | None) -> None:
    assert likely_encoding(content) == expected


# --- JSON Lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "task"),
    [
        ('{"text": "x # y", "label": "a#"}', '{"text": "x \\ud83d", "label": "a"}', "classify"),
        ('{"text": "x # y", "label": "a#"}', '{"text": "x", "label": "\\udc00"}', "classify"),
        ('{"source": "x #", "target": "b"}', '{"source": "\\ud83d", "target": "b"}', "translate"),
        ('{"tokens": ["x", "#"], "tags": ["A", "B"]}', '{"tokens": ["x", "\\ud83d"], "tags": ["A", "B"]}', "tag"),
        ('{"sequence": ["C", "D", "#"]}', '{"sequence": ["C", "\\udfff"]}', "generate"),
    ],
)
def test_half_a_surrogate_pair_is_told_with_its_line_and_can_be_skipped(
    tmp_path: Path, capsys: Any, good: str, bad: str, task: str
) -> None:
    lines = [good.replace("a#", f"a{k % 2}").replace("#", str(k)) for k in range(80)]
    path = str(write(tmp_path / "c.jsonl", "\n".join([*lines[:7], bad, *lines[7:]])))
    status, told = answer(capsys, "data", path, "--task", task)
    assert status == 2 and "c.jsonl: line 8: not text: \\ud" in told and "half of a surrogate pair" in told
    card = answer(capsys, "data", path, "--task", task, "--on-bad", "skip")
    assert "c.jsonl: 1 bad line dropped (--on-bad skip)" in card["notes"]
    if task != "generate":
        assert sum(part["records"] for part in card["parts"].values()) == len(lines)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("c.jsonl", '{{"text": "x {}", "label": "{}"}}', b"[1]"), ("c.csv", "x {},{}", b"no comma")],
)
def test_two_defects_that_are_told_alike_are_both_counted(
    tmp_path: Path, capsys: Any, name: str, good: str, bad: bytes
) -> None:
    head = [b"text,label"] if name.endswith("csv") else []
    lines = [*head, *(good.format(k, "ab"[k % 2]).encode() for k in range(80))]
    (tmp_path / name).write_bytes(b"\n".join([*lines[:9], bad, *lines[9:40], b"\xff" + lines[40], *lines[41:]]))
    card = answer(capsys, "data", str(tmp_path / name), "--task", "classify", "--on-bad", "skip")
    dropped = sum(int(note.split(": ")[1].split()[0]) for note in card["notes"] if "dropped (--on-bad" in note)
    assert (sum(part["records"] for part in card["parts"].values()), dropped) == (79, 2)


# --- n lines in, n lines out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["ngram", "bag", "lstm"])
def test_a_blank_line_has_a_label_so_that_answers_stay_aligned(tmp_path: Path, capsys: Any, model: str) -> None:
    run, data = str(tmp_path / "run"), write(tmp_path / "a.csv", WAYS["a.csv"](numbered(GERMAN)))
    given = ["--task", "classify", "--model", model, "--budget", "2steps", "--set", "size=tiny"]
    assert main(["train", str(data), *given, "--out", run]) == 0
    for content in ("schöne Grüße\n\nmüde\n", "\nmüde\n\n", "müde\r\n \r\n"):
        path = str(write(tmp_path / "in.txt", content))
        capsys.readouterr()
        assert main(["classify", run, path]) == 0
        out, err = capsys.readouterr()
        assert out.count("\n") == content.count("\n") and "blank line" in err and "nan" not in out


def test_scores_and_predictions_of_lines_stay_aligned(tmp_path: Path, capsys: Any) -> None:
    run, data = str(tmp_path / "run"), write(tmp_path / "a.txt", "the bird sings\n" * 200)
    assert main(["train", str(data), "--model", "ngram", "--out", run]) == 0
    for content in ("the\n\nbird\n", "\n\nthe"):
        path = str(write(tmp_path / "in.txt", content))
        assert len(answer(capsys, "score", run, path)["lines"]) == 3
        assert len(answer(capsys, "predict", run, path)["predictions"]) == 3


# --- images -----------------------------------------------------------------------------------------------------------


def saved(kind: str, color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(file, kind)
    return file.getvalue()


KINDS = {
    "png": "PNG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "bmp": "BMP",
    "gif": "GIF",
    "tif": "TIFF",
    "jfif": "JPEG",
    "": "PNG",
}


def test_images_are_found_by_content_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    for k in range(48):
        suffix, kind = list(KINDS.items())[k % len(KINDS)]
        folder = tmp_path / ("red" if k % 2 else "blue")
        folder.mkdir(exist_ok=True)
        (folder / f"{k:02}{'.' if suffix else ''}{suffix}").write_bytes(saved(kind, (5 * k, 255 - 5 * k, 7 * k % 255)))
        (folder / f"._{k:02}.png").write_bytes(b"\0\5\26\7")
    write(tmp_path / "red" / "notes.txt", "taken in May")
    write(tmp_path / "red" / "photo.heic", "ftypheic")
    (tmp_path / "red" / ".thumbs").mkdir()
    (tmp_path / "red" / ".thumbs" / "a.png").write_bytes(saved("PNG", (1, 2, 3)))
    data = read_images(tmp_path)
    assert sum(map(len, data.parts.values())) == 48
    assert "red: files that are no images are left out: 1 .heic, 1 .txt" in data.notes


def deep_png(values: np.ndarray, color: int) -> bytes:
    """A PNG of 16 bits a channel, by its specification. Colour 0 is grey, 2 RGB, 4 grey and 6 RGB with transparency."""
    height, width = values.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("largest", [256, 65536])
def test_sixteen_bits_are_divided_by_257_whatever_the_values(color: int, channels: int, largest: int) -> None:
    values = np.random.default_rng(3).integers(0, largest, (5, 7, channels)).astype(np.uint16)
    if color in (4, 6):
        values[..., -1] = 65535
    wanted = np.round(values[..., : 3 if channels > 2 else 1] / 257)
    assert np.array_equal(decode(deep_png(values, color), "x.png"), np.broadcast_to(wanted, (5, 7, 3)))


@pytest.mark.parametrize(("value", "right"), [(255, 1), (256, 1), (40000, 156)])
def test_one_value_of_sixteen_bits(value: int, right: int) -> None:
    assert set(decode(deep_png(np.full((2, 2, 1), value), 0), "x.png").ravel().tolist()) == {right}


def test_depths_of_tiff_are_those_that_the_file_states(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 1 << 31, (4, 6)).astype(np.int32)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    assert np.array_equal(decode(file.getvalue(), "x")[..., 0], np.round(values / (2**31 - 1) * 255))
    file = io.BytesIO()
    Image.fromarray(np.ones((4, 6), np.float32)).save(file, "TIFF")
    with pytest.raises(DataError, match=r"x\.tif: fractions of 32 bits, whose range no file states"):
        decode(file.getvalue(), "x.tif")


def test_a_long_run_of_combining_marks_is_composed_as_unicode_says_and_in_linear_time() -> None:
    """Sorted by insertion, as ``unicodedata`` does, the second one would take half a minute."""
    marks = [chr(k) for k in range(sys.maxunicode + 1) if unicodedata.combining(chr(k))] + [*TWO_MARKS]
    rng = random.Random(5)
    for count in (97, 103, 307):
        text = f"é가{''.join(rng.choices(marks, k=count))}e\u0301 x"
        for form in ("NFC", "NFD"):
            assert unicodedata.normalize(form, with_marks_in_order(text)) == unicodedata.normalize(form, text)
    began = time.monotonic()
    assert len(compose("e" + "\u0301\u0323" * 100_000)) == 200_000  # e with a dot below is one character
    assert time.monotonic() - began < 8
