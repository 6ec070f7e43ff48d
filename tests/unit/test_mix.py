"""Mixtures of finished runs: weights, laws, folders, refusals, and the row of a board."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import chainrule
from chainrule import cli, mix, train
from chainrule.core import IGNORED, Categorical, Counting, SequenceModel, UserError, model_type, model_types
from chainrule.core.compute import Compute
from chainrule.experiment.mixture_weights import best_parts, em_weights, mixed_nats
from chainrule.inference.engine import Engine
from chainrule.laws.subject import Subject
from chainrule.laws.suite import Law, apply, applying
from chainrule.models.mix import Mix, Mixture
from tests.faults.boards import compare, write_text

PARTS = {
    "ngram + gru": None,
    "gpt + lstm": {
        "parts": [
            {"model_type": "gpt", "model": {"width": 16, "layers": 1, "heads": 2, "context": 32}},
            {"model_type": "lstm", "model": {"embedding": 8, "width": 8, "layers": 1}},
        ],
    },
    "hmm + markov + ngram": {
        "parts": [
            {"model_type": "hmm", "model": {"states": 3}},
            {"model_type": "markov", "model": {}},
            {"model_type": "ngram", "model": {"n": 4}},
        ],
    },
}


class MixSubject(Subject):
    """A mixture of a preset or of these parts; counting parts are fitted, and the weights are not equal."""

    def build(self, vocab_size: int | None = None) -> SequenceModel:
        model = super().build(vocab_size)
        assert isinstance(model, Mix)
        for part in model.parts:
            if isinstance(part, Counting):
                part.update(part.summarize(self.training(1, vocab_size)))
        noise = torch.randn(model.log_weights_K.shape, generator=self.rng(5), dtype=torch.float64)
        model.log_weights_K.copy_(noise.log_softmax(-1))
        return model


SUBJECTS = {name: MixSubject(model_type("mix", trained=False), settings=parts) for name, parts in PARTS.items()}
CASES = [
    pytest.param(SUBJECTS[name], law, id=f"{name}: {law.name}") for name in PARTS for law in applying(SUBJECTS[name])
]


@pytest.mark.parametrize(("subject", "law"), CASES)
def test_laws_of_autoregressive_models_hold(subject: Subject, law: Law) -> None:
    verdict = apply(subject, law)
    assert verdict.ok, verdict.detail


def test_laws_of_training_do_not_apply() -> None:
    for subject in SUBJECTS.values():
        names = {law.name for law in applying(subject)}
        assert {"p of all strings sums to 1", "generated alone = among others", "state: where"} <= names
        assert not names & {"every parameter learns", "1 x 8 rows = 8 x 1 rows", "statistics add up"}
    assert "mix" not in [found.name for found in model_types()]


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_global_optimum(seed: int) -> None:
    """SLSQP over the simplex (scipy) finds no better weights, from three starting points."""
    rng = np.random.default_rng(seed)
    log_p_NK = np.log(rng.dirichlet(np.ones(5), (4, 400)).max(-1) * rng.uniform(0.2, 1, (4, 400))).T

    def nats(weights_K: np.ndarray) -> float:
        return float(-np.log(np.exp(log_p_NK) @ weights_K).mean())

    found = em_weights(log_p_NK)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    assert mixed_nats(log_p_NK, found).mean() == pytest.approx(nats(found))
    for start in rng.dirichlet(np.ones(4), 3):
        limits = {"bounds": [(0, 1)] * 4, "constraints": {"type": "eq", "fun": lambda w: w.sum() - 1}}
        other = minimize(nats, start, method="SLSQP", options={"ftol": 1e-12}, **limits)
        assert nats(found) <= other.fun + 2e-6


def test_weights_of_two_parts_by_enumeration() -> None:
    rng = np.random.default_rng(3)
    log_p_NK = np.log(rng.uniform(0.01, 1, (50, 2)))
    grid = np.linspace(0, 1, 10_001)
    nats = [-np.log(np.exp(log_p_NK) @ np.array([w, 1 - w])).sum() for w in grid]
    assert em_weights(log_p_NK)[0] == pytest.approx(grid[int(np.argmin(nats))], abs=2e-3)


def test_a_part_that_is_worse_everywhere_gets_no_weight() -> None:
    log_p_NK = np.log(np.random.default_rng(4).uniform(0.2, 0.9, (300, 3)))
    log_p_NK[:, 2] = log_p_NK[:, :2].min(1) - 1
    assert em_weights(log_p_NK)[2] < 1e-3


def test_the_best_pair_is_taken_and_a_third_model_only_where_it_helps() -> None:
    """Each of a and b knows half of the tokens, c is a worse b, and d knows a third of them better than both."""
    at = np.arange(3000)
    a, b, d = np.where(at % 2, 0.5, 4.0), np.where(at % 2, 4.0, 0.5), np.where(at % 3, 2.0, 0.01)
    nats, names = best_parts({"c": b + 0.1, "a": a, "b": b})
    assert set(names) == {"a", "b"}
    assert nats == pytest.approx(-3000 * np.log(0.5 * (np.exp(-0.5) + np.exp(-4))))
    assert set(best_parts({"c": b + 0.1, "a": a, "b": b, "d": d})[1]) == set("abd")
    assert best_parts({"a": a}) == (np.inf, ())


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 40, 1 << 24])
def test_a_mixture_is_the_weighted_mean_of_probabilities(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mixture, "chunk_elements", chunk)
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, 7, generator=rng)
    weights_K = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    mixed = Mixture(tuple(map(Categorical, logits)), weights_K.log(), (2, 5, 7))
    p_BTV = (weights_K[:, None, None, None] * logits.double().softmax(-1)).sum(0)
    targets = torch.randint(7, (2, 5), generator=rng)
    targets[0, 3] = IGNORED
    want = p_BTV.gather(-1, targets.clamp(min=0)[..., None])[..., 0].log()
    want[0, 3] = 0
    assert torch.allclose(mixed.log_prob(targets), want, atol=1e-6) and mixed.log_prob(targets)[0, 3] == 0
    values, ids = mixed.top(3)
    assert torch.allclose(values.exp(), p_BTV.topk(3).values, atol=1e-6)
    assert torch.equal(ids, p_BTV.topk(3).indices)
    time = torch.tensor([4, 2])
    picked = torch.stack([p_BTV[0, 4], p_BTV[1, 2]])[:, None]
    assert torch.allclose(mixed.select(time).logits().exp(), picked, atol=1e-6)


def test_learned_positions_of_a_part_end_the_mixture_too() -> None:
    small = {"width": 16, "layers": 1, "heads": 2, "context": 24}
    for positions, room in (("learned", 24), ("rotary", None)):
        parts = [{"model_type": "ngram"}, {"model_type": "gpt", "model": {**small, "positions": positions}}]
        made = model_type("mix", trained=False)
        model = made.build(made.config.make({"vocab_size": 5, "parts": parts}))
        assert isinstance(model, Mix) and model.window == 24
        assert Engine(model, Compute("cpu", False, 1)).room == room


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a small text: ngram, gru, gpt over bytes, and others that cannot be mixed with them."""
    folder = tmp_path_factory.mktemp("mix")
    write_text(folder)
    gru = {"set": {"size": "tiny", "train.lr": 0.02}, "budget": "20steps"}
    for name, more in {
        "ngram": {}, "gru": gru, "other": {**gru, "seed": 7}, "gpt": {"set": {"size": "tiny"}, "budget": "3steps"},
        "words": {"tokenizer": "word"}, "split": {"split": "0.8/0.1/0.1"},
    }.items():  # fmt: skip
        model = {"gru": "gru", "other": "gru", "gpt": "gpt"}.get(name, "ngram")
        train(str(folder / "corpus.txt"), model, str(folder / name), threads=1, precision="fp32", **more)
    mix([str(folder / name) for name in ("gru", "other")], str(folder / "both"), threads=1, precision="fp32")
    return folder


