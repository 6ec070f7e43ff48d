"""Units: the units of a recurrent network whose values follow a property of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from chainrule.data.symbols import SymbolTokenizer
from chainrule.explanation.gates import HIDDEN, is_recurrent, recurrent_values
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.views import Asked, Facts, view

BEST = 3
"""Units that are reported of each property."""
SHIFTS = 19
"""Shifts of a property against the text, from which the correlation by chance follows."""
CELL = "memory"
"""Name of the probe of the LSTM's cell."""
QUOTES, OPENING, CLOSING = '"“”«»', "([{", ")]}"


class Unit(Facts):
    """A unit that follows a property."""

    layer: int = Field(description="counted from 0")
    value: str = Field(description="which of its values: hidden, or memory (the cell of an LSTM)")
    unit: int
    correlation: float = Field(description="correlation over all tokens of the input, from -1 to 1")


class Tracker(Facts):
    """The units that follow a property best."""

    name: str
    told: str = Field(description="the property, as a sentence")
    best: list[Unit] = Field(description="units by the size of the correlation, the largest first")
    chance: float = Field(
        description="correlation of the best unit with the same property shifted against the text (median of "
        f"{SHIFTS} shifts): what the best of so many units reaches by chance"
    )


class Trackers(Facts):
    """Properties that vary over the input, and the units that follow them."""

    trackers: list[Tracker]


# ---------------------------------------------------------------------------------------------------------- properties


@dataclass
class Reader:
    """The state of a text behind its last character."""

    quotes: bool = False
    depth: int = 0
    line: int = 0
    word: int = 0
    last: str = ""

    def read(self, character: str) -> None:
        """Read a character.

        Args:
            character: the next one.
        """
        self.last = character
        self.quotes ^= character in QUOTES
        self.depth = max(0, self.depth + (character in OPENING) - (character in CLOSING))
        self.line = 0 if character == "\n" else self.line + 1
        self.word = self.word + 1 if character.isalnum() else 0


PROPERTIES: dict[str, tuple[str, Callable[[Reader], float]]] = {
    "quotes": ("the text is inside quotation marks", lambda reader: reader.quotes),
    "brackets": ("the text is inside brackets", lambda reader: reader.depth > 0),
    "line": ("characters since the line began", lambda reader: reader.line),
    "word": ("letters and digits since the word began", lambda reader: reader.word),
    "upper_case": ("the last character is an upper-case letter", lambda reader: reader.last.isupper()),
    "digit": ("the last character is a digit", lambda reader: reader.last.isdigit()),
    "white_space": ("the last character is white space", lambda reader: reader.last.isspace()),
}
"""Properties of a text behind each token: a sentence, and the value."""
RECORD = ("record", "tokens since the record began")


def properties(texts: Sequence[str]) -> dict[str, list[float]]:
    """Return the properties of a text behind each of its tokens.

    A text of one line has no place in the line: it would be that in the record.

    Args:
        texts: the text of each token.

    >>> properties(["A", "é(", "", "1", "\\n"])["brackets"]
    [0.0, 1.0, 1.0, 1.0, 1.0]
    """
    reader = Reader()
    found: dict[str, list[float]] = {name: [] for name in PROPERTIES}
    for text in texts:
        for character in text:
            reader.read(character)
        for name, (_, value) in PROPERTIES.items():
            found[name].append(float(value(reader)))
    return found if any("\n" in text for text in texts[:-1]) else {k: v for k, v in found.items() if k != "line"}


def _varying(given: ModelInput) -> dict[str, Tensor]:
    """The properties of an input that vary, T each; of symbols that are no characters, only the place."""
    tokenizer = given.run.processor.tokenizer
    text = not isinstance(tokenizer, SymbolTokenizer) or tokenizer.form.characters
    found = properties(given.texts) if text else {}
    found[RECORD[0]] = [float(at) for at in range(1, len(given) + 1)]
    values = {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()}
    return {name: each_T for name, each_T in values.items() if (each_T != each_T[0]).any()}


# -------------------------------------------------------------------------------------------------------- correlations


