"""The plan of an experiment, from settings to rows to jobs, as plain values in ``plan.json``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.core.errors import UserError
from chainrule.experiment.jobs import Job, digest
from chainrule.experiment.rows import RowSpec, entries, label_of, row_settings
from chainrule.training.budget import Budget

if TYPE_CHECKING:
    from chainrule.data.dataset import Dataset
    from chainrule.tasks.settings import RunConfig

FORMAT = 1
FILE = "plan.json"
MIX = "mix"
"""Name of the row of the mixture, and of its model type."""


@dataclass(frozen=True)
class Cell:
    """One model with one seed on one split: its run folder below ``OUT``, and its jobs.

    ``fold`` is the fold that it is tested on; 0 is the ordinary split.
    """

    seed: int
    folder: str
    train: str
    measure: str
    fold: int = 0


@dataclass(frozen=True)
class PlannedRow:
    """One row of the board.

    ``settings`` are those of its runs; ``prepare`` is the job whose facts its models are chosen by.
    """

    name: str
    model_type: str
    label: str
    settings: dict[str, Any]
    prepare: str
    cells: tuple[Cell, ...]
    plugin: str | None = None
    counting: bool = False
    memory: str | None = None
    """The job of what is measured of rows in contention alone: the memory curve of the first cell."""


@dataclass(frozen=True)
class Plan:
    """An experiment as it is known before anything is trained."""

    key: str
    """Hash of what must agree for an experiment to be continued: data, split, shared settings but the budget."""
    request: str | None
    """Hash of the request that made this plan: an equal one need not read the data again."""
    task: str
    title: str
    created: str
    command: str | None
    plugin: str | None
    """The file of ``--plugin``, which worker processes load too."""
    settings: dict[str, Any]
    rows: tuple[PlannedRow, ...]
    jobs: dict[str, Job]
    memory_curves: str = "contention"
    """Rows whose memory curve is measured: those in ``contention``, or ``all``."""
    horizon: str | None = None
    """Length of training that the verdict's second answer is about; None: ten times the budget."""
    folds: int = 0
    """Folds of cross-validation, which the figures are over; 0: the ordinary split alone."""

    @property
    def run_budget(self) -> Budget:
        """The budget of one run of a row: that of the row, shared by its folds and the run on the ordinary split."""
        return share_of(Budget.parse(self.settings["budget"]), self.folds)

    def jobs_of(self, row: PlannedRow) -> list[Job]:
        """Return the train and measure jobs of a row's cells."""
        return [self.jobs[name] for cell in row.cells for name in (cell.train, cell.measure)]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Plan:
        """Return the plan of JSON values.

        Raises:
            ValueError: the values are not those of a plan.
        """
        from pydantic import TypeAdapter

        if saved.get("format") != FORMAT:
            raise ValueError(f"format {saved.get('format')}")
        return TypeAdapter(Plan).validate_python({k: v for k, v in saved.items() if k != "format"})


def read_plan(out: Path) -> Plan | None:
    """Return the plan of a folder, or None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = out / FILE
    if not path.exists():
        return None
    try:
        return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError):
        raise UserError(f"{path}: not a plan of a comparison (damaged?); choose another --out") from None


# --- hashes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The data that all rows train on.

    ``title`` is their name; ``sha256`` covers their split and the files that decide the input of models (a shared
    tokenizer, a pretrained run).
    """

    title: str
    sha256: str

    @staticmethod
    def of(settings: RunConfig, dataset: Dataset) -> Source:
        """Return the source of a dataset under the shared settings."""
        files = [_file(settings.tokenizer)] if settings.tokenizer else dataset.encoding_files
        files = [*files, _file(str(Path(settings.pretrained) / "MANIFEST.json")) if settings.pretrained else None]
        return Source(dataset.name, digest(dataset.split_sha256, [hash_files(str(f)) for f in files if f]))


def share_of(budget: Budget, folds: int) -> Budget:
    """Return the budget of one run of a row whose budget is shared by its folds and the run on the ordinary split.

    >>> str(share_of(Budget.parse("60s"), 5))
    '10s'
    """
    return Budget(budget.amount / (folds + 1), budget.kind) if folds else budget


