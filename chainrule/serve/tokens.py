"""Tokens of a run as clients see them: ids, names, and what each adds to a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core import UserError
from chainrule.data.processors import TokenProcessor
from chainrule.data.token_texts import piece
from chainrule.runs.run import Run
from chainrule.serve.errors import Refused
from chainrule.tasks.inference import count_unknown, decode_inputs

START, END, UNKNOWN = "<|start|>", "<|end|>", "<|unknown|>"
"""Names of special tokens: START wherever a text begins with it, the others as texts of their own."""
NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Prompt:
    """The beginning of a record.

    Args:
        ids: its tokens; the first one may be the start token, which every record begins with in any case.
        read: the same without the start token.
        text: the text that was given; None: ids were.
        unknown: how many of the tokens the run does not know.
        unknown_at: places in ``read`` of tokens that stand for text outside the vocabulary.
        unknown_bytes: the bytes of each of these.
    """

    ids: list[int]
    read: list[int]
    text: str | None
    unknown: int
    unknown_at: np.ndarray
    unknown_bytes: np.ndarray


class Vocabulary:
    """The tokens of a run, the special ones by names such as ``<|start|>``.

    Args:
        run: a run that reads sequences of text or symbols.

    Raises:
        UserError: a run that reads something else.
    """

    def __init__(self, run: Run):
        if not isinstance(run.processor, TokenProcessor):
            raise UserError(f"the run's task is {run.task}: it has no single tokenizer")
        self.run, self.tokenizer = run, run.processor.tokenizer
        self.special: dict[str, int] = {f"<|{name}|>": k for name, k in run.processor.special_tokens.items()}
        self.start: int = self.special[START]
        self._names = {k: name for name, k in self.special.items()}

    def prompt(self, given: str | Sequence[int], field: str = "prompt") -> Prompt:
        """Return a prompt that a client gave as a text or as ids.

        Args:
            given: the text or the ids.
            field: the field of the request that it came in.

        Raises:
            UserError: an id that is not in the vocabulary, or a record that is not written as one of its kind.
        """
        if not isinstance(given, str):
            ids, text, at, cost = self.checked(given, field), None, NOTHING, NOTHING
        elif given in self.special:
            ids, text, at, cost = [self.special[given]], given, NOTHING, NOTHING
        else:
            text = decode_inputs(self.run, {"prompt": [given]})["prompt"][0]
            encoded = self.tokenizer.encode(text.removeprefix(START).encode())
            ids, at, cost = encoded.ids.tolist(), encoded.unknown_at, encoded.unknown_bytes
            ids = [self.start, *ids] if text.startswith(START) else ids
        read = ids[1:] if ids[:1] == [self.start] else ids
        return Prompt(ids, read, text, count_unknown(self.run, read), at, cost)

    def checked(self, ids: Sequence[int], field: str) -> list[int]:
        """Return ids that a client gave.

        Raises:
            Refused: one that does not exist, or the start token elsewhere than at the beginning.
        """
        for place, k in enumerate(ids):
            if not 0 <= k < self.start + (place == 0):
                told = f"allowed are 0 to {self.start - 1}, and at the beginning {self.start}, the start token"
                raise Refused(field, f"token id {k} at place {place}: {told}")
        return list(ids)

    def piece(self, previous: int | None, k: int) -> bytes:
        """Return the bytes that a token adds to a text: words bring the space before them.

        Args:
            previous: the token before it; None where a text begins.
            k: the token.
        """
        return START.encode() if k == self.start else piece(self.tokenizer, self.before(previous), k)

    def before(self, previous: int | None) -> int | None:
        """Return the token that the next one is separated from: none where that is the start."""
        return None if previous == self.start else previous

    def name(self, previous: int | None, k: int) -> str:
        """Return the name of a token: what it adds to a text, ``bytes:\\xNN`` where that is no whole character.

        Names of different tokens at one place differ.
        """
        if k in self._names:
            return self._names[k]
        content = self.piece(previous, k)
        try:
            return content.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)

    def content(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of ids, the first of which may be the start token."""
        if list(ids[:1]) == [self.start]:
            return START.encode() + self.tokenizer.decode(ids[1:])
        return self.tokenizer.decode(ids)

    def told(self) -> dict[str, Any]:
        """Return what clients ask of a tokenizer: its special tokens by their roles, and its size.

        The end of a record is the end of a sequence; where records have none, the start of the next one is.
        """
        end = self.run.processor.terminator.decode() or next(
            (name for name in self.special if name == "<|end|>"), START
        )
        unknown = "<|unknown|>" if "<|unknown|>" in self.special else None
        roles = {"bos_token": START, "eos_token": end, "pad_token": None, "unk_token": unknown, "chat_template": None}
        return {**roles, "tokenizer_class": self.tokenizer.name, "vocab_size": self.tokenizer.vocab_size}
