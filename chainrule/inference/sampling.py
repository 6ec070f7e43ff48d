"""Sampling: tokens, or values, are drawn for all rows of a group in one batched operation, each row with its own
noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from chainrule.core import Autoregressive, Noise, State, UserError
from chainrule.core.noise import gumbel, uniform
from chainrule.inference.requests import (
    DEFAULT_TOKENS,
    Constraints,
    Decision,
    Event,
    Group,
    Handle,
    Request,
    StepOutput,
)

NOISE_NUMBERS = 1 << 14
"""Numbers of noise that are made at once, for several steps ahead where the vocabulary is small."""
NUCLEUS = 1024
"""Most probable tokens that are put in order first; the others only where the probabilities of these do not reach p."""


@dataclass(frozen=True)
class Filters:
    """The settings that a distribution is sharpened by before it is drawn from, applied in this order.

    Args:
        temperature: divides the logits; 0 takes the most probable token.
        top_k: only the k most probable tokens; 0: all.
        top_p: the fewest most probable tokens whose probabilities reach p (nucleus sampling), and those that are as
            probable as the last of them; 1: all.
        min_p: only tokens of at least this share of the largest probability; 0: all.

    Raises:
        UserError: a value out of range.

    Example:
        >>> p = torch.tensor([[0.5, 0.3, 0.2]])
        >>> [round(x, 3) for x in Filters(top_k=2)(p.log())[0].softmax(-1).tolist()]
        [0.625, 0.375, 0.0]
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    resumable: ClassVar[bool] = True

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
        """Return the filtered logits in float64, -inf where a token is out.

        Args:
            logits_BV: logits, normalised or not, B x V.
        """
        x = logits_BV.double()
        if self.temperature == 0:
            return torch.full_like(x, -torch.inf).scatter(-1, x.argmax(-1, keepdim=True), 0.0)
        if (least := self.least(x)) is not None:
            x = x.masked_fill(x < least, -torch.inf)
        return x if self.temperature == 1 else x / self.temperature

    def least(self, logits_BV: Tensor) -> Tensor | None:
        """Return the smallest logit that stays in each row, B x 1; None: all stay, or temperature 0 decides.

        Args:
            logits_BV: logits, normalised or not, B x V.
        """
        if self.temperature == 0:
            return None
        least, x = None, logits_BV
        if 0 < self.top_k < x.shape[-1]:
            least = x.topk(self.top_k).values[..., -1:]
        if self.top_p < 1:
            kept = x if least is None else x.masked_fill(x < least, -torch.inf)
            least = _nucleus(kept, self.temperature, self.top_p)
        if self.min_p > 0:
            least_B1 = x.amax(-1, keepdim=True) + self.temperature * math.log(self.min_p)
            least = least_B1 if least is None else torch.maximum(least, least_B1)
        return least

    def limit(self, request: Request) -> int:
        """Return how many tokens the request may have. Raises UserError where that is none."""
        limit = DEFAULT_TOKENS if request.max_tokens is None else request.max_tokens
        if limit < 1:
            raise UserError(f"--max-tokens {limit}: at least 1")
        return limit

    def rows(self, request: Request) -> int:
        """Return how many rows of the State the request holds."""
        return len(request.prompts)

    def check(self, request: Request, model: Autoregressive) -> None:
        """Raise UserError where values are to be drawn, which none of the settings is for."""
        plain = (self, request.constraints, len(request.prompts)) == (Filters(), Constraints(), 1)
        if not plain and not draws_tokens(model):
            raise UserError(
                "values are drawn as the model predicts them: filters, constraints and guidance are for tokens"
            )

    def key(self, request: Request) -> Hashable:
        """Return what requests have in common that are drawn together."""
        guidance = request.guidance if len(request.prompts) > 1 else None
        return self, request.constraints, guidance

    def begin(self, handles: list[Handle], model: Autoregressive, state: State) -> Group:
        """Return the group of requests that are drawn together."""
        return (SampledTokens if draws_tokens(model) else SampledValues)(handles, model, state.length_B.device)


def _nucleus(logits_BV: Tensor, temperature: float, p: float) -> Tensor:
    """Return the smallest logit among the fewest most probable tokens whose probabilities reach p, B x 1."""
    total_B1 = (logits_BV.double() / temperature).logsumexp(-1, keepdim=True)
    for many in (NUCLEUS, logits_BV.shape[-1]):
        ordered_BK = logits_BV.topk(min(many, logits_BV.shape[-1])).values
        p_BK = (ordered_BK.double() / temperature - total_B1).exp()
        before_BK = p_BK.cumsum(-1) - p_BK
        if bool((before_BK[..., -1] >= p).all()):
            break
    many_B1 = (before_BK < p).sum(-1, keepdim=True).clamp(min=1)  # the token that crosses p stays
    return ordered_BK.gather(-1, many_B1 - 1)