def shared_key(settings: RunConfig, source: Source, folds: int = 0) -> str:
    """Return the hash of the data and settings that must agree for an experiment to be continued.

    Args:
        settings: settings of all rows.
        source: the data.
        folds: folds of cross-validation.
    """
    shared = {k: v for k, v in _shared(settings).items() if k != "budget"}
    return digest(source.sha256, {**shared, "data": source.title}, *([folds] if folds else []))


def request_of(
    settings: RunConfig,
    models: str | Sequence[str] | None,
    seeds: int,
    out: Path,
    plugin: str | None = None,
    memory_curves: str = "contention",
    folds: str | None = None,
) -> str | None:
    """Return the hash of the files and settings of a request, or None where a file cannot be read.

    Args:
        settings: settings of all rows.
        models: rows as they were given.
        seeds: runs of each row.
        out: the folder of the experiment, which is not read.
        plugin: the file of ``--plugin``.
        memory_curves: rows whose memory curve is measured.
        folds: ``--folds`` as it was given.
    """
    typed = [entry.strip() for entry in entries(models or "")]
    plugins = [name for entry in typed if (name := entry.partition(":")[0]).endswith(".py")]
    tokenizers = [settings.tokenizer, *re.findall(r"tokenizer=([^+,]+)", ",".join(typed))]
    files = [settings.data, settings.pretrained, plugin, *map(_file, tokenizers), *plugins]
    try:
        hashes = [hash_files(name, out) for name in files if name]
    except OSError:
        return None
    return digest({**_shared(settings), "data": Path(settings.data).name}, typed, seeds, hashes, memory_curves, folds)


def _shared(settings: RunConfig) -> dict[str, Any]:
    return {k: v for k, v in settings.model_dump().items() if k not in ("model_type", "save_every")}


def _file(path: str | None) -> str | None:
    return path if path and Path(path).is_file() else None


def hash_files(source: str, but: Path | None = None) -> str:
    """Return the SHA-256 over the files of a path, a folder, or paths with commas between them.

    Args:
        source: the path or paths.
        but: a folder whose files are not read.

    Raises:
        OSError: a file is missing or cannot be read.
    """
    paths = [Path(source)] if Path(source).exists() else [Path(part.strip()) for part in source.split(",")]
    whole = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not _below(file, path, but):
                name = file.relative_to(path) if file != path else file.name
                whole.update(f"{name}\0".encode("utf-8", "surrogateescape"))
                with file.open("rb") as content:
                    whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()


def _below(file: Path, root: Path, but: Path | None) -> bool:
    """Does a file of a data folder belong to the experiment itself, which may lie in that folder?"""
    if but is None or file == root:
        return False
    own = (but.resolve(), but.resolve().with_name(f"{but.name}.codes"))
    return any(file.resolve().is_relative_to(folder) and not root.resolve().is_relative_to(folder) for folder in own)


# --- the plan ---------------------------------------------------------------------------------------------------------


def make_plan(
    settings: RunConfig,
    specs: Sequence[RowSpec],
    source: Source,
    *,
    seeds: int = 1,
    request: str | None = None,
    created: str = "",
    command: str | None = None,
    plugin: str | None = None,
    memory_curves: str = "contention",
    horizon: str | None = None,
    folds: int = 0,
) -> Plan:
    """Return the rows and jobs of an experiment.

    Args:
        settings: settings of all rows.
        specs: the rows.
        source: the data.
        seeds: runs of each row, with seeds one apart.
        request: hash of the request.
        created: date and time.
        command: the command line.
        plugin: the file of ``--plugin``.
        memory_curves: rows whose memory curve is measured: those in ``contention``, or ``all``.
        horizon: length of training that the verdict's second answer is about.
        folds: folds of cross-validation.
    """
    from chainrule.core import model_type
    from chainrule.tasks.board import board_of

    board, chosen = board_of(settings.task), {spec.name: model_type(spec.model_type, settings.task) for spec in specs}
    known = {k for found in chosen.values() for k in found.config.model_fields}
    key, share = shared_key(settings, source, folds), str(share_of(Budget.parse(settings.budget), folds))
    jobs = {"prepare": Job("prepare", "prepare", (), digest("prepare", key))}
    rows: list[PlannedRow] = []
    taken: set[str] = set()
    for spec in specs:
        mine, found = row_settings(settings.replace(budget=share), spec, known), chosen[spec.name]
        slug, prepare = _slug(spec.name, taken), "prepare"
        if mine.tokenizer != settings.tokenizer and board.own_choices(spec.model_type, mine.model):
            prepare = f"prepare-{slug}"
            content = digest("prepare", key, mine.tokenizer, _own_file(spec))
            jobs[prepare] = Job(prepare, "prepare", ("prepare",), content)
        cells = []
        for seed, fold in product(range(settings.seed, settings.seed + seeds), range(folds + 1)):
            place = slug + f"-seed{seed}" * (seed != settings.seed) + f"-fold{fold}" * (fold > 0)
            cells.append(Cell(seed, f"runs/{place}", f"train-{place}", f"measure-{place}", fold))
            content = _content(mine, spec, source, seed)
            _add_jobs(jobs, cells[-1], prepare, [*content, fold, folds] if fold else content)
        row = PlannedRow(
            spec.name, spec.model_type, label_of(spec, found.label), _plain(mine), prepare, tuple(cells),
            spec.plugin, found.recipe.update == "counting", _add_memory(jobs, cells[0]) if board.has_memory else None,
        )  # fmt: skip
        rows.append(row)
    if not folds and (mix := _mix_row(rows, settings, jobs)):
        rows.append(mix)
    return Plan(
        key, request, settings.task, source.title, created, command, plugin, _plain(settings), tuple(rows), jobs,
        memory_curves, horizon, folds,
    )  # fmt: skip


