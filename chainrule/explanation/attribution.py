"""Attribution: how much each token contributed to one prediction, by integrated gradients and by occlusion.

Of an image, the baseline of both is the mean of the training pixels, by channel: the zero of the units of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Classifier, SequenceModel, UserError
from chainrule.core.progress import tracked
from chainrule.data.image_files import ImageReader
from chainrule.explanation.image_input import DrawnInput, ImageInput
from chainrule.explanation.model_input import EncoderInput, InputRow, ModelInput
from chainrule.explanation.reach import Embedded, embeds_tokens
from chainrule.explanation.surprise import predicts_tokens
from chainrule.explanation.views import Asked, Facts, view
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run

STEPS = (32, 64, 128, 256, 512)
"""Points of the path that gradients are computed at; more are taken until the scores are complete."""
COMPLETE = 0.01
"""Largest difference between the sum of the scores and what they explain, as a share of it."""
POWER = 3
"""Layers that normalise have steep gradients where an image is nearly blank: most points of its path lie there."""
REPLACEMENTS = 4
"""Tokens that stand in for one that is left out."""
TOKENS = 1 << 14
"""Tokens that are read at once."""


class Attribution(Facts):
    """Scores of the tokens that an answer was made from, in nats: positive ones made it more probable."""

    first: int = Field(description="place of the first token that the answer was made from")
    scores: list[float] = Field(description="score of each token, from the first to the last that was read")
    total: float = Field(description="log p of the answer, less its log p where none of these tokens is known")
    difference: float = Field(description="sum of the scores less the total")


class IntegratedGradients(Attribution):
    """Integrated gradients from the mean embedding; the total is the change of log p along the path."""

    steps: int = Field(description="points of the path that gradients were computed at")


class Occlusion(Attribution):
    """Scores by leaving out one token at a time; the total is log p less that where no token is known: after the start
    token alone, or where all are replaced."""


# ------------------------------------------------------------------------------------------------- integrated gradients


@dataclass(frozen=True)
class _Path:
    """The answer of a run as a function of vectors that it reads.

    Args:
        first: place of the first token.
        log_p: maps N x T x D vectors to N values of log p of the answer.
        x_TD: the vectors.
        baseline_TD: those of which nothing is known.
        owner_T: the token that each belongs to, counted from the first.
        power: that of ``integrate``.
    """

    first: int
    log_p: Callable[[Tensor], Tensor]
    x_TD: Tensor
    baseline_TD: Tensor
    owner_T: Tensor
    power: int = 1

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self.owner_T.max()) + 1 if len(self.owner_T) else 0

    def by_token(self, scores_T: Tensor) -> list[float]:
        """Return the sums of the scores of the vectors of each token."""
        return scores_T.new_zeros(self.size).index_add(0, self.owner_T, scores_T).tolist()


def _reads_images(run: Run) -> bool:
    return isinstance(run.model, Classifier) and isinstance(getattr(run.processor, "reader", None), ImageReader)


def _learns_vectors(run: Run) -> bool:
    """Return whether a run reads tokens as vectors that its prediction of each label depends on alone."""
    return isinstance(run.model, SequenceModel) and bool(run.model.token_vectors)


def has_gradients(run: Run) -> bool:
    """Return whether a run has gradients with respect to what it reads."""
    weights = run.model.parameters() if isinstance(run.model, SequenceModel) else ()
    return embeds_tokens(run) or _learns_vectors(run) or (_reads_images(run) and any(p.requires_grad for p in weights))


@view(has_gradients, usual=False, reads=(ModelInput, EncoderInput, ImageInput, DrawnInput))
def integrated_gradients(given: ModelInput | EncoderInput | ImageInput, asked: Asked) -> IntegratedGradients:
    """Return how much each token contributed to log p of a token: integrated gradients (Sundararajan et al. 2017) along
    the path on which all embeddings go from the mean of the vocabulary to what they are.

    The scores add up to the difference that the tokens make together, but how it is divided depends on the baseline
    and on a path through vectors that stand for no token.
    """
    path = _embeddings(given, asked.at) if isinstance(given, ModelInput) else _path(given, asked.at)
    scores_T, total, steps = integrate(path.log_p, path.x_TD, path.baseline_TD, path.power)
    scores = path.by_token(scores_T)
    return IntegratedGradients(
        first=path.first, scores=scores, total=total, difference=sum(scores) - total, steps=steps
    )


def _path(given: EncoderInput | ImageInput, at: int) -> _Path:
    return _pixels(given) if isinstance(given, ImageInput) else _encoded(given, at)


def _embeddings(given: ModelInput, at: int) -> _Path:
    read = Embedded(given, at)
    start_1D, tokens_TD = read.vectors_SD.split([1, len(read.vectors_SD) - 1])
    mean_D = read.embedding.weight[: given.run.model.vocab_size].detach().mean(0)
    own_T = torch.arange(len(tokens_TD), device=mean_D.device)
    log_p = lambda x_NTD: read.log_p(start_1D, x_NTD)  # noqa: E731
    return _Path(read.first, log_p, tokens_TD, mean_D.expand_as(tokens_TD), own_T)


def _pixels(given: ImageInput) -> _Path:
    """Pixels as vectors, each of which belongs to a patch."""
    C, Y, X = given.pixels_1CYX[0].shape
    log_p = lambda x_NTC: given.log_p(x_NTC.mT.reshape(-1, C, Y, X))[:, given.label]  # noqa: E731
    x_TC = given.pixels_1CYX[0].flatten(1).T
    return _Path(1, log_p, x_TC, torch.zeros_like(x_TC), given.patch_of_YX.flatten(), POWER)


# ------------------------------------------------------------------------------------------- tokens that are encoded


@dataclass(frozen=True)
class _Vectors:
    """The vectors that a module of a model makes of tokens.

    Args:
        module: the module.
        row_T: their places in the output of the module, row after row.
        owner_T: the token of each.
        x_TD: the vectors.
        baseline_D: the vector of a token of which nothing is known.
    """

    module: nn.Module
    row_T: Tensor
    owner_T: Tensor
    x_TD: Tensor
    baseline_D: Tensor

    def put(self, output: Tensor, x_TD: Tensor) -> Tensor:
        """Return the output of the module with other vectors in their places."""
        own_TD = x_TD[:, : output.shape[-1]].to(output.dtype)
        return output.detach().flatten(0, -2).index_copy(0, self.row_T, own_TD).view_as(output)


def _encoded(given: EncoderInput, at: int) -> _Path:
    """The vectors of all tokens of a row, of each module that makes some; narrower ones are padded with zeros."""
    model, input_row = given.run.model, given.input_row(at)
    with torch.no_grad(), Recorder(model, *model.token_vectors) as seen:
        input_row.read()
    parts = [_vectors(given, name, seen[name][0]) for name in model.token_vectors]
    width = max(part.x_TD.shape[1] for part in parts)
    wide = lambda x_TD: F.pad(x_TD, (0, width - x_TD.shape[1]))  # noqa: E731
    sizes = [len(part.x_TD) for part in parts]

    def log_p(x_NTD: Tensor) -> Tensor:
        return torch.stack([_read_with(input_row, parts, x_TD.split(sizes)) for x_TD in x_NTD])

    return _Path(
        0,
        log_p,
        torch.cat([wide(part.x_TD) for part in parts]),
        torch.cat([wide(part.baseline_D.expand_as(part.x_TD)) for part in parts]),
        torch.cat([part.owner_T for part in parts]),
    )


def _read_with(input_row: InputRow, parts: Sequence[_Vectors], vectors: Sequence[Tensor]) -> Tensor:
    """log p of the answer with other vectors."""
    with ExitStack() as hooks, torch.backends.cudnn.flags(enabled=False):
        for part, x_TD in zip(parts, vectors, strict=True):
            handle = part.module.register_forward_hook(lambda _m, _i, out, part=part, x_TD=x_TD: part.put(out, x_TD))
            hooks.callback(handle.remove)
        return input_row.read()[0]


def _vectors(given: EncoderInput, name: str, output_BSD: Tensor) -> _Vectors:
    model, (B, S) = given.run.model, output_BSD.shape[:2]
    module, begins = model.get_submodule(name), model.token_vectors[name]
    place_BS = torch.arange(B * S, device=output_BSD.device).view(B, S)
    row_T = (place_BS[:, 1:] if begins else place_BS).flatten()
    owner_T = torch.arange(len(given), device=row_T.device)
    if given.words is not None and not begins:
        owner_T = torch.tensor(given.words, device=row_T.device)
    row_T = row_T[: len(owner_T)]
    blank_D = module.weight.mean(0) if isinstance(module, nn.Embedding) else module.blank()  # type: ignore[operator]
    return _Vectors(module, row_T, owner_T, output_BSD.flatten(0, 1)[row_T].detach(), blank_D.detach())


# ------------------------------------------------------------------------------------------------------- quadrature


def integrate(
    function: Callable[[Tensor], Tensor], x_TD: Tensor, baseline_TD: Tensor, power: int = 1
) -> tuple[Tensor, float, int]:
    """Return integrated gradients, by Gauss-Legendre quadrature with as many points as completeness takes.

    Args:
        function: maps N x T x D inputs to N values.
        x_TD: the input.
        baseline_TD: where the path begins.
        power: larger values put more of the points near the baseline: that at t of the path becomes t^power.

    Returns:
        The score of each of the T vectors, float64; the value of the input less that of the baseline; and the number of
        points.
    """
    with torch.no_grad():
        end, begin = function(torch.stack([x_TD, baseline_TD])).double().tolist()
    total = end - begin
    for steps in STEPS:
        slope_TD = _mean_gradient(function, x_TD, baseline_TD, _points(steps, power))
        scores_T = (slope_TD * (x_TD - baseline_TD).double()).sum(1)
        if abs(float(scores_T.sum()) - total) <= COMPLETE * abs(total):
            break
    return scores_T, total, steps


def _points(steps: int, power: int) -> tuple[np.ndarray, np.ndarray]:
    """Points between 0 and 1 of a quadrature, and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    t = (nodes + 1) / 2
    return t**power, weights / 2 * power * t ** (power - 1)


