"""A run as data: a trained model with the processor and the settings that using it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from chainrule.core import SequenceModel
from chainrule.core.compute import Compute
from chainrule.data.processor import Processor

ProcessorT = TypeVar("ProcessorT", bound=Processor)


@dataclass(repr=False)
class Run(Generic[ProcessorT]):
    """A trained model with the processor that encodes its data and the settings that it was trained with.

    ``config`` is ``config.json`` (model type, task and settings of the model), ``settings`` is ``config.yaml`` (the
    whole run), ``data`` is ``data.json`` (hashes, sizes and notes of the data, and choices made on the validation
    split).
    """

    task: str
    model: Any
    processor: ProcessorT
    config: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, Any]
    compute: Compute
    path: Path | None = None
    drafter: Any = None
    """Proposes tokens that the model verifies (`chainrule.inference.speculation`); None: there is none."""
    scheduler: Any = None
    """The thread that takes the steps of its engine, where the run is served."""

    @property
    def name(self) -> str:
        """Name of the model type."""
        return self.config["model_type"]

    @property
    def inspected(self) -> Run[ProcessorT]:
        """The run with the model whose inner values are read (`SequenceModel.inspected`)."""
        model = self.model.inspected if isinstance(self.model, SequenceModel) else self.model
        return self if model is self.model else replace(self, model=model)

    def __repr__(self) -> str:
        where = f" from {self.path}" if self.path else ""
        size = f"{self.model.parameters_count:,} parameters"
        return f"<Run {self.name} for {self.task}, {size}, processor {self.processor.kind}{where}>"
