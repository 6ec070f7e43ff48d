"""Beam search over any autoregressive model, known only through ``forward``, ``Prediction`` and ``State``.

A row keeps ``width`` hypotheses that go on. Each step ranks all their extensions by log p; those among the first ``width`` that end
are finished, and the ``width`` best that do not end go on (twice as many candidates as hypotheses always suffice, because each
hypothesis ends in one way). Finished ones are compared by

    score(y) = log p(y) / lp(y) + cp(y),     lp(y) = ((5 + |y|) / 6)^alpha,     cp(y) = beta sum_s log min(1, sum_t a_ts)

(Wu et al. 2016, eq. 14), |y| counting the end. **When a row stops**: log p falls with every symbol, lp grows up to ``max_length``, cp is at
most 0; so nothing that goes on with log p = n can come to a score above n / lp(max_length). The row stops when as many finished ones as
were asked for are not below that bound: nothing better is left in the beam (Huang et al. 2017), unlike where one stops at the first
finished ones. A beam of one has no second place: what ends is the result, which is greedy search whatever alpha is.

Logits are turned into log p in float32 (float64 where the model is), added up in float64. Rows of one source stay side by side in the State:
row r belongs to source r // width of those that are left; a source whose row is done leaves with all its rows.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from chainrule.core import Autoregressive, Prediction, State, UserError
from chainrule.core.compute import Compute
from chainrule.inference.constraints import NEVER, Phrase, Phrases

MOST = 1 << 16


@dataclass(frozen=True)
class Beams:
    """What is searched for. Phrases are tuples of ids; they are looked for in what is written, not in what was read before.

    Raises UserError, one line, where a value cannot be meant.
    """

    width: int = 4
    n_best: int = 1
    length_penalty: float = 0.6
    """alpha; 0: none."""
    coverage_penalty: float = 0.0
    """beta; needs a State with ``coverage_BS``: for each row, the attention that each symbol of its source has had in all predictions
    so far, the next symbol's too; 1 at pads."""
    min_length: int = 0
    """Ids before the end."""
    max_length: int = 200
    """Ids, the end among them."""
    no_repeat_ngram: int = 0
    """Length of n-grams that do not come twice (0: they may), unless ``prefix`` says so, or a phrase that must appear leaves nothing else."""
    must: tuple[Phrase, ...] = ()
    """Phrases that appear, always. Hypotheses are kept in banks, by how many ids they still need, and the banks take turns in
    filling the beam (Post & Vilar 2018); best with a ``width`` above the number of ids in all phrases."""
    forbid: tuple[Phrase, ...] = ()
    prefix: tuple[Phrase, ...] = ()
    """Ids that a row begins with: one tuple a row, or one for all."""
    groups: int = 1
    """Groups of ``width / groups`` that are filled one after another; ids that earlier groups took at this step cost ``diversity``
    each time (Vijayakumar et al. 2018, Hamming). It steers the choice only: nats and scores are without it."""
    diversity: float = 0.5

    def __post_init__(self) -> None:
        checks = (
            ("width", 1, 1024), ("n_best", 1, self.width), ("length_penalty", 0.0, 10.0), ("coverage_penalty", 0.0, 10.0),
            ("max_length", 1, MOST), ("min_length", 0, self.max_length), ("no_repeat_ngram", 0, MOST), ("groups", 1, self.width),
            ("diversity", 0.0, 1e6),
        )  # fmt: skip
        for name, low, high in checks:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"beam search: {name}={getattr(self, name)}: allowed is {low} to {high}")
        if self.width % self.groups:
            raise UserError(f"beam search: width={self.width} cannot be shared evenly by groups={self.groups}")
        if not all(map(len, (*self.must, *self.forbid))):
            raise UserError("beam search: a phrase of no ids: leave it out")

    def penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty


@dataclass(frozen=True)
class Hypothesis:
    """``ids`` without the end; ``nats``: log p of them under the unmodified model, that of the end included where it is ``finished``."""

    ids: list[int]
    nats: float
    score: float
    finished: bool


