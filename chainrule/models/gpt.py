"""GPT: a Transformer decoder. Every step attends to all tokens in its window.

    x = embed(token) (+ position);   x = x + attend(norm(x));   x = x + ff(norm(x));   p = softmax(W norm(x))

Radford et al. 2018, 2019; Vaswani et al. 2017. Its memory of x_<t: a key and a value for each token and layer, a cache
that grows with every token until the window of ``context`` tokens is full, then slides. The stack is ``nn.decoder``.

Deviations from GPT-2 (each a setting; ``preset="gpt2"`` undoes them): rotary positions instead of learnt ones, squared
ReLU, no biases, RMS-normalised queries and keys, untied head, output maps of a block start near zero. Learnt positions
raise an error beyond the end of their table; with all others the window slides.
"""

from __future__ import annotations

from typing import Any

from chainrule.core import Recipe, register
from chainrule.nn.blocks import weight_names
from chainrule.nn.decoder import Decoder
from chainrule.nn.transformer_config import MUON, TransformerLMConfig


class GPTConfig(TransformerLMConfig):
    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32},
        "small": {},
        "base": {"width": 512, "layers": 8, "heads": 8, "context": 512},
        "gpt2": {
            "width": 768, "layers": 12, "heads": 12, "context": 1024, "positions": "learned", "tied": True,
            "bias": True, "activation": "gelu_tanh", "qk_norm": False, "dropout": 0.1,
        },
    }  # fmt: skip


@register(
    "gpt",
    label="GPT",
    config=GPTConfig,
    recipe=Recipe(batch_size=8, sequence_length=256, stateful=False, bf16=True, **MUON),
    width_step=48,
)
class GPT(Decoder):
    """A Transformer decoder as a language model."""

    config: GPTConfig


FROM_GPT2: dict[str, Any] = {
    "pairs": [
        ("embedding.weight", "wte.weight"),
        ("position.weight", "wpe.weight"),
        *weight_names([("norm", "ln_f")]),
        *(
            (tuple(f"blocks.{{i}}.attention.{part}.{kind}" for part in ("queries", "keys", "values")),
             f"h.{{i}}.attn.c_attn.{kind}")
            for kind in ("weight", "bias")
        ),
        *weight_names(
            [
                ("norm_attention", "ln_1"), ("attention.out", "attn.c_proj"), ("norm_feed_forward", "ln_2"),
                ("feed_forward.inner", "mlp.c_fc"), ("feed_forward.out", "mlp.c_proj"),
            ],
            "blocks.{i}.", "h.{i}.",
        ),
    ],
    "transpose": {f"h.{{i}}.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
    "ignore": {"h.{i}.attn.bias", "h.{i}.attn.masked_bias", "lm_head.weight"},
}  # fmt: skip
"""``Rename(**FROM_GPT2)`` turns the weights of Hugging Face's ``GPT2Model`` into those of ``preset="gpt2"``: matrices
are transposed, and queries, keys and values are one matrix. Our embedding has one row more, that of the start token,
which GPT-2 does not have: append it on import and cut it off on export.
"""
