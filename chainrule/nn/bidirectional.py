"""Stacks of recurrent layers that read whole rows: in both directions, or from the left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.nn.recurrent import Recurrent

LayerFactory = Callable[[int, int], Recurrent]
"""One recurrent layer, from its input size and its width."""
Directions = Literal["both", "forward"]


class Bidirectional(nn.Module):
    """A stack of recurrent layers, each a reader from the left and one from the right whose outputs are joined."""

    def __init__(self, make: LayerFactory, input_size: int, width: int, layers: int, dropout: float = 0.0):
        super().__init__()
        half = width // 2
        sizes = [input_size, *[2 * half] * (layers - 1)]
        self.forwards, self.backwards = (nn.ModuleList(make(size, half) for size in sizes) for _ in range(2))
        self.dropout, self.width = dropout, 2 * half

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs at every place, B x S x width (what stands beyond a row's length means nothing), and what each direction
        knows at its end, B x width (zeros for an empty row).
        """
        turn_BS1 = _mirror(lengths_B, x_BSD.shape[1])[:, :, None]
        flip = lambda x: x.gather(1, turn_BS1.expand(-1, -1, x.shape[-1]))  # noqa: E731
        out_BSD = x_BSD
        for k, (right, left) in enumerate(zip(self.forwards, self.backwards)):
            x_BSD = F.dropout(out_BSD, self.dropout, self.training) if k else out_BSD
            out_BSD = torch.cat([right(x_BSD)[0], flip(left(flip(x_BSD))[0])], -1)
        half = self.width // 2
        left_BD = out_BSD[:, 0, half:] * (lengths_B > 0)[:, None]
        return out_BSD, torch.cat([at_end(out_BSD[..., :half], lengths_B), left_BD], -1)


def _mirror(lengths_B: Tensor, S: int) -> Tensor:
    """For each place of a row, the place at the same distance from the row's end; pads stay. B x S."""
    place_S = torch.arange(S, device=lengths_B.device)
    mirrored_BS = lengths_B[:, None] - 1 - place_S
    return torch.where(mirrored_BS >= 0, mirrored_BS, place_S)


class Unidirectional(nn.Module):
    """A stack of recurrent layers that read from the left."""

    def __init__(self, make: LayerFactory, input_size: int, width: int, layers: int, dropout: float = 0.0):
        super().__init__()
        self.forwards = nn.ModuleList(make(size, width) for size in [input_size, *[width] * (layers - 1)])
        self.dropout, self.width = dropout, width

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs at every place, B x S x width (what stands beyond a row's length means nothing), and what is known at each
        row's end, B x width (zeros for an empty row).
        """
        for k, right in enumerate(self.forwards):
            x_BSD = right(F.dropout(x_BSD, self.dropout, self.training) if k else x_BSD)[0]
        return x_BSD, at_end(x_BSD, lengths_B)


def at_end(x_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """What stands at each row's last place, B x D; zeros for an empty row."""
    last_B11 = (lengths_B - 1).clamp(min=0)[:, None, None]
    ends_BD = x_BSD.gather(1, last_B11.expand(-1, 1, x_BSD.shape[-1]))[:, 0]
    return ends_BD * (lengths_B > 0)[:, None]
