"""Read records of symbols: FASTA, ABC, tables, and lines of symbols with white space between."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from chainrule.core.errors import DataError, UserError
from chainrule.data.source import FORMATS, TEXTS, Found, locate, read_file, suffix
from chainrule.data.symbols import Form, Sequences, name_of
from chainrule.data.table import TABLES, Names, Table, asked_names, read_tables

FASTA = (".fasta", ".fa", ".fna", ".faa")
ABC = (".abc",)
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
READABLE = {"text": TEXTS, "table": TABLES, "fasta": FASTA, "abc": ABC}
OTHER_TASKS = {
    ("source", "target"): "translate",
    ("text", "label"): "classify",
    ("tokens", "tags"): "tag",
    ("image", "text"): "draw",
}


def recognise(source: str | Path) -> str:
    """``text``, ``table``, ``fasta`` or ``abc``: what DATA is by its suffixes; a folder that holds text is text.

    Raises DataError where a folder holds several other kinds, or nothing that can be read.
    """
    path = Path(source)
    if not path.is_dir():
        return next((kind for kind, known in READABLE.items() if path.exists() and suffix(path) in known), "text")
    present = {suffix(p) for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")}
    kinds = [kind for kind, known in READABLE.items() if present.intersection(known)]
    if "text" in kinds or not kinds:
        return "text"
    if len(kinds) > 1:
        names = ", ".join(sorted(present.intersection(FORMATS)))
        raise DataError(
            f"{path}: holds {names}: several kinds of data; give one of these files, or a folder of one kind"
        )
    return kinds[0]


def read_sequences(
    source: str | Path, columns: Names, group: str | None, on_bad: str, notes: list[str], form: Form | None = None
) -> tuple[str, dict[str, Sequences]]:
    """The name of DATA and its records of symbols by part; the single part ``all`` where no split is given.

    Args:
        columns: which columns of a table, as ``--columns`` says.
        group: the column whose value keeps records on one side of a split. Where a table has a row for each step, rows
            of one value that follow each other are a record.
        form: how records are written, where that is known already (a held-out file of a run).
    """
    kind = recognise(source)
    if kind == "table":
        return _from_tables(source, columns, group, on_bad, notes, form)
    for flag, value in (("columns", columns), ("group", group)):
        if value:
            raise UserError(f"--{flag}: {source} is no table; columns are those of .csv, .tsv, .jsonl or .parquet")
    found = locate(source, READABLE[kind])
    notes.extend(found.notes)
    written = form or Form({"text": "words"}.get(kind, kind))
    if form and (form.kind if form.kind in READABLE else "text") != kind:
        raise UserError(f"{source}: {kind} where the run was trained on records of the kind '{form.kind}'")
    reader = {"fasta": read_fasta, "abc": read_abc, "text": partial(_read_lines, written)}[kind]
    return found.name, {part: _read_all(found, part, reader, written, on_bad, notes) for part in found.parts}


def _read_all(found: Found, part: str, reader: object, form: Form, on_bad: str, notes: list[str]) -> Sequences:
    records: list[Sequence[str]] = []
    for path in found.parts[part]:
        text = read_file(path, on_bad, notes).tobytes().decode().replace("\r\n", "\n")
        records.extend(reader(path, text, notes))  # type: ignore[operator]
    return Sequences.of(form, records, None, str(found.parts[part][0]))


# ------------------------------------------------------------------------------------------------------- FASTA, ABC, lines


def read_fasta(path: Path, text: str, notes: list[str]) -> list[str]:
    """The sequences of a FASTA file. Lower case (soft masking) is read as upper case, gaps (``-``, ``.``) are left out;
    ``N``, ``X`` and the other ambiguity letters, and ``*``, are symbols like any other. Raises DataError.
    """
    entries: list[list[str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(">"):
            entries.append([])
        elif line.strip() and not line.startswith(";"):
            if not entries:
                raise DataError(f"{path}: line {number}: letters before the first '>': not FASTA")
            strange = re.search(r"[^A-Za-z*.\s-]", line)
            if strange:
                raise DataError(f"{path}: line {number}: {strange[0]!r} is no letter of a sequence")
            entries[-1].append("".join(line.split()))
    raw = ["".join(lines) for lines in entries]
    made = [entry.upper().replace("-", "").replace(".", "") for entry in raw]
    letters = sum(map(len, raw))
    lower, gaps = sum(sum(map(str.islower, e)) for e in raw), letters - sum(map(len, made))
    unknown = sum(entry.count("N") for entry in made)
    empty = sum(not entry for entry in made)
    for count, what in (
        (lower, "lower-case letters (soft masking) are read as upper case"),
        (gaps, "gaps (- or .) are left out"),
        (unknown, "N (any base, or asparagine) are kept as a symbol"),
        (empty, "entries without a letter are left out"),
    ):
        if count:
            notes.append(f"{path.name}: {count:,} {what}")
    if empty == len(made):
        raise DataError(f"{path}: no entry holds a sequence")
    notes.append(f"{path.name}: the names of entries (after '>') are not modelled")
    return [entry for entry in made if entry]


def read_abc(path: Path, text: str, notes: list[str]) -> list[str]:
    """The tunes of an ABC file: from a line ``X:`` to the next blank line, that line itself left out. Raises DataError."""
    tunes: list[str] = []
    held: list[str] | None = None
    outside = 0
    for line in [*text.split("\n"), ""]:
        if line.startswith("X:"):
            if held:
                tunes.append("\n".join(held))
            held = []
        elif not line.strip():
            if held:
                tunes.append("\n".join(held))
            held = None
        elif held is None:
            outside += 1
        else:
            held.append(line)
    if not tunes:
        raise DataError(f"{path}: no tune: a tune begins with a line such as X: 1 and holds at least one more")
    notes.append(f"{path.name}: the numbers of tunes (X:) are not modelled; generated tunes are numbered anew")
    if outside:
        notes.append(f"{path.name}: {outside:,} lines outside tunes are left out")
    return tunes


def _read_lines(form: Form, path: Path, text: str, notes: list[str]) -> list[list[str]]:
    if form.kind == "words":
        notes.append(f"{path.name}: a line is a record, and what white space separates are its symbols")
    try:
        return [form.read(record) for record in form.records(text)]
    except UserError as error:
        raise DataError(f"{path}: {error}") from None


# ----------------------------------------------------------------------------------------------------------------- tables


def _from_tables(
    source: str | Path, columns: Names, group: str | None, on_bad: str, notes: list[str], form: Form | None
) -> tuple[str, dict[str, Sequences]]:
    name, tables = read_tables(source, columns, on_bad, notes, keep=(group,) if group else ())
    first = next(iter(tables.values()))
    if group:
        first.need(group)
    picked = [n for n in first.names if n not in (group, "split")] if asked_names(columns) else _guess(first, notes)
    if len(picked) > 1 or not (picked[0] == "sequence" or _is_list(first.columns[picked[0]])):
        made = {part: _steps(table, picked, group, notes) for part, table in tables.items()}
    else:
        cells = {part: table.need(picked[0])[0] for part, table in tables.items()}
        written = form or _form_of([cell for part in cells.values() for cell in part], picked[0])
        made = {part: _records(tables[part], written, cells[part], group, notes) for part in tables}
    return name, made


def _guess(table: Table, notes: list[str]) -> list[str]:
    """The column of symbols of a table when nobody said which: ``sequence``, the only one of lists, or the only one."""
    names = [n for n in table.names if n != "split"]
    for pair, task in OTHER_TASKS.items():
        if set(pair) <= set(names):
            raise UserError(
                f"{table.files[0]}: columns {' and '.join(pair)} are for --task {task}; "
                f"for --task generate say which column holds symbols, for example --columns {names[-1]}"
            )
    if "sequence" in names:
        return ["sequence"]
    lists = [n for n in names if _is_list(table.columns[n])]
    if len(lists) == 1:
        notes.append(f"symbols are those of the column '{lists[0]}', the only one of lists")
        return lists
    if len(names) == 1 and all(NUMBER.fullmatch(cell) for cell in table.columns[names[0]]):
        raise UserError(f"{table.files[0]}: one column of numbers is for --task series; --columns symbol reads symbols")
    raise UserError(
        f"{table.files[0]}: which of the {len(names)} columns ({', '.join(names)}) hold symbols? For example --columns "
        f"{','.join(['-'] * (len(names) - 1) + ['sequence'])}: a record a row; other names: a symbol a row, columns in step; "
        "numbers need --task series, labels --task classify"
    )


def _is_list(cells: list[str]) -> bool:
    try:
        return all(cell.startswith("[") and isinstance(json.loads(cell), list) for cell in cells)
    except (ValueError, RecursionError):
        return False


def _form_of(cells: list[str], field: str) -> Form:
    """How the cells of a column of records are written, all alike. ``field``: the column's name."""
    if _is_list(cells):
        inner = json.loads(next((cell for cell in cells if cell.strip("[] ")), "[]"))
        if inner and isinstance(inner[0], list):
            return Form("chords", tuple(str(k + 1) for k in range(len(inner[0]))), bool(inner[0]) and isinstance(inner[0][0], str), field)  # fmt: skip
        return Form("list", plain=not inner or isinstance(inner[0], str), field=field)
    return Form("words" if any(len(cell.split()) > 1 for cell in cells) else "chars")


