"""Training that is cut, killed, signalled or fed nonsense: what comes out is what would have come out, or an error."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from chainrule.core import CheckpointCorrupt, UserError, load_file, total
from chainrule.core.compute import RandomState
from chainrule.data import TextDataset
from chainrule.data.tokenizers import CharTokenizer
from chainrule.runs import RunFolder
from chainrule.runs import folder as run_folder
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import describe, make_trainer, prepare, read_data
from chainrule.tasks.train import train
from chainrule.training import rules
from chainrule.training.loop import Trainer
from chainrule.training.rules import GradientRule, NonFinite
from tests.faults import harness

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]
STEPS = 31
RUNS: dict[str, dict[str, Any]] = {
    "gru": {"model_type": "gru", "model": {"dropout": 0.3}, "train": {"batch_size": 7, "sequence_length": 13}},
    "gpt": {"model_type": "gpt", "model": {"dropout": 0.3, "context": 17}, "train": {"batch_size": 11}},
    "accumulated": {
        "model_type": "gru",
        "model": {"dropout": 0.3},
        "train": {"batch_size": 7, "sequence_length": 13, "grad_accumulation": 3},
    },
    "averaged": {
        "model_type": "gru",
        "model": {"dropout": 0.3},
        "train": {"batch_size": 7, "sequence_length": 13, "average_last": 3},
    },
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 5 kB of made-up sentences."""
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("".join(" ".join(rng.choices(WORDS, k=7)) + "\n" for _ in range(139)))
    return path


@pytest.fixture(scope="module")
def corpus(text: Path) -> TextDataset:
    return read_data(RunConfig.make({"data": str(text), "model_type": "gru"}))


def settings(text: Path, kind: str, **more: Any) -> RunConfig:
    fixed = {"data": str(text), "size": "tiny", "budget": f"{STEPS}steps", "threads": 1, "precision": "fp32"}
    return RunConfig.make({**fixed, **RUNS[kind], "save_every": "5steps", **more})


def start(folder: Path, chosen: RunConfig, corpus: TextDataset) -> Trainer:
    """A trainer as a new process would build it: nothing of an earlier one is left but the folder."""
    ready, run = prepare(chosen, corpus), RunFolder.create(folder, resume=True)
    torch.manual_seed(random.randrange(1 << 30))  # whatever stood in the generator must not matter
    trainer = make_trainer(ready, run)
    trainer.resume()
    describe(run, ready)
    return trainer


def sha(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint(folder: Path) -> dict[str, Any]:
    """All that a finished run came to: the newest checkpoint's groups, the best weights, the curve; not the seconds."""
    run = RunFolder(folder)
    found = run.newest_checkpoint()
    assert found.checkpoint is not None
    assert not found.reports
    progress = found.checkpoint.meta["progress"]
    progress["curve"] = [{k: v for k, v in point.items() if k != "seconds"} for point in progress["curve"]]
    progress = {k: v for k, v in progress.items() if k not in ("seconds", "pace", "cpu", "contended")}
    groups = {name: sha(tensors) for name, tensors in found.checkpoint.groups.items()}
    return {"groups": groups, "served": sha(run.load_model()[1]), "progress": progress}


def state_of(trainer: Trainer) -> dict[str, str]:
    """Weights, moments, carried State and generator of a trainer in memory."""
    assert isinstance(trainer.rule, GradientRule)
    groups = {"model": dict(trainer.model.state_dict()), "best": trainer.best, **trainer.rule.tensors()}
    return {**{k: sha(v) for k, v in groups.items()}, "random": sha(trainer.random.tensors())}


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNS)
def test_cut_at_random_places_and_resumed_is_bit_for_bit_the_uninterrupted_run(
    tmp_path: Path, text: Path, corpus: TextDataset, kind: str
) -> None:
    chosen = settings(text, kind)
    whole = start(tmp_path / "whole", chosen, corpus)
    whole.advance()
    expected = fingerprint(tmp_path / "whole")
    assert expected["progress"]["step"] == STEPS
    assert expected["groups"].keys() >= {"model", "best", "optimizer", "random"}
    cuts = random.Random(f"cuts of {kind}")
    for cut in cuts.sample(range(2, STEPS), 5):
        folder, every = tmp_path / f"cut-{cut}", cuts.randint(1, 7)
        for _ in range(2):  # the second life is cut too
            trainer = start(folder, chosen.replace(save_every=f"{every}steps"), corpus)
            until = trainer.progress.step + cut
            trainer.advance(stop=lambda trainer=trainer, until=until: trainer.progress.step >= until)
        start(folder, chosen, corpus).advance()
        assert fingerprint(folder) == expected, (cut, every)
        shutil.rmtree(folder)


