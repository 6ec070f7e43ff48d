"""Transformer: an encoder reads the source; a decoder writes the target and attends to the source and to its own past.

    encoder:  x = x + attend(norm(x), to all of x);                       x = x + ff(norm(x))
    decoder:  y = y + attend(norm(y), to y before);  y = y + attend(norm(y), to x);  y = y + ff(norm(y));  p = softmax(W
        norm(y))

Vaswani et al. 2017. Its memory of y_<t: a key and a value per layer of the decoder for each token of the source, which
is read once, and for each token of the target so far.

``preset="paper"`` is the paper's base model: post-norm, interleaved sinusoids added to embeddings times sqrt(D), ReLU,
biases, shared embeddings. Its label smoothing is ``train.label_smoothing=0.1``. Deviations, there too: no dropout on
attention weights; the start token has an embedding of its own. The default differs from it as GPT does here: pre-norm,
rotary positions, squared ReLU, no biases, RMS-normalised queries and keys, maps into the residual path near zero at the
start.

The encoder alone, and the decoder without a source, are also backbones for heads of other tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Backbone, BackbonePart, Recipe, Tuning, register, register_backbone
from chainrule.nn.attention import build_attention_bias
from chainrule.nn.blocks import Source, weight_names
from chainrule.nn.cache import Cache, SourceCache
from chainrule.nn.decoder import CausalTransformer, Decoder
from chainrule.nn.encoder import Encoder, TransformerReader, TransformerReaderConfig
from chainrule.nn.labelling import CLASSIFYING, TAGGING
from chainrule.nn.masks import Padding, ends
from chainrule.nn.transformer_config import MUON, TransformerConfig, TransformerLMConfig


class TransformerSeq2SeqConfig(TransformerLMConfig):
    source_vocab_size: int
    encoder_layers: int = 3
    layers: int = 3
    joint: bool = False
    """Source and target share one vocabulary, and with ``tied`` one embedding."""
    tied: bool = True

    presets = {
        "tiny": {"width": 16, "layers": 2, "encoder_layers": 2, "heads": 2, "context": 32},
        "small": {"width": 256, "heads": 4, "dropout": 0.1},
        "base": {"width": 512, "layers": 6, "encoder_layers": 6, "heads": 8, "dropout": 0.1},
        "paper": {
            "width": 512, "layers": 6, "encoder_layers": 6, "heads": 8, "positions": "sinusoidal", "norm": "post",
            "bias": True, "activation": "relu", "qk_norm": False, "dropout": 0.1,
        },
    }  # fmt: skip


@register(
    "transformer",
    label="Transformer",
    task="translate",
    config=TransformerSeq2SeqConfig,
    recipe=Recipe(batch_size=32, sequence_length=64, label_smoothing=0.1, bf16=True, **MUON),
    width_step=64,
)
class Transformer(Decoder):
    """Encoder and decoder with cross-attention."""

    config: TransformerSeq2SeqConfig
    prompt_stack = "encoder"

    def __init__(self, config: TransformerSeq2SeqConfig):
        super().__init__(config, cross=True)
        c = config
        self.cross_attention_probe = f"blocks.{c.layers - 1}.cross.weights"
        self.encoder = Encoder(c.replace(layers=c.encoder_layers))
        self.source_embedding = None if c.tied and c.joint else nn.Embedding(c.source_vocab_size, c.width)
        if self.source_embedding is not None:
            nn.init.normal_(self.source_embedding.weight, std=0.02 if c.tied else 0.3)

    def encode(self, sources_BS: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Encode sources.

        Args:
            sources_BS: tokens of the sources, padded on the right.
            lengths_B: valid length of each; None: S.

        Returns:
            B x S x D; undefined beyond the length of a row.
        """
        embed = self.embedding if self.source_embedding is None else self.source_embedding
        place_1S = torch.arange(sources_BS.shape[1], device=sources_BS.device)[None]
        x_BSD = self.encoder.position.add(embed(sources_BS), place_1S)
        return self.encoder(F.dropout(x_BSD, self.config.dropout, self.training), lengths_B)

    def encode_prompt(
        self, prompt: Any, lengths_B: Tensor | None = None, *, capacity: int | None = None
    ) -> SourceCache:
        """Encode sources, B x S, and project their keys and values for every layer of the decoder."""
        lengths_B = ends(prompt, lengths_B)
        memory_BSD = self.encode(prompt if prompt.shape[1] else F.pad(prompt, (0, 1)), lengths_B)
        held = [block.cross.project_kv(memory_BSD) for block in self.stack() if block.cross is not None]
        bare = super().empty_cache(len(prompt))
        keys, values = zip(*held)
        return SourceCache(bare.length_B, bare.origin_B, bare.keys, bare.values, keys, values, lengths_B)

    def empty_cache(self, batch: int) -> Cache:
        """Return the cache of an empty source."""
        return self.encode_prompt(torch.zeros(batch, 0, dtype=torch.long, device=self.embedding.weight.device))

    def sources(self, cache: Cache) -> Sequence[Source | None]:
        assert isinstance(cache, SourceCache)
        place_1S = torch.arange(cache.source_keys[0].shape[2], device=cache.length_B.device)[None]
        attention_bias = build_attention_bias(
            Padding(cache.source_lengths_M), place_1S[:, :1], place_1S, None, cache.source_keys[0].dtype
        )
        return [Source(k, v, attention_bias, cache.share) for k, v in zip(cache.source_keys, cache.source_values)]


