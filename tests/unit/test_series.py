"""Series: what is read of a table of numbers, how it is split and scaled, and what a forecast is judged by."""

from __future__ import annotations

import datetime
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chainrule import cli
from chainrule.core import Autoregressive, Config, DataError, Normal, State, UserError
from chainrule.core.compute import Compute
from chainrule.data.recognise import infer_task
from chainrule.data.series import Scaling, Series, Stretch, looks_like_series, read_held_out
from chainrule.inference.engine import Engine, sample_paths
from chainrule.tasks.series.board import random_walk
from chainrule.tasks.series.metrics import judge
from tests.encoded import read_series

CPU = Compute("cpu", False, 1)
LONG = [str(v) for v in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4)]


def write(folder: Path, lines: list[str], name: str = "data.csv") -> Path:
    path = folder / name
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.txt", "data.csv.gz"])
def test_one_column_is_read_with_and_without_a_header(tmp_path: Path, name: str) -> None:
    for head in ([], ["flow"]):
        data = read_series(write(tmp_path, head + LONG, name))
        assert data.parts["train"].series[0].values.tolist() == [float(v) for v in LONG]
        assert data.processor.scaling.columns == (head[0] if head else "value",)


def test_columns_are_named_by_a_header_or_in_order(tmp_path: Path) -> None:
    rows = [f"2001-{k},{v},{int(v) + 100}" for k, v in enumerate(LONG)]
    named = read_series(write(tmp_path, ["day,a,b", *rows]), "b")
    placed = read_series(write(tmp_path, rows, "bare.csv"), "-,-,b")
    for data in (named, placed):
        assert data.processor.scaling.columns == ("b",)
        assert data.parts["train"].series[0].values[0] == 103
    both = read_series(tmp_path / "data.csv", "a,b")
    assert [s.name for s in both.parts["test"].series] == ["a", "b"]


def test_the_only_column_of_numbers_is_taken_and_said(tmp_path: Path) -> None:
    data = read_series(write(tmp_path, [f"2001-{k},{v}" for k, v in enumerate(LONG)]))
    assert data.processor.scaling.columns == ("value",)
    assert any("the only one that holds numbers" in note for note in data.all_notes)


@pytest.mark.parametrize(
    ("head", "example"), [(["a,b"], "--columns a,b"), ([], "--columns -,value ('-' skips a column)")]
)
def test_several_columns_of_numbers_need_columns(tmp_path: Path, head: list[str], example: str) -> None:
    path = write(tmp_path, [*head, *(f"{v},{v}" for v in LONG)])
    with pytest.raises(DataError, match="2 of 2 columns hold numbers") as caught:
        read_series(path)
    assert example in str(caught.value)


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "1_000", "twelve"])
def test_what_is_no_finite_number_is_refused_with_its_line(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path, [*LONG[:6], cell, *LONG[6:]])
    with pytest.raises(DataError, match=rf"data.csv: line 7: column 'value': '{cell}'"):
        read_series(path)


def test_missing_values_keep_their_place_and_are_not_scored(tmp_path: Path) -> None:
    """An empty line of a one-column file is a value that was not taken; 3 of 23 are missing, and none moves the
    others.
    """
    lines = [*LONG[:4], "", "NA", *LONG[4:], "nan", "7"]
    data = read_series(write(tmp_path, lines), split=(0.8, 0.1, 0.1))
    (series,) = data.parts["train"].series
    assert series.missing.nonzero()[0].tolist() == [4, 5, 22]
    assert series.values[[3, 4, 5, 6, 22, 23]].tolist() == [1, 1, 1, 5, 4, 7]
    assert sum(len(part) for part in data.parts.values()) == 21
    assert "3 missing values" in " ".join(data.all_notes)


def test_a_series_that_does_not_move_or_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 14 values to train on are 5"):
        read_series(write(tmp_path, ["5"] * 20))
    with pytest.raises(DataError, match="4 values to train on; at least 10"):
        read_series(write(tmp_path, LONG[:6]))
    with pytest.raises(DataError, match="every value is missing"):
        read_series(write(tmp_path, ["v", *["NA"] * 20]), "v")
    with pytest.raises(DataError, match="no such file"):
        read_series(tmp_path / "nowhere.csv")


def test_a_csv_of_one_column_of_numbers_is_recognised(tmp_path: Path) -> None:
    assert looks_like_series(write(tmp_path, LONG))
    assert looks_like_series(write(tmp_path, ["flow", *LONG], "head.tsv"))
    assert not looks_like_series(write(tmp_path, ["to be", "or not"], "words.csv"))
    assert not looks_like_series(write(tmp_path, LONG, "numbers.txt"))
    pairs = write(tmp_path, [f"{v},{v}" for v in LONG], "two.csv")
    assert not looks_like_series(pairs)
    assert looks_like_series(pairs, "-,v")


