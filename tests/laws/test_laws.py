"""The law suite over the registry: every family, every law. A new file in ``chainrule.models`` is tested by this."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chainrule.core import Family, families, load_file, registry
from chainrule.laws import LAWS, SUBJECTS, Subject, Verdict, apply, check, report

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_model.py"

# Settings beyond the presets that take other paths through a family's code.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "ngram": [{"smoothing": "add_k"}, {"smoothing": "witten_bell"}, {"n": 1}],
    "ar (series)": [{"order": None, "longest": 5}, {"method": "yule_walker"}, {"order": 0}],
    "hmm (tag)": [{"decode": "viterbi"}, {"states": "tags", "smoothing": "deleted_interpolation", "n": 2}],
    "ngram (classify)": [{"units": "letter+word", "n": None}, {"smoothing": "witten_bell", "positional": True}],
    "lstm (tag)": [{"directions": "forward"}, {"spelling": 0}],
    "gru (classify)": [{"directions": "forward", "layers": 1}],
    "transformer (tag)": [{"directions": "forward"}, {"positions": "alibi"}, {"positions": "learned"}],
    "transformer (classify)": [{"directions": "forward"}, {"positions": "relative"}, {"positions": "none"}],
    "lstm (series)": [{"skip": "dense"}],
    "hmm": [{"topology": "left_right", "band": 2}, {"topology": "banded", "smoothing": 0}],
    "rnn": [{"skip": "residual", "layers": 2, "embedding": 16}],
    "bert (fill)": [{"positions": name} for name in ("none", "learned", "sinusoidal", "alibi", "relative")]
    + [{"norm": "post", "bias": True, "activation": "gelu", "next_sentence": True}, {"tied": False, "groups": 1}],
    "gpt": [{"positions": name} for name in ("none", "learned", "sinusoidal", "alibi")]
    + [{"tied": True, "norm": "post", "bias": True}, {"groups": 1, "qk_norm": False}, {"context": 7}],
}


@cache
def stranger() -> Family:
    """The example, taken out of the registry again: other tests count what is built in."""
    (family,) = load_file(EXAMPLE)
    del registry._families[family.name, family.task]
    return family


@cache
def subjects() -> dict[str, Subject]:
    rows = {f.name: Subject(f) for f in (stranger(), *families())}
    rows |= {f"{f.name} ({t})": kind(f) for t, kind in SUBJECTS.items() if t != "generate" for f in families(t)}
    for name, settings in ((n, s) for n, variants in VARIANTS.items() for s in variants if n in rows):
        label = ",".join(f"{k}={v}" for k, v in settings.items())
        rows[f"{name}:{label}"] = type(rows[name])(rows[name].family, settings=settings)
    return rows


@pytest.mark.parametrize("law", LAWS, ids=[name.replace(" ", "_") for name, _, _ in LAWS])
@pytest.mark.parametrize("name", list(subjects()))
def test_family_keeps_law(name: str, law: tuple) -> None:
    verdict = apply(subjects()[name], *law)
    if verdict.skipped:
        pytest.skip(verdict.detail)
    assert verdict.ok, verdict.detail


def test_strangers_file_is_short_and_imports_only_core_and_torch() -> None:
    lines = EXAMPLE.read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    allowed = ("from __future__", "from dataclasses", "import torch", "from torch", "from chainrule.core import")
    assert len(lines) <= 80
    assert [line for line in imports if not line.startswith(allowed)] == []


def test_check_grades_a_strangers_file_within_seconds() -> None:
    began = time.thread_time()  # of this thread's processor, so that a busy machine does not decide
    verdicts = check(stranger())
    assert time.thread_time() - began < 5
    assert len(verdicts) == len(LAWS)
    assert [v for v in verdicts if not v.ok] == []


def test_report_has_a_line_for_each_law_and_a_sum() -> None:
    verdicts = [
        Verdict("rows are independent", False, "row 2 differs", 0.25),
        Verdict("p sums to 1", True, "", 0.5),
        Verdict("statistics add up", True, "not counting", 0.0, skipped=True),
    ]
    assert report(verdicts).splitlines() == [
        "rows are independent  BROKEN     250 ms  row 2 differs",
        "p sums to 1           ok         500 ms",
        "statistics add up     -            0 ms  not counting",
        "1 laws kept, 1 broken, 1 do not apply, 0.8 s",
    ]
