"""The Transformer encoder, in which every position sees every other: that of Transformer, BERT, ViT and the image
codec.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chainrule.nn.attention import AttentionBias, build_attention_bias
from chainrule.nn.blocks import BlockStack, initialise
from chainrule.nn.masks import Causal, Mask, Padding
from chainrule.nn.positions import rotate
from chainrule.nn.probes import observed
from chainrule.nn.recurrent_backbones import Directions, at_end
from chainrule.nn.transformer_config import TransformerConfig


class Encoder(BlockStack):
    """A stack of blocks without a causal mask.

    Args:
        config: settings of the blocks.
        eps: epsilon of the layer norms.
        mask: a mask beside that of padding.
    """

    def __init__(self, config: TransformerConfig, *, eps: float = 1e-5, mask: Mask | None = None):
        super().__init__()
        self.mask = mask
        self.add_blocks(config, bidirectional=True, eps=eps)
        initialise(self.blocks, config.layers)

    def forward(self, x_BSD: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Encode rows.

        Args:
            x_BSD: embedded tokens, positions included.
            lengths_B: valid length of each row; None: S.

        Returns:
            B x S x D; undefined beyond the length of a row, and independent of what ``x_BSD`` holds there.
        """
        S = x_BSD.shape[1]
        place_1S = torch.arange(S, device=x_BSD.device)[None]
        rotary, bias = self.position.rotary(place_1S), self.position.bias(place_1S, place_1S)
        full = lengths_B is None or bool((lengths_B >= S).all())
        if full and bias is None and self.mask is None:
            attention_bias = AttentionBias()
        else:
            ends_B = torch.full((1,), S, device=x_BSD.device) if full or lengths_B is None else lengths_B
            mask = Padding(ends_B) if self.mask is None else Padding(ends_B) & self.mask
            attention_bias = build_attention_bias(mask, place_1S, place_1S, bias, x_BSD.dtype)
        packed = Packed.of(lengths_B, S) if lengths_B is not None and not observed(self) else None
        x = packed.pack(x_BSD) if packed else x_BSD
        for block in self.stack():
            read, attention = block.pre_attention_norm(x), block.attention
            if packed:
                q, k, v = (packed.unpack_heads(part) for part in attention.split(read))
                q, k = (q, k) if rotary is None else (rotate(q, rotary), rotate(k, rotary))
                mixed = packed.pack(attention.attend(q, k, v, attention_bias))
            else:
                mixed = attention.attend(*attention.split(read, rotary), attention_bias)
            x = block.residual(x, attention.out(mixed))
        return packed.unpack(self.norm(x)) if packed else self.norm(x)


WASTE = 1.25
"""Padded rows are packed where they have this many times as many places as tokens."""


@dataclass(frozen=True)
class Packed:
    """The tokens of ragged rows side by side, 1 x N, so that everything but attention leaves padding out."""

    index_N: Tensor
    place_BS: Tensor

    @staticmethod
    def of(lengths_B: Tensor, S: int) -> Packed | None:
        """Return None where packing would save little."""
        inside_BS = torch.arange(S, device=lengths_B.device) < lengths_B[:, None]
        index_N = inside_BS.flatten().nonzero()[:, 0]
        if not len(index_N) or WASTE * len(index_N) > inside_BS.numel():
            return None
        place_BS = torch.zeros_like(inside_BS, dtype=torch.long)
        place_BS.view(-1)[index_N] = torch.arange(len(index_N), device=lengths_B.device)
        return Packed(index_N, place_BS)

    def pack(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.flatten(0, 1).index_select(0, self.index_N)[None]

    def unpack(self, x_1ND: Tensor) -> Tensor:
        """Return B x S x D; pads hold copies of the first token."""
        return x_1ND[0].index_select(0, self.place_BS.flatten()).view(*self.place_BS.shape, -1)

    def unpack_heads(self, x_1HNK: Tensor) -> Tensor:
        """Return B x H x S x K from heads of packed tokens."""
        H, K = x_1HNK.shape[1], x_1HNK.shape[3]
        flat_ND = x_1HNK[0].transpose(0, 1).flatten(1)
        return flat_ND.index_select(0, self.place_BS.flatten()).view(*self.place_BS.shape, H, K).transpose(1, 2)


class TransformerReaderConfig(TransformerConfig):
    """Settings of a Transformer encoder as a backbone."""

    directions: Directions = "both"
    """forward: a position does not see what follows it."""


class TransformerReader(nn.Module):
    """A Transformer encoder as a backbone that reads whole rows.

    Args:
        config: settings of the backbone.
        input_width: width of the vectors that it reads; a linear map brings them to ``config.width``.
    """

    attention_stack = "encoder"

    def __init__(self, config: TransformerReaderConfig, input_width: int):
        super().__init__()
        self.enter = nn.Linear(input_width, config.width, bias=False)
        self.encoder = Encoder(config, mask=Causal() if config.directions == "forward" else None)
        self.width = config.width

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Read rows; arguments and results are those of ``RecurrentReader``."""
        place_1S = torch.arange(x_BSD.shape[1], device=x_BSD.device)[None]
        hidden_BSD = self.encoder(self.encoder.position.add(self.enter(x_BSD), place_1S), lengths_B)
        return hidden_BSD, at_end(hidden_BSD, lengths_B)
