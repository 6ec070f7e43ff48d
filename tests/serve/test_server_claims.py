"""Claims that a server measures: one at a time, and none once the server closes."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from chainrule.claims import Finding, Runs, all_claims
from chainrule.core.progress import tracked
from chainrule.inference.scheduler import TimedOut
from chainrule.serve import claims
from chainrule.serve.service import Service, open_service
from tests.serve.native_runs import train


def measuring(monkeypatch: pytest.MonkeyPatch, compute: Any) -> str:
    """Put a claim in the place of the first one, and return its name."""
    one = replace(all_claims()[0], compute=compute)
    monkeypatch.setattr(claims, "all_claims", lambda: (one,))
    return one.name


def claim_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("chainrule-claims")]


def test_a_claim_is_measured_once_and_its_thread_ends_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def compute(_: Runs) -> Finding:
        seen.append(threading.current_thread().name)
        return Finding("yes", [])

    name, before, service = measuring(monkeypatch, compute), claim_threads(), Service([])
    for lang in ("en", "ko"):
        found = asyncio.run(service.claims.find(name, lang))
        assert found is not None and found["holds"] == "yes"
    assert len(seen) == 1 and seen[0].startswith("chainrule-claims") and len(claim_threads()) == len(before) + 1
    service.close()
    assert claim_threads() == before


def test_a_measurement_ends_before_its_next_piece_when_the_server_closes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, done = threading.Event(), []

    def compute(runs: Runs) -> Finding:
        runs.of(task="tag")
        for _ in tracked(range(1000)):
            begun.set()
            time.sleep(0.01)
        done.append(True)
        return Finding("yes", [])

    name, service = measuring(monkeypatch, compute), open_service(train(tmp_path, "tags"), threads=1)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            asyncio.run(service.claims.find(name, "en"))
        except (TimedOut, CancelledError) as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(20)
    service.close()
    asking.join(20)
    assert not done and len(raised) == 1
