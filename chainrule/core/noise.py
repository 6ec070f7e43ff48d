"""Counter-based random numbers: what is drawn is a function of a seed, a position and a cell, whatever else is drawn
beside it.

A generator hands out numbers in the order of the calls, so a row's draws depend on the other rows of its batch. Here
each number is the hash of its coordinates (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), by the
finaliser of SplitMix64 (Steele, Lea & Flood 2014), computed for a whole batch in int64 arithmetic on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
"""2^64 / the golden ratio, as a signed number: the step between the inputs of two hashes."""
FIRST, SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)
BITS = 52
"""Random bits of a number: with half a unit added, a double holds it exactly, strictly between 0 and 1."""


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; that of a signed tensor is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def hashed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of 64-bit integers in which every input bit changes half of the output
    bits."""
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def derive_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of several draws that share one seed; the first ones do not depend on how many there are.

    Example:
        >>> few, many = derive_seeds(42, 2), derive_seeds(42, 5)
        >>> many[:2] == few, len(set(many))
        (True, 5)
    """
    key = hashed((torch.tensor(seed % (1 << 63)) + 1) * GOLDEN)
    return (hashed(key + torch.arange(1, count + 1) * GOLDEN) & ((1 << 63) - 1)).tolist()


def uniform(seeds: Tensor, positions: Tensor, cells: int) -> Tensor:
    """Return uniform numbers, strictly between 0 and 1.

    Args:
        seeds: int64, of any shape.
        positions: int64, of a shape that broadcasts with ``seeds``.
        cells: how many numbers each (seed, position) has.

    Returns:
        float64, of the common shape of seeds and positions, and ``cells``.
    """
    key = hashed(hashed((seeds + 1) * GOLDEN) + (positions + 1) * GOLDEN)
    cell = torch.arange(1, cells + 1, device=key.device) * GOLDEN
    bits = _shifted(hashed(key[..., None] + cell), 64 - BITS)
    return (bits.double() + 0.5) * 2.0**-BITS


def gumbel(uniform: Tensor) -> Tensor:
    """Turn uniform numbers into Gumbel noise: the argmax of logits + noise is a draw from their softmax."""
    return -torch.log(-torch.log(uniform))


class Noise:
    """Random numbers of one step of a batch, taken where a ``torch.Generator`` would be: row b draws from (seed,
    position) b.

    Each call draws from a stream of its own, so that a value made of several draws is made of independent ones.

    Args:
        seeds_B: seeds of the rows, int64.
        positions_B: positions of the rows in their sequences, int64.

    Example:
        >>> seeds, positions = torch.tensor([3, 5]), torch.tensor([0, 9])
        >>> both = Noise(seeds, positions).uniform((2, 1, 4))
        >>> alone = Noise(seeds[1:], positions[1:]).uniform((1, 1, 4))
        >>> torch.equal(both[1:], alone)
        True
    """

    def __init__(self, seeds_B: Tensor, positions_B: Tensor):
        self.seeds_B, self.positions_B, self._calls = seeds_B, positions_B, 0

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Return uniform numbers of a shape whose first dimension is the batch, float64."""
        self._calls += 1
        seeds_B = self.seeds_B if self._calls == 1 else hashed(self.seeds_B + self._calls)
        return uniform(seeds_B, self.positions_B, math.prod(shape[1:])).view(shape)


Randomness = torch.Generator | Noise | None


def uniform_noise(shape: tuple[int, ...], rng: Randomness, device: torch.device) -> Tensor:
    """Return uniform numbers from either kind of source, float64, strictly between 0 and 1."""
    if isinstance(rng, Noise):
        return rng.uniform(tuple(shape))
    return torch.rand(shape, generator=rng, device=device, dtype=torch.float64).clamp(1e-300, 1 - 1e-16)


def normal_noise(like: Tensor, rng: Randomness) -> Tensor:
    """Return standard normal numbers from either kind of source.

    Args:
        like: a tensor whose shape, dtype and device the numbers have.
        rng: a generator of torch, or ``Noise``.
    """
    if isinstance(rng, Noise):
        return torch.special.ndtri(rng.uniform(tuple(like.shape))).to(like.dtype)
    return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=like.device)
