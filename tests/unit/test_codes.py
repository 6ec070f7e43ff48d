"""Pictures as symbols: each quantiser by its formula or its library, PSNR, and one run from pictures to pictures."""

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chainrule.core import ImageBatch, UserError, model_type
from chainrule.data.image_files import as_png
from chainrule.data.images import read_images
from chainrule.models import vq
from chainrule.tasks.image_codes import psnr
from chainrule.training.losses import ReconstructionLoss


def build(quantiser="fsq", **settings):
    torch.manual_seed(3)
    chosen = model_type("vq", "codes")
    return chosen.build(chosen.configure("tiny", image_size=8, channels=3, quantiser=quantiser, **settings))


def batch(many=5):
    pixels = torch.randn(many, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return ImageBatch(torch.zeros(many, 0), torch.full((many, 1), -1), pixels_BCYX=pixels)


# ----------------------------------------------------------------------------------------------------------- quantisers


@pytest.mark.parametrize("codes", [64, 240, 1000])
def test_finite_scalars_round_to_every_level_and_back(codes):
    quantiser = build(codebook_size=codes).quantiser
    levels = vq.LEVELS[codes]
    assert quantiser.codebook_size == math.prod(levels) == codes
    ids = torch.arange(codes)
    vectors = quantiser.vectors(ids)
    grid = [[(step - n // 2) / (n // 2) for step in range(n)] for n in levels]
    want = [row[::-1] for row in itertools.product(*grid[::-1])]  # the first number runs fastest
    assert torch.allclose(vectors, torch.tensor(want))
    latent = torch.atanh(
        (vectors * (quantiser.levels_K // 2) + torch.where(quantiser.levels_K % 2 == 0, 0.5, 0.0))
        / ((quantiser.levels_K - 1) * 1.001 / 2)
    )
    half = (quantiser.levels_K - 1) * 1.001 / 2
    latent = latent - torch.atanh(torch.where(quantiser.levels_K % 2 == 0, 0.5, 0.0) / half)
    assert torch.equal(quantiser.ids(latent), ids)


def test_finite_scalars_reach_the_outermost_levels_and_no_further():
    quantiser = build(codebook_size=240).quantiser
    for z in (-1e4, -1.0, 0.0, 1.0, 1e4):
        rounded = quantiser.rounded(torch.full((1, 3), z))
        low, high = -(quantiser.levels_K // 2), (quantiser.levels_K - 1) // 2
        assert bool(((rounded >= low - 1e-4) & (rounded <= high + 1e-4)).all())
    assert torch.equal(quantiser.rounded(torch.full((1, 3), 1e4)).round()[0].long(), (quantiser.levels_K - 1) // 2)
    assert torch.equal(quantiser.rounded(torch.full((1, 3), -1e4)).round()[0].long(), -(quantiser.levels_K // 2))


def test_gradients_pass_the_rounding():
    quantiser = build().quantiser
    z = torch.randn(2, 4, 3, requires_grad=True)
    quantiser(z)[0].sum().backward()
    want = torch.autograd.grad((quantiser.bounded(z) / (quantiser.levels_K // 2)).sum(), z)[0]
    assert torch.allclose(z.grad, want)


def test_relaxed_codes_are_those_of_gumbel_softmax_with_the_same_noise():
    logits = torch.randn(3, 7, 11, dtype=torch.float64)
    torch.manual_seed(5)
    noise = vq.gumbel_like(logits)
    torch.manual_seed(5)
    want = F.gumbel_softmax(logits, tau=0.7)
    assert (vq.relaxed(logits, noise, 0.7) - want).abs().max() < 1e-12


def test_the_divergence_from_the_uniform():
    logits = torch.randn(4, 9, dtype=torch.float64)
    q = torch.distributions.Categorical(logits=logits)
    uniform = torch.distributions.Categorical(logits=torch.zeros(4, 9, dtype=torch.float64))
    assert torch.allclose(vq.divergence(logits), torch.distributions.kl_divergence(q, uniform))


def test_the_temperature_falls_to_a_sixteenth():
    quantiser = build("gumbel", cooling=10).quantiser
    seen = []
    for steps in (0, 5, 10, 1000):
        quantiser.steps.fill_(steps)
        seen.append(quantiser.temperature)
    assert seen == pytest.approx([1.0, 0.25, 1 / 16, 1 / 16])


def test_the_nearest_vector_is_found_and_follows_what_falls_to_it():
    quantiser = build("ema").quantiser
    z = F.normalize(torch.randn(200, 4), dim=-1)
    by_hand = torch.cdist(z, quantiser.book_NK).argmin(1)
    assert torch.equal(quantiser.ids(3 * z), by_hand)
    uses, sums = quantiser.uses_N.clone(), quantiser.sums_NK.clone()
    quantiser.follow(z, by_hand)
    for n in range(64):
        mine = z[by_hand == n]
        want = 0.99 * uses[n] + 0.01 * len(mine)
        if want >= vq.DEAD:
            assert quantiser.uses_N[n] == pytest.approx(float(want), rel=1e-5)
            assert torch.allclose(quantiser.sums_NK[n], 0.99 * sums[n] + 0.01 * mine.sum(0), atol=1e-6)
    assert torch.allclose(quantiser.book_NK.norm(dim=-1), torch.ones(64))


def test_a_symbol_that_nothing_falls_to_begins_anew_in_the_batch():
    quantiser = build("ema").quantiser
    z = F.normalize(torch.randn(50, 4), dim=-1)
    quantiser.uses_N[7] = 0.05
    quantiser.follow(z, torch.zeros(50, dtype=torch.long))
    assert float((z @ quantiser.book_NK[7]).max()) == pytest.approx(1.0, abs=1e-5)


# ------------------------------------------------------------------------------------------------------------ the codec


@pytest.mark.parametrize("quantiser", ["fsq", "ema", "gumbel"])
def test_every_weight_learns(quantiser):
    model = build(quantiser).train()
    objective = ReconstructionLoss(model)
    terms, _ = objective(batch())
    assert set(terms) == set(model.terms) == set(objective.counts(batch()))
    sum(term for term, _, _ in terms.values()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still


@pytest.mark.parametrize("quantiser", ["fsq", "ema", "gumbel"])
def test_symbols_are_all_that_the_decoder_sees(quantiser):
    model = build(quantiser).eval()
    pixels = batch().pixels_BCYX
    with torch.no_grad():
        ids = model.encode(pixels)
        assert ids.shape == (5, 4)
        found = model.decode(ids)
        assert found.shape == pixels.shape
        changed = ids.clone()
        changed[:, 0] = (ids[:, 0] + 1) % model.codebook_size
        assert not torch.equal(model.decode(changed), found)


def test_channels_are_exchanged_within_a_picture_and_only_there():
    pixels = batch(40).pixels_BCYX
    found = vq.recoloured(pixels, 1.0)
    assert torch.equal(found.sort(1).values, pixels.sort(1).values)
    assert not torch.equal(found, pixels)
    assert torch.equal(vq.recoloured(pixels, 0.0), pixels)


def test_psnr_is_its_formula():
    true = np.zeros((3, 2, 2, 1), np.uint8)
    found = true.copy()
    found[1] = 10
    found[2, 0, 0] = 255
    assert psnr(found, true).tolist() == pytest.approx([math.inf, 20 * math.log10(255 / 10), 10 * math.log10(4)])


# ---------------------------------------------------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A coloured square somewhere on white."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(2)
    for k in range(60):
        pixels = np.full((8, 8, 3), 255, np.uint8)
        y, x = rng.integers(0, 5, 2)
        pixels[y : y + 4, x : x + 4] = rng.choice([[250, 20, 20], [20, 200, 20], [20, 20, 220]])
        (folder / f"{k}.png").write_bytes(as_png(pixels))
    return folder


def test_from_pictures_to_pictures(squares, tmp_path, capsys):
    from chainrule.cli import main

    flags = [
        "--task",
        "codes",
        "--budget",
        "150steps",
        "--threads",
        "1",
        "--set",
        "size=tiny",
        "--set",
        "model.width=32",
    ]
    assert main(["train", str(squares), "--model", "vq", *flags, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err
    assert re.search(r": loss -?[\d.]+, [\d,]+ images/s, valid PSNR [\d.]+ dB\n", told), told
    assert main(["evaluate", str(tmp_path / "run"), str(squares), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    images = read_images(squares, labelled=False).parts["train"].images
    flat = float(psnr(images.mean(0, keepdims=True).repeat(len(images), 0).astype(np.uint8), images).mean())
    assert result["psnr"] > flat + 4
    assert 0 < result["codebook_used"] <= 1
    assert result["codes_per_image"] == 4


def test_a_board_of_codecs(squares, tmp_path):
    from chainrule.api import compare

    board = compare(squares, tmp_path / "board", task="codes", budget="0.5epochs", set={"size": "tiny"}, threads=1)
    assert [row["status"] for row in board["rows"]] == ["done"] * 3
    assert all(row["again"] for row in board["rows"])
    page = (tmp_path / "board" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 12
    for said in (
        "Reconstructions",
        ">mean image<",
        ">images/s<",
        "training images",
        "positive is better",
    ):
        assert said in page
    assert "8 × 8 × 3" in page
    assert "cpu, torch" in page and "1 thread" in page
    assert [w["code"] for w in board["warnings"]] == ["little_test"]  # few test pictures cannot use all symbols


def test_a_codebook_that_is_barely_used_is_told_of_where_pictures_could_use_all_of_it():
    from chainrule.tasks.codes.board import barely_used

    row = {"codebook_used": 0.4, "codebook_size": 100, "codes_per_image": 4}
    assert [barely_used({**row, "n": n}) for n in (10, 99, 100, 1000)] == [False, False, True, True]
    assert not barely_used({**row, "n": 1000, "codebook_used": 0.5})


def test_a_verdict_in_decibels_is_said_in_their_direction():
    from chainrule.experiment.statistics import Blocks
    from chainrule.experiment.verdict import Evidence, make_verdict
    from chainrule.report.messages import Catalogue
    from chainrule.tasks.base import find_task

    rows = {
        name: {"label": name, "psnr": psnr, "params": 1, "state_bytes_per_token": 0, "train": {"update": "gradient"}}
        for name, psnr in (("good", 20.0), ("bad", 18.0))
    }
    blocks = {name: Blocks({"decibels": np.full(30, row["psnr"]), "items": np.ones(30)}) for name, row in rows.items()}
    say = {lang: Catalogue(lang) for lang in ("en", "ko")}
    psnr = find_task("codes").metrics("record")[0]
    said = make_verdict(Evidence(rows, blocks, psnr), say)
    assert said["text"].startswith("Use good: PSNR 20.00 dB, 2.00 better than bad (95% interval 2.00 to 2.00).")
    assert "2.00 더 좋습니다" in said["text_ko"]


def test_a_model_that_makes_no_symbols_is_refused(squares):
    from chainrule.tasks.settings import RunConfig
    from chainrule.tasks.setup import prepare, read_data

    settings = RunConfig.make({"data": str(squares), "task": "codes", "model_type": "vit"})
    with pytest.raises(UserError, match="vq"):
        prepare(settings, read_data(settings))
