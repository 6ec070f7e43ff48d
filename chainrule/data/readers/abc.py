"""ABC: a tune is a record, its characters are the symbols."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from chainrule.core.errors import DataError
from chainrule.core.plural import plural
from chainrule.data.formats import RecordReader, register_reader


@register_reader("abc", suffixes=(".abc",))
class Abc(RecordReader):
    """Tunes, from a line ``X:`` to the next blank line. The number of a tune (``X:``) is not modelled."""

    def matches(self, head: bytes) -> bool:
        return re.match(rb"(%[^\n]*\n|\s)*X:\s*\d+\s*\n[A-Za-z]:", head) is not None and b"\nK:" in head

    def records(self, path: Path, text: str, notes: list[str]) -> Sequence[str]:
        tunes: list[list[str]] = []
        inside, outside = False, 0
        for line in text.split("\n"):
            if line.startswith("X:"):
                tunes.append([])
                inside = True
            elif not line.strip():
                inside = False
            elif inside:
                tunes[-1].append(line)
            else:
                outside += 1
        if not any(tunes):
            raise DataError(f"{path}: no tune: a tune begins with a line such as X: 1 and holds at least one more")
        notes.append(f"{path.name}: the numbers of tunes (X:) are not modelled; generated tunes are numbered anew")
        if outside:
            notes.append(f"{path.name}: {plural(outside, 'line outside tunes is', 'lines outside tunes are')} left out")
        if empty := tunes.count([]):
            one, more = "tune without a line after X: is left out", "tunes without a line after X: are left out"
            notes.append(f"{path.name}: {plural(empty, one, more)}")
        return ["\n".join(tune) for tune in tunes if tune]

    def split(self, text: str) -> list[str]:
        return [tune.strip("\n") for tune in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n"))]

    def parse(self, record: str) -> str:
        return re.sub(r"\AX:[^\n]*\n?", "", record)

    def write(self, symbols: str, number: int) -> str:
        return f"X: {number}\n{symbols}\n"
