"""The result of measuring a claim: whether it holds, sentences with figures, charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chainrule.report.messages import Catalogue

Holds = Literal["yes", "partly", "no", "unmeasured"]
"""The outcome: the sentence of a claim is true of these runs or not; ``unmeasured``: a run that it needs is missing."""


@dataclass(frozen=True)
class Said:
    """A message with the values of its blanks, in no language yet."""

    key: str
    values: Mapping[str, Any]

    def text(self, words: Catalogue) -> str:
        """Return the message in the language of a catalogue."""
        return words.message(self.key, **{name: _text(value, words) for name, value in self.values.items()})


Text = Said | str | float | None
"""A cell or label of a figure: a plain string, such as the name of a run, is the same in every language."""


def say(key: str, **values: Any) -> Said:
    """Return a message of the claim's JSON file with values for its blanks.

    Args:
        key: the message.
        values: values of its blanks; one may be a message itself.
    """
    return Said(key, values)


@dataclass(frozen=True)
class Chart:
    """Lines over one horizontal axis.

    Args:
        title: what is drawn.
        x: places on the horizontal axis, in rising order.
        series: values of each line at these places, by its name; None leaves a gap.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        log: axes that are logarithmic: ``x``, ``y`` or ``xy``.
    """

    title: Text
    x: Sequence[float]
    series: Mapping[str, Sequence[float | None]] | Sequence[tuple[Text, Sequence[float | None]]]
    x_label: Text
    y_label: Text
    log: Literal["", "x", "y", "xy"] = ""
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers; the first cell of a row names it."""

    title: Text
    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Strip:
    """Numbers of each token of a text as colours, one row a line.

    Args:
        title: what is drawn.
        tokens: the tokens, as text.
        rows: values of each row, one for each token, by the row's name.
    """

    title: Text
    tokens: Sequence[str]
    rows: Mapping[str, Sequence[float]] | Sequence[tuple[Text, Sequence[float]]]
    kind: Literal["strip"] = "strip"


@dataclass(frozen=True)
class Finding:
    """The result of measuring a claim.

    Args:
        holds: whether the sentence stands.
        told: sentences with the figures that decide it; where the measurement contradicts the claim, they say so.
        figures: charts, tables and strips.
        inspect: the state of *Look inside* that shows more (run, text, at, layer, head); empty: none.
        command: a command that makes what is missing, or repeats the measurement at a larger size; empty: none.
    """

    holds: Holds
    told: Sequence[Said]
    figures: Sequence[Chart | Table | Strip] = ()
    inspect: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def as_json(self, words: Catalogue) -> dict[str, Any]:
        """Return the finding as JSON in the language of a catalogue."""
        return {
            "holds": self.holds, "told": [said.text(words) for said in self.told],
            "figures": [_figure(one, words) for one in self.figures], "inspect": dict(self.inspect),
            "command": self.command,
        }  # fmt: skip


def _text(value: Any, words: Catalogue) -> Any:
    return value.text(words) if isinstance(value, Said) else value


def _named(values: Any, words: Catalogue) -> list[dict[str, Any]]:
    pairs = values.items() if isinstance(values, Mapping) else values
    return [{"name": _text(name, words), "values": list(given)} for name, given in pairs]


def _figure(one: Chart | Table | Strip, words: Catalogue) -> dict[str, Any]:
    """A figure as JSON, its texts in the language of a catalogue."""
    made: dict[str, Any] = {"kind": one.kind, "title": _text(one.title, words)}
    match one:
        case Chart():
            labels = {"x_label": _text(one.x_label, words), "y_label": _text(one.y_label, words)}
            return made | {"x": list(one.x), "series": _named(one.series, words), "log": one.log, **labels}
        case Table():
            rows = [[_text(cell, words) for cell in row] for row in one.rows]
            return made | {"columns": [_text(cell, words) for cell in one.columns], "rows": rows}
        case Strip():
            return made | {"tokens": list(one.tokens), "rows": _named(one.rows, words)}