def opened(path: Path) -> Any:
    return chainrule.load(path, threads=1, precision="fp32")


def test_a_mixed_run_scores_as_its_parts_do_together(place: Path) -> None:
    """The scores of the parts, mixed by arithmetic in float64, with the weights that the run states."""
    texts = ["the quick brown fox\n", "owls owls zz\n"]
    run = opened(place / "both")
    weights = [part["weight"] for part in run.data["mix"]["parts"]]
    assert sum(weights) == pytest.approx(1) and min(weights) > 0
    scored = [opened(place / name).score(texts, unit="stream", tokens=True)["lines"] for name in ("gru", "other")]
    mixed = run.score(texts, unit="stream", tokens=True)["lines"]
    for line, *parts in zip(mixed, *scored, strict=True):
        p = sum(w * np.exp(np.array(part["token_nats"])) for w, part in zip(weights, parts, strict=True))
        assert np.allclose(line["token_nats"], np.log(p), atol=1e-6)


def test_a_mixed_run_is_better_on_validation_than_its_parts(place: Path) -> None:
    found = opened(place / "both").data["mix"]
    assert found["validation"] < min(part["validation"] for part in found["parts"])


def test_a_mixed_run_does_what_a_run_does(place: Path) -> None:
    run = opened(place / "both")
    assert (
        run.generate(["the "], max_tokens=9, seed=3)["texts"] == run.generate(["the "], max_tokens=9, seed=3)["texts"]
    )
    assert len(run.generate(["the "], max_tokens=5, beams=3, n=2)["texts"]) == 2
    p = run.predict(["the qui"], top_k=3)["predictions"][0]
    assert 1 > p[0]["p"] > p[1]["p"] > p[2]["p"] > 0
    assert (
        run.evaluate(place / "corpus.txt")["bits_per_byte"]
        < opened(place / "gru").evaluate(place / "corpus.txt")["bits_per_byte"]
    )


