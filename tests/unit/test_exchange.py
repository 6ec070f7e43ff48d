"""Word n-grams leave as ARPA and come in as runs; weights of a run are mapped, not copied."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chainrule import api, cli
from chainrule.core import CheckpointCorrupt, UserError
from chainrule.runs import RunFolder, store
from chainrule.tasks.generate.arpa import word_scorer

TEXT = "the cat sat\nthe dog sat\na cat ran\nthe cat ran to the dog\n" * 13 + "a cat saw the dog\nthe dog sat\n" * 5
HELD_OUT = "the cat saw\nan owl sat\na dog\n"


def chainrule(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the JSON that a command printed (or the one line of complaint)."""
    status = cli.main([*words, "--json"])
    answer = capsys.readouterr()
    return status, json.loads(answer.out) if answer.out else {"complaint": answer.err.strip().splitlines()[-1]}


def train(folder: Path, *flags: str) -> Path:
    data, run = folder / "data", folder / "run"
    data.mkdir(exist_ok=True)
    for part, text in (("train", TEXT), ("valid", "the cat sat\n"), ("test", "the dog ran\n")):
        (data / f"{part}.txt").write_text(text)
    flags = ("--set", "model.n=3", *flags, "--out", str(run), "--json")
    assert cli.main(["train", str(data), "--model", "ngram", *flags]) == 0
    return run


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_a_run_of_words_leaves_as_arpa_and_comes_back_with_the_same_probabilities(tmp_path, capsys, name):
    run, arpa, back = train(tmp_path, "--tokenizer", "word", "--unit", "lines"), tmp_path / name, tmp_path / "back"
    (tmp_path / "held.txt").write_text(HELD_OUT)
    capsys.readouterr()
    assert chainrule(capsys, "export", str(run), "--to", "arpa", str(arpa))[0] == 0
    status, told = chainrule(capsys, "import", str(arpa), "--out", str(back))
    assert (status, told["n"]) == (0, 3)
    ours, theirs = (chainrule(capsys, "evaluate", str(r), str(tmp_path / "held.txt"))[1] for r in (run, back))
    spelled = len("an owl ") * math.log(
        256
    )  # two words that were never seen: the run pays for their bytes, ARPA does not
    assert ours["nats"] - theirs["nats"] == pytest.approx(spelled, abs=1e-5)
    assert (ours["bytes"], ours["tokens"], ours["accuracy"]) == (theirs["bytes"], theirs["tokens"], theirs["accuracy"])

    scores = [word_scorer(source, base=None).score(HELD_OUT.splitlines()) for source in (run, arpa, back)]
    assert scores[0].sum() == pytest.approx(-theirs["nats"], abs=1e-5)
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=0, atol=1e-5)
    made = chainrule(capsys, "generate", str(back), "--max-tokens", "5", "-n", "3")[1]["texts"]
    assert set(" ".join(made).split()) <= set(TEXT.split())


def test_what_arpa_cannot_hold_is_refused_with_what_to_do(tmp_path, capsys):
    run = train(tmp_path)
    capsys.readouterr()
    assert chainrule(capsys, "export", str(run), "--to", "arpa", str(tmp_path / "x"))[1]["complaint"].endswith(
        "train with --tokenizer word --unit lines"
    )
    status, told = chainrule(capsys, "export", str(run), "--to", "arpaa", str(tmp_path / "x"))
    assert status == 2
    assert "did you mean 'arpa'" in told["complaint"]
    flags = ("--tokenizer", "word", "--unit", "lines", "--set", "model.smoothing=add_k", "--overwrite")
    with pytest.raises(UserError, match="smoothing=add_k"):
        api.export(api.load(train(tmp_path, *flags)), "arpa", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("word", ["<unk>", "<s>", "</s>", "<UNK>"])
def test_a_word_that_arpa_reserves_is_named_with_its_line_and_a_way_out(tmp_path, capsys, word):
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    (data / "train.txt").write_text(f"b c\n\nthe {word}\n" + f"a {word} b c\nthe a\n" * 20)
    for part in ("valid", "test"):
        (data / f"{part}.txt").write_text("a b c\n" * 9)
    flags = ["--tokenizer", "word", "--unit", "lines", "--set", "model.n=2", "--threads", "1", "--out", str(run)]
    assert chainrule(capsys, "train", str(data), "--model", "ngram", *flags)[0] == 0
    status, told = chainrule(capsys, "export", str(run), "--to", "arpa", str(tmp_path / "x"))
    other = f"({word.strip('</>')})"
    assert status == 2 and not (tmp_path / "x").exists()
    assert f"the word {word} ({data / 'train.txt'}: line 3): write another word in its place, such as {other}" in str(
        told
    )
    for part in ("train", "valid", "test"):
        (data / f"{part}.txt").write_text((data / f"{part}.txt").read_text().replace(word, other))
    assert chainrule(capsys, "train", str(data), "--model", "ngram", *flags, "--overwrite")[0] == 0
    assert chainrule(capsys, "export", str(run), "--to", "arpa", str(tmp_path / "x"))[0] == 0


def test_a_damaged_arpa_file_is_one_line_and_leaves_no_run(tmp_path, capsys):
    (tmp_path / "bad.arpa").write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\ta\n")
    status, told = chainrule(capsys, "import", str(tmp_path / "bad.arpa"), "--out", str(tmp_path / "run"))
    assert status == 2
    assert "bad.arpa: line 6: 1 1-grams where the head of the file says 3" in told["complaint"]
    assert not (tmp_path / "run").exists()


def test_opening_a_run_maps_its_tables_and_writing_to_them_leaves_the_file(tmp_path):
    run = RunFolder(train(tmp_path))
    _, tensors, _ = run.load_model()
    weights = run.path / "model.safetensors"
    for name, copied in store.parse_tensors(weights.read_bytes(), weights).items():
        assert torch.equal(tensors[name], copied)
        assert tensors[name].dtype == copied.dtype
    model = api.load(run.path).model
    before = model.keys.data_ptr()
    model.load_state_dict(tensors)
    assert model.keys.data_ptr() == tensors["keys"].data_ptr() != before
    tensors["log_table"].zero_()
    run.load_model()
    (run.path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors"):
        run.load_model()


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}},
        {"a": {"dtype": "F32", "shape": 4, "data_offsets": [0, 16]}},
        {"a": []},
    ],
)
def test_a_mapped_file_that_contradicts_itself_is_refused(tmp_path, header):
    path = tmp_path / "x.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(CheckpointCorrupt, match=r"x\.safetensors"):
        store.view_tensors(store.map_bytes(path, 1 << 20), path)
