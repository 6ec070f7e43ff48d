"""FASTA: an entry is a record, its letters are the symbols."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from chainrule.core.errors import DataError
from chainrule.core.plural import plural
from chainrule.data.formats import RecordReader, register_reader

LOWER = (
    "lower-case letter (soft masking) is read as upper case",
    "lower-case letters (soft masking) are read as upper case",
)
ANY = "N (any base, or asparagine) is kept as a symbol", "N (any base, or asparagine) are kept as a symbol"
WIDTH = 60
"""Letters on a line."""


@register_reader("fasta", suffixes=(".fasta", ".fa", ".fna", ".faa"))
class Fasta(RecordReader):
    """Sequences of nucleotides or amino acids. The names of entries (after ``>``) are not modelled."""

    def matches(self, head: bytes) -> bool:
        return re.match(rb">[^\n]*\n[A-Za-z*-]{10,}\r?(\n|$)", head) is not None

    def records(self, path: Path, text: str, notes: list[str]) -> Sequence[str]:
        """Lower case (soft masking) is read as upper case, gaps (``-``, ``.``) are left out; ``N``, ``X``, the other
        ambiguity letters and ``*`` are symbols like any other.
        """
        raw = _entries(path, text)
        made = [entry.upper().replace("-", "").replace(".", "") for entry in raw]
        empty = made.count("")
        for count, one, more in (
            (sum(sum(map(str.islower, e)) for e in raw), *LOWER),
            (sum(map(len, raw)) - sum(map(len, made)), "gap (- or .) is left out", "gaps (- or .) are left out"),
            (sum(entry.count("N") for entry in made), *ANY),
            (empty, "entry without a letter is left out", "entries without a letter are left out"),
        ):
            if count:
                notes.append(f"{path.name}: {plural(count, one, more)}")
        if empty == len(made):
            raise DataError(f"{path}: no entry holds a sequence")
        notes.append(f"{path.name}: the names of entries (after '>') are not modelled")
        return [entry for entry in made if entry]

    def split(self, text: str) -> list[str]:
        return re.split(r"^(?=>)", text, flags=re.MULTILINE) if ">" in text else text.split("\n")

    def parse(self, record: str) -> str:
        return "".join(line for line in record.split("\n") if not line.startswith(">")).upper().replace(" ", "")

    def write(self, symbols: str, number: int) -> str:
        return "\n".join([f">{number}", *(symbols[k : k + WIDTH] for k in range(0, len(symbols), WIDTH))])


def _entries(path: Path, text: str) -> list[str]:
    entries: list[list[str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(">"):
            entries.append([])
        elif line.strip() and not line.startswith(";"):
            if not entries:
                raise DataError(f"{path}: line {number}: letters before the first '>': not FASTA")
            if strange := re.search(r"[^A-Za-z*.\s\0\ud800-\udfff-]", line):
                raise DataError(f"{path}: line {number}: {strange[0]!r} is no letter of a sequence")
            entries[-1].append("".join(line.split()))
    return ["".join(lines) for lines in entries]
