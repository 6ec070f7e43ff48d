"""Capabilities of models that can show their memory: a belief, contexts of several lengths, parts of a mixture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class HiddenStates(ABC):
    """A model that remembers the past as a belief over N hidden states.

    At every input its probe ``belief`` shows p(state | inputs so far), and ``predicted_belief`` the same for the state
    of the next token, B x T x N.
    """

    @abstractmethod
    def log_emissions(self) -> Tensor:
        """Return log p(token | state), N x V."""


@dataclass(frozen=True)
class ContextSteps:
    """The contexts that may predict each target, M of them, the longest first; all are B x T x M.

    Attributes:
        length: tokens of the context, the start token among them; -1: training has not seen it, and it leaves
            everything to the next one.
        seen: training has seen the target after the context.
        log_p: log p of the target after the context, shorter ones included.
        log_reserved: log of the share that the context leaves to the next one (after the last: to 1 / V).
    """

    length: Tensor
    seen: Tensor
    log_p: Tensor
    log_reserved: Tensor


class BacksOff(ABC):
    """A model that predicts from counts after the last tokens, and falls back on fewer of them."""

    vocab_size: int

    @property
    @abstractmethod
    def interpolated(self) -> bool:
        """True: what a context reserves goes to all tokens. False: only to those that were not seen after it."""

    @abstractmethod
    def context_steps(self, inputs_BT: Tensor, targets_BT: Tensor) -> ContextSteps:
        """Return what each context contributes to the probability of each target.

        Args:
            inputs_BT: tokens, from the start of a record.
            targets_BT: the token after each of them.
        """


class LinearMixture(ABC):
    """A model whose probabilities are the weighted mean of those of K parts."""

    log_weights_K: Tensor

    @abstractmethod
    def part_log_probs(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return log p of each target under each part, B x T x K, float64.

        Args:
            inputs_BT: tokens, from the start of a record.
            targets_BT: the token after each of them.
        """