NUMBERS = [*LONG, "NA", "2.5"]
TIMES = {
    "years": ("year,count", [str(1871 + k) for k in range(22)]),
    "without a header": (None, [str(k) for k in range(22)]),
    "months": ("month,value", [f"{1959 + k // 12}-{k % 12 + 1:02}" for k in range(22)]),
    "days": ("date,value", [f"2012-02-{k + 8:02}" for k in range(22)]),
    "slashes": ("date,value", [f"2012/02/{k + 8:02}" for k in range(22)]),
    "days without signs": (None, [f"196002{k + 8:02}" for k in range(22)]),
    "hours": ("time,value", [f"2012-03-25T{k:02}:00:00Z" for k in range(22)]),
    "rounded fractions of a year": ("t,value", [f"{1959 + k / 12:.2f}" for k in range(22)]),
    "floats": ("t,value", [f"{k / 10:.1f}" for k in range(22)]),
}


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_column_of_times_beside_one_of_numbers_is_a_series(tmp_path: Path, kind: str, suffix: str) -> None:
    head, times = TIMES[kind]
    lines = [*([head] if head else []), *(f"{t},{v}" for t, v in zip(times, NUMBERS, strict=True))]
    path = write(tmp_path, [line.replace(",", "\t") if suffix == "tsv" else line for line in lines], f"data.{suffix}")
    assert looks_like_series(path)
    assert infer_task(str(path), None) == "series"
    data = read_series(path)
    assert data.processor.scaling.columns == ((head or "2,value").split(",")[1],)
    (series,) = data.parts["train"].series
    assert series.values[[0, 1, 2, 19, 20, 21]].tolist() == [3, 1, 4, 4, 4, 2.5]
    assert series.missing.nonzero()[0].tolist() == [20]
    assert [note for note in data.all_notes if "is read as the time" in note and "days lie" not in note]


IN_DOUBT = {
    "uneven numbers": [f"{k * k},{v}" for k, v in enumerate(LONG)],
    "the same date twice": [f"2012-02-{k // 2 + 1:02},{v}" for k, v in enumerate(LONG)],
    "no such date": [f"2012-02-{k + 11:02},{v}" for k, v in enumerate(LONG)],
    "times in the second column": [f"{v},{1900 + k}" for k, v in enumerate(LONG)],
    "both rise evenly": [f"{1900 + k},{3 * k}" for k in range(20)],
    "ids": ["user_id,item", *(f"{k},{v}" for k, v in enumerate(LONG))],
    "words": [f"{1900 + k},word{v}" for k, v in enumerate(LONG)],
    "a third column": [f"{1900 + k},{v},{v}" for k, v in enumerate(LONG)],
    "4 rows": [f"{1900 + k},{v}" for k, v in enumerate(LONG[:4])],
    "a missing time": [f"{1900 + k if k != 7 else ''},{v}" for k, v in enumerate(LONG)],
}


@pytest.mark.parametrize("kind", IN_DOUBT)
def test_where_times_are_in_doubt_nothing_is_guessed(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, IN_DOUBT[kind])
    assert not looks_like_series(path)
    assert infer_task(str(path), None) == "generate"


def test_years_in_doubt_get_the_error_that_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 2 columns hold numbers; say which"):
        read_series(write(tmp_path, IN_DOUBT["both rise evenly"]))


def test_dates_that_lie_apart_unevenly_are_said(tmp_path: Path) -> None:
    """Every seventh day of a year's 22 weeks, the tenth of them left out: 7 to 14 days."""
    weeks = [datetime.date(1958, 3, 29) + datetime.timedelta(7 * (k + (k > 9))) for k in range(20)]
    data = read_series(write(tmp_path, [f"{day:%Y%m%d},{v}" for day, v in zip(weeks, LONG)]))
    assert any("7 to 14 days lie between two of them" in note for note in data.all_notes)


def test_a_held_out_file_with_times_fits_a_run_with_times(tmp_path: Path) -> None:
    scaling = read_series(write(tmp_path, [f"{1900 + k},{v}" for k, v in enumerate(LONG)])).processor.scaling
    later = read_held_out(
        write(tmp_path, [f"{1920 + k},{v}" for k, v in enumerate(LONG[:6])], "later.csv"), scaling.columns
    )
    assert later.scored()[0].tolist() == [float(v) for v in LONG[:6]]


# --------------------------------------------------------------------------------------------------- splitting, scaling


