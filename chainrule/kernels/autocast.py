"""The condition under which kernels take over from torch in training and evaluation."""

from __future__ import annotations

import torch


def lowered() -> bool:
    """Return whether autocast makes products bf16 on a CPU."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
