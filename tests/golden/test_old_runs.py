"""Runs written by earlier versions of one format load and give the same log-probabilities.

The folders were written by make_runs.py, which trains on the first 20,000 bytes of a play; the figures below are those
that the last version before format 2 printed for the same command.
"""

from pathlib import Path

import pytest

from chainrule.api import load, score

RUNS = Path(__file__).parent / "runs-format-2"
LINES = [b"To be, or not to be.\n", b"ARIEL. My liege!\n"]
NATS = {
    "gru": [-71.7920093536377, -72.05151462554932],
    "gpt": [-79.87196040153503, -75.98662734031677],
    "ngram": [-44.93455287657336, -58.906631446488724],
}


@pytest.mark.parametrize("name", NATS)
def test_a_run_of_format_2_loads_and_scores_as_it_did(name: str) -> None:
    loaded = load(RUNS / name, precision="fp32")
    found = [line["nats"] for line in score(loaded, LINES, unit="stream")["lines"]]
    assert found == pytest.approx(NATS[name], abs=1e-3 if name != "ngram" else 1e-9)
