"""Reading, splitting and encoding: what is read is what was written, and bad input is one clear line."""

from __future__ import annotations

import gzip
import lzma
import math
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core import DataError, MachineError, UserError
from chainrule.data import EncodedData, Part, encode_texts, plays, source
from chainrule.data.split import spans_of
from chainrule.data.text_encoding import Decoding
from chainrule.data.tokenizers import ByteTokenizer, CharTokenizer, tokenizer_from_json
from tests.encoded import read, read_part

WORDS = ["so", "the", "quick", "개구리", "jumped", "über", "a", "lazy", "dog", "and", "ran"]


def prose(characters: int, seed: int = 7) -> str:
    """Lines of words, some of two and three bytes a character."""
    rng = np.random.default_rng(seed)
    words = rng.choice(WORDS, characters // 3).tolist()
    ends = rng.choice([" ", " ", " ", " ", "\n"], len(words)).tolist()
    return "".join(word + end for word, end in zip(words, ends, strict=True))[: characters - 1] + "\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def texts(corpus: EncodedData, part: str) -> list[bytes]:
    p = corpus.parts[part]
    return [corpus.processor.tokenizer.decode(p.ids[s:e]) for s, e in zip(p.starts, p.ends, strict=True)]


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# --- reading ---------------------------------------------------------------------------------------------------------


def test_bytes_of_a_plain_file_are_the_mapped_file_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.txt", prose(9973))
    corpus = read(path)
    train, valid = corpus.parts["train"], corpus.parts["valid"]
    assert isinstance(train.ids, np.memmap)
    assert train.ids.filename == path.resolve()
    assert train.ids.offset == 0
    assert np.shares_memory(train.ids, valid.ids)
    assert bytes(train.ids) == path.read_bytes()


def test_a_mapped_file_is_never_loaded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "corpus.txt", prose(31337) * 60)
    monkeypatch.setattr(source, "CHUNK", 1 << 14)
    tracemalloc.start()
    read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 2_000_000
    assert peak < 500_000


def test_large_derived_arrays_go_to_the_cache_and_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "corpus.txt.gz", prose(20011))
    small = read(path, tokenizer="char")
    monkeypatch.setattr(source, "CHUNK", 1009)
    monkeypatch.setattr(source, "MEMORY_LIMIT", 5003)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    large = read(path, tokenizer="char")
    assert isinstance(large.parts["train"].ids, np.memmap)
    assert not list((tmp_path / "cache").glob("part-*"))
    for part in ("train", "valid", "test"):
        assert texts(large, part) == texts(small, part)
    assert large.dataset.split_sha256 == small.dataset.split_sha256


def test_a_cache_that_cannot_be_written_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "corpus.txt.gz", prose(20011))
    monkeypatch.setattr(source, "MEMORY_LIMIT", 5003)
    monkeypatch.setenv("CHAINRULE_CACHE", str(write(tmp_path / "occupied", "a file")))
    with pytest.raises(MachineError, match="CHAINRULE_CACHE") as error:
        read(path)
    one_line(error)


def test_given_splits_are_kept_as_they_are(tmp_path: Path) -> None:
    given = {"train": prose(3001, 1), "dev": prose(401, 2), "test": prose(503, 3)}
    write(tmp_path / "train.txt", given["train"])
    write(tmp_path / "dev.txt.gz", given["dev"])
    write(tmp_path / "test.txt", given["test"])
    write(tmp_path / "README.md", "not a part of it")
    corpus = read(tmp_path)
    for part, key in (("train", "train"), ("valid", "dev"), ("test", "test")):
        assert texts(corpus, part) == [given[key].encode()]
        assert corpus.parts[part].nbytes == len(given[key].encode())
        assert corpus.parts[part].nchars == len(given[key])


def test_folders_named_after_parts_are_a_given_split(tmp_path: Path) -> None:
    for name in ("train/b", "train/a", "validation/c", "test/d"):
        write(tmp_path / f"{name}.txt", f"file {name}\n")
    corpus = read(tmp_path, unit="docs")
    assert texts(corpus, "train") == [b"file train/a\n\0", b"file train/b\n\0"]
    assert texts(corpus, "test") == [b"file test/d\n\0"]
    assert corpus.dataset.terminator == b"\0"


