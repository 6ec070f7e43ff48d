"""A model type of your own in one file: a bank of fading memories.

What does it remember of x_<t? Running averages of the symbols read, at K time scales tau_k from less than one symbol to
about forty (the exponential trace memory of Mozer 1993, with time scales that are learned):

    m_k(t) = a_k m_k(t-1) + (1 - a_k) e(x_t),    a_k = exp(-1 / tau_k)
    p(x_{t+1} | x_<=t) = softmax(W relu(U [norm m_1(t) ... norm m_K(t)]))

Try: chainrule laws examples/my_model.py  ·  chainrule compare corpus.txt --models examples/my_model.py,gru
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chainrule.core import Autoregressive, Categorical, Config, Recipe, State, register


class FadingConfig(Config):
    vocab_size: int = 256
    width: int = 48
    scales: int = 8
    piece: int = 64  # symbols read at a time: work grows with length x piece
    presets = {"tiny": {"width": 8, "scales": 3, "piece": 5}, "small": {}, "base": {"width": 96, "scales": 12}}


@dataclass
class Averages(State):
    memory_BKD: Tensor


@register("fading", config=FadingConfig, recipe=Recipe(lr=4e-3), width="width")
class Fading(Autoregressive):
    def __init__(self, config: FadingConfig):
        super().__init__(config)
        self.vocab_size, self.piece, width = config.vocab_size, config.piece, config.width
        self.embedding = nn.Embedding(config.vocab_size + 1, width)  # the last row is the start symbol
        self.log_scale_K = nn.Parameter(torch.linspace(-1.2, 3.7, config.scales))
        self.hidden = nn.Linear(config.scales * width, 8 * width)
        self.output = nn.Linear(8 * width, config.vocab_size)

    def initial_state(self, batch: int, capacity: int | None = None) -> Averages:
        weight, scales = self.embedding.weight, len(self.log_scale_K)
        length_B = torch.zeros(batch, dtype=torch.long, device=weight.device)
        return Averages(length_B, weight.new_zeros(batch, scales, weight.shape[1]))

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Categorical, Averages]:
        state = state or self.initial_state(len(inputs_BT))
        assert isinstance(state, Averages)
        read_B = torch.full_like(state.length_B, inputs_BT.shape[1]) if lengths_B is None else lengths_B
        memory_BKD, seen = state.memory_BKD, []
        for first, piece_BT in enumerate(inputs_BT.split(self.piece, dim=1)):
            after_BTKD = self._average(piece_BT, memory_BKD)
            seen.append(after_BTKD)
            # Row b goes on from what it remembered after its own last symbol: pads come after that, and are not seen.
            valid_B = (read_B - first * self.piece).clamp(0, piece_BT.shape[1])
            history_BTKD = torch.cat([memory_BKD.unsqueeze(1), after_BTKD], dim=1)
            memory_BKD = history_BTKD[torch.arange(len(valid_B), device=valid_B.device), valid_B]
        norm_BTKD = F.rms_norm(torch.cat(seen, dim=1), memory_BKD.shape[-1:])
        logits_BTV = self.output(F.relu(self.hidden(norm_BTKD.flatten(2))))
        return Categorical(logits_BTV), Averages(state.length_B + read_B, memory_BKD)

    def _average(self, piece_BT: Tensor, memory_BKD: Tensor) -> Tensor:
        """The averages after each symbol; a start symbol cuts off whatever lies before it."""
        time_T = torch.arange(piece_BT.shape[1], device=piece_BT.device)
        decay_K = torch.exp(-self.log_scale_K)
        record_BT = (piece_BT == self.start_id).cumsum(1)  # 0: still in the record that the state remembers
        age_TS = (time_T[:, None] - time_T).clamp(min=0)
        same_BTS = (record_BT[:, :, None] == record_BT[:, None, :]) & (time_T[:, None] >= time_T)
        weight_KTS = torch.exp(-decay_K[:, None, None] * age_TS) * (1 - torch.exp(-decay_K))[:, None, None]
        fresh = torch.einsum("kts,bts,bsd->btkd", weight_KTS, same_BTS.to(weight_KTS), self.embedding(piece_BT))
        kept_BTK = torch.exp(-decay_K * (time_T[:, None] + 1)) * (record_BT == 0).unsqueeze(-1)
        return fresh + kept_BTK.unsqueeze(-1) * memory_BKD.unsqueeze(1)
