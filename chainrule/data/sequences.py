"""Read records of symbols: tables, files of registered record formats, and lines of symbols between white space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from chainrule.core.errors import DataError, UserError
from chainrule.data.formats import TEXTS, Reader, TableReader, reader_of, readers, record_reader, suffix, table_suffixes
from chainrule.data.source import check_bad, is_marked, known_suffixes, locate, read_marked
from chainrule.data.symbols import Form, Sequences, name_of
from chainrule.data.table import NUMBER, TASK_COLUMNS, Table, TableOptions, asked_names, read_tables, times_of


def recognise(source: str | Path) -> str:
    """Return the kind of DATA: ``text``, ``table``, or the name of a `RecordReader` such as ``fasta``.

    A file is recognised by its suffix or else by its first bytes, a folder by the suffixes in it; a folder that holds
    text is text.

    Raises:
        DataError: a folder holds several other kinds.
    """
    path = Path(source)
    if not path.is_dir():
        return _kind(reader_of(path) if path.exists() else None)
    present = {suffix(p) for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")}
    kinds = {_kind(reader) for reader in readers().values() if present.intersection(reader.suffixes)}
    if present.intersection(TEXTS) or not kinds:
        return "text"
    if len(kinds) > 1:
        names = ", ".join(sorted(present & known_suffixes()))
        raise DataError(
            f"{path}: holds {names}: several kinds of data; give one of these files, or a folder of one kind"
        )
    return kinds.pop()


def _kind(reader: Reader | None) -> str:
    return "text" if reader is None else "table" if isinstance(reader, TableReader) else reader.name


def text_suffixes(kind: str) -> tuple[str, ...]:
    """Return the suffixes of files of a kind that can be read as text: of ``text`` or of a `RecordReader`."""
    reader = record_reader(kind)
    return reader.suffixes if reader else TEXTS


def read_sequences(
    source: str | Path, options: TableOptions, on_bad: str, notes: list[str], form: Form | None = None
) -> tuple[str, dict[str, Sequences]]:
    """Read records of symbols.

    Args:
        source: a file or a folder.
        options: flags for tables. In a table with a row for each step, all rows with the same value of ``group`` are
            a record, in the order of ``time`` or else of the file.
        on_bad: ``stop`` at a defect, or ``skip`` the line or row.
        notes: remarks on what was left out or guessed are appended here.
        form: how records are written, if that is known (for a held-out file of a run).

    Returns:
        The name of DATA, and records by split; the single split ``all`` where none is given.

    Raises:
        DataError: data that cannot be read.
        UserError: a flag does not fit the data, or a table does not tell which column holds symbols.
    """
    kind = recognise(source)
    if kind == "table":
        return _from_tables(source, options, on_bad, notes, form)
    for flag, _ in options.given():
        raise UserError(f"--{flag}: {source} is no table; columns are those of {', '.join(table_suffixes())}")
    found, reader = locate(source, text_suffixes(kind)), record_reader(kind)
    notes.extend(found.notes)
    written = form or Form("words" if kind == "text" else kind)
    if reader != record_reader(written.kind):
        raise UserError(f"{source}: {kind} where the run was trained on records of the kind '{written.kind}'")
    parts = {}
    for part, paths in found.parts.items():
        records: list[Sequence[str]] = []
        for path in paths:
            text = read_marked(path, on_bad, notes).replace("\r\n", "\n")
            read = reader.records(path, text, notes) if reader else _lines(written, path, text, notes)
            good = [record for record in read if not is_marked("".join(record))]
            check_bad(path, len(read) - len(good), len(good), "record", notes)
            records.extend(good)
        parts[part] = Sequences.of(written, records, None, str(paths[0]))
    return found.name, parts


def _lines(form: Form, path: Path, text: str, notes: list[str]) -> list[list[str]]:
    if form.kind == "words":
        notes.append(f"{path.name}: a line is a record, and what white space separates are its symbols")
    try:
        return [form.read(record) for record in form.records(text)]
    except UserError as error:
        raise DataError(f"{path}: {error}") from None


# ------------------------------------------------------------------------------------------------------------- tables


def _from_tables(
    source: str | Path, options: TableOptions, on_bad: str, notes: list[str], form: Form | None
) -> tuple[str, dict[str, Sequences]]:
    name, tables = read_tables(source, options.columns, on_bad, notes, keep=options.further)
    first = next(iter(tables.values()))
    first.need(*options.further)
    names = [n for n in first.names if n not in (*options.further, "split")]
    if not names:
        flag, column = options.given()[-1]
        raise UserError(f"--{flag} {column}: no column of symbols is left; --columns and --{flag} take different ones")
    picked = names if asked_names(options.columns) else [_guess(first, names, notes)]
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


def _guess(table: Table, names: list[str], notes: list[str]) -> str:
    """Return the column of symbols if ``--columns`` was not given: ``sequence``, or the only column of lists."""
    for pair, task in TASK_COLUMNS.items():
        if set(pair) <= set(names):
            raise UserError(
                f"{table.files[0]}: columns {' and '.join(pair)} are for --task {task}; "
                f"for --task generate say which column holds symbols, for example --columns {names[-1]}"
            )
    if "sequence" in names:
        return "sequence"
    lists = [n for n in names if _is_list(table.columns[n])]
    if len(lists) == 1:
        notes.append(f"symbols are those of the column '{lists[0]}', the only one of lists")
        return lists[0]
    if len(names) == 1 and all(NUMBER.fullmatch(cell) for cell in table.columns[names[0]]):
        raise UserError(f"{table.files[0]}: one column of numbers is for --task series; --columns symbol reads symbols")
    first = [table.columns[n][0].strip() for n in names]
    last = ",".join(["-"] * (len(names) - 1) + ["sequence"])
    if len(names) > 1 and all(map(str.isdigit, names)) and not any(map(NUMBER.fullmatch, first)):
        raise UserError(
            f"{table.files[0]}: which column holds symbols? The first line has: {', '.join(first)[:80]}; for example "
            f"--columns {first[-1]} (--group: the column of what a record is, --time: of its order), or where that "
            f"line is no header --columns {last}: a record a row; numbers need --task series, labels --task classify"
        )
    raise UserError(
        f"{table.files[0]}: which of the {len(names)} columns ({', '.join(names)}) hold symbols? For example --columns "
        f"{last}: a record a row; other names: a symbol a row, columns in step; "
        "numbers need --task series, labels --task classify"
    )


def _is_list(cells: list[str]) -> bool:
    try:
        return all(cell.startswith("[") and isinstance(json.loads(cell), list) for cell in cells)
    except (ValueError, RecursionError):
        return False


def _form_of(cells: list[str], field: str) -> Form:
    """Return how the cells of a column of records are written; ``field`` is the name of the column."""
    if not _is_list(cells):
        return Form("words" if any(len(cell.split()) > 1 for cell in cells) else "chars")
    inner = json.loads(next((cell for cell in cells if cell.strip("[] ")), "[]"))
    if inner and isinstance(inner[0], list):
        voices = tuple(str(k + 1) for k in range(len(inner[0])))
        return Form("chords", voices, isinstance(next(iter(inner[0]), None), str), field)
    return Form("list", plain=not inner or isinstance(inner[0], str), field=field)


def _records(table: Table, form: Form, cells: list[str], group: str | None, notes: list[str]) -> Sequences:
    records: dict[int, Sequence[str]] = {}
    for row, cell in enumerate(cells):
        try:
            symbols = cell.strip() if form.kind == "chars" else form.read(cell)
        except UserError as error:
            raise DataError(f"{table.where(row)}: {error}") from None
        if symbols:
            records[row] = symbols
    if len(records) < len(cells):
        notes.append(f"{len(cells) - len(records):,} rows without a symbol are left out")
    if not records:
        raise DataError(f"{table.files[0]}: no row holds a symbol")
    keys = [table.columns[group][row] for row in records] if group else None
    return Sequences.of(form, list(records.values()), keys, table.files[0])


def _steps(table: Table, names: list[str], options: TableOptions, notes: list[str]) -> Sequences:
    """Return records of a table with a row for each step and a column for each voice."""
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
        moved = sum(row != before for rows in groups.values() for row, before in zip(rows, sorted(rows)))
        told += f"; {moved:,} rows were reordered by {options.time}" if moved else ""
    notes.append(told)
    return Sequences.of(form, records, list(groups) if options.group else None, table.files[0])


def _refuse_text(table: Table, names: list[str], columns: list[list[str]]) -> None:
    """Raise DataError for a column of running text: as symbols, hardly any would occur twice."""
    for name, cells in zip(names, columns):
        different = len(set(cells))
        if 2 * different > len(cells) >= 20 and 2 * sum(" " in cell for cell in cells) > len(cells):
            raise DataError(
                f"{table.files[0]}: column '{name}' holds text, not symbols ({different:,} of {len(cells):,} cells "
                "differ): write it to a .txt file, a line each, and give that with --unit lines"
            )


def _grouped(table: Table, options: TableOptions) -> dict[str, list[int]]:
    """Return the rows of each value of the group column.

    With times, rows are ordered by time (equal times: as in the file) and groups by the time of their first row, so
    that the order of rows in the file does not matter.
    """
    keys = table.columns[options.group] if options.group else [""] * len(table)
    times = times_of(table, options.time) if options.time else None
    groups: dict[str, list[int]] = {}
    for row in sorted(range(len(table)), key=times.__getitem__) if times else range(len(table)):
        groups.setdefault(keys[row], []).append(row)
    return dict(sorted(groups.items(), key=lambda pair: (times[pair[1][0]], pair[0]))) if times else groups
