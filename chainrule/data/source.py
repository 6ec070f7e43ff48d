"""Find the files of DATA and read them as bytes that are known to be UTF-8.

All text, of files and of standard input, passes through `checked`: it decodes what is not UTF-8 (``--encoding``), stops
at a bad line or skips it (``--on-bad``), drops a byte-order mark and composes characters (``--normalize``).

A plain file is memory-mapped and never loaded whole. Bytes that have to be written anew (unpacked, joined, with bad
lines dropped) stay in memory up to 64 MB and go to a memory-mapped file in the cache folder beyond that.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import itertools
import logging
import os
import re
import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chainrule.core.errors import DataError, UserError, nearest, system_errors
from chainrule.core.plural import plural
from chainrule.data.formats import TEXTS, readers, suffix
from chainrule.data.text_encoding import Decoding, compose, is_utf8, likely_encoding, recoded, spoken

log = logging.getLogger(__name__)

CHUNK = 1 << 22
"""Bytes of a mapped file that are looked at together."""
SAMPLE = 1 << 16
"""Bytes that are looked at to name the encoding of a file."""
MEMORY_LIMIT = 64 << 20
UNITS = ("stream", "lines", "docs")
PARTS = ("train", "valid", "test")
PART_NAMES = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "validation": "valid", "test": "test"}
"""Names of files, folders and values of a column ``split`` that tell a split."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
BOM = b"\xef\xbb\xbf"
MARK = re.compile("[\ud800-\udfff]")
"""Characters that ``surrogateescape`` makes of bytes that are no text."""


