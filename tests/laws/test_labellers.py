"""Laws of taggers and classifiers: counting models and networks alike, every law bites, a plugin is tested too."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch
from labellers import BREAKERS, PlainClassifier, PlainTagger, Reader, RefusesLongRows, labeller
from verdicts import verdict

from chainrule.cli import main
from chainrule.core import Batch, Counting, ModelType, SequenceModel, model_type, model_types, registry
from chainrule.laws import LAWS, SUBJECTS, Labelling, examine

ABOUT_LABELS = [row for row in LAWS if set(row[2]) & {"labelling", "tagger", "classifier"}]


@pytest.mark.parametrize("model", [PlainTagger, PlainClassifier, RefusesLongRows])
def test_networks_that_tag_and_classify_keep_every_law(model: type[Reader]) -> None:
    verdicts = examine(labeller(model))
    assert [v for v in verdicts if not v.ok] == []
    kept = {v.law for v in verdicts}
    mine = {"tagger"} if model is not PlainClassifier else {"classifier"}
    assert kept == {"sizes", "deterministic", "saved = loaded"} | {
        name for name, _, needs in ABOUT_LABELS if set(needs) <= {"labelling"} | mine
    }


@pytest.mark.parametrize(("name", "model"), BREAKERS, ids=[m.__name__ for _, m in BREAKERS])
def test_law_about_labels_catches_the_model_that_breaks_it(name: str, model: type[Reader]) -> None:
    assert not verdict(labeller(model), name).ok, f"{model.__name__} gets away with breaking '{name}'"


def test_every_law_about_labels_has_a_model_that_breaks_it() -> None:
    assert {name for name, _ in BREAKERS} == {name for name, _, _ in ABOUT_LABELS}


def counting_model_types() -> list[ModelType]:
    return [f for task in ("tag", "classify") for f in model_types(task) if f.recipe.update == "counting"]


@pytest.mark.parametrize("chosen", counting_model_types(), ids=lambda f: f"{f.name}-{f.task}")
def test_a_part_that_is_left_out_breaks_the_sum(chosen: ModelType) -> None:
    """A counting model whose statistics lose the last shard breaks the law; the whole ones change the model."""
    subject = SUBJECTS.all()[chosen.task](chosen)
    assert isinstance(subject, Labelling)

    def build(config: object) -> SequenceModel:
        model = chosen.build(config)
        assert isinstance(model, Counting)
        summarize, seen = model.summarize, []

        def forgets(batch: Batch) -> object:
            seen.append(batch)
            return summarize(batch) if len(seen) < 3 else summarize(batch.rows(0, 1))

        model.summarize = forgets  # type: ignore[method-assign]
        return model

    broken = type(subject)(ModelType(chosen.name, chosen.task, chosen.config, build, chosen.recipe, fixed=chosen.fixed))
    assert not verdict(broken, "statistics add up").ok
    answers = subject.judge(subject.labeller, subject.batch(11, 13, salt=3))
    assert any(not torch.equal(a[:2], answers[0][:2]) for a in answers[1:])


def test_laws_grades_a_tagger_of_a_file_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one law that it breaks is named, and the exit status says so."""
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent(
            """
            import torch
            from chainrule.core import Config, Recipe, SequenceModel, Tagger, register

            class MineConfig(Config):
                num_labels: int = 2
                presets = {"tiny": {}}

            @register("mine", task="tag", config=MineConfig, recipe=Recipe())
            class Mine(SequenceModel, Tagger):
                def tag(self, batch):
                    tags_BT = torch.zeros(batch.targets_BT.shape, dtype=torch.long)
                    return tags_BT, torch.zeros(len(tags_BT))

                def posteriors(self, batch):
                    words = batch.words
                    p_BTC = torch.zeros(len(words), max(map(len, words), default=0), 2)
                    for b, row in enumerate(words):
                        p_BTC[b, : len(row), 0] = 1
                    return p_BTC
            """
        )
    )
    assert main(["laws", str(path)]) == 2
    told = capsys.readouterr()
    assert "mine (tag): one tag per token, of the label set" in told.err and "1 law(s) broken" in told.err
    assert "labels: long rows" in told.out
    del registry._model_types["mine", "tag"]
    assert model_type("hmm", "tag").task == "tag"


def test_laws_on_a_file_without_a_model_type_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    assert main(["laws", str(path)]) == 2
    assert "registers no model type" in capsys.readouterr().err
