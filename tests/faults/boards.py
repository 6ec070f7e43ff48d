"""Small comparisons on a generated text, and what of their boards is the same in every run."""

from __future__ import annotations

import contextlib
import io
import random
import re
from pathlib import Path
from typing import Any

from chainrule.experiment.run import Request, run
from chainrule.tasks.settings import RunConfig

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]
NOISY = {
    "train_seconds", "tokens_per_second_train", "tokens_per_second_generate", "peak_memory_bytes", "seconds", "growth",
    "created", "command", "contended",
}  # fmt: skip
"""Keys of a board that another run on the same machine need not repeat."""
SPEED = re.compile(r"\d+(?=% of the speed of)|(?<=생성 속도는 그 모델의 )\d+")
"""The speed of a mixture in a verdict."""


def write_text(folder: Path) -> Path:
    """Lines of random words, the same every time."""
    rng = random.Random(3)
    path = folder / "corpus.txt"
    path.write_text("".join(" ".join(rng.choices(WORDS, k=7)) + "\n" for _ in range(139)))
    return path


def settings_for(text: Path, **more: Any) -> RunConfig:
    values = {"budget": "6steps", "size": "tiny", "threads": 1, "precision": "fp32", "save_every": "2steps"}
    return RunConfig.make({"data": str(text), "model_type": "ngram", **values, **more})


def compare(text: Path, out: Path, models: str, **more: Any) -> dict[str, Any]:
    options = {
        k: more.pop(k) for k in ("seeds", "lang", "workers", "overwrite", "plugin", "memory_curves") if k in more
    }
    with contextlib.redirect_stderr(io.StringIO()):
        return run(Request(settings_for(text, **more), models, out, **options))


def plain(value: Any) -> Any:
    """A board without what differs between two runs of the same thing."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in NOISY}
    if isinstance(value, list):
        return [plain(v) for v in value if not (isinstance(v, dict) and v.get("code") == "contended")]
    return SPEED.sub("#", value) if isinstance(value, str) else value


def weights(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("runs/*/model.safetensors"))}
