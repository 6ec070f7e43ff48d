"""Laws of models with a source: predictions depend on the row's own source, and on nothing of its padding."""

from __future__ import annotations

import torch

from chainrule.laws.subject import LawBroken, Sourced, same


def sources_alone(subject: Sourced) -> None:
    """A source in a padded batch, with any padding, gives the predictions of the source alone."""
    rows, numbers = subject.rows(6, 5, salt=70), range(6)
    sources_BS, lengths_B = subject.sources(numbers, padding=2)
    other_BS = torch.where(
        torch.arange(sources_BS.shape[1]) < lengths_B[:, None], sources_BS, subject.other(sources_BS)
    )
    tables = {}
    with torch.no_grad():
        for name, ids_BS in (("as they are", sources_BS), ("with other padding", other_BS)):
            _, state = subject.model.start(ids_BS, lengths_B, batch=6)
            tables[name] = subject.read(rows, state)[0]
        same(tables["with other padding"], tables["as they are"], "sources with other padding")
        for b in numbers:
            alone_1S = sources_BS[b : b + 1, : lengths_B[b]]
            _, state = subject.model.start(alone_1S, batch=1)
            same(subject.read(rows[b : b + 1], state)[0], tables["as they are"][b : b + 1], f"source {b} alone")


def the_source_is_used(subject: Sourced) -> None:
    """Another source changes every prediction: after the start token, after more tokens, and in a second record."""
    rows = torch.cat([subject.rows(1, 4, salt=71), subject.start_rows(1), subject.rows(1, 2, salt=72)], 1)
    with torch.no_grad():
        tables = [subject.read(rows, subject.started(row))[0] for row in (0, 1)]
    gap_T = (tables[0] - tables[1]).abs().amax((0, 2))
    if bool((gap_T < 1e-7).any()):
        raise LawBroken(f"two sources give one prediction after {int((gap_T < 1e-7).nonzero()[0])} tokens")


def the_start_keeps_the_source(subject: Sourced) -> None:
    """A start token resets the target, not the source."""
    rows, again = subject.rows(3, 5, salt=73), subject.rows(3, 4, salt=74)
    with torch.no_grad():
        _, state = subject.read(rows, subject.started(0, 1, 2))
        anew, _ = subject.read(torch.cat([subject.start_rows(3), again], 1), state)
        first, _ = subject.read(again, subject.started(0, 1, 2))
    same(anew[:, 1:], first, "a second record")
