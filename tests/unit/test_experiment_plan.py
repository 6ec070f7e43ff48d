"""Hashes of an experiment: what a result depends on changes the hash of its job, and nothing else does."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from chainrule.core import UserError, model_type
from chainrule.experiment.plan import Plan, Source, make_plan, request_of, shared_key
from chainrule.experiment.rows import label_of, parse_models
from chainrule.experiment.run import Request, run
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import read_data

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]
MODEL = Path(__file__).parents[2] / "examples/my_model.py"


pytestmark = pytest.mark.usefixtures("model_types_of_its_own")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    rng, folder = random.Random(3), tmp_path / "corpus"
    folder.mkdir()
    (folder / "text.txt").write_text("".join(" ".join(rng.choices(WORDS, k=7)) + "\n" for _ in range(60)))
    return folder


def settings_of(text: Path, **more: Any) -> RunConfig:
    return RunConfig.make({"data": str(text), "model_type": "ngram", "budget": "6steps", "size": "tiny", **more})


def plan_of(text: Path, models: str = "gru,ngram", **more: Any) -> Plan:
    settings = settings_of(text, **more)
    return make_plan(settings, parse_models(models), Source.of(settings, read_data(settings)))


def jobs_of(*arguments: Any, **more: Any) -> dict[str, str]:
    return {job.id: job.hash for job in plan_of(*arguments, **more).jobs.values()}


@pytest.mark.parametrize(
    "changed",
    [{"seed": 7}, {"model": {"layers": 2}}, {"train": {"lr": 0.1}}, {"tokenizer": "char"},
     {"split": (0.8, 0.1, 0.1)}, {"context": 16}, {"precision": "fp32"}, {"on_bad": "skip"}],
)  # fmt: skip
def test_a_setting_changes_the_hash_of_every_job_of_the_row(text: Path, changed: dict[str, Any]) -> None:
    before, after = jobs_of(text), jobs_of(text, **changed)
    assert before.keys() == after.keys()
    assert before["train-gru"] != after["train-gru"] and before["measure-gru"] != after["measure-gru"]
    settings, other = settings_of(text), settings_of(text, **changed)
    source, other_source = (Source.of(s, read_data(s)) for s in (settings, other))
    assert shared_key(settings, source) != shared_key(other, other_source)


def test_a_budget_changes_the_hash_of_training_and_not_what_can_be_trained_further(text: Path) -> None:
    plan, other = plan_of(text), plan_of(text, budget="7steps")
    assert plan.key == other.key and plan.jobs["prepare"] == other.jobs["prepare"]
    for name in ("train-gru", "measure-gru"):
        mine, longer, changed = (p.jobs[name] for p in (plan, other, plan_of(text, train={"lr": 0.1})))
        assert mine.hash != longer.hash and mine.without_budget == longer.without_budget != ""
        assert changed.without_budget != mine.without_budget


def beside(jobs: dict[str, str], row: str) -> dict[str, str]:
    """The jobs of all rows but this one and the mixture."""
    return {name: job for name, job in jobs.items() if row not in name and "mix" not in name}


def test_a_setting_of_one_row_changes_no_other_row(text: Path) -> None:
    before, after = jobs_of(text, "gru,ngram"), jobs_of(text, "gru:layers=2,ngram")
    assert beside(before, "gru") == beside(after, "gru")
    assert before["mix"] != after["mix"]  # it is made of all rows
    assert before["train-gru"] not in after.values()


def test_where_data_lie_and_how_often_they_are_saved_changes_nothing(text: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "corpus"
    shutil.copytree(text, moved)
    assert jobs_of(text) == jobs_of(moved) == jobs_of(text, save_every="1s")
    assert beside(jobs_of(text, "ngram,gru,markov"), "markov") == beside(jobs_of(text), "markov")


def test_other_data_change_every_hash(text: Path) -> None:
    before = jobs_of(text)
    with (text / "text.txt").open("a") as file:
        file.write("one more line\n")
    assert not set(before.values()) & set(jobs_of(text).values())


def test_the_file_of_a_tokenizer_is_part_of_what_its_rows_depend_on(text: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    models = f"gru,ngram:tokenizer={own}"
    request = lambda: request_of(settings_of(text), models, 1, tmp_path / "out")  # noqa: E731
    own.write_text("{}")
    before, asked = jobs_of(text, models), request()
    assert jobs_of(text, models) == before and request() == asked
    own.write_text("{ }")
    after = jobs_of(text, models)
    assert request() != asked
    changed = {name for name in before if before[name] != after[name]}
    assert (
        changed == {name for name in before if "ngram" in name} and len(changed) == 4
    )  # prepare, train, measure, memory


def test_a_tokenizer_that_all_rows_share_is_part_of_the_experiment(text: Path, tmp_path: Path) -> None:
    shared, beside = tmp_path / "shared.json", text / "tokenizer.json"
    for file, more in ((shared, {"tokenizer": str(shared)}), (beside, {})):
        keys, jobs = set(), list[dict[str, str]]()
        for content in ("{}", "{ }"):
            file.write_text(content)
            plan = plan_of(text, **more)
            keys.add(plan.key)
            jobs.append({job.id: job.hash for job in plan.jobs.values()})
        assert len(keys) == 2 and not set(jobs[0].values()) & set(jobs[1].values())


@pytest.mark.parametrize("named", [True, False])
def test_the_file_of_a_model_type_is_part_of_what_its_rows_depend_on(named: bool, text: Path, tmp_path: Path) -> None:
    """The file counts whether ``--models`` names it or ``--plugin`` does and ``--models`` the model type."""
    from chainrule.core import load_file

    plugin = tmp_path / "mine.py"

    def hashes() -> tuple[dict[str, str], str | None]:
        if not named:
            load_file(plugin, task=None)
        models, given = (f"gru,{plugin}", None) if named else ("gru,fading", str(plugin))
        return jobs_of(text, models), request_of(settings_of(text), models, 1, tmp_path / "out", given)

    plugin.write_text(MODEL.read_text())
    before, asked = hashes()
    assert hashes() == (before, asked)
    plugin.write_text(MODEL.read_text() + "\n# another version\n")
    after, asked_again = hashes()
    assert asked_again != asked
    assert {name for name in before if before[name] != after[name]} == {
        "train-fading", "measure-fading", "memory-fading", "mix", "measure-mix",  # the mixture is made of all rows
    }  # fmt: skip


def test_the_run_that_rows_begin_with_is_part_of_the_experiment(text: Path, tmp_path: Path) -> None:
    learnt = tmp_path / "learnt"
    learnt.mkdir()
    keys = set()
    for content in (None, "{}", "{ }"):
        if content:
            (learnt / "MANIFEST.json").write_text(content)
        keys.add(plan_of(text, pretrained=str(learnt)).key)
    assert len(keys) == 3


def test_a_run_to_begin_with_that_no_row_can_use_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--from learnt: no row can start from another run"):
        run(Request(settings_of(text, pretrained="learnt"), "gru,markov", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_plan_is_what_was_saved(text: Path) -> None:
    plan = plan_of(text, "gru:layers=2,ngram:tokenizer=word", seed=5)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_overwriting_leaves_a_file_that_is_no_plan_of_ours(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "project"
    out.mkdir()
    (out / "plan.json").write_text('{"title": "my own plan"}')
    with pytest.raises(UserError, match=r"plan\.json: not a plan of a comparison"):
        run(Request(settings_of(text), "markov", out, overwrite=True))
    assert [path.name for path in out.iterdir()] == ["plan.json"]
    assert (out / "plan.json").read_text() == '{"title": "my own plan"}'


def test_rows_are_called_as_their_model_types_are(tmp_path: Path) -> None:
    def label(entry: str) -> str:
        (spec,) = parse_models(entry)
        return label_of(spec, model_type(spec.model_type).label)

    assert [label(entry) for entry in ("gpt", "ngram:tokenizer=word", "gru:layers=2+width=8", "window")] == [
        "GPT", "n-gram (tokenizer=word)", "GRU (layers=2, width=8)", "window",
    ]  # fmt: skip
    assert label(str(MODEL)) == "fading"
