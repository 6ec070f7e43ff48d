"""Tokens as people see them: the text that each adds to those before it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache

from chainrule.core.protocols import Tokenizer
from chainrule.data.symbols import SymbolTokenizer


@lru_cache(maxsize=1 << 16)
def piece(tokenizer: Tokenizer, previous: int | None, k: int) -> bytes:
    """Return the bytes that a token adds to a text: words bring the space before them.

    Args:
        tokenizer: the tokenizer.
        previous: the token before it; None where a text begins.
        k: the token.
    """
    if previous is None:
        return tokenizer.decode([k])
    return tokenizer.decode([previous, k])[len(tokenizer.decode([previous])) :]


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text of each token of a record; together they are its text.

    A character of several tokens belongs to the last of them, and the others are empty. Of symbols, each text is the
    symbol, and that of the end of a record is empty.

    Args:
        tokenizer: the tokenizer.
        ids: the tokens.

    >>> from chainrule.data.tokenizers import ByteTokenizer
    >>> token_texts(ByteTokenizer(), [*"né".encode()])
    ['n', '', 'é']
    """
    if isinstance(tokenizer, SymbolTokenizer):
        return ["" if k == tokenizer.end else tokenizer.form.bare(tokenizer.symbols_of([k])[0]) for k in ids]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces = [piece(tokenizer, previous, k) for previous, k in zip([None, *ids], ids)]
    return [decoder.decode(content, final=n == len(ids)) for n, content in enumerate(pieces, 1)]


def token_name(tokenizer: Tokenizer, k: int) -> str:
    """Return the name of one token: its text, that of a byte which is no character by itself as its number.

    Args:
        tokenizer: the tokenizer.
        k: the token.

    >>> from chainrule.data.tokenizers import ByteTokenizer
    >>> token_name(ByteTokenizer(), 97), token_name(ByteTokenizer(), 233)
    ('a', '\\\\xe9')
    """
    if isinstance(tokenizer, SymbolTokenizer):
        return "(end)" if k == tokenizer.end else tokenizer.form.bare(tokenizer.symbols_of([k])[0])
    content = tokenizer.decode([k])
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in content)
