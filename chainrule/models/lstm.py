"""LSTM: a cell state that is added to, and three gates that control what is written, kept and output.

    i, f, o = sigma(W x_t + U h_{t-1} + b),   g = tanh(W x_t + U h_{t-1} + b)
    c_t = f * c_{t-1} + i * g,                h_t = o * tanh(c_t)

Hochreiter & Schmidhuber 1997; the forget gate is Gers, Schmidhuber & Cummins 2000 (the first paper had none, f = 1).
Along c the gradient is multiplied by f alone: with f near 1 information from distant tokens survives. Its memory of
x_<t are two vectors.

Deviations: tokens enter through a learnt embedding; two biases, as torch.nn has them; no peepholes. Weights start
    uniform within 1 / sqrt(width); ``init=forget`` starts with a total forget bias of 1 (Jozefowicz et al. 2015),
    ``chrono`` prepares for long lags.
"""

from __future__ import annotations

from chainrule.core import Recipe, Tuning, register_backbone
from chainrule.nn.recurrent import LSTM
from chainrule.nn.recurrent_backbones import CausalRecurrent, recurrent_backbone


class CausalLSTM(CausalRecurrent, LSTM):
    """LSTM that carries its hidden state and its cell state."""


TUNING = {
    "generate": Tuning(
        Recipe(lr=8e-3, weight_decay=0.05, batch_size=16, warmup=150, bf16=True), {"small": {"dropout": 0.1}}
    ),
    "series": Tuning(settings={"init": "forget"}),
    "translate": Tuning(),
    "classify-images": Tuning(),
    "draw": Tuning(),
}
register_backbone(recurrent_backbone(LSTM, CausalLSTM, TUNING))
