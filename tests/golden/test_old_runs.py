"""Runs written by earlier versions load and give the same log-probabilities, for ever.

The folders were written by ``chainrule train play.txt --model NAME --budget 40steps --set size=tiny --precision fp32`` on the first 20,000
bytes of a play; the figures below were printed by ``chainrule score`` on the day they were written. A new format adds a folder; none is
ever rewritten.
"""

from pathlib import Path

import pytest

from chainrule.api import load, score

RUNS = Path(__file__).parent / "runs-format-1"
LINES = [b"To be, or not to be.\n", b"ARIEL. My liege!\n"]
NATS = {
    "gru": [-85.03498077392578, -77.02141427993774],
    "gpt": [-78.05681443214417, -75.26947808265686],
    "ngram": [-44.93455287657336, -58.906631446488724],
}


@pytest.mark.parametrize("name", NATS)
def test_a_run_of_format_1_loads_and_scores_as_it_did(name: str) -> None:
    loaded = load(RUNS / name, precision="fp32")
    found = [line["nats"] for line in score(loaded, LINES, unit="stream")["lines"]]
    assert found == pytest.approx(NATS[name], abs=1e-3 if name != "ngram" else 1e-9)