def test_the_average_is_the_mean_of_the_last_weights_and_is_tried_beside_them(
    tmp_path: Path, text: Path, corpus: TextDataset
) -> None:
    trainer, seen = start(tmp_path / "run", settings(text, "averaged", budget="60steps"), corpus), {}
    trainer.tell = lambda progress, step: seen.setdefault(progress.step, parameters(trainer))
    trainer.advance()
    assert trainer.progress.averaged == 4
    for name, mean in trainer.mean.items():
        expected = torch.stack([seen[step][name] for step in (54, 56, 58, 60)]).mean(0)
        torch.testing.assert_close(mean, expected, rtol=1e-6, atol=1e-6)
    assert [point["step"] for point in trainer.progress.curve[-2:]] == [60, 60]
    assert len({point["value"] for point in trainer.progress.curve[-2:]}) == 2


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_that_are_kept_are_the_best_or_the_last(
    tmp_path: Path, text: Path, corpus: TextDataset, keep: str
) -> None:
    chosen = settings(text, "averaged", budget="40steps")
    trainer = start(
        tmp_path / "run", chosen.replace(train={**chosen.train, "average_last": 0, "keep_weights": keep}), corpus
    )
    worse = iter(range(1, 1000))
    trainer.validate = lambda model: float(next(worse))  # the first is the best
    trainer.advance()
    steps = [point["step"] for point in trainer.progress.curve]
    assert len(steps) > 2
    assert trainer.progress.best_step == (steps[0] if keep == "best" else steps[-1])
    last = parameters(trainer)
    trainer.restore_best()
    assert all(torch.equal(last[name], x) for name, x in parameters(trainer).items()) == (keep == "last")


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


@pytest.mark.parametrize("kind", ["gru", "accumulated"])
def test_saved_in_the_middle_of_an_epoch_moments_and_carried_state_go_on(
    tmp_path: Path, text: Path, corpus: TextDataset, kind: str
) -> None:
    chosen = settings(text, kind, budget="1000steps", save_every="1000steps")
    one = start(tmp_path / "one", chosen, corpus)
    per_epoch = one.source.steps_per_epoch
    assert per_epoch > 23
    one.advance(stop=lambda: one.progress.step >= 17)
    one.save()
    before = state_of(one)
    one.advance(stop=lambda: one.progress.step >= 23)
    after = state_of(one)
    two = start(tmp_path / "one", chosen, corpus)
    assert two.progress.step == 17
    assert state_of(two) == before
    two.advance(stop=lambda: two.progress.step >= 23)
    assert state_of(two) == after
    carried = two.rule.tensors()["carried"]
    assert {name.split(".")[0] for name in carried} == {str(i) for i in range(chosen.train.get("grad_accumulation", 1))}


