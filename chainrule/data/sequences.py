"""Read records of symbols: tables, files of registered record formats, and lines of symbols between white space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chainrule.core.errors import DataError, UserError
from chainrule.core.plural import plural
from chainrule.data.dates import is_date
from chainrule.data.formats import TEXTS, Reader, TableReader, reader_of, readers, record_reader, suffix, table_suffixes
from chainrule.data.headers import NUMBER
from chainrule.data.logs import MIN_STEPS, are_steps, as_steps
from chainrule.data.pauses import cut, longest_pause
from chainrule.data.source import check_bad, is_marked, known_suffixes, locate, read_marked
from chainrule.data.symbols import Form, Sequences, name_of
from chainrule.data.table import (
    TASK_COLUMNS,
    Table,
    TableOptions,
    asked_names,
    assigned,
    read_table,
    read_tables,
)
from chainrule.data.text_encoding import Decoding
from chainrule.data.times import read_times


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
    source: str | Path, options: TableOptions, decoding: Decoding, notes: list[str], form: Form | None = None
) -> tuple[str, dict[str, Sequences]]:
    """Read records of symbols.

    Args:
        source: a file or a folder.
        options: flags for tables. In a table with a row for each step, all rows with the same value of ``group`` are
            a record, in the order of ``time`` or else of the file.
        decoding: how text is read, and whether a defect stops reading or is left out.
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
        return _from_tables(source, options, decoding, notes, form)
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
            text = read_marked(path, decoding, notes).replace("\r\n", "\n")
            read = reader.records(path, text, notes) if reader else _lines(written, path, text, notes)
            good = [record for record in read if not is_marked("".join(record))]
            check_bad(path, len(read) - len(good), len(good), "record", notes)
            records.extend(good)
        parts[part] = Sequences.of(written, records, None, str(paths[0]))
    return found.name, parts


def _lines(form: Form, path: Path, text: str, notes: list[str]) -> list[list[str]]:
    if form.kind == "words":
        notes.append(f"{path.name}: a line is a record, and what white space separates are its symbols")
    found: list[list[str]] = []
    for record in form.records(text):
        try:
            found.append(form.read(record))
        except UserError as error:
            line = text[: text.index(record)].count("\n") + 1
            raise DataError(f"{path}: line {line}: {error}") from None
    return found


# ------------------------------------------------------------------------------------------------------------- tables


def _from_tables(
    source: str | Path, options: TableOptions, decoding: Decoding, notes: list[str], form: Form | None
) -> tuple[str, dict[str, Sequences]]:
    name, tables = read_tables(source, options.columns, decoding, notes, keep=options.further)
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
    return name, {
        part: _records(table, written, picked[0], options.group, notes, cells[part], decoding)
        for part, table in tables.items()
    }


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
    raise UserError(f"{table.files[0]}: which of the {len(names)} columns {_shown(table, names)}{_ways(table, names)}")


def _shown(table: Table, names: list[str]) -> str:
    """The columns for a message: their names, or without a header their cells in the first line."""
    if not all(map(str.isdigit, names)):
        return f"({', '.join(names)})"
    return f"(the first line has: {', '.join(table.columns[n][0].strip() for n in names)[:80]})"


def _ways(table: Table, names: list[str]) -> str:
    """Return the options that read a table whose columns are not understood, as the end of a message."""
    columns, headless = {name: table.columns[name] for name in names}, all(map(str.isdigit, names))
    pair = assigned(["text", "label"], columns)
    if pair and _are_texts(columns[pair["text"]]) and len(set(columns[pair["label"]])) * 5 <= len(table):
        given = [{v: k for k, v in pair.items()}.get(name, "-") for name in names]
        told = ",".join(given if headless else (f"{k}={v}" for k, v in pair.items()))
        return f" are text and label? For example --task classify --columns {told}"
    if len(names) == 2 and all(map(_are_texts, columns.values())):
        told = "source,target" if headless else f"source={names[0]},target={names[1]}"
        return f" are source and target? For example --task translate --columns {told}"
    ends = "; numbers need --task series, labels --task classify"
    events = [name for name in names if _come_back(columns[name])]
    if len(table) >= MIN_STEPS and len(names) > 1 and events:
        steps = as_steps(table, max(events, key=names.index))
        return f" hold symbols? For example {steps}: a row is a step of the record of its --group{ends}"
    last = max(names, key=lambda n: ((len(table) >= MIN_STEPS) * sum(map(len, columns[n])), names.index(n)))
    told = ["sequence" if name == last else "-" for name in names] if headless else [f"sequence={last}"]
    return f" hold symbols? For example --columns {','.join(told)}: a record a row{ends}"


def _are_texts(cells: list[str]) -> bool:
    """Return True for a column of running text: most cells have several words, and hardly one comes back."""
    several = sum(" " in cell.strip() for cell in cells) * 2 > len(cells)
    return several and len(set(cells)) * 2 > len(cells) and not all(map(is_date, cells))


def _come_back(cells: list[str]) -> bool:
    """Return True for a column of symbols that are used again and again, and are no numbers."""
    return 1 < len(set(cells)) <= len(cells) / 10 and not all(map(NUMBER.fullmatch, cells))


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


