"""Drawings of lines, areas and text, written as SVG or, by Pillow, as PNG: figures need no browser and no network."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from chainrule.report.styles import Point

if TYPE_CHECKING:
    from PIL import ImageFont

SCALE = 2
"""Pixels of a PNG for each unit of a drawing."""
SMOOTH = 2
"""Times that size at which a PNG is drawn before it is brought to its own, which smooths edges."""
FONTS = ("DejaVuSans.ttf", "Arial.ttf", "LiberationSans-Regular.ttf", "Helvetica.ttc")
WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc", "NotoSansKR-Regular.otf", "NotoSansCJKkr-Regular.otf", "NanumGothic.ttf",
    "AppleSDGothicNeo.ttc", "malgun.ttf",
)  # fmt: skip
"""Fonts with Hangul, by the names that Linux, macOS and Windows give them."""
FAMILY = "system-ui, Arial, 'Noto Sans KR', 'Noto Sans CJK KR', 'Malgun Gothic', sans-serif"


@dataclass(frozen=True)
class Line:
    """A line through points; ``dash`` holds the lengths of dashes and gaps."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dash: Sequence[float] = ()


@dataclass(frozen=True)
class Area:
    """A filled outline."""

    points: Sequence[Point]
    colour: str


@dataclass(frozen=True)
class Text:
    """A line of text; ``anchor`` is ``start``, ``middle`` or ``end``, and ``y`` is that of its base line."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    colour: str = "#595c63"
    size: float = 12
    bold: bool = False


Shape = Line | Area | Text


@dataclass
class Drawing:
    """Shapes on a white ground, the first one at the back."""

    width: float
    height: float
    title: str
    shapes: list[Shape] = field(default_factory=list)

    def svg(self, alone: bool = True) -> str:
        """Return the drawing as SVG.

        Args:
            alone: as a file of its own; False: as a part of an HTML page.
        """
        size = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        if alone:
            size = f'xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}" {size}'
        body = "".join(_svg_of(shape) for shape in self.shapes)
        ground = f'<rect width="{self.width:g}" height="{self.height:g}" fill="#ffffff"/>'
        about = f'role="img" aria-label="{escape(self.title)}"'
        return f'<svg {size} {about} font-family="{FAMILY}">{ground}{body}</svg>'

    def png(self) -> bytes:
        """Return the drawing as PNG."""
        from PIL import Image, ImageDraw

        fine = SCALE * SMOOTH
        size = (SMOOTH * round(self.width * SCALE), SMOOTH * round(self.height * SCALE))
        image = Image.new("RGB", size, "#ffffff")
        draw = ImageDraw.Draw(image)
        for shape in self.shapes:
            if isinstance(shape, Text):
                _draw_text(draw, shape, fine)
            elif isinstance(shape, Area):
                draw.polygon([(x * fine, y * fine) for x, y in shape.points], fill=shape.colour)
            else:
                for piece in dashes(shape.points, shape.dash):
                    xy = [(x * fine, y * fine) for x, y in piece]
                    draw.line(xy, fill=shape.colour, width=max(1, round(shape.width * fine)), joint="curve")
        made = io.BytesIO()
        image.reduce(SMOOTH).save(made, "PNG", compress_level=4, dpi=(72 * SCALE, 72 * SCALE))
        return made.getvalue()

    @property
    def lacks_font(self) -> bool:
        """True if a text is Korean and no font of this machine has its letters."""
        return any(isinstance(s, Text) and is_wide(s.text) and _font_file(True) is None for s in self.shapes)


def is_wide(text: str) -> bool:
    """Return whether a text holds Hangul, kana or Chinese characters."""
    return any("\u1100" <= letter <= "\uffdc" and not "\u2000" <= letter <= "\u2bff" for letter in text)


def text_width(text: str, size: float = 12, bold: bool = False) -> float:
    """Return about how wide a text is drawn.

    >>> round(text_width("gru"), 1), round(text_width("손실"), 1)
    (20.2, 25.0)
    """
    wide = sum(1.04 if is_wide(letter) else 0.56 for letter in text)
    return wide * size * (1.06 if bold else 1)


def dashes(points: Sequence[Point], pattern: Sequence[float]) -> Iterable[list[Point]]:
    """Yield the drawn pieces of a dashed line; all of it where there is no pattern.

    >>> list(dashes([(0, 0), (10, 0)], (4, 3)))
    [[(0, 0), (4.0, 0.0)], [(7.0, 0.0), (10, 0)]]
    """
    if not any(pattern):
        yield list(points)
        return
    at, left, piece = 0, float(pattern[0]), [points[0]]
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while length - done > left:
            done += left
            place = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if at % 2 == 0:
                yield [*piece, place]
            at += 1
            left, piece = max(float(pattern[at % len(pattern)]), 0.1), [place]
        left -= length - done
        piece.append((x1, y1))
    if at % 2 == 0 and len(piece) > 1:
        yield piece


def mixed(colour: str, share: float) -> str:
    """Return a colour with so much of it over white.

    >>> mixed("#000000", 0.5)
    '#808080'
    """
    parts = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - part) * share):02x}" for part in parts)


def _svg_of(shape: Shape) -> str:
    if isinstance(shape, Text):
        more = ' font-weight="600"' if shape.bold else ""
        place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"{more}'
        return f'<text {place} fill="{shape.colour}">{escape(shape.text)}</text>'
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in shape.points)
    if isinstance(shape, Area):
        return f'<path d="{path}Z" fill="{shape.colour}"/>'
    dash = f' stroke-dasharray="{" ".join(f"{length:g}" for length in shape.dash)}"' if any(shape.dash) else ""
    stroke = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}" stroke-linejoin="round"{dash}'
    return f'<path d="{path}" {stroke}/>'


# --- text in PNG ------------------------------------------------------------------------------------------------------


def _draw_text(draw, shape: Text, fine: float) -> None:
    font = _font(is_wide(shape.text), shape.size * fine)
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
    place, bold = (shape.x * fine, shape.y * fine), round(0.35 * fine) if shape.bold else 0
    draw.text(place, shape.text, fill=shape.colour, font=font, anchor=anchor, stroke_width=bold)


@functools.cache
def _font_file(wide: bool) -> str | None:
    """The first of the fonts that this machine has."""
    from PIL import ImageFont

    for name in WIDE_FONTS if wide else FONTS:
        try:
            ImageFont.truetype(name, 12)
        except OSError:
            continue
        return name
    return None


@functools.cache
def _font(wide: bool, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of the machine, else the one that Pillow brings."""
    from PIL import ImageFont

    name = _font_file(wide) or _font_file(False)
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
