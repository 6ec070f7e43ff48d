"""Mixtures of classifiers: weights on validation records, probabilities, folders, and refusals."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import chainrule
from chainrule import cli, mix, train
from chainrule.core import Batch, PartsBatch, TextBatch, UserError
from chainrule.data.labelled import read_labelled
from chainrule.data.reading import PartReaders, TextReader, reader_from_json

FAST: dict[str, Any] = {"threads": 1, "precision": "fp32"}
RNN = {"set": {"size": "tiny", "train.lr": 0.02}, "budget": "40steps"}
PARTS = {"ngram": {}, "bag": {}, "rnn": {**RNN, "context": 9}, "gru": {**RNN, "tokenizer": "bpe:300"}}
"""Parts that read texts in four ways."""
STRANGE = ["", "a", "뷁" * 50, "fox owl sun " * 40, "moon tea", "sun  sun\tfox"]


def table(path: Path, names: str = "xyz", count: int = 300, seed: int = 0) -> Path:
    """Texts whose words say something about their label; one record in four has another one."""
    rng, words = np.random.default_rng(seed), ["fox", "owl", "sun", "moon", "tea", "oak", "elm"]
    rows = []
    for k in range(count):
        name = names[k % len(names)]
        text = " ".join([*rng.choice(words[2 * (k % len(names)) :][:3], 3), str(k)])
        rows.append((text, rng.choice(list(names)) if rng.random() < 0.25 else name))
    return write(path, rows)


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def opened(path: Path) -> Any:
    return chainrule.load(path, **FAST)


def p_of(run: Any, texts: list[str]) -> np.ndarray:
    """The probabilities that a run's own ``classify`` gives, texts x labels."""
    return np.array([list(p.values()) for p in run.classify(texts)["p"]])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one table; of the same records with their split written down (``apart``); and a mixture of each."""
    folder = tmp_path_factory.mktemp("mix")
    data = table(folder / "all.csv")
    for part, records in read_labelled(data, split=(0.6, 0.2, 0.2)).parts.items():
        write(folder / "apart" / f"{part}.csv", list(zip(records.texts, records.names)))
    for model, more in PARTS.items():
        train(str(data), model, str(folder / model), split="0.6/0.2/0.2", **more, **FAST)
    for model in ("ngram", "bag", "gru"):
        train(str(folder / "apart"), model, str(folder / f"{model}-apart"), **PARTS[model], **FAST)
    mix([folder / name for name in PARTS], folder / "mixed", **FAST)
    mix([folder / "ngram-apart", folder / "gru-apart"], folder / "mixed-apart", **FAST)
    return folder


def weights_of(run: Any) -> np.ndarray:
    return np.array([part["weight"] for part in run.data["mix"]["parts"]])


def best_weights(p_NK: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights that SLSQP finds over the simplex, and -log p of a record with them."""
    K = p_NK.shape[1]

    def nats(weights_K: np.ndarray) -> float:
        return float(-np.log(p_NK @ weights_K).mean())

    limits = {"bounds": [(0, 1)] * K, "constraints": {"type": "eq", "fun": lambda w: w.sum() - 1}}
    found = minimize(nats, np.full(K, 1 / K), method="SLSQP", options={"ftol": 1e-12}, **limits)
    return found.x, found.fun


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mixed", "parts"),
    [("mixed", ["ngram-apart", "bag-apart", "rnn", "gru"]), ("mixed-apart", ["ngram-apart", "gru-apart"])],
    ids=["validation split off and counted afterwards", "validation given"],
)
def test_weights_maximise_the_likelihood_of_records_that_no_part_has_seen(
    place: Path, mixed: str, parts: list[str]
) -> None:
    """A counting part has counted the validation split; what counts is its equal that was given the split apart."""
    valid = read_labelled(place / "apart").parts["valid"]
    texts, right = list(valid.texts), valid.labels
    p_NK = np.stack([p_of(opened(place / name), texts)[np.arange(len(texts)), right] for name in parts], 1)
    weights, nats = best_weights(p_NK)
    found = weights_of(opened(place / mixed))
    assert found.sum() == pytest.approx(1) and np.sort(weights)[-2] > 0.05
    assert -np.log(p_NK @ found).mean() == pytest.approx(nats, abs=2e-6)
    assert found == pytest.approx(weights, abs=0.02)


