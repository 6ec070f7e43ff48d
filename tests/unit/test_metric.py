"""Metrics: one declaration shows in results, boards and sentences; blocks and intervals against hand arithmetic."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from chainrule.core.metric import AGGREGATES, Metric, item_sums
from chainrule.experiment.board import budget_in_words
from chainrule.experiment.statistics import Blocks, block_edges, difference, interval, make_blocks, rank
from chainrule.experiment.verdict import useful_context
from chainrule.tasks.base import find_task

BITS = Metric(
    "bits", "bits per byte", "바이트당 비트", sentence="{} bits per byte", of="nats", per="bytes", scale=math.log(2)
)
SHARE = Metric("share", "accuracy", "정확도", higher_is_better=True, of="right")


def test_a_figure_is_what_its_declaration_says() -> None:
    sums = item_sums(
        {"nats": np.array([1.0, 2.0, 3.0]), "bytes": np.array([1.0, 1.0, 2.0]), "right": np.array([1.0, 0.0, 1.0])}
    )
    assert BITS.figure(sums) == pytest.approx(6 / 4 / math.log(2))
    assert SHARE.figure(sums) == pytest.approx(2 / 3)
    assert Metric("p", "p", "p", of="nats", aggregate="exp").figure(sums) == pytest.approx(math.exp(2))
    assert (
        BITS.said(2.1184) == "2.118 bits per byte"
        and SHARE.said(0.5) == "accuracy 0.500"
        and SHARE.said(0.5, "ko") == "정확도 0.500"
    )
    assert Metric("q", "Q", "Q", unit="dB", digits=1).said(20) == "Q 20.0 dB"
    assert Metric("q", "Q", "Q", unit="%", digits=0).said(0.256) == "Q 26%"
    assert BITS.better(1.0, 2.0) == 1.0 and SHARE.better(1.0, 2.0) == -1.0
    assert Metric.from_json(BITS.to_json()) == BITS


@pytest.mark.parametrize(
    "name", ["generate", "series", "tag", "classify", "classify-images", "codes", "draw", "translate", "fill"]
)
@pytest.mark.parametrize("counted", ["byte", "symbol"])
def test_every_task_declares_its_metrics_once(name: str, counted: str) -> None:
    task = find_task(name)
    declared = task.metrics(counted)
    assert len({metric.name for metric in declared}) == len(declared)
    assert declared[0].of is not None  # the main one is resampled
    for metric in (*declared, task.validation(counted)):
        assert metric.label and metric.label_ko and metric.aggregate in AGGREGATES
        assert Metric.from_json(metric.to_json()) == metric


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_blocks_of_two_tokenizers_are_paired_over_the_same_bytes_by_hand() -> None:
    """A text of 8 bytes in blocks of 4. Tokens of 3, 3 and 2 bytes cost 6, 3 and 1: of the second, which lies across
    byte 4, a third is in the first block.
    """
    edges = block_edges(np.arange(1, 9), np.array([8]), min_block=4)
    assert edges.tolist() == [4, 8]
    single = make_blocks({"nats": np.arange(8.0), "bytes": np.ones(8)}, np.arange(1, 9), edges)
    assert (
        single.sums["nats"].tolist() == [6, 22]
        and single.sums["bytes"].tolist() == [4, 4]
        and single.sums["items"].tolist() == [4, 4]
    )
    pieces = make_blocks({"nats": np.array([6.0, 3, 1]), "bytes": np.array([3.0, 3, 2])}, np.array([3, 6, 8]), edges)
    assert pieces.sums["nats"].tolist() == pytest.approx([7, 3])
    assert pieces.sums["bytes"].tolist() == pytest.approx([4, 4])
    assert pieces.sums["items"].tolist() == pytest.approx([4 / 3, 5 / 3])


def test_single_points_fall_into_one_block_each() -> None:
    points = make_blocks({"right": np.array([1.0, 0, 1])}, np.array([2, 5, 6]), np.array([4, 8]), points=True)
    assert points.sums["right"].tolist() == [1, 1] and points.sums["items"].tolist() == [1, 2]


def test_many_records_make_blocks_of_whole_records() -> None:
    ends = np.cumsum(np.arange(1, 1001))
    edges = block_edges(np.arange(1, ends[-1] + 1), ends, min_block=256)
    assert len(edges) == 200 and set(edges) <= set(ends) and edges[-1] == ends[-1]


def test_statistics_of_several_numbers_an_item_are_summed_by_column() -> None:
    found = make_blocks({"k": np.arange(8.0).reshape(4, 2)}, np.arange(1, 5), np.array([2, 4]))
    assert found.sums["k"].tolist() == [[2, 4], [10, 12]]


def test_the_interval_of_equal_blocks_is_a_point_and_pairing_removes_what_blocks_share() -> None:
    rng = np.random.default_rng(0)
    common, ones = rng.normal(5, 1, 200), np.ones(200)
    a, b = Blocks({"nats": common + 0.1, "bytes": ones}), Blocks({"nats": common, "bytes": ones})
    assert interval(Blocks({"nats": ones, "bytes": ones}), BITS) == pytest.approx((1 / math.log(2),) * 2)
    low, high = interval(a, BITS)
    assert low < a.figure(BITS) < high and high - low > 0.2
    ranking = rank({"a": a, "b": b}, BITS)
    assert ranking is not None and ranking.order == ["b", "a"]
    assert ranking.gaps["a"] == pytest.approx((0.1 / math.log(2),) * 3)
    assert difference(a, b, BITS) == pytest.approx((0.1 / math.log(2),) * 3)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(0, 1, 400)
    low, high = interval(Blocks({"right": values, "items": np.ones(400)}), SHARE)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


@pytest.mark.parametrize("higher", [False, True])
def test_rows_are_ranked_by_the_direction_of_the_metric(higher: bool) -> None:
    metric, ones = dataclasses.replace(SHARE, higher_is_better=higher), np.ones(50)
    noise = np.random.default_rng(2).normal(0, 0.01, 50)
    rows = {"a": 1.0, "b": 2.0, "c": 2.001}
    ranking = rank(
        {name: Blocks({"right": ones * value + noise * (name == "c"), "items": ones}) for name, value in rows.items()},
        metric,
    )
    assert ranking is not None
    assert ranking.order[0] == ("c" if higher else "a") and ranking.order[-1] == ("a" if higher else "c")
    assert ranking.tie == (["c", "b"] if higher else ["a"])
    assert ranking.behind(ranking.order[-1])[0] > 0 and ranking.behind(ranking.order[-1])[1] > 0


def test_the_useful_context_is_where_a_curve_comes_within_a_hundredth_of_its_best() -> None:
    curve = [{"visible": k, "value": v} for k, v in ((0, 5.0), (1, 3.0), (2, 2.015), (3, 2.0), (9, 2.01))]
    assert useful_context(curve) == 2 and useful_context([]) is None


def test_nothing_but_sums_is_needed(tmp_path: Path) -> None:
    """A figure of saved block sums is the figure of the items."""
    rng = np.random.default_rng(5)
    items = {"nats": rng.random(1000), "bytes": rng.integers(1, 5, 1000).astype(float)}
    ends = np.cumsum(items["bytes"])
    blocks = make_blocks(items, ends, block_edges(ends, ends[-1:], 16))
    again = Blocks.from_json(blocks.to_json())
    assert again.figure(BITS) == pytest.approx(float(BITS.figure(item_sums(items))), rel=1e-12)
    assert again.size(BITS) == pytest.approx(items["bytes"].sum())


def test_boards_are_built_without_torch() -> None:
    """In a process of its own: what builds and publishes boards imports neither torch nor a model."""
    code = "import sys; import chainrule.experiment.publish, chainrule.tasks.board as b; " + "".join(
        f"b.board_of({name!r}); b.section_of({name!r}); "
        for name in ("generate", "series", "tag", "classify", "classify-images", "codes", "draw", "translate", "fill")
    )
    code += "print(sorted({'torch', 'numba', 'pydantic'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "[]\n", told.stderr


@pytest.mark.parametrize(
    ("budget", "english", "korean"),
    [
        ("25s", "25 s for each model", "모델마다 25초"),
        ("2min", "120 s for each model", "모델마다 120초"),
        ("1epochs", "1 epoch for each model", "모델마다 1에포크"),
        ("0.5epochs", "0.5 epochs for each model", "모델마다 0.5에포크"),
        ("2e6bytes", "2,000,000 bytes of training text for each model", "모델마다 학습 텍스트 2,000,000바이트"),
        ("40000tokens", "40,000 tokens for each model", "모델마다 토큰 40,000개"),
        ("20steps", "20 steps for each model", "모델마다 20스텝"),
    ],
)
def test_a_board_says_its_budget_in_words(budget: str, english: str, korean: str) -> None:
    assert budget_in_words(budget) == {"text": english, "text_ko": korean}
