"""The head of the task translate for recurrent backbones: one reads the source in both directions, another writes the
target.

    source:     s_1 .. s_S from a reader in both directions;  summary = (forward at the end, backward at the beginning)
    beginning:  every initial hidden state h_0 = tanh(W_b summary)                         (Bahdanau et al. 2015,
        appendix A.2.2)
    target:     h_t from a causal backbone over y_<t
    attention:  none            o_t = h_t: all information about the source is in h_0      (Sutskever et al. 2014; Cho
        et al. 2014) additive        e_ts = v . tanh(W h_t + U s_s)                             (Bahdanau et al. 2015)
        multiplicative  e_ts = h_t . W s_s                                         (Luong et al. 2015, "general") a_t =
        softmax(e_t);  o_t = tanh(W_c (sum_s a_ts s_s, h_t))                 (Luong et al. 2015, equation 5)
    p(y_t | y_<t, source) = softmax(W_o o_t + b_o)

Deviation from Bahdanau et al.: the attended source joins the output, not the recurrence, so that all target positions
are trained at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Autoregressive, BackboneFactory, Config, Prediction, Projected, Recipe, State, register_head
from chainrule.nn.attention import as_bias, masked_softmax
from chainrule.nn.masks import ends
from chainrule.nn.probes import Probe
from chainrule.nn.recurrent import HiddenState
from chainrule.nn.recurrent_backbones import RecurrentState


class Seq2SeqConfig(Config):
    vocab_size: int
    source_vocab_size: int
    embedding: int = 192
    encoder_layers: int = 1
    attention: Literal["none", "additive", "multiplicative"] = "multiplicative"
    dropout: float = 0.0
    """Dropout on embeddings, between layers and before the output, never on the recurrence."""
    joint: bool = False
    """Source and target share one vocabulary and one embedding."""


@dataclass
class Seq2SeqState(RecurrentState):
    """The hidden state, its value at the start of a record, and keys and values of the source, B x S x D."""

    begin_BLH: HiddenState
    keys_BSD: Tensor
    values_BSD: Tensor
    source_lengths_B: Tensor
    coverage_BS: Tensor | None = None
    """Sum of the attention weights of each source token over all steps so far; 1 at pads. None: there is no attention.
    """

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


@register_head(
    "translate",
    config=Seq2SeqConfig,
    recipe=Recipe(lr=2e-3, batch_size=16, sequence_length=64, label_smoothing=0.1, warmup=150),
    backbone="causal",
    presets={
        "tiny": {"embedding": 8, "encoder_layers": 2},
        "small": {"width": 384, "dropout": 0.2},
        "base": {"width": 768, "embedding": 256, "encoder_layers": 2, "dropout": 0.2},
    },
    tuned_only=True,
)
class Seq2Seq(Autoregressive):
    """Encoder and decoder, with or without attention. A batch is about 1,024 tokens: small steps learn most in a few
    minutes.
    """

    config: Seq2SeqConfig

    def __init__(self, config: Seq2SeqConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        c = config
        self.vocab_size = c.vocab_size
        self.stack = stack = make_backbone(c.embedding)
        self.embedding = nn.Embedding(c.vocab_size + 1, c.embedding)
        self.source_embedding = None if c.joint else nn.Embedding(c.source_vocab_size, c.embedding)
        self.encoder = make_backbone(c.embedding, "reader", layers=c.encoder_layers)
        self.bridge = nn.Linear(self.encoder.width, stack.parts * stack.num_layers * stack.hidden_size)
        self.cross_attention_probe = None if c.attention == "none" else "weights"
        if self.cross_attention_probe:
            of_keys = stack.hidden_size if c.attention == "additive" else stack.width
            self.keys = nn.Linear(self.encoder.width, of_keys, bias=False)
            self.joined = nn.Linear(self.encoder.width + stack.width, stack.hidden_size, bias=False)
        if c.attention == "additive":
            self.queries = nn.Linear(stack.width, stack.hidden_size)
            self.score = nn.Linear(stack.hidden_size, 1, bias=False)
        self.head = nn.Linear(stack.hidden_size if self.cross_attention_probe else stack.width, c.vocab_size)
        nn.init.zeros_(self.head.bias)
        self.weights = Probe()

    def initial_state(self, batch: int, capacity: int | None = None) -> Seq2SeqState:
        """Return the State of an empty source."""
        return self.encode_prompt(torch.zeros(batch, 0, dtype=torch.long, device=self.head.weight.device))

    def encode_prompt(
        self, prompt: Any, lengths_B: Tensor | None = None, *, capacity: int | None = None
    ) -> Seq2SeqState:
        """Encode sources, B x S."""
        lengths_B = ends(prompt, lengths_B)
        prompt = prompt if prompt.shape[1] else F.pad(prompt, (0, 1))
        x_BSD = self._embed(self.source_embedding or self.embedding, prompt)
        values_BSD, ends_BD = self.encoder(x_BSD, lengths_B)
        shape = self.stack.parts, self.stack.num_layers, self.stack.hidden_size
        begin = self.bridge(ends_BD).tanh().view(len(prompt), *shape)
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
        x_BTD = self._embed(self.embedding, inputs_BT)
        hidden_BTD, new = self.stack(x_BTD, inputs_BT == self.start_id, old, lengths_B, old.begin_BLH)
        if self.cross_attention_probe:
            weights_BTS = self._weights(hidden_BTD, old)
            attended_BTD = weights_BTS @ old.values_BSD.to(hidden_BTD.dtype)
            hidden_BTD = self.joined(torch.cat([attended_BTD, hidden_BTD], -1)).tanh()
            new = replace(new, coverage_BS=_covered(old, weights_BTS, lengths_B))
        hidden_BTD = F.dropout(hidden_BTD, self.config.dropout, self.training)
        return Projected(hidden_BTD, self.head, self.vocab_size), new

    def _weights(self, hidden_BTD: Tensor, state: Seq2SeqState) -> Tensor:
        """Attention weights over the source for each target position, B x T x S."""
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
    """Coverage after these target positions, without pads."""
    if old.coverage_BS is None:
        return None
    if lengths_B is not None:
        place_T = torch.arange(weights_BTS.shape[1], device=weights_BTS.device)
        weights_BTS = weights_BTS * (place_T < lengths_B[:, None])[..., None]
    return old.coverage_BS + weights_BTS.sum(1).to(old.coverage_BS.dtype)
