"""Encoder and decoder put together, and each alone: which of the families are loaded, and what explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.claims.claim import claim
from chainrule.claims.finding import Finding, Said, Table, Text, say
from chainrule.claims.held_out import held_out
from chainrule.claims.runs import MissingRun, Runs, reads_text
from chainrule.core.task_registry import packages
from chainrule.explanation.views import views_of
from chainrule.nn.blocks import Block
from chainrule.nn.decoder import CausalBlocks
from chainrule.nn.encoder import Encoder
from chainrule.runs import RunFolder
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.explaining import input_kind

TRAIN = "chainrule train examples/data/"


@dataclass(frozen=True)
class Use:
    """A use of encoder and decoder.

    Args:
        model: its model type.
        task: its task.
        commands: what to type to train one, in five minutes at most; that of images trains a codec for as long too.
    """

    model: str
    task: str
    commands: tuple[str, ...]


USES = (
    Use(
        "transformer",
        "translate",
        (f"{TRAIN}english_french.tsv --task translate --model transformer --budget 4min --out runs/transformer",),
    ),
    Use(
        "bert",
        "fill",
        (f"{TRAIN}macbeth.txt --task fill --model bert --tokenizer word --budget 2min --out runs/bert",),
    ),
    Use("gpt", "generate", (f"{TRAIN}macbeth.txt --model gpt --budget 60s --out runs/gpt",)),
    Use(
        "vit",
        "classify-images",
        (f"{TRAIN}clothes.npz --task classify --model vit --budget 4min --set model.flip=true --out runs/vit",),
    ),
    Use(
        "dalle",
        "draw",
        (
            "chainrule data make rainbow --out rainbow",
            "chainrule train rainbow --model dalle --budget 150s --out runs/dalle",
        ),
    ),
)
TEXT = 60
"""Tokens of the text that *Look inside* opens with."""


@dataclass(frozen=True)
class Parts:
    """The Transformer blocks of a model that are trained (the codec of images is not), and how many of them attend to a
    source."""

    encoder: int
    decoder: int
    cross: int

    @classmethod
    def of(cls, run: Run) -> Parts:
        """Return the blocks of a run's model."""
        modules = [m for m in run.model.modules() if any(weight.requires_grad for weight in m.parameters())]
        stacks = {kind: sum(len(m.blocks) for m in modules if isinstance(m, kind)) for kind in (Encoder, CausalBlocks)}
        cross = sum(isinstance(m, Block) and m.cross is not None for m in modules)
        return cls(stacks[Encoder], stacks[CausalBlocks], cross)


@claim(13)
def together(runs: Runs) -> Finding:
    """Look for a run of each family, and for what its model is made of, how it was trained and what explains it."""
    loaded = {family: found[0] for family in USES if (found := runs.of(family.model, task=family.task))}
    missing = [family for family in USES if family not in loaded]
    commands = "\n".join(command for family in missing for command in family.commands)
    if not loaded:
        raise MissingRun(" / ".join(family.model for family in USES), commands)
    alike = [family for family, run in loaded.items() if _trained(run) == "gradient" and _blocks(run)]
    told = [say("loaded", runs=_names(runs, loaded.values()), many=len(loaded), of=len(USES))]
    if missing:
        told.append(say("missing", families=", ".join(f"{family.model} ({family.task})" for family in missing)))
    told += _alike(runs, loaded, alike)
    every = [run for task in packages() for run in runs.of(task=task)]
    blind = [run for run in loaded.values() if not _views(run)]
    told.append(say("unexplained", runs=_names(runs, blind)) if blind else say("explained"))
    holds = "yes" if len(alike) == len(USES) and not blind else "partly" if alike else "no"
    rows = [_row(runs, run) for run in every]
    columns = [say(name) for name in ("run", "model", "task", "blocks", "rule", "figure", "views")]
    return Finding(holds, told, [Table(say("table"), columns, rows)], _look(runs, loaded), commands)


def _names(runs: Runs, some: Sequence[Run] | object) -> str:
    return ", ".join(runs.named(run) for run in some)  # type: ignore[attr-defined]


def _trained(run: Run) -> str | None:
    """The update rule by which the training loop trained a run; None: it was not trained by the loop."""
    return (run.settings.get("train") or {}).get("update")


def _blocks(run: Run) -> int:
    parts = Parts.of(run)
    return parts.encoder + parts.decoder


def _alike(runs: Runs, loaded: dict[Use, Run], alike: Sequence[Use]) -> list[Said]:
    """The sentences on whether the loaded families are made of one block and trained by one update rule."""
    told = [say("alike", runs=_names(runs, [loaded[family] for family in alike]))] if alike else []
    other = [run for family, run in loaded.items() if family not in alike]
    return [*told, say("unlike", runs=_names(runs, other))] if other else told


def _views(run: Run) -> list[str]:
    kind = input_kind(run.task)
    return [] if kind is None else [one.name for one in views_of(run, kind)]


def _row(runs: Runs, run: Run) -> list[Text]:
    parts = Parts.of(run)
    told = say(
        "parts_cross" if parts.cross else "parts", encoder=parts.encoder, decoder=parts.decoder, cross=parts.cross
    )
    blocks = told if _blocks(run) else None
    return [runs.named(run), run.name, run.task, blocks, _trained(run), _figure(run), ", ".join(_views(run)) or None]


def _figure(run: Run) -> Text:
    """The best value on validation, in the words of the task; None: there is no training log."""
    events = RunFolder(run.path).events() if run.path else []
    values = [event["value"] for event in events if event["event"] == "valid"]
    if not values:
        return None
    metric = find_task(run.task).validation(run.data["counted"])
    best = max(values) if metric.higher_is_better else min(values)
    return say("value", en=metric.said(best), ko=metric.said(best, "ko"))


def _look(runs: Runs, loaded: dict[Use, Run]) -> dict[str, Any]:
    for run in loaded.values():
        if run.task == "generate" and reads_text(run):
            return {"run": [runs.named(run)], "text": "".join(held_out(run, TEXT).texts)}
    return {}
