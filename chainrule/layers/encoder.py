"""A Transformer encoder: every place sees every other. The source's reader in the Transformer, BERT, and what reads patches of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chainrule.layers.attention import Sight, look
from chainrule.layers.blocks import Block, initialise
from chainrule.layers.decoder import TransformerConfig, make_block, make_positions
from chainrule.layers.masks import Padding


class Encoder(nn.Module):
    """Blocks without a mask but that of padding. ``eps``: of the layer norms."""

    def __init__(self, config: TransformerConfig, *, eps: float = 1e-5):
        super().__init__()
        c = config
        self.position = make_positions(c, both_ways=True)
        self.blocks = nn.ModuleList(make_block(c, eps=eps) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps, bias=c.bias) if c.norm == "pre" else nn.Identity()
        initialise(self.blocks, c.layers)

    def forward(self, x_BSD: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """``x_BSD``: embedded symbols, places added already. What stands beyond a row's length is not looked at; what comes out
        there means nothing.
        """
        S = x_BSD.shape[1]
        place_1S = torch.arange(S, device=x_BSD.device)[None]
        turn, bias = self.position.turn(place_1S), self.position.bias(place_1S, place_1S)
        full = lengths_B is None or bool((lengths_B >= S).all())
        if full and bias is None:
            sight = Sight()
        else:
            ends_B = torch.full((1,), S, device=x_BSD.device) if full or lengths_B is None else lengths_B
            sight = look(Padding(ends_B), place_1S, place_1S, bias, x_BSD.dtype)
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, v = block.attention.split(block.before(x_BSD), turn)
            x_BSD = block.after(x_BSD, block.attention.attend(q, k, v, sight))
        return self.norm(x_BSD)
