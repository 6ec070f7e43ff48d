"""Contracts: batches, predictions, states, models, configs and the registry. Nothing runs here.

Names are imported when they are first used.

Dimension legend, one letter one meaning in the whole package, used as suffixes of names (``scores_BHTS``):

    B batch          T target time     S source time    D width           H heads       K head width
    V vocabulary     N hidden states   L layers         P patches         F feed-forward width
    G gates          C window (context length)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chainrule.core.batch import *
    from chainrule.core.config import *
    from chainrule.core.errors import *
    from chainrule.core.memory import *
    from chainrule.core.model import *
    from chainrule.core.noise import *
    from chainrule.core.prediction import *
    from chainrule.core.protocols import *
    from chainrule.core.recipe import *
    from chainrule.core.registry import *
    from chainrule.core.state import *

_EXPORTS = {
    "errors": [
        "ChainruleError",
        "CheckpointCorrupt",
        "ConfigError",
        "DataError",
        "MachineError",
        "NotRewindable",
        "UserError",
        "nearest",
    ],
    "config": ["Config"],
    "protocols": ["Encoded", "Tokenizer"],
    "batch": [
        "Batch",
        "CaptionImageBatch",
        "ImageBatch",
        "MaskedBatch",
        "PairBatch",
        "PartsBatch",
        "TaggedBatch",
        "TextBatch",
    ],
    "state": ["State"],
    "noise": ["Noise", "Randomness", "normal_noise"],
    "prediction": ["IGNORED", "Categorical", "Normal", "Prediction", "Projected", "draw", "scored"],
    "memory": ["BacksOff", "ContextSteps", "HiddenStates", "LinearMixture"],
    "model": [
        "Autoregressive",
        "Classifier",
        "Codec",
        "Counting",
        "EMTrainable",
        "Encoder",
        "ExpectedStatistics",
        "MaskedLM",
        "Objective",
        "Pretrainable",
        "SequenceModel",
        "Tagger",
        "Terms",
        "total",
    ],
    "recipe": ["Recipe"],
    "registry": [
        "Backbone",
        "BackboneFactory",
        "BackbonePart",
        "ModelType",
        "Tuning",
        "load_file",
        "model_type",
        "model_types",
        "register",
        "register_backbone",
        "register_head",
    ],
}
"""Names by the module that defines them. A name is imported when it is first used: errors load no torch."""
__all__ = sorted(name for names in _EXPORTS.values() for name in names)


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _EXPORTS.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
