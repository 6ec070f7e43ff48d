"""One decoding loop for every model that predicts step by step: sampling, beam search, drawing and forecasting.

Every request has a handle, from which its tokens come one by one::

    engine = Engine(model, compute)
    handles = [engine.submit(Request(prompt, Filters(temperature=0.8), seed=seed)) for seed in range(8)]
    for event in handles[0]:
        print(event.token, event.nats)

A step lets requests in that wait, as far as there is room, and reads on in their prompts, a bounded number of tokens.
Then one ``forward`` reads the next token of every request that goes on, whatever the requests are, and every group of
requests that share a sampler decides for all its rows at once; rows that have ended leave with the ``reorder`` of the
State at the next step. The model is known only through ``forward``, ``encode_prompt``, ``Prediction`` and ``State``; a
plain ``forward`` over a whole sequence gives the same log p.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from chainrule.core import Autoregressive, State, UserError
from chainrule.core.compute import Compute
from chainrule.core.noise import derive_seeds
from chainrule.inference.fair_queue import FairQueue
from chainrule.inference.reading import Reader
from chainrule.inference.requests import Capacity, Event, Generator, Group, Handle, Request, StepOutput
from chainrule.inference.sampling import Filters, draws_tokens
from chainrule.inference.speculation import Drafter, Drafts, Speculation, can_rewind, step_clock

KEPT = ("end", "stop", "length")
"""Reasons why a sequence ended whose State is kept for records that go on from it."""


@dataclass
class Rows:
    """Rows of a group that go on: which row of the State each continues, and what it reads next."""

    group: Group
    index_R: Tensor
    inputs_R1: Tensor

    def drop(self, gone: set[Handle]) -> None:
        """Go on without some requests."""
        stays_R = self.group.drop(gone)
        self.index_R, self.inputs_R1 = self.index_R[stays_R], self.inputs_R1[stays_R]

    def join(self, other: Rows) -> None:
        """Take the rows of another group of the same key."""
        self.group.join(other.group)
        self.index_R = torch.cat([self.index_R, other.index_R])
        self.inputs_R1 = torch.cat([self.inputs_R1, other.inputs_R1])


class Engine:
    """The decoding loop of one model, which it puts into evaluation mode.

    Args:
        model: any autoregressive model.
        compute: where it runs, and in which precision.
        capacity: how much it holds at once; None: `Capacity()`.
        drafter: proposes tokens that the model verifies, several in one pass; used where the model's State can be
            rewound. Steps in which a request is searched for by beams are plain. None: every step is.

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

    def __init__(
        self,
        model: Autoregressive,
        compute: Compute,
        capacity: Capacity | None = None,
        drafter: Drafter | None = None,
    ):
        self.model, self.compute, self.capacity = model.eval(), compute, capacity or Capacity()
        self.draws_tokens = draws_tokens(model)
        self.tokens = 0
        """Tokens that were generated so far."""
        self.speculation = None
        if drafter is not None and can_rewind(model):
            self.speculation = Speculation(drafter, step_clock(compute.device))
        self.reader = Reader(model, compute, self.capacity)
        self.waiting = FairQueue(self.capacity.rows)
        self._state: State | None = None
        self._rows: list[Rows] = []
        """Rows that go on from ``_state``."""
        self._moved = False
        """They are not the rows of ``_state`` as they stand there."""

    @property
    def room(self) -> int | None:
        """Tokens that a record may have, or None: learned positions end, all others go on."""
        learned = getattr(self.model.config, "positions", None) == "learned"
        return self.model.window if learned else None

    def prepare(self, request: Request, owner: Hashable = None) -> Handle:
        """Check a request. This may be called while another thread takes a step.

        Args:
            request: the prompt, and how it is continued.
            owner: owners take turns where requests wait.

        Returns:
            Its handle, for ``waiting``.

        Raises:
            UserError: the request cannot be met; nothing is clipped.
        """
        limit, known = request.sampler.limit(request), len(request.given)
        if self.room is not None and known + limit > self.room:
            left = self.room - known
            told = f"at most {left} more are possible, not {limit}" if left > 0 else "shorten the prompt"
            raise UserError(f"learned positions end at {self.room} tokens and the prompt has {known}: {told}")
        for prompt in request.prompts:
            self.reader.check(prompt)
        request.sampler.check(request, self.model)
        handle, most = Handle(self, request, limit, owner), self.capacity.rows
        if most is not None and handle.rows > most:
            raise UserError(f"the request needs {handle.rows} rows at once, and {most} is the most: give fewer beams")
        return handle

    def submit(self, request: Request, owner: Hashable = None) -> Handle:
        """Take a request, which joins the batch as soon as there is room for it.

        Args:
            request: the prompt, and how it is continued.
            owner: owners take turns where requests wait.

        Returns:
            The handle that its tokens come through.

        Raises:
            UserError: the request cannot be met; nothing is clipped.
        """
        handle = self.prepare(request, owner)
        self.waiting.add(handle)
        return handle

    def run(self, requests: Iterable[Request]) -> list[Handle]:
        """Submit requests and run the loop until everything has ended.

        Returns:
            Their handles, all finished.

        Raises:
            Exception: the error that ended one of them.
        """
        handles = [self.submit(request) for request in requests]
        self.run_until(lambda: not self.busy)
        for handle in handles:
            handle.check()
        return handles

    def run_until(self, done: Callable[[], bool]) -> None:
        """Take steps until ``done``; in bf16 the weights are converted once for all of them, not at each step.

        Args:
            done: asked before each step.

        Raises:
            RuntimeError: nothing is left to do before that.
        """
        with self.compute.autocast():
            while not done():
                if not self.busy:
                    raise RuntimeError("the engine has nothing left to do")
                self.step()

    @property
    def busy(self) -> bool:
        """True while any request goes on or waits."""
        return bool(self._rows or self.reader or self.waiting)

    @property
    def going(self) -> list[Handle]:
        """The requests that hold rows: those that are continued, and those whose prompts are still read."""
        continued = (handle for rows in self._rows for handle in rows.group.handles_R)
        return [*dict.fromkeys(continued), *self.reader.handles]

    # --- the loop -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Generate the next token of every request whose prompt was read; the first one of those that join.

        An error ends the requests that it came from or that were computed together with it, and no others.

        Returns:
            The tokens that came, and to which request each belongs.
        """
        with self.compute.autocast():
            going = self.going
            self._leave({handle for handle in going if handle.finish is not None})
            if self.waiting:
                self._admit([handle for handle in going if handle.finish is None])
            ready = self.reader.step()
            try:
                if ready:
                    self._begin(ready)
                events = self._advance() if self._rows else []
            except Exception as error:
                self._fail(error, ready)
                events = []
        if not self._rows:
            self._state, self._moved = None, False
        self.tokens += len(events)
        return events

    def _admit(self, going: list[Handle]) -> None:
        """Let requests join by turns; their prompts are read first. Those that make room for them wait again."""
        joining, preempted = self.waiting.admit(going)
        if preempted:
            for rows in self._rows:
                self._keep(rows.group.handles_R, rows.index_R, preempted)
            self._leave(set(preempted))
        for handle in joining:
            self.reader.add(handle)

    def _leave(self, gone: set[Handle]) -> None:
        if not gone:
            return
        self.reader.remove(gone)
        for rows in self._rows:
            rows.drop(gone)
        self._rows = [rows for rows in self._rows if rows.group.handles_R]
        self._moved = True

    def _begin(self, ready: Sequence[Handle]) -> None:
        """Give rows to requests whose prompts were read; neighbours that share a sampler make a group."""
        state, inputs_R1 = self.reader.take(ready)
        begin, known = 0, {rows.group.key: rows for rows in self._rows}
        if self._rows and self._state is not None:
            begin, state, self._moved = len(self._state.length_B), self._state.concat(state), True
        first = 0
        for _, alike in groupby(ready, lambda handle: handle.request.sampler.key(handle.request)):
            mine = list(alike)
            many = sum(len(handle.request.prompts) for handle in mine)
            index_R = torch.arange(begin + first, begin + first + many, device=inputs_R1.device)
            try:
                group = mine[0].request.sampler.begin(mine, self.model, state)
            except Exception as error:
                for handle in mine:
                    handle.fail(error)
                self._moved = True
            else:
                rows = Rows(group, index_R, inputs_R1[first : first + many])
                before = known.setdefault(group.key, rows)
                if before is not rows:
                    before.join(rows)
                    self._moved = True
            first += many
        self._state, self._rows = state, list(known.values())

    def _advance(self) -> list[Event]:
        """Read what every row reads next, and let every group decide what follows."""
        assert self._state is not None
        state, inputs_R1 = self._state, torch.cat([rows.inputs_R1 for rows in self._rows])
        if self._moved:
            state = state.reorder(torch.cat([rows.index_R for rows in self._rows]))
        measured = self.speculation is not None and not self.speculation.rests()
        drafts = self._draft() if measured else None
        output = self._read(inputs_R1, state, drafts)
        first, decided, many_R = 0, [], []
        for rows in self._rows:
            handles_R = rows.group.handles_R
            decision = rows.group.decide(output, slice(first, first + len(handles_R)))
            decided.append((rows, handles_R, first, decision))
            many_R += decision.many_R or [1] * len(handles_R)
            first += len(handles_R)
        self._state, self._moved = self._cut_back(output.state, drafts, many_R), False
        for rows, handles_R, first, decision in decided:
            rows.inputs_R1 = decision.inputs_R1
            rows.index_R = torch.arange(first, first + len(handles_R), device=rows.inputs_R1.device)
            ended = [handle for handle in handles_R if handle.finish in KEPT and handle.request.sampler.resumable]
            self._keep(handles_R, rows.index_R, ended)
            if decision.parents_R is not None:
                rows.index_R, self._moved = rows.index_R[decision.parents_R], True
        self._rows = [rows for rows in self._rows if rows.group.handles_R]
        if self.speculation is not None and measured:
            self.speculation.end(drafts, [handle for _, handles_R, _, _ in decided for handle in handles_R], many_R)
        return [event for _, _, _, decision in decided for event in decision.events]

    def _draft(self) -> Drafts | None:
        """Drafts for the next step, where all groups verify them."""
        if self.speculation is None or not all(rows.group.verifies for rows in self._rows):
            return None
        handles_R = [handle for rows in self._rows for handle in rows.group.handles_R]
        return self.speculation.propose(handles_R, self.model.start_id, bounded=self.room is not None)

    def _read(self, inputs_R1: Tensor, state: State, drafts: Drafts | None) -> StepOutput:
        """Read the next token of every row, and the drafted ones behind it."""
        if drafts is None:
            return StepOutput(*self.model(inputs_R1, state))
        drafts_RK = drafts.tensor(inputs_R1.device)
        inputs_RT = torch.cat([inputs_R1, drafts_RK], 1)
        prediction, state = self.model(inputs_RT, state.rewindable(drafts.length))
        return StepOutput(prediction, state, drafts_RK)

    def _cut_back(self, state: State, drafts: Drafts | None, many_R: Sequence[int]) -> State:
        """The State without drafts that were rejected."""
        if drafts is None:
            return state
        return state.rewind(drafts.length + 1 - torch.tensor(many_R, device=state.length_B.device))

    def _keep(self, handles_R: Sequence[Handle], index_R: Tensor, which: Sequence[Handle]) -> None:
        """Keep the rows of some requests for records that begin with what they have read."""
        if which and self._state is not None:
            first = dict(zip(reversed(handles_R), reversed(index_R.tolist())))
            for handle in dict.fromkeys(which):
                if handle in first:
                    self.reader.keep(handle, self._state, first[handle])

    def _fail(self, error: Exception, ready: Sequence[Handle]) -> None:
        """End every request that was computed; what is kept is dropped, because memory may be what was lacking."""
        for handle in {*ready, *(handle for rows in self._rows for handle in rows.group.handles_R)}:
            handle.fail(error)
        self._rows = []
        self.reader.prefixes.clear()


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


def sample_paths(engine: Generator, known_T: np.ndarray, horizon: int, count: int, seed: int = 42) -> Paths:
    """Draw independent continuations of one series.

    Args:
        engine: that of a model of values.
        known_T: the series so far, read once; infinity stands for a missing value where the model skips it.
        horizon: how many values each continuation has.
        count: how many continuations are drawn; more of them leave the first ones as they are.
        seed: seed of the noise.

    Returns:
        The continuations, and log p of each in nats.
    """
    requests = [Request(known_T, Filters(), mine, max_tokens=horizon) for mine in derive_seeds(seed, count)]
    handles = engine.run(requests)
    return Paths(np.array([h.tokens for h in handles], np.float64), np.array([h.total for h in handles]))


def draw_images(
    engine: Generator,
    records_BT: Tensor,
    places: int,
    filters: Filters,
    *,
    seeds: Sequence[int],
    blank_T: Tensor | None = None,
    guidance: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Draw images from captions: continue records that are captions, perhaps with the beginning of an image.

    Args:
        engine: that of a model of captions and images.
        records_BT: token ids, B x T.
        places: how many tokens are drawn for each record.
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
    handles = engine.run(requests)
    return torch.tensor([h.tokens for h in handles]), torch.tensor([h.total for h in handles], dtype=torch.float64)
