"""A run of the whole suite in which many tests are skipped is a failure: tests that do not apply are not generated."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tensors are small, and tests start processes beside each other

WHOLE_SUITE = 2000
"""Tests: a selection smaller than this may skip as many as it likes."""
MOST_SKIPPED = 0.03


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if session.testscollected >= WHOLE_SUITE and skipped > MOST_SKIPPED * session.testscollected and not exitstatus:
        reporter.write_line(
            f"\n{skipped} of {session.testscollected} tests were skipped, at most {MOST_SKIPPED:.0%} may be"
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def model_types_of_its_own() -> Iterator[None]:
    """Model types that a test registers, or loads from a file, are forgotten after it."""
    from chainrule.core import registry

    registry.model_types()  # those of the package are known before
    known = dict(registry._model_types)
    yield
    registry._model_types.clear()
    registry._model_types.update(known)
