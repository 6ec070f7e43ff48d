"""The message catalogue: sentences of the report, verdict, warnings and data card in English and Korean.

A catalogue file maps a key to its text in each language::

    {"leads": {"en": "{model} leads with {value}.", "ko": "{model:이/가} {value:으로/로} 앞섭니다."}}

Blanks are those of :meth:`str.format`, with two more formats: ``{model:은/는}`` writes the value and the Korean
particle that fits its final sound, ``{count:token|tokens}`` the first word where the value is 1, else the second.
"""

from __future__ import annotations

import functools
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

READINGS = {"bag": "백", "bit": "비트", "set": "세트", "type": "타입", "web": "웹"}
"""Korean readings of words for which the spelling gives the wrong final sound."""
LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", "이비씨디이프지치이이이엘엠엔오피큐알스티유이유스이트"))
"""The last syllable of each letter's Korean name."""
DIGITS = dict(zip("0123456789", "영일이삼사오육칠팔구"))
UNITS = {
    "%": "퍼센트", "×": "배", "s": "초", "min": "분", "h": "시간", "epochs": "에포크", "steps": "스텝",
    "bytes": "바이트", "tokens": "토큰", "b": "바이트", "kb": "바이트", "mb": "바이트", "gb": "바이트", "db": "데시벨",
}  # fmt: skip
"""Korean readings of units directly behind a number."""
FILES = ("messages.json", "notes.json")
"""Catalogue files of the report itself."""
_BLANK = re.compile(r"\{(\w+)(?::([^{}|]*)\|([^{}|]*))?\}")


class Catalogue:
    """The messages of one language.

    Args:
        lang: ``en`` or ``ko``.
        more: further catalogues (files or their content), such as those of a task; they replace keys that exist.
        values: values that every message may use without being given them.

    Raises:
        UserError: the language is not among those of the catalogue.

    >>> Catalogue("ko").message("verdict_use", model="LSTM", value="2.118")
    'LSTM을 쓰십시오(2.118).'
    """

    def __init__(self, lang: str, *more: Path | Mapping[str, Mapping[str, str]], **values: Any):
        if lang not in LANGUAGES:
            raise UserError(f"the report has no language '{lang}'; {nearest(lang, LANGUAGES)}")
        self.lang = lang
        self.values = values
        self._entries: dict[str, Mapping[str, str]] = {}
        for source in (*map(files("chainrule.report").joinpath, FILES), *more):
            self._entries |= source if isinstance(source, Mapping) else json.loads(source.read_text(encoding="utf-8"))

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def message(self, key: str, **values: Any) -> str:
        """Return the message with its blanks filled: plain text, not escaped for HTML.

        Args:
            key: the message.
            values: values of its blanks.

        Raises:
            KeyError: there is no such message, or one of its blanks has no value.
        """
        return _FORMATTER.vformat(self._entries[key][self.lang], (), {**self.values, **values})

    def having(self, **values: Any) -> Catalogue:
        """Return the same messages with more values that every message may use."""
        other = object.__new__(Catalogue)
        other.lang, other._entries, other.values = self.lang, self._entries, {**self.values, **values}
        return other

    def counting(self, counted: str | None) -> Catalogue:
        """Return the same messages with the words for units: symbols where data have no bytes, else tokens.

        Args:
            counted: the unit that figures are given per (``byte``, ``symbol``, …), by the data card.
        """
        word = "symbol" if counted == "symbol" else "token"
        return self.having(token=self.message(word), tokens=self.message(f"{word}s"))

    def pick(self, entry: Mapping[str, Any] | None, field: str = "text") -> str:
        """Return an entry's own text in this language (``text_ko`` for Korean), else in English, else nothing.

        >>> Catalogue("ko").pick({"label": "accuracy", "label_ko": "정확도"}, "label")
        '정확도'
        """
        entry = entry or {}
        return str((self.lang != "en" and entry.get(f"{field}_{self.lang}")) or entry.get(field) or "")

    def note(self, text: str) -> str | None:
        """Return an English note of the data card in this language, or None where no message ``note_…`` has its form.

        A value that is itself a message ``phrase_…``, or a list of such, is translated too.

        >>> Catalogue("ko").note("1,234 empty lines are no records and are left out")
        '빈 줄 1,234개는 레코드로 보지 않고 제외했습니다.'
        """
        return text if self.lang == "en" else self._translated(text, "note_")

    def error(self, text: str) -> str | None:
        """Return the reason of a failure in this language, or None where no message ``error_…`` has its form.

        Several reasons, with semicolons between them, are translated one by one.

        >>> Catalogue("ko").error("the worker process ended with status -9")
        '작업 프로세스가 종료 코드 -9로 끝났습니다.'
        """
        if self.lang == "en":
            return text
        pieces = [self._translated(piece, "error_") for piece in text.split("; ")]
        return self._translated(text, "error_") if None in pieces else " ".join(filter(None, pieces))

    def _translated(self, text: str, kind: str) -> str | None:
        """The text by the most specific of the messages that have its form."""
        known = [key for key in self._entries if key.startswith(kind)]
        for key in sorted(known, key=lambda key: -len(self._entries[key]["en"])):
            if found := _pattern(self._entries[key]["en"]).fullmatch(text):
                return self.message(key, **{name: self._phrase(value) for name, value in found.groupdict().items()})
        return None

    def _phrase(self, value: str) -> str:
        whole = self._translated(value, "phrase_")
        pieces = [self._translated(piece, "phrase_") for piece in value.split(", ")]
        return whole or (value if None in pieces else ", ".join(filter(None, pieces)))


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """The texts that a template makes: a blank of one letter is a number, any other one is any text."""
    made, end, seen = "", 0, set[str]()
    for blank in _BLANK.finditer(template):
        name, one, other = blank.groups()
        value = r"[-\d.,%]+" if len(name) == 1 else ".+?"
        again = f"(?P={name})" if name in seen else f"(?P<{name}>{value})"
        made += re.escape(template[end : blank.start()])
        made += again if one is None else f"(?:{re.escape(one)}|{re.escape(other)})"
        end = blank.end()
        if one is None:
            seen.add(name)
    return re.compile(made + re.escape(template[end:]), re.DOTALL)


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

    Brackets at the end are not read, by the rules of Korean spelling: ``n-gram (n = 5)`` takes 은, like n-gram.

    Args:
        word: Hangul, a Latin word or abbreviation, a number, a number with its unit.
        pair: one of :data:`PARTICLES`, in either order.

    Raises:
        ValueError: the pair is not among those known.

    >>> particle("GRU", "은/는"), particle("LSTM", "은/는")
    ('는', '은')
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
    latin = re.search(r"[A-Z]?[a-z]+$|[A-Z]+$", text)  # of StreetName, Name
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
