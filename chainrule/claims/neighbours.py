"""Distances that the code of one token moves when its neighbours change, layer by layer."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chainrule.core import Batch
from chainrule.explanation.model_input import ModelInput
from chainrule.nn.blocks import BlockStack
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run

CONTEXTS, AROUND = 12, 12
"""Neighbourhoods that a token is put into, and the tokens of each."""
EMBEDDING = "embedding"
"""Name of the embedding table in models of ``generate`` and ``fill`` that attend."""


@dataclass(frozen=True)
class Moves:
    """Distances between codes, divided by their mean length: first of the embedding, then behind each layer.

    Args:
        token: the token whose neighbours change.
        same: mean distance of its codes in two neighbourhoods.
        other: mean distance of two tokens in one neighbourhood.
    """

    token: str
    same: list[float]
    other: list[float]


def moves(run: Run, text: ModelInput) -> Moves:
    """Return how far a token's code moves, in float64.

    Args:
        run: a run of ``generate`` or ``fill`` that attends.
        text: a passage of at least ``CONTEXTS + AROUND`` tokens, as the run reads it.
    """
    ids = text.ids.tolist()
    kinds = _frequent(text)
    token = kinds[0]
    step = max(1, (len(ids) - AROUND) // CONTEXTS)
    around = [ids[k : k + AROUND] for k in range(0, len(ids) - AROUND + 1, step)][:CONTEXTS]
    place = AROUND if run.task == "generate" else AROUND // 2  # a causal model sees what comes before alone
    one = [[*some[:place], token, *some[place:]] for some in around]
    many = [[*around[0][:place], kind, *around[0][place:]] for kind in kinds[:CONTEXTS]]
    return Moves(_name(text, token), *(_spread(codes(run, rows, place + 1)) for rows in (one, many)))


def _frequent(text: ModelInput) -> list[int]:
    """The kinds of tokens of a passage that hold a letter, the most frequent first."""
    counts = Counter(text.ids.tolist())
    kinds = [kind for kind, _ in counts.most_common()]
    return [kind for kind in kinds if any(letter.isalpha() for letter in _name(text, kind))] or kinds


def _name(text: ModelInput, token: int) -> str:
    return str(text.texts[text.ids.tolist().index(token)]).strip()


@torch.no_grad()
def codes(run: Run, rows: Sequence[Sequence[int]], place: int) -> list[Tensor]:
    """Return the codes at one place of each row: of the embedding table, then behind each layer, N x D each.

    Behind a layer of a pre-norm stack the code is taken as the next layer reads it, behind its norm.

    Args:
        run: a run that attends.
        rows: tokens without the start token, all of one length.
        place: place in the row, the start token included.
    """
    model = copy.deepcopy(run.model).double().eval()
    prefix = f"{model.attention_stack}." if model.attention_stack else ""
    stack = model.get_submodule(model.attention_stack)
    assert isinstance(stack, BlockStack)
    blocks = stack.stack()
    behind = [f"{prefix}blocks.{k}.norm_feed_forward" for k in range(len(blocks))]
    if blocks[0].pre:
        behind = [*(f"{prefix}blocks.{k}.norm_attention" for k in range(1, len(blocks))), f"{prefix}norm"]
    inputs_NT = torch.tensor([[model.start_id, *row] for row in rows], device=run.compute.device)
    with Recorder(model, EMBEDDING, *behind) as seen:
        if run.task == "generate":
            model(inputs_NT)
        else:
            lengths_N = torch.full((len(rows),), inputs_NT.shape[1], device=inputs_NT.device)
            model.encode(Batch(inputs_NT, inputs_NT, lengths_N))
    return [seen[name][0][:, place] for name in (EMBEDDING, *behind)]


def _spread(layers: Sequence[Tensor]) -> list[float]:
    return [spread(code_ND) for code_ND in layers]


def spread(code_ND: Tensor) -> float:
    """Return the mean distance of two of several vectors, divided by their mean length.

    >>> spread(torch.tensor([[3.0, 0.0], [3.0, 0.0]])), round(spread(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), 3)
    (0.0, 1.414)
    """
    pairs = torch.combinations(torch.arange(len(code_ND), device=code_ND.device))
    apart = (code_ND[pairs[:, 0]] - code_ND[pairs[:, 1]]).norm(dim=-1)
    return float(apart.mean() / code_ND.norm(dim=-1).mean())
