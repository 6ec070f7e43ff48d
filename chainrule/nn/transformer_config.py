"""Settings of Transformers."""

from __future__ import annotations

from typing import Any, Literal

from chainrule.core import Config

Activation = Literal["gelu", "gelu_tanh", "relu", "relu2", "swish"]
Positions = Literal["none", "learned", "sinusoidal", "rotary", "alibi", "relative"]
Layout = Literal["interleaved", "concat"]
Timescale = Literal["paper", "t2t"]

MUON: dict[str, Any] = {"optimizer": "muon", "lr": 3e-3, "muon_lr": 0.02, "weight_decay": 0.01}
"""Settings of a Recipe that were tuned for stacks of blocks."""


class TransformerConfig(Config):
    """Settings of a stack of Transformer blocks."""

    width: int = 192
    layers: int = 4
    heads: int = 3
    groups: int | None = None
    """Number of key and value heads; None: as many as heads."""
    head_width: int | None = None
    """Width of a head's queries, keys and values; None: width / heads."""
    context: int = 256
    positions: Positions = "rotary"
    layout: Layout = "interleaved"
    timescale: Timescale = "paper"
    norm: Literal["pre", "post"] = "pre"
    tied: bool = False
    """Use the embedding matrix as output matrix."""
    bias: bool = False
    activation: Activation = "relu2"
    qk_norm: bool = True
    dropout: float = 0.0
    expansion: int = 4


class TransformerLMConfig(TransformerConfig):
    """Settings of a Transformer over tokens."""

    vocab_size: int


def of_blocks(config: TransformerConfig, **changes: Any) -> TransformerConfig:
    """Return the settings of the blocks alone.

    Args:
        config: settings of a model that has blocks.
        changes: settings that differ.
    """
    shared = {name: getattr(config, name) for name in TransformerConfig.model_fields}
    return TransformerConfig.make({**shared, **changes})