@dataclass
class Beam:
    """B rows of G groups: K hypotheses that go on, and the N best that are finished, best first. log p = -inf: nobody there."""

    row_B: Tensor
    """The row's number in the batch that was begun."""
    done_BG: Tensor
    nats_BGK: Tensor
    score_BGK: Tensor
    ids_BGKT: Tensor
    place_BGK: Tensor
    """State in the automaton of phrases."""
    ended_nats_BGN: Tensor
    ended_score_BGN: Tensor
    ended_size_BGN: Tensor
    ended_ids_BGNT: Tensor

    def rows(self, index_B: Tensor) -> Beam:
        return Beam(*(getattr(self, f.name).index_select(0, index_B) for f in dataclasses.fields(self)))


@dataclass
class Extensions:
    """Candidates of each group, B x G x 2 K, best first: whom they extend, by what, and what they are then."""

    parent: Tensor
    ids: Tensor
    nats: Tensor
    score: Tensor
    ends: Tensor


@torch.no_grad()
def beam_search(
    model: Autoregressive, started: tuple[Prediction, State], end: int | None, compute: Compute, options: Beams
) -> list[list[Hypothesis]]:
    """The n best of each row, finished ones first, best first; distinct. ``end`` None: nothing ends, all have ``max_length`` ids.

    ``started``: what ``start``, or a ``forward`` over prefixes, returned for B rows; its prediction has one position, its State is
    consumed. Unfinished ones fill the list where too few have ended at ``max_length``, or where nothing may follow; it is shorter where there are no
    more. Raises UserError, before anything is searched, where the constraints cannot be met.
    """
    model.eval()
    prediction, state = started
    search = Search(options, model.vocab_size, end, len(state.length_B), state.length_B.device)
    beam, found = search.begin(), [[] for _ in range(len(state.length_B))]
    with compute.autocast():
        for step in range(options.max_length):
            fan = len(state.length_B) // len(beam.row_B)  # 1 at first: all hypotheses of a row come from one
            before, (beam, from_BW, stuck_B) = beam, search.step(beam, prediction, state, step)
            leaves_B = stuck_B | beam.done_BG.all(1) | (step + 1 == options.max_length)
            for b in leaves_B.nonzero()[:, 0].tolist():
                found[int(beam.row_B[b])] = search.harvest(*((before, step) if stuck_B[b] else (beam, step + 1)), b)
            stays = (~leaves_B).nonzero()[:, 0]
            if not len(stays):
                break
            beam, from_BW = beam.rows(stays), from_BW[stays] if fan > 1 else torch.zeros_like(from_BW[stays])
            state = state.reorder((stays[:, None] * fan + from_BW).flatten())
            prediction, state = model(beam.ids_BGKT[..., step].reshape(-1, 1), state)
    return found


