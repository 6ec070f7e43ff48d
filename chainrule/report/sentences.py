"""Sentences as data: a key of the message catalogue with its values, spoken in every language at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.core.metric import Metric
from chainrule.report.messages import LANGUAGES, Catalogue


@dataclass(frozen=True)
class Sentence:
    """A message key and the values of its blanks.

    A :class:`MetricValue`, an :class:`Amount` or a sentence is said in the language of the sentence; so are lists of
    them, with commas between.

    >>> Sentence("verdict_so_far", {"model": "GRU", "value": "2.1"}).said(Catalogue("ko"))
    '지금까지는 GRU가 2.1로 앞섭니다. 아직 끝나지 않은 모델이 있습니다.'
    """

    key: str
    values: Mapping[str, Any]

    def said(self, say: Catalogue) -> str:
        """Return the sentence in the language of a catalogue."""
        return say.message(self.key, **{name: _said(value, say) for name, value in self.values.items()})


@dataclass(frozen=True)
class MetricValue:
    """A value with its metric, such as ``2.118 bits per byte``."""

    metric: Metric
    value: float

    def said(self, say: Catalogue) -> str:
        """Return the value with its unit in the language of a catalogue."""
        return self.metric.said(self.value, say.lang)


@dataclass(frozen=True)
class Amount:
    """A number of items of a kind, such as ``5,000 bytes of test data``.

    ``kind`` is ``count`` (of test data) or ``amount``; the message is ``<kind>_<items>``.

    >>> Amount(5000, "byte").said(Catalogue("en"))
    '5,000 bytes of test data'
    """

    count: float
    items: str
    kind: str = "count"

    def said(self, say: Catalogue) -> str:
        """Return the number and its items in the language of a catalogue."""
        key = f"{self.kind}_{self.items}"
        return say.message(key if key in say else "count_item", n=round(self.count))


def _said(value: Any, say: Catalogue) -> Any:
    """A value of a blank in the language of a catalogue."""
    if isinstance(value, list):
        return ", ".join(str(_said(part, say)) for part in value)
    return value.said(say) if isinstance(value, Sentence | MetricValue | Amount) else value


@dataclass(frozen=True)
class Warned:
    """A warning: its code for programs, and its sentence for people."""

    code: str
    sentence: Sentence

    def to_json(self, say: Mapping[str, Catalogue]) -> dict[str, str]:
        """Return ``{"code", "text", "text_ko"}``."""
        return {"code": self.code, **spoken([self.sentence], say)}


def warned(code: str, key: str | None = None, **values: Any) -> Warned:
    """Return a warning.

    Args:
        code: its name for programs.
        key: its message; None: ``warning_<code>``.
        values: values of the message's blanks.
    """
    return Warned(code, Sentence(key or f"warning_{code}", values))


def in_languages(texts: Mapping[str, str], field: str = "text") -> dict[str, str]:
    """Return texts by language under the keys of a board.

    >>> in_languages({"en": "tie", "ko": "무승부"})
    {'text': 'tie', 'text_ko': '무승부'}
    """
    return {field if lang == "en" else f"{field}_{lang}": text for lang, text in texts.items()}


def spoken(sentences: Sequence[Sentence], say: Mapping[str, Catalogue]) -> dict[str, str]:
    """Return sentences one after the other in every language.

    Args:
        sentences: the sentences.
        say: a catalogue for each language.

    Returns:
        ``{"text", "text_ko"}``.
    """
    return in_languages({lang: " ".join(sentence.said(say[lang]) for sentence in sentences) for lang in LANGUAGES})
