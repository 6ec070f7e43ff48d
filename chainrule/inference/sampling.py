"""Sampling from any autoregressive model, known only through ``forward``, ``Prediction`` and ``State``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chainrule.core import Autoregressive, UserError, draw
from chainrule.core.compute import Compute


@dataclass(frozen=True)
class Filters:
    """How a distribution is sharpened before it is drawn from, in this order: temperature, top-k, top-p, min-p."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks = (
            ("temperature", self.temperature, 0.0, 100.0),
            ("top-k", self.top_k, 0, 1 << 31),
            ("top-p", self.top_p, 0.0, 1.0),
            ("min-p", self.min_p, 0.0, 1.0),
        )
        for name, value, low, high in checks:
            if not low <= value <= high:
                raise UserError(f"--{name} {value}: allowed is {low} to {high}")

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """Filtered logits: -inf where a symbol is out. Temperature 0 keeps the most probable alone."""
        x = logits_BV.double()
        if self.forbidden:
            x = x.index_fill(-1, torch.tensor(self.forbidden, device=x.device), -torch.inf)
        if self.temperature == 0:
            return torch.full_like(x, -torch.inf).scatter(-1, x.argmax(-1, keepdim=True), 0.0)
        x = x / self.temperature
        if 0 < self.top_k < x.shape[-1]:
            x = x.masked_fill(x < x.topk(self.top_k).values[..., -1:], -torch.inf)
        if self.top_p < 1:
            ordered, index = x.sort(descending=True)
            p = ordered.softmax(-1)
            out = p.cumsum(-1) - p >= self.top_p  # the symbol that crosses p stays
            out[..., 0] = False
            x = x.masked_fill(torch.zeros_like(out).scatter(-1, index, out), -torch.inf)
        if self.min_p > 0:
            p = x.softmax(-1)
            x = x.masked_fill(p < self.min_p * p.amax(-1, keepdim=True), -torch.inf)
        return x


@dataclass
class Generated:
    """Continuations without their prompts, log p of each under the unfiltered model (nats), and the speed."""

    ids: list[list[int]]
    nats: list[float]
    tokens_per_second: float


def pad(prompts: Sequence[Sequence[int]], start: int) -> tuple[Tensor, Tensor]:
    """START + prompt in each row, padded on the right; and the lengths."""
    lengths = torch.tensor([len(p) + 1 for p in prompts])
    inputs_BT = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for b, prompt in enumerate(prompts):
        inputs_BT[b, : len(prompt) + 1] = torch.tensor([start, *prompt])
    return inputs_BT, lengths


@torch.no_grad()
def generate(
    model: Autoregressive,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    compute: Compute,
    *,
    filters: Filters = Filters(),
    seed: int = 42,
    finished: Callable[[list[int]], bool] = lambda ids: False,
    barred: Callable[[int, int], Sequence[int]] = lambda row, step: (),
) -> Generated:
    """Continue each prompt by at most ``max_tokens`` symbols, or until ``finished(continuation)``; the symbols
    ``barred(row, step)`` are not drawn there.

    Prompts may differ in length; a row's text depends on its seed and place in the batch, not on the others' lengths.
    """
    model.eval()
    rng = torch.Generator(compute.device).manual_seed(seed)
    inputs_BT, lengths_B = (x.to(compute.device) for x in pad(prompts, model.start_id))
    texts: list[list[int]] = [[] for _ in prompts]
    nats = torch.zeros(len(prompts), dtype=torch.float64, device=compute.device)
    alive_B = torch.ones(len(prompts), dtype=torch.bool, device=compute.device)
    began = time.perf_counter()
    with compute.autocast():
        prediction, state = model(inputs_BT, None, lengths_B)
        prediction = prediction.select(lengths_B - 1)
        for step in range(max_tokens):
            logits_BV = prediction.logits()[:, 0].double()
            allowed_BV = logits_BV
            for b in range(len(prompts)):
                if len(out := barred(b, step)):
                    allowed_BV = allowed_BV.clone() if allowed_BV is logits_BV else allowed_BV
                    allowed_BV[b, torch.as_tensor(out, device=allowed_BV.device)] = -torch.inf
            next_B = draw(filters(allowed_BV), rng)
            log_p_B = logits_BV.log_softmax(-1).gather(-1, next_B[:, None])[:, 0]
            nats += torch.where(alive_B, log_p_B, 0.0)
            for b, symbol in enumerate(next_B.tolist()):
                if alive_B[b]:
                    texts[b].append(symbol)
                    alive_B[b] = not finished(texts[b])
            if step + 1 == max_tokens or not bool(alive_B.any()):
                break
            prediction, state = model(next_B[:, None], state)
    seconds = time.perf_counter() - began
    return Generated(texts, nats.tolist(), sum(map(len, texts)) / max(seconds, 1e-9))