def _records(
    table: Table, form: Form, field: str, group: str | None, notes: list[str], cells: list[str], decoding: Decoding
) -> Sequences:
    records: dict[int, Sequence[str]] = {}
    for row, cell in enumerate(cells):
        try:
            symbols = cell.strip() if form.kind == "chars" else form.read(cell)
        except UserError as error:
            raise DataError(f"{table.where(row)}: {error}") from None
        if symbols:
            records[row] = symbols
    if len(records) < len(cells):
        left = len(cells) - len(records)
        notes.append(plural(left, "row without a symbol is left out", "rows without a symbol are left out"))
    if not records:
        raise DataError(f"{table.files[0]}: no row holds a symbol")
    if form.kind in ("words", "list", "chars"):
        _refuse_steps(table, [cells[row] for row in records], [len(x) for x in records.values()], decoding)
    keys = [table.columns[group][row] for row in records] if group else None
    return Sequences.of(form, list(records.values()), keys, table.files[0])


def _refuse_steps(table: Table, cells: list[str], sizes: list[int], decoding: Decoding) -> None:
    """Raise DataError for a column of records whose rows are rather steps; the message says how to read them."""
    if not (are_steps(sizes, cells) or are_steps(sizes, ())):
        return
    try:
        whole = read_table(
            table.files[0], decoding=replace(decoding, on_bad="skip")
        )  # with the columns that --columns skipped
    except DataError:  # more rows are damaged than are skipped
        whole = table
    column = next((name for name, found in whole.columns.items() if found[:MIN_STEPS] == cells[:MIN_STEPS]), "")
    steps = as_steps(whole, column) if column else as_steps(table, table.names[0])
    if are_steps(sizes, cells if "--group" in steps or "--time" in steps else ()):
        raise DataError(
            f"{table.files[0]}: each of the {len(cells):,} rows would be a record, and there are only "
            f"{len(set(cells)):,} different ones: a row is rather a step of a record: {steps}"
        )


def _steps(table: Table, names: list[str], options: TableOptions, notes: list[str]) -> Sequences:
    """Return records of a table with a row for each step and a column for each voice."""
    form = Form("steps", tuple(names) if len(names) > 1 else ())
    columns = [[name_of(cell.strip()) for cell in column] for column in table.need(*names)]
    _refuse_text(table, names, columns)
    steps = list(zip(*columns))
    told = f"a row is a step of {' and '.join(names)}"
    groups = _grouped(table, options)
    records = [
        form.interleave([steps[r] for r in rows]) if form.voices else [steps[r][0] for r in rows] for _, rows in groups
    ]
    if options.group:
        many = f"{plural(len(table), 'row')}, {plural(len(records), 'record')}"
        told += f", all rows of one {options.group} are a record: {many}"
    if options.time:
        moved = sum(row != before for _, rows in groups for row, before in zip(rows, sorted(rows)))
        told += f"; {plural(moved, 'row was', 'rows were')} reordered by {options.time}" if moved else ""
    notes.append(told)
    if options.gap:
        notes.append(f"a pause of more than {options.gap} ({options.time}) ends a record: {len(records):,} in all")
    if options.time:
        _note_equal_times(table.columns[options.time], [rows for _, rows in groups], options.time, notes)
    keys = [key for key, _ in groups] if options.group else None
    return Sequences.of(form, records, keys, table.files[0])


def _note_equal_times(times: list[str], groups: list[list[int]], column: str, notes: list[str]) -> None:
    equal = sum(times[a].strip() == times[b].strip() for rows in groups for a, b in zip(rows, rows[1:]))
    if equal:
        notes.append(f"{plural(equal, 'row has', 'rows have')} the time of the row before them ({column})")


def _refuse_text(table: Table, names: list[str], columns: list[list[str]]) -> None:
    """Raise DataError for a column of running text: as symbols, hardly any would occur twice."""
    for name, cells in zip(names, columns):
        different = len(set(cells))
        if 2 * different > len(cells) >= 20 and 2 * sum(" " in cell for cell in cells) > len(cells):
            raise DataError(
                f"{table.files[0]}: column '{name}' holds text, not symbols ({different:,} of {len(cells):,} cells "
                "differ): write it to a .txt file, a line each, and give that with --unit lines"
            )


def _grouped(table: Table, options: TableOptions) -> list[tuple[str, list[int]]]:
    """Return the rows of each record with its value of the group column.

    With times, rows are ordered by time (equal times: as in the file) and records by the time of their first row, so
    that the order of rows in the file does not matter. A pause of more than ``gap`` ends a record.
    """
    if options.gap and not options.time:
        raise UserError(f"--gap {options.gap}: pauses need times: which column holds them? Add --time COLUMN")
    keys = table.columns[options.group] if options.group else [""] * len(table)
    times, dated = read_times(table, options.time, exact=bool(options.gap)) if options.time else (None, False)
    groups: dict[str, list[int]] = {}
    for row in sorted(range(len(table)), key=times.__getitem__) if times else range(len(table)):
        groups.setdefault(keys[row], []).append(row)
    if not times or not options.time:
        return list(groups.items())
    found = list(groups.items())
    if options.gap:
        pause = longest_pause(options.gap, times, dated, options.time)
        found = [(key, piece) for key, rows in found for piece in cut(rows, times, pause)]
    return sorted(found, key=lambda pair: (times[pair[1][0]], pair[0]))