def _mean_gradient(
    function: Callable[[Tensor], Tensor], x_TD: Tensor, baseline_TD: Tensor, points: tuple[np.ndarray, np.ndarray]
) -> Tensor:
    shares, weights = (torch.from_numpy(found).to(x_TD) for found in points)
    slope_TD = torch.zeros_like(x_TD, dtype=torch.float64)
    pieces = max(1, TOKENS // max(1, len(x_TD)))
    for share_N, weight_N in tracked([*zip(shares.split(pieces), weights.split(pieces))]):
        path_NTD = torch.lerp(baseline_TD, x_TD, share_N[:, None, None]).requires_grad_()
        (each_NTD,) = torch.autograd.grad(function(path_NTD).sum(), path_NTD)
        slope_TD += (each_NTD * weight_N[:, None, None]).double().sum(0)
    return slope_TD


# ------------------------------------------------------------------------------------------------------------ occlusion


def _can_occlude(run: Run) -> bool:
    return predicts_tokens(run) or _learns_vectors(run) or _reads_images(run)


@view(_can_occlude, usual=False, reads=(ModelInput, EncoderInput, ImageInput))
def occlusion(given: ModelInput | EncoderInput | ImageInput, asked: Asked) -> Occlusion:
    """Return how much log p of a token falls when one token before it is not known: it is replaced by the four tokens
    that the run holds for most probable in its place, weighted by their probabilities (Kim et al. 2020); a token that
    is encoded with all others by the mean of the vocabulary, a patch of an image by the mean of the training pixels.

    One token at a time is left out: what two tokens say both gets no score, and the scores need not add up.
    """
    return _tokens(given, asked) if isinstance(given, ModelInput) else _blanked(_path(given, asked.at))


@torch.no_grad()
def _blanked(path: _Path) -> Occlusion:
    """Scores of the tokens whose vectors are replaced by those of which nothing is known."""
    found = []
    for some_N in tracked(torch.arange(path.size, device=path.owner_T.device).split(max(1, TOKENS // len(path.x_TD)))):
        hidden_NT1 = (path.owner_T == some_N[:, None])[:, :, None]
        found.append(path.log_p(torch.where(hidden_NT1, path.baseline_TD, path.x_TD)))
    known, nothing = path.log_p(torch.stack([path.x_TD, path.baseline_TD])).double().tolist()
    scores = (known - torch.cat(found).double()).tolist()
    total = known - nothing
    return Occlusion(first=path.first, scores=scores, total=total, difference=sum(scores) - total)


def _tokens(given: ModelInput, asked: Asked) -> Occlusion:
    first = given.row(asked.at).read
    inputs_S, target = given.inputs(first, asked.at + 1)[0], int(given.ids[asked.at])
    others_TK, log_w_TK = _replacements(given, inputs_S)
    (known,), (nothing,) = (_log_p(given, row[None], target).tolist() for row in (inputs_S, inputs_S[:1]))
    scores = (known - (log_w_TK + _each_replaced(given, inputs_S, others_TK, target)).logsumexp(1)).tolist()
    total = known - nothing
    return Occlusion(first=first, scores=scores, total=total, difference=sum(scores) - total)


def _each_replaced(given: ModelInput, inputs_S: Tensor, others_TK: Tensor, target: int) -> Tensor:
    """log p of the token where one of those before it is replaced, T x K."""
    (T, K), rows = others_TK.shape, max(1, TOKENS // len(inputs_S))
    found_P, other_P = inputs_S.new_zeros(T * K, dtype=torch.float64), others_TK.flatten()
    for place_N in tracked(torch.arange(T * K, device=inputs_S.device).split(rows) if T else ()):
        changed_NS = inputs_S.repeat(len(place_N), 1)
        changed_NS[torch.arange(len(place_N)), 1 + place_N // K] = other_P[place_N]
        found_P[place_N] = _log_p(given, changed_NS, target)
    return found_P.view(T, K)


@torch.no_grad()
def _replacements(given: ModelInput, inputs_S: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable tokens at the place of each token but itself, T x K, and logs of their relative p."""
    model, unknown = given.run.model.eval(), given.run.processor.tokenizer.unknown
    allowed = model.vocab_size - 1 - (unknown is not None)
    if not allowed:
        raise UserError("--view occlusion: the vocabulary has one token, and no other could stand in its place")
    log_p_SK, ids_SK = model(inputs_S[None])[0].top(min(model.vocab_size, REPLACEMENTS + 2))
    log_p_TK, ids_TK = log_p_SK[0, :-1].double(), ids_SK[0, :-1]
    barred_TK = (ids_TK == inputs_S[1:, None]) | (ids_TK == (-1 if unknown is None else unknown))
    best = log_p_TK.masked_fill(barred_TK, -torch.inf).topk(min(REPLACEMENTS, allowed))
    return ids_TK.gather(1, best.indices), best.values.log_softmax(1)


@torch.no_grad()
def _log_p(given: ModelInput, inputs_NS: Tensor, target: int) -> Tensor:
    """log p of a token after each of several rows, N, float64."""
    N, S = inputs_NS.shape
    prediction, _ = given.run.model.eval()(inputs_NS)
    last_N = torch.full((N,), S - 1, device=inputs_NS.device)
    return prediction.select(last_N).log_prob(torch.full_like(inputs_NS[:, :1], target))[:, 0].double()
