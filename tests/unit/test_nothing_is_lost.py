"""Nothing is lost silently: records written = records used + records that a note reports, in every format.

Files are generated at random with the defects that people's files have: byte-order marks, CRLF, blank lines, bytes that
are not UTF-8, short rows, duplicates, decomposed characters, quotes and line breaks inside cells.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.data import read
from chainrule.data.labelled import read_labelled, read_tagged
from chainrule.data.pairs import read_pairs
from chainrule.data.text_encoding import Decoding

WORDS = ["sun", "rain", "봄날", "café", "naïve", "한파", "x", "42", "don't", "a;b", "ß", "日本"]
BAD = b"\xff\xfe\x81"
SKIP = Decoding("skip", normalize="nfc")
REPORTED = re.compile(r"([\d,]+) (?:bad \w+ dropped|rows? of another length dropped|pairs? dropped)")


@dataclass
class Written:
    """A file, and how many records a reader must account for."""

    content: bytes
    records: int
    bad: int = 0
    more: dict[str, bytes] = field(default_factory=dict)


def text_of(rng: np.random.Generator, quotes: bool = False) -> str:
    text = " ".join(rng.choice(WORDS, size=rng.integers(1, 6)))
    if quotes and rng.random() < 0.2:
        text += rng.choice([' "so" he said', ", and more", "\nsecond line", ' ""'])
    return unicodedata.normalize("NFD", text) if rng.random() < 0.2 else text


def rows_of(rng: np.random.Generator, quotes: bool = False) -> list[tuple[str, str]]:
    """Distinct records of a text and one of two labels, and some of them again."""
    rows = [(f"{text_of(rng, quotes)} {k}", ("good", "bad", "mild")[k % 3]) for k in range(int(rng.integers(40, 90)))]
    return rows + [rows[k] for k in rng.integers(0, len(rows), size=3).tolist()]


def spoilt(rng: np.random.Generator, records: list[bytes], short: bytes | None = None) -> tuple[list[bytes], int]:
    """The records, a few of them with a byte that is not UTF-8, or cut short; and how many."""
    chosen = rng.choice(len(records), size=int(rng.integers(0, 5)), replace=False).tolist()
    made = list(records)
    for k in chosen:
        cut = int(rng.integers(1, 4))
        damaged = made[k][:cut] + BAD[: 1 + k % 3] + made[k][cut:]
        made[k] = short if short is not None and rng.random() < 0.4 else damaged
    return made, len(chosen)


def joined(rng: np.random.Generator, head: bytes, records: list[bytes], blank: bool = True) -> bytes:
    """The records as a file: with or without a byte-order mark, line ends of Windows, blank lines, a last line end."""
    lines = [line for record in records for line in ([record, b""] if blank and rng.random() < 0.1 else [record])]
    content = b"\n".join([*([head] if head else []), *lines]) + (b"\n" if rng.random() < 0.7 else b"")
    content = content.replace(b"\n", b"\r\n") if rng.random() < 0.3 else content
    return b"\xef\xbb\xbf" * (rng.random() < 0.3) + content


def as_csv(rng: np.random.Generator) -> Written:
    def line(row: tuple[str, ...]) -> bytes:
        file = io.StringIO(newline="")
        csv.writer(file, lineterminator="\n").writerow(row)
        return file.getvalue().removesuffix("\n").encode()

    records, bad = spoilt(rng, [line(row) for row in rows_of(rng, quotes=True)], b"short")
    return Written(joined(rng, b"text,label", records), len(records), bad)


def as_tsv(rng: np.random.Generator) -> Written:
    records, bad = spoilt(rng, ["\t".join(row).encode() for row in rows_of(rng)], b"short")
    return Written(joined(rng, b"text\tlabel", records), len(records), bad)


def as_jsonl(rng: np.random.Generator) -> Written:
    ascii = bool(rng.random() < 0.5)
    made = [json.dumps({"text": t, "label": y}, ensure_ascii=ascii).encode() for t, y in rows_of(rng, quotes=True)]
    half = b'{"text": "\\ud83d", "label": "good"}'
    records, bad = spoilt(rng, made, [b'{"text": "cut', b"[1]", half][int(rng.integers(3))])
    return Written(joined(rng, b"", records), len(records), bad)


def as_pairs(rng: np.random.Generator) -> Written:
    records, bad = spoilt(rng, ["\t".join(row).encode() for row in rows_of(rng)], b"\ttarget alone")
    return Written(joined(rng, b"source\ttarget", records), len(records), bad)


def as_aligned(rng: np.random.Generator) -> Written:
    rows = rows_of(rng)
    sides = [spoilt(rng, [row[side].encode() for row in rows])[0] for side in (0, 1)]
    bad = sum(any(_is_bad(side[k]) for side in sides) for k in range(len(rows)))
    files = {name: b"\n".join(side) + b"\n" for name, side in zip(("train.en", "train.de"), sides)}
    return Written(b"", len(rows), bad, files)


def _is_bad(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def as_lines(rng: np.random.Generator) -> Written:
    made = [f"{text} {label} {text_of(rng)}".encode() for text, label in rows_of(rng)]
    records, bad = spoilt(rng, made)
    return Written(joined(rng, b"", records), len(records), bad)


def as_tags(rng: np.random.Generator) -> Written:
    """A record is a sequence of one to four tokens; a bad line drops its whole sequence."""
    made = []
    for k, (text, label) in enumerate(rows_of(rng)):
        tokens = [*text.split(), str(k)]
        made.append("".join(f"{token}\t{label}\n" for token in tokens).encode())
    records, bad = spoilt(rng, made, b"alone\n")
    return Written(joined(rng, b"", records, blank=False), len(records), bad)


def as_conllu(rng: np.random.Generator) -> Written:
    made = []
    for k, (text, label) in enumerate(rows_of(rng)):
        rows = [f"{t}\t{w}\t_\t{label.upper()}" + "\t_" * 6 for t, w in enumerate([*text.split(), str(k)], 1)]
        made.append((f"# sent_id = {k}\n" + "1-2\tim" + "\t_" * 8 + "\n" + "\n".join(rows) + "\n").encode())
    return Written(joined(rng, b"", made, blank=False), len(made))


def as_folders(rng: np.random.Generator) -> Written:
    rows = rows_of(rng)
    files = {f"{label}/{k:03}.txt": text.encode() for k, (text, label) in enumerate(rows)}
    chosen = rng.choice(len(files), size=int(rng.integers(0, 4)), replace=False).tolist()
    for k in chosen:
        files[list(files)[k]] = [b"", b" \n", BAD * 9][k % 3]
    return Written(b"", len(files), len(chosen), files)


def as_symbols(rng: np.random.Generator) -> Written:
    made = [f"{text} {label}".encode() for text, label in rows_of(rng)]
    records, bad = spoilt(rng, made)
    return Written(joined(rng, b"", records), len(records), bad)


def as_fasta(rng: np.random.Generator) -> Written:
    made = [f">entry {k}\n{''.join(rng.choice(list('ACGTacgt'), size=40))}".encode() for k in range(60)]
    chosen = rng.choice(len(made), size=int(rng.integers(0, 5)), replace=False).tolist()
    for k in chosen:
        made[k] = made[k][:-9] + BAD + made[k][-9:]
    return Written(joined(rng, b"", made, blank=False), len(made), len(chosen))


def as_parquet(rng: np.random.Generator) -> Written:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows, file = rows_of(rng, quotes=True), io.BytesIO()
    parquet.write_table(pyarrow.table({"text": [t for t, _ in rows], "label": [y for _, y in rows]}), file)
    return Written(file.getvalue(), len(rows))


def labelled(path: Path) -> tuple[int, list[str]]:
    data = read_labelled(path, decoding=SKIP)
    return sum(map(len, data.parts.values())), data.notes


def tagged(path: Path) -> tuple[int, list[str]]:
    data = read_tagged(path, decoding=SKIP)
    return sum(len(part.rows) for part in data.parts.values()), data.notes


def paired(path: Path) -> tuple[int, list[str]]:
    data = read_pairs(path, None, decoding=SKIP)
    return sum(map(len, data.parts.values())), data.notes


def lines_alone(path: Path) -> tuple[int, list[str]]:
    data = read(path, unit="lines", decoding=SKIP)
    return sum(len(part.starts) for part in data.parts.values()), data.notes


def symbols(path: Path) -> tuple[int, list[str]]:
    data: Any = read(path, symbols=True, decoding=SKIP)
    return sum(map(len, data.parts.values())), data.notes


FORMATS: dict[str, tuple[Callable[[np.random.Generator], Written], Callable[[Path], tuple[int, list[str]]]]] = {
    "labelled.csv": (as_csv, labelled),
    "labelled.tsv": (as_tsv, labelled),
    "labelled.jsonl": (as_jsonl, labelled),
    "labelled.parquet": (as_parquet, labelled),
    "folders": (as_folders, labelled),
    "tags.conll": (as_tags, tagged),
    "tags.conllu": (as_conllu, tagged),
    "pairs.tsv": (as_pairs, paired),
    "aligned": (as_aligned, paired),
    "lines.txt": (as_lines, lines_alone),
    "symbols.txt": (as_symbols, symbols),
    "genome.fa": (as_fasta, symbols),
}
FILES = 2004
"""Files of all formats together that `make check-all` reads."""


def reported(notes: list[str]) -> int:
    """Return how many records the notes say were left out."""
    return sum(int(found[1].replace(",", "")) for note in notes for found in REPORTED.finditer(note))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("times", [5, pytest.param(FILES // len(FORMATS), marks=pytest.mark.slow)])
def test_records_written_are_used_or_reported(tmp_path: Path, name: str, times: int) -> None:
    write, count = FORMATS[name]
    spoilt_files = 0
    for seed in range(times):
        written = write(np.random.default_rng([seed, len(name)]))
        place = tmp_path / str(seed) / name
        place.parent.mkdir()
        for file, content in (written.more or {"": written.content}).items():
            path = place / file if file else place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        used, notes = count(place)
        assert used + reported(notes) == written.records, (seed, notes)
        assert reported(notes) == written.bad, (seed, notes)
        spoilt_files += written.bad > 0
    assert spoilt_files or name in ("labelled.parquet", "tags.conllu")
