"""Colours, dashes and markers that tell the models apart, in the page and in figures.

The hues keep apart for the common kinds of colour blindness; dash and marker tell the model types apart without any
colour. Dots alone are never a dash: they mean "past the window".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """Colour on a light and on a dark ground, lengths of dashes and gaps (none: a solid line), and marker."""

    light: str
    dark: str
    dash: tuple[float, ...]
    marker: tuple[Point, ...]

    @property
    def path(self) -> str:
        """The outline of the marker as the path of an SVG."""
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in self.marker) + "Z"


CIRCLE = tuple((3.2 * math.cos(k * math.pi / 12), 3.2 * math.sin(k * math.pi / 12)) for k in range(24))
SQUARE = ((-3, -3), (3, -3), (3, 3), (-3, 3))
UP, DOWN = ((0, -4), (3.8, 3), (-3.8, 3)), ((0, 4), (3.8, -3), (-3.8, -3))
DIAMOND = ((0, -4.4), (4.4, 0), (0, 4.4), (-4.4, 0))
STAR = (
    (0, -4.6), (1.3, -1.5), (4.6, -1.4), (2, 0.7), (2.9, 4), (0, 2.1), (-2.9, 4), (-2, 0.7), (-4.6, -1.4), (-1.3, -1.5),
)  # fmt: skip
PLUS = (
    (-1.4, -4.2), (1.4, -4.2), (1.4, -1.4), (4.2, -1.4), (4.2, 1.4), (1.4, 1.4), (1.4, 4.2), (-1.4, 4.2), (-1.4, 1.4),
    (-4.2, 1.4), (-4.2, -1.4), (-1.4, -1.4),
)  # fmt: skip
HEXAGON = ((-2, -3.8), (2, -3.8), (4, -0.2), (2, 3.8), (-2, 3.8), (-4, -0.2))
FLAT, TALL = ((-4.2, -1.8), (4.2, -1.8), (4.2, 1.8), (-4.2, 1.8)), ((-1.8, -4.2), (1.8, -4.2), (1.8, 4.2), (-1.8, 4.2))

STYLES = (
    Style("#6f7175", "#a8abb0", (9, 4), CIRCLE),
    Style("#a06300", "#f0ac3c", (13, 3, 3, 3), SQUARE),
    Style("#1b76ac", "#70c4f2", (6, 3), UP),
    Style("#c84a05", "#ff8650", (), DIAMOND),
    Style("#00835e", "#3ccb9b", (18, 4), DOWN),
    Style("#3f3fb0", "#a3a8ff", (), STAR),
    Style("#ab4585", "#e993c3", (10, 3, 2, 3, 2, 3), PLUS),
    Style("#767200", "#cfc85c", (4, 3), HEXAGON),
    Style("#7c4a36", "#d2a28e", (22, 3, 6, 3), FLAT),
    Style("#1d7f86", "#66ccd3", (3, 2, 8, 2), TALL),
)
"""Styles that rows take in turn."""
