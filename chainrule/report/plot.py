"""Charts of the report drawn without a browser, from the specifications that ``charts.js`` draws in the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.report.axes import Axis, axis
from chainrule.report.shapes import Area, Drawing, Line, Text, mixed, text_width
from chainrule.report.styles import STYLES, Point

WIDTH = 760
INK, SOFT, RULE = "#1d1f23", "#595c63", "#dcd9d0"
MARKERS = 12
"""About how many markers a line has."""
GAP = 15
"""Height of a name at the end of a line."""


@dataclass(frozen=True)
class Frame:
    """The axes of a chart, and where they lie."""

    x: Axis
    y: Axis
    left: float
    right: float
    top: float
    bottom: float

    def at(self, point: Sequence[float]) -> Point:
        """Return the place of a pair of values."""
        return self.x.place(point[0], self.left, self.right), self.y.place(point[1], self.bottom, self.top)


def is_empty(chart: dict[str, Any] | None) -> bool:
    """Return whether a chart has nothing to draw."""
    return not any(one["points"] for one in (chart or {}).get("series", []))


def draw_chart(chart: dict[str, Any], title: str | None = None) -> Drawing:
    """Return the drawing of a chart that is not empty.

    Args:
        chart: its specification, see ``charts.py``.
        title: what it shows; None: what is read aloud in the page.
    """
    series = [one for one in chart["series"] if one["points"]]
    height = chart.get("height") or 330
    height = height[0] if isinstance(height, list) else height
    ranges = [one["range"] for one in series if one.get("range")]
    xs = [point[0] for one in series for point in one["points"]] + [x for x, *_ in ranges]
    ys = [point[1] for one in series for point in one["points"]] + [y for _, *ends in ranges for y in ends]
    inside = [line["value"] for line in chart.get("references") or [] if line.get("inside")]
    room = max(text_width(_name(one), bold=True) for one in series) + 30 if len(series) > 1 else 14
    x, y = axis(chart["x"], xs), axis(chart["y"], ys + inside)
    left = max(52, 16 + max((text_width(y.text(tick)) for tick in y.ticks), default=0))
    frame = Frame(x, y, left, WIDTH - room, 30, height - 42)
    made = Drawing(WIDTH, height, title or chart["about"])
    _frame(made, frame, chart)
    for line in chart.get("references") or []:
        _reference(made, frame, line, at_right=bool(chart.get("referencesRight")))
    ends = []
    for one in series:
        flat = one.get("flat")
        if chart.get("extend") and len(one["points"]) == 1:
            flat = [one["points"][0], [x.high, one["points"][0][1]]]
        _series(made, frame, one, flat)
        ends.append((one, frame.at((flat or one["points"])[-1])))
    if len(series) > 1:
        _names(made, frame, ends)
    return made


def _colour(one: dict[str, Any]) -> str:
    return STYLES[one["style"]].light if isinstance(one["style"], int) else INK


def _name(one: dict[str, Any]) -> str:
    return one["name"] if one.get("power") is None else f"{one['name']} · n^{one['power']}"


def _frame(made: Drawing, frame: Frame, chart: dict[str, Any]) -> None:
    for tick in frame.y.ticks:
        y = frame.y.place(tick, frame.bottom, frame.top)
        made.shapes.append(Line([(frame.left, y), (frame.right, y)], RULE))
        made.shapes.append(Text(frame.left - 8, y + 4, frame.y.text(tick), "end"))
    made.shapes.append(Line([(frame.left, frame.bottom), (frame.right, frame.bottom)], SOFT))
    place = lambda tick: frame.x.place(tick, frame.left, frame.right)  # noqa: E731
    for tick in frame.x.ticks:
        made.shapes.append(Line([(place(tick), frame.bottom), (place(tick), frame.bottom + 4)], SOFT))
    for tick in _roomy(frame.x.ticks, frame.x.text, place):
        made.shapes.append(Text(place(tick), frame.bottom + 18, frame.x.text(tick), "middle"))
    if chart["yName"]:
        made.shapes.append(Text(4, 14, chart["yName"]))
    made.shapes.append(Text(frame.right, frame.bottom + 36, chart["xName"], "end"))


def _roomy(ticks: Sequence[float], text: Callable[[float], str], place: Callable[[float], float]) -> Sequence[float]:
    """The ticks whose labels do not touch: all, or every second, third … counted from the end; the first one stays."""
    half = [text_width(text(tick)) / 2 + 3 for tick in ticks]
    for step in range(1, len(ticks) + 1):
        kept = [k for k in range(len(ticks)) if k == 0 or (len(ticks) - 1 - k) % step == 0]
        if all(place(ticks[b]) - place(ticks[a]) > half[a] + half[b] for a, b in zip(kept, kept[1:])):
            return [ticks[k] for k in kept]
    return ticks[:1]


def _reference(made: Drawing, frame: Frame, line: dict[str, Any], *, at_right: bool) -> None:
    value = line["value"]
    if not frame.y.low <= value <= frame.y.high:
        return
    y = frame.y.place(value, frame.bottom, frame.top)
    made.shapes.append(Line([(frame.left, y), (frame.right, y)], SOFT, dash=(1, 3)))
    x, anchor = (frame.right - 4, "end") if at_right else (frame.left + 6, "start")
    made.shapes.append(Text(x, y - 5, f"{line['name']} {value:.3f}", anchor))


def _series(made: Drawing, frame: Frame, one: dict[str, Any], flat: Sequence[Sequence[float]] | None) -> None:
    colour = _colour(one)
    style = STYLES[one["style"]] if isinstance(one["style"], int) else None
    draw = lambda points, width, dash: made.shapes.extend(  # noqa: E731
        Line(piece, colour, width, dash) for piece in within([frame.at(p) for p in points], frame.top, frame.bottom)
    )
    if band := one.get("band"):
        outline = [frame.at((x, high)) for x, _, high in band] + [frame.at((x, low)) for x, low, _ in reversed(band)]
        made.shapes.append(Area([(x, min(max(y, frame.top), frame.bottom)) for x, y in outline], mixed(colour, 0.22)))
    if found := one.get("range"):
        made.shapes.append(Line([frame.at((found[0], end)) for end in found[1:]], mixed(colour, 0.45), 3))
    if flat:
        draw(flat, 2, (1.5, 4))
    draw(one["points"], 1.4 if style is None else 2, style.dash if style else ())
    if style is not None and not one.get("plain"):
        every = -(-len(one["points"]) // MARKERS)
        _markers(made, frame, one["points"][::-1][::every], style.marker, colour)
    if one.get("end"):
        _markers(made, frame, [one["end"]], [(1.9 * x, 1.9 * y) for x, y in STYLES[0].marker], colour)
    for point in one.get("called") or []:
        x, y = frame.at(point)
        made.shapes.append(Text(x + 5, y - 9, f"{point[1]:.3f}"))


def _markers(
    made: Drawing, frame: Frame, points: Iterable[Sequence[float]], outline: Sequence[Point], colour: str
) -> None:
    for x, y in map(frame.at, points):
        if frame.top - 1 <= y <= frame.bottom + 1:
            made.shapes.append(Area([(x + dx, y + dy) for dx, dy in outline], colour))


def within(points: Sequence[Point], top: float, bottom: float) -> list[list[Point]]:
    """Return the pieces of a line that lie between two heights.

    >>> within([(0, 0), (10, 10), (20, 10)], 5, 20)
    [[(5.0, 5.0), (10, 10), (20, 10)]]
    """
    pieces: list[list[Point]] = []
    for a, b in zip(points, points[1:]):
        cut = _cut(a, b, top, bottom)
        if cut and pieces and pieces[-1][-1] == cut[0]:
            pieces[-1].append(cut[1])
        elif cut:
            pieces.append([*cut])
    return pieces


def _cut(a: Point, b: Point, top: float, bottom: float) -> tuple[Point, Point] | None:
    if max(a[1], b[1]) < top or min(a[1], b[1]) > bottom:
        return None

    def inside(point: Point, other: Point) -> Point:
        edge = min(max(point[1], top), bottom)
        if edge == point[1]:
            return point
        return point[0] + (other[0] - point[0]) * (edge - point[1]) / (other[1] - point[1]), float(edge)

    return inside(a, b), inside(b, a)


def _names(made: Drawing, frame: Frame, ends: Sequence[tuple[dict[str, Any], Point]]) -> None:
    """The names at the ends of the lines, moved apart; an arrow where a line ends above the chart."""
    found = sorted(((min(max(y, frame.top), frame.bottom), x, y, one) for one, (x, y) in ends), key=lambda f: f[0])
    places: list[float] = []
    for want, *_ in found:
        places.append(max(want, places[-1] + GAP) if places else want)
    limit = frame.bottom + 4
    for k in reversed(range(len(places))):
        places[k] = min(places[k], limit)
        limit = places[k] - GAP
    for place, (want, x, y, one) in zip(places, found):
        colour = _colour(one)
        if abs(x - frame.right) < 12:
            made.shapes.append(Line([(frame.right + 7, want), (frame.right + 15, place)], mixed(colour, 0.5)))
        name = f"{_name(one)} ↑" if y < frame.top - 1 else _name(one)
        made.shapes.append(Text(frame.right + 19, place + 4, name, colour=colour, bold=True))
