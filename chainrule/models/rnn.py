"""Vanilla (Elman) RNN: the hidden state is fed back at every step.

    h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),   p(x_{t+1} | x_<=t) = softmax(W_o h_t + b_o)

Elman, "Finding structure in time", 1990. Unrolled over time it is one fully connected layer applied T times, so that
dh_T/dh_t is a product of T - t Jacobians diag(f') W_hh: the influence of distant tokens decays (or explodes)
geometrically with the spectral radius times the slope of f. Its memory of x_<t is one vector.

Deviations: tokens enter through a learnt embedding; two biases, as torch.nn has them. Weights start uniform within
1 / sqrt(width); ``init=orthogonal`` and ``init=identity`` (the IRNN, Le et al. 2015) are there for comparison.
"""

from __future__ import annotations

from typing import Literal

from chainrule.core import Recipe, Tuning, register_backbone
from chainrule.nn.recurrent import RNN
from chainrule.nn.recurrent_backbones import CausalRecurrent, RecurrentConfig, recurrent_backbone


class RNNConfig(RecurrentConfig):
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"


class CausalRNN(CausalRecurrent, RNN):
    """Elman network that carries its hidden state."""

    def __init__(self, config: RNNConfig, input_width: int):
        super().__init__(config, input_width, nonlinearity=config.activation)


TUNING = {
    "generate": Tuning(
        Recipe(lr=4e-3, weight_decay=0.05, warmup=150, bf16=True),
        {"small": {"width": 384}, "base": {"width": 1024}},
    ),
    "series": Tuning(
        Recipe(lr=5e-3, batch_size=16, sequence_length=128),
        {"small": {"width": 32}},
        settings={"init": "orthogonal"},
    ),
    "translate": Tuning(),
    "classify-images": Tuning(),
}
register_backbone(recurrent_backbone(RNN, CausalRNN, TUNING, RNNConfig))
