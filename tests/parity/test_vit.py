"""ViT against Hugging Face's by weight copy, at its own size and at others; patches, positions, interpolation."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from chainrule.core import ConfigError, ImageBatch, model_type
from chainrule.interop.huggingface import Rename
from chainrule.models.vit import FROM_VIT, stretched

WIDTH, LAYERS, HEADS, SIZE, PATCH, LABELS = 24, 3, 4, 12, 4, 5
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def hugging_face():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        image_size=SIZE,
        patch_size=PATCH, num_channels=3, num_labels=LABELS, attn_implementation="sdpa", hidden_act="gelu",
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval().double()
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
            weight.copy_(1 + 0.3 * noise if "layernorm" in name and "weight" in name else 0.2 * noise)
    return model


def written(model, folder):
    """The weights as they lie in a folder of Hugging Face's, under the names that files have."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def ours(**settings):
    chosen = model_type("vit", "classify-images")
    base = {
        "width": WIDTH,
        "layers": LAYERS,
        "heads": HEADS,
        "patch": PATCH,
        "dropout": 0.0,
        "eps": 1e-12,
        "image_size": SIZE,
    }
    config = chosen.configure("base", num_labels=LABELS, channels=3, **{**base, **settings})
    return chosen.build(config).eval()


def pictures(size: int, many: int = 3) -> torch.Tensor:
    return torch.randn(many, 3, size, size, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def asked(model, pixels):
    return model(
        ImageBatch(torch.zeros(len(pixels), 0), torch.zeros(len(pixels), 1).long(), pixels_BCYX=pixels)
    ).logits()[:, 0]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [SIZE, 20])
def test_logits_are_those_of_hugging_face_at_its_own_size_and_at_another(dtype, size, tmp_path):
    reference = hugging_face().to(dtype)
    model = ours().to(dtype)
    model.load_state_dict(Rename(**FROM_VIT).to_ours(written(reference, tmp_path)))
    x = pictures(size).to(dtype)
    with torch.no_grad():
        want = reference(pixel_values=x, interpolate_pos_encoding=size != SIZE).logits
        assert (asked(model, x) - want).abs().max() < TOLERANCE[dtype]


def test_both_sides_have_the_same_set_of_names(tmp_path):
    reference, table = written(hugging_face(), tmp_path), Rename(**FROM_VIT)
    assert set(table.to_ours(reference)) == set(ours().state_dict())
    assert set(table.to_foreign(ours().state_dict())) == set(reference)


def test_a_patch_is_a_linear_map_of_its_pixels_channel_by_channel():
    model = ours().double()
    x = pictures(SIZE)
    cut = x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # B C rows columns ph pw
    flat = cut.permute(0, 2, 3, 1, 4, 5).reshape(3, (SIZE // PATCH) ** 2, -1)
    want = flat @ model.patches.weight.flatten(1).T + model.patches.bias
    assert torch.allclose(model.patches(x).flatten(2).mT, want, atol=1e-12)


def test_learned_places_stretch_by_the_named_interpolation_and_stay_where_nothing_changes():
    places = torch.randn(9, 6, dtype=torch.float64)
    assert stretched(places, 3, 3, 3, "bilinear-corners") is places
    corners = stretched(places, 3, 5, 5, "bilinear-corners").view(5, 5, 6)
    grid = places.view(3, 3, 6)
    assert torch.allclose(corners[::2, ::2], grid)  # the corners and every second place are kept
    assert torch.allclose(corners[1, 0], (grid[0, 0] + grid[1, 0]) / 2)
    found = {mode: stretched(places, 3, 5, 5, mode) for mode in ("bicubic", "bicubic-antialias", "bilinear-corners")}
    want = F.interpolate(grid.permute(2, 0, 1)[None], (5, 5), mode="bicubic")[0].flatten(1).T
    assert torch.allclose(found["bicubic"], want)
    assert not torch.allclose(found["bicubic"], found["bilinear-corners"])


def test_sinusoids_of_rows_and_columns_are_their_formula():
    model = ours(positions="sinusoidal").double()
    found = model.placed(2, 3)[1:].view(2, 3, WIDTH)
    quarter = WIDTH // 4
    for y in range(2):
        for x in range(3):
            for k in range(quarter):
                rate = 10_000 ** (-k / quarter)
                want = [math.sin(y * rate), math.cos(y * rate), math.sin(x * rate), math.cos(x * rate)]
                assert np.allclose(
                    found[y, x, [k, quarter + k, 2 * quarter + k, 3 * quarter + k]].tolist(), want, atol=1e-12
                )


def test_the_base_size_is_the_papers():
    chosen = model_type("vit", "classify-images")
    config = chosen.configure("base", num_labels=1000, image_size=224, channels=3)
    assert chosen.parameters(config) == 86_567_656


def test_a_patch_that_does_not_divide_the_picture_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="--image-size"):
        ours(image_size=13)
