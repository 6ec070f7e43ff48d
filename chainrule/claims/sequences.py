"""Why sequences are hard: lengths differ, parts are trimmed, left out and exchanged."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Said, Table, say
from chainrule.claims.held_out import held_out, tokens
from chainrule.claims.runs import MissingRun, Runs, one_of_each
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.stress import LEAST, Changed, Stress, stress
from chainrule.explanation.views import Asked

COMMAND = "chainrule train examples/data/macbeth.txt --model gru --budget 60s --out runs/gru"
TOKENS = 128
"""Tokens of the text that is changed."""
ROUNDING = 1e-9
"""Changes of a token's nats, in float64, that rounding explains."""
WORST = {"trim": 0.75, "omit": 0.25, "permute": None}
"""The largest change of each kind; None: the only one."""


@claim(9)
def sequences(runs: Runs) -> Finding:
    """Change a text in every way, and compare the cost of its tokens."""
    examined = one_of_each(runs.of())
    if not examined:
        raise MissingRun("gru / lstm / gpt", COMMAND)
    read = [held_out(run, TOKENS) for run in examined]
    found = {runs.named(run): _stressed(given) for run, given in zip(examined, read) if len(given) >= LEAST}
    if not found:
        raise MissingRun("gru / lstm / gpt", COMMAND)
    costly = {kind: [name for name, one in found.items() if _worst(one, kind).interval[0] > 0] for kind in WORST}
    exact = max(max(one.padding, one.batching) for one in found.values()) < ROUNDING
    run, source = examined[0], tokens(examined[0], "test", 1).told
    told = [say("read", tokens=len(read[0]), source=source), *(_costs(found, costly, kind) for kind in WORST)]
    told += [_bag(found), _exact(found, exact)]
    holds = "yes" if all(len(names) == len(found) for names in costly.values()) else "partly"
    holds = holds if exact and any(costly.values()) else "no"
    look = {"run": [runs.named(run)], "text": "".join(read[0].texts), "view": ["stress"]}
    return Finding(holds, told, _figures(found), look)


def _stressed(given: ModelInput) -> Stress:
    return stress(given, Asked(at=0, top_k=1, layer=None, head=None, begin=0, end=len(given)))


def _of_kind(one: Stress, kind: str) -> list[Changed]:
    return [changed for changed in one.changes if changed.kind == kind]


def _worst(one: Stress, kind: str) -> Changed:
    return _of_kind(one, kind)[-1]


# ------------------------------------------------------------------------------------------------------- the sentences


def _costs(found: Mapping[str, Stress], costly: Mapping[str, list[str]], kind: str) -> Said:
    """The cost of the largest change of a kind, least and most, and whether it costs every run something."""
    changes = {name: _worst(one, kind).change for name, one in found.items()}
    few, many = min(changes, key=changes.__getitem__), max(changes, key=changes.__getitem__)
    told = "costs_all" if len(costly[kind]) == len(found) else "costs_some" if costly[kind] else "costs_none"
    values = {"least": changes[few], "few": few, "most": changes[many], "many": many, "of": len(found)}
    return say(told, what=say(f"all_{kind}"), some=len(costly[kind]), **values)


def _bag(found: Mapping[str, Stress]) -> Said:
    permuted = [abs(_worst(one, "permute").bag) for one in found.values()]
    return say("bag_same", change=max(permuted), omit=_worst(next(iter(found.values())), "omit").bag)


def _exact(found: Mapping[str, Stress], exact: bool) -> Said:
    padding, batching = (max(getattr(one, name) for one in found.values()) for name in ("padding", "batching"))
    return say("exact" if exact else "not_exact", padding=f"{padding:.3g}", batching=f"{batching:.3g}")


# --------------------------------------------------------------------------------------------------------- the figures


def _figures(found: Mapping[str, Stress]) -> list[Chart | Table]:
    omitted, permuted = ("omit",), ("permute_nearby", "permute")
    return [
        _chart(found, omitted, "omitted"), _table(found, omitted, "omitted_table"),
        _chart(found, permuted, "permuted"), _table(found, permuted, "permuted_table"),
        _table(found, ("trim", "lengthen"), "others"), _invariant(found),
    ]  # fmt: skip


def _chart(found: Mapping[str, Stress], kinds: tuple[str, ...], title: str) -> Chart:
    """The change of the cost by the amount of a change, with none at the least amount."""
    amounts = {name: [c for c in one.changes if c.kind in kinds] for name, one in found.items()}
    first = next(iter(amounts.values()))
    none = 0.0 if kinds == ("omit",) else 1.0
    lines = [(name, [0.0, *(c.change for c in some)]) for name, some in amounts.items()]
    bag = (say("bag"), [0.0, *(c.bag for c in first)])
    x = [none, *(float(c.amount) for c in first)]
    return Chart(say(title), x, [*lines, bag], say(f"{title}_x"), say("change"), "" if not none else "x")


def _table(found: Mapping[str, Stress], kinds: tuple[str, ...], title: str) -> Table:
    """The changes of the cost with their intervals; those of the control are no sample."""
    amounts = {name: [c for c in one.changes if c.kind in kinds] for name, one in found.items()}
    first = next(iter(amounts.values()))
    heads = [say(c.kind, percent=round(100 * c.amount), times=round(c.amount)) for c in first]
    rows = [[name, *map(_with_interval, some)] for name, some in amounts.items()]
    return Table(say(title), [say("run"), *heads], [*rows, [say("bag"), *(f"{c.bag:+.3g}" for c in first)]])


def _with_interval(one: Changed) -> str:
    low, high = one.interval
    return f"{one.change:+.3g} ({low:+.3g}\u00a0…\u00a0{high:+.3g})"  # no-break spaces


def _invariant(found: Mapping[str, Stress]) -> Table:
    rows = [[name, one.padding, one.batching] for name, one in found.items()]
    return Table(say("invariant"), [say("run"), say("padding"), say("batching")], rows)
