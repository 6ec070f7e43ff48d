"""The table of laws, and functions that apply it to one model type."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chainrule.core import ModelType, UserError, load_file, model_types
from chainrule.core.errors import nearest
from chainrule.laws import engine, labelling, learning, masked, memory, predicting, prompting, reading
from chainrule.laws.subject import SUBJECTS, LawBroken, Subject


class Law(NamedTuple):
    """One row of the table."""

    name: str
    check: Callable[[Any], str | None]
    """Takes a subject with the capabilities; returns a note for the reader, or None; raises LawBroken."""
    needs: tuple[str, ...]
    """Capabilities of the models that it applies to."""


@dataclass(frozen=True)
class Verdict:
    """The result of one law on one model type."""

    law: str
    ok: bool
    detail: str
    seconds: float


BUILT = "the model can be built"
"""The only law of a model that cannot be built."""

LAWS: tuple[Law, ...] = (
    Law("sizes", learning.sizes, ("a model",)),
    Law("deterministic", learning.deterministic, ("asked",)),
    Law("saved = loaded", learning.saved, ("asked",)),
    Law("start() = reading the start token", reading.start_is_reading_start, ("autoregressive",)),
    Law("all at once = one at a time", reading.one_at_a_time, ("autoregressive",)),
    Law("all at once = in chunks", reading.in_chunks, ("autoregressive",)),
    Law("padded batches = rows alone", reading.ragged, ("autoregressive",)),
    Law("padded records = records alone", reading.ragged_from_nothing, ("autoregressive",)),
    Law("packed records = separate records", reading.start_forgets, ("autoregressive",)),
    Law("rows are independent", reading.rows_are_independent, ("autoregressive",)),
    Law("beyond the trained window", reading.beyond_the_window, ("autoregressive",)),
    Law("context is exact", reading.context_is_exact, ("finite context",)),
    Law("p sums to 1", predicting.sums_to_one, ("discrete",)),
    Law("p of all strings sums to 1", predicting.all_strings, ("discrete",)),
    Law("the future is not seen", predicting.causality, ("autoregressive",)),
    Law("the future gets no gradient", predicting.causality_of_gradients, ("differentiable inputs",)),
    Law("draws follow p", predicting.sampling, ("discrete",)),
    Law("state: reorder", memory.reorder, ("autoregressive",)),
    Law("state: concat", memory.concat, ("autoregressive",)),
    Law("state: where", memory.where, ("autoregressive",)),
    Law("state: clone", memory.clone, ("autoregressive",)),
    Law("state: rewind", memory.rewind, ("autoregressive",)),
    Law("state: length and bytes", memory.counted, ("autoregressive",)),
    Law("generated alone = among others", engine.alone_as_among_others, ("autoregressive",)),
    Law("generated beside cancelled = alone", engine.cancelled_leave_no_trace, ("autoregressive",)),
    Law("generated in turns = alone", engine.turns_are_alone, ("autoregressive",)),
    Law("prompts in chunks = at once", engine.chunks_are_whole, ("autoregressive",)),
    Law("kept = read again", engine.kept_is_read, ("autoregressive",)),
    Law("generated as a stream = in a batch", engine.stream_is_batch, ("autoregressive",)),
    Law("the first token comes after one step", engine.first_token_after_one_step, ("autoregressive",)),
    Law("generated sequences follow p", engine.draws_follow_p, ("discrete",)),
    Law("every parameter learns", learning.every_parameter_learns, ("learning",)),
    Law("gradients pass through the state", learning.gradients_pass_through_state, ("gradient",)),
    Law("1 x 8 rows = 8 x 1 rows", learning.accumulation, ("learning",)),
    Law("recorded = not recorded", learning.recorded, ("probes",)),
    Law("a source in a padded batch = a source alone", prompting.sources_alone, ("takes_prompt",)),
    Law("predictions depend on the source", prompting.the_source_is_used, ("takes_prompt",)),
    Law("a start token keeps the source", prompting.the_start_keeps_the_source, ("takes_prompt",)),
    Law("a padded row = a row alone", masked.padded, ("masked_lm",)),
    Law("padding is ignored", masked.padding_is_ignored, ("masked_lm",)),
    Law("whole rows are independent", masked.rows_are_independent, ("masked_lm",)),
    Law("both sides are seen", masked.both_sides_are_seen, ("masked_lm",)),
    Law("p of masked tokens sums to 1", masked.sums_to_one, ("masked_lm",)),
    Law("statistics add up", learning.statistics_add_up, ("counting",)),
    Law("counting is deterministic", learning.counting_is_deterministic, ("counting",)),
    Law("labels: a row alone = in a ragged batch", labelling.rows_alone, ("labelling",)),
    Law("labels: given labels are not read", labelling.labels_are_not_read, ("labelling",)),
    Law("labels: unseen, short and empty rows", labelling.strange_rows, ("labelling",)),
    Law("labels: long rows", labelling.long_rows, ("labelling",)),
    Law("one tag per token, of the label set", labelling.one_tag_a_token, ("tagger",)),
    Law("p of the tags is a probability", labelling.tags_are_probable, ("tagger",)),
    Law("codes: an image alone = among others", labelling.coded_alone, ("codec",)),
    Law("p of the labels sums to 1", labelling.labels_sum_to_one, ("classifier",)),
)


def applying(subject: Subject) -> list[Law]:
    """Return the laws that ask for no capability which the subject lacks.

    Args:
        subject: the model type under test.
    """
    return [law for law in LAWS if subject.capabilities.issuperset(law.needs)]


def apply(subject: Subject, law: Law) -> Verdict:
    """Return the verdict of one law; an exception of the model breaks the law and is reported.

    Args:
        subject: the model type under test.
        law: the law.

    Raises:
        ValueError: the law does not apply to this subject.
    """
    if missing := sorted(set(law.needs) - subject.capabilities):
        raise ValueError(f"'{law.name}' does not apply to {subject.model_type.name}: not {missing[0]}")
    return _verdict(law.name, lambda: law.check(subject))


def _verdict(name: str, check: Callable[[], object]) -> Verdict:
    began = time.perf_counter()
    try:
        note, ok = check() or "", True
    except LawBroken as broken:
        note, ok = str(broken), False
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        note, ok = f"{type(error).__name__}: {first_line}", False
    return Verdict(name, ok, str(note), time.perf_counter() - began)


def examine(subject: Subject) -> list[Verdict]:
    """Return the verdicts of all laws that apply to a subject; a single one where its model cannot be built.

    Args:
        subject: the model type under test.
    """
    built = _verdict(BUILT, lambda: (subject.build(), "")[1])
    return [apply(subject, law) for law in applying(subject)] if built.ok else [built]


def check(model_type: ModelType, *, seed: int = 0) -> list[Verdict]:
    """Test the laws that apply to a model type on its ``tiny`` preset, in float64 on the CPU: a few seconds.

    Args:
        model_type: the model type.
        seed: of the random weights and inputs.

    Returns:
        A verdict for each law.

    Raises:
        UserError: the task of the model type has no laws.
    """
    subject = SUBJECTS.find(model_type.task)
    if subject is None:
        raise UserError(
            f"{model_type.name}: the task {model_type.task} has no laws (register_subject registers its subject)"
        )
    return examine(subject(model_type, seed))


def named(name: str) -> list[ModelType]:
    """Return the model types of this name, of this task or in this plugin, for every task that has laws.

    Args:
        name: a model type, a task, or the path of a plugin.

    Raises:
        UserError: there is none.
    """
    if name.endswith(".py") or "/" in name:
        found = load_file(Path(name), None)
        if not found:
            raise UserError(f"{name}: registers no model type (decorate the model with @register(name, …))")
        return [f for f in found if SUBJECTS.find(f.task)]
    known = [f for task in SUBJECTS.all() for f in model_types(task)]
    found = [f for f in known if name in (f.name, f.task)]
    if not found:
        names = {f.name for f in known}
        raise UserError(f"unknown model type or task '{name}': {nearest(name, names | {f.task for f in known})}")
    return found


def report(verdicts: list[Verdict]) -> str:
    """Return a plain-text table: law, verdict, milliseconds, detail; the last line is the sum.

    Args:
        verdicts: verdicts of one subject.

    >>> print(report([Verdict("sizes", True, "41 parameters", 0.002)]).splitlines()[0])
    sizes  ok           2 ms  41 parameters
    """
    width = max((len(v.law) for v in verdicts), default=0)
    words = {True: "ok", False: "BROKEN"}
    lines = [f"{v.law:<{width}}  {words[v.ok]:<6}  {1000 * v.seconds:>6.0f} ms  {v.detail}".rstrip() for v in verdicts]
    if [v.law for v in verdicts] == [BUILT]:
        return "\n".join([*lines, "no law was tried"])
    kept = sum(v.ok for v in verdicts)
    others, seconds = len(LAWS) - len(verdicts), sum(v.seconds for v in verdicts)
    lines.append(f"{kept} laws kept, {len(verdicts) - kept} broken, {others} do not apply, {seconds:.1f} s")
    return "\n".join(lines)
