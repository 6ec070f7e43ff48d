"""What pages save: pictures that look like the page, tables and traces that hold its numbers, the page of a file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import chainrule
from tests.browser.pages import Site, Visits, browser_program
from tests.unit.boards import sample_board

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

browser_program()
SENTENCE = "the cat sat on a mat"
MARGIN = 16
"""Pixels around a picture."""
SVG = "{http://www.w3.org/2000/svg}"


def saved(page: Page, button: Locator) -> bytes:
    """The file that a button saves."""
    with page.expect_download() as found:
        button.click()
    return Path(found.value.path()).read_bytes()


def button(around: Locator, kind: str) -> Locator:
    return around.locator(".save button", has_text=kind).last


def picture(content: bytes) -> np.ndarray:
    """The colours of a PNG."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64)


def entries(content: Any, name: str = "", places: tuple[int, ...] = ()) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Every value in JSON with the keys and the places in lists that lead to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from entries(value, f"{name}.{key}" if name else key, places)
    elif isinstance(content, list):
        for k, value in enumerate(content):
            yield from entries(value, name, (*places, k))
    else:
        yield name, places, content


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))


def value(text: str, like: Any) -> Any:
    """The content of a cell, of the kind of another value."""
    if like is None:
        return text or None
    return {"true": True, "false": False}[text] if isinstance(like, bool) else type(like)(text)


PANELS = [("gpt", "attention"), ("gpt", "reach"), ("lstm", "gates"), ("hmm", "belief"), ("ngram", "backoff")]


@pytest.mark.parametrize(("run", "view"), PANELS)
def test_the_table_of_a_panel_holds_the_numbers_of_the_trace(visit: Visits, site: Site, run: str, view: str) -> None:
    page = visit(site.link(run=run, text=SENTENCE, at=7))
    head, *lines = rows(saved(page, button(page.locator(f"[data-view={view}]"), "CSV")))
    both = ["surprise", view]
    trace = chainrule.load(site.folders[run], threads=1).explain(SENTENCE, at=7, top_k=10, view=both)["trace"]
    expected = [*entries(json.loads(json.dumps(trace[view])))]
    assert head[0] == "entry" and head[-1] == "value" and len(lines) == len(expected) > 5
    for line, (name, places, content) in zip(lines, expected):
        assert line[0] == name and tuple(int(one) for one in line[1:-1] if one) == places
        assert value(line[-1], content) == content


