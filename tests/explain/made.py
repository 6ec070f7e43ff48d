"""Runs for tests of what models remember: trained on chosen text with chosen settings, or with another model."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import chainrule
from chainrule.api import Run
from chainrule.core import Batch
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.trace import trace
from tests.explain.runs import TEXT, small_run


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="chainrule-explain-made-")


@functools.cache
def made_run(model: str, text: str = TEXT, **settings: Any) -> Run:
    """Return a run over bytes, trained for two steps; ``settings`` are those of the model, without ``model.``."""
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    (folder / "text.txt").write_text(text)
    chosen = {"size": "tiny", **{f"model.{name}": value for name, value in settings.items()}}
    chainrule.train(str(folder / "text.txt"), model, str(folder / "run"), budget="2steps", set=chosen, threads=1)
    return chainrule.load(str(folder / "run"), threads=1, precision="fp32")


def mixed_run(*models: str) -> Run:
    """Return a mixture of small runs of these model types."""
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    paths = [str(small_run(model).path) for model in models]
    chainrule.mix(paths, str(folder / "mix"), threads=1, precision="fp32")
    return chainrule.load(str(folder / "mix"), threads=1, precision="fp32")


def with_model(model: Any) -> Run:
    """Return a run over bytes that has this model."""
    config = {"model_type": "made", "task": "generate", "model": model.config.model_dump()}
    return replace(small_run("ngram"), model=model.eval(), config=config, data={}, path=None)


def trace_of(run: Run, text: str, *views: str, **asked: Any) -> dict[str, Any]:
    """Return the trace of a text of bytes, or of a run over bytes that holds another model."""
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return trace(ModelInput(run, ids, [chr(k) for k in ids]), views, {"at": 0, **asked})


def batch_of(text: bytes) -> Batch:
    """Return a record of bytes as a batch: a start token, then the text."""
    ids_1T = torch.tensor([[256, *text]])
    return Batch(ids_1T[:, :-1], ids_1T[:, 1:])


def plain(x: Tensor) -> np.ndarray:
    """Return a tensor as an array of float64."""
    return x.detach().double().numpy()
