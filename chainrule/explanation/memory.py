"""Used memory: the cost of the tokens when only the last k tokens are visible."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from chainrule.core.bootstrap import mean_interval
from chainrule.core.progress import tracked
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import ALONG, Asked, Facts, view
from chainrule.inference.memory import MOST, window_costs


class Memory(Facts):
    """The cost of the same tokens by the number of tokens that are visible."""

    visible: list[int] = Field(description="k: tokens that are visible before each, where there are as many")
    nats: list[float] = Field(description="mean -log p of the tokens of the stretch")
    interval: list[tuple[float, float]] = Field(description="its 95 % bootstrap interval over these tokens")


@view(predicts_tokens, usual=False, takes=ALONG)
def memory(given: ModelInput, asked: Asked) -> Memory:
    """Return the mean cost of the tokens of a stretch when the run sees only the last 1, 2, 4, … tokens before each.

    It shows how much context the run uses on this text; a run that reads k tokens takes them for the beginning of a
    record, so that a part of the cost of a short context may be that of a false beginning.
    """
    model, place_T = given.run.model.eval(), np.arange(asked.begin, asked.end)
    visible = _visible(min(asked.end - 1, (model.window or MOST + 1) - 1))
    nats, intervals = [], []
    for k in tracked(visible):
        begin_N, window_T = np.unique(np.maximum(place_T - k, 0), return_inverse=True)
        cost_NK = window_costs(model, given.ids, begin_N, k + 1, given.run.compute)
        cost_T = cost_NK[window_T, place_T - begin_N[window_T]]
        nats.append(float(cost_T.mean()))
        intervals.append(mean_interval(cost_T))
    return Memory(visible=visible, nats=nats, interval=intervals)


def _visible(most: int) -> list[int]:
    """The powers of two below the largest number of visible tokens, and that number."""
    return [*(1 << n for n in range(most.bit_length()) if 1 << n < most), *([most] if most > 0 else [])]