def alike(made: np.ndarray, shown: np.ndarray) -> float:
    """The mean difference of two pictures, 0 to 255, the first twice as large, both blurred to squares of 8 pixels."""
    height, width = (min(few, many // 2) // 8 for few, many in zip(shown.shape[:2], made.shape[:2]))
    small, large = shown[: 8 * height, : 8 * width], made[: 16 * height, : 16 * width]
    blurred = [one.reshape(height, size, width, size, 3).mean((1, 3)) for one, size in ((small, 8), (large, 16))]
    return float(np.abs(blurred[0] - blurred[1]).mean())


HIDE = """() => {
  for (const one of document.querySelectorAll(".save, .maximise, .readout")) one.style.visibility = "hidden";
}"""
PICTURES = [*((run, f"[data-view={view}]") for run, view in PANELS[:4]), ("lstm", ".side-text > div:last-child")]


@pytest.mark.parametrize(("run", "part"), PICTURES)
def test_a_picture_looks_like_what_it_shows(visit: Visits, site: Site, run: str, part: str) -> None:
    dark = run in ("gpt", "hmm")
    page = visit(site.link(run=run, text=SENTENCE, at=7), dark=dark)
    place = page.locator(part)
    whole = picture(saved(page, button(place, "PNG")))
    page.evaluate(HIDE)
    shown, made = picture(place.screenshot()), whole[2 * MARGIN : -2 * MARGIN, 2 * MARGIN : -2 * MARGIN]
    assert all(abs(many - 2 * few) <= 4 for many, few in zip(made.shape[:2], shown.shape[:2]))
    assert alike(made, shown) < 2 < 4 < alike(np.full_like(made, whole[0, 0]), shown)
    assert (whole[0, 0].mean() < 100) == dark


def words(svg: ElementTree.Element) -> str:
    return " ".join("".join(one.itertext()) for one in svg.iter(f"{SVG}text"))


def test_a_drawing_stands_alone_and_holds_all_of_a_long_text(visit: Visits, site: Site) -> None:
    text = "the cat sat on a mat and the dog ran 3 times\n" * 11
    page = visit(site.link(run="gpt", text=text, at=490))
    content = saved(page, button(page.locator("[data-view=attention]"), "SVG"))
    svg = ElementTree.fromstring(content)
    shown = words(svg)
    assert svg.tag == f"{SVG}svg" and svg.get("viewBox")
    assert svg[0].tag == f"{SVG}rect" and svg[0].get("fill") == page.evaluate(
        "getComputedStyle(document.body).backgroundColor"
    ), "the ground is in the picture"
    assert "Attention" in shown and "Share of its attention" in shown and "Save as" not in shown
    boxes = [one for one in svg.iter(f"{SVG}rect") if one.get("fill") not in (None, "none", svg[0].get("fill"))]
    assert len(boxes) > 490, "a box for each token, those too that lie outside the frame that scrolls"
    for one in svg.iter():
        assert not one.get("class") and "var(" not in str(one.attrib) and "color(" not in str(one.attrib)
        assert (one.get("href") or "data:").startswith("data:")
    lines = [("".join(one.itertext()), float(one.get("y", 0))) for one in svg.iter(f"{SVG}text")]
    table = next(k for k, (told, _) in enumerate(lines) if told == "place")
    letters = [y for told, y in lines[:table] if len(told) == 1]
    assert len(letters) > 350 and max(letters) < lines[table][1], "nothing runs into what follows it"
    assert max(y for _, y in lines) < float(svg.get("height", 0))


def test_a_trace_is_saved_as_json_and_as_the_page_of_the_command(visit: Visits, site: Site, tmp_path: Path) -> None:
    page = visit(site.link(lang="ko", run="hmm", text=SENTENCE, at=7))
    out = tmp_path / "page.html"
    run = chainrule.load(site.folders["hmm"], threads=1)
    answer = run.explain(SENTENCE, at=7, top_k=10, out=str(out), lang="ko")
    assert json.loads(saved(page, page.locator("[id$=-save]"))) == json.loads(json.dumps(answer["trace"]))
    content = saved(page, page.locator("[id$=-save-page]"))
    whole = re.compile(r"\b(\d+)\.0(?=[],<}])")  # a browser writes 0 where Python writes 0.0
    assert content.decode() == whole.sub(r"\1", out.read_text())
    (tmp_path / "saved.html").write_bytes(content)
    kept = visit((tmp_path / "saved.html").as_uri())
    assert kept.locator(".token data.nats").count() == len(SENTENCE)


def test_a_server_that_cannot_make_the_page_is_told_of(visit: Visits, site: Site) -> None:
    page = visit(site.link(run="ngram", text="the", at=1))
    page.route("**/page/explain.html", lambda route: route.abort())
    page.locator("[id$=-save-page]").click()
    page.get_by_text("The server does not answer.").wait_for()
    assert visit.wrong.pop().startswith("Failed to load resource")


def test_the_page_of_a_file_saves_its_panels_too(visit: Visits, explained: str) -> None:
    page = visit(explained)
    panel = page.locator("[data-view=gates]")
    assert picture(saved(page, button(panel, "PNG"))).std() > 5
    assert "Gates" in words(ElementTree.fromstring(saved(page, button(panel, "SVG"))))
    (trace,) = json.loads(page.locator("#traces").text_content() or "")
    assert len(rows(saved(page, button(panel, "CSV")))) == 1 + len([*entries(trace["gates"])])
    text = rows(saved(page, button(page.locator(".side-text"), "CSV")))
    assert [float(line[-1]) for line in text if line[0] == "tokens.nats"] == [
        one["nats"] for one in trace["surprise"]["tokens"]
    ]
    assert page.locator("[id$=-save-page]").count() == 0


def test_the_report_saves_charts_and_tables(visit: Visits, report: str) -> None:
    page = visit(report)
    bars = page.locator(".save").filter(visible=True)
    names = bars.evaluate_all("list => list.map(one => one.lastChild.getAttribute('aria-label').split(': ')[1])")
    chart, table = (
        bars.nth(next(k for k, name in enumerate(names) if name.startswith(start))) for start in ("curves", "table")
    )
    for bar in (chart, table):
        assert picture(saved(page, bar.get_by_text("PNG"))).std() > 5
        svg = ElementTree.fromstring(saved(page, bar.get_by_text("SVG")))
        assert svg.tag == f"{SVG}svg" and len([*svg.iter(f"{SVG}text")]) > 5
    board = sample_board()
    points = rows(saved(page, chart.get_by_text("CSV")))[1:]
    assert {line[0] for line in points} == {row["model"] for row in board["rows"]}
    head, *lines = rows(saved(page, table.get_by_text("CSV")))
    for name, entry in [("bits per byte", "bits_per_byte"), ("parameters", "params")]:  # 4.22k is 4225
        column = head.index(name)
        assert sorted(float(line[column]) for line in lines) == sorted(row[entry] for row in board["rows"])
