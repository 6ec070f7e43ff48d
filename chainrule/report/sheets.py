"""Tables of the report as CSV, LaTeX (booktabs) and drawings."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.report.formats import DASH
from chainrule.report.shapes import Area, Drawing, Line, Text, mixed, text_width

Value = str | float | int | None
LINE = 24
"""Height of a line of a drawn table."""
SHADE = "#2a9d6f"
_NUMBER = re.compile(r"[+−-]?[\d,]*\d(\.\d+)?")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "…": r"\ldots{}", "×": r"$\times$",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\u00ad": "", "\n": " ",
}  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """A table: its title, heading and lines as readers see them.

    ``values`` is the content of the CSV file with its heading, where that differs from the text; ``shades`` are shares
    of a colour behind the cells.
    """

    title: str
    head: Sequence[str]
    body: Sequence[Sequence[str]]
    values: Sequence[Sequence[Value]] | None = None
    shades: Sequence[Sequence[float]] = field(default_factory=list)

    def csv(self) -> str:
        """Return the table as CSV; numbers have a plain form, and what is not known is empty."""
        made = io.StringIO()
        writer = csv.writer(made, lineterminator="\n")
        shown = [[_clean(text) for text in self.head], *([_plain(text) for text in line] for line in self.body)]
        for line in self.values or shown:
            writer.writerow(["" if value is None else value for value in line])
        return made.getvalue()

    def latex(self) -> str:
        """Return the table in LaTeX; it needs the package booktabs."""
        lines = [" & ".join(map(latex, line)) + r" \\" for line in [self.head, *self.body]]
        columns = "l" + "r" * (len(self.head) - 1)
        rules = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
        comment = " ".join(self.title.split())
        return "\n".join([f"% {comment}", *rules, *lines[1:], r"\bottomrule", r"\end{tabular}", ""])

    def drawing(self) -> Drawing:
        """Return the table as a drawing."""
        rows = [[_clean(text) for text in line] for line in [self.head, *self.body]]
        widths = [max(text_width(line[k]) for line in rows) + 18 for k in range(len(self.head))]
        ends = [sum(widths[: k + 1]) for k in range(len(widths))]
        made = Drawing(ends[-1] + 12, LINE * len(rows) + 14, self.title)
        for r, line in enumerate(self.shades):
            for c, share in enumerate(line, start=len(self.head) - len(line)):
                left, top = ends[c] - widths[c] + 6, LINE * (r + 1) + 8
                corners = [(left, top), (ends[c] + 6, top), (ends[c] + 6, top + LINE), (left, top + LINE)]
                made.shapes += [Area(corners, mixed(SHADE, share))] if share > 0 else []
        for k, (y, width) in enumerate([(6, 1.4), (LINE + 8, 0.8), (LINE * len(rows) + 9, 1.4)]):
            made.shapes.append(Line([(6, y), (ends[-1] + 6, y)], "#1d1f23" if k != 1 else "#595c63", width))
        for r, line in enumerate(rows):
            y = LINE * (r + 1) - 1 if r == 0 else LINE * r + 25
            for c, text in enumerate(line):
                place, anchor = (12, "start") if c == 0 else (ends[c] - 3, "end")
                made.shapes.append(Text(place, y, text, anchor, "#1d1f23", bold=r == 0))
        return made


def latex(text: str) -> str:
    """Return a text with what LaTeX would act on escaped.

    >>> print(latex("50% of a_b"), latex("−0.125"))
    50\\% of a\\_b $-$0.125
    """
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _clean(text: str) -> str:
    return " ".join(text.replace("\u00ad", "").split())


def _plain(text: str) -> str:
    """A number as programs read it; a dash is nothing."""
    if text == DASH:
        return ""
    return text.replace(",", "").replace("−", "-").lstrip("+") if _NUMBER.fullmatch(text) else _clean(text)


def points_sheet(chart: dict[str, Any]) -> Sheet:
    """Return the points of a chart as a table with a line for each point.

    Args:
        chart: its specification; the continuation of a line beyond its points is left out.
    """
    head: list[Value] = ["model", "name", chart["xName"], chart["yName"]]
    body: list[list[Value]] = []
    band = any(one.get("band") for one in chart["series"])
    for one in chart["series"]:
        ends = {x: (low, high) for x, low, high in one.get("band") or []}
        for x, y in one["points"]:
            body.append([one["model"] or "", one["name"], x, y, *(ends.get(x, ("", "")) if band else ())])
    head += ["low", "high"] if band else []
    return Sheet(
        chart["about"], [str(name) for name in head], [[str(value) for value in line] for line in body], [head, *body]
    )
