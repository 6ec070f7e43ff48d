"""A trace as lines of text, for people at a terminal: each view in short; ``--json`` has all of its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from chainrule.core.plural import plural

MOST = 5
"""Tokens that are named of a list over all of them."""
Trace = dict[str, Any]
Lines = Callable[[Trace, dict[str, Any]], Iterable[str]]
_WAYS: dict[str, Lines] = {}


def printed(trace: Trace) -> Iterator[str]:
    """Yield the lines of a trace: each view under a heading, those of the text before those of one prediction.

    Args:
        trace: the trace, as JSON.
    """
    for name, way in _WAYS.items():
        if name in trace:
            yield from way(trace, trace[name])


def ways() -> list[str]:
    """Return the names of the views that can be printed."""
    return [*_WAYS]


def _prints(way: Lines) -> Lines:
    """Register the lines of the view of the function's name."""
    _WAYS[way.__name__] = way
    return way


# ---------------------------------------------------------------------------------------------------- all of the tokens


@_prints
def surprise(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The cost of each token, its rank, and what was expected."""
    yield "surprise: -log p of each token in nats, its rank, and the most probable tokens with their p"
    for place, one in _along(view, view["tokens"]):
        nats = "  never" if one["nats"] is None else f"{one['nats']:7.3f}"
        best = _list((_named(other["text"]), other["p"]) for other in one["best"][:3])
        mark = "  < --at" if place == trace["at"] else ""
        yield f"{_row(trace, place)} {nats} nats  rank {one['rank']:<6} {best}{mark}"
    yield from _sum(trace, view)


def _sum(trace: Trace, view: dict[str, Any]) -> Iterator[str]:
    """The cost of the tokens that are shown: in all, by which runs compare whatever their tokens are, and of each."""
    nats, many = [one["nats"] for one in view["tokens"]], len(trace["tokens"])
    shown = plural(many, "token") if len(nats) == many else f"{len(nats)} of {plural(many, 'token')}"
    if None in nats:
        yield f"  {shown}: {nats.count(None)} can never come"
    else:
        yield f"  {shown}: {sum(nats):.3f} nats in all, {sum(nats) / len(nats):.3f} per token"


@_prints
def gates(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The mean of each gate along the text."""
    layer = f"layer {view['layer']} (of {view['layers']})"
    yield f"gates: means over the {view['size']} units of {layer} when each token is read"
    yield from _table(trace, view, view["means"], zip(*view["means"].values()))
    yield f"  units that vary most: {', '.join(map(str, view['units']))}"


@_prints
def belief(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The most probable hidden states before each token and after it."""
    yield f"belief: the most probable of {view['size']} hidden states before each token is seen, and after it"
    states, hidden = view["states"], view["size"] - len(view["states"])
    if hidden:
        yield f"  of the {len(states)} states with the largest mean; the {hidden} others are one sum"
    for place, both in _along(view, zip(*(_believed(view[kind], states) for kind in ("predicted", "filtered")))):
        yield f"{_row(trace, place)} {'  ->  '.join(both)}"
    for state, best in [*zip(states, view["emits"])][:MOST]:
        yield f"  state {state} emits {_list((_named(one['text']), one['p']) for one in best)}"
    if len(states) > MOST:
        yield f"  and {plural(view['size'] - MOST, 'other state', 'other states')}"


def _believed(beliefs: dict[str, Any], states: Sequence[int]) -> Iterator[str]:
    """The two most probable states at each token, and the sum of those that are not shown."""
    for row, rest in zip(beliefs["p"], beliefs["rest"]):
        others = [("others", rest)] if rest else []
        yield _list(_largest([(f"state {k}", p) for k, p in zip(states, row)], 2) + others)


@_prints
def backoff(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The contexts of each token, with what each contributes to its probability."""
    yield "backoff: tokens of the longest n-gram that was seen, and the share of p that each context contributes"
    for place, one in _along(view, view["tokens"]):
        shares = [(_context(each), each["share"]) for each in one["contexts"] if each["share"]]
        rest = [("any token", one["share"])] if one["share"] else []
        yield f"{_row(trace, place)} order {one['order']:<3} {_list(shares + rest) or 'p is 0'}"


@_prints
def mixture(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The cost of each token under each part, with the part's share."""
    names = [part["run"] or part["model"] for part in view["parts"]]
    yield f"mixture: weights {_list(zip(names, view['weights']))}; -log p of each token under each part (its share)"
    for place, (nats, shares) in _along(view, zip(view["nats"], view["posterior"])):
        told = [
            f"{name} {'never' if cost is None else f'{cost:.3f}'} ({'-' if shares is None else f'{shares[k]:.0%}'})"
            for k, (name, cost) in enumerate(zip(names, nats))
        ]
        yield f"{_row(trace, place)} {'  '.join(told)}"


@_prints
def units(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The units that follow each property."""
    yield "units: correlation with a property of the text (chance: what the best unit reaches by accident)"
    for one in view["trackers"]:
        best = "  ".join(
            f"layer {unit['layer']} {unit['value']} {unit['unit']}: {unit['correlation']:+.3f}" for unit in one["best"]
        )
        yield f"  {one['told']} (chance {one['chance']:.3f})"
        yield f"    {best}"
    if not view["trackers"]:
        yield "  no property varies over so short a text"


@_prints
def memory(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The cost by the number of visible tokens."""
    yield "memory: mean nats per token when only the last k tokens are visible, with 95 % intervals"
    for k, nats, (low, high) in zip(view["visible"], view["nats"], view["interval"]):
        yield f"  k = {k:<6} {nats:.3f}  [{low:.3f}, {high:.3f}]"
    if not view["visible"]:
        yield "  one token has none before it: give a longer text"


@_prints
def stress(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The cost of each change of the text."""
    yield f"stress: {view['nats']:.3f} nats per token; its change with a 95 % interval, and that of a model that counts"
    for one in view["changes"]:
        low, high = one["interval"]
        change = f"{_signed(one['change'])}  [{_signed(low)}, {_signed(high)}]  counts {_signed(one['bag'])}"
        yield f"  {one['kind']:<15} {one['amount']:<5g} {change}"
    yield f"  padding changes a token by at most {view['padding']:.2g} nats, other rows by {view['batching']:.2g}"


@_prints
def labels(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The most probable labels."""
    yield f"labels: {_list((_named(one['label']), one['p']) for one in view['best'])}"


# ------------------------------------------------------------------------------------------------------- one prediction


@_prints
def attention(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The largest weights of each head, and their summaries."""
    yield f"attention of {_token(trace, trace['at'])}: {view['nats']:.3f} nats for {_named(view['answer'])}"
    named = lambda k: _token(trace, view["first"] + k)  # noqa: E731
    yield from _heads(view["layers"], named)
    for name in ("rollout", "relevance"):
        yield f"  {name:<16} {_weights(view[name], named)}"


@_prints
def cross_attention(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The largest weights of each head over the source."""
    yield f"attention of {_token(trace, trace['at'])} to the source"
    named = lambda k: f"{k} {_named(view['source'][k]['text'])}"  # noqa: E731
    yield from _heads(view["layers"], named)
    if view["relevance"]:
        yield f"  {'relevance':<16} {_weights({'weights': view['relevance']}, named)}"


@_prints
def source_attention(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The largest weights of each head of the encoder over the source."""
    named = lambda k: f"{k} {_named(view['source'][k]['text'])}"  # noqa: E731
    yield f"source_attention of {named(view['token'])}, a token of the source, to the others"
    yield from _heads(view["layers"], named)
    yield f"  {'rollout':<16} {_weights({'weights': view['rollout']}, named)}"


@_prints
def attention_cell(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The numbers from which a weight was computed."""
    key = "(start)" if view["key"] is None else _token(trace, view["key"])
    yield f"attention_cell: layer {view['layer']} head {view['head']}, {_token(trace, trace['at'])} to {key}"
    bias = "" if view["bias"] is None else f" + bias {view['bias']:.4g}"
    scored = f"score {view['score']:.4g} x {view['scale']:.4g} = {view['scaled']:.4g}{bias}"
    yield f"  {scored}; softmax: weight {view['weight']:.4g}"
    for name in ("q", "k", "products", "v", "weighted", "mixed", "output"):
        yield f"  {name:<10} {_vector(view[name])}"


@_prints
def reach(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The tokens with the largest gradients."""
    yield f"reach: norm of the gradient of log p of {_token(trace, trace['at'])}, the largest"
    named = [*_places(trace, view, view["norms"]), ("(start)", view["start"])]
    yield f"  {_list(_largest(named, MOST))}"


@_prints
def integrated_gradients(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The tokens with the largest scores, and whether they are complete."""
    yield from _scores("integrated_gradients", trace, view)


@_prints
def occlusion(trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    """The tokens with the largest scores."""
    yield from _scores("occlusion", trace, view)


def _scores(name: str, trace: Trace, view: dict[str, Any]) -> Iterable[str]:
    yield f"{name}: nats of log p of {_token(trace, trace['at'])} by token, the largest; all: {view['total']:.4g}"
    found = sorted(_places(trace, view, view["scores"]), key=lambda one: -abs(one[1]))
    yield f"  {'  '.join(f'{text} {score:+.3g}' for text, score in found[:MOST]) or 'no token comes before it'}"
    yield f"  the scores add up to {sum(view['scores']):.4g}"


# ---------------------------------------------------------------------------------------------------------------- parts


def _along(view: dict[str, Any], entries: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The entries of a stretch with their places."""
    return enumerate(entries, view["begin"])


def _row(trace: Trace, place: int) -> str:
    """Place and text of a token, as a column."""
    return f"{place:>5}  {_named(trace['tokens'][place]['text']):<12}"


def _token(trace: Trace, place: int) -> str:
    return f"{place} {_named(trace['tokens'][place]['text'])}"


def _table(trace: Trace, view: dict[str, Any], names: Iterable[str], rows: Iterable[Sequence[float]]) -> Iterable[str]:
    """A column of numbers for each name."""
    yield f"{'':20}{''.join(f'{name:>13}' for name in names)}"
    for place, row in _along(view, rows):
        yield f"{_row(trace, place)} {''.join(f'{value:>13.3f}' for value in row)}"


def _places(trace: Trace, view: dict[str, Any], numbers: Iterable[float]) -> list[tuple[str, float]]:
    """The numbers of the tokens from the first that was read."""
    return [(_token(trace, place), number) for place, number in enumerate(numbers, view["first"])]


def _heads(layers: list[dict[str, Any]], named: Callable[[int], str]) -> Iterable[str]:
    """A line for each head: what it weighs most."""
    for layer in layers:
        for head in layer["heads"]:
            yield f"  layer {layer['layer']:<2} head {head['head']:<2} {_weights(head, named)}"


def _weights(row: dict[str, Any], named: Callable[[int], str]) -> str:
    """The three largest numbers of a row over tokens."""
    start = [] if row.get("start") is None else [("(start)", row["start"])]
    return _list(_largest([*start, *((named(k), weight) for k, weight in enumerate(row["weights"]))], 3))


def _largest(pairs: Iterable[tuple[str, float]], most: int) -> list[tuple[str, float]]:
    return sorted(pairs, key=lambda one: -one[1])[:most]


def _list(pairs: Iterable[tuple[str, float]]) -> str:
    return "  ".join(f"{text} {number:.3g}" for text, number in pairs)


def _context(each: dict[str, Any]) -> str:
    """A context, beginning with the start of the record where it does."""
    text = _named(each["text"]) if each["text"] else "" if each["start"] else "no context"
    return "(start)" * each["start"] + text


def _signed(number: float) -> str:
    """A difference; one that rounds to 0 has no sign."""
    return f" {0:.3f}" if abs(number) < 5e-4 else f"{number:+.3f}"


def _vector(numbers: Sequence[float]) -> str:
    """The first numbers of a vector."""
    more = f" … ({len(numbers)})" if len(numbers) > MOST else ""
    return " ".join(f"{number:+.4f}" for number in numbers[:MOST]) + more


def _named(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
