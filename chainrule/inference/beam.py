"""Beam search over any autoregressive model, known only through ``forward``, ``Prediction`` and ``State``.

A request keeps ``width`` hypotheses that go on. Each step ranks all their extensions by log p. Extensions that end, and
are among the first ``width``, are finished; the ``width`` best that do not end go on (twice as many candidates as
hypotheses always suffice, because each hypothesis ends in one way). Finished hypotheses are compared by

    score(y) = log p(y) / lp(y) + cp(y),     lp(y) = ((5 + |y|) / 6)^alpha,     cp(y) = beta sum_s log min(1, sum_t
    a_ts)

(Wu et al. 2016, eq. 14), |y| counting the end. **When a request stops**: log p falls with every token, lp grows up to
``max_length``, and cp is at most 0, so a hypothesis that goes on with log p = n can reach no score above n /
lp(max_length). The request stops when as many finished hypotheses as were asked for are not below that bound: nothing
better is left in the beam (Huang et al. 2017), unlike a search that stops at the first finished ones. A beam of one has
no second place: its first end is the result, which is greedy search whatever alpha is.

Logits are turned into log p in float32 (float64 where the model is), added up in float64. The rows of one request stay
side by side in the State; a request that is done leaves with all its rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from chainrule.core import Autoregressive, State, UserError
from chainrule.inference.constraints import NEVER, Phrase, compiled
from chainrule.inference.requests import Decision, Group, Handle, Hypothesis, Request, StepOutput

MOST = 1 << 16
FLAGS = {"width": "--beams", "groups": "--diverse"}
"""Options of the command line whose names differ from those of `Beams`."""


@dataclass(frozen=True)
class Beams:
    """The options of a beam search. Phrases are tuples of ids; they are looked for in what is generated, not in the
    prompt.

    Args:
        width: hypotheses that go on at each step.
        n_best: hypotheses that are returned.
        length_penalty: alpha; 0: none.
        coverage_penalty: beta; needs a State with ``coverage_BS``, the attention that each token of a row's source has
            had in all predictions so far, that of the next token included; 1 at pads.
        min_length: ids before the end.
        max_length: ids, the end among them; the request's ``max_tokens`` goes before it.
        no_repeat_ngram: length of n-grams that do not occur twice (0: they may), unless ``prefix`` says so, or a phrase
            that must appear leaves nothing else.
        must: phrases that appear, always. Hypotheses are kept in banks, by how many ids they still need, and the banks
            take turns in filling the beam (Post & Vilar 2018); best with a ``width`` above the number of ids in all
            phrases.
        forbid: phrases that do not appear.
        prefix: ids that the result begins with.
        groups: groups of ``width / groups`` hypotheses that are filled one after another; ids that earlier groups took
            at this step cost ``diversity`` each time (Vijayakumar et al. 2018, Hamming).
        diversity: that cost. It steers the choice only: nats and scores are without it.

    Raises:
        UserError: a value out of range, in one line.

    Example:
        >>> Beams(width=4, length_penalty=1.0).penalty(7)
        2.0
    """

    width: int = 4
    n_best: int = 1
    length_penalty: float = 0.6
    coverage_penalty: float = 0.0
    min_length: int = 0
    max_length: int = 200
    no_repeat_ngram: int = 0
    must: tuple[Phrase, ...] = ()
    forbid: tuple[Phrase, ...] = ()
    prefix: Phrase = ()
    groups: int = 1
    diversity: float = 0.5
    resumable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks = (
            ("width", 1, 1024), ("n_best", 1, self.width), ("length_penalty", 0.0, 10.0),
            ("coverage_penalty", 0.0, 10.0), ("max_length", 1, MOST), ("min_length", 0, self.max_length),
            ("no_repeat_ngram", 0, MOST), ("groups", 1, self.width), ("diversity", 0.0, 1e6),
        )  # fmt: skip
        for name, low, high in checks:
            if not low <= getattr(self, name) <= high:
                flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
                raise UserError(f"{flag} {getattr(self, name)}: allowed is {low} to {high}")
        if self.width % self.groups:
            raise UserError(f"--diverse {self.groups}: --beams {self.width} cannot be shared evenly by as many groups")
        if not all(map(len, (*self.must, *self.forbid))):
            raise UserError("beam search: a phrase of no ids: leave it out")

    def penalty(self, length: int) -> float:
        """Return lp of a hypothesis of so many ids, the end among them."""
        return ((5 + length) / 6) ** self.length_penalty

    def limit(self, request: Request) -> int:
        """Return how many tokens the request may have. Raises UserError where that is out of range."""
        limit = self.max_length if request.max_tokens is None else request.max_tokens
        dataclasses.replace(self, max_length=limit)
        return limit

    def rows(self, request: Request) -> int:
        """Return how many rows of the State the request holds at most: one for each beam."""
        return self.width

    def key(self, request: Request) -> Hashable:
        """Return what requests have in common that are searched together."""
        alike = dataclasses.replace(self, prefix=(), max_length=MOST)
        return alike, request.end, request.constraints

    def check(self, request: Request, model: Autoregressive) -> None:
        """Raise UserError where the model cannot be searched, or where phrases and prefix cannot be met."""
        if request.constraints.turns:
            raise UserError(
                "--beams: voices in step are drawn, not searched for: leave out --beams, --must and --forbid"
            )
        if len(request.prompts) > 1:
            raise UserError("beam search: guidance is for sampling")
        Rules(request, model.vocab_size, "cpu").check(self.prefix, self.limit(request))

    def begin(self, handles: list[Handle], model: Autoregressive, state: State) -> Group:
        """Return the group of requests that are searched together. Raises UserError where the State keeps no
        coverage."""
        if self.coverage_penalty and getattr(state, "coverage_BS", None) is None:
            raise UserError(
                "beam search: coverage_penalty needs a model that attends to a source; this one keeps no coverage"
            )
        return Search(handles, model.vocab_size, state.length_B.device)


class Rules:
    """Ids and phrases that a request excludes or needs, ready to be looked up."""

    def __init__(self, request: Request, vocab_size: int, device: torch.device | str):
        options: Any = request.sampler
        must, forbid = options.must, (*options.forbid, *((i,) for i in request.constraints.forbid))
        self.vocab_size, self.end = vocab_size, request.end
        for i in chain(*must, *forbid):
            self._check_id(i)
        single = [] if must else sorted({phrase[0] for phrase in forbid if len(phrase) == 1})
        longer = tuple(phrase for phrase in forbid if len(phrase) > 1 or must)
        self.phrases = compiled(must, longer, vocab_size, self.end).to(device) if must or longer else None
        self.excluded = torch.tensor(single, dtype=torch.long, device=device)
        """Ids that never appear: for these no automaton is needed, unless phrases must appear that could hold them."""

    def _check_id(self, i: int) -> None:
        if not 0 <= i < self.vocab_size or i == self.end:
            raise UserError(
                f"beam search: id {i} in a phrase: allowed are 0 to {self.vocab_size - 1} without the end, {self.end}"
            )

    def check(self, ids: Phrase, limit: int) -> None:
        """Raise UserError where what must appear cannot be generated after the prefix ``ids`` in so many."""
        for i in ids:
            self._check_id(i)
        left, place = limit - len(ids), torch.tensor(0)
        if left < 0:
            raise UserError(f"beam search: a prefix of {len(ids)} ids and max_length={limit}")
        apart = f"beam search: the prefix {ids} and the phrases that must or must not appear exclude each other"
        if set(self.excluded.tolist()) & set(ids):
            raise UserError(apart)
        if self.phrases is None:
            return
        for i in ids:
            if self.phrases.after(place)[i] >= NEVER:
                raise UserError(apart)
            place = self.phrases.read(place, torch.tensor(i))
        if int(self.phrases.need(place)) > left:
            raise UserError(
                f"beam search: phrases that must appear do not fit: max_length={limit} leaves {left} ids, "
                "or a phrase that must not appear is in the way"
            )


@dataclass
class Beam:
    """B requests of G groups: K hypotheses that go on, and the N best that are finished, best first. log p = -inf:
    none."""

    row_B: Tensor
    """The request's place among those that the search began with."""
    done_BG: Tensor
    nats_BGK: Tensor
    score_BGK: Tensor
    ids_BGKT: Tensor
    place_BGK: Tensor
    """State of each hypothesis in the automaton of phrases."""
    ended_nats_BGN: Tensor
    ended_score_BGN: Tensor
    ended_size_BGN: Tensor
    ended_ids_BGNT: Tensor

    def rows(self, index_B: Tensor) -> Beam:
        return Beam(*(getattr(self, f.name).index_select(0, index_B) for f in dataclasses.fields(self)))