def test_the_weight_of_two_parts_by_enumeration(place: Path, tmp_path: Path) -> None:
    """Held-out records of a file, one of them with a label that no run knows: it says nothing about the weights."""
    held_out = table(tmp_path / "more.csv", seed=5, count=90)
    rows = list(csv.DictReader(held_out.read_text().splitlines()))
    write(held_out, [*((row["text"], row["label"]) for row in rows), ("owl", "strange")])
    mix([place / "ngram", place / "gru"], tmp_path / "two", data=str(held_out), **FAST)
    texts, right = [row["text"] for row in rows], ["xyz".index(row["label"]) for row in rows]
    p_NK = np.stack([p_of(opened(place / n), texts)[np.arange(90), right] for n in ("ngram", "gru")], 1)
    grid = np.linspace(0, 1, 10_001)
    nats = -np.log(np.outer(grid, p_NK[:, 0]) + np.outer(1 - grid, p_NK[:, 1])).sum(1)
    assert 0.02 < grid[nats.argmin()] < 0.98
    assert weights_of(opened(tmp_path / "two"))[0] == pytest.approx(grid[nats.argmin()], abs=5e-3)


# --- probabilities ----------------------------------------------------------------------------------------------------


def test_probabilities_are_the_weighted_mean_of_those_of_the_parts(place: Path) -> None:
    run, parts = opened(place / "mixed"), [opened(place / name) for name in PARTS]
    want = np.tensordot(weights_of(run), [p_of(part, STRANGE) for part in parts], 1)
    answer = run.classify(STRANGE)
    assert p_of(run, STRANGE) == pytest.approx(want, abs=1e-6)
    assert answer["labels"] == ["xyz"[c] for c in want.argmax(1)]
    assert answer["cut"] == parts[2].classify(STRANGE)["cut"] == {"texts": 4 - 1, "tokens": 9}
    assert "cut" not in run.classify(["owl"])
    assert run.model.parameters_count == sum(part.model.parameters_count for part in parts) + len(PARTS)