def test_parts_follow_each_other_in_time_and_the_split_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path, LONG)
    parts = read_series(path, split=(0.5, 0.2, 0.3)).parts
    assert [(p.start, p.end) for p in parts.values()] == [((0,), (10,)), ((10,), (14,)), ((14,), (20,))]
    assert list(read_series(path, split=(0.8, 0.2, 0.0)).parts) == ["train", "valid"]


def test_only_the_training_part_decides_the_scaling(tmp_path: Path) -> None:
    """Mean 3.9 and MASE's divisor 34/9 by hand from the first ten values; what comes later changes nothing."""
    low, high = (read_series(write(tmp_path, [*LONG[:10], *[v] * 10]), split=(0.5, 0.2, 0.3)) for v in ("0", "900"))
    assert low.processor.scaling == high.processor.scaling
    assert low.processor.scaling.mean == (3.9,)
    assert low.processor.scaling.naive[0] == pytest.approx((2 + 3 + 3 + 4 + 4 + 7 + 4 + 1 + 2) / 9)
    assert low.dataset.split_sha256 != high.dataset.split_sha256


def test_a_held_out_file_is_scaled_as_the_run_was_and_must_hold_its_series(tmp_path: Path) -> None:
    scaling = Scaling(("a", "b"), (1.0, 2.0), (3.0, 4.0), (1.0, 1.0))
    pair = write(tmp_path, ["b,day,a", "20,x,10", "21,y,11"])
    assert [s.values.tolist() for s in read_held_out(pair, scaling.columns).series] == [[10, 11], [20, 21]]
    with pytest.raises(DataError, match="1 series, and the model was trained on 2"):
        read_held_out(write(tmp_path, ["1", "2"], "one.csv"), scaling.columns)


# -------------------------------------------------------------------------------------------------------------- judging


class AsBefore(Autoregressive):
    """x_t ~ N(x_{t-1}, 1), N(0, 1) at a beginning: every figure can be worked out by hand."""

    vocab_size = 0

    def __init__(self) -> None:
        super().__init__(Config())

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return State(torch.zeros(batch, dtype=torch.long))

    def start_inputs(self, batch: int) -> Tensor:
        return torch.full((batch, 1), math.nan, dtype=torch.float64)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Normal, State]:
        state = state or self.initial_state(len(inputs_BT))
        mean_BT = inputs_BT.nan_to_num()
        return Normal(mean_BT, torch.ones_like(mean_BT)), State(state.length_B + inputs_BT.shape[1])


def stretch(values: list[float], start: int, missing: tuple[int, ...] = ()) -> Stretch:
    gaps = np.isin(np.arange(len(values)), missing)
    return Stretch((Series("v", np.array(values), gaps),), (start,), (len(values),))


def test_a_value_costs_its_density_in_its_own_units() -> None:
    """Scale 5: the step from 20 to 30 is 2 standard deviations of 5, so -log N = 2 + log 5 + log sqrt(2 pi)."""
    scaling = Scaling(("v",), (10.0,), (5.0,), (4.0,))
    found = judge(AsBefore(), stretch([20, 30, 30, 41], 1, (2,)), scaling, CPU, intervals=True)
    constant = math.log(5) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(found.nats, [2 + constant, 0.5 * (11 / 5) ** 2 + constant], atol=1e-12)
    np.testing.assert_allclose(found.scaled_errors, [10 / 4, 11 / 4], atol=1e-12)
    np.testing.assert_allclose(found.quantiles[0], [20 - 6.4077578, 20, 20 + 6.4077578], atol=1e-6)
    assert found.covered.tolist() == [False, False]


def test_history_is_read_but_not_scored() -> None:
    scaling = Scaling(("v",), (0.0,), (1.0,), (1.0,))
    whole = judge(AsBefore(), stretch([7, 3, 2, 2.5], 0), scaling, CPU)
    rest = judge(AsBefore(), stretch([7, 3, 2, 2.5], 2), scaling, CPU)
    assert len(whole.nats) == 4
    np.testing.assert_array_equal(rest.nats, whole.nats[2:])


def test_the_random_walk_is_what_its_formula_says() -> None:
    """Training steps 3, 4: s^2 = 12.5 and |step| = 3.5; test steps 1, -6: one inside 1.28 s = 4.53, one outside."""
    series = (Series("v", np.array([0.0, 3, 7, 8, 2]), np.zeros(5, bool)),)
    found = random_walk(
        Stretch(series, (3,), (5,)), Scaling(("v",), (0.0,), (1.0,), (3.5,)), Stretch(series, (0,), (3,))
    )
    assert found["naive"] == pytest.approx(0.5 * math.log(2 * math.pi * 12.5) + (1 + 36) / 2 / 25)
    assert found["naive_mase"] == pytest.approx(1.0)
    assert found["naive_coverage"] == 0.5