class Search:
    """What stays the same while a batch is searched."""

    def __init__(self, options: Beams, vocab_size: int, end: int | None, rows: int, device: torch.device):
        self.options, self.vocab_size, self.end, self.shape = options, vocab_size, end, (rows, options.groups)
        self.beams = options.width // options.groups
        self.kept = min(options.n_best, self.beams)
        self.device = device
        given = options.prefix * (rows if len(options.prefix) == 1 else 1) or ((),) * rows
        self._check(given)
        single = [] if options.must else sorted({phrase[0] for phrase in options.forbid if len(phrase) == 1})
        longer = tuple(phrase for phrase in options.forbid if len(phrase) > 1 or options.must)
        self.phrases = Phrases(options.must, longer, vocab_size, end).to(device) if options.must or longer else None
        self.barred = torch.tensor(single, dtype=torch.long, device=device)
        """Ids that never appear: for these no automaton is needed, unless phrases must appear that could hold them."""
        for ids in sorted(set(given)):
            self._check_met(ids)
        longest = max(map(len, given), default=0)
        self.prefix_BT = torch.tensor([[*p, *[-1] * (longest - len(p))] for p in given], device=device)

    def _check(self, given: tuple[Phrase, ...]) -> None:
        if len(given) != self.shape[0]:
            raise UserError(
                f"beam search: {len(given)} prefixes for {self.shape[0]} rows: give one a row, or one for all"
            )
        for i in chain(*self.options.must, *self.options.forbid, *given):
            if not 0 <= i < self.vocab_size or i == self.end:
                raise UserError(
                    f"beam search: id {i} in a phrase: allowed are 0 to {self.vocab_size - 1} without the end, {self.end}"
                )

    def _check_met(self, prefix: Phrase) -> None:
        """Can what must appear be written after ``prefix``?"""
        left, place = self.options.max_length - len(prefix), torch.tensor(0, device=self.device)
        if left < 0:
            raise UserError(f"beam search: a prefix of {len(prefix)} ids and max_length={self.options.max_length}")
        apart = f"beam search: the prefix {prefix} and the phrases that must or must not appear exclude each other"
        if set(self.barred.tolist()) & set(prefix):
            raise UserError(apart)
        if self.phrases is None:
            return
        for i in prefix:
            if self.phrases.after(place)[i] >= NEVER:
                raise UserError(apart)
            place = self.phrases.read(place, torch.tensor(i, device=self.device))
        if int(self.phrases.need(place)) > left:
            raise UserError(
                f"beam search: phrases that must appear do not fit: max_length={self.options.max_length} leaves {left} ids, or a phrase "
                "that must not appear is in the way"
            )

    def begin(self) -> Beam:
        """One hypothesis a group, which has written nothing."""
        (B, G), K, N, T = self.shape, self.beams, self.kept, self.options.max_length
        none = lambda n: torch.full((B, G, n), -torch.inf, dtype=torch.float64, device=self.device)  # noqa: E731
        zero = lambda *n: torch.zeros(B, *n, dtype=torch.long, device=self.device)  # noqa: E731
        first = none(K)
        first[..., 0] = 0
        rows = torch.arange(B, device=self.device)
        return Beam(
            rows,
            zero(G) > 0,
            first,
            first.clone(),
            zero(G, K, T),
            zero(G, K),
            none(N),
            none(N),
            zero(G, N),
            zero(G, N, T),
        )

    # --- a step -------------------------------------------------------------------------------------------------------

    def step(self, beam: Beam, prediction: Prediction, state: State, t: int) -> tuple[Beam, Tensor, Tensor]:
        """The beam with one symbol more; which of a row's ``width`` each came from; and the rows in which nothing may follow."""
        found = self._extend(beam, prediction, state, t)
        new, parent_BGK = self._go_on(self._finish(beam, found, t), found, t)
        bound_BG = new.nats_BGK.amax(-1) / self.options.penalty(self.options.max_length)
        last_BG = new.ended_score_BGN[..., -1]
        closed_BG = (last_BG > -torch.inf) & (self.beams == 1)
        new.done_BG = beam.done_BG | closed_BG | (last_BG >= bound_BG)
        group_G1 = torch.arange(self.shape[1], device=parent_BGK.device)[:, None] * self.beams
        return new, (parent_BGK + group_G1).flatten(1), (found.nats == -torch.inf).flatten(1).all(1)

    def _extend(self, beam: Beam, prediction: Prediction, state: State, t: int) -> Extensions:
        """The 2 K best extensions of each group."""
        logits_RV = prediction.logits()[:, 0]
        logits_RV = logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()
        raw_BGKV = self._shared(logits_RV, beam)
        base_BGK = beam.nats_BGK - self._shared(logits_RV.logsumexp(-1).double(), beam)
        best, flat = self._choose(beam, raw_BGKV, base_BGK, t)
        parent, ids = flat // self.vocab_size, flat % self.vocab_size
        nats = (
            base_BGK.gather(2, parent) + raw_BGKV.flatten(2).gather(2, flat).double()
        )  # without what steered the choice
        nats = nats.masked_fill(best == -torch.inf, -torch.inf)
        score = nats / self.options.penalty(t + 1) + self._shared(self._coverage(state), beam).gather(2, parent)
        ends = torch.zeros_like(ids, dtype=torch.bool) if self.end is None else ids == self.end
        return Extensions(parent, ids, nats, score, ends)

    def _shared(self, x: Tensor, beam: Beam) -> Tensor:
        """What each row of the State has, for each hypothesis; at first all hypotheses of a source have one row."""
        B, G = beam.done_BG.shape
        if len(x) == B:
            return x.view(B, 1, 1, *x.shape[1:]).expand(B, G, self.beams, *x.shape[1:])
        return x.view(B, G, self.beams, *x.shape[1:])

    def _coverage(self, state: State) -> Tensor:
        """cp of each row of the State, R."""
        beta, seen_RS = self.options.coverage_penalty, getattr(state, "coverage_BS", None)
        if not beta:
            return torch.zeros_like(state.length_B, dtype=torch.float64)
        if seen_RS is None:
            raise UserError(
                "beam search: coverage_penalty needs a model that attends to a source; this one keeps no coverage"
            )
        return beta * seen_RS.double().clamp(1e-30, 1).log().sum(-1)

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
        order = torch.where(gone, order[..., :1], order)  # nobody there: reads what the first reads, which is possible
        parent, ids = found.parent.gather(2, order), found.ids.gather(2, order)
        new.nats_BGK, new.score_BGK = (
            x.gather(2, order).masked_fill(gone, -torch.inf) for x in (found.nats, found.score)
        )
        new.ids_BGKT = _take(new.ids_BGKT, parent)
        new.ids_BGKT[..., t] = ids
        if self.phrases is not None:
            new.place_BGK = self.phrases.read(new.place_BGK.gather(2, parent), ids)
        return new, parent

    def _choose(self, beam: Beam, raw_BGKV: Tensor, base_BGK: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Group after group, the 2 K best extensions in order: value (-inf: none) and place in K x V."""
        pick_BGKV, after_BGKV = self._allowed(beam, raw_BGKV, t)
        taken_BV, chosen = torch.zeros_like(raw_BGKV[:, 0, 0]), []
        for g in range(self.shape[1]):
            pick_BKV = pick_BGKV[:, g] - self.options.diversity * taken_BV[:, None] if g else pick_BGKV[:, g]
            if after_BGKV is not None and self.options.must:
                found = self._in_turns(pick_BKV, base_BGK[:, g], after_BGKV[:, g])
            else:
                found = _best(pick_BKV, base_BGK[:, g], 2 * self.beams)
            chosen.append(found)
            value_Bk, flat_Bk = (x[:, : self.beams] for x in found)
            if g + 1 < self.shape[1]:
                taken_BV = taken_BV.scatter_add(
                    1, flat_Bk % self.vocab_size, (value_Bk > -torch.inf).to(taken_BV.dtype)
                )
        return torch.stack([f[0] for f in chosen], 1), torch.stack([f[1] for f in chosen], 1)

    def _in_turns(self, pick_BKV: Tensor, base_BK: Tensor, after_BKV: Tensor) -> tuple[Tensor, Tensor]:
        """The same where phrases must appear: the best of every bank, that of the fewest needed ids first; then every second best.
        Places that a bank cannot fill go to the others.
        """
        assert self.phrases is not None
        banks = [
            _best(pick_BKV.masked_fill(after_BKV != need, -torch.inf), base_BK, 2 * self.beams)
            for need in range(self.phrases.banks)
        ]
        value_Bk, flat_Bk = (torch.stack(x, -1).flatten(1) for x in zip(*banks, strict=True))
        order = (value_Bk == -torch.inf).int().argsort(dim=-1, stable=True)[:, : 2 * self.beams]
        return value_Bk.gather(1, order), flat_Bk.gather(1, order)

    # --- what may follow ----------------------------------------------------------------------------------------------

    def _allowed(self, beam: Beam, raw_BGKV: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """The logits, -inf where an id may not follow; and how many ids are needed after each, where there are phrases."""
        o, barred, after_BGKV = self.options, [], None
        if len(self.barred):
            raw_BGKV = raw_BGKV.index_fill(-1, self.barred, -torch.inf)
        if self.phrases is not None:
            after_BGKV = self.phrases.after(beam.place_BGK)
            barred.append(after_BGKV > o.max_length - t - 1)
        if o.no_repeat_ngram and t >= o.no_repeat_ngram:
            again = _repeats(beam.ids_BGKT[..., :t], o.no_repeat_ngram, self.vocab_size)
            if self.phrases is not None and after_BGKV is not None:  # or a phrase could become impossible
                need_BGK1 = self.phrases.need(beam.place_BGK)[..., None]
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

    # --- the result ---------------------------------------------------------------------------------------------------

    def harvest(self, beam: Beam, size: int, b: int) -> list[Hypothesis]:
        """The n best of row ``b``, whose hypotheses that go on have ``size`` ids: of each group the best, then the second best, …"""
        over_GK = (beam.nats_BGK[b] > -torch.inf) & (
            self.phrases.need(beam.place_BGK[b]) == 0 if self.phrases is not None else True
        )
        ranked: list[tuple[int, bool, float, Hypothesis]] = []
        for g in range(self.shape[1]):
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
