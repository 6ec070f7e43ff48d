"""Routes of our own: the commands of runs over HTTP, with their options as the body and their results as the answer.

A string in a body is a text, never a path. What names files, loads code or chooses where to compute is no field.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_type_hints

from fastapi import APIRouter, Request, Response
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError

from chainrule.core import UserError
from chainrule.data import SymbolTokenizer
from chainrule.data.image_files import ImageReader
from chainrule.explanation.export import finite
from chainrule.options import Option, Options, find_command, make, options_of
from chainrule.runs.run import Run
from chainrule.serve import explaining, limits
from chainrule.serve.bodies import Strict, example
from chainrule.serve.choice import answered_by, chosen
from chainrule.serve.errors import Refused
from chainrule.serve.service import Service
from chainrule.serve.wording import place_in, shown
from chainrule.tasks.fill.inference import MASK
from chainrule.tasks.inference import answer, answering, parameters
from chainrule.tasks.series.inference import FORECAST_PATHS

FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
"""A flag of the command line in a text."""
Given = dict[str, Any]
"""Fields of a body that were given, by name."""
Number = Annotated[float, Field(allow_inf_nan=False)]
Event = str | int | bool | Number
Step = Event | Annotated[list[Event], Field(fail_fast=True, max_length=limits.LISTED)]


def _told(kind: Any, told: str, items: str) -> Any:
    """A type whose error says what is accepted, in place of an error for each member of a union.

    Args:
        kind: the type.
        told: what is accepted.
        items: the name of the items of a list in it.
    """

    def check(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
        try:
            return inner(value)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                if one["type"] == "too_long":
                    place = place_in(value, one["loc"])
                    counted = {"many": f"{len(one['input']):,}", "most": f"{one.get('ctx', {})['max_length']:,}"}
                    what = items if place else f"texts or lists of {items}"
                    context = {"place": place, "told": what, **counted}
                    raise PydanticCustomError("too_long", "{many} {told}, at most {most}", context) from None
            raise PydanticCustomError("input", "should be {told}", {"told": told}) from None

    return Annotated[kind, WrapValidator(check)]


def _one_or_more(item: Any, told: str, items: str) -> Any:
    """A text, or a list of texts or of lists of ``item``."""
    some = Annotated[list[item], Field(fail_fast=True, max_length=limits.LENGTH)]
    many = Annotated[list[str | some], Field(fail_fast=True, min_length=1, max_length=limits.TEXTS)]
    return _told(str | many, f"a text, or a list of 1 to {limits.TEXTS:,} texts or lists of {told}", items)


TextInput = _told(
    str | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=limits.TEXTS)],
    f"a text, or a list of 1 to {limits.TEXTS:,} texts", "characters",
)  # fmt: skip
Sequences = _one_or_more(Step, "events (strings or numbers; lists of them where voices are in step)", "events")
Sentences = _one_or_more(str, "tokens", "tokens")
Series = _one_or_more(Number, "numbers", "numbers")


def size(value: Any) -> int:
    """Return the characters of a text, or the sum over the items of a list, each of which counts too.

    >>> size(["to be", [1, "or"]])
    11
    """
    if isinstance(value, str):
        return len(value)
    return sum(1 + size(item) for item in value) if isinstance(value, list) else 0


@dataclass(frozen=True)
class Route:
    """A command as a route.

    Args:
        function: the name of the command's Python function.
        reads: the option that holds texts or numbers.
        kind: the type of that field.
        told: a line on the field.
        example: a body.
        work: the cost of a body to a run and what it counts, in words: at most ``limits.WORK``.
        tasks: whose runs answer; empty: those of every task that the command has.
        required: the field must be given.
        does: what it does, in words; empty: as the command's help says.
        words: descriptions of fields and of entries of the answer that differ from the command's.
        never: entries of the command's result that this route does not have.
        only: whether a run of such a task answers.
    """

    function: str
    reads: str
    kind: Any
    told: str
    example: Given
    work: Callable[[Run, Given], tuple[int, str]]
    tasks: tuple[str, ...] = ()
    required: bool = True
    does: str = ""
    words: dict[str, str] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    only: Callable[[Run], bool] = lambda run: True

    @property
    def command(self) -> type[Options]:
        """The command."""
        return find_command(self.function)

    def answers(self, task: str) -> bool:
        """Do runs of this task answer?"""
        return task in answering(self.function) and (not self.tasks or task in self.tasks)


def _read_once(_: Run, given: Given) -> tuple[int, str]:
    return size(given["input"]), "characters and items"


def _tagged(run: Run, given: Given) -> tuple[int, str]:
    read, labels = size(given["input"]), len(run.processor.labels)
    return read * (labels if given.get("posteriors") else 1), "characters and items (with posteriors, x tags)"


def _predicted(_: Run, given: Given) -> tuple[int, str]:
    listed = len(given["input"]) * given.get("top_k", 5)
    return size(given["input"]) + listed, "characters and items, and tokens that are listed"


def _translated(_: Run, given: Given) -> tuple[int, str]:
    rows = len(given["input"]) * max(given.get("beams", 4), given.get("n_best", 1))
    if rows > limits.ROWS:
        raise Refused("input", f"{rows:,} hypotheses (texts x beams), at most {limits.ROWS:,}: give fewer texts")
    return size(given["input"]), "characters"


def _filled(_: Run, given: Given) -> tuple[int, str]:
    listed = given.get("top_k", 5)
    work = sum(len(text) + text.count(MASK) * (len(text) + listed) for text in given["text"])
    return work, "characters x masks, and tokens that are listed"


def _forecast(run: Run, given: Given) -> tuple[int, str]:
    series = given.get("prompt") or run.data["tail"]
    drawn = len(series) * given.get("max_tokens", 24) * FORECAST_PATHS
    return size(given.get("prompt", [])) + drawn, f"numbers read and drawn ({FORECAST_PATHS:,} paths of each series)"


ROUTES = {
    "predict": Route(
        "predict", "input", Sequences, "sequences: texts, or lists of events (of steps where voices are in step)",
        {"input": [["home", "search", "product"]], "top_k": 3}, _predicted,
        words={"top_k": "number of tokens to list (default: 5)"},
    ),
    "score": Route(
        "score", "input", Sequences, "sequences: texts, or lists of events (of steps where voices are in step)",
        {"input": [["home", "search", "product"]], "tokens": True}, _read_once,
        words={
            "unit": "lines (default): score each line separately, its end included; stream: a text as one sequence",
            "tokens": "also give every token with its nats (default: false)",
        },
    ),
    "translate": Route(
        "translate", "input", TextInput, "texts to translate", {"input": ["Trust in him"], "beams": 4}, _translated,
    ),
    "classify": Route(
        "classify", "input", TextInput, "texts to label; of a run of images: files of images in base64",
        {"input": ["Guten Morgen, liebe Freunde"]}, _read_once,
    ),
    "tag": Route(
        "tag", "input", Sentences, "sentences: texts whose tokens white space separates, or lists of tokens",
        {"input": ["12 Main Street Springfield IL 62701"]}, _tagged,
    ),
    "fill": Route(
        "fill", "text", TextInput, f"texts with {MASK} in each", {"text": [f"The {MASK} is dead."], "top_k": 3},
        _filled,
    ),
    "explain": Route(
        "explain", "text", str,
        "a text; where a run reads symbols, a record as it is written in a file; of a run of images: an image file in "
        "base64",
        {"text": "home search product", "at": 2}, explaining.work,
        words={"view": "show only this view (or a list of them; default: the usual ones of the model type)"},
        never=("out", "beside"), only=lambda run: bool(explaining.views_of_run(run)),
    ),
    "forecast": Route(
        "generate", "prompt", Series, "series to continue (default: those that the run was trained on)",
        {"prompt": [[112, 118, 132, 129]], "max_tokens": 12}, _forecast, ("series",), required=False,
        does="Forecast series, with quantiles at each step and sampled paths.",
        words={
            "max_tokens": "number of values to forecast (default: 24)", "n": "paths of each series (default: 1)",
            "sequences": "the values of each sampled path", "nats": "log p of each sampled path",
            "columns": "the name of each series", "levels": "the probabilities of the quantiles",
            "quantiles": "of each series: the quantiles at each step",
        },
        never=("prompts", "texts", "written", "unknown"),
    ),
}  # fmt: skip
"""The routes by name, behind /v1/."""


# --- bodies -----------------------------------------------------------------------------------------------------------


def body_of(name: str) -> type[BaseModel]:
    """Return the model of a route's body: the options that the functions of its tasks take, each with its limits.

    Those that name files or load code, and those of the machine, never reach these functions.

    Args:
        name: one of ``ROUTES``.
    """
    route = ROUTES[name]
    calls = [call for task, call in answering(route.function).items() if route.answers(task)]
    used = {option for call in calls for option in parameters(call)}
    made: dict[str, Any] = {"model": (str, _optional("name of a run (default: the first that answers here)"))}
    reads = Field(description=route.told) if route.required else _optional(route.told)
    made[route.reads] = (route.kind, reads)
    for o in options_of(route.command):
        if o.name in used and o.name != route.reads:
            made[o.name] = (_type_of(o), _optional(_help(route, o)))
    return create_model(f"{name.title()}Body", __base__=Strict, __cls_kwargs__={**example(**route.example)}, **made)


def _help(route: Route, o: Option) -> str:
    """The help of an option as that of a field: it may be a list, and other options are fields."""
    told = route.words.get(o.name) or o.help.replace(" (may be repeated)", " (or a list of them)")
    return _named(route, told).replace("True", "true").replace("False", "false")


def _named(route: Route, told: str) -> str:
    """A line with the names of fields in place of flags of the command line."""
    names = {o.flag: o.name for o in options_of(route.command) if o.flag}
    return FLAG.sub(lambda found: names.get(found[0], found[0]), told)


def _optional(help: str) -> Any:
    """A field that may be left out."""

    def without_default(schema: dict[str, Any]) -> None:
        del schema["default"]

    return Field(default=None, description=help, json_schema_extra=without_default)


def _type_of(o: Option) -> Any:
    if choices := o.about.get("choices"):
        return Literal[tuple(choices)]
    if o.kind is bool:
        return bool
    if o.kind in (int, float):
        low, high = limits.NUMBERS[o.name]
        return Annotated[o.kind, Field(ge=low, le=high, allow_inf_nan=False if o.kind is float else None)]
    text = Annotated[str, Field(min_length=1, max_length=limits.STOP_LENGTH)]
    return str | Annotated[list[text], Field(fail_fast=True, max_length=limits.STOPS)] if o.many else text


def answer_of(name: str) -> type[BaseModel]:
    """Return the model of a route's answer, for its documentation.

    Args:
        name: one of ``ROUTES``.
    """
    result = ROUTES[name].command.result
    hints = get_type_hints(result)
    made: dict[str, Any] = {"model": (str, Field(description="name of the run that answered"))}
    for f in fields(result):  # type: ignore[arg-type]
        if f.name in ROUTES[name].never:
            continue
        told = ROUTES[name].words.get(f.name) or _named(ROUTES[name], f.metadata["help"])
        needed = ... if result.__dataclass_fields__[f.name].default is not None else None  # type: ignore[attr-defined]
        made[f.name] = (hints[f.name], Field(needed, description=told))
    return create_model(f"{name.title()}Answer", **made)


for _name, _route in ROUTES.items():
    answered_by(f"/v1/{_name}", lambda run, route=_route: route.answers(run.task) and route.only(run))


# --- answers ----------------------------------------------------------------------------------------------------------


async def respond(service: Service, name: str, given: Given) -> Response:
    """Return the answer of a run to a body.

    Args:
        service: the runs.
        name: one of ``ROUTES``.
        given: the fields of the body that were given.

    Raises:
        Refused: a field that cannot be used, or too much work.
    """
    route = ROUTES[name]
    served = chosen(service, f"/v1/{name}", given.pop("model", None))
    if isinstance(given.get(route.reads), str) and route.kind is not str:
        given[route.reads] = [given[route.reads]]
    work, what = route.work(served.run, given)
    if work > limits.WORK:
        raise Refused(route.reads, f"{work:,} {what}, at most {limits.WORK:,} in one request: ask for less")
    command = route.command
    try:
        options = make(command, {"run": served.run, **_read(served.run, route, given)})
        found = await served.workers.compute(lambda: _answered(served.run, route, options))
    except UserError as error:
        raise _in_fields(route, error) from None
    told = command.result.for_json(command.result.checked(found))
    return Response(_json({"model": served.name, **told}), media_type="application/json")


def _answered(run: Run, route: Route, options: Any) -> Given:
    content = getattr(options, route.reads)
    if route.kind is Sentences and all(isinstance(item, str) and len(item.split()) == 1 for item in content):
        _check_one(route.reads, content, "sentence")
    if route.kind is Sequences:
        _check_symbols(run, route.reads, content)
    return answer(run, options)


def _check_one(field: str, content: list[Any], name: str) -> None:
    """Raise Refused for several tokens in a list, which may be one sequence of them or sequences of one token each."""
    if len(content) > 1:
        one, many = shown([content]), shown([[item] for item in content])
        raise Refused(field, f"{field} {shown(content)}: one {name} is {one}, {len(content)} {name}s are {many}")


def _check_symbols(run: Run, field: str, content: list[Any]) -> None:
    """Raise Refused for symbols that may be one sequence or several, and for steps where a run has no voices."""
    if not isinstance(tokenizer := getattr(run.processor, "tokenizer", None), SymbolTokenizer):
        return
    if not tokenizer.form.characters and all(_is_symbol(tokenizer, item) for item in content):
        _check_one(field, content, "sequence")
    for item in content if not tokenizer.form.voices else ():
        if step := next((step for step in item if isinstance(step, list)), None):
            told = "a list is no event of this run, which has no voices in step; events are strings or numbers"
            raise Refused(field, f"{field}: {shown(step)}: {told}")


def _is_symbol(tokenizer: SymbolTokenizer, item: Any) -> bool:
    """Is this a text that holds one symbol and nothing else?"""
    try:
        return isinstance(item, str) and tokenizer.form.read(item) == [item]
    except UserError:
        return False


def _read(run: Run, route: Route, given: Given) -> Given:
    """The fields as the command takes them: numbers of a series as text, images as the bytes of their files."""
    content = given.get(route.reads, [])
    if route.kind is str:
        content = _decoded(route.reads, 1, content) if explaining.reads_image(run) else content
    elif isinstance(getattr(run.processor, "reader", None), ImageReader):
        if len(content) > limits.IMAGES:
            raise Refused(route.reads, f"{len(content)} images, at most {limits.IMAGES} in one request")
        content = [_decoded(route.reads, number, text) for number, text in enumerate(content, 1)]
    elif route.kind is Series:
        content = [text if isinstance(text, str) else " ".join(map(repr, text)) for text in content]
    return {**given, route.reads: content}


def _decoded(field: str, number: int, text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"^data:image/[\w+.-]+;base64,", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(field, f"image {number}: not base64; send the bytes of a PNG or JPEG file in base64") from None


def _in_fields(route: Route, error: UserError) -> Refused:
    """The error with names of fields in place of flags of the command line, and the first of them as its field."""
    if isinstance(error, Refused):
        return error
    names = {o.flag: o.name for o in options_of(route.command) if o.flag}
    field = next((names[flag] for flag in FLAG.findall(str(error)) if flag in names), route.reads)
    return Refused(field, _named(route, str(error)))


def _json(content: Any) -> bytes:
    """JSON, in which a number that is not finite (log p of what is impossible) is null."""
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return json.dumps(finite(content), ensure_ascii=False, allow_nan=False).encode()


# --- routes -----------------------------------------------------------------------------------------------------------


def _endpoint(name: str) -> Callable[..., Any]:
    async def endpoint(body: Any, request: Request) -> Response:
        return await respond(request.app.state.service, name, body.model_dump(exclude_unset=True))

    endpoint.__name__ = name
    endpoint.__annotations__["body"] = body_of(name)
    return endpoint


def routes() -> APIRouter:
    """Return a router with a route for each of ``ROUTES``."""
    router = APIRouter(prefix="/v1")
    for name, route in ROUTES.items():
        help = str(route.command.__doc__)
        does = route.does or f"{help[0].upper()}{help[1:]}."
        told: Given = {"summary": name, "description": does, "responses": {200: {"model": answer_of(name)}}}
        router.add_api_route(f"/{name}", _endpoint(name), methods=["POST"], response_model=None, **told)
    return router
