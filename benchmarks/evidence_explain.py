"""Measure what explanations must show, and write it as JSON and a table under docs/evidence.

    python benchmarks/evidence_explain.py [--only reach,adding,attribution,randomised] [--work DIR] [--quick]

Sections are independent and may be gathered over time; runs that are in the folder to work in are not trained again.
With ``--quick`` everything is so small that it only shows that each section works: most targets are missed, and the
table is written to the folder for temporary files.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from evidence_main import ROOT, Section, gather
from explain_attribution import attribution, randomised
from explain_reach import adding, reach
from explain_scale import QUICK

SECTIONS: dict[str, Section] = {
    "reach": reach, "adding": adding, "attribution": attribution, "randomised": randomised,
}  # fmt: skip

if __name__ == "__main__":
    sys.argv = [word for word in sys.argv if word != "--quick"]
    page = ["# Explanations, measured", "", "`make evidence-explain` writes this page."]
    if QUICK:
        page += ["", "Written with `--quick`: sizes so small that the figures mean nothing."]
    folder = Path(tempfile.gettempdir()) / "evidence-explain-quick" if QUICK else ROOT / "docs" / "evidence"
    sys.exit(gather(SECTIONS, folder / "explain.json", page, alone=tuple(SECTIONS)))
