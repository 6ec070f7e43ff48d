"""GPT: a Transformer decoder. Every step looks back at everything in its window.

    x = embed(symbol) (+ position);   x = x + attend(norm(x));   x = x + ff(norm(x));   p = softmax(W norm(x))

Radford et al. 2018, 2019; Vaswani et al. 2017. What is remembered of x_<t: a key and a value for each symbol and layer, a cache that grows
with every symbol until the window of ``context`` symbols is full, then slides. The stack
itself is ``nn.decoder``.

Deviations from GPT-2 (each a setting; ``preset="gpt2"`` undoes them): rotary positions instead of learned ones, squared ReLU, no biases,
RMS-normalised queries and keys, untied head, output maps of a block start at zero. Learned positions end where their table
ends and say so; all others slide.
"""

from __future__ import annotations

from typing import Any

from chainrule.core import Recipe, register
from chainrule.nn.decoder import Decoder, TransformerLMConfig


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
    recipe=Recipe(
        optimizer="muon",
        lr=3e-3,
        muon_lr=0.02,
        batch_size=8,
        sequence_length=256,
        stateful=False,
        bf16=True,
        weight_decay=0.01,
    ),
    width="width",
    width_step=48,
)
class GPT(Decoder):
    """Remembers everything in its window."""

    config: GPTConfig


FROM_GPT2: dict[str, Any] = {
    "pairs": [
        ("embedding.weight", "wte.weight"),
        ("position.weight", "wpe.weight"),
        ("norm.weight", "ln_f.weight"),
        ("norm.bias", "ln_f.bias"),
        *(
            pair
            for kind in ("weight", "bias")
            for pair in (
                (f"blocks.{{i}}.norm_attention.{kind}", f"h.{{i}}.ln_1.{kind}"),
                (
                    tuple(f"blocks.{{i}}.attention.{part}.{kind}" for part in ("queries", "keys", "values")),
                    f"h.{{i}}.attn.c_attn.{kind}",
                ),
                (f"blocks.{{i}}.attention.out.{kind}", f"h.{{i}}.attn.c_proj.{kind}"),
                (f"blocks.{{i}}.norm_feed_forward.{kind}", f"h.{{i}}.ln_2.{kind}"),
                (f"blocks.{{i}}.feed_forward.inner.{kind}", f"h.{{i}}.mlp.c_fc.{kind}"),
                (f"blocks.{{i}}.feed_forward.out.{kind}", f"h.{{i}}.mlp.c_proj.{kind}"),
            )
        ),
    ],
    "transpose": {f"h.{{i}}.{part}.weight" for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")},
    "ignore": {"h.{i}.attn.bias", "h.{i}.attn.masked_bias", "lm_head.weight"},
}
"""``Rename(**FROM_GPT2)`` turns the weights of Hugging Face's ``GPT2Model`` into those of ``preset="gpt2"``: matrices lie the
other way round, and queries, keys and values are one. Our embedding has one row more, the start symbol's, which GPT-2 has
not: append it on the way in and cut it off on the way out.
"""