def test_a_mixed_run_holds_copies_of_its_parts(place: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(place / "both", tmp_path / "alone")
    assert opened(copy).score(["the"])["nats"] == opened(place / "both").score(["the"])["nats"]
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="content changed since it was written"):
        opened(copy)


def test_a_mixture_can_be_mixed_again(place: Path, tmp_path: Path) -> None:
    made = mix([place / "both", place / "gpt"], tmp_path / "three", threads=1, precision="fp32")
    run = opened(tmp_path / "three")
    assert made["parameters"] == run.model.parameters_count
    assert run.model.window == 32
    assert len(run.generate(["the "], max_tokens=40)["texts"][0]) == 40


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (["ngram"], "give at least two runs"),
        (["ngram", "ngram"], "given twice"),
        (
            ["ngram", "words"],
            "its tokens are word, not byte as .*ngram; .* train it on the same data with --tokenizer byte",
        ),
        (
            ["ngram", "split"],
            "split: was trained on other data than .*, or on another split: give text .* by --data FILE",
        ),
        (["ngram", "nothing"], "no run folder here"),
    ],
)
def test_runs_that_do_not_fit_are_refused_in_one_line(place: Path, tmp_path: Path, runs: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        mix([place / name for name in runs], tmp_path / "out", threads=1, precision="fp32")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_data_that_moved_are_named_and_held_out_text_will_do(place: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(place, tmp_path / "moved")
    runs = [moved / "gru", moved / "other"]
    text = (place / "corpus.txt").rename(place / "elsewhere.txt")
    try:
        with pytest.raises(UserError, match=r"are not there any more; .*--data FILE"):
            mix(runs, tmp_path / "out", threads=1, precision="fp32")
        again = mix(runs, tmp_path / "out", data=str(text), threads=1, precision="fp32")
    finally:
        text.rename(place / "corpus.txt")
    assert again["value"] == opened(place / "both").data["mix"]["validation"]
    other = tmp_path / "short.txt"
    other.write_text("seven wise owls sing while a lazy dog jumps\n" * 4)
    held_out = mix([place / "ngram", place / "split"], tmp_path / "more", data=str(other), threads=1, precision="fp32")
    alone = opened(place / "ngram").evaluate(other)["bits_per_byte"]
    assert held_out["parts"][0]["validation"] == pytest.approx(alone)


def test_a_mixture_is_not_trained(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["train", "--model", "mix"], ["compare", "--models", "ngram,mix"]):
        command = [words[0], str(place / "corpus.txt"), *words[1:], "--out", str(place / "never")]
        assert cli.main(command) == 2
        assert "mix is not trained, it is made of finished runs: chainrule mix RUN RUN" in capsys.readouterr().err


# --- the row of a board -----------------------------------------------------------------------------------------------


def test_a_board_has_the_row_mix(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "board"
    board = compare(text, out, "markov,gru,ngram", budget="30steps")
    rows = {row["model"]: row for row in board["rows"]}
    assert list(rows) == ["markov", "gru", "ngram", "mix"] and board["status"] == "finished"
    mixed, fact = rows["mix"], board["verdict"]["facts"]["mix"]
    assert 2 <= len(fact["parts"]) <= 3 and set(fact["parts"]) < {"markov", "gru", "ngram"} | {"mix"}
    assert board["verdict"]["best"] in ("ngram", "gru") and "mix" not in board["verdict"]["tie"]
    assert "The row mix (" in board["verdict"]["text"] and "mix(" in board["verdict"]["text_ko"]
    assert mixed["train_seconds"] == pytest.approx(sum(rows[name]["train_seconds"] for name in fact["parts"]))
    assert opened(out / "runs/mix").evaluate(text)["task"] == "generate"


def test_a_board_without_two_rows_of_equal_tokens_has_no_row_mix(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    board = compare(text, tmp_path / "board", "ngram,ngram:tokenizer=word", budget="6steps")
    assert [row["model"] for row in board["rows"]] == ["ngram", "ngram:tokenizer=word"]
    board = compare(text, tmp_path / "failed", "ngram,gpt:width=-3", budget="6steps")
    assert [row["model"] for row in board["rows"]] == ["ngram", "gpt:width=-3"] and board["status"] == "finished"
