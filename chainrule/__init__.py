"""chainrule: train, compare and use sequence models on your own data, from a Markov chain to a Transformer.

Importing the package imports no torch; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_API = (
    "Run", "check_laws", "classify", "compare", "data_card", "draw", "embed", "evaluate", "export", "fill", "generate",
    "import_run", "load", "make_data", "mix", "predict", "score", "tag", "train", "translate", "write_report",
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
        raise AttributeError(f"module 'chainrule' has no attribute '{name}'; it offers {', '.join(_WHERE)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
