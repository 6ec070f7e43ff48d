"""Together: figures are those of the training log, and what is missing, or was trained otherwise, is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chainrule.claims import Runs
from chainrule.claims.together import USES, Parts
from chainrule.core import model_type
from tests.claims.loaded import claim, loaded, table, told
from tests.claims.test_book import check_command
from tests.explain.labelled_runs import task_run
from tests.explain.runs import small_run


@pytest.fixture(scope="module")
def runs() -> Runs:
    more = {"filler": task_run("fill", "bert"), "translator": task_run("translate", "transformer")}
    return loaded("gpt", "markov", **more)


def test_families_are_model_types_of_their_tasks() -> None:
    for family in USES:
        assert model_type(family.model, family.task).name == family.model


def test_loaded_families_are_told_and_missing_ones_have_commands(runs: Runs) -> None:
    found = claim("together").measure(runs)
    assert found.holds == "partly" and "3 of the 5" in told(found, "together")[0]
    assert "vit (classify-images), dalle (draw)" in told(found, "together")[1]
    check_command(found.command)
    assert found.command.count("--model") == 2 and found.command.count("\n") == 2


def test_figures_are_those_of_the_training_log(runs: Runs) -> None:
    found = claim("together").measure(runs)
    rows = {row[0]: row[1:] for row in table(found, "table")}
    assert {*rows} == {"gpt", "markov", "filler", "translator"}
    for name, run in (("gpt", small_run("gpt")), ("translator", task_run("translate", "transformer"))):
        if run.path is None:
            continue
        lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
        best = min(line["value"] for line in lines if line["event"] == "valid")
        assert f"{best:.3f}" in rows[name][4].values["en"] and f"{best:.3f}" in rows[name][4].values["ko"]
    assert "cross_attention" in rows["translator"][5] and "attention" in rows["filler"][5]
    assert rows["markov"][2] is None and rows["markov"][3] == "counting"


def test_blocks_are_counted_by_what_they_do(runs: Runs) -> None:
    transformer = task_run("translate", "transformer").model.config
    assert Parts.of(task_run("translate", "transformer")) == Parts(
        transformer.encoder_layers, transformer.layers, transformer.layers
    )
    assert Parts.of(small_run("gpt")) == Parts(0, small_run("gpt").model.config.layers, 0)


def test_a_family_that_was_not_trained_by_gradients_is_told() -> None:
    run = replace(small_run("gpt"), settings={**small_run("gpt").settings, "train": {"update": "counting"}})
    found = claim("together").measure(Runs({"counted": run}))
    assert found.holds == "no" and "unlike" in [said.key for said in found.told]


def test_without_a_family_nothing_is_measured() -> None:
    found = claim("together").measure(loaded("gru"))
    assert found.holds == "unmeasured"
    check_command(found.command)