def test_a_resumed_run_that_forgot_its_generator_or_its_moments_would_be_noticed(
    tmp_path: Path, text: Path, corpus: TextDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above bites: each of the groups that are saved is needed for equality."""
    chosen = settings(text, "gru")
    whole = start(tmp_path / "whole", chosen, corpus)
    whole.advance()
    expected = fingerprint(tmp_path / "whole")
    restore = GradientRule.restore

    def forgetting(group: str) -> Any:
        return lambda self, groups: restore(self, {k: v for k, v in groups.items() if k != group})

    for group in ("optimizer", "carried"):
        monkeypatch.setattr(GradientRule, "restore", restore)
        folder = tmp_path / group
        first = start(folder, chosen, corpus)
        first.advance(stop=lambda first=first: first.progress.step >= 11)
        monkeypatch.setattr(GradientRule, "restore", forgetting(group))
        start(folder, chosen, corpus).advance()
        assert fingerprint(folder)["groups"]["model"] != expected["groups"]["model"], group
    monkeypatch.setattr(GradientRule, "restore", restore)
    first = start(tmp_path / "random", chosen, corpus)
    first.advance(stop=lambda: first.progress.step >= 11)
    second = start(tmp_path / "random", chosen, corpus)
    second.random = RandomState(5)  # not that of the checkpoint
    second.advance()
    assert fingerprint(tmp_path / "random")["groups"]["model"] != expected["groups"]["model"]


def test_weights_that_were_best_before_the_cut_are_still_the_best_after_it(
    tmp_path: Path, text: Path, corpus: TextDataset
) -> None:
    chosen = settings(text, "gru", train={"batch_size": 7, "sequence_length": 13, "decay_fraction": 0.0})

    def lived(folder: Path, *cuts: int) -> dict[str, Any]:
        for cut in (*cuts, STEPS):
            trainer = start(folder, chosen, corpus)
            trainer.validate = lambda _model, trainer=trainer: abs(trainer.progress.step - 6.0)
            trainer.advance(stop=lambda trainer=trainer, cut=cut: trainer.progress.step >= cut)
        trainer.restore_best()
        assert sha(dict(trainer.model.state_dict())) == fingerprint(folder)["served"]
        return fingerprint(folder)

    whole = lived(tmp_path / "whole")
    assert whole["progress"]["best_step"] == 6
    assert whole["groups"]["best"] == whole["served"] != whole["groups"]["model"]
    assert lived(tmp_path / "cut", 13, 19) == whole


def test_the_log_of_a_resumed_run_tells_each_evaluation_once(tmp_path: Path, text: Path, corpus: TextDataset) -> None:
    chosen = settings(text, "gru", save_every="7steps")
    first = start(tmp_path / "run", chosen, corpus)
    first.advance(stop=lambda: first.progress.step >= 13)
    start(tmp_path / "run", chosen, corpus).advance()
    steps = [e["step"] for e in RunFolder(tmp_path / "run").events() if e["event"] == "valid"]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS


def test_a_finished_run_is_resumed_without_another_step(tmp_path: Path, text: Path, corpus: TextDataset) -> None:
    chosen = settings(text, "gru")
    train(chosen, tmp_path / "run", dataset=corpus)
    expected = fingerprint(tmp_path / "run")
    again = train(chosen, tmp_path / "run", resume="auto", dataset=corpus)
    assert again.progress.done
    assert fingerprint(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 7}, "seed"),
        ({"train": {"batch_size": 5, "sequence_length": 13}}, "train"),
        ({"model": {"dropout": 0.1}}, "model"),
        ({"model_type": "lstm"}, "model_type"),
        ({"budget": "2steps"}, "budget"),
        ({"split": (0.8, 0.1, 0.1)}, "other data or another split"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_make_other_weights_is_not_continued(
    tmp_path: Path, text: Path, corpus: TextDataset, changed: dict[str, Any], named: str
) -> None:
    chosen = settings(text, "gru", budget="3steps")
    train(chosen, tmp_path / "run", dataset=corpus)
    expected = fingerprint(tmp_path / "run")
    other = chosen.replace(**changed)
    with pytest.raises(UserError, match=named):
        train(other, tmp_path / "run", resume="auto")
    assert fingerprint(tmp_path / "run") == expected


@pytest.mark.usefixtures("model_types_of_its_own")
def test_another_content_of_the_files_that_a_run_was_made_with_is_not_continued(tmp_path: Path, text: Path) -> None:
    """The file of the model type, or of the tokenizer, under the same name."""
    source = (Path(__file__).parents[2] / "examples/my_model.py").read_text()
    plugin, alphabet = tmp_path / "mine.py", tmp_path / "tokenizer.json"
    known = "".join(sorted(set(text.read_text())))
    for content, characters in ((source, known), (source + "\n# another version\n", known), (source, known + "é")):
        plugin.write_text(content)
        alphabet.write_text(json.dumps(CharTokenizer(characters).to_json()))
        (chosen,) = load_file(plugin)
        more = {"model_type": chosen.name, "model": {}, "train": {}, "tokenizer": str(alphabet)}
        given = settings(text, "gru", budget="3steps", **more)
        if (content, characters) == (source, known):
            train(given, tmp_path / "run", resume="auto")
            expected = fingerprint(tmp_path / "run")
            continue
        with pytest.raises(UserError, match="another version of the file" if content != source else "another content"):
            train(given, tmp_path / "run", resume="auto")
        assert fingerprint(tmp_path / "run") == expected


@pytest.mark.parametrize("name", ["config.json", "data.json", "processor.json", "environment.json", "MANIFEST.json"])
def test_a_run_that_was_killed_while_it_was_described_first_is_resumed(
    name: str, tmp_path: Path, text: Path, corpus: TextDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, write, killed = settings(text, "gru", budget="3steps"), run_folder.write_file, []

    def dies(path: Path, data: bytes) -> None:
        begun = (tmp_path / "run/config.yaml").exists()
        if path.name == name and begun and not killed:
            killed.append(path)
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(run_folder, "write_file", dies)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "run", dataset=corpus)
    train(chosen, tmp_path / "run", resume="auto", dataset=corpus)
    train(chosen, tmp_path / "whole", dataset=corpus)
    assert fingerprint(tmp_path / "run")["served"] == fingerprint(tmp_path / "whole")["served"]


def test_a_model_that_cannot_be_built_costs_nothing_even_with_overwrite(
    tmp_path: Path, text: Path, corpus: TextDataset
) -> None:
    train(settings(text, "gru", budget="3steps"), tmp_path / "run", dataset=corpus)
    expected = fingerprint(tmp_path / "run")
    with pytest.raises(UserError, match="heads"):
        train(settings(text, "gpt", model={"heads": 7}), tmp_path / "run", overwrite=True, dataset=corpus)
    assert fingerprint(tmp_path / "run") == expected


# --- accumulation -----------------------------------------------------------------------------------------------------


def accumulated(folder: Path, text: Path, parts: int) -> dict[str, torch.Tensor]:
    recipe = {"batch_size": 8, "sequence_length": 13, "grad_accumulation": parts, "reset_prob": 0.2}
    chosen = settings(text, "gru", train=recipe, model={}, unit="lines")  # rows differ in how many targets they have
    trainer = start(folder, chosen, read_data(chosen))
    trainer.model.double()  # so that only a wrong weighting is seen, not the rounding that AdamW amplifies
    trainer.advance(stop=lambda: trainer.progress.step >= 7)
    return {name: x.clone() for name, x in trainer.model.state_dict().items()}


def test_one_batch_of_8_rows_and_8_batches_of_1_row_make_the_same_weights(tmp_path: Path, text: Path) -> None:
    whole = accumulated(tmp_path / "a", text, 1)
    parts = accumulated(tmp_path / "b", text, 8)
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=1e-9)


def test_averaging_the_parts_would_be_noticed(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual mistake: a mean of means, where parts have different numbers of targets."""
    whole = accumulated(tmp_path / "a", text, 1)
    mean = {"nats": torch.tensor(8)}
    monkeypatch.setattr(
        rules,
        "total",
        lambda terms, _: total({"nats": (terms["nats"][0] / terms["nats"][1], *terms["nats"][1:])}, mean),
    )
    parts = accumulated(tmp_path / "b", text, 8)
    assert any(not torch.allclose(parts[name], whole[name], rtol=0, atol=1e-6) for name in whole)


# --- kill -9 and signals ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("disk_that_waits")
def test_20_kills_of_real_training_lose_nothing_and_the_weights_are_those_of_the_uninterrupted_run(
    tmp_path: Path, text: Path, corpus: TextDataset
) -> None:
    chosen = settings(text, "gru", save_every="1steps", budget="61steps")
    resumed = harness.SharedNumber()

    def work(folder: Path) -> None:
        trainer = start(folder, chosen, corpus)
        resumed.value += trainer.progress.step > 0
        trainer.advance()

    def check(folder: Path) -> None:
        if not folder.exists():
            return
        run = RunFolder(folder)
        assert run.newest_checkpoint().reports == []
        if run.has("model.safetensors"):
            run.load_model()

    def finished(folder: Path) -> None:
        assert fingerprint(folder) == expected
        shutil.rmtree(folder)

    assert harness.in_child(work, tmp_path / "whole") == 0
    expected = fingerprint(tmp_path / "whole")
    resumed.value = 0
    tally = harness.kill_at_random(work, check, tmp_path / "run", longest=0.35, finished=finished)
    assert tally.unreadable == []
    assert tally.kills >= 20
    assert tally.mid_write >= 5, tally
    assert resumed.value >= 5
    assert harness.in_child(work, tmp_path / "run") == 0
    finished(tmp_path / "run")


def test_sigterm_saves_and_the_second_run_finishes_as_if_there_had_been_none(
    tmp_path: Path, text: Path, corpus: TextDataset
) -> None:
    steps = 199
    chosen = settings(text, "gru", save_every="1000steps", budget=f"{steps}steps")
    command = [sys.executable, "-m", "chainrule.cli", "train", str(text), "--model", "gru", "--budget", f"{steps}steps"]
    command += [
        "--set",
        "size=tiny",
        "--set",
        "model.dropout=0.3",
        "--set",
        "train.batch_size=7",
        "--set",
        "train.sequence_length=13",
    ]
    command += ["--threads", "1", "--precision", "fp32", "--save-every", "1000steps", "--out", str(tmp_path / "run")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run/metrics.jsonl"
    while child.poll() is None and not (log.exists() and '"event": "valid"' in log.read_text()):
        time.sleep(0.002)
    child.send_signal(signal.SIGTERM)
    message = child.communicate()[1]
    assert child.returncode == 143, message
    assert "Traceback" not in message
    told = re.search(r"stopped at step (\d+); saved", message)
    assert told
    saved = RunFolder(tmp_path / "run").newest_checkpoint().checkpoint
    assert saved is not None
    assert saved.step == int(told[1])
    assert 0 < saved.step < steps
    train(chosen, tmp_path / "run", resume="auto")
    train(chosen, tmp_path / "whole", dataset=corpus)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


# --- losses that are no numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_before_the_update(
    tmp_path: Path, text: Path, corpus: TextDataset, monkeypatch: pytest.MonkeyPatch, where: str, value: float
) -> None:
    chosen = settings(text, "gru", train={"batch_size": 5, "sequence_length": 17}, save_every="3steps")
    trainer = start(tmp_path / "run", chosen, corpus)
    trainer.advance(stop=lambda: trainer.progress.step >= 11)
    before, moments = sha(dict(trainer.model.state_dict())), sha(trainer.rule.tensors()["optimizer"])

    def poisoned(terms: Any, counts: Any) -> torch.Tensor:
        loss = total(terms, counts)
        if where == "loss":
            return loss * value
        loss.register_hook(lambda gradient: gradient * value)
        return loss

    monkeypatch.setattr(rules, "total", poisoned)
    with pytest.raises(NonFinite) as caught:
        trainer.advance()
    epoch, batch = divmod(11, trainer.source.steps_per_epoch)
    assert f"step 11 (epoch {epoch}, batch {batch})" in str(caught.value)
    assert sha(dict(trainer.model.state_dict())) == before
    assert sha(trainer.rule.tensors()["optimizer"]) == moments
    assert trainer.progress.step == 11
    saved = RunFolder(tmp_path / "run").newest_checkpoint().checkpoint
    assert saved is not None
    assert saved.step == 9


def test_after_a_loss_that_was_no_number_the_run_can_be_resumed(
    tmp_path: Path, text: Path, corpus: TextDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(text, "gru")
    train(chosen, tmp_path / "whole", dataset=corpus)
    calls = 0

    def poisoned(terms: Any, counts: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return total(terms, counts) * (float("nan") if calls == 12 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(rules, "total", poisoned)
        with pytest.raises(NonFinite, match="step 11 "):
            train(chosen, tmp_path / "run", dataset=corpus)
    train(chosen, tmp_path / "run", resume="auto", dataset=corpus)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


# --- damaged checkpoints ----------------------------------------------------------------------------------------------


def damage_checkpoint(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(harness.damage(path.read_bytes(), "bit", random.Random(5)))


def half_a_run(folder: Path, chosen: RunConfig, corpus: TextDataset) -> list[Path]:
    trainer = start(folder, chosen, corpus)
    trainer.advance(stop=lambda: trainer.progress.step >= 17)
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    assert [path.name for path in checkpoints] == ["step-000010", "step-000015"]
    return checkpoints


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_leads_to_the_same_weights(
    tmp_path: Path, text: Path, corpus: TextDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(text, "gru")
    train(chosen, tmp_path / "whole", dataset=corpus)
    newest = half_a_run(tmp_path / "run", chosen, corpus)[-1]
    damage_checkpoint(newest)
    capsys.readouterr()
    train(chosen, tmp_path / "run", resume="auto", dataset=corpus)
    told = capsys.readouterr().err
    assert "damaged, passed over" in told
    assert str(newest / "model.safetensors") in told
    assert "continuing at step 10" in told
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_where_all_checkpoints_are_damaged_training_does_not_quietly_begin_afresh(
    tmp_path: Path, text: Path, corpus: TextDataset
) -> None:
    chosen = settings(text, "gru")
    for path in half_a_run(tmp_path / "run", chosen, corpus):
        damage_checkpoint(path)
    log = (tmp_path / "run/metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointCorrupt, match=r"step-000015.*step-000010.*--overwrite"):
        train(chosen, tmp_path / "run", resume="auto", dataset=corpus)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == log
    assert len(list((tmp_path / "run/checkpoints").glob("step-*"))) == 2
    train(chosen, tmp_path / "run", overwrite=True, dataset=corpus)
    assert json.loads((tmp_path / "run/config.json").read_text())["model_type"] == "gru"
    assert fingerprint(tmp_path / "run")["progress"]["step"] == STEPS
