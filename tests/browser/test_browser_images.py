"""Images in a browser: those that a run draws of a caption, and those that a reader gives to be labelled."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import chainrule
from tests.browser.pages import PHONE, Site, Visits, barriers, browser_program, serving, settled, sideways, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser_program()
SHADES = ("red", "blue")
LABELS = np.arange(40) % 2
SPLITS = ["train"] * 32 + ["valid"] * 4 + ["test"] * 4


def write_images(folder: Path) -> None:
    """Write noise of 8 x 8 pixels with a square in one of two colours: with labels, and with captions."""
    pixels = np.random.default_rng(0).integers(0, 60, (40, 8, 8, 3)).astype(np.uint8)
    pixels[np.arange(40), 2:6, 2:6, 2 * LABELS] = 220
    np.savez(folder / "squares.npz", images=pixels, labels=LABELS)
    Image.fromarray(pixels[1]).save(folder / "blue.png")
    told = [{"i": k, "text": f"a {SHADES[label]} square", "split": SPLITS[k]} for k, label in enumerate(LABELS)]
    (folder / "captions").mkdir()
    (folder / "captions" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    np.savez(folder / "captions" / "images8.npz", images=pixels)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server over a run that draws, and one that labels images."""
    pytest.importorskip("fastapi")
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    folders = {name: str(folder / name) for name in ("painter", "squares", "codes")}
    tiny = {"set": {"size": "tiny"}, "budget": "2steps", "threads": 1}
    chainrule.train(str(folder / "squares.npz"), "logistic", folders["squares"], task="classify", budget="20steps")
    chainrule.train(str(folder / "squares.npz"), "vq", folders["codes"], task="codes", **tiny)
    given = {"task": "draw", "tokenizer": "word", "pretrained": folders.pop("codes"), **tiny}
    chainrule.train(str(folder / "captions"), "dalle", folders["painter"], **given)
    with serving(folders) as found:
        yield found


def drawn(page: Page, many: int) -> list[np.ndarray]:
    """Draw, and return the pixels of the images once there are so many."""
    page.locator("#draw").click()
    until(page, f".drawn figure:nth-child({many}) img")
    settled(page)
    sources = [one.get_attribute("src") or "" for one in page.locator(".drawn img").all()]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2])))) for one in sources]


def test_images_of_a_caption_are_those_that_the_command_draws(visit: Visits, site: Site) -> None:
    page = visit(site.link("draw", "en", **{"draw.n": 2, "draw.seed": 7}))
    caption = page.locator("#caption").input_value()
    assert caption and {*caption.split()} <= {"a", "small", "red", "circle", "square", "blue"}
    found = drawn(page, 2)
    run = chainrule.load(site.folders["painter"], threads=1)
    for seed, pixels in zip((7, 8), found, strict=True):
        np.testing.assert_array_equal(pixels, run.draw(caption, seed=seed)["images"][0])
    texts = page.locator(".drawn figcaption").all_inner_texts()
    assert [text.split()[:2] for text in texts] == [["Seed", "7"], ["Seed", "8"]]
    assert page.locator(".drawn img").first.get_attribute("alt") == f"Drawn for “{caption}”, seed 7"
    with page.expect_download() as saved:
        page.locator(".drawn a").first.click()
    assert saved.value.suggested_filename == f"{caption.replace(' ', '-')}-7.png"
    assert barriers(page) == []


def test_what_a_run_does_not_know_of_a_caption_is_told(visit: Visits, site: Site) -> None:
    known, strange = (
        visit(site.link("draw", "ko", **{"draw.n": 1, "draw.caption": caption}), width=PHONE)
        for caption in ("a red square", "a purple square")
    )
    for page in (known, strange):
        drawn(page, 1)
        assert sideways(page) == []
    assert known.locator(".notes p").count() == 0
    assert strange.locator(".notes p").all_inner_texts() == ["이 텍스트에는 이 모델이 모르는 토큰이 1개 있습니다."]


def test_a_number_that_cannot_be_used_is_told_in_the_language_of_the_page(visit: Visits, site: Site) -> None:
    page = visit(site.link("draw", "ko", **{"draw.guidance": 200}))
    page.locator("#draw").click()
    until(page, "#alarm:not(:empty)")
    assert page.locator("#alarm").inner_text() == "가이던스는 100.0 이하여야 합니다(입력한 값: 200)."
    (told,) = visit.wrong
    assert "422" in told, "the browser tells of every refusal"
    visit.wrong.clear()


@pytest.mark.parametrize("width", [1280, PHONE])
def test_an_image_of_the_reader_is_labelled(visit: Visits, site: Site, width: int) -> None:
    page, file = visit(site.link("labels"), width=width), Path(site.folders["squares"]).parent / "blue.png"
    page.locator("#image-file").set_input_files(str(file))
    until(page, ".best.labels")
    settled(page)
    told = chainrule.load(site.folders["squares"], threads=1).classify([str(file)])
    (expected,) = told["p"]
    assert page.locator(".answer").inner_text() == told["labels"][0]
    names = page.locator(".best.labels th[scope=row]").all_inner_texts()
    assert names == sorted(expected, key=lambda name: -expected[name])
    values = [float(one.get_attribute("value") or "nan") for one in page.locator(".best.labels data").all()]
    assert values == pytest.approx([expected[name] for name in names], rel=1e-6)
    given = page.locator("img.given")
    assert given.get_attribute("alt") == "blue.png" and given.evaluate("image => image.naturalWidth") == 8
    assert "blue" not in page.url, "an image of the reader is not in the address"
    assert barriers(page) == [] and sideways(page) == []
