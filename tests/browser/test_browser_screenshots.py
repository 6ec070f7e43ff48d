"""The pictures of the page in the documents. ``make screenshots`` writes them, from runs that have learnt something."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser.pages import PHONE, Site, Visits, browser_program, settled

browser_program()
DOCS = Path(__file__).parents[2] / "docs"
LINE = "When shall we three meet again? In thunder, lightning, or in rain?"
LARGEST = 150_000
"""Bytes of a picture."""


@dataclass(frozen=True)
class Shot:
    """What a picture shows: a tab with a state; a part of it, or the window."""

    tab: str
    state: dict[str, Any]
    part: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    lang: str = "en"


SHOTS = {
    "look-inside": Shot("inspect", {"run": ["hmm", "lstm", "gpt"], "text": LINE, "at": 33}),
    "attention": Shot("inspect", {"run": "gpt", "text": LINE, "at": 33}, "[data-view=attention]", {"dark": True}),
    "write": Shot("write", {"run": ["ngram", "lstm"], "text": "When shall we three me"}),
    "phone": Shot("inspect", {"run": "ngram", "text": LINE, "at": 33}, options={"width": PHONE}, lang="ko"),
}


@pytest.mark.parametrize("name", SHOTS)
def test_a_picture_of_the_documents_can_be_made_and_is_small(
    visit: Visits, site: Site, name: str, tmp_path: Path
) -> None:
    shot = SHOTS[name]
    page = visit(site.link(shot.tab, shot.lang, **shot.state), **shot.options)
    settled(page)
    content = (page.locator(shot.part) if shot.part else page).screenshot()
    out = Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{name}.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, optimize=True)
    assert out.stat().st_size < LARGEST
    assert len(image.getcolors(1 << 24) or []) > 50, "it shows something"
    assert f"(images/{name}.png)" in (DOCS / "guide-explain.md").read_text(encoding="utf-8")
