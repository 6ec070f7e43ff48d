"""The main job: same data, same split, same budget, every family; a board and a report that a person can decide from.

Anytime: the report is written after every slice and is valid from the first one on; interrupting saves and leaves it so;
running the same command again continues.
"""

from __future__ import annotations

import json
import math
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
from chainrule.core import ChainruleError, Counting, Family, UserError, family, load_file
from chainrule.core.config import parse_settings
from chainrule.data import SymbolTokenizer, counting_batches, plays
from chainrule.report import measure
from chainrule.report.html import render
from chainrule.report.verdict import gain_of_doubling, make_verdict, make_warnings, rank
from chainrule.scoring.evaluate import Blocks, interval, token_nats
from chainrule.training.loop import Trainer
from chainrule.training.runs import describe, machine, make_trainer, prepare, read_data
from chainrule.training.settings import RunConfig
from chainrule.training.tasks import Loaded, find_task
from chainrule.training.tasks.generate import head, part_bytes
from chainrule.training.train import Interrupted, Meter, Stop, say

LADDER = tuple(range(1, 9))
LADDER_SYMBOLS = 1 << 17
SLICES = 6
"""Turns in which the families train: each sixth of the budget, so that rows fill in together."""
LABELS = {"markov": "Markov", "ngram": "n-gram", "rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "gpt": "GPT", "hmm": "HMM"}


@dataclass
class Cell:
    """One model and one seed: a run folder and its trainer."""

    seed: int
    folder: Path
    trainer: Trainer | None = None
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
        self.corpus: Any = read_data(settings)
        self.test = self.corpus.parts.get("test") or self.corpus.parts["valid"]
        self.card = self.corpus.card()
        self.metric, self.words = self.task.metric(self.corpus.counted)
        known = {k for _, chosen, _ in wanted for k in family(chosen, settings.task).config.model_fields}
        self.strange = settings.model.keys() - known
        """Shared settings that no row knows: a slip. One that some rows know goes to those."""
        self.entries = [self._entry(name, chosen, values, settings, seeds) for name, chosen, values in wanted]
        self.settings = settings
        self._check()
        old = self._claim()
        unit = self.corpus.parts["train"]
        self.board: dict[str, Any] = {
            "format": 1, "title": self.corpus.name, "task": self.task.name, "status": "running",
            "created": old.get("created") or time.strftime("%Y-%m-%d %H:%M"),
            "command": "chainrule " + shlex.join(sys.argv[1:]) if Path(sys.argv[0]).stem == "chainrule" else None,
            "budget": {"text": f"{settings.budget} for each model"}, "unit_name": self.corpus.counted, "data": self.card,
            "machine": machine(), "ladder": old.get("ladder", []), "prompt": self._prompt(unit.unit),
            "references": self._references(),
        }  # fmt: skip
        self.old = {row["model"]: row for row in old.get("rows", [])}

    # --- setting out --------------------------------------------------------------------------------------------------

    def _entry(self, name: str, chosen: str, values: dict[str, Any], settings: RunConfig, seeds: int) -> Entry:
        found = family(chosen, settings.task)
        shared = {k: v for k, v in settings.model.items() if k in found.config.model_fields or k in self.strange}
        mine = settings.replace(family=chosen, model={**shared, **values})
        shown = LABELS.get(chosen, chosen) + name[len(chosen) :] if name.startswith(chosen) else name
        entry = Entry(name, mine, found, row={"model": name, "label": shown, "status": "waiting"})
        folder = re.sub(r"[^\w.=+-]+", "-", name)
        for k in range(seeds):
            entry.cells.append(
                Cell(settings.seed + k, self.out / "runs" / (f"{folder}-seed{settings.seed + k}" if k else folder))
            )
        return entry

    def _check(self) -> None:
        """Settings that no entry can take are a slip in the command, not the failure of a cell."""
        errors: list[UserError] = []
        for entry in self.entries:
            try:
                prepare(entry.settings, self.corpus)
                return
            except UserError as error:
                errors.append(error)
        raise errors[0]

    def _claim(self) -> dict[str, Any]:
        """The folder is ours, empty, or holds the same comparison, which is then continued."""
        path = self.out / "board.json"
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out}: a file where a folder is to be made; choose another --out")
        if not path.exists():
            if self.out.is_dir() and any(self.out.iterdir()):
                raise UserError(f"{self.out}: not empty and holds no comparison; choose another --out")
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
        return json.dumps([self.corpus.split_sha256, {**shared, "data": self.corpus.name}], sort_keys=True, default=str)

    def _prompt(self, unit: str) -> str:
        """The beginning of a line in the middle of the test text; nothing for short records (they begin at the beginning)."""
        if unit == "lines":
            return ""
        middle = len(self.test.starts) // 2
        start, end = int(self.test.starts[middle]), int(self.test.ends[middle])
        if len(self.test.starts) == 1:
            start += (end - start) // 2
        if isinstance(self.corpus.tokenizer, SymbolTokenizer):
            form = self.corpus.tokenizer.form
            start += -(start - int(self.test.starts[middle])) % form.step
            return form.write(self.corpus.tokenizer.symbols_of(self.test.ids[start : min(end, start + 8 * form.step)]))
        text = self.corpus.tokenizer.decode(self.test.ids[start : min(end, start + 400)]).decode(errors="ignore")
        lines = [line for line in text.split("\n")[1:] if len(line.strip()) >= 16]
        return (lines[0] if lines else text)[:60]

    def _references(self) -> dict[str, float]:
        """Figures that need no model, in the board's unit; a compressor only where there are bytes to compress."""
        train, tokenizer = self.corpus.parts["train"], self.corpus.tokenizer
        spelled = 8.0 * float(train.unknown_bytes.sum())
        found = {"entropy0": (self.card["entropy"] * len(train) + spelled) / train.nbytes}
        if train.counted == "symbol":
            return {"uniform": math.log2(tokenizer.symbols), **found}
        return {"xz": self.card["xz"]["bits_per_byte"], "uniform": 8.0, **found}

    # --- the acts -----------------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool]) -> None:
        """Ladder, counting rows, neural rows in turns; every failure stays in its own row."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.publish()
        if not self.board["ladder"]:
            self.climb()
        self._choose_n()
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
            self._grow()
        self._save_open()
        self.publish()

    def climb(self) -> None:
        """The ladder: one count of the training part at n = 8, eight estimates, validation bits of each."""
        train, valid = self.corpus.parts["train"], head(self.corpus.parts["valid"], LADDER_SYMBOLS)
        chosen, compute = (
            family("ngram"),
            prepare(self.settings.replace(family="ngram", model={}, size="small"), self.corpus).compute,
        )
        top = chosen.build(chosen.configure(symbols=self.corpus.tokenizer.symbols, n=LADDER[-1]))
        assert isinstance(top, Counting)
        stats = None
        for batch in counting_batches(train, self.corpus.tokenizer.symbols, overlap=LADDER[-1]):
            new = top.summarize(batch)
            stats = new if stats is None else stats + new
        size = part_bytes(valid) * np.log(2)
        for n, model in zip(LADDER, top.ladder(stats, LADDER)):  # type: ignore[attr-defined]
            value = float(token_nats(model, valid, compute)[0].sum() / size)
            self.board["ladder"].append({"n": n, "value": value})
        say(
            "ladder: "
            + ", ".join(f"n={r['n']} {r['value']:.3f}" for r in self.board["ladder"])
            + f" {self.words} (validation)"
        )

    def _choose_n(self) -> None:
        """The n-gram row is the rung that is best on validation, unless its n was given."""
        best = min(self.board["ladder"], key=lambda rung: rung["value"])["n"]
        for entry in self.entries:
            if entry.family.name == "ngram" and "n" not in entry.settings.model:
                entry.settings = entry.settings.replace(model={**entry.settings.model, "n": best})
                entry.row["label"] = f"n-gram (n = {best})" if entry.name == "ngram" else entry.row["label"]

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
            ready = prepare(entry.settings.replace(seed=cell.seed), self.corpus)
            run, meter = RunFolder(cell.folder), Meter(entry.row["label"], str(ready.budget), every=10)
            cell.trainer = make_trainer(ready, self.corpus, run, tell=meter)
            RunFolder.create(cell.folder, overwrite=self.overwrite, resume=not self.overwrite)
            for report in [] if self.overwrite else cell.trainer.resume():
                say(f"{entry.row['label']}: damaged, passed over: {report}")
            describe(run, ready, self.corpus)
        config = {k: v for k, v in ready.config.model_dump().items() if k != "symbols"}
        assert cell.trainer is not None
        entry.row |= {
            "params": cell.trainer.model.parameters_count, "config": config,
            "recipe": ready.recipe.model_dump(include=None if ready.recipe.update == "gradient" else {"update"}),
            "tokenizer": self.corpus.tokenizer.name, "seeds": [],
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
        entry.row |= {
            "train_seconds": p.seconds, "train_tokens": p.tokens, "tokens_per_second_train": p.tokens / max(p.seconds, 1e-9),
            "curve": p.curve, "so_far": p.curve[-1]["value"] if p.curve else None,
        }  # fmt: skip

    def _measure(self, entry: Entry) -> None:
        """The test part is opened here, once for each cell; the row is the mean over its seeds."""
        scored = []
        for cell in entry.cells:
            assert cell.trainer is not None
            cell.trainer.restore_best()
            loaded = self._loaded(entry, cell)
            scored.append(self.task.measure(loaded, self.test))
            cell.nats, cell.value = scored[-1].losses, scored[-1].metrics[self.metric]
            entry.row["seeds"].append({"seed": cell.seed, "value": cell.value})
        entry.blocks = measure.make_blocks(scored[0], np.mean([s.losses for s in scored], axis=0))
        first, loaded = entry.cells[0], self._loaded(entry, entry.cells[0])
        mean = {
            k: float(np.mean([s.metrics[k] for s in scored]))
            for k in (self.metric, "bits_per_char", "nats", "accuracy")
            if k in scored[0].metrics
        }
        fixed, per_symbol = measure.state_bytes(loaded.model, loaded.compute)
        texts, speed = measure.samples(loaded, self.board["prompt"], seed=first.seed)
        weights = sum(x.numel() * x.element_size() for x in loaded.model.state_dict().values())
        before = self.old.get(entry.name, {}).get(
            "peak_memory_bytes", 0
        )  # where a finished row comes back, nothing peaks
        entry.row |= scored[0].metrics | mean
        entry.row |= {
            "status": "done", "interval": interval(entry.blocks), "params": loaded.model.parameters_count,
            "state_bytes_fixed": fixed, "state_bytes_per_token": per_symbol, "samples": texts, "tokens_per_second_generate": speed,
            "peak_memory_bytes": max(before, max(c.peak for c in entry.cells) + weights), "gain_of_doubling": gain_of_doubling(entry.row),
            "memory": measure.curve_of_memory(loaded, self.test, scored[0].losses),
        }  # fmt: skip
        entry.row.pop("so_far", None)
        say(f"{entry.row['label']}: {entry.row[self.metric]:.4f} {self.words} (test)")

    def _loaded(self, entry: Entry, cell: Cell) -> Loaded:
        assert cell.trainer is not None
        data = {"unit": self.corpus.unit, "terminator": self.corpus.terminator.decode()}
        config = {
            "model_type": entry.family.name,
            "task": self.task.name,
            "model": cell.trainer.model.config.model_dump(),
        }
        return Loaded(cell.trainer.model, self.corpus.tokenizer, data, {}, config, cell.trainer.plan.compute)

    def _grow(self) -> None:
        rows = []
        for entry in self.entries:
            if entry.row["status"] == "done":
                trainer: Any = entry.cells[0].trainer
                rows.append({"model": entry.name, **measure.growth(trainer.model, trainer.plan.compute)})
        self.board["growth"] = {"lengths": list(measure.GROWTH_LENGTHS), "rows": rows}

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
            rows[name]["gap"] = {"value": value, "low": low, "high": high}
        verdict = make_verdict({n: rows[n] for n in done}, done, running=running, unit=self.board["unit_name"])
        board = {**self.board, "key": self.key(), "rows": list(rows.values()), "verdict": verdict}
        board["warnings"] = make_warnings(self.card, rows)
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
    config = RunConfig.make({"data": str(data or plays()), "family": "ngram", **settings})
    with Stop().listening() as stop:
        comparison = Comparison(config, models, Path(out), seeds=seeds, lang=lang, overwrite=overwrite)
        comparison.run(stop)
        if comparison.board["status"] == "interrupted":
            raise Interrupted(
                f"stopped; the report so far is {Path(out) / 'report.html'}: the same command continues", stop.number
            )
    return comparison.board
