"""Two processes that train together make the model that one process makes.

The processes talk through gloo on this machine. Models are in float64, so that only a wrong reduction is seen, not the
rounding of another order of sums.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chainrule.core import Batch, ConfigError, model_type
from chainrule.core.compute import RandomState
from chainrule.runs import RunFolder
from chainrule.runs.store import parse_tensors, tensor_bytes
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import load, make_trainer, prepare, read_data
from chainrule.tasks.train import train
from chainrule.training import rules
from chainrule.training.distributed import SINGLE, Distributed, process_group
from chainrule.training.loop import Trainer
from chainrule.training.rules import CountingRule, GradientRule
from tests.faults import harness

WORLD = 2
CLOSE = 1e-9
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]
RUNS: dict[str, dict[str, Any]] = {
    "gpt": {
        "model_type": "gpt", "unit": "lines", "budget": "30steps", "model": {"dropout": 0.0, "context": 17},
        "train": {"batch_size": 11, "grad_accumulation": 2, "label_smoothing": 0.0},
    },
    "gru": {"model_type": "gru", "budget": "30steps", "train": {"batch_size": 7, "sequence_length": 13}},
    "ngram": {"model_type": "ngram", "unit": "lines"},
    "hmm": {"model_type": "hmm", "budget": "30steps", "train": {"batch_size": 5, "sequence_length": 61, "restarts": 2}},
    "hmm in whole passes": {
        "model_type": "hmm", "budget": "3epochs", "train": {"batch_size": 5, "sequence_length": 61, "em_step_power": 0},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 5 kB of made-up sentences of different lengths, so that rows differ in how many targets they have."""
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(" ".join(rng.choices(WORDS, k=rng.randint(2, 11))) + "\n" for _ in range(139)))
    return path


def trainer_of(kind: str, text: Path, folder: Path, ranks: Distributed, **more: Any) -> Trainer:
    values = {"data": str(text), "size": "tiny", "threads": 1, "precision": "fp32", **RUNS[kind], **more}
    settings = RunConfig.make(values)
    run = RunFolder.create(folder, resume=True) if ranks.is_main else RunFolder(folder)
    ranks.agree(0.0)  # the folder is there
    trainer = make_trainer(prepare(settings, read_data(settings)), run, distributed=ranks)
    trainer.model.double()
    return trainer


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    numbers = {"progress.step": trainer.progress.step, "progress.tokens": trainer.progress.tokens}
    curve = torch.tensor([point["value"] for point in trainer.progress.curve], dtype=torch.float64)
    model = {name: x.detach().clone() for name, x in trainer.model.state_dict().items()}
    return {**model, "curve": curve, **{name: torch.tensor(value) for name, value in numbers.items()}}


def together(
    tmp_path: Path, work: Callable[[Distributed], dict[str, torch.Tensor]], world: int = WORLD
) -> list[dict[str, torch.Tensor]]:
    """Run ``work`` in forked processes that form a group; returns the tensors that each came to."""
    tmp_path.mkdir(exist_ok=True)

    def join(rank: int) -> Callable[[Path], None]:
        def run(folder: Path) -> None:
            with process_group(rank, world, f"file://{tmp_path}/meeting") as ranks:
                found = work(ranks)
            folder.with_suffix(".safetensors").write_bytes(tensor_bytes(found))

        return run

    children = [harness.fork(join(rank), tmp_path / f"rank-{rank}") for rank in range(world)]
    statuses = [os.waitpid(child, 0)[1] for child in children]
    told = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.error")))
    assert statuses == [0] * world, told
    paths = [tmp_path / f"rank-{rank}.safetensors" for rank in range(world)]
    return [parse_tensors(path.read_bytes(), path) for path in paths]


def trained(kind: str, text: Path, folder: Path, ranks: Distributed, **more: Any) -> dict[str, torch.Tensor]:
    trainer = trainer_of(kind, text, folder, ranks, **more)
    trainer.advance()
    return state_of(trainer)


