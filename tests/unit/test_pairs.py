"""Pairs: read from tables and from files whose lines go together, split, made of units, and put into batches."""

from __future__ import annotations

import gzip
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.core import IGNORED, DataError, UserError
from chainrule.data.pair_encoding import PairBatches, PairPart, check_pair_tokenizers
from chainrule.data.pairs import is_closed
from chainrule.data.recognise import aligned_files, task_of_table
from chainrule.data.text_encoding import PLAIN, Decoding
from chainrule.data.tokenizers import ByteTokenizer
from tests.encoded import read_pairs, read_pairs_part

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ZAHLEN = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"]
PAIRS = [(f"{NUMBERS[a]} and {NUMBERS[b]}", f"{ZAHLEN[a]} und {ZAHLEN[b]}") for a, b in product(range(13), range(13))]
"""169 pairs, all sources distinct."""


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def tsv(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"{s}\t{t}\n" for s, t in pairs)


def aligned(folder: Path, stem: str, pairs: list[tuple[str, str]], sides: tuple[str, str] = ("en", "de")) -> Path:
    for column, side in enumerate(sides):
        write(folder / f"{stem}.{side}", "".join(pair[column] + "\n" for pair in pairs))
    return folder


def given_split(folder: Path, train: list[tuple[str, str]], valid: list[tuple[str, str]]) -> Path:
    write(folder / "train.tsv", tsv(train))
    write(folder / "valid.tsv", tsv(valid))
    return folder


def pairs_of(part: PairPart) -> list[tuple[str, str]]:
    return list(zip(part.sources, part.targets))


# --- reading ----------------------------------------------------------------------------------------------------------

