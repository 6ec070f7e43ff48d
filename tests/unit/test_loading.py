"""Loading a run draws no weights: the caller's random state stays, and every weight is that of the file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import chainrule
from chainrule.core.compute import WeightsFollow

TEXT = "the cat sat on the mat and the dog sat on the log\n" * 40


@pytest.mark.parametrize("model", ["gpt", "lstm", "rnn"])
def test_loading_draws_nothing(model, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    out = str(tmp_path / "run")
    chainrule.train(str(tmp_path / "text.txt"), model, out, budget="2steps", set={"size": "tiny"})
    before = torch.get_rng_state()
    loaded = chainrule.load(out).model.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    saved = load_file(f"{out}/model.safetensors")
    assert loaded.keys() == saved.keys() and all(torch.equal(loaded[name], saved[name]) for name in saved)


@pytest.mark.parametrize("layer", [torch.nn.Linear, torch.nn.Embedding, torch.nn.GRU, torch.nn.Bilinear])
def test_layers_of_torch_draw_nothing_in_the_block_and_as_ever_behind_it(layer):
    sizes, before = (3,) * (3 if layer is torch.nn.Bilinear else 2), torch.get_rng_state()
    with WeightsFollow():
        layer(*sizes)
    assert torch.equal(torch.get_rng_state(), before)
    layer(*sizes)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["normal_", "uniform_", "trunc_normal_", "orthogonal_", "xavier_uniform_"])
def test_initial_weights_are_not_drawn(name):
    weight, before = torch.nn.Parameter(torch.full((3, 3), torch.nan)), torch.get_rng_state()
    with WeightsFollow():
        getattr(torch.nn.init, name)(weight)
    assert torch.equal(torch.get_rng_state(), before) and bool(weight.isfinite().all())