def draws_tokens(model: Autoregressive) -> bool:
    """Return whether the model predicts one token out of a finite vocabulary at each step, rather than real values."""
    start = model.start_inputs(1)
    return start.dim() == 2 and not start.is_floating_point()


@dataclass(frozen=True)
class Draws:
    """The tokens, or values, that were drawn at a step, one after each token that the requests have read.

    Args:
        next_BT: the tokens.
        nats_BT: log p of each under the unmodified model.
        best_BT: the most probable tokens at each place, with their log p.
        many_B: number of tokens that hold: the first one, and those after drafts that equal what was drawn.
    """

    next_BT: Tensor
    nats_BT: Tensor
    best_BT: Sequence[Sequence[Sequence[tuple[int, float]]]]
    many_B: Sequence[int]

    @property
    def last_B1(self) -> Tensor:
        """The last token that holds of each request."""
        if self.next_BT.shape[1] == 1:
            return self.next_BT
        return self.next_BT.gather(1, torch.tensor(self.many_B, device=self.next_BT.device)[:, None] - 1)


class Sampled(Group):
    """Requests that are drawn together, each with the noise of its own seed and position."""

    width = 1
    """Rows of the State that each request holds."""

    def __init__(self, handles: list[Handle], model: Autoregressive, device: torch.device | str):
        self.handles = handles
        self.key = handles[0].request.sampler.key(handles[0].request)
        self.seeds_B = torch.tensor([h.request.seed % (1 << 63) for h in handles], device=device)

    @property
    def handles_R(self) -> list[Handle]:
        return [handle for handle in self.handles for _ in range(self.width)]

    def drop(self, gone: Container[Handle]) -> Tensor:
        return self.stay([b for b, handle in enumerate(self.handles) if handle not in gone])

    def stay(self, alive: list[int]) -> Tensor:
        """Go on with some of the requests; return their rows."""
        index_b = torch.tensor(alive, dtype=torch.long, device=self.seeds_B.device)
        self.keep(index_b)
        return (self.width * index_b[:, None] + torch.arange(self.width, device=index_b.device)).flatten()

    def join(self, other: Sampled) -> None:
        self.handles = self.handles + other.handles
        self.seeds_B = torch.cat([self.seeds_B, other.seeds_B])

    def keep(self, index_b: Tensor) -> None:
        """Go on with some of the requests."""
        self.handles = [self.handles[b] for b in index_b.tolist()]
        self.seeds_B = self.seeds_B[index_b]

    def positions(self) -> Tensor:
        """The number of tokens of each request, B: the position of its next one."""
        return torch.tensor([len(handle.tokens) for handle in self.handles], device=self.seeds_B.device)

    def taken(self, draws: Draws) -> Decision:
        """Hand out the tokens that were drawn. Requests that have ended leave."""
        handles, events, alive, many_B = self.handles, [], [], []
        rows = zip(handles, draws.next_BT.tolist(), draws.nats_BT.tolist(), draws.best_BT, draws.many_B)
        for b, (handle, tokens, nats, best, many) in enumerate(rows):
            many_B.append(0)
            for token, log_p, others in zip(tokens[:many], nats, best):
                handle.receive(token, log_p)
                many_B[b] += 1
                if handle.finish != "stuck":
                    events.append(Event(handle, token, log_p, others))
                if handle.finish is not None:
                    break
            else:
                alive.append(b)
        parents_R = self.stay(alive) if len(alive) < len(handles) else None
        inputs_R1 = draws.last_B1 if self.width == 1 else draws.last_B1.repeat_interleave(self.width, 0)
        many_R = [many for many in many_B for _ in range(self.width)]
        return Decision(events, parents_R, inputs_R1 if parents_R is None else inputs_R1[parents_R], many_R)


