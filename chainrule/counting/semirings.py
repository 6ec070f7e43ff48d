"""Semirings of the forward recursion: messages (B x N) as logarithms or probabilities, joined by a sum, a maximum or a
draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

ELEMENTS = 1 << 22
"""Largest number of elements in an intermediate tensor; larger computations are split."""


class LogSum:
    """Sums of probabilities, held as logarithms. The reference: slow, and nothing underflows."""

    def lift(self, log: Tensor) -> Tensor:
        """Convert logarithms to the representation of this semiring."""
        return log

    def lower(self, message: Tensor) -> Tensor:
        """Convert back to logarithms."""
        return message

    def table(self, log_VN: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lifted evidence and what was subtracted from the logarithms of each row (V) to avoid underflow."""
        return log_VN, log_VN.new_zeros(len(log_VN))

    def observed(self, message_BN: Tensor, table_VN: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the message times these rows of the evidence, scaled to a total of one, and its total before (B x
        1).
        """
        joint_BN = message_BN + table_VN.index_select(0, index_B)
        total_B1 = self.join(joint_BN).unsqueeze(-1)
        return self.scaled(joint_BN, total_B1, message_BN), total_B1

    def scaled(self, joint_BN: Tensor, total_B1: Tensor, before_BN: Tensor) -> Tensor:
        """Scale a message to a total of one; ``before_BN`` replaces it where the total is zero."""
        impossible_B1 = total_B1 == -torch.inf
        return torch.where(impossible_B1, before_BN, joint_BN - total_B1.masked_fill(impossible_B1, 0.0))

    def through(self, message_BN: Tensor, matrix: Tensor) -> Tensor:
        """Return the sum over i of message(i) * matrix(i, j); the matrix is N x N, or B x N x N."""
        size = max(1, ELEMENTS // matrix.shape[-1] ** 2)
        if matrix.dim() == 2:
            back = matrix.T.contiguous()
            return torch.cat([self.join(part[:, None] + back) for part in message_BN.split(size)])
        pieces = zip(message_BN.split(size), matrix.mT.split(size), strict=True)
        return torch.cat([self.join(part[:, None] + back) for part, back in pieces])

    def join(self, terms: Tensor) -> Tensor:
        """Sum over the last dimension."""
        return terms.logsumexp(-1)

    def weigh(self, before_BN: Tensor, after_BN: Tensor, counted_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Return posteriors from the forward and the backward message, and the backward message divided by their
        total.
        """
        both = before_BN + after_BN
        total = both.logsumexp(-1, keepdim=True)
        nothing = (counted_B1 == 0) | (total == -torch.inf)
        total = total.masked_fill(nothing, torch.inf)
        return (both - total).exp(), after_BN - total

    def pairs(self, into_NN: Tensor, after_BN: Tensor, weighted_BN: Tensor, matrix_NN: Tensor) -> None:
        """Add expected transitions from one step to the next over all rows, up to the factor applied by ``paired``."""
        size = max(1, ELEMENTS // len(matrix_NN) ** 2)
        for a, w in zip(after_BN.split(size), weighted_BN.split(size), strict=True):
            into_NN += (a[:, :, None] + w[:, None] + matrix_NN).exp().sum(0)

    def paired(self, pairs_NN: Tensor, matrix_NN: Tensor) -> Tensor:
        """Return expected transitions from what ``pairs`` added up."""
        return pairs_NN


class Sum(LogSum):
    """Sums of probabilities, held as such: matrix products, and compiled loops on a CPU where no gradient is needed."""

    def lift(self, log: Tensor) -> Tensor:
        return log.exp()

    def lower(self, message: Tensor) -> Tensor:
        """log p, -inf at 0 with a gradient of 0 there."""
        if not message.requires_grad:
            return message.log()
        zero = message == 0
        return message.masked_fill(zero, 1.0).log().masked_fill(zero, -torch.inf)

    def table(self, log_VN: Tensor) -> tuple[Tensor, Tensor]:
        shift_V = log_VN.detach().amax(-1)
        shift_V = shift_V.masked_fill(shift_V == -torch.inf, 0.0)
        return (log_VN - shift_V[:, None]).exp(), shift_V

    def observed(self, message_BN: Tensor, table_VN: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
        tiny = torch.finfo(message_BN.dtype).tiny
        if not _compiled_loops_apply(message_BN, table_VN):
            joint_BN = message_BN * table_VN.index_select(0, index_B)
            total_B1 = joint_BN.sum(-1, keepdim=True)
            return joint_BN / (total_B1 + tiny), total_B1
        from chainrule.counting import scan_kernels

        message_BN = message_BN.contiguous()
        after_BN, total_B1 = torch.empty_like(message_BN), message_BN.new_empty(len(message_BN), 1)
        arrays = (x.numpy() for x in (message_BN, table_VN, index_B))
        scan_kernels.observe(*arrays, tiny, after_BN.numpy(), total_B1.numpy())
        return after_BN, total_B1

    def through(self, message_BN: Tensor, matrix: Tensor) -> Tensor:
        return message_BN @ matrix if matrix.dim() == 2 else (message_BN[:, None] @ matrix)[:, 0]

    def weigh(self, before_BN: Tensor, after_BN: Tensor, counted_B1: Tensor) -> tuple[Tensor, Tensor]:
        tiny = torch.finfo(before_BN.dtype).tiny
        if not _compiled_loops_apply(before_BN, after_BN):
            both = before_BN * after_BN
            share = counted_B1 / (both.sum(-1, keepdim=True) + tiny)
            return both * share, after_BN * share
        from chainrule.counting import scan_kernels

        both, weighted = torch.empty_like(after_BN), torch.empty_like(after_BN)
        arrays = (x.numpy() for x in (before_BN.contiguous(), after_BN, counted_B1))
        scan_kernels.weigh(*arrays, tiny, both.numpy(), weighted.numpy())
        return both, weighted

    def pairs(self, into_NN: Tensor, after_BN: Tensor, weighted_BN: Tensor, matrix_NN: Tensor) -> None:
        into_NN.addmm_(after_BN.T, weighted_BN)

    def paired(self, pairs_NN: Tensor, matrix_NN: Tensor) -> Tensor:
        return pairs_NN * matrix_NN


def _compiled_loops_apply(*tensors: Tensor) -> bool:
    """Report whether compiled loops can process these tensors: on the CPU, in single or double precision, without
    gradient.
    """
    grad = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return not grad and all(x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) for x in tensors)


class Max(LogSum):
    """Maxima of logarithms. Scores that differ by rounding alone are tied; the lowest index wins."""

    def join(self, terms: Tensor) -> Tensor:
        return terms.amax(-1)

    def choose(self, terms: Tensor) -> Tensor:
        """Return the index of the maximum in the last dimension."""
        allowed = 64 * torch.finfo(terms.dtype).eps
        return (terms >= terms.amax(-1, keepdim=True) - allowed).byte().argmax(-1)


class Sample(LogSum):
    """Sums whose terms are drawn in proportion to their share."""

    def __init__(self, rng: torch.Generator | None = None):
        self.rng = rng

    def choose(self, terms: Tensor) -> Tensor:
        """Draw an index of the last dimension: one random number per (time, row), since only one state of each is
        followed.
        """
        shape = (*terms.shape[:2], *[1] * (terms.dim() - 2))
        u = torch.rand(shape, generator=self.rng, dtype=torch.float64, device=terms.device)
        best = terms.amax(-1, keepdim=True)
        below = (terms - best.masked_fill(best == -torch.inf, 0.0)).double().exp().cumsum(-1)
        return (below <= u * below[..., -1:]).sum(-1).clamp(max=terms.shape[-1] - 1)


SUM, LOG_SUM, MAX = Sum(), LogSum(), Max()
