"""Write the runs that test_old_runs.py loads: ``python tests/golden/make_runs.py``, once for each format of the run
folder.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from pathlib import Path

from chainrule.api import load, score
from chainrule.cli import main
from chainrule.data import plays
from chainrule.runs.store import FORMAT

OUT = Path(__file__).resolve().parent / f"runs-format-{FORMAT}"
LINES = [b"To be, or not to be.\n", b"ARIEL. My liege!\n"]
COMMAND = "--budget 40steps --set size=tiny --precision fp32 --threads 1"


def make(folder: Path) -> None:
    """Train every run on the first 20,000 bytes of a play, and print what it scores."""
    os.chdir(folder)
    Path("play.txt").write_bytes(gzip.decompress((plays() / "valid.txt.gz").read_bytes())[:20_000])
    for name in ("gru", "gpt", "ngram"):
        out = OUT / name
        if main(["train", "play.txt", "--model", name, *COMMAND.split(), "--overwrite", "--out", str(out)]):
            sys.exit(f"{name}: not trained")
        shutil.rmtree(out / "checkpoints")
        found = score(load(out, precision="fp32"), LINES, unit="stream")["lines"]
        print(name, [line["nats"] for line in found])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
