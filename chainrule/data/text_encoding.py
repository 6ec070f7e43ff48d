"""Encodings of text files: decode one that is named, name the likely one of bytes that are not UTF-8, compose Unicode.

`chainrule.data.source.read_file` is the one place where the text of a file becomes UTF-8.
"""

from __future__ import annotations

import codecs
import functools
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.core.errors import UserError, nearest

UTF8 = "utf-8"
SUGGESTED = ("utf-8", "utf-16", "cp949", "cp932", "euc_jp", "gb18030", "big5", "cp1252", "cp1251", "koi8-r")
"""Encodings that an error offers."""
SPOKEN = {"cp1252": "Latin-1 (CP1252)", "cp932": "Shift-JIS (CP932)", "euc_jp": "EUC-JP"}
"""Names of encodings for people, where they are not the upper-case ones of Python."""
TWO_MARKS = {"\u0344": "\u0308\u0301", "\u0f73": "\u0f71\u0f72", "\u0f75": "\u0f71\u0f74", "\u0f81": "\u0f71\u0f80"}
"""Characters that stand for two combining marks: all that Unicode has."""
HANGUL, KANA, HAN, CYRILLIC = "[가-힣]", "[ぁ-ゖァ-ヺー]", "[一-鿿]", "[а-яё]"
FREQUENT = {
    "gb18030": "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下",
    "big5": "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下",
}
"""The most frequent characters of Chinese, in both scripts."""


def check_encoding(name: str) -> str:
    """Return the name of an encoding as Python gives it. Raises UserError for one that does not exist.

    >>> check_encoding("CP-949"), check_encoding("latin-1")
    ('cp949', 'iso8859-1')
    """
    for known in (name, re.sub(r"[-_ ](?=\d)", "", name)):  # CP-949 is cp949
        try:
            "".encode(known)  # refuses codecs that are not of text
            return codecs.lookup(known).name
        except (LookupError, UnicodeError, ValueError):
            continue
    raise UserError(f"--encoding {name}: no such encoding of text; {nearest(name, SUGGESTED)}")


def check_normalize(name: str | None) -> str | None:
    """Return the value of ``--normalize``. Raises UserError for another than ``nfc`` and ``none``."""
    if name not in (None, "nfc", "none"):
        raise UserError(f"--normalize {name}: {nearest(str(name), ('nfc', 'none'))}")
    return name


def compose(text: str) -> str:
    """Return text in Unicode's normal form NFC, in which a Korean syllable or an accented letter is one character.

    >>> len(compose("e\\u0301"))
    1
    """
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", with_marks_in_order(text))


def with_marks_in_order(text: str) -> str:
    """Return text with long runs of combining marks in canonical order, which no normal form distinguishes.

    ``unicodedata.normalize`` sorts them by insertion: 40,000 marks behind one letter take it a second, twice as many
    four. No text of people has such runs.
    """
    return text if text.isascii() else _long_runs().sub(_in_order, text)


@functools.cache
def _long_runs() -> re.Pattern[str]:
    marks = "".join(filter(unicodedata.combining, map(chr, range(sys.maxunicode + 1))))
    return re.compile(f"[{marks}{''.join(TWO_MARKS)}]{{99,}}")


def _in_order(found: re.Match[str]) -> str:
    single = found[0].translate(str.maketrans(TWO_MARKS))
    return "".join(sorted(single, key=unicodedata.combining))


@dataclass(frozen=True)
class Decoding:
    """A way of reading text: what happens at a defect, the encoding of files, and the normal form of characters.

    >>> Decoding("skip", "CP-949")
    Decoding(on_bad='skip', encoding='cp949', normalize=None)
    """

    on_bad: str = "stop"
    """``stop`` at bytes that are no text and at damaged records, or ``skip`` them and count them."""
    encoding: str | None = None
    """The encoding of the files; None: UTF-8."""
    normalize: str | None = None
    """``nfc`` composes characters; None (also ``none``) leaves them as they are."""

    def __post_init__(self) -> None:
        """Raise UserError for an unknown encoding or normal form, or another ``on_bad`` than ``stop`` and ``skip``."""
        if self.on_bad not in ("stop", "skip"):
            raise UserError(f"--on-bad {self.on_bad}: {nearest(str(self.on_bad), ('stop', 'skip'))}")
        object.__setattr__(self, "encoding", check_encoding(self.encoding) if self.encoding else None)
        object.__setattr__(self, "normalize", None if check_normalize(self.normalize) == "none" else self.normalize)

    @property
    def skips(self) -> bool:
        """True where what is damaged is left out and counted."""
        return self.on_bad == "skip"

    def compose(self, text: str) -> str:
        """Return the text in the normal form that is asked for."""
        return compose(text) if self.normalize else text


