"""The laws over the registry: every model type and every law, a new file in ``chainrule.models`` included."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from verdicts import applications, law_named

from chainrule.cli import main
from chainrule.core import Batch, Config, Counting, ModelType, Recipe, SequenceModel, load_file, model_types, registry
from chainrule.laws import LAWS, SUBJECTS, Law, Subject, Verdict, apply, applying, check, report

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_model.py"

# Settings beyond the presets that take other paths through a model type's code.
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
def stranger() -> ModelType:
    """The example, taken out of the registry again: other tests count what is built in."""
    (model_type,) = load_file(EXAMPLE)
    del registry._model_types[model_type.name, model_type.task]
    return model_type


@cache
def subjects() -> dict[str, Subject]:
    rows = {f.name: Subject(f) for f in (stranger(), *model_types())}
    rows |= {
        f"{f.name} ({t})": kind(f) for t, kind in SUBJECTS.all().items() if t != "generate" for f in model_types(t)
    }
    for name, settings in ((n, s) for n, variants in VARIANTS.items() for s in variants if n in rows):
        label = ",".join(f"{k}={v}" for k, v in settings.items())
        rows[f"{name}:{label}"] = type(rows[name])(rows[name].model_type, settings=settings)
    return rows


@pytest.mark.parametrize("name", list(subjects()))
def test_model_can_be_built(name: str) -> None:
    subjects()[name].build()


@pytest.mark.parametrize(("name", "law"), applications(subjects()))
def test_model_type_keeps_law(name: str, law: Law) -> None:
    verdict = apply(subjects()[name], law)
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
    assert len(verdicts) == 33
    assert [v for v in verdicts if not v.ok] == []


def test_report_has_a_line_for_each_law_that_applies_and_a_sum() -> None:
    verdicts = [
        Verdict("rows are independent", False, "row 2 differs", 0.25),
        Verdict("p sums to 1", True, "", 0.5),
    ]
    assert report(verdicts).splitlines() == [
        "rows are independent  BROKEN     250 ms  row 2 differs",
        "p sums to 1           ok         500 ms",
        f"1 laws kept, 1 broken, {len(LAWS) - 2} do not apply, 0.8 s",
    ]


# ------------------------------------------------------------------------------------------------ which laws apply

LAWS_ASKING = {
    "a model": 1, "asked": 2, "autoregressive": 17, "discrete": 4, "finite context": 1, "gradient": 1, "learning": 2,
    "differentiable inputs": 1, "probes": 1, "takes_prompt": 3, "masked_lm": 5, "counting": 2, "labelling": 4,
    "tagger": 2, "classifier": 1, "codec": 1,
}  # fmt: skip
"""The fewest laws that ask for each capability."""
TABLE, NETWORK = {"autoregressive", "counting", "finite context"}, {"autoregressive", "learning", "gradient", "probes"}
RECURRENT, TAGGER = NETWORK | {"differentiable inputs"}, {"labelling", "tagger"}
CLASSIFIER = {"labelling", "classifier"}
CAPABILITIES: dict[str, dict[str, set[str]]] = {
    "generate": {"markov ngram": TABLE | {"discrete"}, "rnn lstm gru gpt": RECURRENT | {"discrete"},
                 "window fading": RECURRENT - {"probes"} | {"discrete"}, "hmm": NETWORK | {"discrete", "counting"}},
    "series": {"ar": TABLE, "kalman": {"autoregressive", "counting"}, "rnn lstm gru": RECURRENT,
               "hmm": RECURRENT | {"counting"}},
    "tag": {"hmm": TAGGER | {"counting"}, "rnn lstm gru transformer bert": TAGGER | {"probes"}},
    "classify": {"bag ngram": CLASSIFIER | {"counting"}, "rnn lstm gru transformer bert": CLASSIFIER | {"probes"}},
    "classify-images": {"knn": CLASSIFIER | {"counting"}, "logistic mlp cnn": CLASSIFIER,
                        "rnn lstm gru vit": CLASSIFIER | {"probes"}},
    "codes": {"vq": {"codec", "probes"}},
    "draw": {"dalle lstm gru": RECURRENT | {"discrete"}},
    "translate": {"rnn lstm gru transformer": RECURRENT | {"discrete", "takes_prompt"}},
    "fill": {"bert": {"masked_lm", "learning", "probes"}},
}  # fmt: skip
"""The least capabilities of the model types of each task; each of them is a model and can be asked."""


def test_every_capability_is_asked_for_by_as_many_laws_as_ever() -> None:
    asking = Counter(need for law in LAWS for need in law.needs)
    assert {need: n for need, n in LAWS_ASKING.items() if asking[need] < n} == {}
    assert set(asking) == set(LAWS_ASKING)
    assert all(len(law.needs) == 1 for law in LAWS)


@pytest.mark.parametrize("task", SUBJECTS.all())
def test_every_model_type_is_asked_all_that_its_capabilities_call_for(task: str) -> None:
    expected = {
        name: found | {"a model", "asked"} for names, found in CAPABILITIES[task].items() for name in names.split()
    }
    made = {f.name: SUBJECTS.all()[task](f) for f in (*model_types(task), stranger()) if f.task == task}
    assert {name: expected[name] - made[name].capabilities for name in expected} == {name: set() for name in expected}
    assert set(made) == set(expected), "a new model type: say what it can do"
    for name, subject in made.items():
        assert len(applying(subject)) >= sum(LAWS_ASKING[need] for need in expected[name])


def test_every_law_applies_to_a_built_in_model_type() -> None:
    applied = {law.name for name, subject in subjects().items() if name != "fading" for law in applying(subject)}
    assert applied == {law.name for law in LAWS}


def test_a_law_that_does_not_apply_is_not_tried() -> None:
    law = law_named("one tag per token, of the label set")
    assert law not in applying(subjects()["fading"])
    with pytest.raises(ValueError, match="'one tag per token, of the label set' does not apply to fading: not tagger"):
        apply(subjects()["fading"], law)


class Unbuildable(SequenceModel):
    def __init__(self, config: Config):
        raise RuntimeError("no memory for 3 layers\nsecond line")


class Unfittable(SequenceModel, Counting):
    def summarize(self, batch: Batch) -> Any:
        raise ValueError("counts nothing")

    def update(self, stats: Any, rate: float = 1.0) -> Any:
        return self


class OneSize(Config):
    vocab_size: int = 3
    presets = {"tiny": {}}


class NoTinySize(Config):
    presets = {"small": {}}


@pytest.mark.parametrize(
    ("config", "model", "why"),
    [
        (OneSize, Unbuildable, "RuntimeError: no memory for 3 layers"),
        (OneSize, Unfittable, "ValueError: counts nothing"),
        (NoTinySize, Unbuildable, "ConfigError: unknown preset 'tiny'"),
    ],
)
def test_a_model_that_cannot_be_built_is_one_message(
    config: type[Config], model: type[SequenceModel], why: str
) -> None:
    (verdict,) = check(ModelType("broken", "generate", config, model, Recipe()))
    assert not verdict.ok
    assert verdict.detail.startswith(why) and "second line" not in verdict.detail
    told = report([verdict]).splitlines()
    assert len(told) == 2
    assert told[0].startswith("the model can be built  BROKEN") and told[1] == "no law was tried"


def test_laws_of_a_file_whose_model_cannot_be_built_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from chainrule.core import Config, Recipe, SequenceModel, register\n"
        "class MineConfig(Config):\n    vocab_size: int = 2\n    presets = {'tiny': {}}\n"
        "@register('mine', config=MineConfig, recipe=Recipe())\n"
        "class Mine(SequenceModel):\n    def __init__(self, config):\n        raise KeyError('width')\n"
    )
    assert main(["laws", str(path)]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and told.err.startswith("chainrule: mine cannot be built: ")
    assert told.out.splitlines()[1:] == [told.out.splitlines()[1], "no law was tried"]
    assert "KeyError: 'width'" in told.out
    del registry._model_types["mine", "generate"]
