"""The folder where compiled kernels are kept.

It bears a hash of the sources, of where and since when they are there, the versions of Python, torch, numba and LLVM,
and the processor: what one of them changes is compiled and tested again. Numba looks for compiled code by path and time
of the source; where another installation of the same sources had been tested, it would compile in a step of training.
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
    sources = sorted(Path(__file__).resolve().parent.glob("*.py"))
    content = b"".join(path.read_bytes() for path in sources)
    places = [[str(path), path.stat().st_mtime_ns] for path in sources]
    facts = [sys.version, version("numba"), version("llvmlite"), torch.__version__, _processor(), places]
    return hashlib.sha256(content + json.dumps(facts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Model name and features of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "; ".join(line for line in lines if line.startswith(("model name", "flags")))