def test_sample_paths_of_a_random_walk_spread_as_the_root_of_the_steps() -> None:
    """4,000 paths from 5: the variance after t steps is t, within five of its standard errors t sqrt(2 / 4000)."""
    paths = sample_paths(Engine(AsBefore(), CPU), np.array([2.0, 5.0]), 9, 4000)
    steps = np.arange(1, 10)
    assert np.all(np.abs(paths.values_BT.var(0) - steps) < 5 * steps * math.sqrt(2 / 4000))
    assert np.all(np.abs(paths.values_BT.mean(0) - 5) < 5 * np.sqrt(steps / 4000))
    again = sample_paths(Engine(AsBefore(), CPU), np.array([2.0, 5.0]), 9, 4000)
    np.testing.assert_array_equal(again.values_BT, paths.values_BT)


def test_quantiles_from_draws_are_near_those_by_formula() -> None:
    normal = Normal(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]]))
    drawn = super(Normal, normal).quantiles((0.1, 0.5, 0.9), torch.Generator().manual_seed(3), 20_000)
    torch.testing.assert_close(drawn, normal.quantiles((0.1, 0.5, 0.9)), atol=0.12, rtol=0)


# --------------------------------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A noisy AR(2) of period 10: 239 values."""
    rng, x = np.random.default_rng(7), [0.0, 0.0]
    for _ in range(237):
        x.append(1.5 * x[-1] - 0.86 * x[-2] + rng.normal())
    return write(tmp_path_factory.mktemp("wave"), [f"{50 + 3 * v:.4f}" for v in x], "wave.csv")


@pytest.fixture(scope="module")
def board(wave: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("boards") / "board"
    command = ["compare", str(wave), "--models", "ar,kalman,gru:width=7", "--budget", "20epochs", "--out", str(out)]
    assert cli.main(command) == 0
    return out, json.loads((out / "board.json").read_text())


def test_compare_recognises_a_series_and_fills_its_board(board: tuple[Path, dict[str, Any]]) -> None:
    out, found = board
    assert found["task"] == "series"
    assert [row.get("error") for row in found["rows"]] == [None] * 3
    for row in found["rows"]:
        assert row["n"] == 48
        assert {"nats_per_value", "mase", "coverage_80", "params", "train_seconds", "interval"} <= set(row)
        assert len(row["forecast"]["middle"]) == found["forecast"]["steps"]
    ar = found["rows"][0]
    assert ar["nats_per_value"] < found["references"]["naive"] - 0.2
    assert "nats per value" in found["verdict"]["text"]
    assert (out / "best" / "model.safetensors").is_file()


def test_the_report_shows_forecasts_and_no_ladder(board: tuple[Path, dict[str, Any]]) -> None:
    page = (board[0] / "report.html").read_text()
    assert page.count("<figure") == 3
    for absent in ("h-memory", "h-samples", 'id="ladder"', "{{"):
        assert absent not in page


def test_a_run_is_evaluated_and_continued(wave: Path, board: tuple[Path, dict[str, Any]], capsys: Any) -> None:
    run = str(board[0] / "runs" / "ar")
    assert cli.main(["evaluate", run, str(wave), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"task", "model", "nats_per_value", "mase", "coverage_80", "n", "intervals"} == set(told)
    assert told["n"] == 239
    assert cli.main(["generate", run, "--max-tokens", "5", "-n", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [len(path) for path in told["sequences"]] == [5, 5, 5]
    assert len(told["nats"]) == 3
    assert np.all(np.diff(np.array(told["quantiles"][0]), axis=1) > 0)
    assert cli.main(["generate", run, "--prompt", "50 53 55", "--max-tokens", "2"]) == 0
    assert "median" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--prompt", "a b"], "a series is continued from numbers"),
        (["--top-k", "3"], "leave out"),
        (["--beams", "3"], "leave out"),
    ],
)
def test_generate_refuses_what_makes_no_sense_for_numbers(
    board: tuple[Path, dict[str, Any]], flags: list[str], says: str, capsys: Any
) -> None:
    assert cli.main(["generate", str(board[0] / "runs" / "ar"), *flags]) == 2
    assert says in capsys.readouterr().err


def test_a_run_of_text_cannot_be_forecast() -> None:
    from types import SimpleNamespace

    from chainrule import forecast

    with pytest.raises(UserError, match="this run's task is generate"):
        forecast(SimpleNamespace(task="generate"))  # type: ignore[arg-type]
