"""Order: what an encoder without positions cannot tell, and the ways to give it positions."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Said, Table, say
from chainrule.claims.held_out import tokens
from chainrule.claims.runs import Runs, reads_text
from chainrule.core import UserError
from chainrule.core.bootstrap import mean_interval
from chainrule.explanation.attending import attends
from chainrule.nn.encoder import Encoder
from chainrule.nn.masks import Causal
from chainrule.nn.positions import sinusoidal
from chainrule.nn.transformer_config import TransformerConfig
from chainrule.runs.run import Run

KINDS: dict[str, dict[str, Any]] = {
    "none": {"positions": "none"},
    "learned": {"positions": "learned"},
    "interleaved": {"positions": "sinusoidal"},
    "concat": {"positions": "sinusoidal", "layout": "concat"},
    "t2t": {"positions": "sinusoidal", "layout": "concat", "timescale": "t2t"},
    "rotary": {"positions": "rotary"},
    "alibi": {"positions": "alibi"},
    "relative": {"positions": "relative"},
}  # fmt: skip
"""Kinds of positions, and the settings of a stack that has them."""
SINUSOIDS: dict[str, dict[str, Any]] = {
    "interleaved": {"layout": "interleaved", "timescale": "paper"},
    "concat": {"layout": "concat", "timescale": "paper"},
    "t2t": {"layout": "concat", "timescale": "t2t"},
}
TOKENS, WIDTH = 12, 32
"""Size of the input of the fresh encoders."""
ROUNDING, CHANGED = 1e-12, 1e-3
"""Shares of the largest output, in float64: at most this is rounding, at least that is a change."""
TABLE = (64, 64)
"""Positions and width of the sinusoids that are compared."""
BEYOND, PIECES, ROWS, COST = 3, 4, 6, 4608
"""Text that is read, in contexts; pieces of a context whose mean cost is drawn; texts; and tokens of all runs."""
VARIANTS = ",".join(
    "gpt:" + "+".join(f"{name}={value}" for name, value in settings.items()) for settings in KINDS.values()
)
COMMAND = (
    f"chainrule compare examples/data/macbeth.txt --models {VARIANTS} --context 64 --budget 20s --out runs/positions"
)


@claim(11)
@torch.no_grad()
def order(runs: Runs) -> Finding:
    """Permute the input of fresh encoders with each kind of positions; read loaded runs beyond their context."""
    moved = {name: unlike_when_permuted(**settings) for name, settings in KINDS.items()}
    causal = unlike_when_permuted(causal=True, positions="none")
    blind, sees = moved["none"] < ROUNDING, [name for name in KINDS if name != "none" and moved[name] > CHANGED]
    told = [say("equivariant" if blind else "not_equivariant", change=moved["none"])]
    least = min(change for name, change in moved.items() if name != "none")
    told += [say("broken", kinds=len(sees), of=len(KINDS) - 1, least=least)]
    told += [say("causal" if causal > CHANGED else "causal_blind", change=causal), *_sinusoids()]
    reading = [run for run in runs.of() if _slides(run)]
    read = {runs.named(run): beyond(run, max(2, min(ROWS, COST // (BEYOND * _window(reading))))) for run in reading}
    told += [_told_beyond(name, one) for name, one in read.items()] or [say("no_gpt")]
    holds = "yes" if blind and len(sees) == len(KINDS) - 1 else "partly" if blind and sees else "no"
    charts = [_chart(read)] if any(one.costs for one in read.values()) else []
    return Finding(holds, told, [_permuted(moved, causal), _compared(), *charts], command=COMMAND)


def _slides(run: Run) -> bool:
    """True for a run that reads one long text through a window of attention."""
    stream = run.data.get("unit") == "stream"
    return attends(run) and reads_text(run) and stream and (run.model.window or 0) >= PIECES


def _window(reading: Sequence[Run]) -> int:
    return sum(run.model.window for run in reading)


# -------------------------------------------------------------------------------------------------------- permutations


def unlike_when_permuted(causal: bool = False, **settings: Any) -> float:
    """Return the largest difference between f(x P) and f(x) P, as a share of the largest output: an encoder of random
    weights in float64, whose inputs are permuted by P.

    Args:
        causal: a place does not see those behind it.
        settings: those of its positions.
    """
    rng = torch.Generator().manual_seed(1)
    config = TransformerConfig(width=WIDTH, layers=2, heads=4, context=TOKENS, **settings)
    encoder = Encoder(config, mask=Causal() if causal else None).double().eval()
    for weight in encoder.parameters():
        size = weight.shape[-1] ** -0.5 if weight.dim() > 1 else 1.0
        weight.copy_(torch.randn(weight.shape, generator=rng, dtype=torch.float64) * size)
    x_1TD = torch.randn(1, TOKENS, WIDTH, generator=rng, dtype=torch.float64)
    order_T = torch.randperm(TOKENS, generator=rng)
    place_1T = torch.arange(TOKENS)[None]
    straight, permuted = (encoder(encoder.position.add(x, place_1T)) for x in (x_1TD, x_1TD[:, order_T]))
    return float((permuted - straight[:, order_T]).abs().max() / straight.abs().max())


def _permuted(moved: Mapping[str, float], causal: float) -> Table:
    rows = [[say(f"kind_{name}"), change] for name, change in moved.items()]
    return Table(say("permuted"), [say("positions"), say("difference")], [*rows, [say("kind_causal"), causal]])


# ----------------------------------------------------------------------------------------------------------- sinusoids


def _table(name: str) -> Tensor:
    """The sinusoids of a kind, with all sines before all cosines."""
    positions, width = TABLE
    made_PD = sinusoidal(torch.arange(positions), width, **SINUSOIDS[name])
    return made_PD if name != "interleaved" else torch.cat([made_PD[:, 0::2], made_PD[:, 1::2]], 1)


def _slowest(name: str) -> float:
    """Positions of a full turn of the slowest wave."""
    half = TABLE[1] // 2
    slowest = math.asin(float(_table(name)[1, half - 1]))
    return 2 * math.pi / slowest


def _sinusoids() -> list[Said]:
    layout, scale = (float((_table("interleaved") - _table(other)).abs().max()) for other in ("concat", "t2t"))
    values = {"positions": TABLE[0], "width": TABLE[1]}
    return [say("same_layout" if layout < ROUNDING else "other_layout", change=layout, scale=scale, **values)]


def _compared() -> Table:
    paper_PD = _table("interleaved")
    rows = [[say(f"kind_{name}"), float((_table(name) - paper_PD).abs().max()), _slowest(name)] for name in SINUSOIDS]
    return Table(say("sinusoids"), [say("positions"), say("from_paper"), say("slowest")], rows)


# ------------------------------------------------------------------------------------------------- beyond the context


@dataclass(frozen=True)
class Beyond:
    """The cost of tokens by their place, up to several contexts.

    Args:
        positions: kind of positions of the run.
        context: tokens that it was trained with.
        places: places at which the costs are drawn: the middles of pieces of a context.
        costs: mean nats of the tokens of each piece, by how the text is read: through the window that slides
            (``window``), and with all tokens visible (``all``). Empty where the run reads no more than its context.
        more: 95 % bootstrap interval of what a token beyond the context costs more with all tokens visible.
    """

    positions: str
    context: int
    places: list[float]
    costs: dict[str, list[float]]
    more: tuple[float, float]


@torch.no_grad()
def beyond(run: Run, rows: int) -> Beyond:
    """Return what tokens cost up to and beyond the context of a run.

    Args:
        run: a run whose model has a window.
        rows: texts that are read.
    """
    context, kind = run.model.window, str(getattr(run.model.config, "positions", "none"))
    ids = tokens(run, "test", rows * BEYOND * context).ids
    size = context // PIECES
    length = BEYOND * PIECES * size
    texts_BT = ids[: len(ids) // length * length].reshape(-1, length)
    places = [size * (k + 0.5) for k in range(BEYOND * PIECES)]
    try:
        costs = {name: _costs(run, model, texts_BT) for name, model in _readings(run).items()}
    except UserError:
        return Beyond(kind, context, places, {}, (0.0, 0.0))
    pieces = {name: nats_BT.reshape(len(nats_BT), -1, size).mean((0, 2)).tolist() for name, nats_BT in costs.items()}
    more_BT = (costs["all"] - costs["window"])[:, context:]
    return Beyond(kind, context, places, pieces, mean_interval(more_BT.ravel()))


def _readings(run: Run) -> dict[str, Any]:
    """The model as it is, and a copy that sees all tokens."""
    wide = copy.deepcopy(run.model).eval()
    wide.config = wide.config.replace(context=BEYOND * run.model.window)
    return {"window": run.model.eval(), "all": wide}


def _costs(run: Run, model: Any, texts_BT: np.ndarray) -> np.ndarray:
    """-log p of the tokens of each text, read at once."""
    nats = []
    for text_T in torch.from_numpy(texts_BT):
        inputs_1T = torch.cat([torch.tensor([model.start_id]), text_T[:-1]])[None].to(run.compute.device)
        with run.compute.autocast():
            prediction, _ = model(inputs_1T)
            nats.append(-prediction.log_prob(text_T[None].to(run.compute.device))[0].double().cpu())
    return torch.stack(nats).numpy()


def _told_beyond(name: str, one: Beyond) -> Said:
    if not one.costs:
        return say("ends", run=name, positions=one.positions, context=one.context)
    last = one.costs["all"][PIECES - 1]
    far = {how: float(np.mean(costs[PIECES:])) for how, costs in one.costs.items()}
    told = "extrapolates_not" if one.more[0] > 0 else "extrapolates"
    values = {"inside": last, "window": far["window"], "all": far["all"], "low": one.more[0], "high": one.more[1]}
    return say(told, run=name, positions=one.positions, context=one.context, **values)


def _chart(read: Mapping[str, Beyond]) -> Chart:
    shown = {name: one for name, one in read.items() if one.costs}
    x = sorted({place for one in shown.values() for place in one.places})
    lines = []
    for name, one in shown.items():
        for how, costs in one.costs.items():
            known = dict(zip(one.places, costs, strict=True))
            lines.append((say(f"line_{how}", run=name, positions=one.positions), [known.get(place) for place in x]))
    return Chart(say("beyond"), x, lines, say("beyond_x"), say("beyond_y"))