class SampledTokens(Sampled):
    """Tokens by the Gumbel-max trick. With guidance a request holds two rows, that of its prompt and that of
    nothing."""

    verifies = True

    def __init__(self, handles: list[Handle], model: Autoregressive, device: torch.device | str):
        super().__init__(handles, model, device)
        request = handles[0].request
        self.filters: Filters = request.sampler  # type: ignore[assignment]
        self.width, self.guidance, self.vocab_size = len(request.prompts), request.guidance, model.vocab_size
        self.compiled_draw = getattr(model, "compiled_draw", None)
        self.excluded_SV = self.after_SV = None
        self.place_B = torch.zeros_like(self.seeds_B)
        """State of each request in the automaton of constraints."""
        if request.constraints != Constraints():
            self.excluded_SV, self.after_SV = request.constraints.automaton(model.vocab_size, device)
            if len(self.after_SV) > 1:  # with one state there is no place to be found in prompts
                read_B = [[*handle.request.given, *handle.tokens] for handle in handles]
                self.place_B = torch.tensor(_places(self.after_SV, read_B), device=device)
        self._noise_BTV: Tensor | None = None
        self._noise_at_B: list[int] = []
        """Position of each request at which its noise begins."""

    def join(self, other: Sampled) -> None:
        assert isinstance(other, SampledTokens)
        super().join(other)
        self.place_B, self._noise_BTV = torch.cat([self.place_B, other.place_B]), None

    def keep(self, index_b: Tensor) -> None:
        super().keep(index_b)
        self.place_B = self.place_B[index_b]
        if self._noise_BTV is not None:
            self._noise_BTV = self._noise_BTV[index_b]
            self._noise_at_B = [self._noise_at_B[b] for b in index_b.tolist()]

    def noise(self, many: int) -> Tensor:
        """Gumbel noise of the next positions of each request, B x T x V."""
        at_B = [len(handle.tokens) - begin for handle, begin in zip(self.handles, self._noise_at_B)]
        if self._noise_BTV is None or max(at_B) + many > self._noise_BTV.shape[1]:
            steps = max(many, min(64, NOISE_NUMBERS // (len(self.handles) * self.vocab_size)))
            positions_BT = self.positions()[:, None] + torch.arange(steps, device=self.seeds_B.device)
            self._noise_BTV = gumbel(uniform(self.seeds_B[:, None], positions_BT, self.vocab_size))
            self._noise_at_B, at_B = [len(handle.tokens) for handle in self.handles], [0] * len(self.handles)
        if min(at_B) == max(at_B):
            return self._noise_BTV[:, at_B[0] : at_B[0] + many]
        return torch.stack([noise_TV[at : at + many] for noise_TV, at in zip(self._noise_BTV, at_B)])

    def decide(self, output: StepOutput, rows: slice) -> Decision:
        logits_RTV = output.logits_RTV[rows]
        drafts_BK = None if output.drafts_RK is None else output.drafts_RK[rows][:: self.width]
        places_BT = self._reached(drafts_BK)
        drawn = self._compiled(logits_RTV, places_BT)
        next_BT, nats_BT = self._drawn(logits_RTV.double(), places_BT) if drawn is None else drawn
        many_B = _many(next_BT, drafts_BK)
        if self.after_SV is not None:
            last_B = torch.tensor(many_B, device=next_BT.device) - 1
            self.place_B = self.after_SV[places_BT, next_BT].gather(1, last_B[:, None])[:, 0]
        return self.taken(Draws(next_BT, nats_BT, self._best(logits_RTV), many_B))

    def _allowed(self, scores_BTV: Tensor, places_BT: Tensor) -> Tensor:
        """The scores, minus infinity where constraints exclude a token."""
        if self.excluded_SV is None:
            return scores_BTV
        return scores_BTV.masked_fill(self.excluded_SV[places_BT], -torch.inf)

    def _compiled(self, logits_BTV: Tensor, places_BT: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return what ``_drawn`` does, by the compiled operation that a model may have; None: it has none."""
        if self.compiled_draw is None or self.width > 1:
            return None
        scores_BTV = self._allowed(logits_BTV, places_BT)
        if (least := self.filters.least(scores_BTV)) is not None:
            scores_BTV = scores_BTV.masked_fill(scores_BTV < least, -torch.inf)
        return self.compiled_draw(logits_BTV, scores_BTV, self.filters.temperature, self.seeds_B, self.positions())

    def _drawn(self, logits_RTV: Tensor, places_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that are drawn, and their log p, both B x T; -inf where nothing is allowed."""
        log_p_BTV = logits_RTV.log_softmax(-1)
        scores_BTV = logits_RTV
        if self.width == 2:
            log_p_BTV, nothing_BTV = log_p_BTV.unflatten(0, (-1, 2)).unbind(1)
            scores_BTV = (nothing_BTV + self.guidance * (log_p_BTV - nothing_BTV)).nan_to_num(nan=-torch.inf)
        scores_BTV = self._allowed(scores_BTV, places_BT)
        if self.filters.temperature == 0:
            next_BT1 = scores_BTV.argmax(-1, keepdim=True)
        else:
            drawn_from = self.filters(scores_BTV)
            next_BT1 = (drawn_from + self.noise(drawn_from.shape[1])).argmax(-1, keepdim=True)
        nothing_BT = scores_BTV.gather(-1, next_BT1)[..., 0] == -torch.inf if self.after_SV is not None else None
        nats_BT = log_p_BTV.gather(-1, next_BT1)[..., 0]
        return next_BT1[..., 0], nats_BT if nothing_BT is None else nats_BT.masked_fill(nothing_BT, -torch.inf)

    def _reached(self, drafts_BK: Tensor | None) -> Tensor:
        """The states of each request in the automaton of constraints, now and after each drafted token, B x T."""
        places = [self.place_B]
        for drafts_B in () if drafts_BK is None else drafts_BK.unbind(1):
            places.append(places[-1] if self.after_SV is None else self.after_SV[places[-1], drafts_B])
        return torch.stack(places, 1)

    def _best(self, logits_RTV: Tensor) -> Sequence[Sequence[Sequence[tuple[int, float]]]]:
        """The most probable tokens of each request at each place with their log p, as many as it has asked for."""
        asked_B, T = [handle.request.alternatives for handle in self.handles], logits_RTV.shape[1]
        if not any(asked_B):
            return [[()] * T] * len(asked_B)
        log_p_BTV = logits_RTV[:: self.width].double().log_softmax(-1)
        log_p_BTK, ids_BTK = log_p_BTV.topk(min(max(asked_B), self.vocab_size))
        rows = zip(asked_B, ids_BTK.tolist(), log_p_BTK.tolist())
        return [[list(zip(*place))[:asked] for place in zip(ids_TK, log_p_TK)] for asked, ids_TK, log_p_TK in rows]


def _many(next_BT: Tensor, drafts_BK: Tensor | None) -> list[int]:
    """The number of drawn tokens that follow each other: those after drafts that equal what was drawn."""
    if drafts_BK is None:
        return [1] * len(next_BT)
    return ((next_BT[:, :-1] == drafts_BK).long().cumprod(1).sum(1) + 1).tolist()


def _places(after_SV: Tensor, read_B: Sequence[Sequence[int]]) -> list[int]:
    """The state of an automaton of constraints after each of some sequences."""
    after = after_SV.tolist()
    return [functools.reduce(lambda s, i: after[s][i], read, 0) for read in read_B]


def sampled_log_p(log_p_V: Tensor, filters: Filters, constraints: Constraints, read: Sequence[int]) -> Tensor:
    """Return log p of each token as it is drawn, float64, -inf where it cannot be.

    Args:
        log_p_V: log p as the model predicts it.
        filters: the settings of the request.
        constraints: tokens that are never generated.
        read: the tokens before.
    """
    excluded_SV, after_SV = constraints.automaton(len(log_p_V), log_p_V.device)
    scores_V = log_p_V.double().masked_fill(excluded_SV[_places(after_SV, [read])[0]], -torch.inf)
    if not (scores_V > -torch.inf).any():
        return scores_V
    return filters(scores_V[None])[0].log_softmax(-1)


class SampledValues(Sampled):
    """Values as the model's predictive distribution gives them; the group holds all rows."""

    def decide(self, output: StepOutput, rows: slice) -> Decision:
        next_B1 = output.prediction.sample(Noise(self.seeds_B, self.positions()))
        nats_B1, ones = output.prediction.log_prob(next_B1).double(), [1] * len(self.handles)
        return self.taken(Draws(next_B1, nats_B1, [[()]] * len(self.handles), ones))


def pad(prompts: Sequence[Sequence[int]], start: int) -> tuple[Tensor, Tensor]:
    """Return token ids behind the start token, padded on the right, B x T, and the lengths of the rows, B.

    Example:
        >>> ids, lengths = pad([[3, 1], []], start=9)
        >>> ids.tolist(), lengths.tolist()
        ([[9, 3, 1], [9, 0, 0]], [3, 1])
    """
    lengths_B = torch.tensor([len(p) + 1 for p in prompts])
    inputs_BT = torch.zeros(len(prompts), int(lengths_B.max()), dtype=torch.long)
    for b, prompt in enumerate(prompts):
        inputs_BT[b, : len(prompt) + 1] = torch.tensor([start, *prompt])
    return inputs_BT, lengths_B
