"""Gradient reach: how strongly a prediction changes with the embedding of each token before it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from chainrule.explanation.image_input import DrawnInput
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import Asked, Facts, view
from chainrule.runs.run import Run


class Reach(Facts):
    """The gradient of the log-probability of one token with respect to the embedding of each token before it."""

    first: int = Field(description="place of the first token that the prediction was made from")
    start: float = Field(description="norm of the gradient with respect to the embedding of the start token")
    norms: list[float] = Field(description="the same for each token, from the first to the one before the prediction")


def embeds_tokens(run: Run) -> bool:
    """Return whether a run has gradients with respect to the embeddings of tokens."""
    return predicts_tokens(run) and run.model.token_embedding is not None


@view(embeds_tokens, reads=(ModelInput, DrawnInput))
def reach(given: ModelInput, asked: Asked) -> Reach:
    """Return how strongly log p of a token changes with the embedding of each token before it: norms of the gradient.

    It shows what a small change would do and what training could learn from, not what the prediction rests on: where a
    unit is saturated the gradient vanishes, though the token decided.
    """
    read = Embedded(given, asked.at)
    vectors_SD = read.vectors_SD.requires_grad_()
    (slope_SD,) = torch.autograd.grad(read.log_p(vectors_SD[:1], vectors_SD[None, 1:]), vectors_SD)
    start, *norms = slope_SD.double().norm(dim=1).tolist()
    return Reach(first=read.first, start=start, norms=norms)


@dataclass(frozen=True)
class Embedded:
    """The prediction of one token as a function of the vectors of the tokens before it, in float32 without autocast.

    Every place gets a token of its own, with its vector as its row of the embedding. A model that reads a token several
    times (a window over its past) so has one gradient for all of them.

    Args:
        given: a record that the run has read.
        at: place of the token that is predicted.
    """

    given: ModelInput
    at: int

    @property
    def first(self) -> int:
        """Place of the first token that the prediction is made from."""
        return self.given.row(self.at).read

    @cached_property
    def _ids_S(self) -> Tensor:
        """The start token, and the tokens before the one that is predicted."""
        return self.given.inputs(self.first, self.at + 1)[0]

    @cached_property
    def _model(self) -> nn.Module:
        """A copy of the model that shares its tensors, whose table can be replaced while others use the model."""
        model = self.given.run.model
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        return copy.deepcopy(model, shared).eval()

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of the model."""
        module = self.given.run.model.get_submodule(self.given.run.model.token_embedding)
        assert isinstance(module, nn.Embedding)
        return module

    @property
    def vectors_SD(self) -> Tensor:
        """The vectors of the start token and of the tokens, as the model has learnt them."""
        return self.embedding.weight[self._ids_S].detach().clone()

    def log_p(self, start_1D: Tensor, vectors_NTD: Tensor) -> Tensor:
        """Return log p of the token at ``at`` for several versions of what stands before it, N.

        Args:
            start_1D: vector of the start token, the same for all.
            vectors_NTD: vectors of the tokens.
        """
        run, (N, T) = self.given.run, vectors_NTD.shape[:2]
        table_WD = torch.cat(
            [self.embedding.weight[: run.model.start_id].detach(), start_1D, vectors_NTD.flatten(0, 1)]
        )
        ids_NT = torch.arange(N * T, device=table_WD.device).view(N, T) + run.model.start_id + 1
        inputs_NS = torch.cat([self._ids_S[:1].expand(N, 1), ids_NT], 1)
        target_N1 = self.given.targets(self.at, self.at + 1).expand(N, 1)
        weights = {f"{run.model.token_embedding}.weight": table_WD}
        with torch.backends.cudnn.flags(enabled=False):  # its recurrent kernels have no gradients outside of training
            prediction, _ = functional_call(self._model, weights, (inputs_NS,))
            last_N = torch.full((N,), T, device=table_WD.device)
            return prediction.select(last_N).log_prob(target_N1)[:, 0]