TRANSFORMER_TUNING = {"small": {"dropout": 0.2}, "base": {"dropout": 0.3}}

register_backbone(
    Backbone(
        "transformer",
        label="Transformer",
        reader=BackbonePart(TransformerReaderConfig, TransformerReader),
        causal=BackbonePart(TransformerConfig, CausalTransformer),
        presets={
            "tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32},
            "small": {"width": 192, "layers": 2, "heads": 4},
            "base": {"width": 256, "layers": 4, "heads": 4},
        },
        tuning={
            "tag": Tuning(TAGGING.replace(**MUON), TRANSFORMER_TUNING),
            "classify": Tuning(CLASSIFYING.replace(**MUON), TRANSFORMER_TUNING),
        },
        width_step=64,
    )
)


_PARTS = (("queries", "q"), ("keys", "k"), ("values", "v"), ("out", "out"))
_ENCODER_BLOCK = [
    *((f"attention.{part}", f"self_attn.{name}_proj") for part, name in _PARTS),
    ("norm_attention", "self_attn_layer_norm"), ("norm_feed_forward", "final_layer_norm"),
    ("feed_forward.inner", "fc1"), ("feed_forward.out", "fc2"),
]  # fmt: skip
_DECODER_BLOCK = [
    *_ENCODER_BLOCK,
    *((f"cross.{part}", f"encoder_attn.{name}_proj") for part, name in _PARTS),
    ("norm_cross", "encoder_attn_layer_norm"),
]
FROM_MARIAN: dict[str, Any] = {
    "pairs": [
        ("embedding.weight", "model.shared.weight"),
        *weight_names(_DECODER_BLOCK, "blocks.{i}.", "model.decoder.layers.{i}."),
        *weight_names(_ENCODER_BLOCK, "encoder.blocks.{e}.", "model.encoder.layers.{e}."),
    ],
    "ignore": {
        "final_logits_bias", "lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
        "model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight",
    },
}  # fmt: skip
"""``Rename(**FROM_MARIAN)`` turns the weights of Hugging Face's ``MarianMTModel`` (with ``scale_embedding``, and
without a bias of its final logits) into those of ``preset="paper"`` with ``layout="concat"``, ``joint`` and Marian's
activation. Our embedding has one row more, that of the start token, where Marian reads its padding token.
"""
