"""Settings of a run, as given by the user and as resolved against a model type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pydantic

from chainrule.core import Config, ModelType, Recipe, SequenceModel, UserError, model_type
from chainrule.core.compute import Compute
from chainrule.core.task_registry import TASKS
from chainrule.data.dataset import EncodedData
from chainrule.data.folds import Fold
from chainrule.data.recognise import as_meant
from chainrule.data.text_encoding import check_encoding, compose
from chainrule.training.budget import Budget


class RunConfig(Config):
    """Everything that a run depends on; ``config.yaml`` is this, fully resolved."""

    section: ClassVar[str] = ""

    data: str
    model_type: str
    task: str = "generate"
    size: str = "small"
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    tokenizer: str | None = None
    """Default: none for symbols, a folder's own ``tokenizer.json``, else byte."""
    columns: str | None = None
    group: str | None = None
    """The column whose rows of one value are kept together: one record of steps, or one side of the split."""
    time: str | None = None
    """The column that orders the rows of a record."""
    gap: str | None = None
    """The pause that ends a record, by the times: 30min."""
    unit: Literal["stream", "lines", "docs"] | None = None
    split: tuple[float, float, float] | Fold = (0.9, 0.05, 0.05)
    """Shares of train, valid and test, or a fold of cross-validation."""
    on_bad: Literal["stop", "skip"] = "stop"
    encoding: str | None = None
    """The encoding of files of text; None: UTF-8."""
    normalize: Literal["nfc", "none"] | None = None
    """Unicode normalisation of text; None: ``nfc`` where words and labels are compared, ``none`` for text as bytes."""
    context: int | None = None
    image_size: int | None = None
    """Resize images to N × N pixels; None: their own size where they are small squares, else 32."""
    budget: str = "60s"
    params: float | None = None
    pretrained: str | None = None
    """The folder of a run whose weights and tokenizer a model starts from."""
    seed: int = 42
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = None
    save_every: str = "30s"

    @pydantic.field_validator("columns", "group", "time")
    @classmethod
    def _composed(cls, name: str | None) -> str | None:
        """Return names of columns as tables have them: composed (Unicode NFC)."""
        return compose(name) if name else name

    @pydantic.field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        return check_encoding(name) if name else None

    @pydantic.field_validator("model", "train", mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """Return settings with Python's numbers in place of those of NumPy, which JSON does not know."""
        if not isinstance(values, Mapping):
            return values
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _split_of_the_task(cls, values: Any) -> Any:
        """Add the default split of the task."""
        task = None if not isinstance(values, dict) else TASKS.find(values.get("task", "generate"))
        return values if task is None else {"split": task.default_split, **values}

    @classmethod
    def known(cls, values: Mapping[str, Any]) -> dict[str, Collection[str]]:
        """Return the names of the settings that exist, with those of the model if ``values`` say which it is."""
        known = super().known(values)
        try:
            chosen = model_type(str(values["model_type"]), str(values.get("task", "generate")))
        except (KeyError, UserError):
            return known
        return {**known, "model": chosen.config.model_fields}

    def infer_task(self) -> RunConfig:
        """Return the settings with the task that DATA are for: classifying images is a task of its own."""
        task = as_meant(self.task, self.data, self.columns)
        return self if task == self.task else self.replace(task=task)


@dataclass
class ResolvedRun:
    """Settings resolved against a model type: the input of ``Trainer``."""

    settings: RunConfig
    model_type: ModelType
    config: Config
    recipe: Recipe
    compute: Compute
    budget: Budget
    save_every: Budget
    data: EncodedData
    """DATA, encoded."""
    learnt: SequenceModel | None = None
    """The model whose weights this one starts from."""

    @property
    def processor(self) -> Any:
        """The processor of this run."""
        return self.data.processor
