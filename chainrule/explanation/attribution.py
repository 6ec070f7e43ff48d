"""Attribution: how much each token contributed to one prediction, by integrated gradients and by occlusion.

Of an image, the baseline of both is the mean of the training pixels, by channel: the zero of the units of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

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

BASELINES, SEED = 16, 0
"""Texts that stand for one of which nothing is known, and the seed that they are drawn with."""
PIECES, MOST = 8, 1 << 12
"""Pieces of a path at first, and the most points of a path that gradients are computed at."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(3)
"""Quadrature of a piece."""
COMPLETE, LEAST = 0.01, 1e-3
"""Largest difference between the sum of the scores and what they explain, as a share of it; of less than so many nats,
as a share of these."""
NARROW = 1 / 32
"""The error that a piece may have is proportional to its width, but not for narrower ones."""
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
    """Integrated gradients, the mean over all baselines; the total is the mean change of log p along their paths."""

    steps: int = Field(description="points of all paths that gradients were computed at")
    baselines: int = Field(description="inputs of which nothing is known that paths begin at")


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
        baselines_KTD: those of which nothing is known.
        owner_T: the token that each belongs to, counted from the first.
    """

    first: int
    log_p: Callable[[Tensor], Tensor]
    x_TD: Tensor
    baselines_KTD: Tensor
    owner_T: Tensor

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
    paths on which all embeddings go from a baseline to what they are.

    Of a language model, the mean over 16 baselines (Erion et al. 2021) whose tokens are drawn, half of them as the run
    expects them in their places, half from the vocabulary evenly: no vector between two embeddings is as far from all
    tokens as the mean of the vocabulary, where layers that normalise are steep. Of a token that is encoded with all
    others, and of pixels, the baseline is their mean.

    The scores add up to the difference that the tokens make together, but how it is divided depends on the baseline
    and on a path through vectors that stand for no token.
    """
    path = _embeddings(given, asked.at) if isinstance(given, ModelInput) else _path(given, asked.at)
    scores_T, total, steps = integrate(path.log_p, path.x_TD, path.baselines_KTD)
    scores = path.by_token(scores_T)
    return IntegratedGradients(
        first=path.first, scores=scores, total=total, difference=sum(scores) - total, steps=steps,
        baselines=len(path.baselines_KTD),
    )  # fmt: skip


def _path(given: EncoderInput | ImageInput, at: int) -> _Path:
    return _pixels(given) if isinstance(given, ImageInput) else _encoded(given, at)


def _embeddings(given: ModelInput, at: int) -> _Path:
    read = Embedded(given, at)
    start_1D, tokens_TD = read.vectors_SD.split([1, len(read.vectors_SD) - 1])
    baselines_KTD = read.embedding.weight.detach()[_drawn(given, read.first, at)].to(tokens_TD)
    own_T = torch.arange(len(tokens_TD), device=tokens_TD.device)
    log_p = lambda x_NTD: read.log_p(start_1D, x_NTD)  # noqa: E731
    return _Path(read.first, log_p, tokens_TD, baselines_KTD, own_T)


@torch.no_grad()
def _drawn(given: ModelInput, first: int, at: int) -> Tensor:
    """Tokens of the baselines, K x T, each independent of the others."""
    model, inputs_1S = given.run.model.eval(), given.inputs(first, at + 1)
    if inputs_1S.shape[1] == 1:
        return inputs_1S.new_zeros(1, 0)
    expected_TV = model(inputs_1S)[0].logits()[0, :-1].double().softmax(-1)
    drawn_TK = torch.multinomial(
        (expected_TV.cpu() + 1 / model.vocab_size) / 2, BASELINES, replacement=True,
        generator=torch.Generator().manual_seed(SEED),
    )  # fmt: skip
    return drawn_TK.T.to(inputs_1S.device)


def _pixels(given: ImageInput) -> _Path:
    """Pixels as vectors, each of which belongs to a patch."""
    C, Y, X = given.pixels_1CYX[0].shape
    log_p = lambda x_NTC: given.log_p(x_NTC.mT.reshape(-1, C, Y, X))[:, given.label]  # noqa: E731
    x_TC = given.pixels_1CYX[0].flatten(1).T
    return _Path(1, log_p, x_TC, torch.zeros_like(x_TC)[None], given.patch_of_YX.flatten())


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
        torch.cat([wide(part.baseline_D.expand_as(part.x_TD)) for part in parts])[None],
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


class _Pieces(NamedTuple):
    """Pieces of paths: which path each is of, where it begins and ends, and the values of the function there."""

    path_N: Tensor
    begin_N: Tensor
    end_N: Tensor
    first_N: Tensor
    last_N: Tensor

    @property
    def middle_N(self) -> Tensor:
        return (self.begin_N + self.end_N) / 2

    def pick(self, which_N: Tensor) -> _Pieces:
        return _Pieces(*(x_N[which_N] for x_N in self))

    def halved(self, value_N: Tensor) -> _Pieces:
        """Return the halves; ``value_N``: values of the function between them."""
        begin_N, end_N = torch.cat([self.begin_N, self.middle_N]), torch.cat([self.middle_N, self.end_N])
        first_N, last_N = torch.cat([self.first_N, value_N]), torch.cat([value_N, self.last_N])
        return _Pieces(self.path_N.repeat(2), begin_N, end_N, first_N, last_N)


