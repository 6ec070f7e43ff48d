"""ARPA files: n-gram tables as text, the format of KenLM, SRILM and others, plain or gzipped (.gz).

    \\data\\                    log10 of probabilities and back-off weights;
    ngram 1=4                 <s> is context only: its probability is written as -99 and never used
    ngram 2=3

    \\1-grams:
    -1.2    the     -0.3      probability, words, back-off weight (none at the highest order; none means 0)
    ...
    \\end\\

**Reading.** Line ends are LF or CRLF, and a byte-order mark is dropped. A missing <unk> has the log10 probability -100,
as in KenLM. If an n-gram is there but its last n - 1 words are not (other toolkits prune so), these are added with the
probability that backing off gives; no probability changes.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from chainrule.core import DataError, UserError
from chainrule.core.files import machine_errors, write_file
from chainrule.counting.counts import first_children, levels
from chainrule.counting.words import BEGIN, END, UNKNOWN, Vocabulary, buffer

LOG10 = math.log(10)
NEVER, MISSING_UNKNOWN = -99.0, -100.0
MAX_ORDER = 64
RESERVED = (BEGIN, END, UNKNOWN, b"<UNK>")
"""Words that mean something else in an ARPA file; toolkits read ``<UNK>`` as ``<unk>``."""


@dataclass(frozen=True, eq=False)
class Arpa:
    """An n-gram model over words, with tables in nats as in the model type ``ngram``."""

    vocabulary: Vocabulary
    n: int
    keys: np.ndarray
    log_prob: np.ndarray
    log_backoff: np.ndarray

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keys, log p and log g."""
        return self.keys, self.log_prob, self.log_backoff


# ------------------------------------------------------------------------------------------------------------- writing


