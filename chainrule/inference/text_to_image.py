"""Images from captions by any autoregressive model: the caption is read, the tokens of the image are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chainrule.core import Autoregressive
from chainrule.core.compute import Compute
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Request
from chainrule.inference.sampling import Filters


def draw_images(
    model: Autoregressive,
    records_BT: Tensor,
    places: int,
    compute: Compute,
    filters: Filters,
    *,
    seeds: Sequence[int],
    blank_T: Tensor | None = None,
    guidance: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Continue records that are captions, perhaps with the beginning of an image.

    Args:
        model: a model of captions and images.
        records_BT: token ids, B x T.
        places: how many tokens are drawn for each record.
        compute: where the model runs.
        filters: temperature and the like.
        seeds: the seed of each record's noise.
        blank_T: an empty caption, which guidance needs.
        guidance: g draws from log p(x | blank) + g (log p(x | caption) - log p(x | blank)) (Ho & Salimans 2022); 1 is
            the model as it is.

    Returns:
        The ids that were drawn, B x places, and their log p in nats under the unfiltered, unguided model, B.
    """
    blanks: list[list[int] | None] = [None] * len(records_BT)
    if blank_T is not None and guidance != 1:
        begun_BT = records_BT[:, len(blank_T) :].tolist()
        shared = blank_T.tolist()
        blanks = [shared + begun if begun else shared for begun in begun_BT]
    requests = [
        Request(ids, filters, seed, max_tokens=places, unconditional=blank, guidance=guidance)
        for ids, seed, blank in zip(records_BT.tolist(), seeds, blanks, strict=True)
    ]
    handles = Engine(model, compute).run(requests)
    return torch.tensor([h.tokens for h in handles]), torch.tensor([h.total for h in handles], dtype=torch.float64)
