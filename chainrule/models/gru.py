"""GRU: one vector, two gates, no separate cell state; fewer parameters than the LSTM, often as good.

    r, z = sigma(W x_t + U h_{t-1} + b),   n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n))
    h_t = (1 - z) * n + z * h_{t-1}

Cho et al. 2014, in the form that torch and cuDNN run (reset after the product, as in the paper's first version). z is
the share that is kept: z = 1 copies the hidden state unchanged. Its memory of x_<t is one vector.

Deviations: tokens enter through a learnt embedding; two biases, as torch.nn has them.
"""

from __future__ import annotations

from chainrule.core import Recipe, Tuning, register_backbone
from chainrule.nn.recurrent import GRU
from chainrule.nn.recurrent_backbones import CausalRecurrent, recurrent_backbone


class CausalGRU(CausalRecurrent, GRU):
    """GRU that carries its hidden state."""


TUNING = {
    "generate": Tuning(
        Recipe(lr=5e-3, weight_decay=0.05, warmup=150, bf16=True), {"small": {"width": 288, "dropout": 0.1}}
    ),
    "series": Tuning(settings={"init": "orthogonal"}),
    "translate": Tuning(),
    "classify-images": Tuning(),
    "draw": Tuning(),
}
register_backbone(recurrent_backbone(GRU, CausalGRU, TUNING))
