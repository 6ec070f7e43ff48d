"""Bodies of requests: what all of them accept, and what is refused by name."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from chainrule.inference.sampling import Filters
from chainrule.serve.errors import Refused
from chainrule.serve.limits import CHOICES, FIELDS, STOP_LENGTH, STOPS
from chainrule.serve.wording import shown

Stop = Annotated[str, StringConstraints(min_length=1, max_length=STOP_LENGTH)]
"""A text that ends a sequence."""
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Strict(BaseModel):
    """An object in a request, whose fields are all known. A field that is null has its default.

    A list ends at its first mistake (``fail_fast``), and an object has few fields: each mistake is kept in memory.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > FIELDS:
            raise ValueError(f"an object of {len(given):,} fields, at most {FIELDS}")
        return given

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or name not in cls.model_fields}


class Body(Strict):
    """The body of a request to one of OpenAI's routes.

    Fields of OpenAI's API that are not supported are accepted with the values of ``neutral``, which change nothing, and
    refused by name otherwise; so is every field that is not known.
    """

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"user": ("",)}
    """Fields that are not supported, and the values that are accepted all the same."""

    model: str | None = None
    """The name of a run (default: the first that answers here)."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, value in given.items():
            accepted = cls.neutral.get(name, ())
            if name in cls.neutral and not any(type(value) is type(one) and value == one for one in (None, *accepted)):
                known = " or ".join(dict.fromkeys(json.dumps(one).removesuffix(".0") for one in accepted))
                told = f"{name} {shown(value)}: not supported; leave it out, or send {known}, which changes nothing"
                raise Refused(name, told)
        return {name: value for name, value in given.items() if name not in cls.neutral}


def example(**fields: Any) -> ConfigDict:
    """Return the setting of a body that shows an example of it on the page of routes."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class StreamOptions(Strict):
    """Options of a stream."""

    include_usage: bool = False
    """One more chunk at the end tells how many tokens there were."""


class Sampling(Body):
    """Options of drawing tokens and of sending them. ``top_k`` and ``min_p`` are not OpenAI's."""

    neutral = {**Body.neutral, "presence_penalty": (0, 0.0), "frequency_penalty": (0, 0.0), "logit_bias": ({},)}

    n: int = Field(1, ge=1, le=CHOICES)
    """Sequences of each prompt."""
    seed: Seed | None = None
    """Equal requests with a seed have equal answers (default: another seed each time)."""
    stop: Stop | Annotated[list[Stop], Field(fail_fast=True, max_length=STOPS)] = []
    """Texts that end a sequence; they are not shown."""
    stream: bool = False
    """Send the answer as it grows, as server-sent events."""
    stream_options: StreamOptions | None = None
    """With ``stream``: ``include_usage``."""
    temperature: Temperature = 1.0
    """Divides the logits; 0 takes the most probable token."""
    top_k: int = Field(0, ge=0, le=2**31 - 1)
    """Draw from the k most probable tokens; 0: from all."""
    top_p: Share = 1.0
    """Draw from the fewest most probable tokens whose probabilities reach p."""
    min_p: Share = 0.0
    """Draw from tokens of at least this share of the largest probability."""

    @model_validator(mode="after")
    def _streaming(self) -> Self:
        if self.stream_options and not self.stream:
            raise Refused("stream_options", "stream_options are for a stream: set stream to true, or leave them out")
        return self

    @property
    def filters(self) -> Filters:
        """The settings that tokens are drawn with."""
        return Filters(self.temperature, self.top_k, self.top_p, self.min_p)

    @property
    def stops(self) -> list[str]:
        """The texts that end a sequence."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def usage_is_sent(self) -> bool:
        """True if a stream tells its usage."""
        return self.stream_options is not None and self.stream_options.include_usage
