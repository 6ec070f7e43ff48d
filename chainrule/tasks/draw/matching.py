"""Training of the matchers of captions and images.

The number of steps is fixed, whatever the budget of the run: an evaluator must not depend on what it evaluates.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core.compute import Compute
from chainrule.nn.images import augment
from chainrule.nn.matching import Matcher

EPOCHS, STEPS = 60, 800
"""Epochs of training, and the most steps."""
ROWS = 256
RATE, DECAY = 2e-3, 0.1
KEPT = 4
_taught: dict[str, dict[str, Tensor]] = {}
"""The last few trained matchers, by their training data: rows of a board with equal data share them."""


class Shifted:
    """Augmentation of images: shifts alone, because a mirrored arrow means something else."""

    shift, flip, erase = 0.1, False, 0.0


def teach(matcher: Matcher, ids: np.ndarray, images: np.ndarray, compute: Compute, seed: int) -> None:
    """Train a matcher, or load it if an equal one was trained. The state of torch's own generator is kept.

    Args:
        matcher: the matcher, changed in place.
        ids: padded captions, N × T.
        images: bytes, N × Y × X × C.
        compute: device and precision.
        seed: seed of weights and batches.
    """
    sizes = [tuple(x.shape) for x in (ids, images, *matcher.parameters())]
    key = hashlib.sha256(repr((seed, sizes)).encode() + ids.tobytes() + images.tobytes()).hexdigest()
    if key not in _taught:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _teach(matcher, torch.from_numpy(ids), as_pixels(images), compute)
        _taught[key] = {name: x.cpu().clone() for name, x in matcher.state_dict().items()}
        for old in list(_taught)[:-KEPT]:
            del _taught[old]
    matcher.load_state_dict(_taught[key])
    matcher.requires_grad_(False).eval()


def as_pixels(images: np.ndarray) -> Tensor:
    """Return images as a tensor of bytes, N × C × Y × X."""
    return torch.from_numpy(images).movedim(3, 1)


def _teach(matcher: Matcher, ids_NT: Tensor, bytes_NCYX: Tensor, compute: Compute) -> None:
    for module in matcher.modules():
        begin = getattr(module, "reset_parameters", None)
        if callable(begin):  # whatever the run's seed made of it
            begin()
    matcher.requires_grad_(True).train()
    rows = min(ROWS, len(ids_NT))
    steps = min(STEPS, EPOCHS * -(-len(ids_NT) // rows))
    optimizer = torch.optim.AdamW(matcher.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(2, steps), pct_start=0.1)
    varied: Any = Shifted
    for _ in range(steps):
        chosen_B = torch.randint(len(ids_NT), (rows,))
        pixels = augment(bytes_NCYX[chosen_B].to(compute.device), varied)
        with compute.autocast():
            loss = matcher.loss(ids_NT[chosen_B].to(compute.device), pixels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    matcher.taught.fill_(True)


@torch.no_grad()
def vectors(matcher: Matcher, ids: np.ndarray, images: np.ndarray, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of captions and of images, of unit length: their products are cosines."""
    matcher.eval()
    captions_ND = matcher.embed_captions(torch.from_numpy(ids).to(compute.device))
    pictures_ND = torch.cat([matcher.embed_images(x.to(compute.device)) for x in as_pixels(images).split(ROWS)])
    return captions_ND.double().cpu().numpy(), pictures_ND.double().cpu().numpy()