@dataclass
class Extensions:
    """Candidates of each group, B x G x 2 K, best first: the hypothesis that each extends, the id, and the result."""

    parent: Tensor
    ids: Tensor
    nats: Tensor
    score: Tensor
    ends: Tensor


class Search(Group):
    """Requests that are searched together, step by step. At first each has one row of the State, then ``width``."""

    def __init__(self, handles: list[Handle], vocab_size: int, device: torch.device | str):
        options: Any = handles[0].request.sampler
        self.options: Beams = options
        self.key, self.handles, self.vocab_size, self.end = object(), handles, vocab_size, handles[0].request.end
        self.beams, self.device = options.width // options.groups, device
        self.kept = min(options.n_best, self.beams)
        self.rules = Rules(handles[0].request, vocab_size, device)
        self.limits_B = torch.tensor([h.limit for h in handles], device=device)
        self.last_penalty_B1 = torch.tensor(
            [[options.penalty(h.limit)] for h in handles], dtype=torch.float64, device=device
        )
        given = [h.request.sampler.prefix for h in handles]  # type: ignore[union-attr]
        longest = max(map(len, given))
        self.prefix_BT = torch.tensor([[*p, *[-1] * (longest - len(p))] for p in given], device=device)
        self.step, self.fan, self.beam = 0, 1, self._first_beam()

    @property
    def handles_R(self) -> list[Handle]:
        return [self.handles[b] for b in self.beam.row_B.tolist() for _ in range(self.fan)]

    def drop(self, gone: Container[Handle]) -> Tensor:
        stays_R = torch.tensor([handle not in gone for handle in self.handles_R], device=self.device)
        self.beam = self.beam.rows(stays_R[:: self.fan].nonzero()[:, 0])
        return stays_R.nonzero()[:, 0]

    def join(self, other: Any) -> None:
        raise TypeError("a search takes no other requests")

    def _first_beam(self) -> Beam:
        """One hypothesis a group, which has generated nothing."""
        B, G, K, N = len(self.handles), self.options.groups, self.beams, self.kept
        T = int(self.limits_B.max())
        none = lambda n: torch.full((B, G, n), -torch.inf, dtype=torch.float64, device=self.device)  # noqa: E731
        zero = lambda *n: torch.zeros(B, *n, dtype=torch.long, device=self.device)  # noqa: E731
        first = none(K)
        first[..., 0] = 0
        return Beam(
            torch.arange(B, device=self.device), zero(G) > 0, first, first.clone(), zero(G, K, T), zero(G, K), none(N),
            none(N), zero(G, N), zero(G, N, T),
        )  # fmt: skip

    def decide(self, output: StepOutput, rows: slice) -> Decision:
        t, before, coverage_R, events = self.step, self.beam, self._coverage(output.state, rows), []
        self.beam, parent_BW, stuck_B = self._step(before, output.logits_RV[rows], coverage_R, t)
        leaves_B = stuck_B | self.beam.done_BG.all(1) | (self.limits_B[before.row_B] == t + 1)
        for b in leaves_B.nonzero()[:, 0].tolist():
            found = self.harvest(*((before, t) if stuck_B[b] else (self.beam, t + 1)), b)
            events += self.handles[int(before.row_B[b])].complete(found)
        stays_b = (~leaves_B).nonzero()[:, 0]
        self.beam, parent_BW = self.beam.rows(stays_b), parent_BW[stays_b]
        if self.fan == 1:
            parent_BW = torch.zeros_like(parent_BW)
        parents_R = (stays_b[:, None] * self.fan + parent_BW).flatten()
        self.step, self.fan = t + 1, self.options.width
        return Decision(events, parents_R, self.beam.ids_BGKT[..., t].reshape(-1, 1))

    # --- a step -------------------------------------------------------------------------------------------------------

    def _step(self, beam: Beam, logits_RV: Tensor, coverage_R: Tensor, t: int) -> tuple[Beam, Tensor, Tensor]:
        """The beam with one token more; which of a request's ``width`` each came from; the requests that are stuck."""
        found = self._extend(beam, logits_RV, coverage_R, t)
        new, parent_BGK = self._go_on(self._finish(beam, found, t), found, t)
        bound_BG = new.nats_BGK.amax(-1) / self.last_penalty_B1[beam.row_B]
        last_BG = new.ended_score_BGN[..., -1]
        closed_BG = (last_BG > -torch.inf) & (self.beams == 1)
        new.done_BG = beam.done_BG | closed_BG | (last_BG >= bound_BG)
        group_G1 = torch.arange(self.options.groups, device=parent_BGK.device)[:, None] * self.beams
        return new, (parent_BGK + group_G1).flatten(1), (found.nats == -torch.inf).flatten(1).all(1)

    def _extend(self, beam: Beam, logits_RV: Tensor, coverage_R: Tensor, t: int) -> Extensions:
        """The 2 K best extensions of each group."""
        logits_RV = logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()
        raw_BGKV = self._shared(logits_RV, beam)
        base_BGK = beam.nats_BGK - self._shared(logits_RV.logsumexp(-1).double(), beam)
        best, flat = self._choose(beam, raw_BGKV, base_BGK, t)
        parent, ids = flat // self.vocab_size, flat % self.vocab_size
        # without what steered the choice
        nats = base_BGK.gather(2, parent) + raw_BGKV.flatten(2).gather(2, flat).double()
        nats = nats.masked_fill(best == -torch.inf, -torch.inf)
        score = nats / self.options.penalty(t + 1) + self._shared(coverage_R, beam).gather(2, parent)
        ends = torch.zeros_like(ids, dtype=torch.bool) if self.end is None else ids == self.end
        return Extensions(parent, ids, nats, score, ends)

    def _shared(self, x: Tensor, beam: Beam) -> Tensor:
        """A value of each row of the State, for each hypothesis; at first those of a request share one row."""
        B, G = beam.done_BG.shape
        if self.fan == 1:
            return x.view(B, 1, 1, *x.shape[1:]).expand(B, G, self.beams, *x.shape[1:])
        return x.view(B, G, self.beams, *x.shape[1:])

    def _coverage(self, state: State, rows: slice) -> Tensor:
        """cp of each row of the State, R."""
        if not self.options.coverage_penalty:
            return torch.zeros_like(state.length_B[rows], dtype=torch.float64)
        seen_RS: Tensor = state.coverage_BS[rows]  # type: ignore[attr-defined]
        return self.options.coverage_penalty * seen_RS.double().clamp(1e-30, 1).log().sum(-1)

    def _finish(self, beam: Beam, found: Extensions, t: int) -> Beam:
        """The N best finished ones after those that end now are among them; of equal scores the earlier."""
        new = dataclasses.replace(beam)
        accepted = found.ends & (found.nats > -torch.inf) & ~beam.done_BG[..., None]
        accepted[..., self.beams :] = False
        if not bool(accepted.any()):
            return new
        joined = torch.cat([beam.ended_score_BGN, found.score.masked_fill(~accepted, -torch.inf)], -1)
        new.ended_score_BGN, order = (x[..., : self.kept] for x in joined.sort(dim=-1, descending=True, stable=True))
        new.ended_nats_BGN = torch.cat([beam.ended_nats_BGN, found.nats], -1).gather(2, order)
        new.ended_size_BGN = torch.cat([beam.ended_size_BGN, torch.full_like(found.ids, t)], -1).gather(2, order)
        new.ended_ids_BGNT = _take(torch.cat([beam.ended_ids_BGNT, _take(beam.ids_BGKT, found.parent)], 2), order)
        return new

    def _go_on(self, new: Beam, found: Extensions, t: int) -> tuple[Beam, Tensor]:
        """The K best extensions that do not end, and whom they extend."""
        order = found.ends.int().argsort(dim=-1, stable=True)[..., : self.beams]
        gone = found.nats.masked_fill(found.ends, -torch.inf).gather(2, order) == -torch.inf
        # Where there is no hypothesis, it reads what the first one reads, which is possible.
        order = torch.where(gone, order[..., :1], order)
        parent, ids = found.parent.gather(2, order), found.ids.gather(2, order)
        new.nats_BGK, new.score_BGK = (
            x.gather(2, order).masked_fill(gone, -torch.inf) for x in (found.nats, found.score)
        )
        new.ids_BGKT = _take(new.ids_BGKT, parent)
        new.ids_BGKT[..., t] = ids
        if self.rules.phrases is not None:
            new.place_BGK = self.rules.phrases.read(new.place_BGK.gather(2, parent), ids)
        return new, parent

    def _choose(self, beam: Beam, raw_BGKV: Tensor, base_BGK: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Group after group, the 2 K best extensions in order: value (-inf: none) and place in K x V."""
        pick_BGKV, after_BGKV = self._allowed(beam, raw_BGKV, t)
        taken_BV, chosen = torch.zeros_like(raw_BGKV[:, 0, 0]), []
        for g in range(self.options.groups):
            pick_BKV = pick_BGKV[:, g] - self.options.diversity * taken_BV[:, None] if g else pick_BGKV[:, g]
            if after_BGKV is not None and self.options.must:
                found = self._in_turns(pick_BKV, base_BGK[:, g], after_BGKV[:, g])
            else:
                found = _best(pick_BKV, base_BGK[:, g], 2 * self.beams)
            chosen.append(found)
            value_Bk, flat_Bk = (x[:, : self.beams] for x in found)
            if g + 1 < self.options.groups:
                taken_BV = taken_BV.scatter_add(
                    1, flat_Bk % self.vocab_size, (value_Bk > -torch.inf).to(taken_BV.dtype)
                )
        return torch.stack([f[0] for f in chosen], 1), torch.stack([f[1] for f in chosen], 1)

    def _in_turns(self, pick_BKV: Tensor, base_BK: Tensor, after_BKV: Tensor) -> tuple[Tensor, Tensor]:
        """The same where phrases must appear: the best of every bank, that of the fewest needed ids first; then every
        second best. Places that a bank cannot fill go to the others.
        """
        assert self.rules.phrases is not None
        banks = [
            _best(pick_BKV.masked_fill(after_BKV != need, -torch.inf), base_BK, 2 * self.beams)
            for need in range(self.rules.phrases.banks)
        ]
        value_Bk, flat_Bk = (torch.stack(x, -1).flatten(1) for x in zip(*banks, strict=True))
        order = (value_Bk == -torch.inf).int().argsort(dim=-1, stable=True)[:, : 2 * self.beams]
        return value_Bk.gather(1, order), flat_Bk.gather(1, order)

    # --- what may follow ----------------------------------------------------------------------------------------------

    def _allowed(self, beam: Beam, raw_BGKV: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """The logits, -inf where an id may not follow; and how many ids are needed after each, where there are
        phrases."""
        o, barred, after_BGKV = self.options, [], None
        if len(self.rules.excluded):
            raw_BGKV = raw_BGKV.index_fill(-1, self.rules.excluded, -torch.inf)
        if self.rules.phrases is not None:
            after_BGKV = self.rules.phrases.after(beam.place_BGK)
            left_B111 = self.limits_B[beam.row_B][:, None, None, None] - t - 1
            barred.append(after_BGKV > left_B111)
        if o.no_repeat_ngram and t >= o.no_repeat_ngram:
            again = _repeats(beam.ids_BGKT[..., :t], o.no_repeat_ngram, self.vocab_size)
            if self.rules.phrases is not None and after_BGKV is not None:  # or a phrase could become impossible
                need_BGK1 = self.rules.phrases.need(beam.place_BGK)[..., None]
                nothing_BGK1 = (again | barred[0]).all(-1, keepdim=True)
                again &= ~(nothing_BGK1 & (after_BGKV < need_BGK1))
            barred.append(again)
        if self.end is not None and t < o.min_length:
            barred.append((torch.arange(self.vocab_size, device=raw_BGKV.device) == self.end).expand_as(raw_BGKV))
        if t < self.prefix_BT.shape[1]:
            forced_B111 = self.prefix_BT[beam.row_B, t][:, None, None, None]
            other = torch.arange(self.vocab_size, device=raw_BGKV.device) != forced_B111
            barred = [torch.where(forced_B111 >= 0, other, b) for b in barred] or [other & (forced_B111 >= 0)]
        for b in barred:
            raw_BGKV = raw_BGKV.masked_fill(b, -torch.inf)
        return raw_BGKV, after_BGKV

    def harvest(self, beam: Beam, size: int, b: int) -> list[Hypothesis]:
        """The n best of row ``b``, whose hypotheses that go on have ``size`` ids: of each group the best, then the
        second best, …"""
        over_GK = (beam.nats_BGK[b] > -torch.inf) & (
            self.rules.phrases.need(beam.place_BGK[b]) == 0 if self.rules.phrases is not None else True
        )
        ranked: list[tuple[int, bool, float, Hypothesis]] = []
        for g in range(self.options.groups):
            ended = zip(
                beam.ended_ids_BGNT[b, g].tolist(), beam.ended_size_BGN[b, g].tolist(),
                beam.ended_nats_BGN[b, g].tolist(), beam.ended_score_BGN[b, g].tolist(),
            )  # fmt: skip
            mine = [Hypothesis(ids[:n], nats, score, True) for ids, n, nats, score in ended if score > -torch.inf]
            open_ = zip(beam.ids_BGKT[b, g].tolist(), beam.nats_BGK[b, g].tolist(), beam.score_BGK[b, g].tolist())
            rest = [Hypothesis(i[:size], n, s, False) for (i, n, s), over in zip(open_, over_GK[g].tolist()) if over]
            mine += sorted(rest, key=lambda h: -h.score)
            ranked += [(k, not h.finished, -h.score, h) for k, h in enumerate(mine)]
        distinct: dict[tuple[int, ...], Hypothesis] = {}
        for *_, h in sorted(ranked, key=lambda r: r[:3]):
            distinct.setdefault(tuple(h.ids), h)
        return sorted(list(distinct.values())[: self.options.n_best], key=lambda h: (not h.finished, -h.score))


def _take(x_BGKT: Tensor, index_BGk: Tensor) -> Tensor:
    """Hypotheses by their place in a group."""
    return x_BGKT.gather(2, index_BGk[..., None].expand(*index_BGk.shape, x_BGKT.shape[-1]))


def _best(pick_BKV: Tensor, base_BK: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of base + pick over K x V, through the k largest of each hypothesis: value, float64, and place."""
    K, V = pick_BKV.shape[1:]
    value_BKk, id_BKk = pick_BKV.topk(min(k, V))
    value_Bk, at_Bk = (base_BK[..., None] + value_BKk.double()).flatten(1).topk(min(k, K * value_BKk.shape[-1]))
    return value_Bk, at_Bk // value_BKk.shape[-1] * V + id_BKk.flatten(1).gather(1, at_Bk)


def _repeats(ids_BGKt: Tensor, n: int, vocab_size: int) -> Tensor:
    """Ids that would complete an n-gram that is there already, B x G x K x V."""
    windows = ids_BGKt.unfold(-1, n, 1)
    tail = ids_BGKt[..., ids_BGKt.shape[-1] - n + 1 :]
    same = (windows[..., :-1] == tail[..., None, :]).all(-1)
    found = torch.where(same, windows[..., -1], vocab_size)
    barred = torch.zeros(*ids_BGKt.shape[:-1], vocab_size + 1, dtype=torch.bool, device=ids_BGKt.device)
    return barred.scatter(-1, found, True)[..., :vocab_size]