def write_arpa(path: Path | str, arpa: Arpa) -> None:
    """Write a file atomically.

    Args:
        path: the file; gzipped if its name ends in .gz.
        arpa: the model.

    Raises:
        UserError: the format cannot hold a word or a probability of the model.
        MachineError: the file cannot be written.
    """
    path = Path(path)
    own = {arpa.vocabulary.unknown, arpa.vocabulary.end}
    for k, word in enumerate(arpa.vocabulary.words):
        if not word or word.split() != [word] or (word in RESERVED and k not in own):
            raise UserError(f"{path}: ARPA cannot hold the word {word.decode(errors='replace')!r}")
    if not (np.isfinite(arpa.log_prob[1:]).all() and np.isfinite(arpa.log_backoff).all()):
        raise UserError(f"{path}: ARPA cannot hold impossible words; estimate with smoothing=kneser_ney or witten_bell")
    content = b"".join(_text(arpa))
    write_file(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def _text(arpa: Arpa) -> Iterator[bytes]:
    """Yield the file in pieces. Every word of the vocabulary is a 1-gram, seen or not, and so is <s>."""
    base, level = len(arpa.vocabulary) + 1, levels(arpa.keys, len(arpa.vocabulary) + 1, arpa.n)
    sizes = [base, *(s.stop - s.start for s in level[2:])]
    yield b"\\data\\\n" + "".join(f"ngram {m}={size}\n" for m, size in enumerate(sizes, 1)).encode()
    names = [w.decode("utf-8", "surrogateescape") for w in arpa.vocabulary.words] + [BEGIN.decode()]
    log_prob, log_backoff = (
        np.minimum(x / LOG10, cap) for x, cap in ((arpa.log_prob, 0.0), (arpa.log_backoff, np.inf))
    )
    unigram = np.full(base, log_backoff[0] - math.log10(base - 1))
    weight, singles = np.zeros(base), arpa.keys[level[1]]
    unigram[singles] = log_prob[level[1]]
    unigram[-1] = NEVER
    if arpa.n > 1:
        weight[singles] = log_backoff[level[1]]
    yield from _section(1, unigram, names, weight if arpa.n > 1 else None)
    texts = [names[i] for i in singles.tolist()]
    for m in range(2, arpa.n + 1):
        parent = (arpa.keys[level[m]] // base - level[m - 1].start).tolist()
        last = (arpa.keys[level[m]] % base).tolist()
        texts = [f"{texts[h]} {names[w]}" for h, w in zip(parent, last)]
        yield from _section(m, log_prob[level[m]], texts, log_backoff[level[m]] if m < arpa.n else None)
    yield b"\n\\end\\\n"


def _section(m: int, log_prob: np.ndarray, texts: list[str], log_backoff: np.ndarray | None) -> Iterator[bytes]:
    yield f"\n\\{m}-grams:\n".encode()
    for low in range(0, len(texts), 1 << 16):
        part = slice(low, low + (1 << 16))
        columns = [log_prob[part].tolist(), texts[part]]
        if log_backoff is not None:
            columns.append(log_backoff[part].tolist())
        form = "\t".join(["%.8g", "%s", "%.8g"][: len(columns)]) + "\n"
        lines = [form % row for row in zip(*columns)]  # twice as fast as f-strings over a million lines
        yield "".join(lines).encode("utf-8", "surrogateescape")


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass
class Section:
    """N-grams of one length m, in the order of the file, followed by those that were added.

    Attributes:
        line: line number of the first.
        ids: words, rows x m.
        numbers: log10 of the probability and of the back-off weight, rows x 2; NaN for an unknown probability.
    """

    line: int
    ids: np.ndarray
    numbers: np.ndarray


def read_arpa(path: Path | str) -> Arpa:
    """Read a file, whichever toolkit wrote it.

    Args:
        path: the file, plain or gzipped.

    Returns:
        The model.

    Raises:
        UserError: there is no such file.
        DataError: the file is invalid; the message names the line and the defect.
    """
    path = Path(path)
    text = _content(path)
    reader = _Reader(path, text)
    sizes = reader.header()
    unigrams = reader.section(1, sizes[0])
    vocabulary, first = _vocabulary(reader, unigrams)
    sections = [first]
    for m, size in enumerate(sizes[1:], 2):
        sections.append(reader.numbered(m, reader.section(m, size), vocabulary))
    reader.expect(b"\\end\\")
    while True:
        arpa = _tables(path, vocabulary, sections)
        if not _close(arpa, sections):
            return arpa


def _content(path: Path) -> bytes:
    with machine_errors(path, "read"):
        if not path.is_file():
            raise UserError(f"{path}: no such file; expected an ARPA file, plain or .gz")
        content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: a damaged gzip file ({error})") from None
    content = content.removeprefix(b"\xef\xbb\xbf")
    return content.replace(b"\r\n", b"\n") if b"\r\n" in content else content


class _Reader:
    """A position in the text, with errors that name its line."""

    def __init__(self, path: Path, text: bytes):
        self.path, self.text, self.place = path, text, 0
        self.array, _ = buffer(text)

    def fail(self, what: str, line: int | None = None) -> NoReturn:
        number = self.text.count(b"\n", 0, self.place) + 1 if line is None else line
        raise DataError(f"{self.path}: line {number}: {what}")

    def line(self) -> bytes:
        """Return the next line that is not blank, without moving past it."""
        while True:
            stop = self.text.find(b"\n", self.place)
            stop = len(self.text) if stop < 0 else stop
            found = self.text[self.place : stop].strip()
            if found or stop == len(self.text):
                return found
            self.place = stop + 1

    def expect(self, wanted: bytes) -> None:
        found = self.line()
        if found != wanted:
            end = "the end of the file" if not found else repr(found[:40].decode(errors="replace"))
            self.fail(f"expected {wanted.decode()}, found {end}: not ARPA, or cut off or damaged")
        self.place = min(len(self.text), self.text.find(wanted, self.place) + len(wanted) + 1)

    def header(self) -> list[int]:
        """Return the number of n-grams of each length, from the head of the file."""
        self.expect(b"\\data\\")
        sizes: list[int] = []
        while (line := self.line()).startswith(b"ngram"):
            head = re.fullmatch(rb"ngram\s*(\d+)\s*=\s*(\d+)", line)
            if head is None:
                self.fail(f"expected 'ngram {len(sizes) + 1}=' and a count")
            order, size = map(int, head.groups())
            if order != len(sizes) + 1 or order > MAX_ORDER:
                self.fail(f"expected the count of {len(sizes) + 1}-grams; at most {MAX_ORDER} lengths, in order")
            if size * 4 > len(self.text):
                self.fail(f"{size:,} n-grams do not fit into a file of {len(self.text):,} bytes")
            sizes.append(size)
            self.place = self.text.find(line, self.place) + len(line)
        if not sizes:
            self.fail("expected 'ngram 1=' and a count")
        return sizes

    def section(self, m: int, size: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the line of the first n-gram, the numbers, and where each word begins and ends."""
        from chainrule.counting import word_kernels

        self.expect(f"\\{m}-grams:".encode())
        line = self.text.count(b"\n", 0, self.place) + 1
        numbers, words = np.empty((size, 2)), np.empty((size, m, 2), np.int64)
        self.place, read, wrong = word_kernels.entries(self.array, self.place, m, numbers, words)
        if wrong:
            reasons = {
                word_kernels.NUMBER: "expected a finite number, log10 of a probability",
                word_kernels.POSITIVE: "a log10 probability above 0",
                word_kernels.WORDS: f"expected a probability, {m} word(s) and at most one back-off weight",
                word_kernels.FEW: f"{read:,} {m}-grams where the head of the file says {size:,}",
            }
            self.fail(reasons[wrong], line + read)
        if (following := self.line()) and not following.startswith(b"\\"):
            self.fail(f"more {m}-grams than the {size:,} that the head of the file says")
        return line, numbers, words

    def numbered(self, m: int, found: tuple[int, np.ndarray, np.ndarray], vocabulary: Vocabulary) -> Section:
        """Return a section with its words as ids."""
        from chainrule.counting import word_kernels

        line, numbers, words = found
        ids = np.empty((len(words), m), np.int64)
        names = Vocabulary([*vocabulary.words, BEGIN], word_kernels.MISSING, vocabulary.end)
        unknown = word_kernels.numbered(self.array, words, *names.table, ids)
        if unknown != word_kernels.MISSING:
            self.fail("a word that is not among the 1-grams", line + int(unknown))
        return Section(line, ids, numbers)


def _vocabulary(reader: _Reader, found: tuple[int, np.ndarray, np.ndarray]) -> tuple[Vocabulary, Section]:
    """Return the words of the 1-grams in their order, without <s> and with <unk> last, and the 1-grams."""
    line, numbers, places = found
    listed = [reader.text[a:b] for a, b in places[:, 0].tolist()]
    row: dict[bytes, int] = {}
    for i, word in enumerate(listed):
        if row.setdefault(word, i) != i:
            reader.fail(f"the 1-gram {word.decode(errors='replace')!r} occurs twice", line + i)
    if END not in row:
        reader.fail("no </s> among the 1-grams: a model of sentences needs it", line - 1)
    unknown = next((word for word in (UNKNOWN, b"<UNK>") if word in row), None)
    if unknown is None:
        unknown, numbers = UNKNOWN, np.append(numbers, [[MISSING_UNKNOWN, 0.0]], 0)
        listed.append(UNKNOWN)
    words = [*(word for word in listed if word not in (BEGIN, unknown)), unknown]
    ids = {word: i for i, word in enumerate(words)} | {BEGIN: len(words)}
    vocabulary = Vocabulary(words, ids[unknown], ids[END])
    return vocabulary, Section(line, np.array([[ids[word]] for word in listed]), numbers)


def _tables(path: Path, vocabulary: Vocabulary, sections: list[Section]) -> Arpa:
    """Return the trie of all sections. DataError if a context is missing or an n-gram occurs twice."""
    from chainrule.counting import word_kernels

    base, bounds = len(vocabulary) + 1, [0, 1]
    keys, log_prob, log_backoff = [np.array([-1])], [np.zeros(1)], [np.zeros(1)]
    for m, section in enumerate(sections, 1):
        parent = np.zeros(len(section.ids), np.int64)
        lost = word_kernels.parents(section.ids, np.concatenate(keys), np.array([*bounds, 0]), base, parent)
        if lost != word_kernels.MISSING:
            line = section.line + lost
            raise DataError(f"{path}: line {line}: its first {m - 1} word(s) are no {m - 1}-gram of the file")
        key = parent * base + section.ids[:, -1]
        order = np.argsort(key, kind="stable")
        twice = np.flatnonzero(np.diff(key[order]) == 0)
        if len(twice):
            raise DataError(f"{path}: line {section.line + order[twice[0] + 1]}: this {m}-gram occurs twice")
        keys.append(key[order])
        log_prob.append(section.numbers[order, 0] * LOG10)
        if m < len(sections):
            log_backoff.append(section.numbers[order, 1] * LOG10)
        bounds.append(bounds[-1] + len(key))
    arrays = (np.concatenate(x) for x in (keys, log_prob, log_backoff))
    return _filled(Arpa(vocabulary, len(sections), *arrays))


def _suffixes(arpa: Arpa) -> np.ndarray:
    from chainrule.counting import kernels

    base = len(arpa.vocabulary) + 1
    first, suffix = first_children(arpa.keys, base, len(arpa.log_backoff)), np.empty(len(arpa.keys), np.int64)
    kernels.suffixes(arpa.keys, first, base, 1 + int(np.searchsorted(arpa.keys[1:], base)), suffix)
    return suffix


def _filled(arpa: Arpa) -> Arpa:
    """Set the probabilities of added n-grams (NaN) by backing off, shorter ones first."""
    if not np.isnan(arpa.log_prob).any():
        return arpa
    suffix, base = _suffixes(arpa), len(arpa.vocabulary) + 1
    for level in levels(arpa.keys, base, arpa.n)[2:]:
        new = level.start + np.flatnonzero(np.isnan(arpa.log_prob[level]))
        arpa.log_prob[new] = arpa.log_backoff[arpa.keys[new] // base] + arpa.log_prob[suffix[new]]
    return arpa


def _close(arpa: Arpa, sections: list[Section]) -> bool:
    """Add missing suffixes of n-grams to the sections; return if there were any."""
    base, found = len(arpa.vocabulary) + 1, False
    lost = np.flatnonzero(_suffixes(arpa) < 0)
    for m, level in enumerate(levels(arpa.keys, base, arpa.n)[3:], 3):
        rows = lost[(lost >= level.start) & (lost < level.stop)]
        columns = []
        for _ in range(m - 1):
            columns.append(arpa.keys[rows] % base)
            rows = arpa.keys[rows] // base
        if not len(rows):
            continue
        new = np.unique(np.stack(columns[::-1], 1), axis=0)
        section = sections[m - 2]
        section.ids = np.concatenate([section.ids, new])
        section.numbers = np.concatenate([section.numbers, np.tile([np.nan, 0.0], (len(new), 1))])
        found = True
    return found
