"""Run folders with weights of 8 and 4 bits: they predict what --precision predicts, and are never trained over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import chainrule
from chainrule.core import CheckpointCorrupt, UserError
from chainrule.kernels.packing import pack
from chainrule.kernels.rounding import rounded

TEXT = "".join(f"{k % 7} the cat sat on a {'mat' if k % 3 else 'hat'}, not né\n" for k in range(90))
TINY = {"model.width": 32, "model.heads": 2, "model.layers": 1, "model.context": 32}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A GPT, and its weights in two formats."""
    folder = tmp_path_factory.mktemp("rounded")
    (folder / "text.txt").write_text(TEXT)
    out = folder / "gpt"
    chainrule.train(str(folder / "text.txt"), "gpt", str(out), budget="30steps", set=TINY, threads=1)
    run = chainrule.load(str(out), threads=1, precision="fp32")
    return {"whole": out} | {to: run.export(to=to, out=str(folder / to))["out"] for to in ("int8", "int4")}


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_rounded_folder_is_used_like_the_run_with_that_precision(precision, folders):
    asked = {"prompt": "3 the", "max_tokens": 40, "seed": 3}
    kept = chainrule.load(folders[precision], threads=1)
    wanted = chainrule.load(folders["whole"], threads=1, precision=precision).generate(**asked)
    assert (kept.generate(**asked)["texts"], kept.generate(**asked)["nats"]) == (wanted["texts"], wanted["nats"])
    again = chainrule.load(folders[precision], threads=1, precision=precision).generate(**asked)
    assert again["nats"] == wanted["nats"]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_in_fp32_it_has_the_rounded_weights(precision, folders):
    whole, kept = (chainrule.load(folders[name], threads=1, precision="fp32").model for name in ("whole", precision))
    name = "blocks.0.feed_forward.inner.weight"
    assert torch.equal(kept.get_parameter(name), rounded(whole.get_parameter(name), precision))
    assert torch.equal(kept.embedding.weight, whole.embedding.weight)
    assert kept.parameters_count == whole.parameters_count


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_rounding_twice_is_rounding_once(precision):
    torch.manual_seed(5)
    weight_NK = torch.randn(48, 256) * torch.rand(48, 1) * 10.0 ** torch.randint(-4, 3, (48, 1))
    once = rounded(weight_NK, precision)
    assert torch.equal(rounded(once, precision), once)
    assert all(torch.equal(a, b) for a, b in zip(pack(once, precision), pack(weight_NK, precision), strict=True))


def test_the_folder_is_smaller_and_says_its_format(folders):
    sizes = {name: (Path(folder) / "model.safetensors").stat().st_size for name, folder in folders.items()}
    assert sizes["int4"] < sizes["int8"] < sizes["whole"]
    kept = {
        name: json.loads((Path(folder) / "config.json").read_text()).get("weights") for name, folder in folders.items()
    }
    assert kept == {"whole": None, "int8": "int8", "int4": "int4"}


def test_what_cannot_be_exported_is_told(folders, tmp_path):
    run = chainrule.load(folders["int8"], threads=1)
    with pytest.raises(UserError, match="in int8 already"):
        run.export(to="int4", out=str(tmp_path / "x"))
    with pytest.raises(UserError, match="holds a run already"):
        chainrule.load(str(folders["whole"]), threads=1).export(to="int4", out=str(folders["int8"]))
    (tmp_path / "text.txt").write_text(TEXT)
    chainrule.train(str(tmp_path / "text.txt"), "markov", str(tmp_path / "markov"), threads=1)
    with pytest.raises(UserError, match="int4 is for gpt, rnn, lstm and gru"):
        chainrule.load(str(tmp_path / "markov")).export(to="int4", out=str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_run_that_was_not_trained_in_its_folder_is_not_trained_over(folders):
    given = {"budget": "30steps", "set": TINY, "threads": 1, "resume": "auto"}
    with pytest.raises(UserError, match="was not trained there"):
        chainrule.train(str(folders["whole"].parent / "text.txt"), "gpt", str(folders["int8"]), **given)
    assert chainrule.load(folders["int8"], threads=1).config["weights"] == "int8"


def test_a_damaged_rounded_folder_is_refused(folders, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folders["int4"], copy)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-5] ^= 8
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors"):
        chainrule.load(str(copy))


def test_a_mixture_of_it_holds_its_rounded_weights(folders, tmp_path):
    chainrule.train(str(folders["whole"].parent / "text.txt"), "ngram", str(tmp_path / "ngram"), threads=1)
    parts = [chainrule.load(folders["int8"], threads=1), chainrule.load(str(tmp_path / "ngram"), threads=1)]
    chainrule.mix(parts, out=str(tmp_path / "mix"))
    model = chainrule.load(str(tmp_path / "mix"), threads=1).model
    weight = chainrule.load(folders["int8"], threads=1, precision="fp32").model.blocks[0].feed_forward.inner.weight
    assert any(p.shape == weight.shape and torch.equal(p, weight) for p in model.parameters())
