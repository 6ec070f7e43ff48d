"""The worker process of an experiment: ``python -m chainrule.experiment.worker OUT TRAIN-JOB WORKERS``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def main() -> int:
    """Train and measure one cell; the parent handles signals and asks to stop through standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from chainrule.core import ChainruleError
    from chainrule.experiment.execute import work_on

    try:
        return work_on(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except ChainruleError as error:
        print(f"chainrule: {error}", file=sys.stderr, flush=True)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