def _add_jobs(jobs: dict[str, Job], cell: Cell, prepare: str, content: list[Any]) -> None:
    needed, first = jobs[prepare].hash, jobs["prepare"].hash
    budget, *others = content
    train, trained = digest("train", budget, *others, needed), digest("train", *others, needed)
    jobs[cell.train] = Job(cell.train, "train", (prepare,), train, trained)
    measure, measured = digest("measure", train, first), digest("measure", trained, first)
    jobs[cell.measure] = Job(cell.measure, "measure", (cell.train, "prepare"), measure, measured)


def _add_memory(jobs: dict[str, Job], cell: Cell) -> str:
    """Add the memory job of a row, and return its id."""
    name = cell.train.replace("train-", "memory-", 1)
    jobs[name] = Job(name, "memory", (cell.measure,), digest("memory", jobs[cell.measure].hash))
    return name


def _mix_row(rows: Sequence[PlannedRow], settings: RunConfig, jobs: dict[str, Job]) -> PlannedRow | None:
    """Return the row of the mixture, and add its jobs; None where no two rows predict the same tokens."""
    tokenizers = [row.settings["tokenizer"] for row in rows]
    if settings.task != "generate" or len(set(tokenizers)) == len(tokenizers):
        return None
    cells = []
    for k, cell in enumerate(rows[0].cells):
        needs, place = tuple(row.cells[k].train for row in rows), MIX + f"-seed{cell.seed}" * (k > 0)
        cells.append(Cell(cell.seed, f"runs/{place}", place, f"measure-{place}"))
        mix = digest("mix", [jobs[name].hash for name in needs])
        jobs[place] = Job(place, "mix", needs, mix)
        jobs[cells[-1].measure] = Job(
            cells[-1].measure, "measure", (place, "prepare"), digest("measure", mix, jobs["prepare"].hash)
        )
    return PlannedRow(MIX, MIX, "Mix", _plain(settings.replace(model_type=MIX)), "prepare", tuple(cells))


def _content(settings: RunConfig, spec: RowSpec, source: Source, seed: int) -> list[Any]:
    """Everything that decides the weights of a run, the budget first, apart from the findings of prepare jobs."""
    from chainrule.core import model_type

    values = {k: v for k, v in settings.model_dump().items() if k not in ("save_every", "budget")}
    plugin = model_type(spec.model_type, settings.task).plugin
    files = [_own_file(spec), plugin["sha256"] if plugin else None]
    return [settings.budget, {**values, "data": source.title, "seed": seed}, source.sha256, files]


def _own_file(spec: RowSpec) -> str | None:
    """Hash of the file of a row's own tokenizer."""
    file = _file(spec.own.get("tokenizer"))
    return hash_files(file) if file else None


def _plain(settings: RunConfig) -> dict[str, Any]:
    return json.loads(settings.model_dump_json())


def _slug(name: str, taken: set[str]) -> str:
    """The name of a row's folder, different for every row."""
    base = re.sub(r"[^\w.=+-]+", "-", name)
    slug = next(slug for k in count(1) if (slug := base if k == 1 else f"{base}-{k}") not in taken)
    taken.add(slug)
    return slug
