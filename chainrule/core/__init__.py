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
    from chainrule.core.batch import (
        Batch,
        CaptionImageBatch,
        ImageBatch,
        MaskedBatch,
        PairBatch,
        TaggedBatch,
        TextBatch,
    )
    from chainrule.core.config import Config
    from chainrule.core.errors import (
        ChainruleError,
        CheckpointCorrupt,
        ConfigError,
        DataError,
        MachineError,
        NotRewindable,
        UserError,
        nearest,
    )
    from chainrule.core.model import (
        Autoregressive,
        Classifier,
        Codec,
        Counting,
        EMTrainable,
        Encoder,
        ExpectedStatistics,
        MaskedLM,
        Objective,
        Pretrainable,
        SequenceModel,
        Tagger,
        Terms,
        total,
    )
    from chainrule.core.noise import Noise, Randomness, normal_noise
    from chainrule.core.prediction import IGNORED, Categorical, Normal, Prediction, Projected, draw, scored
    from chainrule.core.protocols import Encoded, Tokenizer
    from chainrule.core.recipe import Recipe
    from chainrule.core.registry import (
        Backbone,
        BackboneFactory,
        BackbonePart,
        ModelType,
        Tuning,
        load_file,
        model_type,
        model_types,
        register,
        register_backbone,
        register_head,
    )
    from chainrule.core.state import State

__all__ = [
    "IGNORED",
    "Autoregressive",
    "Backbone",
    "BackboneFactory",
    "BackbonePart",
    "Batch",
    "CaptionImageBatch",
    "Categorical",
    "ChainruleError",
    "CheckpointCorrupt",
    "Classifier",
    "Codec",
    "Config",
    "ConfigError",
    "Counting",
    "DataError",
    "EMTrainable",
    "Encoded",
    "Encoder",
    "ExpectedStatistics",
    "ImageBatch",
    "MachineError",
    "MaskedBatch",
    "MaskedLM",
    "ModelType",
    "Noise",
    "Normal",
    "NotRewindable",
    "Objective",
    "PairBatch",
    "Prediction",
    "Pretrainable",
    "Projected",
    "Randomness",
    "Recipe",
    "SequenceModel",
    "State",
    "TaggedBatch",
    "Tagger",
    "Terms",
    "TextBatch",
    "Tokenizer",
    "Tuning",
    "UserError",
    "draw",
    "load_file",
    "model_type",
    "model_types",
    "nearest",
    "normal_noise",
    "register",
    "register_backbone",
    "register_head",
    "scored",
    "total",
]

_MODULES = ("errors", "config", "protocols", "batch", "state", "noise", "prediction", "model", "recipe", "registry")
"""Modules in which a name is looked up when it is first used, those without torch first."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}"))
            if name in found:
                globals()[name] = found[name]
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