@dataclass(frozen=True)
class Found:
    """The files of DATA: its name and the paths of each split; the single key ``all`` where no split is given."""

    name: str
    parts: dict[str, list[Path]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Text:
    """Checked bytes of one file or of several in a row; file i is ``content[bounds[i]:bounds[i + 1]]``."""

    content: np.ndarray
    bounds: np.ndarray
    files: tuple[str, ...]

    def where(self, offset: int) -> str:
        """Return the place of a byte of ``content`` for messages: ``corpus.txt: line 12``."""
        file = int(np.searchsorted(self.bounds, offset, "right")) - 1
        before = self.content[self.bounds[file] : offset]
        return f"{self.files[file]}: line {count_byte(before, 10) + 1}"


def known_suffixes() -> set[str]:
    """Return the suffixes that tell the format of a file."""
    return {*TEXTS, *IMAGES, ".npz", ".npy"}.union(*(reader.suffixes for reader in readers().values()))


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder and of its sub-folders, sorted, without hidden ones (``.DS_Store``, ``._a.png``)."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in files if not any(x.startswith((".", "__MACOSX")) for x in p.relative_to(folder).parts))


def chunked(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (offset, view) of consecutive chunks, so that a mapped file passes through memory piece by piece."""
    for start in range(0, len(array), CHUNK):
        yield start, array[start : start + CHUNK]


def count_byte(array: np.ndarray, value: int) -> int:
    """Return how often a byte occurs in a uint8 array."""
    return sum(int(np.count_nonzero(chunk == value)) for _, chunk in chunked(array))


def sha256(arrays: Iterable[np.ndarray]) -> str:
    """Return the hash of all bytes of the arrays in a row, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        for _, chunk in chunked(array):
            digest.update(np.ascontiguousarray(chunk).data)
    return digest.hexdigest()


def check_unit(unit: str | None) -> str:
    """Return the unit of a record, ``stream`` by default. Raises UserError for an unknown one."""
    if unit is not None and unit not in UNITS:
        raise UserError(f"--unit {unit}: no such unit; {nearest(unit, UNITS)}")
    return unit or "stream"


def allowed(lines: int) -> int:
    """Return how many bad lines of a file are skipped at most: 0.1 %, or ten."""
    return max(10, lines // 1000)


def locate(source: str | Path, suffixes: Collection[str] = TEXTS) -> Found:
    """Find the files of DATA and the split that each belongs to.

    In a folder, files named ``train.*``, ``valid.*`` (or ``val``, ``dev``, ``validation``) and ``test.*``, or lying in
    folders of these names, are a given split.

    Args:
        source: a file or a folder.
        suffixes: suffixes of the files that are wanted; a single file may have any suffix that tells no format.

    Raises:
        DataError: no such file, no file of these suffixes, or a file of a format that is not wanted.
        MachineError: no permission.
    """
    path = Path(source)
    with system_errors(path):
        if path.is_dir():
            return _locate_in_folder(path, suffixes)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
    if not path.is_file():
        raise DataError(f"{path}: neither a file nor a folder")
    if suffix(path) in known_suffixes() and suffix(path) not in suffixes:
        raise DataError(
            f"{path}: {suffix(path)} cannot be read as {_wanted(suffixes)}; give such a file or a folder of them"
        )
    return Found(path.name.split(".")[0] or path.name, {"all": [path]})


def _wanted(suffixes: Collection[str]) -> str:
    return "text (.txt, .txt.gz)" if suffixes == TEXTS else f"{', '.join(suffixes)} (or .gz)"


def _locate_in_folder(folder: Path, suffixes: Collection[str]) -> Found:
    name = folder.resolve().name
    files = visible_files(folder)
    wanted = [p for p in files if suffix(p) in suffixes]
    if not wanted:
        other = sorted({suffix(p) for p in files} & known_suffixes())
        reason = f"holds {', '.join(other)}" if other else "no data files in this folder"
        raise DataError(f"{folder}: {reason}; {_wanted(suffixes)} would be read here")
    given: dict[str, list[Path]] = {}
    for path in wanted:
        part = PART_NAMES.get(path.relative_to(folder).parts[0].split(".")[0].lower())
        if part:
            given.setdefault(part, []).append(path)
    if set(given) == {"train"} or not given:
        return Found(name, {"all": given.get("train", wanted)})
    if "train" not in given:
        raise DataError(f"{folder}: {', '.join(sorted(given))} given, but no train file to go with it")
    left = len(wanted) - sum(map(len, given.values()))
    told = plural(left, "file outside the given split is left out", "files outside the given split are left out")
    return Found(name, {part: given[part] for part in PARTS if part in given}, [told] * (left > 0))


def read_file(path: Path, decoding: Decoding, notes: list[str]) -> np.ndarray:
    """Return the bytes of a text file (unpacked, without byte-order mark); uint8, memory-mapped where possible.

    Args:
        path: the file, plain or ``.gz``.
        decoding: whether a line that is no text stops reading or is left out, the encoding of the file, and the normal
            form of its characters.
        notes: remarks on dropped lines, byte-order marks and composed characters are appended here.

    Raises:
        DataError: empty, damaged ``.gz``, binary, or not UTF-8 (with file, line, byte and the likely encoding), or too
            many lines to skip.
        MachineError: the file cannot be opened or the cache cannot be written.
    """
    return checked(path, unpacked(path), decoding, notes)


def read_text(path: Path, decoding: Decoding, notes: list[str]) -> str:
    """Return the content of a text file as one string. Arguments and errors as for `read_file`."""
    return read_file(path, decoding, notes).tobytes().decode()


def read_marked(path: Path, decoding: Decoding, notes: list[str]) -> str:
    """Return the content of a text file; under ``skip``, bad bytes stay in it, and `is_marked` finds them.

    It is for records that are more than a line, or that other files are aligned with: the reader drops whole records.
    Arguments and errors as for `read_file`.
    """
    if not decoding.skips:
        return read_text(path, decoding, notes)
    try:
        text = unpacked(path).tobytes().decode(decoding.encoding or "utf-8", "surrogateescape")
    except UnicodeError as error:  # wide encodings keep no bad bytes
        raise DataError(f"{path}: not {spoken(str(decoding.encoding))}: {error}") from None
    if text.startswith("\ufeff"):
        text = text[1:]
        notes.append(f"{path.name}: byte-order mark dropped")
    if not text.strip():
        raise DataError(f"{path}: {'only white space' if text else 'empty'}; give a file that holds text")
    made = decoding.compose(text)
    if made != text:
        notes.append(_note_composed(path, made.split("\n"), text.split("\n")))
    return made


def is_marked(text: str) -> bool:
    """Return True if a part of what `read_marked` returned holds bytes that are no text."""
    return (not text.isascii() and MARK.search(text) is not None) or "\0" in text


def check_bad(path: Path, bad: int, good: int, what: str, notes: list[str]) -> None:
    """Append a note on records that ``skip`` dropped. Raises DataError if they are more than ten and 0.1 % of all."""
    if bad > allowed(bad + good):
        raise DataError(f"{path}: {bad:,} bad {what}s, too many to skip: is this the right format and encoding?")
    if bad:
        notes.append(f"{path.name}: {bad:,} bad {what}{'s' * (bad > 1)} dropped (--on-bad skip)")


def checked(path: Path, raw: np.ndarray, decoding: Decoding, notes: list[str]) -> np.ndarray:
    """Return bytes as UTF-8 without bad lines and byte-order mark, as `read_file` does; ``path`` names them."""
    if decoding.encoding not in (None, "utf-8"):
        raw = _decoded(path, raw, decoding, notes)
    bad = _bad_lines(path, raw, decoding)
    if bad:
        good = zip([0, *(end for _, end in bad)], [*(start for start, _ in bad), len(raw)])
        raw = gather(chunk for start, end in good for _, chunk in chunked(raw[start:end]))
        notes.append(f"{path.name}: {len(bad)} bad line{'s' * (len(bad) > 1)} dropped (--on-bad skip)")
    if raw[:3].tobytes() == BOM:
        raw = raw[3:]
        notes.append(f"{path.name}: byte-order mark dropped")
    if not any(np.any(chunk > 32) for _, chunk in chunked(raw)):
        raise DataError(f"{path}: {'only white space' if len(raw) else 'empty'}; give a file that holds text")
    return _composed(path, raw, notes) if decoding.normalize else raw


def _decoded(path: Path, raw: np.ndarray, decoding: Decoding, notes: list[str]) -> np.ndarray:
    """Return bytes of another encoding as UTF-8; ``skip`` leaves out the lines that hold a byte outside it."""
    encoding = str(decoding.encoding)
    try:
        return gather(np.frombuffer(x, np.uint8) for x in recoded((c.tobytes() for _, c in chunked(raw)), encoding))
    except UnicodeError:
        whole = raw.tobytes()
    if is_utf8(whole):
        raise DataError(f"{path}: not {spoken(encoding)} but UTF-8; leave out --encoding {encoding}")
    lines = whole.decode(encoding, "replace").split("\n")
    bad = [k for k, line in enumerate(lines) if "\N{REPLACEMENT CHARACTER}" in line]
    told = f"{path}: line {bad[0] + 1 if bad else len(lines)}: not {spoken(encoding)}"
    if not decoding.skips or not bad or len(bad) > allowed(len(lines)):
        likely = likely_encoding(whole)
        told += f": looks like {spoken(likely)}; --encoding {likely} reads it" if likely and likely != encoding else ""
        hint = "; --on-bad skip drops such lines and counts them" if len(bad) <= allowed(len(lines)) else ""
        raise DataError(told + (hint or f"; {len(bad):,} lines are bad: is this the encoding of the file?"))
    log.warning("%s; %d lines dropped", told, len(bad))
    notes.append(f"{path.name}: {len(bad)} bad line{'s' * (len(bad) > 1)} dropped (--on-bad skip)")
    dropped = set(bad)
    kept = "\n".join(line for k, line in enumerate(lines) if k not in dropped)
    return np.frombuffer(kept.encode(), np.uint8)


def _composed(path: Path, raw: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return text whose characters are composed (NFC), with a note on the number of lines that change."""
    if not has_decomposed(raw):
        return raw
    lines = raw.tobytes().decode().split("\n")
    made = [compose(line) for line in lines]
    notes.append(_note_composed(path, made, lines))
    return np.frombuffer("\n".join(made).encode(), np.uint8)


def _note_composed(path: Path, made: list[str], lines: list[str]) -> str:
    one, more = "line holds decomposed characters and is", "lines hold decomposed characters and are"
    return f"{path.name}: {plural(sum(map(str.__ne__, made, lines)), one, more)} composed (Unicode NFC)"


def has_decomposed(raw: np.ndarray) -> bool:
    """Return True if UTF-8 text holds characters that are not composed (Unicode NFC)."""
    rest = b""
    for _, chunk in chunked(raw):
        block = rest + chunk.tobytes()
        end = block.rfind(b"\n") + 1 or len(block)
        rest = block[end:]
        text = block[:end].decode("utf-8", "ignore") if not block.isascii() else ""
        if compose(text) != text:
            return True
    text = rest.decode("utf-8", "ignore")
    return compose(text) != text


def unpacked(path: Path) -> np.ndarray:
    """Return the bytes of a file, unpacked if it is a ``.gz``, else memory-mapped. Raises as `read_file` does."""
    with system_errors(path):
        if path.name.lower().endswith(".gz"):
            return gather(_unpack(path))
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty; give a file that holds text")
        return np.memmap(path, np.uint8, mode="r")


def _unpack(path: Path) -> Iterator[np.ndarray]:
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(CHUNK):
                yield np.frombuffer(block, np.uint8)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); unpack a good copy") from error


def gather(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Return chunks of one dtype as one array: in memory while small, else a mapped file of the cache folder."""
    held: list[np.ndarray] = []
    size, rest = 0, iter(chunks)
    for chunk in rest:
        held.append(chunk)
        size += chunk.nbytes
        if size > MEMORY_LIMIT:
            return _spill(itertools.chain(held, rest), chunk.dtype)
    return np.concatenate(held) if held else np.zeros(0, np.uint8)


def _spill(chunks: Iterable[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Write chunks to a file of the cache folder (``$CHAINRULE_CACHE``, else ``~/.cache/chainrule``) and map it."""
    folder = Path(os.environ.get("CHAINRULE_CACHE") or Path.home() / ".cache" / "chainrule")
    digest = hashlib.sha256(dtype.str.encode())
    with system_errors(folder, "; CHAINRULE_CACHE names another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="part-") as place:
            temporary = Path(place) / "part"
            with temporary.open("wb") as file:
                for chunk in chunks:
                    block = np.ascontiguousarray(chunk).data
                    file.write(block)
                    digest.update(block)
            final = folder / f"{digest.hexdigest()}.{dtype.name}"
            temporary.replace(final)  # the name is the content: a reader never meets half a file
        return np.memmap(final, dtype, mode="r")


def _bad_lines(path: Path, raw: np.ndarray, decoding: Decoding) -> list[tuple[int, int]]:
    """Return spans of the lines that are not UTF-8 text. Raises DataError for the first one unless they are skipped.

    At most 0.1 % of the lines, or ten, are skipped: a file with more is probably of another kind.
    """
    bad: list[tuple[int, int]] = []
    position, line, counted, most, likely = 0, 1, 0, None, None
    while (offset := _first_bad(raw, position)) is not None:
        back, ahead = _line_feed(raw[:offset][::-1]), _line_feed(raw[offset:])
        start = 0 if back is None else offset - back
        line, counted = line + count_byte(raw[counted:start], 10), start
        likely = _likely(raw, start) if not bad else likely
        message = f"{path}: line {line}, byte {offset - start + 1} (offset {offset}): {_defect(raw, offset, likely)}"
        if not decoding.skips:
            raise DataError(message + _way_out(raw, likely, line == 1 and suffix(path) in (".csv", ".tsv")))
        most = allowed(count_byte(raw, 10)) if most is None else most
        if len(bad) == most:
            told = f"; --encoding {likely} reads it" if likely else ": is this a text file?"
            raise DataError(f"{message}; more than {most:,} lines are bad, too many to skip{told}")
        log.warning("%s; line dropped", message)
        position = len(raw) if ahead is None else offset + ahead + 1
        bad.append((start, position))
    return bad


def _defect(raw: np.ndarray, offset: int, likely: str | None) -> str:
    value = int(raw[offset])
    if likely is None and not value:
        return "a NUL byte (0x00): looks like a binary file"
    return f"not UTF-8 (0x{value:02x})" + (f": looks like {spoken(likely)}" if likely else "")


def _way_out(raw: np.ndarray, likely: str | None, header: bool) -> str:
    """Return what to type about bad lines: the likely encoding, and ``--on-bad skip`` where no header would be lost."""
    lines = raw[: 16 * SAMPLE].tobytes().split(b"\n")
    few = sum(not is_utf8(line) for line in lines) <= allowed(len(lines)) and not (likely or "").startswith("utf")
    told = [f"--encoding {likely} reads it"] if likely else ["--encoding says what it is, such as cp1252"] * header
    return "; ".join(["", *told, *(["--on-bad skip drops such lines and counts them"] if few and not header else [])])


def _likely(raw: np.ndarray, start: int) -> str | None:
    """Return the likely encoding by the beginning of a text, and the lines from the first bad one on."""
    head, rest = raw[:SAMPLE].tobytes(), raw[max(start, SAMPLE) :][:SAMPLE].tobytes()
    return likely_encoding(head + rest)


def _first_bad(raw: np.ndarray, position: int) -> int | None:
    """Return the offset of the first byte from ``position`` on that is NUL or does not belong to UTF-8."""
    decoder, place = codecs.getincrementaldecoder("utf-8")(), position
    for _, chunk in chunked(raw[position:]):
        pending = len(decoder.getstate()[0])  # bytes of a character that the last chunk cut
        block, valid = chunk.tobytes(), len(chunk)
        try:
            decoder.decode(block, final=place + len(block) == len(raw))
        except UnicodeDecodeError as error:
            valid = error.start - pending
        nul = block.find(b"\0", 0, max(valid, 0))
        if nul >= 0 or valid < len(block):
            return place + (nul if nul >= 0 else valid)
        place += len(block)
    return None


def _line_feed(raw: np.ndarray) -> int | None:
    """Return the offset of the first line feed."""
    found = ((start, chunk == 10) for start, chunk in chunked(raw))
    return next((start + int(feeds.argmax()) for start, feeds in found if feeds.any()), None)


def terminator(unit: str, several: bool) -> bytes:
    """Return the bytes that end a record: a newline, a blank line, or NUL where each file is one; none for a stream."""
    return {"stream": b"", "lines": b"\n", "docs": b"\0" if several else b"\n\n"}[unit]


def read_files(paths: list[Path], end: bytes, decoding: Decoding, notes: list[str]) -> Text:
    """Read files in order into one text. Arguments and errors as for `read_file`.

    Args:
        paths: the files.
        end: terminator of records, which is appended to a file that lacks it.
        decoding: how text is read.
        notes: remarks are appended here.
    """
    arrays = [read_file(path, decoding, notes) for path in paths]
    for path, array in zip(paths, arrays, strict=True):
        if any(b"\r\n" in chunk.tobytes() for _, chunk in chunked(array)):
            notes.append(f"{path.name}: Windows line ends (CRLF) are kept as they are")
        if not decoding.normalize and has_decomposed(array):
            notes.append(
                f"{path.name}: holds decomposed characters (Unicode NFD), whose bytes differ from those of composed "
                "ones that look alike; --normalize nfc composes them"
            )
    missing = [np.frombuffer(_missing(array, end), np.uint8) for array in arrays]
    sizes = [len(array) + len(rest) for array, rest in zip(arrays, missing)]
    content = arrays[0]
    if len(arrays) > 1 or len(missing[0]):
        content = gather(c for pair in zip(arrays, missing) for array in pair for _, c in chunked(array))
    return Text(content, np.cumsum([0, *sizes], dtype=np.int64), tuple(map(str, paths)))


def _missing(array: np.ndarray, end: bytes) -> bytes:
    tail = array[-2:].tobytes()
    return next(end[k:] for k in range(len(end), -1, -1) if tail.endswith(end[:k]))
