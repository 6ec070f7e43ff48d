"""What each token of a drawing attends to: its caption and the earlier patches."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from chainrule.api import Run
from chainrule.core import UserError, model_type
from chainrule.data.captioned import fit_captions
from chainrule.data.image_files import ImageReader
from chainrule.data.processors import CaptionProcessor
from chainrule.explanation import export
from chainrule.explanation.printed import printed
from tests.explain.decoders import placed
from tests.explain.page_scripts import call
from tests.explain.runs import small_run

TEXTS = ["a red circle", "a blue square", "two small red squares", "one square"]
CAPTION, SIDE, CODES = "a red square", 2, 5


@functools.cache
def drawing_run(name: str = "dalle", **settings: Any) -> Run:
    """Return a run that draws, with random weights: images of 8 x 8 pixels are 2 x 2 tokens."""
    codec = model_type("vq", "codes").configure(
        "tiny", image_size=8, channels=3, quantiser="ema", **{"codebook_size": CODES}
    )
    told = {"model_type": "vq", "model": codec.model_dump()}
    processor = CaptionProcessor(fit_captions(TEXTS, "word", CODES), ImageReader(8, 3, [0.5] * 3, [0.3] * 3), told, "")
    chosen = model_type(name, "draw")
    torch.manual_seed(5)
    model = chosen.build(chosen.configure("tiny", **processor.sizes(), **settings))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    config = {"model_type": name, "task": "draw", "model": model.config.model_dump()}
    made = {"task": "draw", "model": model.eval(), "processor": processor, "config": config, "data": {}, "path": None}
    return replace(small_run("ngram"), **made)


@pytest.mark.parametrize("name", ["dalle", "lstm"])
def test_the_drawing_is_that_of_draw_and_its_surprise_adds_up_to_its_log_p(name: str) -> None:
    run = drawing_run(name)
    trace, told = run.explain(CAPTION, seed=3)["trace"], run.draw(CAPTION, seed=3)
    places = run.processor.captions.places
    assert [token["id"] for token in trace["tokens"][places:]] == [
        k + run.processor.captions.picture for k in told["ids"][0]
    ]
    nats = [one["nats"] for one in trace["surprise"]["tokens"][places:]]
    assert sum(nats) == pytest.approx(-told["nats"][0], abs=1e-4)
    content = base64.b64decode(trace["image"]["uri"].partition(",")[2])
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), told["images"][0])
    texts = [token["text"] for token in trace["tokens"]]
    assert texts == ["a", " red", " square", *["(pad)"] * (places - 3), "0,0", "0,1", "1,0", "1,1"]
    assert (trace["at"], trace["image"]["begin"], trace["image"]["rows"]) == (places + 3, places, SIDE)
    best = trace["surprise"]["tokens"][places + 1]["best"]
    assert all(one["text"] == f"code {one['id'] - run.processor.captions.picture}" for one in best)
    other = run.explain(CAPTION, seed=11, view="surprise")["trace"]["tokens"]
    assert [token["id"] for token in other] != [token["id"] for token in trace["tokens"]]


@pytest.mark.parametrize("pattern", ["dense", "row,column"])
def test_the_attention_of_a_patch_is_that_of_the_formula(pattern: str) -> None:
    run = drawing_run("dalle", pattern=pattern)
    trace = run.explain(CAPTION)["trace"]
    ids, at, places = [token["id"] for token in trace["tokens"]], trace["at"], run.processor.captions.places
    inputs: dict[int, torch.Tensor] = {}
    handles = [
        block.attention.queries.register_forward_hook(lambda _m, i, _o, k=k: inputs.update({k: i[0][0]}))
        for k, block in enumerate(run.model.blocks)
    ]
    with torch.no_grad():
        run.model(torch.tensor([[run.model.start_id, *ids[:at]]]))
    for handle in handles:
        handle.remove()
    assert len(inputs) == len(trace["attention"]["layers"]) == 2
    config = run.model.config
    for k, block in enumerate(run.model.blocks):
        q, key = (
            (w(inputs[k])).unflatten(-1, (config.heads, -1)) for w in (block.attention.queries, block.attention.keys)
        )
        hidden = torch.zeros(at + 1, dtype=torch.bool)
        if pattern != "dense" and k:  # a column: 1,0, which predicts the last patch, sees itself and 0,0 above it
            hidden[places + 1 :] = torch.tensor([False, True, False])
        for h, head in enumerate(trace["attention"]["layers"][k]["heads"]):
            scores = placed(config, q[:, h])[-1] @ placed(config, key[:, h]).T / q.shape[-1] ** 0.5
            weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).detach()
            np.testing.assert_allclose([head["start"], *head["weights"]], weights, atol=1e-6)


def test_the_views_of_a_drawing_and_what_is_printed_and_drawn() -> None:
    run = drawing_run()
    trace = run.explain(CAPTION, view=["surprise", "attention", "attention_cell", "reach", "integrated_gradients"])[
        "trace"
    ]
    found = trace["integrated_gradients"]
    assert sum(found["scores"]) == pytest.approx(found["total"], rel=0.01, abs=1e-6)
    assert len(found["scores"]) == len(trace["attention"]["rollout"]["weights"]) == trace["at"]
    lines = [*printed(trace)]
    assert f'attention of {trace["at"]} "1,1": ' in "\n".join(lines)
    program = (Path(__file__).parent / "shown.mjs").read_text()
    state = {"measure": "relevance"}
    shown = call(program, {"trace": trace, **export.texts("en"), "states": [state]})
    relevance = trace["attention"]["relevance"]
    assert {*map(float, shown["views"]["attention"]["drawn"])} == {relevance["start"], *relevance["weights"]}
    assert not shown["failures"] and "a colour scale of their own" in " ".join(shown["views"]["attention"]["texts"])


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("", "the caption has 0 tokens, and this run reads 1 to"),
        ("a red circle " * 9, "has 27 tokens, and this run reads"),
    ],
)
def test_captions_that_are_not_read_as_they_are_are_refused(caption: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        drawing_run().explain(caption)


def test_words_of_a_caption_that_the_run_does_not_know_are_counted() -> None:
    assert drawing_run().explain("a red zebra", view="surprise")["unknown"] == 1
    assert "unknown" not in drawing_run().explain(CAPTION, view="surprise")
