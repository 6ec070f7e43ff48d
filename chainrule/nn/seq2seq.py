"""A recurrent network that reads a source in both directions and writes a target. Shared by rnn, lstm and gru.

    source:     s_1 .. s_S from a stack that reads in both directions;  summary = (forward at the end, backward at the beginning)
    beginning:  every memory h_0 = tanh(W_b summary)                                       (Bahdanau et al. 2015, appendix A.2.2)
    target:     h_t from a recurrent stack over y_<t
    attention:  none            o_t = h_t: all that is known of the source is in h_0       (Sutskever et al. 2014; Cho et al. 2014)
                additive        e_ts = v . tanh(W h_t + U s_s)                             (Bahdanau et al. 2015)
                multiplicative  e_ts = h_t . W s_s                                         (Luong et al. 2015, "general")
                a_t = softmax(e_t);  o_t = tanh(W_c (sum_s a_ts s_s, h_t))                 (Luong et al. 2015, equation 5)
    p(y_t | y_<t, source) = softmax(W_o o_t + b_o)

Deviation from Bahdanau et al.: what is attended to joins the output, not the recurrence, so that all target places are trained at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, Config, Prediction, Projected, Recipe, State
from chainrule.nn.attention import as_bias, masked_softmax
from chainrule.nn.bidirectional import Bidirectional
from chainrule.nn.language_model import RecurrentState, run_with_resets
from chainrule.nn.masks import ends
from chainrule.nn.probes import Probe
from chainrule.nn.recurrent import HiddenState, Recurrent


class Seq2SeqConfig(Config):
    """What rnn, lstm and gru between sequences have in common."""

    vocab_size: int
    source_vocab_size: int
    width: int = 384
    embedding: int = 192
    layers: int = 1
    encoder_layers: int = 1
    attention: Literal["none", "additive", "multiplicative"] = "multiplicative"
    dropout: float = 0.0
    """On embeddings, between layers and before the output, never on the recurrence."""
    joint: bool = False
    """Source and target have one vocabulary, and then one embedding."""

    presets = {
        "tiny": {"width": 16, "embedding": 8, "layers": 2, "encoder_layers": 2},
        "small": {"dropout": 0.2},
        "base": {"width": 768, "embedding": 256, "layers": 2, "encoder_layers": 2, "dropout": 0.2},
    }


TRANSLATING = Recipe(lr=2e-3, batch_size=16, sequence_length=64, label_smoothing=0.1, warmup=150)
"""A batch is about 1,024 symbols of the longer side: many small steps get further in minutes than few large ones."""


@dataclass
class Seq2SeqState(RecurrentState):
    """The recurrent memory, what it begins with, and the source: as it is asked (keys), as it is read (values), B x S x D."""

    begin_BLH: HiddenState
    keys_BSD: Tensor
    values_BSD: Tensor
    source_lengths_B: Tensor
    coverage_BS: Tensor | None = None
    """The attention that each symbol of the source has had in all predictions so far; 1 at pads. None: nothing attends."""

    def concat(self, *others: Self) -> Self:
        longest = max(state.keys_BSD.shape[1] for state in (self, *others))
        return super(Seq2SeqState, self._padded(longest)).concat(*(state._padded(longest) for state in others))

    def where(self, keep_B: Tensor, other: Self) -> Self:
        longest = max(self.keys_BSD.shape[1], other.keys_BSD.shape[1])
        return super(Seq2SeqState, self._padded(longest)).where(keep_B, other._padded(longest))

    def _padded(self, longest: int) -> Self:
        wider = lambda x: F.pad(x, (0, 0, 0, longest - x.shape[1]))  # noqa: E731
        more, had_BS = longest - self.keys_BSD.shape[1], self.coverage_BS
        covered_BS = had_BS if had_BS is None else F.pad(had_BS, (0, more), value=1.0)
        return replace(self, keys_BSD=wider(self.keys_BSD), values_BSD=wider(self.values_BSD), coverage_BS=covered_BS)


class RecurrentSeq2Seq(Autoregressive):
    """Remembers the source as vectors, all of them or the last alone, and the target in a recurrent memory."""

    config: Seq2SeqConfig

    cell: type[Recurrent]

    def __init__(self, config: Seq2SeqConfig):
        super().__init__(config)
        c = config
        self.vocab_size = c.vocab_size
        self.stack = stack = self.cell(c.embedding, c.width, c.layers, dropout=c.dropout)
        self.embedding = nn.Embedding(c.vocab_size + 1, c.embedding)
        self.source_embedding = None if c.joint else nn.Embedding(c.source_vocab_size, c.embedding)
        self.encoder = Bidirectional(self.cell, c.embedding, c.width, c.encoder_layers, c.dropout)
        self.bridge = nn.Linear(self.encoder.width, stack.parts * c.layers * c.width)
        self.cross_attention_probe = None if c.attention == "none" else "weights"
        if self.cross_attention_probe:
            self.keys = nn.Linear(self.encoder.width, c.width, bias=False)
            self.joined = nn.Linear(self.encoder.width + stack.output_size, c.width, bias=False)
        if c.attention == "additive":
            self.queries = nn.Linear(stack.output_size, c.width)
            self.score = nn.Linear(c.width, 1, bias=False)
        self.head = nn.Linear(c.width if self.cross_attention_probe else stack.output_size, c.vocab_size)
        nn.init.zeros_(self.head.bias)
        self.weights = Probe()

    def initial_state(self, batch: int, capacity: int | None = None) -> Seq2SeqState:
        """Nothing is known of a source."""
        return self.encode_prompt(torch.zeros(batch, 0, dtype=torch.long, device=self.head.weight.device))

    def encode_prompt(
        self, prompt: Any, lengths_B: Tensor | None = None, *, capacity: int | None = None
    ) -> Seq2SeqState:
        """``prompt``: sources, B x S."""
        lengths_B = ends(prompt, lengths_B)
        prompt = prompt if prompt.shape[1] else F.pad(prompt, (0, 1))
        x_BSD = self._embed(self.source_embedding or self.embedding, prompt)
        values_BSD, ends_BD = self.encoder(x_BSD, lengths_B)
        begin = self.bridge(ends_BD).tanh().view(len(prompt), self.stack.parts, self.config.layers, self.config.width)
        parts = tuple(part.to(self.head.weight.dtype) for part in begin.unbind(1))
        keys_BSD = self.keys(values_BSD) if self.cross_attention_probe else values_BSD[..., :0]
        values_BSD = values_BSD if self.cross_attention_probe else values_BSD[..., :0]
        pads_BS = torch.arange(prompt.shape[1], device=prompt.device) >= lengths_B[:, None]
        covered_BS = pads_BS.to(self.head.weight.dtype) if self.cross_attention_probe else None
        return Seq2SeqState(torch.zeros_like(lengths_B), parts, parts, keys_BSD, values_BSD, lengths_B, covered_BS)

    def _embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        return F.dropout(table(ids), self.config.dropout, self.training)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        old = state if isinstance(state, Seq2SeqState) else self.initial_state(len(inputs_BT))
        anew_BT = inputs_BT == self.start_id
        x_BTD = self._embed(self.embedding, inputs_BT)
        hidden_BTD, new = run_with_resets(self.stack, x_BTD, anew_BT, old, lengths_B, old.begin_BLH)
        if self.cross_attention_probe:
            weights_BTS = self._weights(hidden_BTD, old)
            seen_BTD = weights_BTS @ old.values_BSD.to(hidden_BTD.dtype)
            hidden_BTD = self.joined(torch.cat([seen_BTD, hidden_BTD], -1)).tanh()
            new = replace(new, coverage_BS=_covered(old, weights_BTS, lengths_B))
        hidden_BTD = F.dropout(hidden_BTD, self.config.dropout, self.training)
        return Projected(hidden_BTD, self.head, self.vocab_size), new

    def _weights(self, hidden_BTD: Tensor, state: Seq2SeqState) -> Tensor:
        """Where in the source each target place looks, B x T x S."""
        keys_BSD = state.keys_BSD.to(hidden_BTD.dtype)
        if self.config.attention == "additive":
            sum_BTSD = self.queries(hidden_BTD)[:, :, None] + keys_BSD[:, None]
            scores_BTS = self.score(sum_BTSD.tanh())[..., 0]
        else:
            scores_BTS = hidden_BTD @ keys_BSD.transpose(1, 2)
        place_S = torch.arange(keys_BSD.shape[1], device=keys_BSD.device)
        seen_B1S = (place_S < state.source_lengths_B[:, None])[:, None]
        wide = torch.promote_types(scores_BTS.dtype, torch.float32)
        return self.weights(masked_softmax(scores_BTS.to(wide), as_bias(seen_B1S, wide)).to(hidden_BTD.dtype))


def _covered(old: Seq2SeqState, weights_BTS: Tensor, lengths_B: Tensor | None) -> Tensor | None:
    """The coverage after these target places, pads among them left out."""
    if old.coverage_BS is None:
        return None
    if lengths_B is not None:
        place_T = torch.arange(weights_BTS.shape[1], device=weights_BTS.device)
        weights_BTS = weights_BTS * (place_T < lengths_B[:, None])[..., None]
    return old.coverage_BS + weights_BTS.sum(1).to(old.coverage_BS.dtype)
