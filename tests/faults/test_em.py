"""Expectation-maximisation in the training loop: passes, evaluation on the way, any budget, resumed bit for bit."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chainrule.core import Batch, ConfigError, EMTrainable, Recipe
from chainrule.data import TextDataset
from chainrule.runs import RunFolder
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import describe, make_trainer, prepare, read_data
from chainrule.training.loop import Trainer
from chainrule.training.rules import EMRule

KINDS: dict[str, dict[str, Any]] = {
    "stepwise": {"batch_size": 5, "sequence_length": 61},
    "whole passes": {"batch_size": 5, "sequence_length": 61, "em_step_power": 0, "restarts": 2},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words over two alphabets that take turns: there is something hidden to find."""
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("aeiou" if k % 2 else "bcdfg"), 3)) for k in range(701)]
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text(" ".join(words))
    return path


@pytest.fixture(scope="module")
def corpus(text: Path) -> TextDataset:
    return read_data(RunConfig.make({"data": str(text), "model_type": "hmm"}))


def start(folder: Path, corpus: TextDataset, text: Path, recipe: dict[str, Any], budget: str) -> Trainer:
    values = {"data": str(text), "model_type": "hmm", "size": "tiny", "budget": budget, "threads": 1, "train": recipe}
    ready = prepare(RunConfig.make({**values, "save_every": "4steps"}), corpus)
    run = RunFolder.create(folder, resume=True)
    trainer = make_trainer(ready, run)
    trainer.resume()
    describe(run, ready)
    return trainer


@pytest.mark.parametrize("kind", KINDS)
def test_cut_and_resumed_it_is_the_uninterrupted_run_bit_for_bit(
    kind: str, tmp_path: Path, corpus: TextDataset, text: Path
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
def test_it_learns_and_is_looked_at_on_the_way(kind: str, tmp_path: Path, corpus: TextDataset, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS[kind], "8epochs")
    trainer.advance()
    curve = [point["value"] for point in trainer.progress.curve]
    assert len(curve) >= 8
    assert curve[-1] < curve[0]
    assert trainer.progress.tokens == pytest.approx(8 * corpus.parts["train"].nbytes, rel=0.01)


@pytest.mark.parametrize(("budget", "steps"), [("7steps", 7), ("1300tokens", 4)])
def test_budgets_are_kept(budget: str, steps: int, tmp_path: Path, corpus: TextDataset, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS["stepwise"], budget)
    trainer.advance()
    assert trainer.progress.step == steps


def test_a_budget_in_seconds_ends(tmp_path: Path, corpus: TextDataset, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS["stepwise"], "1s")
    trainer.advance()
    assert trainer.progress.done
    assert len(trainer.progress.curve) >= 2


def test_a_model_type_that_expects_nothing_cannot_be_trained_so(
    tmp_path: Path, corpus: TextDataset, text: Path
) -> None:
    values = {"data": str(text), "model_type": "gru", "size": "tiny", "train": {"update": "em"}}
    with pytest.raises(ConfigError, match="cannot be trained by EM"):
        make_trainer(prepare(RunConfig.make(values), corpus), RunFolder(tmp_path / "run"))


def test_the_run_tells_which_restart_was_kept_and_what_each_came_to(
    tmp_path: Path, corpus: TextDataset, text: Path
) -> None:
    """Nats a symbol of the first batch after 8 EM steps, by the same steps taken here; the least is kept."""
    trainer = start(tmp_path / "run", corpus, text, KINDS["stepwise"] | {"restarts": 3}, "3steps")
    model, (_, batch) = trainer.model, trainer.source(0)
    trainer.advance()
    (told,) = [event for event in trainer.run.events() if event["event"] == "restarts"]
    assert (told["step"], told["em_steps"], len(told["starts"])) == (1, 8, 3)
    for entry in told["starts"]:
        model.initialise(batch, entry["seed"])
        for _ in range(8):
            model.update(model.summarize(batch))
        stats = model.summarize(batch)
        assert entry["nats"] == pytest.approx(-float(stats.nats) / int(stats.size), rel=1e-6)
    best = min(told["starts"], key=lambda entry: entry["nats"])
    assert [entry for entry in told["starts"] if entry["kept"]] == [best]


def test_one_start_is_no_choice_to_tell_of(tmp_path: Path, corpus: TextDataset, text: Path) -> None:
    trainer = start(tmp_path / "run", corpus, text, KINDS["stepwise"], "1steps")
    trainer.advance()
    assert {event["event"] for event in trainer.run.events()} == {"train", "valid"}


@dataclass
class Heads:
    """Expected heads and tails of two coins, one of which is tossed all the time."""

    counts_22: Tensor
    nats: Tensor
    size: Tensor

    def __add__(self, other: Heads) -> Heads:
        return Heads(self.counts_22 + other.counts_22, self.nats + other.nats, self.size + other.size)

    def tensors(self) -> dict[str, Tensor]:
        return {"counts": self.counts_22, "nats": self.nats, "size": self.size}


class TwoCoins(EMTrainable[Heads]):
    """No hidden chain: a mixture of two coins, each row from one of them."""

    p_2: Tensor

    def initialise(self, batch: Batch, seed: int) -> None:
        self.p_2 = 0.1 + 0.8 * torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def summarize(self, batch: Batch) -> Heads:
        ones_B = batch.targets_BT.double().sum(1)
        zeros_B = batch.targets_BT.shape[1] - ones_B
        joint_B2 = ones_B[:, None] * self.p_2.log() + zeros_B[:, None] * (1 - self.p_2).log() - math.log(2)
        share_B2 = joint_B2.softmax(1)
        counts = torch.stack([share_B2.T @ ones_B, share_B2.T @ zeros_B], 1)
        return Heads(counts, joint_B2.logsumexp(1).sum(), torch.tensor(batch.targets_BT.numel()))

    def update(self, stats: Heads, rate: float = 1.0) -> TwoCoins:
        self.p_2 = (1 - rate) * self.p_2 + rate * stats.counts_22[:, 0] / stats.counts_22.sum(1)
        return self

    def restore_statistics(self, tensors: dict[str, Tensor]) -> Heads:
        return Heads(*tensors.values())


def test_the_rule_asks_for_expectations_not_for_a_hidden_chain() -> None:
    """A mixture of coins of p = 0.9 and 0.2, and half a pass that is saved and goes on."""
    rng = torch.Generator().manual_seed(3)
    true_B1 = torch.tensor([0.9, 0.2]).repeat(31)[:, None]
    batches = [Batch(torch.zeros(62, 0), (torch.rand(62, 97, generator=rng) < true_B1).long()) for _ in range(2)]
    rule = EMRule(TwoCoins(), Recipe(update="em", em_step_power=0, restarts=2), steps_per_epoch=2, device="cpu")
    for k in range(11):
        step = rule.step(batches[k % 2], 1.0)
        assert [event["event"] for event in step.events] == (["restarts"] if k == 0 else [])
    other = EMRule(copy.deepcopy(rule.model), rule.recipe, 2, "cpu")
    other.restore({name: group for name, group in rule.tensors().items() if group})
    for each in (rule, other):
        each.step(batches[1], 1.0)
    assert torch.equal(other.model.p_2, rule.model.p_2)
    assert sorted(other.model.p_2.tolist()) == pytest.approx([0.2, 0.9], abs=0.02)
    assert other.kept is None and other.taken == 12
