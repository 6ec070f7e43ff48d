"""Expectation-maximisation in the training loop: in passes, evaluated on the way, under any budget, resumed bit for bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.checkpoint import RunFolder
from chainrule.core import ConfigError
from chainrule.data import Corpus
from chainrule.training.loop import Trainer
from chainrule.training.runs import describe, make_trainer, prepare, read_data
from chainrule.training.settings import RunConfig

KINDS: dict[str, dict[str, Any]] = {
    "stepwise": {"rows": 5, "window": 61},
    "whole passes": {"rows": 5, "window": 61, "stepwise": 0, "restarts": 2},
}


@pytest.fixture(autouse=True)
def instant_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words over two alphabets that take turns: there is something hidden to find."""
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("aeiou" if k % 2 else "bcdfg"), 3)) for k in range(701)]
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text(" ".join(words))
    return path


@pytest.fixture(scope="module")
def corpus(text: Path) -> Corpus:
    return read_data(RunConfig.make({"data": str(text), "family": "hmm"}))


def start(folder: Path, corpus: Corpus, text: Path, recipe: dict[str, Any], budget: str) -> Trainer:
    values = {"data": str(text), "family": "hmm", "size": "tiny", "budget": budget, "threads": 1, "recipe": recipe}
    ready = prepare(RunConfig.make({**values, "save_every": "4steps"}), corpus)
    run = RunFolder.create(folder, resume=True)
    trainer = make_trainer(ready, corpus, run)
    trainer.resume()
    describe(run, ready, corpus)
    return trainer


@pytest.mark.parametrize("kind", KINDS)
def test_cut_and_resumed_it_is_the_uninterrupted_run_bit_for_bit(
    kind: str, tmp_path: Path, corpus: Corpus, text: Path
) -> None:
    whole = start(tmp_path / "whole", corpus, text, KINDS[kind], "29steps")
    assert 29 > whole.source.steps_per_epoch > 4  # cuts fall inside a pass, and the run is longer than one
    whole.advance()
    for cut in (3, 13, 22):
        folder = tmp_path / f"cut-{cut}"
        first = start(folder, corpus, text, KINDS[kind], "29steps")
        first.advance(stop=lambda first=first, cut=cut: first.progress.step >= cut)
        first.save()
        torch.manual_seed(cut)  # whatever stands in the generator must not matter
        second = start(folder, corpus, text, KINDS[kind], "29steps")
        assert second.progress.step == cut
        second.advance()
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[name], tensor), name
        assert [p["value"] for p in second.progress.curve] == [p["value"] for p in whole.progress.curve]


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_is_looked_at_on_the_way(kind: str, tmp_path: Path, corpus: Corpus, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS[kind], "8epochs")
    trainer.advance()
    curve = [point["value"] for point in trainer.progress.curve]
    assert len(curve) >= 8
    assert curve[-1] < curve[0]
    assert trainer.progress.tokens == pytest.approx(8 * len(corpus.parts["train"]), rel=0.01)


@pytest.mark.parametrize(("budget", "steps"), [("7steps", 7), ("1300tokens", 4)])
def test_budgets_are_kept(budget: str, steps: int, tmp_path: Path, corpus: Corpus, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS["stepwise"], budget)
    trainer.advance()
    assert trainer.progress.step == steps


def test_a_budget_in_seconds_ends(tmp_path: Path, corpus: Corpus, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS["stepwise"], "1s")
    trainer.advance()
    assert trainer.progress.done
    assert len(trainer.progress.curve) >= 2


def test_a_family_without_a_hidden_chain_cannot_be_trained_so(tmp_path: Path, corpus: Corpus, text: Path) -> None:
    values = {"data": str(text), "family": "gru", "size": "tiny", "recipe": {"update": "em"}}
    with pytest.raises(ConfigError, match="no hidden chain"):
        make_trainer(prepare(RunConfig.make(values), corpus), corpus, RunFolder(tmp_path / "run"))
