"""A server over small runs, a browser, and the files that can be read without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.pages import Site, Visits, browser_program, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHOWN = "SCREENSHOTS" in os.environ
"""Pictures of the documents are made: the runs read a play, and learn from it."""
PLAY = Path(__file__).parents[2] / "examples" / "data" / "macbeth.txt"
TEXT = "".join(f"the cat sat on a {'mat' if k % 3 else 'hat'} and the dog ran {k % 7} times\n" for k in range(80))
PAIRS = [(f"{a} {b}", f"{b} {a}") for a in "abcd" for b in "efgh"] * 4
CONTEXT = 512
"""Tokens that the GPT reads."""
OVER_TEXT: dict[str, dict[str, Any]] = {
    "gpt": {"context": CONTEXT}, "hmm": {"model.states": 4}, "lstm": {}, "ngram": {"model.n": 3},
}  # fmt: skip
"""Settings of the runs over the same characters, by model type, which is their name too."""
LARGER: dict[str, dict[str, Any]] = {
    "gpt": {"model.width": 96, "model.heads": 4, "context": 128}, "hmm": {"model.states": 12},
    "lstm": {"model.width": 128}, "ngram": {"model.n": 5},
}  # fmt: skip
"""Settings of those in the documents."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pytest.importorskip("fastapi")
    import chainrule

    folder = tmp_path_factory.mktemp("browser")
    (folder / "text.txt").write_text(PLAY.read_text(encoding="utf-8") if SHOWN else TEXT)
    folders = {name: str(folder / name) for name in (*OVER_TEXT, "pairs")}
    common: dict[str, Any] = {"budget": "20s" if SHOWN else "3steps", "threads": 1}
    for name, settings in OVER_TEXT.items():
        given = {"set": {"size": "tiny", **settings, **(LARGER.get(name, {}) if SHOWN else {})}, "tokenizer": "char"}
        chainrule.train(str(folder / "text.txt"), name, folders[name], **given, **common)
    chainrule.train(PAIRS, "transformer", folders["pairs"], task="translate", set={"size": "tiny"}, **common)
    with serving(folders) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for each file: while it is open, nothing else in this thread can use asyncio."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser_program(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visits]:
    """Opens pages; the test fails where one wrote an error, or asked anybody but its server."""
    visits = Visits(browser, site)
    yield visits
    visits.close()
    assert visits.wrong == []


@pytest.fixture(scope="session")
def explained(site: Site) -> str:
    """The address of the file that ``chainrule explain --out`` writes, of the LSTM."""
    import chainrule

    out = Path(site.folders["lstm"]).parent / "explained.html"
    chainrule.load(site.folders["lstm"], threads=1).explain("the cat sat\n", at=5, out=str(out))
    return out.as_uri()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of a board, of which every section has something to show."""
    from chainrule.report import render
    from chainrule.tasks.board import section_of
    from tests.unit.boards import sample_board

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sample_board(), section=section_of("generate")), encoding="utf-8")
    return path.as_uri()
