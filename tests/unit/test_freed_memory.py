"""Memory that tensors free is kept for the next ones: counted by the page faults of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from chainrule.core.compute import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
faults = []
for _ in range(20):
    torch.ones(12 << 20)  # 48 MB: 12,288 pages
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(int(kept), faults[-1] - faults[-6])  # the first ones make the heap grow
"""
glibc = pytest.mark.skipif(not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc")


def measured(word, **environment):
    inherited = {name: x for name, x in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, word],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(x) for x in ended.stdout.split()]


@glibc
def test_the_pages_of_a_freed_tensor_are_not_asked_for_again():
    (kept, with_it), (_, without) = measured("keep"), measured("leave")
    assert kept and with_it < 100 < 1000 < without


@glibc
def test_what_the_environment_says_about_memory_holds():
    kept, faults = measured("keep", MALLOC_MMAP_THRESHOLD_="65536")
    assert not kept and faults > 1000
