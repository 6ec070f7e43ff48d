"""Words of a shell, for commands that are shown to people."""

from __future__ import annotations

import shlex
from pathlib import Path

MAX_WORDS = 40
"""Characters of a sample of the data in a command."""


def quoted(text: str | Path) -> str:
    """Return ``text`` as one word of a shell, in double quotes if it holds an apostrophe and nothing else special.

    Examples:
        >>> print(quoted("my data.txt"), quoted("don't"))
        'my data.txt' "don't"
    """
    plain = "'" in str(text) and not any(character in str(text) for character in '"$`!\\')
    return f'"{text}"' if plain else shlex.quote(str(text))


def first_words(text: str, longest: int = MAX_WORDS) -> str:
    """Return the beginning of the first line of several words, else of the text, as one word of a shell.

    Examples:
        >>> first_words("Act\\nTo be, or not to be, that is the question")
        "'To be, or not to be, that is the'"
    """
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next((line for line in lines if " " in line), next(filter(None, lines), "a"))
    return quoted(line if len(line) <= longest else line[:longest].rpartition(" ")[0] or line[:longest])


def masked(words: str) -> str:
    """Return the words with the last one masked, as one word of a shell.

    Examples:
        >>> masked("'to be or not'")
        "'to be or [MASK]'"
    """
    return quoted(f"{shlex.split(words)[0].rpartition(' ')[0]} [MASK]".strip())


def command_line(template: str, **values: str) -> str:
    """Return a command ready to be typed; what follows ``<`` in the template is piped in by ``echo``.

    Examples:
        >>> command_line("score {run} < {words}", run="best", words="'to be'")
        "echo 'to be' | chainrule score best"
    """
    command, _, piped = template.partition(" < ")
    line = f"chainrule {command}".format(**values)
    return f"echo {piped.format(**values)} | {line}" if piped else line
