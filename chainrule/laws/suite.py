"""The table of laws, and what runs it on one family."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chainrule.core import Family, UserError, families, load_file
from chainrule.core.errors import nearest
from chainrule.laws import filling, labelling, learning, memory, predicting, prompting, reading
from chainrule.laws.subject import SUBJECTS, LawBroken, Subject

Law = Callable[[Subject], str | None]
"""Returns a note for the reader, or None; raises LawBroken."""


@dataclass(frozen=True)
class Verdict:
    """What one law says of one family. A law asking for a capability that is lacking is skipped, and counts as ok."""

    law: str
    ok: bool
    detail: str
    seconds: float
    skipped: bool = False


LAWS: tuple[tuple[str, Law, tuple[str, ...]], ...] = (
    ("sizes", learning.sizes, ("a model",)),
    ("deterministic", learning.deterministic, ("asked",)),
    ("saved = loaded", learning.saved, ("asked",)),
    ("start() reads the start symbol", reading.start_is_reading_start, ("autoregressive",)),
    ("all at once = one at a time", reading.one_at_a_time, ("autoregressive",)),
    ("all at once = in chunks", reading.in_chunks, ("autoregressive",)),
    ("padded batches = rows alone", reading.ragged, ("autoregressive",)),
    ("padded records = records alone", reading.ragged_from_nothing, ("autoregressive",)),
    ("packed records = separate records", reading.start_forgets, ("autoregressive",)),
    ("rows are independent", reading.rows_are_independent, ("autoregressive",)),
    ("beyond the trained window", reading.beyond_the_window, ("autoregressive",)),
    ("context is true", reading.context_is_true, ("autoregressive", "counting")),
    ("p sums to 1", predicting.sums_to_one, ("discrete",)),
    ("p of all strings sums to 1", predicting.all_strings, ("discrete",)),
    ("the future is not seen", predicting.causality, ("autoregressive",)),
    ("the future sends no gradient", predicting.causality_of_gradients, ("gradient",)),
    ("draws follow p", predicting.sampling, ("discrete",)),
    ("state: reorder", memory.reorder, ("autoregressive",)),
    ("state: concat", memory.concat, ("autoregressive",)),
    ("state: where", memory.where, ("autoregressive",)),
    ("state: clone", memory.clone, ("autoregressive",)),
    ("state: rewind", memory.rewind, ("autoregressive",)),
    ("state: length and bytes", memory.counted, ("autoregressive",)),
    ("every parameter learns", learning.every_parameter_learns, ("learning",)),
    ("gradients pass through the state", learning.gradients_pass_through_state, ("gradient",)),
    ("1 x 8 rows = 8 x 1 rows", learning.accumulation, ("learning",)),
    ("looked at = not looked at", learning.looked_at, ("probes",)),
    ("a source in a padded batch = a source alone", prompting.sources_alone, ("prompted",)),
    ("the source is remembered", prompting.the_source_is_remembered, ("prompted",)),
    ("a start symbol keeps the source", prompting.the_start_keeps_the_source, ("prompted",)),
    ("a padded row = a row alone", filling.padded, ("filler",)),
    ("pads say nothing", filling.pads_say_nothing, ("filler",)),
    ("whole rows are independent", filling.rows_are_independent, ("filler",)),
    ("both sides are seen", filling.both_sides_are_seen, ("filler",)),
    ("p of what is hidden sums to 1", filling.sums_to_one, ("filler",)),
    ("statistics add up", learning.statistics_add_up, ("counting",)),
    ("counting is deterministic", learning.counting_is_deterministic, ("counting",)),
    ("labels: a row alone = in a ragged batch", labelling.rows_alone, ("labelling",)),
    ("labels: those given are not read", labelling.labels_are_not_read, ("labelling",)),
    ("labels: unseen, short and empty rows", labelling.strange_rows, ("labelling",)),
    ("labels: long rows", labelling.long_rows, ("labelling",)),
    ("one tag a token, of the set", labelling.one_tag_a_token, ("tagger",)),
    ("p of the tags is a probability", labelling.tags_are_probable, ("tagger",)),
    ("codes: a picture alone = among others", labelling.coded_alone, ("codec",)),
    ("p of the labels sums to 1", labelling.labels_sum_to_one, ("classifier",)),
)
"""Name, function, and the capabilities that the law asks for."""


def apply(subject: Subject, name: str, law: Law, needs: tuple[str, ...]) -> Verdict:
    """One verdict. What a model raises inside a law is the law broken too: it is reported, never passed on."""
    began = time.perf_counter()
    try:
        missing = [need for need in needs if need not in subject.capabilities]
        if missing:
            return Verdict(name, True, f"not {missing[0]}", time.perf_counter() - began, skipped=True)
        note, ok = law(subject) or "", True
    except LawBroken as broken:
        note, ok = str(broken), False
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        note, ok = f"{type(error).__name__}: {first_line}", False
    return Verdict(name, ok, note, time.perf_counter() - began)


def examine(subject: Subject) -> list[Verdict]:
    """All laws on one subject."""
    return [apply(subject, name, law, needs) for name, law, needs in LAWS]


def check(family: Family, *, seed: int = 0) -> list[Verdict]:
    """All laws on the ``tiny`` preset of a family, in float64 on the CPU: a few seconds."""
    return examine(SUBJECTS[family.task](family, seed))


def named(name: str) -> list[Family]:
    """The families of this name, or in this file, for every task that has laws."""
    found: list[Family] = []
    refusal: UserError | None = None
    for task in SUBJECTS:
        try:
            found += (
                load_file(Path(name), task) if name.endswith(".py") else [f for f in families(task) if f.name == name]
            )
        except UserError as error:
            refusal = refusal or error
    if not found:
        known = {f.name for t in SUBJECTS for f in families(t)}
        raise refusal or UserError(f"unknown model '{name}': {nearest(name, known)}")
    return found


def report(verdicts: list[Verdict]) -> str:
    """A plain-text table: law, verdict, milliseconds, detail; the last line is the sum."""
    width = max((len(v.law) for v in verdicts), default=0)
    words = {True: "ok", False: "BROKEN"}
    lines = [
        f"{v.law:<{width}}  {'-' if v.skipped else words[v.ok]:<6}  {1000 * v.seconds:>6.0f} ms  {v.detail}".rstrip()
        for v in verdicts
    ]
    broken = sum(not v.ok for v in verdicts)
    skipped = sum(v.skipped for v in verdicts)
    kept = len(verdicts) - broken - skipped
    lines.append(f"{kept} laws kept, {broken} broken, {skipped} do not apply, {sum(v.seconds for v in verdicts):.1f} s")
    return "\n".join(lines)
