"""Pages in a browser, of which no error in the console and no foreign request goes unseen."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PHONE = 390
"""Width of a phone's screen in CSS pixels."""


def browser_program() -> str:
    """Return the path of a browser; skip where there is none, or no playwright to steer it."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    missing = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    if found is None or missing:
        told = ", ".join([*missing, *([] if found else ["chromium"])])
        pytest.skip(
            f"{told} missing: pip install -e '.[browser]' and apt-get install chromium", allow_module_level=True
        )
    return found


@dataclass(frozen=True)
class Site:
    """A server and the runs that it answers for."""

    address: str
    folders: dict[str, str]
    """Folders of the runs by name."""

    def link(self, tab: str = "inspect", lang: str = "en", **state: Any) -> str:
        """Return the address of a tab: ``state`` is what was chosen, lists for what may occur several times."""
        return f"{self.address}/?lang={lang}#{urlencode({'tab': tab, **state}, doseq=True)}"


@contextmanager
def serving(folders: dict[str, str]) -> Iterator[Site]:
    """Serve runs while a ``with`` block lasts.

    Args:
        folders: folders of the runs by name.
    """
    from chainrule.serve.app import application
    from chainrule.serve.service import open_service
    from tests.serve.shell import served

    service = open_service(folders.values(), threads=1)
    try:
        with served(application(service)) as port:
            yield Site(f"http://127.0.0.1:{port}", folders)
    finally:
        service.close()


class Visits:
    """Opens pages, each in a window of its own, and keeps what went wrong in them."""

    def __init__(self, browser: Browser, site: Site):
        self.browser, self.site = browser, site
        self.wrong: list[str] = []
        self.contexts: list[BrowserContext] = []

    def __call__(self, address: str, *, width: int = 1280, dark: bool = False) -> Page:
        """Return the page at an address, with nothing being computed any more.

        Args:
            address: of the server, or of a file.
            width: of the window.
            dark: the reader prefers dark pages.
        """
        context = self.browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda told: told.type in ("error", "warning") and self.wrong.append(told.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._check(request.url))
        page.goto(address)
        settled(page)
        return page

    def _check(self, url: str) -> None:
        if not url.startswith((f"{self.site.address}/", "data:", "blob:", "file://")):
            self.wrong.append(f"a request to {url}")

    def close(self) -> None:
        """Close all windows."""
        for context in self.contexts:
            context.close()


def settled(page: Page) -> None:
    """Wait until the page shows something, or waits for its reader, and nothing is computed any more."""
    until(page, "body:has(.viewer > *, .results > *, .verdict, #draw, #image-file):not(:has([aria-busy=true]))")


def until(page: Page, selector: str) -> None:
    """Wait for an element; a function would have to be evaluated in the page, which its policy does not allow."""
    page.locator(selector).first.wait_for(state="attached")


def tokens(page: Page) -> Any:
    """Return the tokens of the text that the page shows, the first run's where there are several."""
    return page.locator(".viewer").first.locator("[role=option]")


def sideways(page: Page) -> list[str]:
    """Return the elements that make a page wider than its window: none where it does not scroll sideways."""
    return page.evaluate("""() => {
      if (document.documentElement.scrollWidth <= innerWidth) return [];
      const wide = node => node.getBoundingClientRect().right > innerWidth && !node.closest(".scroll, .vh");
      const found = [...document.querySelectorAll("body *")].filter(wide).map(node => node.outerHTML.slice(0, 120));
      return ["wider than the window:", ...found];
    }""")


def barriers(page: Page) -> list[str]:
    """Return what axe-core finds on a page that is serious or critical for people with disabilities."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
