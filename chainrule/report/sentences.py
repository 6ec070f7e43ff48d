"""Sentences as data: a key of the message catalogue with its values, spoken in every language at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.core.metric import Metric
from chainrule.report.messages import LANGUAGES, Catalogue


@dataclass(frozen=True)
class Sentence:
    """A message key and the values of its blanks; a :class:`Figure` or an :class:`Amount` is said in the language of
    the sentence.
    """

    key: str
    values: Mapping[str, Any]

    def said(self, say: Catalogue) -> str:
        """The sentence in the language of a catalogue."""
        values = {k: v.said(say) if isinstance(v, MetricValue | Amount) else v for k, v in self.values.items()}
        return say.message(self.key, **values)


@dataclass(frozen=True)
class MetricValue:
    """A figure with its metric, such as ``2.118 bits per byte``."""

    metric: Metric
    value: float

    def said(self, say: Catalogue) -> str:
        return self.metric.said(self.value, say.lang)


@dataclass(frozen=True)
class Amount:
    """A number of items of a kind, such as ``5,000 bytes of test data``; ``kind`` is ``count`` (of test data) or
    ``amount``.
    """

    count: float
    items: str
    kind: str = "count"

    def said(self, say: Catalogue) -> str:
        key = f"{self.kind}_{self.items}"
        return say.message(key if key in say else "count_item", n=round(self.count))


@dataclass(frozen=True)
class Warned:
    """A warning: its code for programs, and what it says."""

    code: str
    sentence: Sentence

    def to_json(self, say: Mapping[str, Catalogue]) -> dict[str, str]:
        """``{"code", "text", "text_ko"}``."""
        return {"code": self.code, **spoken([self.sentence], say)}


def warned(code: str, key: str | None = None, **values: Any) -> Warned:
    """A warning whose message key is ``warning_<code>``, unless another is given."""
    return Warned(code, Sentence(key or f"warning_{code}", values))


def spoken(sentences: Sequence[Sentence], say: Mapping[str, Catalogue]) -> dict[str, str]:
    """Sentences one after the other in every language: ``{"text", "text_ko"}``."""
    return {
        "text" if lang == "en" else f"text_{lang}": " ".join(sentence.said(say[lang]) for sentence in sentences)
        for lang in LANGUAGES
    }
