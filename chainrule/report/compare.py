"""The main job: same data, same split, same budget, every family; a board and a report that a person can decide from.

Anytime: the report is written after every slice and is valid from the first one on; interrupting saves and leaves it so;
running the same command again continues.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.checkpoint import RunFolder, write_file
from chainrule.core import Autoregressive, ChainruleError, Family, UserError, family, load_file
from chainrule.core.config import parse_settings
from chainrule.data import plays
from chainrule.report import measure
from chainrule.report.drawings import OfDrawings
from chainrule.report.exhibit import Exhibit
from chainrule.report.fill import OfHidden
from chainrule.report.generate import OfText
from chainrule.report.html import render
from chainrule.report.images import OfCodes, OfImages
from chainrule.report.labels import OfRecords, OfTokens
from chainrule.report.pairs import OfPairs
from chainrule.report.series import OfForecasts
from chainrule.report.verdict import gain_of_doubling, make_verdict, rank
from chainrule.scoring.evaluate import Blocks, interval
from chainrule.training.loop import Trainer
from chainrule.training.runs import can_adopt, describe, machine, make_trainer, prepare, read_data, trained
from chainrule.training.settings import Prepared, RunConfig
from chainrule.training.tasks import find_task
from chainrule.training.train import Interrupted, Meter, Stop, say

EXHIBITS: dict[str, type[Exhibit]] = {
    "generate": OfText,
    "series": OfForecasts,
    "tag": OfTokens,
    "classify": OfRecords,
    "classify-images": OfImages,
    "codes": OfCodes,
    "draw": OfDrawings,
    "translate": OfPairs,
    "fill": OfHidden,
}
SLICES = 6
"""Turns in which the families train: each sixth of the budget, so that rows fill in together."""
LABELS = {
    "markov": "Markov",
    "ngram": "n-gram",
    "rnn": "RNN",
    "lstm": "LSTM",
    "gru": "GRU",
    "gpt": "GPT",
    "transformer": "Transformer",
    "bert": "BERT",
    "hmm": "HMM",
    "ar": "AR",
    "kalman": "Kalman",
    "vit": "ViT",
    "vq": "VQ",
    "dalle": "DALL·E",
    "cnn": "CNN",
    "mlp": "MLP",
    "knn": "k-NN",
}


@dataclass
class Cell:
    """One model and one seed: a run folder and its trainer."""

    seed: int
    folder: Path
    trainer: Trainer | None = None
    ready: Prepared | None = None
    nats: np.ndarray | None = None
    value: float | None = None
    peak: int = 0


@dataclass
class Entry:
    """One row of the board: what was asked for, its cells, and what is known of it so far."""

    name: str
    settings: RunConfig
    family: Family
    cells: list[Cell] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    blocks: Blocks | None = None

    @property
    def open(self) -> bool:
        return self.row["status"] in ("waiting", "running")


def parse_models(text: str, task: str = "generate") -> list[tuple[str, str, dict[str, Any]]]:
    """``gru:width=128+layers=2,my_model.py`` as (name of the row, family, model settings); every name is checked."""
    rows: list[tuple[str, str, dict[str, Any]]] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, settings = entry.partition(":")
        values = parse_settings(settings.split("+")) if settings else {}
        for found in load_file(Path(name), task) if name.endswith(".py") else [family(name, task)]:
            rows.append((entry if found.name == name else found.name, found.name, values))
    if not rows:
        raise UserError("--models: name at least one, for example --models ngram,gru")
    doubled = {name for name, *_ in rows if sum(r[0] == name for r in rows) > 1}
    if doubled:
        raise UserError(
            f"--models: {', '.join(sorted(doubled))} stands there twice; give the second one settings, gru:layers=2"
        )
    return rows


def held_out(data: Any) -> Any:
    """The part that rows are measured on."""
    return data.parts.get("test") or data.parts["valid"]


class Comparison:
    """Builds the board act by act; ``publish`` writes it at any time."""

    def __init__(
        self,
        settings: RunConfig,
        models: str | None,
        out: Path,
        *,
        seeds: int = 1,
        lang: str = "en",
        overwrite: bool = False,
    ):
        if seeds < 1:
            raise UserError(f"--seeds {seeds}: at least 1")
        self.out, self.lang, self.overwrite = out, lang, overwrite
        self.task = find_task(settings.task)
        wanted = parse_models(models or self.task.rows, settings.task)
        self._refuse_strangers()
        settings = self.task.first(settings, out, overwrite)
        self.dataset = read_data(settings)
        self.metric, self.words = self.task.metric(self.dataset.counted)
        known = {k for _, chosen, _ in wanted for k in family(chosen, settings.task).config.model_fields}
        self.strange = settings.model.keys() - known
        """Shared settings that no row knows: a slip. One that some rows know goes to those."""
        self.entries = [self._entry(name, chosen, values, settings, seeds) for name, chosen, values in wanted]
        self.settings = settings
        ready = self._check()
        self.corpus, compute = ready.data, ready.compute
        self.test = held_out(self.corpus)
        self.card = self.corpus.card()
        self.before = self._claim()
        """The board that is continued; empty where there is none."""
        self.exhibit = EXHIBITS.get(self.task.name, Exhibit)(self)
        self.board: dict[str, Any] = {
            "format": 1, "title": self.dataset.name, "task": self.task.name, "status": "running",
            "created": self.before.get("created") or time.strftime("%Y-%m-%d %H:%M"),
            "command": "chainrule " + shlex.join(sys.argv[1:]) if Path(sys.argv[0]).stem == "chainrule" else None,
            "budget": {"text": f"{settings.budget} for each model", "text_ko": f"모델마다 {settings.budget}"},
            "unit_name": self.corpus.counted, "metric": self.metric, "learnt": self.task.items, "data": self.card,
            "machine": {**machine(), "device": compute.device, "threads": compute.threads}, **self.exhibit.board(),
        }  # fmt: skip
        self.old = {row["model"]: row for row in self.before.get("rows", [])}

    # --- setting out --------------------------------------------------------------------------------------------------

    def _entry(self, name: str, chosen: str, values: dict[str, Any], settings: RunConfig, seeds: int) -> Entry:
        found = family(chosen, settings.task)
        shared = {k: v for k, v in settings.model.items() if k in found.config.model_fields or k in self.strange}
        learnt = settings.pretrained if can_adopt(found) else None
        mine = settings.replace(family=chosen, model={**shared, **values}, pretrained=learnt)
        told = f" ({name[len(chosen) + 1 :].replace('+', ', ')})" if name.startswith(f"{chosen}:") else ""
        shown = LABELS.get(chosen, chosen) + told if name.startswith(chosen) else name
        entry = Entry(name, mine, found, row={"model": name, "label": shown, "status": "waiting"})
        folder = re.sub(r"[^\w.=+-]+", "-", name)
        for k in range(seeds):
            entry.cells.append(
                Cell(settings.seed + k, self.out / "runs" / (f"{folder}-seed{settings.seed + k}" if k else folder))
            )
        return entry

    def _check(self) -> Prepared:
        """Settings that no entry can take are a slip in the command, not the failure of a cell. The first that is none, prepared."""
        errors: list[UserError] = []
        for entry in self.entries:
            try:
                return prepare(entry.settings, self.dataset)
            except UserError as error:
                errors.append(error)
        raise errors[0]

    def _refuse_strangers(self) -> None:
        """The folder is not there, empty, or holds a comparison: said before anything is trained."""
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out}: a file where a folder is to be made; choose another --out")
        if self.out.is_dir() and any(p.name != "data" for p in self.out.iterdir()) and not (self.out / "board.json").exists():
            raise UserError(f"{self.out}: not empty and holds no comparison; choose another --out")

    def _claim(self) -> dict[str, Any]:
        """What the folder holds is the same comparison, which is then continued, or may be overwritten."""
        path = self.out / "board.json"
        if not path.exists():
            return {}
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            key = old["key"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: not a board of ours (damaged?); choose another --out") from None
        if key == self.key() and not self.overwrite:
            return old
        if not self.overwrite:
            raise UserError(
                f"{self.out}: holds a comparison of other data or settings; choose another --out, or --overwrite replaces it"
            )
        return {}

    def key(self) -> str:
        """What must agree for a comparison to be continued."""
        shared = {k: v for k, v in self.settings.model_dump().items() if k not in ("family", "save_every")}
        return json.dumps([self.dataset.split_sha256, {**shared, "data": self.dataset.name}], sort_keys=True, default=str)

    # --- the acts -----------------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool]) -> None:
        """What comes before, counting rows, neural rows in turns; every failure stays in its own row."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.publish()
        self.exhibit.before()
        self.publish()
        for entry in self.entries:
            self._guard(entry, self._begin)
        turns = sorted(self.entries, key=lambda e: e.family.recipe.update != "counting")
        while not stop() and any(entry.open for entry in turns):
            for entry in turns:
                if entry.open and not stop():
                    self._guard(entry, lambda entry: self._turn(entry, stop))
                    self.publish()
        self.board["status"] = "interrupted" if any(entry.open for entry in self.entries) else "finished"
        if self.board["status"] == "finished":
            self.exhibit.after()
        self._save_open()
        self.publish()

    def _guard(self, entry: Entry, act: Callable[[Entry], None]) -> None:
        """A cell that fails is shown as failed and stops nobody else."""
        if entry.row["status"] == "failed":
            return
        try:
            act(entry)
        except Interrupted:
            raise
        except ChainruleError as error:
            if error.exit_status == 3:
                raise
            self._failed(entry, str(error))
        except (RuntimeError, ValueError, MemoryError) as error:
            self._failed(entry, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")

    def _failed(self, entry: Entry, why: str) -> None:
        entry.row |= {"status": "failed", "error": why}
        say(f"{entry.row['label']}: failed: {why}")

    def _begin(self, entry: Entry) -> None:
        """Build every cell; one that is finished already comes back as it was."""
        for cell in entry.cells:
            ready = prepare(entry.settings.replace(seed=cell.seed), self.dataset)
            run, cell.ready = RunFolder(cell.folder), ready
            meter = Meter(entry.row["label"], ready, self.corpus.counted, every=10)
            cell.trainer = make_trainer(ready, run, tell=meter)
            RunFolder.create(cell.folder, overwrite=self.overwrite, resume=not self.overwrite)
            for report in [] if self.overwrite else cell.trainer.resume():
                say(f"{entry.row['label']}: damaged, passed over: {report}")
            describe(run, ready)
        config = {k: v for k, v in ready.config.model_dump().items() if k != "symbols"}
        assert cell.trainer is not None
        entry.row |= {
            "params": cell.trainer.model.parameters_count, "config": config,
            "recipe": ready.recipe.model_dump(include=None if ready.recipe.update == "gradient" else {"update"}),
            "tokenizer": ready.processor.card(ready.data.parts).get("tokenizer"), "seeds": [],
        }  # fmt: skip

    def _turn(self, entry: Entry, stop: Callable[[], bool]) -> None:
        """A slice of training for every cell that is not done; a row that is done is measured."""
        entry.row["status"] = "running"
        for cell in entry.cells:
            assert cell.trainer is not None
            if cell.trainer.progress.done:
                continue
            budget = cell.trainer.plan.budget
            turn = budget.amount / SLICES if budget.kind == "seconds" else 10.0
            with measure.MemoryWatch() as watch:
                cell.trainer.advance(turn, stop)
            cell.trainer.save()
            cell.peak = max(cell.peak, watch.extra)
        self._note_progress(entry)
        if all(cell.trainer and cell.trainer.progress.done for cell in entry.cells):
            self._measure(entry)

    def _note_progress(self, entry: Entry) -> None:
        first = entry.cells[0].trainer
        assert first is not None
        p = first.progress
        curve = [{**point, "value": self.task.validated(point["value"], self.corpus.counted)[0]} for point in p.curve]
        entry.row |= {
            "train_seconds": p.seconds, "train_tokens": p.tokens, "tokens_per_second_train": p.tokens / max(p.seconds, 1e-9),
            "curve": curve, "so_far": curve[-1]["value"] if curve else None,
        }  # fmt: skip

    def _measure(self, entry: Entry) -> None:
        """The test part is opened here, once for each cell; the row is the mean over its seeds."""
        scored, opened = [], []
        for cell in entry.cells:
            assert cell.trainer is not None and cell.ready is not None
            loaded = trained(cell.trainer, cell.ready)
            describe(RunFolder(cell.folder), cell.ready, loaded.data)
            opened.append(loaded)
            scored.append(self.task.measure(loaded, held_out(cell.ready.data)))
            cell.nats, cell.value = scored[-1].losses, scored[-1].metrics[self.metric]
            entry.row["seeds"].append({"seed": cell.seed, "value": cell.value})
        entry.blocks = measure.make_blocks(scored[0], np.mean([s.losses for s in scored], axis=0), self.exhibit.figure)
        loaded = opened[0]
        mean = {
            k: float(np.mean([s.metrics[k] for s in scored]))
            for k, v in scored[0].metrics.items()
            if isinstance(v, float)
        }
        fixed, per_symbol = (
            measure.state_bytes(loaded.model, loaded.compute, self.exhibit.begun)
            if isinstance(loaded.model, Autoregressive)
            else (None, None)
        )
        weights = sum(x.numel() * x.element_size() for x in loaded.model.state_dict().values())
        before = self.old.get(entry.name, {}).get(
            "peak_memory_bytes", 0
        )  # where a finished row comes back, nothing peaks
        entry.row |= scored[0].metrics | mean
        entry.row |= {
            "status": "done", "interval": self._as_figure(*interval(entry.blocks)), "params": loaded.model.parameters_count,
            "state_bytes_fixed": fixed, "state_bytes_per_token": per_symbol,
            "peak_memory_bytes": max(before, max(c.peak for c in entry.cells) + weights), "gain_of_doubling": gain_of_doubling(entry.row),
            **self.exhibit.row(entry, loaded, scored[0]),
        }  # fmt: skip
        entry.row.pop("so_far", None)
        say(f"{entry.row['label']}: {entry.row[self.metric]:.4f} {self.words} (test)")

    def _as_figure(self, low: float, high: float) -> tuple[float, float]:
        """An interval of what is resampled, as one of the figure: shares that are wrong become shares that are right."""
        best = self.task.perfect(self.corpus.counted)
        return (low, high) if best is None else (best - high, best - low)

    def _save_open(self) -> None:
        for entry in self.entries:
            for cell in entry.cells:
                if cell.trainer and not cell.trainer.progress.done and entry.row["status"] != "failed":
                    cell.trainer.save()

    # --- publishing ---------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """board.json, report.html and the link to the recommended run, each replaced atomically."""
        rows = {entry.name: entry.row for entry in self.entries}
        done = {e.name: e.blocks for e in self.entries if e.blocks is not None}
        running = any(entry.open for entry in self.entries)
        standing = rank(done)
        for name, (value, low, high) in (standing.gaps if standing else {}).items():
            if self.task.perfect(self.corpus.counted) is not None:
                value, low, high = -value, -high, -low
            rows[name]["gap"] = {"value": value, "low": low, "high": high}
        verdict = make_verdict({n: rows[n] for n in done}, done, running=running, figure=self.exhibit.figure)
        if verdict["best"]:
            for key, more in zip(("text", "text_ko"), self.exhibit.remark(rows[verdict["best"]])):
                verdict[key] += more
        board = {**self.board, "key": self.key(), "rows": list(rows.values()), "verdict": verdict}
        board["warnings"] = self.exhibit.warnings(rows)
        self.board = board
        page = render(board, self.lang)  # before anything is written: an unknown language must leave no board behind
        write_file(self.out / "board.json", json.dumps(board, ensure_ascii=False, indent=1, default=float).encode())
        write_file(self.out / "report.html", page.encode())
        if verdict["best"]:
            best = next(e for e in self.entries if e.name == verdict["best"])
            link = self.out / "best.tmp"
            link.unlink(missing_ok=True)
            link.symlink_to(best.cells[0].folder.relative_to(self.out))
            os.replace(link, self.out / "best")


def compare(
    data: str | Path | None = None,
    out: str | Path = "runs/compare",
    *,
    models: str | None = None,
    seeds: int = 1,
    lang: str = "en",
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Compare families on DATA (None: the plays that ship with the package) and return the board.

    ``settings`` are those of ``RunConfig``: budget, tokenizer, unit, split, params, seed, device, precision, threads, ….
    """
    config = RunConfig.make({"data": str(data or plays()), "family": "ngram", **settings}).meant()
    with Stop().listening() as stop:
        comparison = Comparison(config, models, Path(out), seeds=seeds, lang=lang, overwrite=overwrite)
        comparison.run(stop)
        if comparison.board["status"] == "interrupted":
            raise Interrupted(
                f"stopped; the report so far is {Path(out) / 'report.html'}: the same command continues", stop.number
            )
    return comparison.board
