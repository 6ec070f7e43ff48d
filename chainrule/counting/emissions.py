"""Emission distributions b_n(x) of hidden Markov models: what each hidden state n emits."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from chainrule.core import Randomness, draw, normal_noise

# ----------------------------------------------------------------------------------------------------- counts to logits


@torch.no_grad()
def move(logits: Tensor, counts: Tensor, rate: float, smoothing: float) -> None:
    """Move distributions toward new counts, in place. Rows without any count stay as they are.

    Args:
        logits: log expected counts per observation; the last dimension is a distribution. Cells of -inf are impossible.
        counts: new expected counts per observation.
        rate: share of the way to the new counts.
        smoothing: share of the mass that is added, spread evenly over the possible cells.
    """
    allowed = logits > -torch.inf
    fresh = counts + allowed * (smoothing * counts.sum() / allowed.sum())
    moved = (1 - rate) * logits.exp() + rate * fresh
    logits.copy_(torch.where(moved.sum(-1, keepdim=True) > 0, moved.log(), logits))


def held(p: Tensor) -> Tensor:
    """Return logits of the distributions in the rows of ``p``, with the total mass of one observation.

    Args:
        p: distributions, in the last dimension.

    >>> held(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).exp().tolist()
    [[0.25, 0.25], [0.5, 0.0]]
    """
    return p.log() - math.log(max(1, p.numel() // p.shape[-1]))


def random_logits(allowed: Tensor, spread: float, rng: torch.Generator | None = None) -> Tensor:
    """Return logits of random distributions with the total mass of one observation.

    Args:
        allowed: possible cells; the last dimension is a distribution.
        spread: standard deviation of the logits, in nats.
        rng: source of random numbers.

    Returns:
        Logits of the default dtype, -inf where not ``allowed``.
    """
    noise = spread * torch.randn(allowed.shape, generator=rng, dtype=torch.float64)
    rows = max(1, allowed.numel() // allowed.shape[-1])
    logits = noise.masked_fill(~allowed, -torch.inf).log_softmax(-1) - math.log(rows)
    return logits.to(torch.get_default_dtype())


# ------------------------------------------------------------------------------------------------------------ emissions


class CategoricalEmission(nn.Module):
    """Emission of tokens from a table b_n(v)."""

    spread = 2.0
    """Standard deviation of the random start, in nats: states that start alike separate slowly (measured)."""

    def __init__(self, states: int, vocab_size: int):
        super().__init__()
        self.logits_NV = nn.Parameter(random_logits(torch.ones(states, vocab_size, dtype=torch.bool), self.spread))

    @property
    def log_table_NV(self) -> Tensor:
        """log b_n(v)."""
        return self.logits_NV.log_softmax(-1)

    def values(self, seen_BT: Tensor, known_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the P values for which evidence is computed, and which of them stands at each place, B x T (P:
        unknown).
        """
        vocab_size = self.logits_NV.shape[1]
        return torch.arange(vocab_size, device=seen_BT.device), seen_BT.masked_fill(~known_BT, vocab_size)

    def log_prob(self, values: Tensor) -> Tensor:
        """Return log b_n(x), ... x N."""
        return self.log_table_NV.T[values]

    def statistics(self, values_P: Tensor, weights_PN: Tensor) -> tuple[Tensor, ...]:
        """Return expected counts of values with these weights."""
        counts_VN = weights_PN.new_zeros(self.logits_NV.shape[::-1])
        return (counts_VN.index_add_(0, values_P, weights_PN).T,)

    def estimate(self, stats: tuple[Tensor, ...], rate: float, smoothing: float) -> None:
        """Move the parameters toward the statistics per observation, as in ``move``."""
        move(self.logits_NV, stats[0], rate, smoothing)

    @torch.no_grad()
    def initialise(self, values_P: Tensor, rng: torch.Generator) -> None:
        """Start every state from the token frequencies, times random factors."""
        states, vocab_size = self.logits_NV.shape
        counts_V = torch.bincount(values_P.cpu(), minlength=vocab_size) + 1.0 / vocab_size
        noisy_NV = counts_V.log() + self.spread * torch.randn(states, vocab_size, generator=rng, dtype=torch.float64)
        self.logits_NV.copy_(noisy_NV.log_softmax(-1) - math.log(states))

    def sample(self, states_BT: Tensor, rng: Randomness) -> Tensor:
        """Draw one value from each state."""
        return draw(self.log_table_NV[states_BT], rng)

    def tables(self) -> dict[str, Tensor]:
        """Return the parameters by their usual names: emissionprob N x V."""
        return {"emissionprob": self.log_table_NV.exp()}

    def load_tables(self, **tables: Tensor) -> None:
        """Set the given parameters."""
        if "emissionprob" in tables:
            self.logits_NV.copy_(held(tables["emissionprob"]))


