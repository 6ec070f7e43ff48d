"""What a run uses of an image: attention against a formula, attribution against enumeration and plain sums."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from chainrule.api import Run
from chainrule.cli import main
from chainrule.core import UserError
from chainrule.explanation import export
from tests.explain.image_runs import PATCH, SIZE, image_run, images, one_image
from tests.explain.page_scripts import call
from tests.explain.runs import small_run

GRID = SIZE // PATCH
POOLS = ("mean", "class")


def pixels_of(run: Run, path: Path) -> Tensor:
    reader = run.processor.reader
    image = torch.from_numpy(np.array(Image.open(path))).movedim(2, 0).float() / 255
    return (image - torch.tensor(reader.mean)[:, None, None]) / torch.tensor(reader.scale)[:, None, None]


def read_by_hand(run: Run, pixels_CYX: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """log p of each label, and weights and values of each layer, by the equations of the model, head by head."""
    model, c = run.model, run.model.config
    w = dict(model.named_parameters())
    x = model.patches(pixels_CYX[None])[0].flatten(1).T
    x = torch.cat([w["class_token"][0], x]) if c.pool == "class" else x
    x = x + w["places"][0]
    all_weights, all_values = [], []
    for layer in range(c.layers):
        own = f"encoder.blocks.{layer}"
        y = F.layer_norm(x, (c.width,), w[f"{own}.norm_attention.weight"], None, c.eps)
        q, k, v = (
            (y @ w[f"{own}.attention.{part}.weight"].T).view(len(y), c.heads, -1).transpose(0, 1)
            for part in ("queries", "keys", "values")
        )
        q, k = (z / (z.square().mean(-1, keepdim=True) + torch.finfo(z.dtype).eps).sqrt() for z in (q, k))
        weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
        all_weights.append(weights)
        all_values.append(v)
        x = x + (weights @ v).transpose(0, 1).flatten(1) @ w[f"{own}.attention.out.weight"].T
        y = F.layer_norm(x, (c.width,), w[f"{own}.norm_feed_forward.weight"], None, c.eps)
        x = x + F.linear(
            F.linear(y, w[f"{own}.feed_forward.inner.weight"]).relu() ** 2, w[f"{own}.feed_forward.out.weight"]
        )
    x = F.layer_norm(x, (c.width,), w["encoder.norm.weight"], None, c.eps)
    logits = model.head(x[0] if c.pool == "class" else x.mean(0))
    return logits.log_softmax(-1), all_weights, all_values


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("at", [0, 8])
def test_attention_over_patches_is_that_of_the_formula(pool: str, at: int) -> None:
    run = image_run("vit", pool=pool, patch=PATCH)
    trace = run.explain(str(one_image()), at=at)["trace"]
    found = trace["attention"]
    log_p, weights, values = read_by_hand(run, pixels_of(run, one_image()))
    assert found["first"] == (pool == "mean") and found["nats"] == pytest.approx(-log_p.max().item(), abs=1e-5)
    assert found["answer"] == run.processor.labels[int(log_p.argmax())]
    gradients = torch.autograd.grad(log_p.max(), weights)
    size = len(weights[0][0])
    assert size == GRID**2 + (pool == "class") and trace["image"]["rows"] == trace["image"]["columns"] == GRID
    row = torch.full((size,), 1 / size) if pool == "mean" and at == 0 else torch.eye(size)[at - (pool == "mean")]
    row, eye = row.double(), torch.eye(size).double()
    product = R = eye
    for k, (each, gradient, value) in enumerate(zip(weights, gradients, values, strict=True)):
        each, gradient, value = each.detach().double(), gradient.double(), value.detach().double()
        for head, own, v_SK in zip(found["layers"][k]["heads"], each, value, strict=True):
            np.testing.assert_allclose(head["weights"], row @ own, atol=1e-6)
            out = run.model.encoder.blocks[k].attention.out.weight.double()
            out_DK = out[:, head["head"] * v_SK.shape[1] : (head["head"] + 1) * v_SK.shape[1]]
            added = torch.stack([(share * (out_DK @ v)).norm() for share, v in zip(row @ own, v_SK)])
            np.testing.assert_allclose(head["norms"], added.detach(), atol=1e-6)
            assert head["start"] is None
        product = (each.mean(0) + eye) / 2 @ product
        R = R + (each * gradient).relu().mean(0) @ R
    np.testing.assert_allclose(found["rollout"]["weights"], row @ product, atol=1e-6)
    np.testing.assert_allclose(found["relevance"]["weights"], row @ (R - eye), atol=1e-8, rtol=1e-4)
    assert max(found["relevance"]["weights"]) > 0


def test_labels_are_those_of_classify() -> None:
    run = image_run("vit", pool="mean", patch=PATCH)
    told = run.classify([str(one_image())])["p"][0]
    best = run.explain(str(one_image()), view="labels", top_k=1)["trace"]["labels"]["best"]
    assert [one["label"] for one in best] == [max(told, key=told.__getitem__)]
    assert best[0]["p"] == pytest.approx(max(told.values()), abs=1e-6)


@pytest.mark.parametrize(("model", "settings"), [("vit", {"pool": "class", "patch": PATCH}), ("mlp", {})])
def test_scores_of_patches_add_up_and_are_those_of_a_plain_sum(model: str, settings: dict[str, Any]) -> None:
    run = image_run(model, **settings)
    found = run.explain(str(one_image()), view="integrated_gradients")["trace"]["integrated_gradients"]
    pixels, side = pixels_of(run, one_image()), PATCH if model == "vit" else -(-SIZE // 8)
    assert np.sum(found["scores"]) == pytest.approx(found["total"], rel=0.01, abs=1e-5) and found["first"] == 1
    label = int(scores_of(run, pixels[None])[0].argmax())
    nothing, known = scores_of(run, torch.stack([torch.zeros_like(pixels), pixels]))[:, label].detach().double()
    assert found["total"] == pytest.approx(float(known - nothing), abs=1e-5) and abs(found["total"]) > 1e-4
    steps, sums = 300, torch.zeros_like(pixels)
    for k in range(steps):  # most points near the blank image, where the function is steep
        share, length = ((k + 0.5) / steps) ** 3, ((k + 1) ** 3 - k**3) / steps**3
        leaf = (share * pixels).requires_grad_()
        sums += torch.autograd.grad(scores_of(run, leaf[None])[0, label], leaf)[0] * pixels * length
    expected = [
        sums[:, y : y + side, x : x + side].sum().item() for y in range(0, SIZE, side) for x in range(0, SIZE, side)
    ]
    np.testing.assert_allclose(found["scores"], expected, atol=0.04 * np.abs(expected).max())


def scores_of(run: Run, pixels_NCYX: Tensor) -> Tensor:
    with torch.backends.cudnn.flags(enabled=False):
        return run.model.scores(pixels_NCYX).log_softmax(-1)


@pytest.mark.parametrize(("model", "settings"), [("vit", {"pool": "mean", "patch": PATCH}), ("knn", {})])
def test_occlusion_makes_each_patch_blank(model: str, settings: dict[str, Any]) -> None:
    run = image_run(model, **settings)
    found = run.explain(str(one_image()), view="occlusion")["trace"]["occlusion"]
    image, side = np.array(Image.open(one_image())), PATCH if model == "vit" else -(-SIZE // 8)
    told = run.classify([str(one_image())])
    label, known = told["labels"][0], np.log(told["p"][0][told["labels"][0]])
    mean = np.round(np.array(run.processor.reader.mean) * 255).astype(np.uint8)  # a colour of whole numbers is near it
    expected = []
    for y, x in ((0, 0), (1, 2), (SIZE // side - 1, 1)):
        changed = image.copy()
        changed[y * side : y * side + side, x * side : x * side + side] = mean
        content = io.BytesIO()
        Image.fromarray(changed).save(content, "PNG")
        p = run.classify([content.getvalue()])["p"][0][label]
        expected.append((y * -(-SIZE // side) + x, known - np.log(p)))
    for place, score in expected:
        assert found["scores"][place] == pytest.approx(score, abs=2e-3), place


def test_the_trace_holds_the_image_as_the_run_reads_it() -> None:
    run = image_run("cnn")
    large = images() / "large.png"
    Image.open(one_image()).resize((300, 300), Image.Resampling.NEAREST).save(large)
    trace = run.explain(large, view="labels")["trace"]
    content = base64.b64decode(trace["image"]["uri"].removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), run.processor.reader.open(large))
    large.unlink()
    assert len(trace["tokens"]) == 1 + trace["image"]["rows"] * trace["image"]["columns"] == 50
    assert [token["text"] for token in trace["tokens"]][:3] == ["(label)", "0,0", "0,1"]


def test_the_command_reads_the_file_and_the_page_draws_over_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = image_run("vit", pool="mean", patch=PATCH)
    words = ["explain", str(run.path), str(one_image()), "--threads", "1", "--view", "attention"]
    assert main([*words, "--json"]) == 0
    trace = json.loads(capsys.readouterr().out)["trace"]
    assert main([*words, "--out", str(tmp_path / "page.html")]) == 0
    assert trace["image"]["uri"] in (tmp_path / "page.html").read_text()
    state = {"measure": "rollout"}
    found = call(
        (Path(__file__).parent / "shown.mjs").read_text(), {"trace": trace, **export.texts("ko"), "states": [state]}
    )
    drawn = {*map(float, found["views"]["attention"]["drawn"])}
    assert drawn == {*trace["attention"]["rollout"]["weights"]} and not found["failures"]


def test_what_is_no_image_and_an_image_for_texts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    run = image_run("cnn")
    with pytest.raises(UserError, match="hello: no such file"):
        run.explain("hello")
    with pytest.raises(UserError, match="--view attention: this cnn has "):
        run.explain(str(one_image()), view="attention")
    text_run = small_run("ngram")
    capsys.readouterr()
    assert main(["explain", str(text_run.path), str(one_image())]) == 2
    told = capsys.readouterr().err
    assert "this run's task is generate: give it a text, not the file" in told and told.count("\n") == 1
