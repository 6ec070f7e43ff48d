"""The run folder: everything that makes up a run, in plain formats, consistent at every instant.

    config.yaml        settings, fully resolved      model.safetensors   weights that are kept
    config.json        model_type, format, model     metrics.jsonl       training log, one event a line
    processor.json     tokenizers, labels, …         MANIFEST.json       SHA-256 of every file but the log
    data.json          hashes and notes of the data  checkpoints/        step-000300/: the newest, to resume from;
    environment.json   machine and versions                              fork-000150/: to train further from
    drafter.safetensors  of a language model: a table that drafts tokens for it (speculative decoding)

Weights and manifest are two files and cannot be replaced in one step. So the manifest first lists the new weights as
*pending*, then they are replaced, then it lists only them; a kill between any two steps leaves a folder that loads.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from chainrule.core.config import read_yaml, write_yaml
from chainrule.core.errors import CheckpointCorrupt, UserError
from chainrule.core.files import BINARY, is_temporary, machine_errors, temporary_name, write_file
from chainrule.runs import store
from chainrule.runs.store import MANIFEST, Entry, Manifest

MODEL, DRAFTER, CONFIG, METRICS = "model.safetensors", "drafter.safetensors", "config.json", "metrics.jsonl"
_OURS = re.compile(
    r"config\.(yaml|json)|(model|drafter)\.safetensors|(processor|data|environment)\.json"
    r"|metrics\.jsonl|report\.html"
)
_STEP = re.compile(r"step-(\d{6,})(?:\.(\d+))?")
_FORK = re.compile(r"fork-(\d{6,})(?:\.(\d+))?")
_GROUP = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Checkpoint:
    """A state that training resumes from: tensors by group (model, optimizer, …) and plain values."""

    step: int
    groups: dict[str, dict[str, Tensor]]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Newest:
    """The newest valid checkpoint (None: there is none), and a line for each damaged newer one."""

    checkpoint: Checkpoint | None
    reports: list[str]


class RunFolder:
    """A folder that holds one run: ``RunFolder(path)`` reads it, ``RunFolder.create(path)`` starts or continues it.

    Args:
        path: the folder; it need not exist yet.

    >>> import tempfile, torch
    >>> run = RunFolder.create(tempfile.mkdtemp())
    >>> run.write_description({"seed": 1}, {"model_type": "mine"}, {"data.json": {}}, {})
    >>> run.write_model({"weight": torch.ones(2)})
    >>> config, tensors, _ = run.load_model()
    >>> config, tensors["weight"].tolist()
    ({'model_type': 'mine', 'format': 2}, [1.0, 1.0])
    >>> run.log({"event": "train", "step": 1})
    >>> run.events()
    [{'event': 'train', 'step': 1}]
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._valid: set[Path] = set()

    # --- beginning ----------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path | str, *, overwrite: bool = False, resume: bool = False) -> Self:
        """Make a folder to train in, or take up one that holds a run.

        A folder that is not a run is never deleted, nor are the user's own files inside a run. Leftovers of a killed
        writer are removed.

        Args:
            path: the folder.
            overwrite: remove the run that it holds.
            resume: continue the run that it holds.

        Raises:
            UserError: it is occupied, and neither is allowed or it is not a run.
        """
        run = cls(path)
        occupied = run.check(overwrite=overwrite, resume=resume)
        with machine_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        if not (occupied and resume):
            run._clear()
        with machine_errors(run.path):
            run._checkpoints.mkdir(exist_ok=True)
            run._clean()
        return run

    def check(self, *, overwrite: bool = False, resume: bool = False) -> bool:
        """Return True if the folder is occupied; nothing is written.

        Args:
            overwrite: as for ``create``.
            resume: as for ``create``.

        Raises:
            UserError: ``create`` would refuse the folder.
        """
        if overwrite and resume:
            raise UserError("--resume and --overwrite exclude each other: give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: a file where a run folder is to be made; choose another --out")
        with machine_errors(self.path, "read"):
            found = list(self.path.iterdir()) if self.path.is_dir() else []
        # ``data`` holds data given in memory; a run killed at the very start leaves a temporary manifest alone
        occupied = any(file.name != "data" and not file.name.startswith(f"{MANIFEST}.tmp-") for file in found)
        if occupied and not self.exists():
            raise UserError(f"{self.path}: not empty and not a run folder, so never overwritten; choose another --out")
        if occupied and not (overwrite or resume):
            raise UserError(
                f"{self.path}: holds a run already; --resume auto continues it, --overwrite replaces it, "
                "or choose another --out"
            )
        return occupied

    def exists(self) -> bool:
        """Return True for a run, damaged or not; False for a folder of another library."""
        return self._speaks(MANIFEST, {"format", "files", "seal"}) or self._speaks(CONFIG, {"format", "model_type"})

    def _speaks(self, name: str, keys: set[str]) -> bool:
        path = self.path / name
        try:
            return keys <= store.parse_json(store.read_bytes(path, store.JSON_LIMIT), path).keys()
        except CheckpointCorrupt:
            return False

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _clean(self) -> None:
        for folder in (self.path, self._checkpoints):
            for leftover in filter(is_temporary, folder.iterdir()):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def _clear(self) -> None:
        """Remove the old run. The manifest goes first: a kill in between leaves an empty run."""
        write_file(self.path / MANIFEST, Manifest({}).to_bytes())
        for checkpoint in (*self._saved(), *self._saved(_FORK)):
            self._remove(checkpoint)
        with machine_errors(self.path):
            for file in self.path.iterdir():
                if _OURS.fullmatch(file.name):
                    file.unlink()

    # --- description and model ----------------------------------------------------------------------------------------

    def write_description(
        self,
        config_yaml: dict[str, Any],
        config_json: dict[str, Any],
        files: dict[str, dict[str, Any]],
        environment: dict[str, Any],
    ) -> None:
        """Write the description of the run.

        Args:
            config_yaml: all settings, resolved.
            config_json: model type (``model_type``) and its settings; the format is added.
            files: further JSON files that using the model needs, by name (``data.json``, ``processor.json``).
            environment: machine and versions.
        """
        if "model_type" not in config_json:
            raise ValueError("config_json needs 'model_type'")
        self._replace(
            {
                "config.yaml": write_yaml(config_yaml).encode(),
                CONFIG: store.json_bytes({**config_json, "format": store.FORMAT}),
                **{name: store.json_bytes(content) for name, content in files.items()},
                "environment.json": store.json_bytes(environment),
            }
        )

    def write_model(self, tensors: dict[str, Tensor], name: str = MODEL) -> None:
        """Replace the weights; killed at any instant, the folder holds the old ones or the new ones, verified.

        Args:
            tensors: weights by name.
            name: the file; ``DRAFTER`` for the table that drafts tokens.
        """
        self._replace({name: store.tensor_bytes(tensors)})

    def _replace(self, files: dict[str, bytes]) -> None:
        settled = self._settled()
        new = {name: Entry.of(data) for name, data in files.items()}
        write_file(self.path / MANIFEST, Manifest(settled, new).to_bytes())
        for name, data in files.items():
            write_file(self.path / name, data)
        write_file(self.path / MANIFEST, Manifest({**settled, **new}).to_bytes())

    def _settled(self) -> dict[str, Entry]:
        """Entries of the files as they are now, after a writer may have died with changes pending."""
        manifest = store.read_manifest(self.path)
        arrived = {name: new for name, new in manifest.pending.items() if self._is(name, new)}
        return {**manifest.files, **arrived}

    def _is(self, name: str, entry: Entry) -> bool:
        try:
            store.read_verified(self.path / name, [entry])
        except CheckpointCorrupt:
            return False
        return True

    def load_model(self) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, dict[str, Any]]]:
        """Read the run; every file that the manifest lists is verified before any is used.

        Returns:
            The content of ``config.json``, the weights, and the other files by name: JSON objects, and tensors by name.

        Raises:
            CheckpointCorrupt: a file is damaged; the message names it.
            UserError: there is no run, or no model yet.
        """
        files = self._read()
        config = store.parse_json(self._listed(files, CONFIG), self.path / CONFIG)
        if config.get("format") != store.FORMAT:
            raise store.other_format(self.path / CONFIG, config.get("format"))
        tensors = store.view_tensors(self._listed(files, MODEL), self.path / MODEL)
        parsed = {".json": store.parse_json, ".safetensors": store.view_tensors}
        others = [n for n in files if n not in (CONFIG, MODEL) and Path(n).suffix in parsed]
        return config, tensors, {n: parsed[Path(n).suffix](files[n], self.path / n) for n in others}

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file (``config.json``, ``data.json`` …), verified."""
        return store.parse_json(self._listed(self._read({name}), name), self.path / name)

    def read_settings(self) -> dict[str, Any]:
        """Return the content of ``config.yaml``, verified."""
        text = self._listed(self._read({"config.yaml"}), "config.yaml").decode()
        return read_yaml(text, str(self.path / "config.yaml"))

    def has(self, name: str) -> bool:
        """Return True if the run has this file, damaged or not."""
        return self.exists() and (self.path / name).is_file()

    def _listed(self, files: dict[str, Any], name: str) -> Any:
        if name not in files:
            raise UserError(
                f"{self.path}: no {name} yet: the run stopped before it was written; continue it with --resume auto"
            )
        return files[name]

    def _read(self, wanted: set[str] | None = None) -> dict[str, Any]:
        """The listed files, verified, the weights mapped. Files that training replaces meanwhile are read again."""
        if not self.exists():
            raise UserError(
                f"{self.path}: no run folder here; expected one that 'chainrule train … --out {self.path}' made, "
                f"with {MANIFEST}, {CONFIG} and {MODEL}"
            )
        while True:
            manifest = store.read_manifest(self.path)
            try:
                return {
                    name: _reading(name)(self.path / name, manifest.accepted(name))
                    for name in (n for n in manifest.names() if wanted is None or n in wanted)
                    if name in manifest.files or (self.path / name).exists()
                }
            except CheckpointCorrupt:
                if store.read_manifest(self.path) == manifest:
                    raise

    # --- metrics ------------------------------------------------------------------------------------------------------

    def log(self, event: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``. NaN and infinity become null, since JSON has no such numbers.

        Args:
            event: plain values; the field ``event`` names its kind.
        """
        line = (json.dumps(_finite(event)) + "\n").encode()
        path = self.path / METRICS
        with machine_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o666)
            try:
                if os.lseek(descriptor, 0, os.SEEK_END) and _last_byte(descriptor) != b"\n":
                    os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)
                while line:
                    line = line[os.write(descriptor, line) :]
            finally:
                os.close(descriptor)

    def events(self) -> list[dict[str, Any]]:
        """Return all events of the log; a last line without an end is left out, for its writer was killed."""
        path = self.path / METRICS
        if not path.exists():
            return []
        with machine_errors(path, "read"):
            *lines, _ = path.read_bytes().split(b"\n")
        return [store.parse_json(line, Path(f"{path}:{number}")) for number, line in enumerate(lines, 1)]

    def truncate_log(self, step: int) -> None:
        """Drop the events after ``step``: resumed training writes them again."""
        kept = [event for event in self.events() if event.get("step", 0) <= step]
        lines = "".join(json.dumps(event) + "\n" for event in kept)
        write_file(self.path / METRICS, lines.encode())

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save_checkpoint(
        self, step: int, groups: dict[str, dict[str, Tensor]], meta: dict[str, Any], keep: int = 2
    ) -> Path:
        """Save a state to resume from, as a new folder.

        Checkpoints of later steps are removed: they belong to a continuation that was given up. A second save of one
        step gets a new name, since nothing is ever written into an existing folder.

        Args:
            step: steps done.
            groups: tensors by group and name; each group becomes ``<group>.safetensors``.
            meta: JSON values, for ``trainer.json``.
            keep: number of valid checkpoints that stay.

        Returns:
            The folder.
        """
        path = self._write(f"step-{step:06d}", step, groups, meta)
        self._prune(path, keep)
        return path

    def save_fork(self, step: int, groups: dict[str, dict[str, Tensor]], meta: dict[str, Any]) -> None:
        """Save the state that a larger budget goes on from, in place of an earlier one.

        Args:
            step, groups, meta: as for ``save_checkpoint``.
        """
        path = self._write(f"fork-{step:06d}", step, groups, meta)
        for older in self._saved(_FORK):
            if older != path:
                self._remove(older)

    def read_fork(self) -> Checkpoint | None:
        """Load the state that a larger budget goes on from; None where there is none, or a damaged one."""
        for path in self._saved(_FORK):
            try:
                return _load_checkpoint(path)
            except CheckpointCorrupt:
                continue
        return None

    def _write(self, name: str, step: int, groups: dict[str, dict[str, Tensor]], meta: dict[str, Any]) -> Path:
        if bad := [name for name in groups if not _GROUP.fullmatch(name)]:
            raise ValueError(f"group names are lower-case words, not {bad}")
        path, revision = self._checkpoints / name, 0
        while path.exists():
            revision += 1
            path = path.with_name(f"{name}.{revision}")
        files = {f"{name}.safetensors": store.tensor_bytes(tensors) for name, tensors in groups.items()}
        store.save_folder(path, {**files, "trainer.json": store.json_bytes({"step": step, "meta": meta})})
        self._valid.add(path)
        return path

    def newest_checkpoint(self) -> Newest:
        """Load the newest valid checkpoint; damaged newer ones are reported, never silently skipped."""
        reports: list[str] = []
        for path in self._saved():
            try:
                checkpoint = _load_checkpoint(path)
            except CheckpointCorrupt as error:
                reports.append(str(error))
            else:
                self._valid.add(path)
                return Newest(checkpoint, reports)
        return Newest(None, reports)

    def _saved(self, kind: re.Pattern[str] = _STEP) -> list[Path]:
        """Checkpoints of a kind, newest first."""
        if not self._checkpoints.is_dir():
            return []
        return sorted((p for p in self._checkpoints.iterdir() if kind.fullmatch(p.name)), key=_age, reverse=True)

    def _prune(self, newest: Path, keep: int) -> None:
        kept = 0
        for path in self._saved():
            if _age(path) <= _age(newest) and kept < keep and self._is_valid(path):
                kept += 1
            else:
                self._remove(path)

    def _is_valid(self, path: Path) -> bool:
        if path not in self._valid:  # checkpoints that this process wrote or read are not hashed at every save
            try:
                store.verify_folder(path)
            except CheckpointCorrupt:
                return False
            self._valid.add(path)
        return True

    def _remove(self, path: Path) -> None:
        doomed = temporary_name(path)  # a half-removed folder must not look like a damaged checkpoint
        with machine_errors(path, "remove"):
            os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        self._valid.discard(path)


def _reading(name: str) -> Callable[[Path, Sequence[Entry]], Any]:
    return store.map_verified if name in (MODEL, DRAFTER) else store.read_verified


def _last_byte(descriptor: int) -> bytes:
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1)


def _age(path: Path) -> tuple[int, int]:
    match = _STEP.fullmatch(path.name) or _FORK.fullmatch(path.name)
    assert match
    return int(match[1]), int(match[2] or 0)


def _load_checkpoint(path: Path) -> Checkpoint:
    files = store.read_folder(path)
    trainer = store.parse_json(files.pop("trainer.json", b""), path / "trainer.json")
    step = _age(path)[0]
    if trainer.get("step") != step:
        raise store.corrupt(path, f"holds step {trainer.get('step')!r} under the name of step {step}")
    groups = {name.removesuffix(".safetensors"): store.parse_tensors(data, path / name) for name, data in files.items()}
    return Checkpoint(step, groups, trainer["meta"])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