class GaussianMixture(nn.Module):
    """Emission of real numbers, b_n(x) = sum_m w_nm N(x; mean_nm, covariance_nm). Methods as in
    ``CategoricalEmission``.

    A covariance is held as its Cholesky factor with the logarithm of the diagonal: N x M x D (diag), N x M x D x D
        (full), D x D (tied). Sufficient statistics are taken around the current means, so that large offsets cost no
        precision.

    Args:
        states, mixture, dims: N, M and D.
        covariance: diag, full, or tied (one for all states).
        floor: least variance (eigenvalue).
    """

    def __init__(
        self, states: int, *, mixture: int, dims: int, covariance: Literal["diag", "full", "tied"], floor: float
    ):
        super().__init__()
        n, m, d = states, mixture, dims
        self.kind, self.floor, self.dims = covariance, floor, d
        weights_NM = torch.full((n, m), -math.log(n * m))
        if m > 1:
            self.weights_NM = nn.Parameter(weights_NM)
        else:  # a single Gaussian has no weights to learn, only the mass of its state to keep
            self.register_buffer("weights_NM", weights_NM)
        self.mean_NMD = nn.Parameter(torch.linspace(-1, 1, n * m).view(n, m, 1).repeat(1, 1, d))
        shape = {"diag": (n, m, d), "full": (n, m, d, d), "tied": (d, d)}[self.kind]
        self.factor = nn.Parameter(torch.zeros(shape))

    def flat(self, x: Tensor) -> Tensor:
        """Return observations as ... x D; with D = 1 they come without that dimension."""
        x = x.to(self.mean_NMD.dtype)
        return x.unsqueeze(-1) if self.dims == 1 else x

    def values(self, seen_BT: Tensor, known_BT: Tensor) -> tuple[Tensor, Tensor]:
        place_BT = torch.arange(known_BT.numel(), device=known_BT.device).view(known_BT.shape)
        known = known_BT if self.dims == 1 else known_BT[..., None]
        return torch.where(known, seen_BT, 0.0).flatten(0, 1), place_BT.masked_fill(~known_BT, known_BT.numel())

    def cholesky(self) -> Tensor:
        """Return the lower factors of the covariances (full: N x M x D x D, tied: D x D)."""
        return self.factor.tril(-1) + self.factor.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    @property
    def covariance(self) -> Tensor:
        """N x M x D variances (diag), N x M x D x D (full), D x D (tied)."""
        return (2 * self.factor).exp() if self.kind == "diag" else self.cholesky() @ self.cholesky().mT

    def _log_components(self, values_PD: Tensor) -> Tensor:
        """Return log w_nm + log N(x; mean_nm, covariance_nm), P x N x M."""
        gap_PNMD = values_PD[:, None, None] - self.mean_NMD
        if self.kind == "diag":
            z_PNMD, log_scale = gap_PNMD * (-self.factor).exp(), self.factor.sum(-1)
        else:
            lower = self.cholesky()
            lower = lower.expand(*self.mean_NMD.shape[:2], *lower.shape[-2:])
            z = torch.linalg.solve_triangular(lower, gap_PNMD.permute(1, 2, 3, 0), upper=False)
            z_PNMD, log_scale = z.permute(3, 0, 1, 2), self.factor.diagonal(dim1=-2, dim2=-1).sum(-1)
        density_PNM = -0.5 * (z_PNMD**2).sum(-1) - log_scale - 0.5 * self.dims * math.log(2 * math.pi)
        return density_PNM + self.weights_NM.log_softmax(-1)

    def log_prob(self, values: Tensor) -> Tensor:
        each = self.flat(values)
        return self._log_components(each.reshape(-1, self.dims)).logsumexp(-1).view(*each.shape[:-1], -1)

    def statistics(self, values_P: Tensor, weights_PN: Tensor) -> tuple[Tensor, ...]:
        """Return mass N x M, sum of x - mean N x M x D, and sum of its square or outer product."""
        values_PD = self.flat(values_P)
        share_PNM = weights_PN[..., None] * self._log_components(values_PD).softmax(-1)
        gap_PNMD = values_PD[:, None, None] - self.mean_NMD
        weighted_PNMD = share_PNM[..., None] * gap_PNMD
        if self.kind == "diag":
            square = (weighted_PNMD * gap_PNMD).sum(0)
        else:
            square = torch.einsum("pnmd,pnme->nmde", weighted_PNMD, gap_PNMD)
        return share_PNM.sum(0), weighted_PNMD.sum(0), square

    @torch.no_grad()
    def estimate(self, stats: tuple[Tensor, ...], rate: float, smoothing: float) -> None:
        mass_NM, sum_NMD, square = stats
        old_NM, old = self.weights_NM.exp(), self.covariance
        if self.kind == "tied":
            old = old.expand(*mass_NM.shape, -1, -1)
        whole_NM = (1 - rate) * old_NM + rate * mass_NM
        lead = (..., *[None] * (old.dim() - 2))
        some_NM = whole_NM.clamp(min=torch.finfo(whole_NM.dtype).tiny)
        shift_NMD = rate * sum_NMD / some_NM[..., None]
        square = (1 - rate) * old_NM[lead] * old + rate * square
        outer = shift_NMD**2 if self.kind == "diag" else shift_NMD[..., None] * shift_NMD[..., None, :]
        scatter = square - whole_NM[lead] * outer
        covariance = scatter.sum((0, 1)) / some_NM.sum() if self.kind == "tied" else scatter / some_NM[lead]
        visited_NM = whole_NM > 0
        self.mean_NMD += torch.where(visited_NM[..., None], shift_NMD, 0.0)
        factor = self._factor(covariance)
        self.factor.copy_(factor if self.kind == "tied" else torch.where(visited_NM[lead], factor, self.factor))
        move(self.weights_NM, mass_NM, rate, smoothing)

    def _factor(self, covariance: Tensor) -> Tensor:
        """Return the Cholesky factor as it is held, with variances (eigenvalues) raised to at least ``floor``."""
        if self.kind == "diag":
            return 0.5 * covariance.clamp(min=self.floor).log()
        values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.mT))
        if bool((values < self.floor).any()):
            covariance = (vectors * values.clamp(min=self.floor)[..., None, :]) @ vectors.mT
        lower = torch.linalg.cholesky(0.5 * (covariance + covariance.mT))
        return lower.tril(-1) + lower.diagonal(dim1=-2, dim2=-1).log().diag_embed()

    @torch.no_grad()
    def initialise(self, values_P: Tensor, rng: torch.Generator) -> None:
        """Choose means among the data by k-means++ (Arthur & Vassilvitskii 2007); every covariance is that of the
        data.
        """
        n, m, d = self.mean_NMD.shape
        points = self.flat(values_P).to(self.mean_NMD)
        if not len(points):
            return
        chosen = [int(torch.randint(len(points), (), generator=rng))]
        nearest_P = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
        while len(chosen) < n * m:
            nearest_P = torch.minimum(nearest_P, ((points - points[chosen[-1]]) ** 2).sum(-1))
            p = nearest_P.double().cpu() if bool(nearest_P.any()) else torch.ones(len(points), dtype=torch.float64)
            chosen.append(int(torch.multinomial(p / p.sum(), 1, generator=rng)))
        self.mean_NMD.copy_(points[chosen].view(n, m, d))
        gap = points - points.mean(0)
        whole = (gap**2).mean(0) if self.kind == "diag" else gap.T @ gap / len(points)
        self.factor.copy_(self._factor(whole).expand_as(self.factor))
        self.weights_NM.fill_(-math.log(n * m))

    def sample(self, states_BT: Tensor, rng: Randomness) -> Tensor:
        component_BT = draw(self.weights_NM.log_softmax(-1)[states_BT], rng)
        mean = self.mean_NMD[states_BT, component_BT]
        noise = normal_noise(mean, rng)
        if self.kind == "diag":
            x = mean + noise * self.factor.exp()[states_BT, component_BT]
        else:
            lower = self.cholesky() if self.kind == "tied" else self.cholesky()[states_BT, component_BT]
            x = mean + (lower @ noise[..., None])[..., 0]
        return x[..., 0] if self.dims == 1 else x

    def tables(self) -> dict[str, Tensor]:
        """Return means N x M x D, weights N x M, and covars as in ``covariance``."""
        return {"weights": self.weights_NM.softmax(-1), "means": self.mean_NMD, "covars": self.covariance}

    def load_tables(self, **tables: Tensor) -> None:
        if "weights" in tables:
            self.weights_NM.copy_(held(tables["weights"]))
        if "means" in tables:
            self.mean_NMD.copy_(tables["means"].reshape(self.mean_NMD.shape))
        if "covars" in tables:
            self.factor.copy_(self._factor(tables["covars"].reshape(self.factor.shape).to(self.factor)))


Emission = CategoricalEmission | GaussianMixture
