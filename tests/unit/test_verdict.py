"""Verdicts: which rows are ranked, intervals over seeds and blocks, ties and what would decide them, the horizon."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.core.errors import UserError
from chainrule.core.metric import Metric
from chainrule.experiment.curves import Curve, doubling, frontier, gains
from chainrule.experiment.eligibility import refusals
from chainrule.experiment.horizon import outlook
from chainrule.experiment.run import check_horizon
from chainrule.experiment.statistics import Blocks, Ranking, interval, rank, times_as_much
from chainrule.experiment.verdict import Evidence, make_verdict
from chainrule.report.messages import Catalogue
from chainrule.report.sentences import Sentence, spoken

BITS = Metric(
    "bits", "bits per byte", "바이트당 비트", sentence="{} bits per byte", of="nats", per="bytes", scale=math.log(2)
)
SHARE = Metric("share", "accuracy", "정확도", higher_is_better=True, of="right")
SAY = {lang: Catalogue(lang, {"least_xz": {"en": "xz", "ko": "xz"}}).counting("byte") for lang in ("en", "ko")}
MINUTE = Sentence("horizon_minutes", {"amount": 5})


# --- intervals --------------------------------------------------------------------------------------------------------


def of_seeds(*values: float, noise: float = 0.0, count: int = 100, seed: int = 0) -> Blocks:
    """A row with one figure for each seed, in bits; all seeds share what is hard in a block."""
    common = noise * np.random.default_rng(seed).normal(size=count)
    sizes = np.full(count, 100.0)
    return Blocks.of_seeds([Blocks({"nats": (v + common) * sizes * math.log(2), "bytes": sizes}) for v in values])


def test_the_figure_of_several_seeds_is_the_mean_of_theirs() -> None:
    """A perplexity is no ratio of sums: the mean of two is not that of the mean losses."""
    perplexity = Metric("ppl", "ppl", "ppl", of="nats", per="bytes", aggregate="exp")
    blocks = of_seeds(1.0, 3.0)
    assert blocks.figure(perplexity) == pytest.approx((2 + 8) / 2)
    assert blocks.figure(BITS) == pytest.approx(2.0) and blocks.size(BITS) == 10_000


def test_the_interval_of_seeds_is_that_of_students_t() -> None:
    """Blocks are all alike here, so only seeds vary: mean ± t s / sqrt(K) from a table, within a tenth for K = 8."""
    values = np.random.default_rng(4).normal(2, 0.01, 8)
    low, high = interval(of_seeds(*values), BITS)
    half = 2.365 * values.std(ddof=1) / math.sqrt(8)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    low, high = interval(of_seeds(3.95, 3.41, 7.19), BITS)
    assert low < 3.41 and high > 7.19  # three seeds that far apart say nothing


def test_equal_seeds_leave_the_interval_of_the_blocks() -> None:
    once, thrice = of_seeds(2.0, noise=0.1), of_seeds(2.0, 2.0, 2.0, noise=0.1)
    assert interval(thrice, BITS) == pytest.approx(interval(once, BITS))


def test_intervals_of_several_rows_hold_at_once() -> None:
    """Independent noise: half-widths are standard errors times the quantile of the largest of k correlated normal
    deviates, which a simulation of its own gives; a single difference has the usual 1.96.
    """
    rng, count = np.random.default_rng(5), 400
    noise = {name: rng.normal(size=count) for name in "abcdef"}
    ones = np.ones(count)
    blocks = {n: Blocks({"nats": (2 + 0.5 * (n != "a") + x) * math.log(2), "bytes": ones}) for n, x in noise.items()}
    for names, wanted in (("ab", 1.96), ("abcdef", None)):
        found = rank({name: blocks[name] for name in names}, BITS)
        assert found is not None and found.order[0] == "a"
        if wanted is None:
            deviates = rng.normal(size=(200_000, 6))
            wanted = np.quantile(np.abs(deviates[:, 1:] - deviates[:, :1]).max(1) / math.sqrt(2), 0.95)
        for name in names[1:]:
            value, low, high = found.gaps[name]
            error = (noise[name] - noise["a"]).std() / math.sqrt(count)
            assert (high - low) / 2 / error == pytest.approx(wanted, rel=0.08)
            assert value == pytest.approx((low + high) / 2)


def test_rows_with_equal_items_differ_by_nothing() -> None:
    found = rank({"a": of_seeds(2.0, noise=0.1), "b": of_seeds(2.0, noise=0.1)}, BITS)
    assert found is not None and found.gaps["b"] == pytest.approx((0, 0, 0), abs=1e-12) and len(found.tie) == 2


@pytest.mark.parametrize("higher", [False, True])
def test_rows_whose_seeds_overlap_are_never_clear(higher: bool) -> None:
    """A GRU at 3.95, 3.41 and 7.19 and others beside it, in both directions."""
    sign = -1 if higher else 1
    metric = dataclasses.replace(BITS, higher_is_better=higher)
    for others in ((4.0, 4.01, 4.02), (3.0, 3.5, 3.2), (7.0, 7.3, 7.1)):
        rows = {"gru": (3.95, 3.41, 7.19), "lstm": others}
        found = rank({n: of_seeds(*(sign * v for v in several)) for n, several in rows.items()}, metric)
        assert found is not None and len(found.tie) == 2
    many = {"a": tuple(2 + 0.001 * k for k in range(9)), "b": (2.0, *(2.1 + 0.001 * k for k in range(8)))}
    found = rank({n: of_seeds(*(sign * v for v in several)) for n, several in many.items()}, metric)
    assert found is not None and found.behind(found.order[1])[1] > 0  # the interval alone would call it clear
    assert len(found.tie) == 2


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_intervals_cover_the_true_difference(seeds: int) -> None:
    """500 boards of two rows with random seeds and blocks: the interval covers the true difference in about 95 %."""
    rng, hits, boards = np.random.default_rng(6), 0, 500
    for _ in range(boards):
        common, sizes = rng.normal(0, 0.2, 60), np.full(60, 50.0)
        rows = {}
        for name, level in (("a", 2.0), ("b", 2.02)):
            runs = level + (0.02 * rng.normal(size=seeds) if seeds > 1 else np.zeros(1))
            rows[name] = Blocks.of_seeds(
                [
                    Blocks({"nats": (run + common + 0.05 * rng.normal(size=60)) * 50 * math.log(2), "bytes": sizes})
                    for run in runs
                ]
            )
        found = rank(rows, BITS)
        assert found is not None
        _, low, high = found.gaps[found.order[1]]
        true = 0.02 if found.order[0] == "a" else -0.02
        hits += low <= true <= high
    assert 0.92 <= hits / boards <= 0.99 + 0.01 * (seeds < 4)


def test_more_test_data_narrow_an_interval_by_their_square_root() -> None:
    ranking = Ranking(["a", "b"], {"b": (0.01, -0.01, 0.03)}, BITS)
    assert times_as_much(ranking, "b") == pytest.approx(4)
    assert times_as_much(Ranking(["a", "b"], {"b": (0.0, -0.01, 0.01)}, BITS), "b") == math.inf


# --- which rows are ranked --------------------------------------------------------------------------------------------


def row(name: str, value: float, update: str = "gradient", **more: Any) -> dict[str, Any]:
    recipe = {"update": update, "warmup": 150, "decay_fraction": 0.5} if update == "gradient" else {"update": update}
    found = {"label": name.upper(), "bits": value, "params": len(name), "state_bytes_per_token": 0, "train": recipe}
    return {**found, **more}


def curve(values: list[float], steps: int = 2000) -> list[dict[str, float]]:
    """Ten evenly spaced evaluations."""
    at = np.linspace(1, 0.1, len(values))[::-1] if len(values) == 1 else np.linspace(0.1, 1, len(values))
    return [{"tokens": 1e6 * s, "step": round(s * steps), "seconds": 60 * s, "value": v} for s, v in zip(at, values)]


def falling(a: float, b: float, c: float, decay: float = 0.05) -> list[float]:
    """A power law in training, and a gain of the decay over the second half."""
    return [a + b * s**-c - decay * max(0.0, 2 * s - 1) for s in np.linspace(0.1, 1, 10)]


def refused(*rows: dict[str, Any], least: dict[str, float] | None = None) -> dict[str, str]:
    named = {found["label"].lower(): found for found in rows}
    curves = {name: Curve.of(found, BITS) for name, found in named.items()}
    why = refusals(named, BITS, least or {}, curves, frontier(rows, BITS))
    return {name: spoken(reasons, SAY)["text"] for name, reasons in why.items()}


def test_networks_that_took_a_few_steps_are_not_ranked_and_the_verdict_says_why() -> None:
    """The scene of the issue: LSTM 7 steps, GPT 4, and a Markov chain that was counted."""
    rows = [
        row("hmm", 3.2, "em", curve=curve(falling(3.0, 0.05, 0.5), 400)),
        row("markov", 3.5, "counting"),
        row("lstm", 3.9, curve=curve([5.0, 3.9], 7)),
        row("gpt", 7.16, curve=curve([7.5, 7.16], 4)),
    ]
    why = refused(*rows, least={"least_xz": 3.19})
    assert set(why) == {"hmm", "lstm", "gpt"}
    assert why["lstm"] == "7 steps, not trained: the warm-up alone takes 150"
    assert why["hmm"] == "400 steps, no better than xz at 3.190 bits per byte"
    found = verdict_of({r["label"].lower(): r for r in rows}, least={"least_xz": 3.19})
    assert found["confidence"] == "cannot tell" and found["best"] == "markov"
    assert found["text"].startswith(
        "Cannot tell: only MARKOV was trained long enough to be ranked (3.500 bits per byte)"
    )
    assert "LSTM (7 steps, not trained: the warm-up alone takes 150)" in found["text"]
    assert "A larger --budget could decide." in found["text"] and "판정할 수 없습니다" in found["text_ko"]


def test_a_network_worse_than_a_reference_is_not_ranked_and_counting_always_is() -> None:
    trained = curve(falling(4.0, 0.1, 0.5))
    why = refused(row("gru", 4.9, curve=trained), row("lstm", 2.0, curve=trained), least={"least_xz": 4.8})
    assert set(why) == {"gru"} and "no better than" in why["gru"]
    assert refused(row("markov", 9.0, "counting"), row("gru", 4.0, curve=trained), least={"least_xz": 4.5}) == {}


def test_a_curve_that_still_falls_steeply_is_not_ranked_unless_it_leads() -> None:
    steep, flat = curve(falling(1.2, 1.2, 0.5)), curve(falling(2.0, 0.05, 0.5))
    behind = refused(row("ngram", 2.0, "counting"), row("gru", 2.1, curve=flat), row("gpt", 2.5, curve=steep))
    assert set(behind) == {"gpt"} and "still improving fast" in behind["gpt"]
    assert refused(row("ngram", 2.0, "counting"), row("gru", 2.6, curve=flat), row("gpt", 2.5, curve=steep)) == behind
    assert refused(row("ngram", 2.7, "counting"), row("gru", 2.6, curve=flat), row("gpt", 2.5, curve=steep)) == {}


def test_a_curve_that_rises_is_flat() -> None:
    """Overfitting is no reason to leave a row out, and none to advise more time."""
    rises = curve([2.5, 2.2, 2.1, 2.15, 2.25, 2.3, 2.35, 2.4, 2.42, 2.45])
    assert refused(row("ngram", 2.0, "counting"), row("gru", 2.1, curve=rises)) == {}
    found = doubling(Curve.of(row("gru", 2.1, curve=rises), BITS))
    assert found is not None and found["high"] <= 0


# --- the verdict ------------------------------------------------------------------------------------------------------


def verdict_of(
    rows: dict[str, dict[str, Any]],
    *,
    noise: float = 0.0,
    size: float = 1e4,
    running: bool = False,
    seeds: dict[str, tuple[float, ...]] | None = None,
    least: dict[str, float] | None = None,
    times: float | None = None,
    test_share: float | None = 0.05,
) -> dict[str, Any]:
    rng, blocks = np.random.default_rng(3), {}
    for name, found in rows.items():
        values = (seeds or {}).get(name, (found["bits"],))
        off = noise * rng.normal(0, 1, 100)
        off -= off.mean()
        sums = [(v + off) * math.log(2) * size / 100 for v in values]
        sizes = np.full(100, size / 100)
        blocks[name] = Blocks.of_seeds([Blocks({"nats": nats, "bytes": sizes}) for nats in sums])
        found["bits"] = blocks[name].figure(BITS)
    curves = {name: Curve.of(found, BITS) for name, found in rows.items()}
    best = frontier(rows.values(), BITS)
    why = refusals(rows, BITS, least or {}, curves, best)
    ahead = outlook(curves, blocks, (BITS, BITS), times, "300s", MINUTE, best) if times else None
    return make_verdict(Evidence(rows, blocks, BITS, running, why, ahead, test_share), SAY)


def verdict(values: dict[str, float], more: dict[str, dict[str, Any]] | None = None, **given: Any) -> dict[str, Any]:
    rows = {}
    for name, value in values.items():
        counted = name.split(":")[0] in ("ngram", "markov")
        rows[name] = row(name, value, "counting" if counted else "gradient", **(more or {}).get(name, {}))
    return verdict_of(rows, **given)


ONE_SEED = "Each model was trained from one seed; the intervals do not cover other seeds (--seeds 3 would)."


def test_the_best_row_is_named_with_the_second_and_with_the_best_counting_model() -> None:
    found = verdict({"ngram": 3.0, "gru": 2.5, "lstm": 2.0})
    assert found["confidence"] == "clear" and found["best"] == "lstm" and found["tie"] == ["lstm"]
    assert found["text"] == (
        "Use LSTM: 2.000 bits per byte, 0.500 better than GRU (95% interval 0.500 to 0.500). "
        f"It is 1.000 better than NGRAM, which is estimated in a single pass over the data. {ONE_SEED}"
    )
    assert found["facts"]["counting"] == {"model": "ngram", "gap": pytest.approx([1, 1, 1])}
    assert found["would_decide"] is None


def test_a_counting_model_that_is_best_is_not_set_beside_counting() -> None:
    for best in ("ngram:n=5", "markov"):
        found = verdict({best: 1.0, "gru": 2.0, "ngram": 3.0})
        assert found["best"] == best
        assert "counting" not in found["facts"] and "single pass" not in found["text"]


def test_seeds_are_said_to_be_fixed_only_where_they_matter() -> None:
    assert ONE_SEED not in verdict({"ngram": 1.0, "markov": 2.0})["text"]
    several = {"gru": (2.0, 2.001, 2.002), "lstm": (2.5, 2.501, 2.502)}
    assert ONE_SEED not in verdict({"gru": 2.0, "lstm": 2.5}, seeds=several)["text"]


def test_of_a_tie_the_cheapest_is_taken() -> None:
    tied = {"gpt": {"state_bytes_per_token": 8, "params": 1}, "lstm": {"params": 10}, "gru": {"params": 5}}
    found = verdict({"gpt": 2.0, "lstm": 2.0, "gru": 2.0, "markov": 9.0}, tied, noise=0.1)
    assert found["confidence"] == "tie" and found["best"] == "gru" and set(found["tie"]) == {"gpt", "lstm", "gru"}


def test_of_rows_that_too_little_test_data_do_not_separate_the_cheapest_is_taken() -> None:
    """The scene of the issue: 69,632 parameters were recommended where a tied n-gram has 320."""
    costs = {"gru": {"params": 69_632}, "ngram": {"params": 320}}
    found = verdict({"gru": 2.0, "ngram": 2.01}, costs, noise=0.5, size=4_000)
    assert found["confidence"] == "cannot tell" and set(found["tie"]) == {"gru", "ngram"}
    assert found["best"] == "ngram" and "NGRAM is the cheapest" in found["text"]
    assert found["would_decide"]["text"] in found["text"] and "needs at least 5,000 " in found["would_decide"]["text"]


def test_a_tie_says_what_would_decide_it() -> None:
    found = verdict({"gru": 2.0, "lstm": 2.08}, {"gru": {"params": 9}}, noise=0.5)
    assert found["confidence"] == "tie"
    said = found["would_decide"]["text"]
    assert "times as much test data would separate" in said and "--split 0." in said
    tight = verdict({"gru": 2.0, "lstm": 2.08}, {"gru": {"params": 9}}, noise=0.5, test_share=0.3)["would_decide"]
    assert tight["text"].endswith(": add more data.") and "(데이터를 더 준비하십시오)" in tight["text_ko"]
    overlap = {"gru": (2.0, 2.1, 2.05), "lstm": (2.06, 2.2, 2.1)}
    found = verdict({"gru": 2.0, "lstm": 2.1}, seeds=overlap)
    assert found["confidence"] == "tie" and "--seeds 6" in found["would_decide"]["text"]
    equal = verdict({"gru": 2.0, "lstm": 2.0}, {"gru": {"params": 9}})
    assert "no reasonable amount of test data" in equal["would_decide"]["text"]


def test_the_useful_context_is_that_of_the_row_that_is_recommended() -> None:
    memory = {name: [{"visible": k, "value": 3.0 - (k >= k0)} for k in (0, 1, 8)] for name, k0 in (("a", 8), ("b", 1))}
    rows = {"lstm": {"params": 10, "memory": memory["a"]}, "gru": {"params": 5, "memory": memory["b"]}}
    found = verdict({"lstm": 2.0, "gru": 2.0}, rows, noise=0.1)
    assert found["best"] == "gru" and found["useful_context"] == 1 and "only the last" in found["text"]


def test_too_little_test_data_or_unfinished_rows_give_no_ranking() -> None:
    assert verdict({"gru": 2.0, "lstm": 3.0}, size=4_999)["confidence"] == "cannot tell"
    assert verdict({"gru": 2.0, "lstm": 3.0}, running=True)["confidence"] == "so far"
    nothing = make_verdict(Evidence({}, {}, BITS), SAY)
    assert nothing["best"] is None and nothing["confidence"] == "cannot tell"


# --- the horizon ------------------------------------------------------------------------------------------------------


def power_law(update: str = "gradient", a: float = 1.5, b: float = 0.5, c: float = 0.5, **more: Any) -> dict[str, Any]:
    return row("lstm", 0.0, update, curve=curve(falling(a, b, c)), **more)


@pytest.mark.parametrize(("b", "c"), [(0.5, 0.5), (0.3, 0.4), (1.0, 0.7)])
def test_the_extrapolation_of_a_power_law_covers_the_power_law(b: float, c: float) -> None:
    """Ten times the budget, without a further gain of the decay: b (1 - 10^-c)."""
    found = Curve.of(power_law(b=b, c=c), BITS)
    assert found is not None
    drawn = gains(found, 10.0)
    low, high = np.quantile(drawn, [0.02, 0.98])
    assert low < b * (1 - 10**-c) < high
    assert np.median(gains(found, 2.0)) < np.median(drawn)


def test_counting_models_do_not_change() -> None:
    assert Curve.of(row("ngram", 2.0, "counting", curve=curve([2.0, 1.9, 1.8])), BITS) is None
    assert doubling(None) is None


def test_a_second_answer_names_the_row_to_take_at_the_horizon() -> None:
    rows = {"ngram": row("ngram", 2.19, "counting"), "lstm": row("lstm", 2.2, curve=curve(falling(1.3, 0.95, 0.5)))}
    found = verdict_of(rows, times=10.0)
    assert found["best"] == "ngram" and found["at_horizon"]["best"] == "lstm"
    assert found["at_horizon"]["confidence"] > 0.8 and found["at_horizon"]["horizon"] == "300s"
    assert [entry["model"] for entry in found["at_horizon"]["ranking"]] == ["lstm", "ngram"]
    assert (
        "If you train for 5 min, take LSTM (" in found["text"]
        and "5분 동안 학습할 계획이라면 LSTM을" in found["text_ko"]
    )
    slow = {"ngram": row("ngram", 2.1, "counting"), "lstm": row("lstm", 4.2, curve=curve(falling(4.1, 0.15, 0.5)))}
    found = verdict_of(slow, times=10.0)
    assert found["at_horizon"]["best"] == "ngram" and "would probably still be the best" in found["text"]
    several = {name: row(name, 2.2, curve=curve(falling(1.3, 0.95, 0.5))) for name in ("rnn", "lstm", "gru")}
    several["ngram"] = row("ngram", 2.19, "counting")
    open_ended = verdict_of(several, times=10.0)
    assert open_ended["at_horizon"]["confidence"] < 0.5
    assert "no model is clearly ahead" in open_ended["text"] and "take LSTM" not in open_ended["text"]
    chances = [entry["probability"] for entry in found["at_horizon"]["ranking"]]
    assert sum(chances) == pytest.approx(1, abs=1e-3)


def test_accuracy_is_extrapolated_by_its_errors() -> None:
    """Errors of 0.3 s^-0.5: an accuracy never passes 1."""
    points = curve([1 - 0.1 * s**-0.5 for s in np.linspace(0.1, 1, 10)])
    rows = {"gru": {"train": {"update": "gradient", "warmup": 10, "decay_fraction": 0.5}, "curve": points}}
    blocks = {n: Blocks({"right": np.full(50, v), "items": np.ones(50)}) for n, v in (("gru", 0.9), ("ngram", 0.905))}
    found = outlook({"gru": Curve.of(rows["gru"], SHARE), "ngram": None}, blocks, (SHARE, SHARE), 10.0, "300s")
    later = found.to_json()
    assert later["best"] == "gru" and 0.905 < later["ranking"][0]["value"] < 1 and later["ranking"][0]["high"] <= 1


def test_accuracy_stays_below_1_beside_a_row_without_mistakes() -> None:
    """On 110 validation records an n-gram makes no mistake: the others do not pass it."""
    points = curve([1 - 0.1 * s**-0.9 for s in np.linspace(0.1, 1, 10)])
    found = Curve.of({"train": {"update": "gradient", "warmup": 10}, "curve": points}, SHARE)
    blocks = {"gru": Blocks({"right": np.full(50, 0.99), "items": np.ones(50)})}
    later = outlook({"gru": found}, blocks, (SHARE, SHARE), 100.0, "300s", best=0.0).figures["gru"]
    assert 0.99 < later.mean() < 1 and later.max() <= 1


def test_chrf_follows_the_validation_loss_without_passing_100() -> None:
    chrf = Metric("chrf", "chrF", "chrF", of="k", aggregate="chrf", higher_is_better=True)
    nats = Metric("nats", "nats", "nats", of="nats")
    found = Curve.of({"train": {"update": "gradient", "warmup": 10}, "curve": curve(falling(0.5, 1.5, 0.5))}, nats)
    blocks = {"gru": Blocks({"k": np.tile([100.0, 100.0, 40.0], (50, 6)), "items": np.ones(50)})}
    later = outlook({"gru": found}, blocks, (chrf, nats), 10.0, "300s").figures["gru"]
    assert 41 < later.mean() < 70 and later.max() < 100


def test_a_board_marks_rows_that_are_not_ranked_and_its_horizon_can_be_asked_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = tmp_path / "table.tsv", tmp_path / "board"
    table.write_text("".join(f"{k} men went to mow {k * k % 17}\t{'odd' if k % 2 else 'even'}\n" for k in range(200)))
    command = ["compare", str(table), "--task", "classify", "--columns", "text,label", "--models", "ngram,gru"]
    command += ["--budget", "4epochs", "--set", "size=tiny", "--threads", "1", "--out", str(out), "--json"]
    assert main([*command, "--set", "train.warmup=1000000"]) == 0
    board = json.loads(capsys.readouterr().out)
    gru = next(found for found in board["rows"] if found["model"] == "gru")
    ngram = next(found for found in board["rows"] if found["model"] == "ngram")
    assert not gru["eligible"] and ngram["eligible"] and "not_ranked" not in ngram
    assert gru["not_ranked"][0]["text"].startswith(f"{gru['curve'][-1]['step']} steps, not trained")
    assert "스텝만 학습함" in gru["not_ranked"][0]["text_ko"]
    assert board["verdict"]["best"] == "ngram" and board["verdict"]["confidence"] == "cannot tell"
    assert "gap" not in ngram and gru["gap"]["low"] <= gru["gap"]["value"] <= gru["gap"]["high"]
    assert board["verdict"]["at_horizon"]["horizon"] == "40epochs"

    monkeypatch.setattr("chainrule.experiment.cells.make_trainer", None)  # nothing is trained for a horizon
    assert main([*command, "--set", "train.warmup=1000000", "--horizon", "8epochs"]) == 0
    later = json.loads(capsys.readouterr().out)
    assert later["verdict"]["at_horizon"]["horizon"] == "8epochs"
    assert json.loads((out / "plan.json").read_text())["horizon"] == "8epochs"
    assert main([*command, "--horizon", "10min"]) == 2
    assert "--horizon 10min: expected epochs" in capsys.readouterr().err


def test_a_horizon_is_of_the_kind_of_the_budget_and_no_shorter() -> None:
    check_horizon(None, "60s")
    check_horizon("10min", "60s")
    for horizon, budget in (("3epochs", "60s"), ("30s", "60s"), ("2epochs", "3epochs")):
        with pytest.raises(UserError, match=f"--horizon {horizon}: expected"):
            check_horizon(horizon, budget)
