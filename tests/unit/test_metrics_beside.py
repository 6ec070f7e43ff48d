"""Metrics beside the main one: characters, words, ranks, calibration, and their intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule.api import compare, evaluate, train
from chainrule.core import IGNORED, Categorical, Projected
from chainrule.core.metric import Metric, item_sums
from chainrule.data import ByteTokenizer
from chainrule.data.encoding import encode_texts
from chainrule.experiment.statistics import Blocks, interval
from chainrule.inference.scoring import Guesses
from chainrule.tasks.calibration import ECE, calibration_items, reliability
from chainrule.tasks.generate.metrics import symbol_items, text_items


@pytest.mark.parametrize("texts", [["ab cdé  e\n", "가나 다\n", "x"], ["one", " two\tthree ", "네 다섯"]])
def test_characters_and_words_are_those_of_python(texts: list[str]) -> None:
    found = text_items(encode_texts([text.encode() for text in texts], ByteTokenizer(), "lines"))
    assert found["chars"].sum() == sum(map(len, texts))
    assert found["words"].sum() == sum(len(text.split()) for text in texts)


def test_a_text_without_spaces_has_no_words() -> None:
    for text in ("床前明月光疑是地上霜舉頭望明月低頭思故鄉" * 2, "ACGTACGGTCATTTAGACCAGT" * 3):
        assert "words" not in text_items(encode_texts([text.encode()], ByteTokenizer(), "lines"))


def test_ranks_by_hand() -> None:
    """The true symbol comes first, sixth, not among ten, and second."""
    guesses = Guesses(np.array([1, 6, 0, 2], np.uint8), np.log([0.9, 0.5, 0.5, 0.5]))
    found = {name: values.sum(0) for name, values in symbol_items(guesses, 50).items()}
    assert (found["among_5"], found["among_10"]) == (2, 3)
    assert found["reciprocal_rank"] == pytest.approx(1 + 1 / 6 + 1 / 2)
    assert np.abs(found["calibration"]).sum() == pytest.approx(0.1 + 1.5)
    assert not {"among_5", "among_10"} & set(symbol_items(guesses, 5))


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_from_the_same_logits_are_those_of_two_passes(seed: int) -> None:
    torch.manual_seed(seed)
    logits, targets = torch.randn(2, 7, 13), torch.randint(13, (2, 7))
    targets[0, 3] = IGNORED
    for made in (Categorical(logits), Projected(logits, lambda x: x, 13)):
        nats, values, ids = made.score(targets, 3)
        wanted = logits.log_softmax(-1).sort(-1, descending=True)
        assert torch.equal(nats, made.log_prob(targets)) and torch.equal(ids, wanted.indices[..., :3])
        torch.testing.assert_close(values, wanted.values[..., :3])


def test_reliability_by_enumeration() -> None:
    rng = np.random.default_rng(3)
    sure, right = rng.random(500), rng.integers(0, 2, 500)
    table = reliability(sure, right)
    inside = [[i for i in range(500) if min(14, int(sure[i] * 15)) == k] for k in range(15)]
    assert [row["n"] for row in table] == [len(bin) for bin in inside if bin]
    error = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in table) / 500
    assert ECE.figure(item_sums({"calibration": calibration_items(sure, right)})) == pytest.approx(error)


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_the_interval_of_the_calibration_error_covers_the_true_one(shift: float) -> None:
    """Percentiles of the bootstrap never cover it for a calibrated model: noise raises every draw."""
    rng, covered = np.random.default_rng(5), 0

    def blocks(size: int) -> Blocks:
        sure = rng.beta(4, 1.5, size)
        right = rng.random(size) < np.clip(sure - shift, 0, 1)
        items = calibration_items(sure, right.astype(float)).reshape(100, -1, 15).sum(1)
        return Blocks({"calibration": items, "items": np.full(100, size / 100)})

    sure = rng.beta(4, 1.5, 200_000)
    truth = float(ECE.figure(item_sums({"calibration": calibration_items(sure, np.clip(sure - shift, 0, 1))})))
    for _ in range(20):
        low, high = interval(blocks(1000), ECE)
        covered += low <= truth <= high
    assert covered >= 18


def test_intervals_of_evaluate_hold_their_figures(tmp_path: Path) -> None:
    text = tmp_path / "held.txt"
    rng = np.random.default_rng(0)
    text.write_text("".join(rng.choice(["해가 뜬다\n", "the sun\n", "rises\n"], 3000)))
    train(text, model="ngram", unit="lines", out=tmp_path / "run")
    found = evaluate(tmp_path / "run", text)
    raw = text.read_text()
    assert (found["chars"], found["words"]) == (len(raw), len(raw.split()))
    assert found["bits_per_char"] == pytest.approx(found["nats"] / np.log(2) / len(raw))
    assert found["perplexity_per_word"] == pytest.approx(np.exp(found["nats"] / len(raw.split())))
    for name in ("bits_per_byte", "bits_per_char", "perplexity", "perplexity_per_word"):
        low, high = found["intervals"][name]
        assert low < found[name] < high


@pytest.mark.parametrize("text", ["天地玄黃宇宙洪荒日月盈昃辰宿列張", "gattacagattcagcctagagctagctagctagcagtcagcatgc"])
def test_text_without_white_space_has_no_perplexity_per_word(tmp_path: Path, text: str) -> None:
    data = tmp_path / "d.txt"
    data.write_text(text * 300)
    board = compare(data, tmp_path / "board", models="markov,ngram", budget="1s")
    for found in (*board["rows"], evaluate(tmp_path / "board" / "best", data)):
        assert found["bits_per_byte"] > 0 and "perplexity_per_word" not in found and "words" not in found


def test_evaluate_prints_tables_of_labels_and_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from chainrule.cli import main

    data = tmp_path / "d.jsonl"
    rows = [{"text": f"{word} {k}", "label": label} for k in range(150) for word, label in (("aa", "x"), ("bb", "y"))]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(data, model="ngram", out=tmp_path / "run")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), str(data)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["label", "n", "precision", "recall", "f1"] for line in shown)
    assert ["x", "150", "1.000", "1.000", "1.000"] in [line.split() for line in shown]
    assert any(line.split() == ["confidence", "accuracy", "n"] for line in shown)


def test_a_sum_of_absolute_values_by_hand() -> None:
    metric = Metric("m", "m", "m", of="x", aggregate="absolute")
    assert metric.figure({"x": np.array([[1.0, -3.0]]), "items": np.array([2.0])}).tolist() == [2.0]
