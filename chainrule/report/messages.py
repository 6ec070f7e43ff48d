"""The message catalogue: every sentence of the report, the verdict and the warnings, in English and Korean.

A catalogue file maps a key to its text in each language::

    {"leads": {"en": "{model} leads with {value}.", "ko": "{model:이/가} {value:으로/로} 앞섭니다."}}

Blanks are those of :meth:`str.format`, with two more formats: ``{model:은/는}`` writes the value and the Korean particle
that fits its final sound, ``{count:token|tokens}`` the first word where the value is 1, else the second.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from chainrule.core.errors import UserError, nearest

LANGUAGES = ("en", "ko")
PARTICLES = ("은/는", "이/가", "을/를", "과/와", "으로/로", "이라/라", "이나/나")
"""Pairs of Korean particles: after a consonant, after a vowel. Either order may be written."""

READINGS = {
    "bert": "버트", "bit": "비트", "bleu": "블루", "bag": "백", "byte": "바이트", "dalle": "달리", "epoch": "에포크", "gru": "지알유",
    "knn": "케이엔엔", "lstm": "엘에스티엠", "rnn": "알엔엔", "set": "세트", "transformer": "트랜스포머", "vit": "비아이티", "web": "웹",
    "xz": "엑스제트", "ar": "에이알", "bpe": "비피이", "gpt": "지피티", "hmm": "에이치엠엠", "vq": "브이큐", "mlp": "엠엘피",
}  # fmt: skip
"""Korean readings of words whose spelling tells their final sound wrongly."""
LETTERS = {
    "a": "에이", "b": "비", "c": "씨", "d": "디", "e": "이", "f": "에프", "g": "지", "h": "에이치", "i": "아이", "j": "제이", "k": "케이",
    "l": "엘", "m": "엠", "n": "엔", "o": "오", "p": "피", "q": "큐", "r": "알", "s": "에스", "t": "티", "u": "유", "v": "브이",
    "w": "더블유", "x": "엑스", "y": "와이", "z": "제트",
}  # fmt: skip
DIGITS = dict(zip("0123456789", "영일이삼사오육칠팔구"))
UNITS = {
    "%": "퍼센트", "×": "배", "s": "초", "min": "분", "h": "시간", "epochs": "에포크", "steps": "스텝",
    "bytes": "바이트", "tokens": "토큰", "b": "바이트", "kb": "바이트", "mb": "바이트", "gb": "바이트", "db": "데시벨",
}  # fmt: skip
"""Readings of what stands directly behind a number."""


class Catalogue:
    """The messages of one language.

    Args:
        lang: ``en`` or ``ko``.
        more: further catalogues (files or their content), such as those of a task; they replace keys that exist.
        values: values that every message may use without being given them.

    Raises:
        UserError: the language is not among those of the catalogue.
    """

    def __init__(self, lang: str, *more: Path | Mapping[str, Mapping[str, str]], **values: Any):
        if lang not in LANGUAGES:
            raise UserError(f"the report has no language '{lang}'; {nearest(lang, LANGUAGES)}")
        self.lang = lang
        self.values = values
        self._texts: dict[str, str] = {}
        for source in (files("chainrule.report").joinpath("messages.json"), *more):
            entries = source if isinstance(source, Mapping) else json.loads(source.read_text(encoding="utf-8"))
            self._texts |= {key: texts[lang] for key, texts in entries.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def message(self, key: str, **values: Any) -> str:
        """Return the message with its blanks filled: plain text, not escaped for HTML.

        Raises:
            KeyError: there is no such message, or one of its blanks has no value.
        """
        return _FORMATTER.vformat(self._texts[key], (), {**self.values, **values})

    def having(self, **values: Any) -> Catalogue:
        """Return the same messages with more values that every message may use."""
        other = object.__new__(Catalogue)
        other.lang, other._texts, other.values = self.lang, self._texts, {**self.values, **values}
        return other

    def counting(self, counted: str | None) -> Catalogue:
        """Return the same messages with the words for units: symbols where data have no bytes, else tokens.

        Args:
            counted: what the data card says figures are given per (``byte``, ``symbol``, …).
        """
        word = "symbol" if counted == "symbol" else "token"
        return self.having(token=self.message(word), tokens=self.message(f"{word}s"))

    def pick(self, entry: Mapping[str, Any] | None, field: str = "text") -> str:
        """Return an entry's own text in this language (``text_ko`` for Korean), else in English, else nothing."""
        entry = entry or {}
        return str((self.lang != "en" and entry.get(f"{field}_{self.lang}")) or entry.get(field) or "")


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if "|" in format_spec:
            one, other = format_spec.split("|")
            return one if value == 1 else other
        if "/" in format_spec:
            return f"{value}{particle(str(value), format_spec)}"
        return format(value, format_spec)


_FORMATTER = _Formatter()


def particle(word: str, pair: str) -> str:
    """Return the particle of a pair such as ``은/는`` that fits the final sound of a word as it is read in Korean.

    Brackets at the end are not read, as the rules of Korean spelling have it: ``n-gram (n = 5)`` is followed by 은, as
    n-gram is.

    Args:
        word: Hangul, a Latin word or abbreviation, a number, a number with its unit.
        pair: one of :data:`PARTICLES`, in either order.

    Raises:
        ValueError: the pair is not among those known.
    """
    known = next((p for p in PARTICLES if pair in (p, "/".join(reversed(p.split("/"))))), None)
    if known is None:
        raise ValueError(f"unknown particles '{pair}'; known are {', '.join(PARTICLES)}")
    after_consonant, after_vowel = known.split("/")
    final = _final(word)
    if known == "으로/로" and final == _RIEUL:
        return after_vowel
    return after_consonant if final else after_vowel


_RIEUL = 8
"""The place of ㄹ among the final consonants of Unicode's Hangul syllables."""


def _final(word: str) -> int:
    """The number of the final consonant with which a word ends when it is read in Korean; 0 for a vowel."""
    outside = re.sub(r"\s*[(\[{][^()\[\]{}]*[)\]}]\W*$", "", word)
    text = re.sub(r"[^\w%×]+$", "", outside) or re.sub(r"[^\w%×]+$", "", word)
    if not text:
        return 0
    last = text[-1]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28
    if last in DIGITS:
        return _final(DIGITS[last])
    measured = re.search(r"\d\s*([a-zA-Z]+|%|×)$", text)
    if measured and measured[1].lower() in UNITS:
        return _final(UNITS[measured[1].lower()])
    if last in UNITS:
        return _final(UNITS[last])
    latin = re.search(r"[A-Za-z]+$", text)
    return _latin(latin[0]) if latin else 0


def _latin(word: str) -> int:
    """The final consonant of a Latin word or abbreviation: abbreviations are spelled, words are sounded out."""
    low = word.lower()
    if low in READINGS:
        return _final(READINGS[low])
    if word[-1].isupper() or not re.search("[aeiouy]", low):
        return _final(LETTERS[low[-1]])
    stem = low[:-1] if re.search("[^aeiou]e$", low) else low
    if re.search("[lmn]$|ng$", stem):
        return _RIEUL if stem[-1] == "l" else 1
    return int(bool(re.search("(^|[^aeiou])[aeiou][ckpt]$|ck$", low)))
