"""The part of the report that a task brings: columns of differences, sections of the page, charts, methodology."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chainrule.report.messages import Catalogue


class ReportSection:
    """A task's part of the report; this class itself serves a task without one: the table and learning curves.

    A subclass lies in ``report.py`` of a task's package. Beside it lie ``messages.json`` (its sentences) and, where the
    task has sections of its own, a template that extends ``page.html`` and fills its blocks.
    """

    template = "page.html"
    """The page's template: a file beside the module of the subclass, the frame, or the text of a template itself."""
    messages: Mapping[str, Mapping[str, str]] = {}
    """Messages of a section that has no file of its own beside it."""
    references: tuple[str, ...] = ()
    """Names in ``board["references"]`` with a column of differences; the message ``reference_<name>`` heads it."""
    tick: str | None = None
    """The reference that the bars of the table mark."""
    baseline: str | None = None
    """The model type whose row the others are compared with; ``reference_<baseline>`` is the heading."""

    @property
    def folder(self) -> Path:
        """Where the template and the messages of this section lie."""
        return Path(inspect.getfile(type(self))).parent

    @property
    def catalogues(self) -> list[Path | Mapping[str, Mapping[str, str]]]:
        """Catalogues of this section: the file beside it, if there is one, and its own messages."""
        file = self.folder / "messages.json"
        return [*[file] * (file.exists() and self.folder != Path(__file__).parent), self.messages]

    def catalogue(self, lang: str) -> Catalogue:
        """Return the messages of the report and of this section in a language."""
        return Catalogue(lang, *self.catalogues)

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        """Return what the template needs beside the board.

        Args:
            board: the board; each of its rows has a ``label`` and a ``style``. Entries may be missing while it is
            running. catalogue: the messages, with the words for the units of these data.

        Returns:
            Values by name. ``charts`` (chart specifications by id, see ``charts.py``) and ``methodology`` (sentences)
            are used by the frame; the default methodology is the message ``method_task``, where there is one.
        """
        return {}