def test_an_evaluation_counts_what_the_weighted_mean_gets_right(place: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        other = read_labelled(table(tmp_path / f"{seed}.csv", seed=seed, count=200), split=(0.98, 0.01, 0.01))
        records = other.parts["train"]
        file = write(tmp_path / f"part{seed}.csv", list(zip(records.texts, records.names)))
        run = opened(place / "mixed")
        each = [p_of(opened(place / name), list(records.texts)) for name in PARTS]
        guess = np.tensordot(weights_of(run), each, 1).argmax(1)
        found = run.evaluate(file)
        assert found["n"] == len(records)
        assert found["accuracy"] == pytest.approx((guess == records.labels).mean())


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_mixture_needs_the_folders_of_its_parts_no_longer(place: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(place / "mixed", tmp_path / "elsewhere")
    loaded = opened(copy)
    assert loaded.classify(STRANGE)["p"] == opened(place / "mixed").classify(STRANGE)["p"]
    readers = loaded.processor.reader.readers
    assert readers[:2] == (None, None) and [reader.tokenizer.name for reader in readers[2:]] == ["char", "bpe"]
    assert loaded.settings["tokenizer"] is None and loaded.settings["context"] is None
    assert any("longer than 9 tokens" in note for note in loaded.data["notes"])


def test_the_command_tells_accuracy_and_weight_of_each_part(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(place / "ngram-apart"), str(place / "gru-apart")]
    assert cli.main(["mix", *runs, "--out", str(tmp_path / "made")]) == 0
    lines = capsys.readouterr().out.splitlines()
    valid = read_labelled(place / "apart").parts["valid"]
    for line, name in zip(lines, [*runs, str(place / "mixed-apart")], strict=True):
        right = (p_of(opened(Path(name)), list(valid.texts)).argmax(1) == valid.labels).mean()
        assert f" {right:.3f} accuracy" in line
    assert f"weight {weights_of(opened(place / 'mixed-apart'))[0]:.3f}" in lines[0]
    assert cli.main(["classify", str(tmp_path / "made"), "owl fox"]) == 0


def test_rows_of_a_batch_are_rows_of_every_part() -> None:
    reader = PartReaders([None, TextReader.fit(["abc", "cab"], "char", 2)])
    batch = reader.read(TextBatch(torch.zeros(3, 0), torch.arange(3)[:, None], texts=("a", "bcb", "cc")))
    one = batch.rows(1, 2)
    assert isinstance(one, PartsBatch) and one.texts == ("bcb",) and one.targets_BT.tolist() == [[1]]
    assert [part.texts for part in one.parts] == [("bcb",)] * 2
    assert one.parts[1].inputs_BT.shape == (1, 2) and isinstance(one.to("cpu"), Batch)
    assert [part.inputs_BT.device.type for part in batch.to("meta").parts] == ["meta"] * 2
    saved = reader_from_json(reader.to_json())
    assert isinstance(saved, PartReaders) and saved.to_json() == reader.to_json()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(place: Path) -> Path:
    """Runs that do not fit to those of ``place``."""
    folder = place / "others"
    train(str(table(folder / "more.csv", "wxyz")), "bag", str(folder / "more"), **FAST)
    train(str(table(folder / "fewer.csv", "xy")), "bag", str(folder / "fewer"), **FAST)
    train(str(place / "all.csv"), "bag", str(folder / "plain"), split="0.6/0.2/0.2", normalize="none", **FAST)
    train(str(place / "all.csv"), "bag", str(folder / "split"), **FAST)
    (folder / "text.txt").write_text("the fox and the owl\n" * 90)
    train(str(folder / "text.txt"), "markov", str(folder / "text"), **FAST)
    (folder / "tags.tsv").write_text("".join(f"the\tD\nfox{k}\tN\n\n" for k in range(60)))
    train(str(folder / "tags.tsv"), "hmm", str(folder / "tags"), task="tag", **FAST)
    return folder


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (
            ["ngram", "others/more"],
            "more: has the label 'w', which .*ngram lacks; a mixture needs runs of equal labels",
        ),
        (["ngram", "others/fewer"], "fewer: lacks the label 'z'; a mixture needs runs of equal labels"),
        (["ngram", "others/text"], "text: a run of --task generate, .*ngram of --task classify; mix takes runs of one"),
        (["others/text", "ngram"], "ngram: a run of --task classify, .*text of --task generate; mix takes runs of one"),
        (["others/tags", "others/tags"], "given twice"),
        (["others/tags", "ngram"], "tags: a run of --task tag; mix takes runs of --task generate or classify"),
        (["mixed", "ngram"], "mixed: a mixture of classifiers; name its parts instead"),
        (["ngram", "mixed"], "mixed: a mixture of classifiers; name its parts instead"),
        (
            ["ngram", "others/plain"],
            "plain: its texts are read with --normalize none, .* train it with --normalize nfc",
        ),
        (["ngram", "others/split"], "split: was trained on other data than .*, or on another split: .* by --data FILE"),
    ],
)
def test_runs_that_do_not_fit_are_refused_in_one_line(
    place: Path, others: Path, tmp_path: Path, runs: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told) as error:
        mix([place / name for name in runs], tmp_path / "out", **FAST)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_held_out_records_without_a_known_label_are_refused(place: Path, tmp_path: Path) -> None:
    for names in ("q", "qr"):
        strange = write(tmp_path / f"{names}.csv", [(f"owl {k}", names[k % len(names)]) for k in range(60)])
        with pytest.raises(UserError, match=r"no held-out record has one of the labels x, y, z: .*--data FILE"):
            mix([place / "ngram", place / "gru"], tmp_path / "out", data=str(strange), **FAST)
    assert not (tmp_path / "out").exists()


def test_a_mixture_of_classifiers_is_not_trained(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(place / "all.csv"), "--model", "mix", "--out", str(place / "never")]) == 2
    assert "mix is not trained, it is made of finished runs: chainrule mix RUN RUN" in capsys.readouterr().err