FORMS = {
    "header.tsv": ("source\ttarget\n" + tsv(PAIRS), None),
    "plain.tsv": (tsv(PAIRS), None),
    "packed.tsv.gz": (tsv(PAIRS), "source,target"),
    "turned.tsv": (tsv([(t, s) for s, t in PAIRS]), "target,source"),
    "third.tsv": ("".join(f"7\t{s}\t{t}\n" for s, t in PAIRS), "-,source,target"),
    "quoted.csv": ("target,source\n" + "".join(f'"{t}","{s}"\n' for s, t in PAIRS), None),
    "keys.jsonl": ("".join(json.dumps({"target": t, "source": s}) + "\n" for s, t in PAIRS), None),
    "renamed.jsonl": ("".join(json.dumps({"n": 1, "en": s, "de": t}) + "\n" for s, t in PAIRS), "source=en,target=de"),
    "picked.jsonl": ("".join(json.dumps({"n": 1, "de": t, "en": s}) + "\n" for s, t in PAIRS), "en,de"),
    "named.tsv": ("de\ten\n" + tsv([(t, s) for s, t in PAIRS]), "en,de"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_table_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    text, columns = FORMS[name]
    found = read_pairs(write(tmp_path / name, text), columns, tokenizer="byte")
    assert sorted(pair for part in found.parts.values() for pair in pairs_of(part)) == sorted(PAIRS)
    assert found.dataset.name == name.split(".")[0] and found.unit == "pairs"
    told = [note for note in found.all_notes if note.startswith("columns ")]
    assert told == {
        "plain.tsv": ["columns 1 and 2 are read as source and target, in this order"],
        "picked.jsonl": ["columns en and de are read as source and target, in this order"],
        "named.tsv": ["columns en and de are read as source and target, in this order"],
    }.get(name, [])
    held = read_pairs_part(tmp_path / name, columns, PLAIN, ByteTokenizer(), ByteTokenizer())
    assert pairs_of(held) == PAIRS


def test_a_folder_of_parquet_files_is_a_given_split(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for part, rows in (("train", PAIRS[:100]), ("valid", PAIRS[100:])):
        parquet.write_table(
            pa.table({"source": [s for s, _ in rows], "target": [t for _, t in rows]}), tmp_path / f"{part}.parquet"
        )
    found = read_pairs(tmp_path, tokenizer="byte")
    assert {name: pairs_of(part) for name, part in found.parts.items()} == {"train": PAIRS[:100], "valid": PAIRS[100:]}


def test_white_space_around_a_side_is_dropped_and_inside_it_is_kept(tmp_path: Path) -> None:
    folder = given_split(tmp_path, [(" a  b ", "c\u3000")], [("d", "e")])
    assert pairs_of(read_pairs(folder, tokenizer="byte").parts["train"]) == [("a  b", "c")]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a\tb\n\tc\n", None, "d.tsv: line 2: the source is empty"),
        ("a\tb\nc\t \n", None, "d.tsv: line 2: the target is empty"),
        ("a\tb\nc\td\te\n", None, "d.tsv: line 2: 3 columns where the first row has 2"),
        ("a\tb\tc\n", None, r"which of 3 columns \(1, 2, 3\) are source and target\? --columns"),
        ("a b\n", None, "which of 1 column "),
        ("source\tb\nx\ty\n", "source,-", "no column 'target'"),
        ("a\tb\nc\td\n", None, "2 distinct records cannot be split into 3 parts"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(
    tmp_path: Path, text: str, columns: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path / "d.tsv", text), columns)


def test_half_a_surrogate_pair_in_json_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", '{"source": "a", "target": "b"}\n{"source": "\\ud83d", "target": "c"}\n')
    with pytest.raises(DataError, match=r"line 2: not text: .* is half of a surrogate pair"):
        read_pairs(path)


def test_empty_sides_are_dropped_and_counted_where_that_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "d.tsv", "x\t\n" + tsv(PAIRS) + "\ty\n \tz\n")
    found = read_pairs(path, decoding=Decoding("skip"), tokenizer="byte")
    assert sum(map(len, found.parts.values())) == 169
    assert any("1 pair dropped (--on-bad skip): the target is empty" in note for note in found.all_notes)
    assert any("2 pairs dropped (--on-bad skip): the source is empty" in note for note in found.all_notes)
    assert pairs_of(read_pairs_part(path, None, Decoding("skip"), ByteTokenizer(), ByteTokenizer())) == PAIRS


# --- files of aligned lines -------------------------------------------------------------------------------------------


def test_a_folder_of_two_suffixes_is_pairs_and_the_alphabet_says_which_is_the_source(tmp_path: Path) -> None:
    aligned(tmp_path, "train", PAIRS[:150])
    aligned(tmp_path, "dev", PAIRS[150:])
    write(tmp_path / "README.md", "not data")
    found = read_pairs(tmp_path, tokenizer="byte")
    assert pairs_of(found.parts["train"]) == [(de, en) for en, de in PAIRS[:150]]
    assert any("de is the source and en the target" in note and "--columns en,de" in note for note in found.all_notes)
    turned = read_pairs(tmp_path, "en,de", tokenizer="byte")
    assert {name: pairs_of(part) for name, part in turned.parts.items()} == {
        "train": PAIRS[:150],
        "valid": PAIRS[150:],
    }
    assert not any("alphabet" in note for note in turned.notes)
    assert pairs_of(read_pairs(tmp_path, "target=de,source=en", tokenizer="byte").parts["valid"]) == PAIRS[150:]


def test_of_three_suffixes_columns_picks_two(tmp_path: Path) -> None:
    aligned(tmp_path, "train", PAIRS)
    aligned(tmp_path, "train", PAIRS, ("fr", "en"))
    with pytest.raises(UserError, match="3 sides: which of de, en, fr is the source"):
        read_pairs(tmp_path)
    with pytest.raises(UserError, match="--columns en,ko: which of de, en, fr"):
        read_pairs(tmp_path, "en,ko")
    found = read_pairs(tmp_path, "fr,de", tokenizer="byte")
    assert ("one and two", "eins und zwei") in [pair for part in found.parts.values() for pair in pairs_of(part)]


def test_two_paths_joined_by_a_comma_are_source_and_target(tmp_path: Path) -> None:
    aligned(tmp_path, "a", PAIRS)
    data = f"{tmp_path / 'a.en'},{tmp_path / 'a.de'}"
    whole = read_pairs_part(data, None, PLAIN, ByteTokenizer(), ByteTokenizer())
    assert pairs_of(whole) == PAIRS
    named = read_pairs_part(data, "target,source", PLAIN, ByteTokenizer(), ByteTokenizer())
    assert pairs_of(named) == [(t, s) for s, t in PAIRS]
    assert read_pairs_part(data, "de,en", PLAIN, ByteTokenizer(), ByteTokenizer()).sources == whole.targets
    found = read_pairs(data, tokenizer="byte")
    assert found.dataset.name == "a" and set(found.parts) == {"train", "valid", "test"}
    with pytest.raises(DataError, match=r"a\.fr: no such file"):
        read_pairs(f"{tmp_path / 'a.en'},{tmp_path / 'a.fr'}")
    with pytest.raises(UserError, match="--group g"):
        read_pairs(data, group="g")


def test_files_of_different_numbers_of_lines_are_named_with_both_counts(tmp_path: Path) -> None:
    write(tmp_path / "a.en", "one\ntwo\nthree\n")
    write(tmp_path / "a.de", "eins\nzwei\n")
    with pytest.raises(DataError, match=r"a\.en has 3 lines and .*a\.de 2"):
        read_pairs(f"{tmp_path / 'a.en'},{tmp_path / 'a.de'}")


def test_a_stem_without_its_other_side_is_named(tmp_path: Path) -> None:
    aligned(aligned(tmp_path, "train", PAIRS), "valid", PAIRS, ("fr", "en"))
    with pytest.raises(DataError, match=r"no file valid\.de"):
        read_pairs(tmp_path, "en,de")


def test_files_outside_a_given_split_are_counted_and_a_split_needs_train(tmp_path: Path) -> None:
    for stem, rows in (("train", PAIRS[:100]), ("valid", PAIRS[100:]), ("other", PAIRS[:7])):
        aligned(tmp_path, stem, rows)
    found = read_pairs(tmp_path, "en,de", tokenizer="byte")
    assert {part: len(x) for part, x in found.parts.items()} == {"train": 100, "valid": 69}
    assert "7 pairs in files outside the given split are left out" in found.all_notes
    for side in ("en", "de"):
        (tmp_path / f"train.{side}").unlink()
    with pytest.raises(DataError, match="valid given, but no train files"):
        read_pairs(tmp_path, "en,de")


def test_aligned_lines_end_at_line_feeds_and_blank_ones_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.en", "one\u2028two\r\n\r\nthree\r\n")
    write(tmp_path / "a.de", "eins zwei\n\ndrei")
    data = f"{tmp_path / 'a.en'},{tmp_path / 'a.de'}"
    held = read_pairs_part(data, None, PLAIN, ByteTokenizer(), ByteTokenizer())
    assert pairs_of(held) == [("one\u2028two", "eins zwei"), ("three", "drei")]
    assert any("1 line blank in both is left out" in note for note in held.notes)
    write(tmp_path / "a.de", "eins zwei\nzwei\ndrei")
    with pytest.raises(DataError, match=r"a\.en, .*a\.de: line 2: the source is empty"):
        read_pairs_part(data, None, PLAIN, ByteTokenizer(), ByteTokenizer())


def test_a_line_that_is_not_utf8_does_not_shift_the_other_side(tmp_path: Path) -> None:
    write(tmp_path / "a.en", b"\xef\xbb\xbfone\n\xff\ntwo\n")
    write(tmp_path / "a.de", "eins\nkaputt\nzwei\n")
    data = f"{tmp_path / 'a.en'},{tmp_path / 'a.de'}"
    with pytest.raises(DataError, match=r"a\.en: line 2, byte 1 .*not UTF-8"):
        read_pairs_part(data, None, PLAIN, ByteTokenizer(), ByteTokenizer())
    held = read_pairs_part(data, None, Decoding("skip"), ByteTokenizer(), ByteTokenizer())
    assert pairs_of(held) == [("one", "eins"), ("two", "zwei")]
    write(tmp_path / "a.en", b"one\n" * 7 + b"\xff\n" * 11)
    write(tmp_path / "a.de", "eins\n" * 18)
    with pytest.raises(DataError, match=r"a\.en: 11 lines are not UTF-8, too many to skip"):
        read_pairs_part(data, None, Decoding("skip"), ByteTokenizer(), ByteTokenizer())


def test_what_pairs_look_like_is_recognised(tmp_path: Path) -> None:
    assert task_of_table(write(tmp_path / "a.csv", "id,source,target\n1,a,b\n")) == "translate"
    assert task_of_table(write(tmp_path / "a.jsonl", '{"source": "a", "target": "b"}\n')) == "translate"
    assert task_of_table(write(tmp_path / "a.tsv", "a\tb\n")) is None
    assert task_of_table(tmp_path / "a.tsv", "target,source") == "translate"
    folder = aligned(tmp_path / "two", "train", PAIRS)
    assert task_of_table(folder) == task_of_table(folder, "en,de") == "translate"
    assert task_of_table(Path(f"{folder / 'train.en'},{folder / 'train.de'}")) == "translate"
    write(tmp_path / "plays" / "train.txt", "text")
    write(tmp_path / "plays" / "train.json", "{}")
    assert task_of_table(tmp_path / "plays") is None and aligned_files(tmp_path / "plays") == {}
    assert list(aligned_files(write(tmp_path / "one" / "train.en", "a\n").parent)) == []
    assert aligned_files(write(tmp_path / "one" / "train.json", "{}").parent) == {}
    assert aligned_files(write(folder / "train.tsv", "a\tb\n").parent) == {}  # tables come first
    assert aligned_files(f"{tmp_path / 'a.csv'},{tmp_path / 'a.tsv'}") == {}


# --- splits and what is told ------------------------------------------------------------------------------------------


def test_equal_sources_stay_on_one_side_and_so_do_groups(tmp_path: Path) -> None:
    doubled = [*PAIRS, *((f" {s.replace(' ', '  ')}", t + "!") for s, t in PAIRS)]
    found = read_pairs(write(tmp_path / "d.tsv", tsv(doubled)), split=(0.5, 0.25, 0.25), tokenizer="byte")
    sides = [{" ".join(s.split()) for s in part.sources} for part in found.parts.values()]
    assert sum(map(len, sides)) == 169 and sum(map(len, found.parts.values())) == 338
    rows = "".join(f"{s}\t{t}\t{s.split()[0]}\n" for s, t in PAIRS)
    found = read_pairs(
        write(tmp_path / "g.tsv", rows), "source,target,page", "page", (0.5, 0.25, 0.25), tokenizer="byte"
    )
    sides = [{s.split()[0] for s in part.sources} for part in found.parts.values()]
    assert sum(map(len, sides)) == 13 and all(sides)


def test_a_missing_validation_part_is_carved_and_test_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", tsv(PAIRS[:140]))
    write(tmp_path / "test.tsv", tsv(PAIRS[140:]))
    found = read_pairs(tmp_path, tokenizer="byte")
    assert pairs_of(found.parts["test"]) == PAIRS[140:]
    assert len(found.parts["train"]) + len(found.parts["valid"]) == 140 and len(found.parts["valid"])
    again = read_pairs(tmp_path, split=(0.5, 0.25, 0.25), tokenizer="byte")
    assert again.dataset.sha256 == found.dataset.sha256 and again.dataset.split_sha256 != found.dataset.split_sha256


def test_repeated_pairs_are_kept_and_told(tmp_path: Path) -> None:
    folder = given_split(tmp_path, [*PAIRS, PAIRS[3], PAIRS[5]], [PAIRS[7], ("new", "neu")])
    found = read_pairs(folder, tokenizer="byte")
    assert len(found.parts["train"]) == 171
    assert "train: 2 pairs of 171 occurred before, word for word; they are kept" in found.all_notes
    assert "valid: 1 of 2 sources stands in train too" in found.all_notes
    assert found.card()["duplicates"] == 0.5


def test_training_pairs_too_long_or_uneven_are_left_out_and_told_and_held_out_ones_never(tmp_path: Path) -> None:
    odd = [("s" * 12, "t"), ("t", "s" * 12), ("s" * 11, "t" * 2), ("s" * 5, "t" * 11), ("u" * 4, "v" * 37)]
    uneven = given_split(tmp_path / "uneven", [("s" * 4, "t" * 36), *odd[-1:], ("s" * 3, "t" * 36)], odd)
    found = read_pairs(uneven, tokenizer="byte", longest=50)
    assert [len(s) for s in found.parts["train"].sources] == [4, 3]
    assert "left out of training: 1 pair with one side more than 9 times as long as the other, of 3" in found.all_notes
    long = read_pairs(given_split(tmp_path / "long", [*PAIRS, *odd], odd), tokenizer="byte", longest=31)
    assert ("u" * 4, "v" * 37) not in pairs_of(long.parts["train"]) and len(long.parts["train"]) == 173
    assert "left out of training: 1 pair of more than 31 tokens on a side, of 174" in long.all_notes
    assert pairs_of(long.parts["valid"]) == odd
    with pytest.raises(DataError, match="nothing left to train on: 169 pairs of more than 3 tokens"):
        read_pairs(given_split(tmp_path / "none", PAIRS, odd), tokenizer="byte", longest=3)


def test_a_source_of_ten_thousand_words_is_cut_where_it_is_read_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "held.tsv", tsv([("word " * 9999 + "word", "x"), ("a", "b")]))
    part = read_pairs_part(path, None, PLAIN, ByteTokenizer(), ByteTokenizer(), longest=37)
    assert len(part.source_ids[0]) == 49999 and part.source_lengths.tolist() == [37, 1]
    batch = part.batch([1, 0], 257, 256)
    assert batch.sources_BS.shape == (2, 37) and batch.source_lengths_B.tolist() == [1, 37]
    assert any("1 source of more than 37 tokens are cut at that length" in note for note in part.notes)


# --- units ------------------------------------------------------------------------------------------------------------


def test_closed_sets_of_symbols_are_told_from_text() -> None:
    moves = ["left right jump jump"] * 37
    assert is_closed(moves)
    assert not is_closed(["left right jump"] * 19)  # 19 uses of each, not 20
    assert is_closed([*moves * 11, "once"]) and not is_closed([*moves, "once"])  # 1 use in 1629, 1 in 149
    assert not is_closed([" ".join(f"w{k}" for k in range(501))] * 23)


def test_spelling_to_sounds_is_read_as_characters_and_words(tmp_path: Path) -> None:
    sounds = [(a + b, f"{a.upper()}0 {b.upper()}1 S") for a, b in product("abcdefg", "hijklmn")] * 5
    found = read_pairs(given_split(tmp_path, sounds, [("ah", "A0 H1 S"), ("zh", "Z0 H1 S")]))
    assert found.processor.spec == "char,word" and not found.processor.joint and found.counted == "symbol"
    assert any("sources are mostly single words, targets of a closed set of 15 symbols" in n for n in found.all_notes)
    valid, target = found.parts["valid"], found.processor.target
    assert target.decode(valid.target_ids[0]) == b"A0 H1 S"
    assert target.unknown == valid.target_ids[1][0] and target.decode(valid.target_ids[1]).decode() == "\ufffd H1 S"
    rare = read_pairs(given_split(tmp_path / "rare", [*sounds, ("zz", "Z")], sounds[:1]))
    assert (
        "Out-of-vocabulary tokens in the targets of train: 0.14%; in output one is written as \ufffd" in rare.all_notes
    )  # 1 of 736
    card = found.card()
    assert card["unknown"] == {"source": 1 / 4, "target": 1 / 6} and card["unseen"]["target"] == 1 / 6
    assert found.processor.special_tokens == {"end": 17, "start": 18}  # 15 sounds, the line feed, the unknown


def test_running_text_shares_one_vocabulary_and_one_side_of_words_has_its_own(tmp_path: Path) -> None:
    text = [(f"the {s} number{k}", f"die {t} Zahl{k}") for k, (s, t) in enumerate(PAIRS)]
    joint = read_pairs(given_split(tmp_path / "a", text, text[:3]))
    assert (
        joint.processor.spec == "bpe:512" and joint.processor.source is joint.processor.target and joint.processor.joint
    )
    assert joint.counted == "sentence"
    glossary = [(f"w{k}", t) for k, (_, t) in enumerate(text)]
    mixed = read_pairs(given_split(tmp_path / "b", glossary, glossary[:3]))
    assert mixed.processor.spec == "char,bpe:512" and not mixed.processor.joint
    for part in (joint.parts["valid"], mixed.parts["valid"]):
        tokenizer = joint.processor.target if part is joint.parts["valid"] else mixed.processor.target
        assert [tokenizer.decode(ids).decode() for ids in part.target_ids] == list(part.targets)


@pytest.mark.parametrize(
    ("spec", "resolved", "joint", "sizes"),
    [
        ("byte", "byte", True, (256, 256)),
        ("byte,byte", "byte,byte", False, (256, 256)),
        ("bpe:300", "bpe:300", True, (300, 300)),
        ("bpe:290,bpe:300", "bpe:290,bpe:300", False, (290, 300)),
        ("word,byte", "word,byte", False, (16, 256)),  # 13 numbers, "and", the line feed, the unknown
        (
            "char,char",
            "char,char",
            False,
            tuple(len(set("".join(x))) + 1 for x in zip(*PAIRS)),
        ),  # characters in use, the unknown
    ],
)
def test_one_name_is_one_vocabulary_and_two_are_two(
    tmp_path: Path, spec: str, resolved: str, joint: bool, sizes: tuple[int, int]
) -> None:
    found = read_pairs(given_split(tmp_path, PAIRS, PAIRS[:2]), tokenizer=spec)
    assert (found.processor.spec, found.processor.joint) == (resolved, joint)
    assert (found.processor.source.vocab_size, found.processor.target.vocab_size) == sizes
    assert read_pairs(tmp_path, tokenizer=resolved).parts["train"].source_ids[5].tolist() == found.parts[
        "train"
    ].source_ids[5].tolist()  # fmt: skip


def test_units_are_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    found = read_pairs(given_split(tmp_path, PAIRS, [("qqq", "qqq")] * 50), tokenizer="char")
    assert found.parts["valid"].target_ids[0].tolist() == [found.processor.target.unknown] * 3
    with pytest.raises(DataError, match=r"valid\.tsv: line 1: 'q' "):
        read_pairs(tmp_path, tokenizer="char:complete")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("char,word,byte", "3 names"), ("none", "pairs are text"), ("char,wrd", "wrd: no such tokenizer")],
)
def test_what_tokenizer_cannot_say_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_pair_tokenizers(spec)


