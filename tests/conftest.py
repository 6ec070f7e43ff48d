"""A run of the whole suite in which many tests are skipped is a failure: tests that do not apply are not generated."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are small, and tests start processes beside each other

WHOLE_SUITE = 2000
"""Tests: a selection smaller than this may skip as many as it likes."""
MOST_SKIPPED = 0.03
FSYNC = os.fsync


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if session.testscollected >= WHOLE_SUITE and skipped > MOST_SKIPPED * session.testscollected and not exitstatus:
        reporter.write_line(
            f"\n{skipped} of {session.testscollected} tests were skipped, at most {MOST_SKIPPED:.0%} may be"
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """fsync does not wait: what a process wrote outlives it in any case. Costs are fitted to short sequences."""
    from chainrule.inference import costs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(costs, "GROWTH_LENGTHS", (16, 32, 64, 128))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes in one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def disk_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync waits: a process can be killed within it."""
    monkeypatch.setattr(os, "fsync", FSYNC)


@pytest.fixture
def model_types_of_its_own() -> Iterator[None]:
    """Model types that a test registers, or loads from a file, are forgotten after it."""
    from chainrule.core import registry

    registry.model_types()  # those of the package are known before
    known = dict(registry._model_types)
    yield
    registry._model_types.clear()
    registry._model_types.update(known)
