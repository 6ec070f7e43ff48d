"""The report of generate: the memory curve, samples, the n-gram ladder, and cost by sequence length."""

from __future__ import annotations

from typing import Any

from chainrule.report.charts import Points, points, references, series
from chainrule.report.formats import count, decimal, number
from chainrule.report.messages import Catalogue
from chainrule.report.section import ReportSection
from chainrule.report.sheets import Sheet
from chainrule.report.table import status
from chainrule.tasks.board import register_section

LINES = 16
"""Lines of the table of memory curves; where more contexts were measured, powers of two and the ends of the curves."""
CONTENDERS = 1.15
"""The memory curve shows closely the rows whose last value is at most this many times the best one."""
NEAR = 0.01
"""Bits; a memory curve that stays this close to its last value has reached it."""


@register_section("generate")
class GenerateSection(ReportSection):
    """Bits per byte (per symbol where data have no bytes), and the use that models make of the past."""

    template = "section.html"
    references = ("xz",)
    tick = "xz"
    baseline = "ngram"
    curve_references = ("xz",)
    curve_ceiling = "entropy0"

    def context(self, board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
        label = catalogue.pick((board.get("metrics") or [None])[0] or {"label": "value"}, "label")
        has_xz = number((board.get("references") or {}).get("xz")) is not None
        growth, memory = _growth(board), memory_chart(board, catalogue, label)
        ceiling = ceiling_of(memory["series"])
        return {
            "charts": {
                "memory": {**memory, "y": {"scale": "linear", "ceiling": ceiling}},
                "memory-whole": memory,
                "ladder": ladder_chart(board, catalogue, label),
                "growth-seconds": growth_chart(board, catalogue, growth, "seconds"),
                "growth-bytes": growth_chart(board, catalogue, growth, "bytes"),
            },
            "memory_close": ceiling is not None,
            "memory_unit": label[:1].upper() + label[1:],
            "memory_note": catalogue.message("memory_note" if has_xz else "memory_note_symbols"),
            "samples": [row for row in board["rows"] if row.get("samples") and status(row) != "failed"],
            "tables": _tables(board, catalogue, label, growth),
            "methodology": methodology(board, catalogue, has_xz),
        }


def _tables(board: dict[str, Any], catalogue: Catalogue, label: str, growth: list[Any]) -> dict[str, Sheet]:
    """The numbers behind the charts."""
    say = catalogue.message
    rungs = [[count(n), decimal(value)] for n, value in points(board.get("ladder"), "n", "value")]
    exponents = [
        [row["label"], decimal(found.get("time_exponent"), 2), decimal(found.get("memory_exponent"), 2)]
        for row, found in growth
    ]
    return {
        "memory-numbers": memory_table(board, catalogue),
        "ladder-numbers": Sheet(say("ladder_title"), ["n", label], rungs),
        "growth-exponents": Sheet(
            say("growth_title"), [say("col_model"), say("exponent_time"), say("exponent_memory")], exponents
        ),
    }


def memory_chart(board: dict[str, Any], catalogue: Catalogue, label: str) -> dict[str, Any]:
    """Return the chart of loss against visible context; beyond a model's window its last value is repeated by dots.

    Args:
        board: the board, with labels and styles.
        catalogue: its messages.
        label: the name of the vertical axis.
    """
    found = [(row, points(row.get("memory"), "visible", "value")) for row in board["rows"]]
    far = max([x for _, line in found for x, _ in line] + [2])
    ticks = [0, *(2**k for k in range(int(far).bit_length()) if 2**k <= far)]
    return {
        "series": [_line(row, line, far) for row, line in found if line],
        "height": [430, 360, 320],
        "referencesRight": True,
        "about": catalogue.message("memory_about"),
        "references": references(board, catalogue, ["xz"]),
        "x": {"scale": "doubling", "format": "count", "from": 0, "to": far, "ticks": ticks},
        "y": {"scale": "linear"},
        "xName": catalogue.message("memory_x"),
        "xShort": "k =",
        "yName": label,
    }


def _line(row: dict[str, Any], line: Points, far: float) -> dict[str, Any]:
    window = number(row.get("context")) or far
    seen = [point for point in line if point[0] <= window] or line[:1]
    last = seen[-1][1]
    if window >= far:
        return series(row, seen)
    if seen[-1][0] < window:
        seen = [*seen, (window, last)]
    return series(row, seen, end=[window, last], flat=[[window, last], [far, last]])


def ceiling_of(lines: list[dict[str, Any]]) -> float | None:
    """Return the end of a vertical axis that shows the differences between the best rows; None if it would hide little.

    Args:
        lines: the curves; lower values are better.

    >>> curves = [{"points": [(0, 5.0), (1, last)]} for last in (2.0, 2.1, 3.6)]
    >>> round(ceiling_of(curves), 3)
    2.2
    """
    last = sorted(line["points"][-1][1] for line in lines)
    if len(last) < 2:
        return None
    near = [value for value in last[1:] if value <= last[0] * CONTENDERS] or last[1:2]
    ceiling, top = near[-1] + max(near[-1] - last[0], 0.04 * last[0]), max(y for one in lines for _, y in one["points"])
    return ceiling if ceiling < top else None


def ladder_chart(board: dict[str, Any], catalogue: Catalogue, label: str) -> dict[str, Any] | None:
    """Return the chart of validation loss against the length of the n-gram, the best one marked.

    Args:
        board: the board.
        catalogue: its messages.
        label: the name of the vertical axis.
    """
    found = points(board.get("ladder"), "n", "value")
    if not found:
        return None
    best, lengths = min(found, key=lambda point: point[1]), [n for n, _ in found]
    row = {"model": None, "label": catalogue.message("ladder_name"), "style": 1}
    return {
        "series": [series(row, found, end=best, called=[found[0], best])],
        "about": catalogue.message("ladder_title"),
        "references": references(board, catalogue, ["xz"]),
        "x": {
            "scale": "linear", "format": "plain", "from": lengths[0] - 0.4, "to": lengths[-1] + 0.8, "ticks": lengths,
        },
        "y": {"scale": "linear"},
        "xName": catalogue.message("ladder_x"),
        "xShort": "n =",
        "yName": label,
    }  # fmt: skip


def _growth(board: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of the board with what was measured of their cost."""
    by_model = {row["model"]: row for row in board["rows"]}
    found = [row for row in (board.get("growth") or {}).get("rows") or [] if row]
    return [(by_model[row["model"]], row) for row in found if row.get("model") in by_model]


def growth_chart(board: dict[str, Any], catalogue: Catalogue, found: list[Any], kind: str) -> dict[str, Any] | None:
    """Return the chart of cost against sequence length, both axes logarithmic; None where nothing was measured.

    Args:
        board: the board.
        catalogue: its messages.
        found: rows with the measurements of their cost.
        kind: ``seconds`` or ``bytes``.
    """
    lengths = (board.get("growth") or {}).get("lengths") or []
    exponent = "time_exponent" if kind == "seconds" else "memory_exponent"
    lines = []
    for row, measured in found:
        line = [(n, y) for n, y in zip(lengths, measured.get(kind) or []) if (number(y) or 0) > 0]
        power = number(measured.get(exponent))
        lines.append(series(row, line, **({} if power is None else {"power": decimal(power, 2)})))
    if not any(line["points"] for line in lines):
        return None
    return {
        "series": lines,
        "height": 320,
        "about": catalogue.message(f"growth_{kind}"),
        "x": {"scale": "log", "format": "count", "ticks": lengths},
        "y": {"scale": "log", "format": kind},
        "xName": catalogue.message("growth_x"),
        "xShort": "n =",
        "yName": catalogue.message(f"growth_{kind}"),
    }


def memory_table(board: dict[str, Any], catalogue: Catalogue) -> Sheet:
    """Return the numbers behind the memory curves: one line a context, one column a model."""
    curves = {row["label"]: dict(points(row.get("memory"), "visible", "value")) for row in board["rows"]}
    curves = {label: curve for label, curve in curves.items() if curve}
    title = catalogue.message("memory_numbers")
    if not curves:
        return Sheet(title, [], [])
    measured = sorted(set().union(*curves.values()))
    ends = {max(curve) for curve in curves.values()}
    kept = measured if len(measured) <= LINES else [k for k in measured if k in ends or int(k) & (int(k) - 1) == 0]
    lines = [[count(k), *(decimal(curve.get(k)) for curve in curves.values())] for k in kept]
    reached = [catalogue.message("useful_context"), *map(useful_context, curves.values())]
    return Sheet(title, [catalogue.message("memory_x"), *curves], [*lines, reached])


def useful_context(curve: dict[float, float]) -> str:
    """Return the smallest measured context from which a curve stays within :data:`NEAR` of its last value.

    >>> useful_context({0: 4.0, 4: 2.0, 8: 2.2, 16: 2.009, 32: 2.0})
    '16'
    """
    far = max(curve)
    beyond = [k for k, value in curve.items() if abs(value - curve[far]) > NEAR]
    return count(min(k for k in curve if k > max(beyond, default=-1)))


def methodology(board: dict[str, Any], catalogue: Catalogue, has_xz: bool) -> list[str]:
    """Return the sentences on bits, context, BPE and xz that apply to this board.

    Args:
        board: the board.
        catalogue: its messages.
        has_xz: whether the text was compressed by xz.
    """
    known, say = board.get("references") or {}, catalogue.message
    by_symbol = (board.get("data") or {}).get("counted") == "symbol"
    size, uniform, entropy = say("symbols" if by_symbol else "bytes"), known.get("uniform"), known.get("entropy0")
    bits = say("method_bits", size=size, uniform=decimal(uniform), entropy=decimal(entropy))
    bpe = any("bpe" in str(row.get("tokenizer") or "") for row in board["rows"])
    return [bits, say("method_context"), *[say("method_bpe")] * bpe, *[say("method_xz")] * has_xz]