PLAIN = Decoding()
"""UTF-8 as it is written; damaged text stops reading."""


@dataclass(frozen=True)
class TextFile(os.PathLike[str]):
    """The path of a file of text, or ``-`` for standard input, and how it is decoded."""

    path: str
    decoding: Decoding

    def __fspath__(self) -> str:
        """Return the path."""
        return self.path


def recoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the bytes of a text in UTF-8. Raises UnicodeError where they do not belong to ``encoding``."""
    decoder = codecs.getincrementaldecoder(encoding)()
    for chunk in chunks:
        yield decoder.decode(chunk).encode(UTF8, "surrogatepass")
    yield decoder.decode(b"", final=True).encode(UTF8, "surrogatepass")


def plain_head(head: bytes) -> bytes:
    """Return the first bytes of a file as formats are recognised by them: UTF-16 as UTF-8, no byte-order mark.

    >>> plain_head("a,b".encode("utf-8-sig")), plain_head("text,label".encode("utf-16"))
    (b'a,b', b'text,label')
    """
    wide = _wide(head)
    return (head.decode(wide, "replace").encode() if wide else head).removeprefix(codecs.BOM_UTF8)


def likely_encoding(raw: bytes) -> str | None:
    """Return the name of the encoding that bytes are probably in; None for damaged UTF-8, and where nothing tells it.

    >>> likely_encoding("가을 하늘은 높고 푸르다".encode("cp949"))
    'cp949'
    >>> likely_encoding("Grüße aus Köln".encode("latin-1"))
    'cp1252'
    """
    if wide := _wide(raw):
        return wide
    lines = [line for line in raw.split(b"\n") if not line.isascii()]
    if not lines or b"\0" in raw or sum(map(is_utf8, lines)) > len(lines) // 10:
        return None
    joined = b"\n".join(lines)
    for name, fits in (
        ("cp932", lambda text, high: _share(KANA, text) > 0.2 * high),
        ("euc_jp", lambda text, high: _share(KANA, text) > 0.2 * high),
        ("cp949", lambda text, high: _share(HANGUL, text) > 0.9 * high),
        ("gb18030", lambda text, high: _is_chinese(text, high, "gb18030")),
        ("big5", lambda text, high: _is_chinese(text, high, "big5")),
        ("cp1251", lambda text, high: _share(CYRILLIC, text) > 0.6 * high and high > 0.5),
        ("koi8-r", lambda text, high: _share(CYRILLIC, text) > 0.6 * high and high > 0.5),
        ("cp1252", lambda text, high: high < 0.5 and len(re.findall(r"[^\x00-\x9f]", text)) > 1),
    ):
        try:
            text = joined.decode(name)
        except UnicodeDecodeError:
            continue
        if fits(text, _share(r"[^\x00-\x7f]", text)):
            return name
    return None


def spoken(encoding: str) -> str:
    """Return the name of an encoding for people.

    >>> spoken("cp949"), spoken("cp1252")
    ('CP949', 'Latin-1 (CP1252)')
    """
    return SPOKEN.get(encoding, encoding.upper())


def _wide(raw: bytes) -> str | None:
    """Return UTF-16 or UTF-32 by the byte-order mark, or UTF-16 by the zero bytes of its ASCII characters."""
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs, spaces = len(raw) // 2, (b" \0", b"\n\0", b"\0 ", b"\0\n")
    even, odd = raw[0 : 2 * pairs : 2].count(0), raw[1 : 2 * pairs : 2].count(0)
    if pairs < 8 or max(even, odd) < pairs // 20 or not any(x in raw for x in spaces):
        return None
    return "utf-16-le" if even * 4 < odd else "utf-16-be" if odd * 4 < even else None


def is_utf8(line: bytes) -> bool:
    """Return True if bytes are valid UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _share(pattern: str, text: str) -> float:
    """Return the share of the characters of a text, white space left out, that a pattern finds."""
    return len(re.findall(pattern, text)) / max(1, len("".join(text.split())))


def _is_chinese(text: str, high: float, name: str) -> bool:
    return _share(HAN, text) > 0.7 * high and _share(f"[{FREQUENT[name]}]", text) > 0.08 * high
