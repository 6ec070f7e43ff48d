"""Words and helpers for tests of the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MY_MODEL = str(Path(__file__).parents[2] / "examples/my_model.py")
ONE_THREAD = ["--threads", "1", "--precision", "fp32"]
TINY = ["--budget", "1epochs", "--set", "size=tiny", *ONE_THREAD]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]


def strict_json(text: str) -> dict[str, Any]:
    """Exactly one JSON object, in JSON proper: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def content(folder: Path) -> dict[str, str]:
    """Every file below the folder, with the SHA-256 of what it holds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def train(text: str, out: Path, *more: str) -> list[str]:
    return ["train", text, "--model", "gru", *TINY, "--out", str(out), *more]
