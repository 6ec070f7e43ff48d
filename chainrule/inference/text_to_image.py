"""Drawing from any autoregressive model of captions and pictures: the caption is read, the picture's symbols are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from chainrule.core import Autoregressive, draw
from chainrule.core.compute import Compute
from chainrule.inference.sampling import Filters


@torch.no_grad()
def draw_images(
    model: Autoregressive,
    records_BT: Tensor,
    places: int,
    compute: Compute,
    filters: Filters,
    *,
    blank_T: Tensor | None = None,
    guidance: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Go on from records that are captions (and perhaps the beginning of a picture) for ``places`` symbols: their ids, B x places, and
    log p of each row's symbols under the unfiltered, unguided model, B, in nats.

    ``guidance`` g draws from log p(x | blank) + g (log p(x | caption) - log p(x | blank)), ``blank_T`` being an empty caption (Ho &
    Salimans 2022); 1: the model as it is, which reads every record once only.
    """
    device, B = compute.device, len(records_BT)
    rng = torch.Generator().manual_seed(seed)
    guided = guidance != 1 and blank_T is not None
    rows_BT = records_BT
    if guided:
        assert blank_T is not None
        empty_BT = torch.cat([blank_T.expand(B, -1), records_BT[:, len(blank_T) :]], 1)
        rows_BT = torch.cat([records_BT, empty_BT])
    inputs = torch.cat([torch.full((len(rows_BT), 1), model.start_id), rows_BT], 1).to(device)
    with compute.autocast():
        prediction, state = model(inputs, model.initial_state(len(inputs), inputs.shape[1] + places))
    last_B = torch.full((len(inputs),), inputs.shape[1] - 1, device=device)
    prediction = prediction.select(last_B)
    drawn, nats_B = [], torch.zeros(B, dtype=torch.float64)
    for step in range(places):
        log_p = prediction.logits()[:, -1].double().log_softmax(-1).cpu()
        own_BV = log_p[:B]
        mixed_BV = log_p[B:] + guidance * (own_BV - log_p[B:]) if guided else own_BV
        ids_B = draw(filters(mixed_BV.nan_to_num(nan=-torch.inf)), rng)
        nats_B += own_BV.gather(1, ids_B[:, None])[:, 0]
        drawn.append(ids_B)
        if step + 1 < places:
            read_B1 = ids_B.repeat(2 if guided else 1)[:, None].to(device)
            with compute.autocast():
                prediction, state = model(read_B1, state)
    return torch.stack(drawn, 1), nats_B
