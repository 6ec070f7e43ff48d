"""Names of number formats; commands know them without importing torch."""

from __future__ import annotations

TRAINED = ("auto", "fp32", "bf16")
"""Formats that a run is trained in."""
ROUNDED = ("int8", "int4")
"""Formats of the weights of a trained model, which is then computed with in float32 (``kernels``)."""
USED = (*TRAINED, *ROUNDED)
"""Formats that a trained run is used in."""
