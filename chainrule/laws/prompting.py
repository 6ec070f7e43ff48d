"""Laws of models that are prompted with a source: it is remembered, its pads are not, and no row knows another's."""

from __future__ import annotations

import torch

from chainrule.laws.subject import LawBroken, Sourced, Subject, same


def sources_alone(subject: Subject) -> None:
    """A source in a ragged batch, with any pads, is remembered as it is alone."""
    assert isinstance(subject, Sourced)
    rows, numbers = subject.rows(6, 5, salt=70), range(6)
    sources_BS, lengths_B = subject.sources(numbers, padding=2)
    other_BS = torch.where(
        torch.arange(sources_BS.shape[1]) < lengths_B[:, None], sources_BS, subject.other(sources_BS)
    )
    tables = {}
    with torch.no_grad():
        for name, ids_BS in (("as they are", sources_BS), ("with other pads", other_BS)):
            _, state = subject.model.start(ids_BS, lengths_B, batch=6)
            tables[name] = subject.read(rows, state)[0]
        same(tables["with other pads"], tables["as they are"], "sources with other pads")
        for b in numbers:
            alone_1S = sources_BS[b : b + 1, : lengths_B[b]]
            _, state = subject.model.start(alone_1S, batch=1)
            same(subject.read(rows[b : b + 1], state)[0], tables["as they are"][b : b + 1], f"source {b} alone")


def the_source_is_remembered(subject: Subject) -> None:
    """Another source, another prediction: after the start symbol, after more symbols, and when a record begins anew."""
    assert isinstance(subject, Sourced)
    rows = torch.cat([subject.rows(1, 4, salt=71), subject.start_rows(1), subject.rows(1, 2, salt=72)], 1)
    with torch.no_grad():
        tables = [subject.read(rows, subject.started(row))[0] for row in (0, 1)]
    gap_T = (tables[0] - tables[1]).abs().amax((0, 2))
    if bool((gap_T < 1e-7).any()):
        raise LawBroken(f"two sources, one prediction after {int((gap_T < 1e-7).nonzero()[0])} symbols")


def the_start_keeps_the_source(subject: Subject) -> None:
    """A start symbol forgets what was read of the target, and not the source."""
    rows, again = subject.rows(3, 5, salt=73), subject.rows(3, 4, salt=74)
    with torch.no_grad():
        _, state = subject.read(rows, subject.started(0, 1, 2))
        anew, _ = subject.read(torch.cat([subject.start_rows(3), again], 1), state)
        first, _ = subject.read(again, subject.started(0, 1, 2))
    same(anew[:, 1:], first, "a record that begins after another")
