"""Commands that use the recommended run of a comparison, ready to be typed: what ``compare`` ends with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule import commands

LONGEST = 40
"""Characters of a sample of the data that a command is shown with."""


def uses(o: commands.Compare, board: dict[str, Any]) -> list[str]:
    """Three commands on ``OUT/best``, with samples of the data themselves; none where no row is recommended.

    Args:
        o: the options of the comparison.
        board: its board.
    """
    best = board["verdict"]["best"]
    if best is None:
        return []
    run = _quoted(str(Path(o.out) / "best"))
    examples = board["data"].get("examples") or [""]
    kind = "symbols" if board["task"] == "generate" and board["data"].get("counted") == "symbol" else board["task"]
    made = USES[kind](run, examples[0], _quoted(_data(o.data)))
    plugin = _plugin(o, best)
    return [command.replace(f" {run}", f" {run}{plugin}", 1) for command in made]


def _data(given: Any) -> str:
    if given is not None:
        return os.fspath(given)
    from chainrule.data import plays

    return str(plays())


def _plugin(o: commands.Compare, best: str) -> str:
    """The flag that loads the model type of the best row, where it comes from a file."""
    entries = [part.strip() for part in (o.models.split(",") if isinstance(o.models, str) else o.models or [])]
    files = [name for entry in entries if (name := entry.partition(":")[0]).endswith(".py")]
    file = o.plugin or (files[0] if files and best not in entries else None)
    return f" --plugin {_quoted(file)}" if file else ""


def _quoted(text: str) -> str:
    """``text`` as one word of a shell; in double quotes where it holds an apostrophe and nothing else of note."""
    plain = "'" in text and not any(character in text for character in '"$`!\\')
    return f'"{text}"' if plain else shlex.quote(text)


def _words(text: str, longest: int = LONGEST) -> str:
    """The first words of the first line that has several, else of the text; as one word of a shell."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    line = next((line for line in lines if " " in line), next(filter(None, lines), "a"))
    return _quoted(line if len(line) <= longest else line[:longest].rpartition(" ")[0] or line[:longest])


def _text(run: str, example: str, data: str) -> list[str]:
    words = _words(example)
    return [
        f"chainrule generate {run} --prompt {words} --max-tokens 100",
        f"echo {words} | chainrule predict {run} --top-k 3",
        f"echo {words} | chainrule score {run}",
    ]


def _symbols(run: str, example: str, data: str) -> list[str]:
    return [
        f"chainrule generate {run} --max-tokens 20 -n 3",
        f"chainrule generate {run} --max-tokens 20 --temperature 0 --json",
        f"chainrule evaluate {run} {data}",
    ]


def _series(run: str, example: str, data: str) -> list[str]:
    return [
        f"chainrule generate {run} --max-tokens 12",
        f"chainrule generate {run} --max-tokens 12 -n 3 --json",
        f"chainrule evaluate {run} {data}",
    ]


def _translate(run: str, example: str, data: str) -> list[str]:
    source = _words(example.partition(" → ")[0])
    return [
        f"echo {source} | chainrule translate {run}",
        f"echo {source} | chainrule translate {run} --beams 4 --n-best 3",
        f"chainrule evaluate {run} {data}",
    ]


def _tag(run: str, example: str, data: str) -> list[str]:
    tokens = _words(" ".join(token.rpartition("/")[0] or token for token in example.split()))
    return [
        f"echo {tokens} | chainrule tag {run}",
        f"echo {tokens} | chainrule tag {run} --json",
        f"chainrule evaluate {run} {data}",
    ]


def _classify(run: str, example: str, data: str) -> list[str]:
    text = _words(example.partition(": ")[2])
    return [
        f"chainrule classify {run} -- {text}" if text.startswith(("-", "'-")) else f"chainrule classify {run} {text}",
        f"echo {text} | chainrule classify {run} --json",
        f"chainrule evaluate {run} {data}",
    ]


def _fill(run: str, example: str, data: str) -> list[str]:
    words = shlex.split(_words(example))[0]
    masked = _quoted(f"{words.rpartition(' ')[0]} [MASK]".strip())
    return [
        f"chainrule fill {run} {masked}",
        f"echo {_quoted(words)} | chainrule embed {run} --out vectors.npy",
        f"chainrule evaluate {run} {data}",
    ]


def _images(run: str, example: str, data: str) -> list[str]:
    return [
        f"chainrule evaluate {run} {data}",
        f"chainrule evaluate {run} {data} --predictions predictions.jsonl",
        f"chainrule classify {run} IMAGE.png",
    ]


def _codes(run: str, example: str, data: str) -> list[str]:
    return [
        f"chainrule evaluate {run} {data}",
        f"chainrule export {run} --to symbols --data {data} codes.jsonl",
        f"chainrule draw {run} --symbols codes.jsonl --out drawn.png",
    ]


def _draw(run: str, example: str, data: str) -> list[str]:
    caption = _words(example, 4 * LONGEST)
    return [
        f"chainrule draw {run} {caption} --out drawn.png",
        f"chainrule draw {run} {caption} -n 4 --out four.png",
        f"chainrule evaluate {run} {data}",
    ]


USES: dict[str, Callable[[str, str, str], list[str]]] = {
    "generate": _text, "symbols": _symbols, "series": _series, "translate": _translate, "tag": _tag,
    "classify": _classify, "fill": _fill, "classify-images": _images, "codes": _codes, "draw": _draw,
}  # fmt: skip