@dataclass
class Sums:
    """Sums over tokens from which correlations of U values with P properties follow, relative to the first values."""

    first_U: Tensor
    value_U: Tensor
    square_U: Tensor
    product_PU: Tensor

    @classmethod
    def empty(cls, first_U: Tensor, properties: int) -> Sums:
        """Return the sums over no tokens.

        Args:
            first_U: values at the first token; what is summed is the difference from them, so that values that do not
                vary give exact zeros.
            properties: P.
        """
        nothing_U = torch.zeros_like(first_U)
        return cls(first_U, nothing_U, nothing_U, nothing_U.repeat(properties, 1))

    def add(self, values_TU: Tensor, properties_PT: Tensor) -> None:
        """Add tokens.

        Args:
            values_TU: the values.
            properties_PT: the properties, each with mean 0 over the whole input.
        """
        gap_TU = values_TU - self.first_U
        self.value_U = self.value_U + gap_TU.sum(0)
        self.square_U = self.square_U + gap_TU.square().sum(0)
        self.product_PU = self.product_PU + properties_PT @ gap_TU

    def correlations(self, properties_PT: Tensor) -> Tensor:
        """Return the correlations over all tokens, P x U; 0 of a value that does not vary.

        Args:
            properties_PT: the properties, each with mean 0.
        """
        variance_U = self.square_U - self.value_U.square() / properties_PT.shape[1]
        scale_PU = (properties_PT.square().sum(1)[:, None] * variance_U.clamp(min=0)).sqrt()
        return torch.where(scale_PU > 0, self.product_PU / scale_PU, 0.0)


@view(is_recurrent, usual=False)
def units(given: ModelInput, asked: Asked) -> Trackers:
    """Return the units of a recurrent network whose hidden value or cell follows a property of the text, over the whole
    input. Correlation is no proof of use: the network may ignore the unit, and several units may carry the property
    together, each with a small correlation.
    """
    varying = _varying(given)
    if not varying:
        return Trackers(trackers=[])
    own_PT = torch.stack([*varying.values()])
    shifts = [round(k * len(given) / (SHIFTS + 1)) for k in range(1, SHIFTS + 1)]
    whole_PT = torch.cat([own_PT, *(own_PT.roll(by, 1) for by in shifts)])
    correlation_PU, places = _correlations(given, whole_PT - whole_PT.mean(1, keepdim=True))
    own_PU, shifted_SPU = correlation_PU[: len(own_PT)], correlation_PU[len(own_PT) :].unflatten(0, (SHIFTS, -1))
    chance_P = shifted_SPU.abs().amax(2).median(0).values
    told = {name: sentence for name, (sentence, _) in PROPERTIES.items()} | dict([RECORD])
    return Trackers(
        trackers=[
            Tracker(name=name, told=told[name], best=[*_best(row_U, places)], chance=chance)
            for name, row_U, chance in zip(varying, own_PU, chance_P.tolist())
        ]
    )


def _correlations(given: ModelInput, properties_PT: Tensor) -> tuple[Tensor, list[tuple[str, int, int]]]:
    """Return the correlations of all values with the properties, P x U, and the names of these (value, layer, unit)."""
    sums, place, places = None, 0, []
    for values in recurrent_values(given, 0, len(given), (HIDDEN, CELL)):
        values_TU = torch.cat([each.transpose(0, 1).flatten(1) for each in values.values()], 1).double().cpu()
        if sums is None:
            sums = Sums.empty(values_TU[0], len(properties_PT))
            places = [
                (name, k, unit)
                for name, each in values.items()
                for k in range(len(each))
                for unit in range(each.shape[-1])
            ]
        sums.add(values_TU, properties_PT[:, place : place + len(values_TU)])
        place += len(values_TU)
    assert sums is not None
    return sums.correlations(properties_PT), places


def _best(correlation_U: Tensor, places: list[tuple[str, int, int]]) -> Iterator[Unit]:
    order_U = correlation_U.abs().argsort(descending=True, stable=True)[:BEST].tolist()
    for at, correlation in zip(order_U, correlation_U[order_U].tolist()):
        value, layer, unit = places[at]
        yield Unit(layer=layer, value=value, unit=unit, correlation=correlation)