def test_valid_is_carved_from_train_where_only_test_is_given(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", prose(40009))
    write(tmp_path / "test.txt", "held out\n")
    corpus = read(tmp_path)
    assert texts(corpus, "test") == [b"held out\n"]
    assert corpus.parts["valid"].nbytes / 40009 == pytest.approx(0.05 / 0.95, rel=0.2)


def test_without_a_given_test_part_there_is_none(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", prose(3001))
    write(tmp_path / "valid.txt", prose(307))
    assert set(read(tmp_path).parts) == {"train", "valid"}


def test_the_text_that_ships_is_there() -> None:
    corpus = read(plays())
    assert set(corpus.parts) == {"train", "valid", "test"}
    assert texts(corpus, "train")[0].startswith(b"ALL'S WELL THAT ENDS WELL\n")


def test_a_byte_order_mark_is_dropped_and_noted(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.txt", b"\xef\xbb\xbf" + prose(2003).encode()))
    assert texts(corpus, "train")[0].startswith(prose(2003).encode()[:8])
    assert any("byte-order mark" in note for note in corpus.all_notes)


def test_windows_line_ends_are_kept_and_noted(tmp_path: Path) -> None:
    written = prose(2003).replace("\n", "\r\n").encode()
    corpus = read(write(tmp_path / "a.txt", written), unit="lines")
    assert all(line.endswith(b"\r\n") for line in texts(corpus, "train"))
    assert any("CRLF" in note for note in corpus.all_notes)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"abc", "3 bytes are too few.*1,000"),
        (b" \n\t\r\n" * 400, "only white space"),
        (b"a" * 999, "999 bytes are too few"),
        (b"ok\n" * 500 + b"ab\0cd\n", r"line 501, byte 3 \(offset 1502\).*NUL.*binary"),
        (b"ok\n" * 500 + b"na\xefve\n", r"line 501, byte 3 \(offset 1502\): not UTF-8 \(0xef\); --on-bad skip"),
        (b"ok\n" * 500 + "é".encode()[:1], r"line 501, byte 1 \(offset 1500\): not UTF-8 \(0xc3\)"),
        (b"\xed\xa0\x80 lone surrogate\n" * 50, r"line 1, byte 1 .*0xed"),
        ("text\n".encode("utf-16") * 200, "UTF-16"),
        (
            "다람쥐 헌 쳇바퀴\n".encode("cp949") * 200,
            r"not UTF-8 \(0xb4\): looks like CP949; --encoding cp949 reads it",
        ),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = write(tmp_path / "corpus.txt", content)
    with pytest.raises(DataError, match=expected) as error:
        read(path)
    assert one_line(error).startswith(str(path))
    assert error.value.exit_status == 2


@pytest.mark.parametrize("chunk", [11, 64, 1000])
def test_a_bad_byte_is_found_whatever_chunk_it_falls_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(source, "CHUNK", chunk)
    clean = ("개구리 ran\n" * 200).encode()
    assert read(write(tmp_path / "clean.txt", clean)).parts["train"].nbytes > 1000
    bad = clean[: 14 * 48] + "x개".encode()[:3] + b"\n" + clean
    with pytest.raises(DataError, match=r"line 49, byte 2 \(offset 673\)") as error:
        read(write(tmp_path / "bad.txt", bad))
    assert "0xea" in str(error.value)


def test_missing_files_and_empty_folders_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder") as error:
        read(tmp_path / "nowhere.txt")
    one_line(error)
    with pytest.raises(DataError, match="no data files") as error:
        read(tmp_path)
    one_line(error)
    write(tmp_path / "test.txt", "alone")
    with pytest.raises(DataError, match="no train file"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_formats_that_hold_no_sequences_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: \.np. cannot be read as text") as error:
        read(write(tmp_path / name, prose(2003)))
    one_line(error)


def test_a_damaged_gz_is_one_clear_line(tmp_path: Path) -> None:
    whole = gzip.compress(prose(9973).encode())
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    for content in (whole[: len(whole) // 2], bytes(broken), b"not gzip at all"):
        path = tmp_path / "corpus.txt.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged or cut short") as error:
            read(path)
        one_line(error)


@pytest.mark.parametrize("name", ["corpus.txt", "corpus.txt.gz"])
def test_no_permission_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = write(tmp_path / name, prose(2003))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("gzip.open", refuse)
    monkeypatch.setattr("numpy.memmap", refuse)
    with pytest.raises(MachineError, match="Permission denied") as error:
        read(path)
    assert error.value.exit_status == 3
    assert one_line(error).startswith(str(path))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"tokenizer": "bite"}, "did you mean 'byte'"),
        ({"tokenizer": "morse"}, "allowed: .*byte, char, char:complete"),
        ({"unit": "line"}, "did you mean 'lines'"),
        ({"split": (0.9, 0.2, 0.05)}, "0.9/0.2/0.05.*sum to 1"),
        ({"split": (1.0, 0.0, 0.0)}, "train and valid need shares above 0"),
        ({"split": (80, 10, 10)}, "sum to 1 are needed.*sum to 100"),
    ],
)
def test_unknown_flags_say_what_is_allowed(tmp_path: Path, flags: dict, expected: str) -> None:
    path = write(tmp_path / "corpus.txt", prose(2003))
    with pytest.raises(UserError, match=expected) as error:
        read(path, **flags)
    one_line(error)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"on_bad": "ignore"}, "--on-bad ignore: .*allowed: skip, stop"),
        ({"encoding": "cp9490"}, "--encoding cp9490: no such encoding .*did you mean 'cp949'"),
        ({"normalize": "nfd"}, "--normalize nfd: .*nfc"),
    ],
)
def test_an_unknown_way_of_reading_says_what_is_allowed(settings: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        Decoding(**settings)
    one_line(error)


def test_skip_drops_bad_lines_counts_them_and_keeps_the_rest(tmp_path: Path) -> None:
    good = [f"line number {i} is fine\n".encode() for i in range(307)]
    bad = {13: b"a \xff b\n", 101: b"nul \0\n", 307: b"\xc3"}
    written = b"".join(bad.get(i, b"") + (good[i] if i < 307 else b"") for i in range(308))
    corpus = read(write(tmp_path / "a.txt", written), unit="lines", decoding=Decoding("skip"))
    assert sorted(line for part in corpus.parts for line in texts(corpus, part)) == sorted(good)
    assert any("3 bad lines dropped" in note for note in corpus.all_notes)


def test_skipping_is_logged_line_by_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(write(tmp_path / "a.txt", b"\xff\n" + b"fine\n" * 400 + b"\xfe\n"), decoding=Decoding("skip"))
    assert [("line 1," in m, "line 402," in m) for m in caplog.messages] == [(True, False), (False, True)]


@pytest.mark.parametrize(("lines", "allowed"), [(500, 10), (20_000, 20)])
def test_skipping_stops_beyond_ten_lines_or_a_thousandth(tmp_path: Path, lines: int, allowed: int) -> None:
    clean = b"a line of text\n" * lines
    read(write(tmp_path / "few.txt", clean + b"\xff\n" * allowed), decoding=Decoding("skip"))
    with pytest.raises(DataError, match=f"more than {allowed} lines are bad"):
        read(write(tmp_path / "many.txt", clean + b"\xff\n" * (allowed + 1)), decoding=Decoding("skip"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=30))
def test_hostile_lines_are_either_kept_exactly_or_refused_in_one_line(tmp_path_factory, lines: list[bytes]) -> None:
    content = b"\n".join(lines) + b"\n"
    path = write(tmp_path_factory.mktemp("hostile") / "a.txt", content)
    try:
        valid = b"\0" not in content and bool(content.decode().removeprefix("\ufeff").encode().strip(bytes(range(33))))
    except UnicodeDecodeError:
        valid = False
    if valid:
        part = read_part(path, ByteTokenizer(), "stream")
        assert bytes(part.ids) == content.removeprefix(b"\xef\xbb\xbf")
    else:
        with pytest.raises(DataError) as error:
            read_part(path, ByteTokenizer(), "stream")
        one_line(error)


# --- records and splits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [2, 5, 1 << 22])
def test_lines_are_records_with_their_newline_and_empty_ones_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(source, "CHUNK", chunk)
    path = write(tmp_path / "a.txt", "one\n\n two \n   \nthree")
    part = read_part(path, ByteTokenizer(), "lines")
    assert [bytes(part.ids[s:e]) for s, e in zip(part.starts, part.ends, strict=True)] == [
        b"one\n",
        b" two \n",
        b"three\n",
    ]
    assert part.notes == ["2 empty lines are no records and are left out"]
    assert part.nbytes == 4 + 7 - 1 + 6


@pytest.mark.parametrize("chunk", [2, 5, 1 << 22])
def test_blocks_between_blank_lines_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(source, "CHUNK", chunk)
    path = write(tmp_path / "a.txt", "\n\na\nb\n\n\n\nc\n\nd")
    part = read_part(path, ByteTokenizer(), "docs")
    assert [bytes(part.ids[s:e]) for s, e in zip(part.starts, part.ends, strict=True)] == [
        b"a\nb\n\n",
        b"c\n\n",
        b"d\n\n",
    ]


def test_files_of_a_folder_are_documents_and_spans_of_a_stream(tmp_path: Path) -> None:
    for i in range(23):
        write(tmp_path / f"{i:02}.txt", f"document {i}\n" * 7)
    docs = read(tmp_path, unit="docs")
    found = sorted(text for part in docs.parts for text in texts(docs, part))
    assert found == sorted(f"document {i}\n".encode() * 7 + b"\0" for i in range(23))
    stream = read(tmp_path)
    assert stream.processor.terminator == b""
    for text in [text for part in stream.parts for text in texts(stream, part)]:
        assert len({line for line in text.split(b"\n") if line.startswith(b"document ")}) <= 1


def test_stream_blocks_cover_the_text_with_gaps_and_cut_no_character(tmp_path: Path) -> None:
    written = prose(1_500_007)
    corpus = read(write(tmp_path / "a.txt", written))
    total = len(written.encode())
    spans = sorted((s, e, part) for part, p in corpus.parts.items() for s, e in zip(p.starts, p.ends, strict=True))
    assert [part for *_, part in spans].count("test") == [part for *_, part in spans].count("valid") >= 16
    for (_, end, left), (start, _, right) in pairwise(spans):
        assert left != right
        assert start - end >= 256
    for name, share in (("train", 0.9), ("valid", 0.05), ("test", 0.05)):
        assert corpus.parts[name].nbytes / total == pytest.approx(share, rel=0.03 if name != "train" else 0.06)
        for text in texts(corpus, name):
            text.decode()  # no character is cut
    test = corpus.parts["test"]
    assert test.starts[0] < total / 8
    assert test.starts[-1] > total * 7 / 8
    assert np.mean([written.encode()[s - 1] == 10 for s in test.starts]) > 0.9


def test_a_split_without_test_has_none_and_a_small_text_still_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", prose(1000))
    assert set(read(path, split=(0.8, 0.2, 0.0)).parts) == {"train", "valid"}
    assert all(len(part) > 20 for part in read(path).parts.values())


def test_the_same_data_is_split_the_same_and_other_flags_change_the_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", prose(20011))
    first, again, other = read(path), read(path), read(path, split=(0.8, 0.1, 0.1))
    assert first.dataset.split_sha256 == again.dataset.split_sha256 != other.dataset.split_sha256
    assert (
        first.dataset.sha256 == other.dataset.sha256 != read(write(tmp_path / "b.txt", prose(20011, 8))).dataset.sha256
    )


def test_duplicate_records_stay_on_one_side_and_sizes_follow_the_split(tmp_path: Path) -> None:
    lines = [f"record {i % 4001}{' ' * (i % 3)}\n" for i in range(12_007)]
    corpus = read(write(tmp_path / "a.txt", "".join(lines)), unit="lines", split=(0.7, 0.2, 0.1))
    sides = {part: {text.strip() for text in texts(corpus, part)} for part in corpus.parts}
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 4001
    for part, share in (("train", 0.7), ("valid", 0.2), ("test", 0.1)):
        assert len(sides[part]) / 4001 == pytest.approx(share, abs=0.02)
    assert corpus.card()["duplicates"] == 0


def test_a_record_keeps_its_side_when_the_data_grows(tmp_path: Path) -> None:
    lines = [f"record {i}\n" for i in range(3001)]
    small = read(write(tmp_path / "a.txt", "".join(lines[:2003])), unit="lines")
    large = read(write(tmp_path / "b.txt", "".join(lines)), unit="lines")
    for part in small.parts:
        assert set(texts(small, part)) <= set(texts(large, part))


def test_a_handful_of_records_leaves_no_part_empty(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.txt", "".join(f"{i}" * 300 + "\n" for i in range(5))), unit="lines")
    assert [len(corpus.parts[p].starts) for p in ("train", "valid", "test")] == [3, 1, 1]
    with pytest.raises(DataError, match="2 distinct records cannot be split into 3 parts"):
        read(write(tmp_path / "b.txt", ("a" * 300 + "\n" + "b" * 300 + "\n") * 3), unit="lines")


# --- tokenizers ------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_characters_come_back_as_they_went_in(text: str) -> None:
    raw = text.encode()
    tokenizer = CharTokenizer.fit(spans_of([raw], "raw"), complete=True)
    assert tokenizer.characters == "".join(sorted(set(text)))
    encoded = tokenizer.encode(raw)
    assert [tokenizer.characters[i] for i in encoded.ids] == list(text)
    assert tokenizer.decode(encoded.ids) == raw
    again = tokenizer_from_json(tokenizer.to_json())
    assert again.decode(again.encode(raw).ids) == raw


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
def test_unknown_characters_are_those_not_seen_twice_and_keep_their_bytes(train: str, text: str) -> None:
    tokenizer = CharTokenizer.fit(spans_of([train], "train"))
    alphabet = {c for c, n in Counter(train).items() if n >= 2}
    encoded = tokenizer.encode(text.encode())
    unknown = [i for i, c in enumerate(text) if c not in alphabet]
    assert encoded.unknown_at.tolist() == unknown
    assert encoded.unknown_bytes.tolist() == [len(text[i].encode()) for i in unknown]
    assert all(encoded.ids[i] == tokenizer.unknown == len(alphabet) for i in unknown)
    assert tokenizer.vocab_size == len(alphabet) + 1


@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_bytes_come_back_as_they_went_in(raw: bytes) -> None:
    tokenizer = tokenizer_from_json(ByteTokenizer().to_json())
    assert tokenizer.decode(tokenizer.encode(raw).ids) == raw


@pytest.mark.parametrize(("kinds", "dtype"), [(255, np.uint8), (257, np.uint16), (65_537, np.int32)])
def test_ids_take_the_smallest_type_that_fits(kinds: int, dtype: type) -> None:
    text = "".join(map(chr, range(0x10000, 0x10000 + kinds))) * 2
    tokenizer = CharTokenizer.fit(spans_of([text], "text"))
    assert tokenizer.encode(text.encode()).ids.dtype == dtype
    assert tokenizer.decode(tokenizer.encode(text.encode()).ids) == text.encode()


def test_decoding_refuses_ids_that_stand_for_no_symbol() -> None:
    for tokenizer in (ByteTokenizer(), CharTokenizer("abc", complete=True)):
        for bad in (-1, tokenizer.vocab_size):
            with pytest.raises(ValueError, match="are not in the vocabulary"):
                tokenizer.decode([0, bad])


def test_a_complete_alphabet_refuses_what_it_has_not_seen_and_says_where(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "abc\n" * 300)
    write(tmp_path / "valid.txt", "abc\n")
    write(tmp_path / "test.txt", "abc\nab\nc뷁\n")
    with pytest.raises(DataError, match=r"test\.txt: line 3: '뷁' \(U\+BDC1\).*4 characters") as error:
        read(tmp_path, tokenizer="char:complete")
    one_line(error)
    with pytest.raises(DataError, match="'z'"):
        CharTokenizer("abc", complete=True).encode(b"az")
    with pytest.raises(DataError, match=r"byte 2 .*0xff"):
        CharTokenizer("abc").encode(b"a\xff")


@pytest.mark.parametrize("unit", ["stream", "lines", "docs"])
@pytest.mark.parametrize("chunk", [5, 1009, 1 << 22])
def test_characters_and_bytes_describe_the_same_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, chunk: int
) -> None:
    monkeypatch.setattr(source, "CHUNK", chunk)
    rare = "".join(f"{chr(0x4E00 + i)}\n{'' if i % 3 else chr(10)}" for i in range(101))
    path = write(tmp_path / "a.txt", (prose(503) + rare) * 3)
    byte, char = read(path, unit=unit), read(path, unit=unit, tokenizer="char")
    for name, part in char.parts.items():
        assert len(part) == part.nchars == byte.parts[name].nchars
        assert part.nbytes == byte.parts[name].nbytes == len(byte.parts[name])
        sizes = [part.bytes_between(s, e) for s, e in zip(part.starts, part.ends, strict=True)]
        assert sizes == (byte.parts[name].ends - byte.parts[name].starts).tolist()
        if not len(part.unknown_at):
            assert texts(char, name) == texts(byte, name)


def test_unknown_symbols_are_counted_within_their_part_only(tmp_path: Path) -> None:
    lines = [f"line {i % 10} {chr(0x4E00 + i)}\n" for i in range(211)]
    corpus = read(write(tmp_path / "a.txt", "".join(lines)), unit="lines", tokenizer="char")
    for part in corpus.parts.values():
        assert len(part.unknown_at) == len(part.starts)
        assert set(part.unknown_bytes.tolist()) == {3}
        assert set(part.ids[part.unknown_at].tolist()) == {corpus.processor.tokenizer.unknown}


def test_texts_in_memory_are_records_as_given() -> None:
    part: Part = encode_texts([b"ab", b"", "é!".encode()], CharTokenizer("abé"), "lines")
    assert [part.ids[s:e].tolist() for s, e in zip(part.starts, part.ends, strict=True)] == [[0, 1], [], [2, 3]]
    assert (part.nbytes, part.nchars, part.unknown_at.tolist(), part.unknown_bytes.tolist()) == (5, 4, [3], [1])


# --- the card --------------------------------------------------------------------------------------------------------


def test_the_card_states_sizes_entropy_and_what_xz_needs(tmp_path: Path) -> None:
    train, test = "abca" * 401, prose(1009)
    write(tmp_path / "train.txt", train)
    write(tmp_path / "valid.txt", "cab\n")
    write(tmp_path / "test.txt", test)
    card = read(tmp_path).card()
    assert card["entropy"] == pytest.approx(1.5)  # 1/2, 1/4, 1/4
    raw = test.encode()
    assert card["xz"]["bits_per_byte"] == pytest.approx(8 * len(lzma.compress(raw, preset=6)) / len(raw))
    assert card["parts"]["test"] == {
        "bytes": len(raw), "chars": len(test), "tokens": len(raw), "records": 1, "unknown": 0
    }  # fmt: skip
    assert (card["name"], card["unit"], card["tokenizer"], card["vocab_size"]) == (tmp_path.name, "stream", "byte", 256)
    assert len(card["examples"]) == 3
    assert math.isfinite(card["xz"]["bits_per_byte_train"])


@pytest.mark.parametrize("colliding", [False, True])
def test_duplicate_windows_of_a_stream_are_found_wherever_they_stand_and_compared_byte_by_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colliding: bool
) -> None:
    if colliding:
        monkeypatch.setattr("chainrule.data.card._window_hashes", lambda text: np.zeros(len(text) - 63, np.uint64))
    monkeypatch.setattr("chainrule.data.source.CHUNK", 1024)
    monkeypatch.setattr("chainrule.data.card.CHUNK", 1024)
    rng = np.random.default_rng(3)
    test = bytes(rng.integers(97, 123, 64 * 7, np.uint8))
    filler = [bytes(rng.integers(97, 123, size, np.uint8)) for size in (1009, 997, 1999)]
    write(
        tmp_path / "train.txt",
        filler[0] + test[64:128] + filler[1] + test[256:320] + filler[2] + test[320:383] + b"!" + filler[0],
    )
    write(tmp_path / "valid.txt", "x" * 64)
    write(tmp_path / "test.txt", test)
    assert read(tmp_path).card()["duplicates"] == pytest.approx(2 / 7)


def test_duplicate_records_are_counted_with_white_space_normalised(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "one  two\nthree\n")
    write(tmp_path / "valid.txt", "four\n")
    write(tmp_path / "test.txt", " one two\nfive\nsix\n")
    assert read(tmp_path, unit="lines").card()["duplicates"] == pytest.approx(1 / 3)