def farthest(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """The largest absolute difference; infinite where shapes differ or the same places are not infinite in both."""
    assert one.keys() == two.keys()
    gaps = [0.0]
    for name, x in one.items():
        if x.shape != two[name].shape or not torch.equal(x.isinf(), two[name].isinf()):
            return float("inf")
        difference = (x.double() - two[name].double()).masked_fill(x.isinf(), 0.0)
        gaps.append(float(difference.abs().max()) if x.numel() else 0.0)
    return max(gaps)


@pytest.mark.parametrize("kind", RUNS)
def test_two_processes_make_the_model_of_one(kind: str, tmp_path: Path, text: Path) -> None:
    alone = trained(kind, text, tmp_path / "alone", SINGLE)
    first, second = together(tmp_path / "group", lambda ranks: trained(kind, text, tmp_path / "run", ranks))
    assert farthest(first, second) == 0  # the ranks agree to the last bit
    if kind == "ngram":
        assert all(torch.equal(first[name], x) for name, x in alone.items())
    assert farthest(first, alone) <= CLOSE


@pytest.mark.parametrize("kind", ["gpt", "gru", "hmm"])
@pytest.mark.parametrize("broken", ["sums are of one rank", "counts are of one rank"])
def test_a_reduction_that_is_left_out_is_noticed(
    kind: str, broken: str, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above fails where gradients or statistics, or the counts that divide them, are not reduced."""
    alone = trained(kind, text, tmp_path / "alone", SINGLE)
    if kind == "hmm":
        monkeypatch.setattr(rules, "added_up", lambda ranks, model, stats: stats)
    elif broken.startswith("sums"):
        monkeypatch.setattr(GradientRule, "_reduced", lambda self, loss: loss)
    else:
        monkeypatch.setattr(rules, "total", lambda terms, counts: total_of_own(terms))
    first, _ = together(tmp_path / "group", lambda ranks: trained(kind, text, tmp_path / "run", ranks))
    assert farthest(first, alone) > 1e-6


def total_of_own(terms: dict[str, Any]) -> torch.Tensor:
    """The usual mistake: each rank divides by its own count, and the means are added with equal weight."""
    return torch.stack([w * s / count.clamp(min=1) / WORLD for s, count, w in terms.values()]).sum()


def test_counts_that_are_not_added_up_are_noticed(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of an n-gram, one a rank."""
    rows = [([3, 0, 1], [0, 1, 2]), ([3, 0], [0, 0])]
    batches = [Batch(torch.tensor([inputs]), torch.tensor([targets])) for inputs, targets in rows]

    def counted(ranks: Distributed) -> dict[str, torch.Tensor]:
        chosen = model_type("ngram")
        model = chosen.build(chosen.configure("tiny", vocab_size=3, n=2))
        rule = CountingRule(model)
        rule.distributed = ranks
        for batch in batches:
            rule.step(batch, 1.0)
        rule.finish()
        return dict(model.state_dict())

    alone = counted(SINGLE)
    first, second = together(tmp_path / "group", counted)
    for found in (first, second):
        assert all(torch.equal(found[name], x) for name, x in alone.items())
    monkeypatch.setattr(rules, "added_up", lambda ranks, model, stats: stats)
    first, second = together(tmp_path / "broken", counted)
    assert farthest(first, alone) > 0
    assert farthest(second, alone) > 0


def test_more_processes_than_rows_are_no_error(tmp_path: Path, text: Path) -> None:
    recipe = {"batch_size": 2, "sequence_length": 13}
    alone = trained("gru", text, tmp_path / "alone", SINGLE, train=recipe, budget="5steps")
    work = lambda ranks: trained("gru", text, tmp_path / "run", ranks, train=recipe, budget="5steps")  # noqa: E731
    for found in together(tmp_path / "group", work, world=3):
        assert farthest(found, alone) <= CLOSE


def test_two_processes_resume_where_they_were_cut(tmp_path: Path, text: Path) -> None:
    """With dropout, whose draws differ between ranks: moments, carried States and generators of both are saved."""
    more = {"model": {"dropout": 0.3}, "save_every": "4steps"}

    def cut(ranks: Distributed) -> dict[str, torch.Tensor]:
        trainer = trainer_of("gru", text, tmp_path / "cut", ranks, **more)
        trainer.advance(stop=lambda: trainer.progress.step >= 11)
        trainer.save()
        torch.manual_seed(ranks.rank)  # whatever stands in the generator must not matter
        again = trainer_of("gru", text, tmp_path / "cut", ranks, **more)
        again.resume()
        assert again.progress.step == 11
        again.advance()
        return state_of(again)

    whole = together(tmp_path / "a", lambda ranks: trained("gru", text, tmp_path / "whole", ranks, **more))
    resumed = together(tmp_path / "b", cut)
    assert farthest(whole[0], whole[1]) == 0
    assert farthest(resumed[0], whole[0]) == 0


def test_rank_0_decides_about_time_and_is_the_only_one_to_write(tmp_path: Path, text: Path) -> None:
    """Rank 1 believes every step to take no time, and has a folder that cannot be written."""

    def work(ranks: Distributed) -> dict[str, torch.Tensor]:
        trainer = trainer_of("gru", text, tmp_path / "run", ranks, budget="1s", save_every="10steps")
        if not ranks.is_main:
            trainer.run = RunFolder("/nowhere/at/all")
            trainer.validate = lambda model: pytest.fail("rank 1 evaluates")
        stopped = iter([False, ranks.is_main, ranks.is_main])
        trainer.advance(stop=lambda: next(stopped))
        step = trainer.progress.step
        trainer.advance()
        return {"total": torch.tensor(trainer.progress.total), "stopped": torch.tensor(step), **state_of(trainer)}

    first, second = together(tmp_path / "group", work)
    assert farthest(first, second) == 0
    assert first["stopped"] == 1
    assert RunFolder(tmp_path / "run").newest_checkpoint().checkpoint is not None


def test_a_model_whose_counts_cannot_be_exchanged_is_refused(text: Path, tmp_path: Path) -> None:
    class Words:
        """Counts that are no tensors."""

    two = Distributed(0, 2, lambda x: x)
    with pytest.raises(ConfigError, match="several processes"):
        rules.added_up(two, CountingRule.__new__(CountingRule), Words())


def test_values_of_every_type_and_shape_are_exchanged(tmp_path: Path) -> None:
    def work(ranks: Distributed) -> dict[str, torch.Tensor]:
        mine = ranks.rank + 1
        sent = {
            "bool": torch.tensor([mine == 1, False]),
            "long": torch.tensor(mine),
            "half": torch.full((2, 3), mine, dtype=torch.bfloat16),
            "infinite": torch.tensor([-float("inf"), float("nan"), mine]),
        }
        ranks.broadcast(sent)
        one, two = ranks.gather({"ids": torch.arange(mine), "of 2": torch.ones(1)} if mine == 2 else {})
        assert one == {}
        assert set(two) == {"ids", "of 2"}
        return {**sent, **two, "agreed": torch.tensor(ranks.agree(0.1 * mine), dtype=torch.float64)}

    for found in together(tmp_path / "group", work):
        assert found["bool"].tolist() == [True, False]
        assert found["long"] == 1
        assert found["half"].tolist() == [[1, 1, 1], [1, 1, 1]]
        assert str(found["infinite"].tolist()) == "[-inf, nan, 1.0]"
        assert found["ids"].tolist() == [0, 1]
        assert found["agreed"] == 0.1


def test_every_row_of_a_batch_has_one_owner() -> None:
    for world, parts, rows in ((1, 1, 7), (2, 1, 7), (3, 2, 5), (2, 4, 64), (5, 3, 2)):
        shares = [Distributed(rank, world).share(rows, parts, i) for rank in range(world) for i in range(parts)]
        assert [row for start, stop in shares for row in range(start, stop)] == list(range(rows))
        for rank in range(world):
            start, stop = Distributed(rank, world).share(rows)
            assert (start, stop) == (shares[rank * parts][0], shares[(rank + 1) * parts - 1][1])


def test_optimizer_state_is_saved_by_parameter_name(text: Path, tmp_path: Path) -> None:
    """So that a model whose parameters come in another order, or sharded, finds its own moments."""
    trainer = trainer_of("gru", text, tmp_path / "run", SINGLE)
    trainer.advance(stop=lambda: trainer.progress.step >= 2)
    saved = trainer.rule.tensors()["optimizer"]
    names = {name for name, _ in trainer.model.named_parameters()}
    assert {full.rsplit(".", 1)[0] for full in saved} == names
    assert isinstance(trainer.rule, GradientRule)
    other = GradientRule(trainer.rule.objective, trainer.plan.recipe, trainer.plan.compute)
    for optimizer in other.optimizers:
        for group in optimizer.param_groups:
            group["params"].reverse()
    other.restore({"optimizer": saved})
    for name, x in other.tensors()["optimizer"].items():
        assert torch.equal(x, saved[name]), name


def test_training_leaves_the_process_as_it_was(text: Path, tmp_path: Path) -> None:
    """Random generators, threads, environment and folder; another run of the process draws what it would have drawn."""
    values = {"data": str(text), "size": "tiny", **RUNS["gru"], "model": {"dropout": 0.3}, "threads": 1}
    torch.set_num_threads(1)
    torch.manual_seed(11)
    before = torch.get_rng_state(), random.getstate(), dict(os.environ), Path.cwd(), torch.get_default_dtype()
    train(RunConfig.make({**values, "budget": "5steps"}), tmp_path / "run")
    after = torch.get_rng_state(), random.getstate(), dict(os.environ), Path.cwd(), torch.get_default_dtype()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.get_num_threads() == 1


def test_a_random_state_is_that_of_its_seed_and_goes_on_where_it_was_left() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    mine, outside = RandomState(3), torch.get_rng_state()
    with mine:
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), outside)
    saved = mine.tensors()
    with mine:
        following = torch.rand(3)
    other = RandomState(5)
    other.restore(saved)
    with other:
        assert torch.equal(torch.rand(3), following)


def test_the_command_trains_on_two_processes_into_one_folder(tmp_path: Path, text: Path) -> None:
    """``train``, as torchrun starts it on every rank: the run loads, and is resumed as finished on both."""
    values = {"data": str(text), "size": "tiny", "threads": 1, **RUNS["gru"], "budget": "12steps"}

    def work(ranks: Distributed) -> dict[str, torch.Tensor]:
        first = train(RunConfig.make(values), tmp_path / "run", distributed=ranks)
        again = train(RunConfig.make(values), tmp_path / "run", resume="auto", distributed=ranks)
        return {"steps": torch.tensor([first.progress.step, again.progress.step])}

    found = together(tmp_path / "group", work)
    assert [x["steps"].tolist() for x in found] == [[12, 12]] * WORLD
    assert load(tmp_path / "run").name == "gru"
    events = RunFolder(tmp_path / "run").events()
    assert len({(event["event"], event["step"]) for event in events}) == len(events)  # each told once
