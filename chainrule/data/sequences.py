"""Read records of symbols: FASTA, ABC, tables, and lines of symbols with white space between."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chainrule.core.errors import DataError, UserError
from chainrule.data.source import FORMATS, TEXTS, Found, locate, read_file, suffix
from chainrule.data.symbols import Form, Sequences, name_of
from chainrule.data.table import NUMBER, TABLES, Table, TableOptions, asked_names, read_tables, times_of

FASTA = (".fasta", ".fa", ".fna", ".faa")
ABC = (".abc",)
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
    source: str | Path, options: TableOptions, on_bad: str, notes: list[str], form: Form | None = None
) -> tuple[str, dict[str, Sequences]]:
    """The name of DATA and its records of symbols by part; the single part ``all`` where no split is given.

    Args:
        options: which columns of a table, as ``--columns`` says; and the column whose value keeps records on one side of a
            split. Where a table has a row for each step, all rows of one value are a record, in the order of the file or,
            where a column of times is named, of these.
        form: how records are written, where that is known already (a held-out file of a run).
    """
    kind = recognise(source)
    if kind == "table":
        return _from_tables(source, options, on_bad, notes, form)
    for flag, _ in options.given():
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
    source: str | Path, options: TableOptions, on_bad: str, notes: list[str], form: Form | None
) -> tuple[str, dict[str, Sequences]]:
    name, tables = read_tables(source, options.columns, on_bad, notes, keep=options.further)
    first = next(iter(tables.values()))
    first.need(*options.further)
    asked = asked_names(options.columns)
    picked = (
        [n for n in first.names if n not in (*options.further, "split")] if asked else _guess(first, options, notes)
    )
    if len(picked) > 1 or not (picked[0] == "sequence" or _is_list(first.columns[picked[0]])):
        return name, {part: _steps(table, picked, options, notes) for part, table in tables.items()}
    if options.time:
        raise UserError(
            f"--time {options.time}: a row of {source} is a whole record ({picked[0]}); only rows that are steps are "
            "ordered"
        )
    cells = {part: table.need(picked[0])[0] for part, table in tables.items()}
    written = form or _form_of([cell for part in cells.values() for cell in part], picked[0])
    return name, {part: _records(tables[part], written, cells[part], options.group, notes) for part in tables}


def _guess(table: Table, options: TableOptions, notes: list[str]) -> list[str]:
    """The column of symbols of a table when nobody said which: ``sequence``, the only one of lists, or the only one."""
    names = [n for n in table.names if n not in ("split", *options.further)]
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
    first = [table.columns[n][0].strip() for n in names]
    if len(names) > 1 and all(map(str.isdigit, names)) and not any(map(NUMBER.fullmatch, first)):
        raise UserError(
            f"{table.files[0]}: which column holds symbols? The first line has: {', '.join(first)[:80]}; for example "
            f"--columns {first[-1]} (--group: the column of what a record is, --time: of its order), or where that line "
            f"is no header --columns {','.join(['-'] * (len(names) - 1) + ['sequence'])}: a record a row; numbers need "
            "--task series, labels --task classify"
        )
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


def _steps(table: Table, names: list[str], options: TableOptions, notes: list[str]) -> Sequences:
    """A row a step, a column a voice: all rows of one group are a record; without groups all rows are one."""
    form = Form("steps", tuple(names) if len(names) > 1 else ())
    columns = [[name_of(cell.strip()) for cell in column] for column in table.need(*names)]
    _refuse_text(table, names, columns)
    steps = list(zip(*columns))
    told = f"a row is a step of {' and '.join(names)}"
    groups = _grouped(table, options)
    records = [
        form.interleave([steps[r] for r in rows]) if form.voices else [steps[r][0] for r in rows]
        for rows in groups.values()
    ]
    if options.group:
        many = f"{len(records):,} record{'s' * (len(records) != 1)}"
        told += f", all rows of one {options.group} are a record: {len(table):,} rows, {many}"
    if options.time:
        told += f"; {_reordered(groups):,} rows were reordered by {options.time}"
    notes.append(told)
    return Sequences.of(form, records, list(groups) if options.group else None, table.files[0])


def _refuse_text(table: Table, names: list[str], columns: list[list[str]]) -> None:
    """Raises DataError for a column of running text: taken for symbols, hardly any would occur twice."""
    for name, cells in zip(names, columns):
        different = len(set(cells))
        if 2 * different > len(cells) >= 20 and 2 * sum(" " in cell for cell in cells) > len(cells):
            raise DataError(
                f"{table.files[0]}: column '{name}' holds text, not symbols ({different:,} of {len(cells):,} cells "
                "differ): write it to a .txt file, a line each, and give that with --unit lines"
            )


def _grouped(table: Table, options: TableOptions) -> dict[str, list[int]]:
    """The rows of each value of the group column, in order. With times, rows follow their time (equal times: the order of the file)
    and groups the time of their first row, so that the order of the rows in the file does not matter.
    """
    keys = table.columns[options.group] if options.group else [""] * len(table)
    times = times_of(table, options.time) if options.time else None
    order = sorted(range(len(table)), key=times.__getitem__) if times else range(len(table))
    groups: dict[str, list[int]] = {}
    for row in order:
        groups.setdefault(keys[row], []).append(row)
    if not times:
        return groups
    return dict(sorted(groups.items(), key=lambda pair: (times[pair[1][0]], pair[0])))


def _reordered(groups: dict[str, list[int]]) -> int:
    """How many rows stand at another place of their record than they would in the order of the file."""
    return sum(row != before for rows in groups.values() for row, before in zip(rows, sorted(rows)))
