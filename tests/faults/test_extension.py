"""Budgets that hold, and runs that are trained further: with a larger budget, a run is the one that had it at once."""

from __future__ import annotations

import itertools
import math
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chainrule.core import Recipe, UserError
from chainrule.core.compute import Compute
from chainrule.runs import RunFolder
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import describe, make_trainer, prepare, read_data
from chainrule.tasks.train import train
from chainrule.training import loop
from chainrule.training.budget import Budget
from chainrule.training.extension import Candidates
from chainrule.training.loop import Trainer
from chainrule.training.optim import rate_factor
from chainrule.training.schedule import Plan, Progress, Schedule
from tests.faults.boards import compare, plain, weights, write_text
from tests.faults.test_training import fingerprint, sha

NO_WARM_UP = {"batch_size": 7, "sequence_length": 13, "warmup": 2}
KINDS: dict[str, dict[str, Any]] = {
    "gru": {"model_type": "gru", "model": {"dropout": 0.3}, "train": NO_WARM_UP},
    "gpt": {"model_type": "gpt", "model": {"dropout": 0.3, "context": 17}, "train": {"batch_size": 11, "warmup": 3}},
    "averaged": {"model_type": "gru", "train": {**NO_WARM_UP, "average_last": 3, "decay_fraction": 0.0}},
    "last": {"model_type": "lstm", "model": {"dropout": 0.3}, "train": {**NO_WARM_UP, "keep_weights": "last"}},
    "all decay": {"model_type": "gru", "train": {**NO_WARM_UP, "decay_fraction": 1.0}},
    "stepwise EM": {"model_type": "hmm", "train": {"batch_size": 5, "sequence_length": 61}},
    "whole passes": {"model_type": "hmm", "train": {"batch_size": 5, "sequence_length": 61, "em_step_power": 0}},
    "long warm-up": {"model_type": "gru", "train": {**NO_WARM_UP, "warmup": 20}},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def corpus(text: Path) -> Any:
    return read_data(RunConfig.make({"data": str(text), "model_type": "gru"}))


def settings(text: Path, kind: str, budget: str, **more: Any) -> RunConfig:
    fixed = {"data": str(text), "size": "tiny", "threads": 1, "precision": "fp32", "save_every": "7steps"}
    return RunConfig.make({**fixed, **KINDS[kind], "budget": budget, **more})


# --- trained further --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_trained_further_is_the_run_of_the_larger_budget(
    kind: str, text: Path, tmp_path: Path, corpus: Any
) -> None:
    """Weights, moments, generator, kept weights and curve, bit for bit; over two extensions, of different kinds."""
    train(settings(text, kind, "37steps"), tmp_path / "whole", dataset=corpus)
    expected = fingerprint(tmp_path / "whole")
    train(settings(text, kind, "13steps"), tmp_path / "run", dataset=corpus)
    for budget, steps in (("21steps", 21), ("37steps", 37)):
        trainer = train(settings(text, kind, budget), tmp_path / "run", resume="auto", dataset=corpus)
        assert trainer.progress.step == steps
    assert fingerprint(tmp_path / "run") == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_same_whenever_it_was_cut(seed: int, text: Path, tmp_path: Path, corpus: Any) -> None:
    """Cut at a random step, before or after the learning rate began to fall, then given a larger budget, cut again."""
    draw = random.Random(seed)
    kind, first, second = draw.choice(["gru", "stepwise EM"]), draw.randint(11, 19), draw.randint(25, 40)
    train(settings(text, kind, f"{second}steps"), tmp_path / "whole", dataset=corpus)
    for budget in (first, second, second):
        chosen = settings(text, kind, f"{budget}steps", save_every=f"{draw.randint(1, 9)}steps")
        ready = prepare(chosen, corpus)
        trainer = make_trainer(ready, run := RunFolder.create(tmp_path / "run", resume=True))
        trainer.resume()
        describe(run, ready)
        until = draw.randint(3, budget - 1)
        trainer.advance(stop=lambda trainer=trainer, until=until: trainer.progress.step >= until)
        trainer.save()
    trainer = make_trainer(prepare(chosen, corpus), RunFolder.create(tmp_path / "run", resume=True))
    trainer.resume()
    trainer.advance()
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_kept_weights_are_those_that_the_longer_run_would_keep(
    text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the best value comes early, whatever the value is: the longer run looks less often, at other steps."""
    made = Trainer.__init__

    def judged(self: Trainer, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        self.validate = lambda _: float(
            random.Random(f"{self.progress.step} {seed}").random() + self.progress.step / 30
        )

    monkeypatch.setattr(Trainer, "__init__", judged)
    best = set()
    for seed in range(3):
        train(settings(text, "gru", "50steps"), tmp_path / f"whole{seed}", dataset=corpus)
        train(settings(text, "gru", "30steps"), tmp_path / f"run{seed}", dataset=corpus)
        trainer = train(settings(text, "gru", "50steps"), tmp_path / f"run{seed}", resume="auto", dataset=corpus)
        assert fingerprint(tmp_path / f"run{seed}") == fingerprint(tmp_path / f"whole{seed}")
        best.add(trainer.progress.best_step)
    assert len(best) > 1 and max(best) <= 15  # the kept weights were made before the extension


def test_candidates_are_the_best_of_every_interval() -> None:
    """Against a search through all evaluations."""
    for seed in range(20):
        draw, seen, found = random.Random(seed), dict[int, float](), Candidates(higher_is_better=seed % 2 == 1)
        for step in sorted({3, *range(2, 90, 2)}):
            seen[step] = draw.randint(0, 9)
            found.add(step, seen[step], {"w": torch.tensor(step)})
            for interval in (2, 4, 8, 16, 32, 64, 128):
                mine = [k for k in sorted(seen) if k % interval == 0 or k == 3]
                pick = max if found.higher_is_better else min
                assert found.best(interval) == (pick(mine, key=lambda k: seen[k]) if mine else None)
        assert len(found.weights) <= 8
        again = Candidates(found.higher_is_better)
        again.restore(found.tensors(), seen)
        assert again == found


def test_a_budget_in_seconds_goes_on_from_before_the_fall(
    text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(loop, "clock", lambda: next(ticks) / 20)
    first = train(settings(text, "gru", "2s"), tmp_path / "run", dataset=corpus)
    assert 1.9 <= first.progress.seconds <= 2.1
    fork = first.progress.fork
    second = train(settings(text, "gru", "4s"), tmp_path / "run", resume="auto", dataset=corpus)
    told = capsys.readouterr().err
    assert f"training further from step {fork} with budget 4s" in told
    assert f"{first.progress.step - fork} of {first.progress.step} steps are set aside" in told
    assert 3.9 <= second.progress.seconds <= 4.1 and second.progress.step > 1.8 * first.progress.step
    assert [p["step"] for p in second.progress.curve] == sorted({int(p["step"]) for p in second.progress.curve})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("9steps", "7steps", "--budget 7steps is less than the 9steps that it has had"),
        ("9steps", "5s", "its budget is in steps, not in seconds"),
        ("1epochs", "9steps", "its budget is in epochs, not in steps"),
    ],
)
def test_a_smaller_budget_or_one_of_another_kind_is_refused(
    old: str, new: str, told: str, text: Path, tmp_path: Path, corpus: Any
) -> None:
    train(settings(text, "gru", old), tmp_path / "run", dataset=corpus)
    before = fingerprint(tmp_path / "run")
    with pytest.raises(UserError, match=told) as caught:
        train(settings(text, "gru", new), tmp_path / "run", resume="auto", dataset=corpus)
    assert "\n" not in str(caught.value) and "such as --budget" in str(caught.value)
    assert fingerprint(tmp_path / "run") == before


@pytest.mark.parametrize("changed", [{"train": {**NO_WARM_UP, "lr": 0.5}}, {"model": {"dropout": 0.5}}, {"seed": 7}])
def test_a_refused_resume_names_only_what_differs(
    changed: dict[str, Any], text: Path, tmp_path: Path, corpus: Any
) -> None:
    train(settings(text, "gru", "3steps"), tmp_path / "run", dataset=corpus)
    with pytest.raises(UserError) as caught:
        train(settings(text, "gru", "3steps", **changed), tmp_path / "run", resume="auto", dataset=corpus)
    ((section, value),) = changed.items()
    name, wanted = (section, value) if section == "seed" else (f"{section}.{(key := [*value][-1])}", value[key])
    assert f"{name}=" in str(caught.value) and f", not {wanted}:" in str(caught.value)
    assert "{" not in str(caught.value)


def test_a_model_that_has_counted_all_data_says_that_nothing_is_left(
    text: Path, tmp_path: Path, corpus: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "clock", lambda: 0.0)
    chosen = RunConfig.make({"data": str(text), "model_type": "ngram", "budget": "5s", "threads": 1})
    train(chosen, tmp_path / "run", dataset=corpus)
    before = sha(RunFolder(tmp_path / "run").load_model()[1])
    train(chosen.replace(budget="1min"), tmp_path / "run", resume="auto", dataset=corpus)
    assert "all data are counted, and a larger budget changes nothing" in capsys.readouterr().err
    assert sha(RunFolder(tmp_path / "run").load_model()[1]) == before


# --- boards -----------------------------------------------------------------------------------------------------------


def test_a_larger_budget_extends_a_board(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal to a board of the larger budget, for fewer steps of training; counting models are not measured again."""
    models = "markov,gru:width=8,hmm"
    recipe = {"batch_size": 7, "sequence_length": 13, "warmup": 2}
    whole = compare(text, tmp_path / "whole", models, budget="40steps", train=recipe)
    steps, update = list[str](), Trainer._update
    monkeypatch.setattr(
        Trainer, "_update", lambda self, *more: (steps.append(type(self.model).__name__), update(self, *more))[1]
    )
    first = compare(text, tmp_path / "b", models, budget="20steps", train=recipe)
    made = len(steps)
    again = compare(text, tmp_path / "b", models, budget="40steps", train=recipe)
    assert plain(again) == plain(whole) != plain(first)
    assert weights(tmp_path / "b") == weights(tmp_path / "whole")
    assert len(steps) - made == 2 * 31  # both go on from step 9 of 20
    with pytest.raises(UserError, match="--budget 20steps is less than the 40steps that it has had"):
        compare(text, tmp_path / "b", models, budget="20steps", train=recipe)
    assert plain(compare(text, tmp_path / "b", models, budget="40steps", train=recipe)) == plain(whole)


@pytest.mark.slow
def test_a_cut_board_is_extended_by_workers(text: Path, tmp_path: Path) -> None:
    """An extension that was cut, with a half-trained row, goes on in worker processes."""
    recipe = {"batch_size": 7, "sequence_length": 13, "warmup": 2}
    whole = compare(text, tmp_path / "whole", "gru,lstm", budget="40steps", train=recipe)
    compare(text, tmp_path / "b", "gru,lstm", budget="20steps", train=recipe)
    shutil.rmtree(tmp_path / "b/runs/lstm")
    (tmp_path / "b/results/train-lstm.json").unlink()
    again = compare(text, tmp_path / "b", "gru,lstm", budget="40steps", train=recipe, workers=2)
    assert plain(again) == plain(whole)
    assert weights(tmp_path / "b") == weights(tmp_path / "whole")


# --- seconds ----------------------------------------------------------------------------------------------------------


class Machine:
    """A clock that steps of a rule move: seconds of a step by the seconds that have passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[float], float]):
        self.now, self.seconds, self.rates = 0.0, seconds, list[float]()
        monkeypatch.setattr(loop, "clock", lambda: self.now)

    def slow(self, trainer: Trainer) -> Trainer:
        step = trainer.rule.step

        def slowed(batch: Any, rate: float) -> Any:
            self.now += self.seconds(self.now)
            self.rates.append(rate)
            return step(batch, rate)

        trainer.rule.step = slowed
        return trainer


def noisy(seconds: float) -> Callable[[float], float]:
    draw = random.Random(5)
    return lambda _: seconds * draw.lognormvariate(0, 0.3)


SPEEDS: dict[str, tuple[str, Callable[[float], float]]] = {
    "constant": ("30s", lambda now: 0.3),
    "slower half way": ("30s", lambda now: 0.2 if now < 15 else 0.8),
    "slower near the end": ("30s", lambda now: 0.2 if now < 27 else 1.0),
    "faster half way": ("30s", lambda now: 0.8 if now < 15 else 0.1),
    "slow at first": ("30s", lambda now: 5.0 if now == 0 else 0.2),
    "slower and slower": ("30s", lambda now: 0.1 * 1.1 ** now),
    "long steps": ("15s", lambda now: 2.0),
    "steps that do not divide": ("15s", lambda now: 4.4),
    "a short budget": ("1s", lambda now: 0.03),
    "noise": ("30s", noisy(0.25)),
}  # fmt: skip


@pytest.mark.parametrize("name", SPEEDS)
def test_seconds_are_kept_whatever_the_speed_does(name: str) -> None:
    """Within 10 % and a second, and the learning rate comes to its end: it falls to that of the last step."""
    budget, speed = SPEEDS[name]
    plan = Plan(Budget.parse(budget), Recipe(warmup=2), Compute("cpu", False, 1), 1)
    schedule, p, rates, last = Schedule(plan, 50), Progress(), list[float](), 0.0
    foreseen = list[int]()
    while not p.total or p.step < p.total:
        rates.append(rate_factor(p.step, schedule.end(p), plan.recipe))
        last = speed(p.seconds)
        p.step += 1
        schedule.keep_time(p, last)
        if p.total and p.seconds >= 0.75 * plan.budget.amount:
            foreseen.append(p.total)
    seconds = plan.budget.amount
    if name in ("constant", "faster half way", "slow at first", "noise"):
        assert foreseen[0] == pytest.approx(p.step, rel=0.1)
    assert p.seconds <= 1.1 * seconds + 1
    assert p.seconds + last > 0.9 * seconds - 1  # it ends early only where no other step fits
    falling = rates[rates.index(1.0) :]
    assert falling == sorted(falling, reverse=True)
    assert rates[-1] <= 2 * (last + abs(seconds - p.seconds)) / seconds + 0.02


@pytest.mark.parametrize("change", [1.0, 4.0, 0.25])
def test_a_slowed_model_keeps_its_budget(
    change: float, text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real model whose steps take time by a clock that stands still otherwise, and whose speed changes half way."""
    machine = Machine(monkeypatch, lambda now: 0.02 * (change if now > 0.5 else 1))
    trainer = make_trainer(prepare(settings(text, "gru", "1s"), corpus), RunFolder.create(tmp_path))
    machine.slow(trainer).advance()
    assert 0.9 < trainer.progress.seconds < 1.1
    assert trainer.progress.seconds == pytest.approx(machine.now) and len(machine.rates) == trainer.progress.step


def test_the_seconds_of_a_run_are_those_of_the_clock(text: Path, tmp_path: Path, corpus: Any) -> None:
    """Steps that really take time: no more seconds are counted than have passed, and no fewer than steps have slept."""
    trainer = make_trainer(prepare(settings(text, "gru", "1s"), corpus), RunFolder.create(tmp_path))
    step = trainer.rule.step

    def slowed(batch: Any, rate: float) -> Any:
        time.sleep(0.05)
        return step(batch, rate)

    trainer.rule.step, began = slowed, time.perf_counter()
    trainer.advance()
    passed, steps = time.perf_counter() - began, trainer.progress.step
    assert 0.05 * steps <= trainer.progress.seconds <= passed and trainer.progress.done


def test_too_few_steps_are_told_before_training(
    text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cold(now: float) -> float:
        return 1.0 if now < 2 else 0.1

    cases: list[tuple[str, Any, int | None]] = [
        ("15s", 2.1, 7),
        ("30s", 0.5, 60),
        ("30s", 0.3, None),
        ("30s", cold, None),
    ]
    for number, (budget, speed, steps) in enumerate(cases):
        machine = Machine(monkeypatch, speed if callable(speed) else lambda _, speed=speed: speed)
        chosen = settings(text, "gru", budget, train={**NO_WARM_UP, "warmup": 80})
        told: list[tuple[int, str]] = []
        trainer = make_trainer(prepare(chosen, corpus), RunFolder.create(tmp_path / str(number)))
        trainer.warn = lambda text, trainer=trainer, told=told: told.append((trainer.progress.step, text))
        machine.slow(trainer).advance()
        few = [(step, one) for step, one in told if "too few" in one]
        assert trainer.progress.too_few_steps == steps
        if steps is None:
            assert not few
            continue
        ((at, sentence),) = few
        assert at == max(3, math.ceil(0.06 * float(budget[:-1]) / speed))
        assert f"about {steps} steps in {budget}" in sentence and "warms up over 80" in sentence
    fixed = make_trainer(prepare(settings(text, "gru", "5steps", train={**NO_WARM_UP, "warmup": 80}), corpus),
                         RunFolder.create(tmp_path / "fixed"))  # fmt: skip
    said: list[str] = []
    fixed.warn = said.append
    fixed.advance(stop=lambda: True)
    assert said and said[0].startswith("5 steps in 5steps") and "--budget 400steps" in said[0]


def test_a_busy_machine_is_noticed(text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has a processor for half of the time, and one that has it all the time."""
    for share, told in ((0.5, True), (0.95, False)):
        machine, said = Machine(monkeypatch, lambda _: 0.1), list[str]()
        with monkeypatch.context() as patch:
            patch.setattr(loop.time, "thread_time", lambda share=share, machine=machine: share * machine.now)
            trainer = make_trainer(
                prepare(settings(text, "gru", "3s"), corpus), RunFolder.create(tmp_path / str(share))
            )
            trainer.warn = said.append
            machine.slow(trainer).advance()
        assert trainer.progress.contended == (pytest.approx(0.5) if told else None)
        assert any("for 50% of the 3 s of training" in one for one in said) == told


# --- long work that is no step ----------------------------------------------------------------------------------------


def test_restarts_of_em_that_do_not_fit_are_left_out(
    text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials may take half of the budget: of eight of 2 s each, two in 10 s."""
    machine = Machine(monkeypatch, lambda _: 0.1)
    chosen = settings(text, "stepwise EM", "10s", train={**KINDS["stepwise EM"]["train"], "restarts": 8})
    trainer = machine.slow(make_trainer(prepare(chosen, corpus), RunFolder.create(tmp_path)))
    trial = trainer.rule._trial  # type: ignore[attr-defined]

    def long(*arguments: Any) -> float:
        machine.now += 2.0
        return trial(*arguments)

    trainer.rule._trial = long  # type: ignore[attr-defined]
    trainer.advance()
    (event,) = [event for event in trainer.run.events() if event["event"] == "restarts"]
    assert len(event["starts"]) == 2 and trainer.progress.seconds <= 12


def test_counting_ends_with_the_seconds_and_goes_on_with_more(
    text: Path, tmp_path: Path, corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(budget: str) -> Trainer:
        machine = Machine(monkeypatch, lambda _: 1.0)
        chosen = RunConfig.make({"data": str(text), "model_type": "ngram", "budget": budget, "unit": "lines"})
        trainer = make_trainer(prepare(chosen, corpus), RunFolder.create(tmp_path, resume=True))
        batch = trainer.source.at(0, 0)
        trainer.source = loop.Source(9, lambda epoch, place: batch)
        trainer.schedule = loop.Schedule(trainer.plan, 9)
        trainer.resume()
        machine.slow(trainer).advance()
        return trainer

    first = counted("5s")
    assert first.progress.cut and first.progress.step == 5 and first.progress.seconds <= 6.5
    second = counted("20s")
    assert not second.progress.cut and second.progress.step == 9
    assert counted("30s").progress.step == 9 and counted("30s").progress.seconds == second.progress.seconds


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    draw = random.Random(3)
    path = tmp_path / "wave.csv"
    path.write_text("x\n" + "".join(f"{(k % 12) + draw.random():.3f}\n" for k in range(150)))
    return path


def test_a_long_search_for_a_maximum_ends_with_the_seconds(
    wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kalman: every evaluation takes 0.5 s by the clock; with time enough it takes as many as it needs."""
    from chainrule.models.kalman import Kalman

    score = Kalman._score
    for budget, most in (("4s", 5.4), ("1000s", 1000.0)):
        machine = Machine(monkeypatch, lambda _: 0.1)

        def slowed(self: Any, *arguments: Any, machine: Machine = machine) -> Any:
            machine.now += 0.5
            return score(self, *arguments)

        monkeypatch.setattr(Kalman, "_score", slowed)
        chosen = RunConfig.make({"data": str(wave), "task": "series", "model_type": "kalman", "budget": budget})
        trainer = train(chosen, tmp_path / budget)
        assert trainer.progress.seconds <= most
    assert trainer.progress.seconds > 20