def _records(table: Table, form: Form, cells: list[str], group: str | None, notes: list[str]) -> Sequences:
    records: list[Sequence[str]] = []
    rows: list[int] = []
    for row, cell in enumerate(cells):
        try:
            symbols = cell.strip() if form.kind == "chars" else form.read(cell)
        except UserError as error:
            raise DataError(f"{table.where(row)}: {error}") from None
        if symbols:
            records.append(symbols)
            rows.append(row)
    if len(rows) < len(cells):
        notes.append(f"{len(cells) - len(rows):,} rows without a symbol are left out")
    if not rows:
        raise DataError(f"{table.files[0]}: no row holds a symbol")
    keys = [table.columns[group][row] for row in rows] if group else None
    return Sequences.of(form, records, keys, table.files[0])


def _steps(table: Table, names: list[str], group: str | None, notes: list[str]) -> Sequences:
    """A row a step, a column a voice: rows of one group that follow each other are a record; without groups all are one."""
    form = Form("steps", tuple(names) if len(names) > 1 else ())
    columns = [[name_of(cell.strip()) for cell in column] for column in table.need(*names)]
    steps = list(zip(*columns))
    keys = table.columns[group] if group else [""] * len(table)
    runs = [(key, [row for row, _ in found]) for key, found in groupby(enumerate(keys), key=lambda pair: pair[1])]
    records = [
        form.interleave([steps[r] for r in rows]) if form.voices else [steps[r][0] for r in rows] for _, rows in runs
    ]
    notes.append(f"a row is a step of {' and '.join(names)}" + (f", rows of one {group} are a record" if group else ""))
    return Sequences.of(form, records, [key for key, _ in runs] if group else None, table.files[0])
