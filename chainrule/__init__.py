"""chainrule: train, compare and use sequence models on your own data, from a Markov chain to a Transformer.

Importing the package imports no torch; the first use of a name does.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_API = (
    "Run", "check_laws", "classify", "compare", "data_card", "draw", "embed", "evaluate", "explain", "export", "fill",
    "generate", "import_run", "load", "make_data", "mix", "predict", "score", "serve_runs", "tag", "train", "translate",
    "write_report",
)  # fmt: skip
_WHERE = {
    "HMM": "chainrule.estimators",
    "forecast": "chainrule.tasks.series.inference",
    "read": "chainrule.data",
    "text": "chainrule.data.memory",
    **dict.fromkeys(_API, "chainrule.api"),
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'chainrule' has no attribute '{name}'{_hint(name)}")
    return getattr(import_module(_WHERE[name]), name)


def _hint(name: str) -> str:
    """Return what a name may mean that the package does not offer."""
    if (Path(__file__).parent / "models" / f"{name.lower()}.py").is_file():
        return f"; model types are given by name: chainrule.train(data, {name.lower()!r}, out)"
    meant = {"fit": "train", "open": "load", "sample": "generate", "forecast_series": "forecast"}.get(name)
    close = [meant] if meant else get_close_matches(name.lower(), _WHERE, n=1)
    return f": did you mean chainrule.{close[0]}?" if close else f"; it offers {', '.join(_WHERE)}"


def __dir__() -> list[str]:
    return sorted(__all__)