def test_the_card_counts_by_hand(tmp_path: Path) -> None:
    found = read_pairs(given_split(tmp_path, [("ab", "cde"), ("abcd", "é")], [("ab x", "cde")]), tokenizer="byte")
    card = found.card()
    assert card["parts"]["train"] == {"records": 2, "target_tokens": 5, "source_tokens": 6}
    assert card["lengths"] == {"source": {"mean": 3.0, "longest": 4}, "target": {"mean": 2.5, "longest": 3}}
    assert card["unseen"] == {"source": 0.5, "target": 0.0} and card["unknown"] == {"source": 0.0, "target": 0.0}
    assert card["examples"] == ["ab → cde", "abcd → é"] and card["vocab_size"] == 256
    json.dumps(card)


def test_data_prints_the_card_of_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named columns are enough; where there are none, the task is told, as the message for such a table says."""
    plain = given_split(tmp_path / "plain", [("ab", "cde"), ("abcd", "é")], [("ab x", "cde")])
    assert main(["data", str(plain), "--task", "translate", "--tokenizer", "byte"]) == 0
    shown = capsys.readouterr().out
    assert "256 tokens in one vocabulary" in shown
    assert "50.0% of the held-out words (sources) and 0.0% of the held-out words (targets) do not occur" in shown
    assert re.search(r"train +2 records, 5 target tokens, 6 source tokens", shown)
    named = write(tmp_path / "named.tsv", "source\ttarget\n" + tsv(PAIRS))
    assert main(["data", str(named), "--tokenizer", "char,byte", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["unit"] == "pairs" and card["vocab_size"] == 256 and not card["joint"]


# --- batches ----------------------------------------------------------------------------------------------------------


def made(lengths: list[tuple[int, int]]) -> PairPart:
    ids = [np.arange(n, dtype=np.int32) for pair in lengths for n in pair]
    names = tuple(map(str, range(len(lengths))))
    return PairPart(names, names, ids[::2], ids[1::2])


def test_a_batch_is_shifted_ended_and_padded_on_the_right() -> None:
    batch = made([(2, 3), (5, 1), (3, 0)]).batch([1, 0, 2], start=11, end=7)
    assert batch.inputs_BT.tolist() == [[11, 0, 0, 0], [11, 0, 1, 2], [11, 0, 0, 0]]
    assert batch.targets_BT.tolist() == [[0, 7, IGNORED, IGNORED], [0, 1, 2, 7], [7, IGNORED, IGNORED, IGNORED]]
    assert batch.lengths_B is not None and batch.lengths_B.tolist() == [2, 4, 1]
    assert batch.sources_BS.tolist() == [[0, 1, 2, 3, 4], [0, 1, 0, 0, 0], [0, 1, 2, 0, 0]]
    assert batch.source_lengths_B.tolist() == [5, 2, 3]


def lengths_of(count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(3)
    return [(int(a), int(b)) for a, b in rng.integers(1, 29, (count, 2))]


def test_buckets_hold_every_pair_once_an_epoch_within_the_tokens() -> None:
    part = made([*lengths_of(211), (67, 2)])  # one pair alone is longer than a batch may be
    buckets = PairBatches(part, 61, 5, 1001, 1000)
    for epoch in (0, 3):
        rows = [buckets.rows(epoch, step) for step in range(buckets.steps_per_epoch)]
        assert sorted(np.concatenate(rows).tolist()) == list(range(212))
        for some in rows:
            longest = max(max(len(part.source_ids[r]), len(part.target_ids[r]) + 1) for r in some)
            assert len(some) == 1 or len(some) * longest <= 61
        batches = [buckets.at(epoch, step) for step in range(buckets.steps_per_epoch)]
        assert sum(int((b.targets_BT != IGNORED).sum()) for b in batches) == int(
            buckets.part.target_lengths.sum()
        ) + len(buckets.part)
    with pytest.raises(IndexError, match="of an epoch of"):
        buckets.at(0, buckets.steps_per_epoch)


@pytest.mark.parametrize("tokens", [6, 8])
def test_buckets_are_full_by_hand(tokens: int) -> None:
    """Longer sides 2 2 3 3 5: two rows of 2 and one of 3 would be 3 x 3 > 8; two of 3 are 6; the 5 stays alone."""
    part = made([(5, 1), (2, 1), (3, 2), (1, 1), (1, 2)])
    buckets = PairBatches(part, tokens, 0, 9, 8)
    assert buckets.edges.tolist() == [0, 2, 4, 5]
    found = {tuple(sorted(buckets.rows(0, step).tolist())) for step in range(3)}
    assert found == {(1, 3), (2, 4), (0,)}


def test_the_order_is_a_function_of_seed_epoch_and_step() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        buckets = PairBatches(made(lengths_of(97)), 61, seed, 101, 100)
        buckets.at(7, 0)  # what was asked for before does not matter
        return [buckets.rows(epoch, step).tolist() for step in reversed(range(buckets.steps_per_epoch))]

    assert order(5, 1) == order(5, 1)
    assert order(5, 1) != order(5, 2) and order(5, 1) != order(6, 1)
    assert {tuple(sorted(x)) for x in order(5, 1)} != {tuple(sorted(x)) for x in order(5, 2)}  # ties are shuffled
    sizes = [max(source, target + 1) for source, target in lengths_of(97)]
    longest = [[max(sizes[r] for r in rows) for rows in order(5, epoch)] for epoch in (1, 2)]
    assert longest[0] != longest[1] and sorted(longest[0]) == sorted(longest[1])  # and so is the order of the batches


def test_no_pairs_make_no_batches() -> None:
    with pytest.raises(DataError, match="no pairs"):
        PairBatches(made([]), 61, 5, 101, 100)
