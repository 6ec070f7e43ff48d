"""One decoding loop for every model that predicts step by step: sampling, beam search, drawing and forecasting.

Every request has a handle, from which its tokens come one by one::

    engine = Engine(model, compute)
    handles = [engine.submit(Request(prompt, Filters(temperature=0.8), seed=seed)) for seed in range(8)]
    for event in handles[0]:
        print(event.token, event.nats)

A step reads the prompts of the requests that wait, in one padded batch, and lets every group of requests that share a
sampler decide for all its rows at once. Then the rows that have ended leave and all others read their next token: one
``reorder`` of the State and one ``forward`` a step, whatever the requests are. The model is known only through
``forward``, ``encode_prompt``, ``Prediction`` and ``State``; a plain ``forward`` over a whole sequence gives the same
log p.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Autoregressive, Categorical, Prediction, State, UserError
from chainrule.core.compute import Compute
from chainrule.core.noise import derive_seeds
from chainrule.inference.requests import Event, Front, Group, Handle, Request, SourcePrompt
from chainrule.inference.sampling import Filters, draws_tokens, pad

CHUNK = 4096
"""Values of a series that are read at once."""


class Engine:
    """The decoding loop of one model, which it puts into evaluation mode.

    Args:
        model: any autoregressive model.
        compute: where it runs, and in which precision.

    Example:
        >>> from chainrule.core import model_type
        >>> from chainrule.core.compute import Compute
        >>> from chainrule.inference.sampling import Filters
        >>> found = model_type("markov")
        >>> model = found.build(found.configure("tiny", vocab_size=3))
        >>> engine = Engine(model, Compute("cpu", False, 1))
        >>> handle = engine.submit(Request([0, 1], Filters(), seed=1, max_tokens=5))
        >>> len(handle.result()[0].ids), handle.finish
        (5, 'length')
    """

    def __init__(self, model: Autoregressive, compute: Compute):
        self.model, self.compute = model.eval(), compute
        self.draws_tokens = draws_tokens(model)
        self._waiting: list[Handle] = []
        self._fronts: list[Front] = []
        """Rows that are ready for the next decision: at most one after a step, and those that have joined since."""

    @property
    def room(self) -> int | None:
        """Tokens that a record may have, or None: learned positions end, all others go on."""
        learned = getattr(self.model.config, "positions", None) == "learned"
        return self.model.window if learned else None

    def submit(self, request: Request) -> Handle:
        """Take a request, which joins the batch at the next step.

        Args:
            request: the prompt, and how it is continued.

        Returns:
            The handle that its tokens come through.

        Raises:
            UserError: the request cannot be met; nothing is clipped.
        """
        limit, known = request.sampler.limit(request), len(request.given)
        if self.room is not None and known + limit > self.room:
            left = self.room - known
            told = f"at most {left} more are possible, not {limit}" if left > 0 else "shorten the prompt"
            raise UserError(f"learned positions end at {self.room} tokens and the prompt has {known}: {told}")
        request.sampler.check(request, self.model)
        handle = Handle(self, request, limit)
        self._waiting.append(handle)
        return handle

    def run(self, requests: Iterable[Request]) -> list[Handle]:
        """Submit requests and run the loop until everything has ended.

        Returns:
            Their handles, all finished.
        """
        handles = [self.submit(request) for request in requests]
        self.run_until(lambda: not self.busy)
        return handles

    def run_until(self, done: Callable[[], bool]) -> None:
        """Take steps until ``done``; in bf16 the weights are converted once for all of them, not at each step.

        Args:
            done: asked before each step.

        Raises:
            RuntimeError: nothing is left to do, because an error in an earlier step has ended all requests.
        """
        with self.compute.autocast():
            while not done():
                if not self.busy:
                    raise RuntimeError("the engine stopped at an error before this request had ended")
                self.step()

    @property
    def busy(self) -> bool:
        """True while any request goes on or waits."""
        return bool(self._waiting or self._fronts)

    # --- prompts ------------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Read the prompts of the requests that wait; neighbours that share a sampler make a group."""
        waiting, self._waiting = self._waiting, []
        for kind in (SourcePrompt, object):
            handles = [h for h in waiting if isinstance(h.request.prompt, SourcePrompt) == (kind is SourcePrompt)]
            if handles:
                prediction, state = self._read([prompt for h in handles for prompt in h.request.prompts])
                alike = groupby(handles, lambda h: h.request.sampler.key(h.request))
                groups = [list(mine) for _, mine in alike]
                begun = [mine[0].request.sampler.begin(mine, self.model, state) for mine in groups]
                self._fronts.append(Front(prediction, state, begun))

    def _read(self, prompts: list[Any]) -> tuple[Prediction, State]:
        """Read prompts in one padded batch, equal objects once: the prediction and the State of one row for each."""
        by_id = {id(p): p for p in prompts}
        distinct, index_R = list(by_id.values()), None
        if len(distinct) < len(prompts):
            places = {key: k for k, key in enumerate(by_id)}
            index_R = torch.tensor([places[id(p)] for p in prompts], device=self.compute.device)
        if isinstance(prompts[0], SourcePrompt):
            return self._spread(*self._read_sources(distinct), index_R)
        if not self.draws_tokens:
            return self._read_values(distinct, index_R)
        inputs_BT, lengths_B = (x.to(self.compute.device) for x in pad(distinct, self.model.start_id))
        prediction, state = self.model(inputs_BT, None, lengths_B)
        return self._spread(prediction.select(lengths_B - 1), state, index_R)

    def _spread(self, prediction: Prediction, state: State, index_R: Tensor | None) -> tuple[Prediction, State]:
        """A row for each prompt, where prompts were read once for several."""
        if index_R is None:
            return prediction, state
        return Categorical(prediction.logits()[index_R]), state.reorder(index_R)

    def _read_sources(self, prompts: list[SourcePrompt]) -> tuple[Prediction, State]:
        lengths_B = torch.tensor([len(p.ids) for p in prompts])
        sources_BS = torch.zeros(len(prompts), int(lengths_B.max()), dtype=torch.long)
        for b, prompt in enumerate(prompts):
            sources_BS[b, : len(prompt.ids)] = torch.as_tensor(prompt.ids, dtype=torch.long)
        device = self.compute.device
        return self.model.start(sources_BS.to(device), lengths_B.to(device), batch=len(prompts))

    def _read_values(self, prompts: list[Any], index_R: Tensor | None) -> tuple[Prediction, State]:
        """All values but the last once for each prompt, and the last in every row: predictions of values have no rows
        to repeat."""
        start_1 = self.model.start_inputs(1)[0].to(self.compute.device)
        start_1 = start_1.double() if start_1.is_floating_point() else start_1
        known = [torch.cat([start_1, torch.as_tensor(p).to(start_1).reshape(-1, *start_1.shape[1:])]) for p in prompts]
        lengths_B = torch.tensor([len(x) - 1 for x in known], device=self.compute.device)
        state, last_B1 = None, torch.stack([x[-1:] for x in known])
        if int(lengths_B.max()):
            inputs_BT = torch.nn.utils.rnn.pad_sequence([x[:-1] for x in known], batch_first=True)
            for begin in range(0, inputs_BT.shape[1], CHUNK):
                mine_BT = inputs_BT[:, begin : begin + CHUNK]
                _, state = self.model(mine_BT, state, (lengths_B - begin).clamp(0, mine_BT.shape[1]))
        if index_R is not None:
            state, last_B1 = None if state is None else state.reorder(index_R), last_B1[index_R]
        return self.model(last_B1, state)

    # --- the loop -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Generate the next token of every request: of those that wait, the first one.

        Returns:
            The tokens that came, and to which request each belongs.
        """
        with self.compute.autocast():
            if self._waiting:
                self._admit()
            fronts, self._fronts = self._fronts, []
            events, plan, moved = self._decide(fronts)
            if not plan:
                return events
            state = (
                fronts[0].state.concat(*(front.state for front in fronts[1:])) if len(fronts) > 1 else fronts[0].state
            )
            rows = [piece for _, pieces in plan.values() for piece in pieces]
            if moved:
                state = state.reorder(torch.cat([parents_R for parents_R, _ in rows]))
            inputs_R1 = rows[0][1] if len(rows) == 1 else torch.cat([inputs_R1 for _, inputs_R1 in rows])
            prediction, state = self.model(inputs_R1, state)
            self._fronts.append(Front(prediction, state, [group for group, _ in plan.values()]))
        return events

    def _decide(
        self, fronts: list[Front]
    ) -> tuple[list[Event], dict[Hashable, tuple[Group, list[tuple[Tensor, Tensor]]]], bool]:
        """The tokens that came; for each group that goes on, which rows of all fronts it holds and what they read next;
        and whether any row changes its place."""
        events, plan, first, moved = [], {}, 0, len(fronts) > 1
        for front in fronts:
            begin = 0
            for group in front.groups:
                many = group.rows
                found, parents_R, inputs_R1 = group.decide(front, slice(begin, begin + many))
                events += found
                moved |= parents_R is not None
                if group.rows:
                    if parents_R is None:
                        parents_R = torch.arange(many, device=inputs_R1.device)
                    mine, pieces = plan.setdefault(group.key, (group, []))
                    pieces.append((parents_R + (first + begin), inputs_R1))
                    if mine is not group:
                        mine.join(group)
                        moved = True
                begin += many
            first += begin
        return events, plan, moved


@dataclass(frozen=True)
class Paths:
    """Continuations of a series.

    Args:
        values_BT: the values, paths x steps.
        nats_B: log p of each path under the model.

    Example:
        >>> Paths(np.array([[1.0, 4.0], [3.0, 8.0]]), np.zeros(2)).quantiles([0.5]).tolist()
        [[2.0], [6.0]]
    """

    values_BT: np.ndarray
    nats_B: np.ndarray

    def quantiles(self, levels: Sequence[float]) -> np.ndarray:
        """Return the quantiles of the values at each step, T x levels.

        Args:
            levels: shares of the paths that stay below, 0 to 1.
        """
        return np.quantile(self.values_BT, levels, axis=0).T


def sample_paths(
    model: Autoregressive, known_T: np.ndarray, horizon: int, count: int, compute: Compute, seed: int = 42
) -> Paths:
    """Draw independent continuations of one series.

    Args:
        model: a model of values.
        known_T: the series so far, read once; infinity stands for a missing value where the model skips it.
        horizon: how many values each continuation has.
        count: how many continuations are drawn; more of them leave the first ones as they are.
        compute: where the model runs.
        seed: seed of the noise.

    Returns:
        The continuations, and log p of each in nats.
    """
    requests = [Request(known_T, Filters(), mine, max_tokens=horizon) for mine in derive_seeds(seed, count)]
    handles = Engine(model, compute).run(requests)
    return Paths(np.array([h.tokens for h in handles], np.float64), np.array([h.total for h in handles]))


def draw_images(
    model: Autoregressive,
    records_BT: Tensor,
    places: int,
    compute: Compute,
    filters: Filters,
    *,
    seeds: Sequence[int],
    blank_T: Tensor | None = None,
    guidance: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Draw images from captions: continue records that are captions, perhaps with the beginning of an image.

    Args:
        model: a model of captions and images.
        records_BT: token ids, B x T.
        places: how many tokens are drawn for each record.
        compute: where the model runs.
        filters: temperature and the like.
        seeds: the seed of each record's noise.
        blank_T: an empty caption, which guidance needs.
        guidance: g draws from log p(x | blank) + g (log p(x | caption) - log p(x | blank)) (Ho & Salimans 2022); 1 is
            the model as it is.

    Returns:
        The ids that were drawn, B x places, and their log p in nats under the unfiltered, unguided model, B.
    """
    blanks: list[list[int] | None] = [None] * len(records_BT)
    if blank_T is not None and guidance != 1:
        begun_BT = records_BT[:, len(blank_T) :].tolist()
        shared = blank_T.tolist()
        blanks = [shared + begun if begun else shared for begun in begun_BT]
    requests = [
        Request(ids, filters, seed, max_tokens=places, unconditional=blank, guidance=guidance)
        for ids, seed, blank in zip(records_BT.tolist(), seeds, blanks, strict=True)
    ]
    handles = Engine(model, compute).run(requests)
    return torch.tensor([h.tokens for h in handles]), torch.tensor([h.total for h in handles], dtype=torch.float64)
