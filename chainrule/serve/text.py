"""Text of tokens that come one by one: no character is shown before it is whole, no text that may become a stop."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from chainrule.serve.tokens import Prompt, Vocabulary


class Text:
    """The text of a sequence of tokens, to which tokens are added; undecodable bytes are replaced.

    Args:
        vocabulary: the tokens.
        prompt: what the sequence begins with; its text is not among what is returned.

    The texts of all calls make up the text of the whole.
    """

    def __init__(self, vocabulary: Vocabulary, prompt: Prompt | None = None):
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.previous: int | None = None
        """The token that the next one is separated from."""
        self.size = 0
        """Characters so far."""
        if prompt is not None and prompt.ids:
            shown = self._grown(self._decoder.decode(vocabulary.content(prompt.ids)))
            closed = prompt.text is not None and prompt.text[-1:].isspace() and not shown[-1:].isspace()
            self.previous = None if closed else prompt.ids[-1]

    @property
    def whole(self) -> bool:
        """True unless the last tokens are the beginning of a character."""
        return not self._decoder.getstate()[0]

    def copy(self) -> Text:
        """Return another text with the same beginning."""
        other = Text(self._vocabulary)
        other._decoder.setstate(self._decoder.getstate())
        other.previous, other.size = self.previous, self.size
        return other

    def add(self, k: int) -> str:
        """Return the text that the next token completes."""
        content = self._vocabulary.piece(self.previous, k)
        self.previous = k
        return self._grown(self._decoder.decode(content))

    def end(self) -> str:
        """Return what is left: a replacement of a character that remained incomplete."""
        return self._grown(self._decoder.decode(b"", final=True))

    def _grown(self, text: str) -> str:
        self.size += len(text)
        return text


class Stops:
    """Text up to the first of some texts, which are never shown, not even in part.

    Args:
        stops: the texts.

    >>> stops = Stops(["END"])
    >>> [stops.add(piece) for piece in ("to E", "at EN", "D or not")], stops.stopped
    (['to ', 'Eat ', ''], True)
    """

    def __init__(self, stops: Sequence[str]):
        self._stops, self._held = tuple(stops), ""
        self.stopped = False

    def add(self, text: str) -> str:
        """Return what can be shown, now that this text has come."""
        text, self._held = self._held + text, ""
        found = [place for place in map(text.find, self._stops) if place >= 0]
        if self.stopped or found:
            self.stopped = True
            return text[: min(found, default=0)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        shown, self._held = text[: len(text) - held], text[len(text) - held :]
        return shown

    def end(self) -> str:
        """Return what was held back and became no stop."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of a text that a stop begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
