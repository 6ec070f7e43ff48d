"""A GPT written out from its weights, as an oracle, and runs whose weights are random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chainrule.api import Run
from chainrule.core import model_type
from tests.explain.runs import small_run

CONTEXT = 13
SHAPE = {"width": 20, "heads": 4, "groups": 2, "head_width": 6, "layers": 3, "context": CONTEXT}
KINDS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "alibi": {"positions": "alibi"},
    "relative": {"positions": "relative", "groups": 1},
    "learned": {
        "positions": "learned", "norm": "post", "bias": True, "qk_norm": False, "groups": None, "tied": True,
        "activation": "relu",
    },
    "none": {"positions": "none", "groups": 4},
}  # fmt: skip


def random_run(kind: str, **settings: Any) -> Run:
    """Return a run of a GPT with random weights, in float64, with the tokenizer of a small run."""
    run, chosen = small_run("gpt"), model_type("gpt", "generate")
    config = chosen.config.make({**SHAPE, "vocab_size": run.model.vocab_size, **KINDS[kind], **settings})
    torch.manual_seed(3)
    model = chosen.build(config).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * (weight.shape[-1] ** -0.5 if weight.dim() > 1 else 0.5))
    return replace(run, model=model.eval())


@dataclass
class Reading:
    """What the oracle computes: lists hold one entry per layer."""

    log_p: Tensor
    weights: list[Tensor]
    values: list[Tensor]
    outputs: list[Tensor]


def read_by_hand(run: Run, ids: list[int], target: int) -> Reading:
    """Read the start token and ``ids`` by the equations of the model, head by head."""
    model, c = run.model, run.model.config
    w = {name: weight for name, weight in model.named_parameters()}
    x = w["embedding.weight"][[model.vocab_size, *ids]]
    T, K = len(x), c.head_width
    x = x + w["position.weight"][:T] if c.positions == "learned" else x
    norm = lambda y, name: F.layer_norm(y, (c.width,), w[f"{name}.weight"], w.get(f"{name}.bias"), 1e-5)  # noqa: E731
    linear = lambda y, name: F.linear(y, w[f"{name}.weight"], w.get(f"{name}.bias"))  # noqa: E731
    found = Reading(x, [], [], [])
    for layer in range(c.layers):
        own = f"blocks.{layer}"
        read = norm(x, f"{own}.norm_attention") if c.norm == "pre" else x
        q, k, v = (linear(read, f"{own}.attention.{part}") for part in ("queries", "keys", "values"))
        heads, values = [], []
        for h in range(c.heads):
            g = h // (c.heads // (c.groups or c.heads))
            one, other = q[:, h * K : h * K + K], k[:, g * K : g * K + K]
            scores = placed(c, one) @ placed(c, other).T / K**0.5 + _bias(c, w, h, T)
            heads.append(torch.softmax(scores, -1))
            values.append(v[:, g * K : g * K + K])
        found.weights.append(torch.stack(heads))
        found.values.append(torch.stack(values))
        mixed = torch.cat([a @ b for a, b in zip(found.weights[-1], values)], -1)
        found.outputs.append(linear(mixed, f"{own}.attention.out"))
        x = x + found.outputs[-1]
        x = norm(x, f"{own}.norm_attention") if c.norm == "post" else x
        inner = linear(norm(x, f"{own}.norm_feed_forward") if c.norm == "pre" else x, f"{own}.feed_forward.inner")
        x = x + linear(inner.relu() ** (2 if c.activation == "relu2" else 1), f"{own}.feed_forward.out")
        x = norm(x, f"{own}.norm_feed_forward") if c.norm == "post" else x
    x = norm(x, "norm") if c.norm == "pre" else x
    head = w["embedding.weight"][: model.vocab_size] if c.tied else w["head.weight"]
    found.log_p = (x[-1] @ head.T).log_softmax(-1)[target]
    return found


def placed(c: Any, x: Tensor) -> Tensor:
    """Normalise and rotate; channels i and i + K/2 are a complex number."""
    x = x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt() if c.qk_norm else x
    if c.positions != "rotary":
        return x
    half = x.shape[-1] // 2
    angles = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(half).double() / half)
    turned = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], -1)


def _bias(c: Any, w: dict[str, Tensor], h: int, T: int) -> Tensor:
    away = torch.arange(T)[:, None] - torch.arange(T)
    bias = torch.zeros(T, T, dtype=torch.float64)
    if c.positions == "alibi":
        bias = -(2.0 ** (-8 * (h + 1) / c.heads)) * away
    elif c.positions == "relative":  # below a distance of 16 each has a bucket of its own
        bias = w["position.weight"][away.clamp(0, 15), h]
    return bias.masked_fill((away < 0) | (away >= c.context), -torch.inf)
