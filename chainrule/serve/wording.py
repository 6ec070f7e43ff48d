"""Mistakes in a body as sentences: what was given, what is accepted, in the words of JSON and the names of the client.

Pydantic finds them; its own names and words are not shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from chainrule.core.errors import nearest

SHOWN = 80
"""Characters of a client's value that an error repeats."""
LISTED = 3
"""Mistakes beside the first one that are told in full."""
KINDS = {
    "string_type": "a string", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "bool_type": "true or false", "list_type": "a list", "dict_type": "an object",
    "model_type": "an object", "model_attributes_type": "an object", "finite_number": "a finite number",
    "int_parsing_size": "a whole number of fewer digits",
}  # fmt: skip
"""Names of the kinds of values that are accepted, by the type of an error."""
SENTENCES: dict[str, Callable[[Mapping[str, Any], Any], str]] = {
    "missing": lambda context, value: "must be given",
    "extra_forbidden": lambda context, value: "no field of this request",
    "greater_than_equal": lambda context, value: f"should be at least {context['ge']}",
    "less_than_equal": lambda context, value: f"should be at most {context['le']}",
    "greater_than": lambda context, value: f"should be more than {context['gt']}",
    "less_than": lambda context, value: f"should be less than {context['lt']}",
    "literal_error": lambda context, value: f"should be {context['expected']}".replace("'", '"'),
    "string_too_short": lambda context, value: f"should have at least {_counted(context['min_length'], 'character')}",
    "string_too_long": lambda context, value: f"{len(value):,} characters, at most {context['max_length']:,}",
    "too_short": lambda context, value: f"should have at least {_counted(context['min_length'], 'item')}",
    "too_long": lambda context, value: f"{len(value):,} items, at most {context['max_length']:,}",
}
"""The sentence of the other types, given the context of the error and the value."""
WITHOUT_VALUE = ("missing", "too_long", "string_too_long")
"""Types of errors whose sentences say enough, or whose values are long."""


@dataclass(frozen=True)
class Mistake:
    """A mistake in a body.

    Args:
        place: keys and numbers of items that lead to it.
        kind: pydantic's type of it.
        told: the sentence.
        value: what was given.
    """

    place: tuple[str | int, ...]
    kind: str
    told: str
    value: Any

    @property
    def field(self) -> str | None:
        """Its field, such as ``messages[0].content``; None: the body itself."""
        return named(self.place) or None

    def __str__(self) -> str:
        value = "" if self.kind in WITHOUT_VALUE else f" {shown(self.value)}"
        return f"{self.field or 'the body'}{value}: {self.told}"


def shown(value: Any) -> str:
    """Return a client's value as it is repeated in an error: in one line, shortened.

    >>> shown("a" * 100)
    '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'
    """
    return _short(json.dumps(value, ensure_ascii=False, default=str))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def named(place: Sequence[str | int]) -> str:
    """Return the name of a place in a body.

    >>> named(("messages", 0, "content"))
    'messages[0].content'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{_short(part)}" for part in place)
    return "".join(parts).removeprefix(".")


def place_in(body: Any, loc: Sequence[str | int], missing: bool = False) -> tuple[str | int, ...]:
    """Return the place of an error without pydantic's names of types.

    Args:
        body: the value that the place is in.
        loc: pydantic's.
        missing: the last part is a field that is not there.

    >>> place_in({"stop": [1]}, ("stop", "list[constrained-str]", 0))
    ('stop', 0)
    """
    found: list[str | int] = []
    for k, part in enumerate(loc):
        inside = part in body if isinstance(body, dict) else _is_item(body, part)
        if inside:
            body = body[part]
        if inside or (missing and k == len(loc) - 1):
            found.append(part)
    return tuple(found)


def _is_item(body: Any, part: str | int) -> bool:
    return isinstance(body, list) and isinstance(part, int) and part < len(body)


def mistakes(errors: Sequence[Mapping[str, Any]], body: Any, model: type[BaseModel] | None = None) -> list[Mistake]:
    """Return the mistakes in a body, one for each field: those that are no field first.

    Args:
        errors: pydantic's, whose places begin at the body.
        body: the body.
        model: what it should be, for the names of fields.
    """
    by_field: dict[Any, list[Mistake]] = {}
    for error in errors:
        found = _mistake(error, body, model)
        by_field.setdefault(found.place[:1], []).append(found)
    every = [_one_of(group) for group in by_field.values()]
    return sorted(every, key=lambda mistake: mistake.kind != "extra_forbidden")


def sentence(found: Sequence[Mistake]) -> str:
    """Return the mistakes, at least one, as one line."""
    told, more = "; ".join(map(str, found[: LISTED + 1])), len(found) - LISTED - 1
    return f"{told} (and {more} more)" if more > 0 else told


def _mistake(error: Mapping[str, Any], body: Any, model: type[BaseModel] | None) -> Mistake:
    kind, context, value = error["type"], error.get("ctx", {}), error.get("input")
    place = (*place_in(body, error["loc"], kind == "missing"), *context.get("place", ()))
    if kind in KINDS:
        told = f"should be {KINDS[kind]}"
    elif kind in SENTENCES and "told" not in context:
        told = SENTENCES[kind](context, value)
    else:
        told = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if kind == "extra_forbidden" and (fields := _fields(model, place)):
        told += f"; {nearest(_short(str(place[-1])), fields)}"
    return Mistake(place, kind, told, value)


def _one_of(group: list[Mistake]) -> Mistake:
    """The mistake of a field that fits none of several types: the deepest one, or all that would be accepted."""
    depth = max(len(mistake.place) for mistake in group)
    deepest = [mistake for mistake in group if len(mistake.place) == depth]
    if special := [mistake for mistake in deepest if mistake.kind not in KINDS]:
        return special[0]
    kinds = " or ".join(dict.fromkeys(KINDS[m.kind] for m in deepest if m.place == deepest[0].place))
    return Mistake(deepest[0].place, deepest[0].kind, f"should be {kinds}", deepest[0].value)


def _fields(model: type[BaseModel] | None, place: Sequence[str | int]) -> list[str]:
    """Names of the fields of the object that a place is in."""
    for part in place[:-1]:
        if model is not None and isinstance(part, str):
            field = model.model_fields.get(part)
            model = next(_models(field.annotation), None) if field else None
    return list(model.model_fields) if model else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" + "s" * (number != 1)
