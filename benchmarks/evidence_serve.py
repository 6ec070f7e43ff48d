"""Measure what the server must show, and write it as JSON and a table under docs/evidence.

    python benchmarks/evidence_serve.py [--only lm_eval,faults,speed] [--work DIR]

Sections are independent and may be gathered over time; runs that are in the folder to work in are not trained again.
"""

from __future__ import annotations

import sys

from evidence_main import ROOT, Section, gather
from serve_faults import faults
from serve_lm_eval import lm_eval
from serve_speed import speed

SECTIONS: dict[str, Section] = {"lm_eval": lm_eval, "faults": faults, "speed": speed}

if __name__ == "__main__":
    page = ["# The server, measured", "", "`make evidence-serve` writes this page."]
    sys.exit(gather(SECTIONS, ROOT / "docs" / "evidence" / "serve.json", page, alone=tuple(SECTIONS)))
