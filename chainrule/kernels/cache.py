"""The folder where compiled kernels are kept.

It bears a hash of the sources, the versions of Python, torch, numba and LLVM, and the processor: what one of them
changes is compiled and tested again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch


@functools.cache
def cache_folder() -> Path:
    """Return the folder of the compiled kernels: in the user's cache, or a temporary one where that is read-only."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "chainrule" / "kernels" / _key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="chainrule-kernels-"))


def _key() -> str:
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    facts = [sys.version, version("numba"), version("llvmlite"), torch.__version__, _processor()]
    return hashlib.sha256(sources + json.dumps(facts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Model name and features of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "; ".join(line for line in lines if line.startswith(("model name", "flags")))