@dataclass(frozen=True)
class _Lines:
    """Straight lines from several baselines to an input, and a function along them."""

    function: Callable[[Tensor], Tensor]
    x_TD: Tensor
    baselines_KTD: Tensor

    def _chunks(self, path_N: Tensor, at_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield points of lines and the directions of the lines, n x T x D each, a bounded number at a time."""
        rows = max(1, TOKENS // max(1, len(self.x_TD)))
        for path_n, at_n in tracked([*zip(path_N.split(rows), at_N.split(rows))]):
            begin_nTD = self.baselines_KTD[path_n]
            yield torch.lerp(begin_nTD, self.x_TD, at_n[:, None, None].to(self.x_TD)), self.x_TD - begin_nTD

    @torch.no_grad()
    def values(self, path_N: Tensor, at_N: Tensor) -> Tensor:
        """Return the function at points of lines, N, float64."""
        return torch.cat([self.function(x_nTD).double() for x_nTD, _ in self._chunks(path_N, at_N)])

    def slopes(self, path_N: Tensor, at_N: Tensor) -> Tensor:
        """Return the derivatives along lines, by vector, N x T, float64."""
        found = []
        for x_nTD, direction_nTD in self._chunks(path_N, at_N):
            (gradient_nTD,) = torch.autograd.grad(self.function(x_nTD.requires_grad_()).sum(), x_nTD)
            found.append((gradient_nTD.double() * direction_nTD.double()).sum(-1))
        return torch.cat(found)

    def integrals(self, pieces: _Pieces) -> Tensor:
        """Return the integral of ``slopes`` over each piece, N x T."""
        half_N1 = ((pieces.end_N - pieces.begin_N) / 2)[:, None]
        nodes, weights = (torch.from_numpy(found).to(half_N1) for found in (NODES, WEIGHTS))
        at_NM = pieces.middle_N[:, None] + half_N1 * nodes
        slopes_NMT = self.slopes(pieces.path_N.repeat_interleave(len(nodes)), at_NM.flatten()).unflatten(0, at_NM.shape)
        return (slopes_NMT * (half_N1 * weights)[..., None]).sum(1)


def integrate(function: Callable[[Tensor], Tensor], x_TD: Tensor, baselines_KTD: Tensor) -> tuple[Tensor, float, int]:
    """Return integrated gradients, the mean over lines from several baselines, by adaptive quadrature.

    The integral over a piece of a line must be the change of the function along it: a piece where it is not is halved.

    Args:
        function: maps N x T x D inputs to N values.
        x_TD: the input.
        baselines_KTD: where the lines begin.

    Returns:
        The score of each of the T vectors, float64; the value of the input less the mean of those of the baselines; and
        the number of points.
    """
    lines, K, device = _Lines(function, x_TD, baselines_KTD), len(baselines_KTD), x_TD.device
    ends_P = torch.linspace(0, 1, PIECES + 1, dtype=torch.float64, device=device)
    path_KP = torch.arange(K, device=device)[:, None].expand(K, PIECES + 1)
    values_KP = lines.values(path_KP.flatten(), ends_P.repeat(K)).view(K, -1)
    total = float((values_KP[:, -1] - values_KP[:, 0]).mean())
    begin_KP, end_KP = ends_P[:-1].expand(K, -1), ends_P[1:].expand(K, -1)
    columns = path_KP[:, 1:], begin_KP, end_KP, values_KP[:, :-1], values_KP[:, 1:]
    pieces = _Pieces(*(x_KP.flatten() for x_KP in columns))
    scores_T, points = torch.zeros(len(x_TD), dtype=torch.float64, device=device), 0
    while len(pieces.path_N):
        integral_NT = lines.integrals(pieces)
        points += len(NODES) * len(integral_NT)
        error_N = (integral_NT.sum(1) - (pieces.last_N - pieces.first_N)).abs()
        width_N = (pieces.end_N - pieces.begin_N).clamp(min=NARROW)
        wrong_N = (error_N > COMPLETE * max(abs(total), LEAST) * width_N) & (points < MOST * K)
        scores_T += integral_NT[~wrong_N].sum(0) / K
        pieces = pieces.pick(wrong_N)
        pieces = pieces.halved(lines.values(pieces.path_N, pieces.middle_N)) if len(pieces.path_N) else pieces
    return scores_T, total, points


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
    found, baseline_TD = [], path.baselines_KTD[0]
    for some_N in tracked(torch.arange(path.size, device=path.owner_T.device).split(max(1, TOKENS // len(path.x_TD)))):
        hidden_NT1 = (path.owner_T == some_N[:, None])[:, :, None]
        found.append(path.log_p(torch.where(hidden_NT1, baseline_TD, path.x_TD)))
    known, nothing = path.log_p(torch.stack([path.x_TD, baseline_TD])).double().tolist()
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
