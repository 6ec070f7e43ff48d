"""Measure whether verdicts hold: what a short comparison recommends against the ranking after ten times the budget.

    python benchmarks/evidence_verdict.py --data ../shared/data [--sets plays,…] [--seeds 1,2] [--work DIR] [--jobs 2]

Every set is compared with each seed at 30 s a row, and extended to 5 min. Seconds are those of the processor, in one
thread, so that figures do not depend on the load of the machine. The result files of a comparison are kept in one
compressed file under docs/evidence/verdict/; one that exists is not made again, so a collection that was cut goes on.
At the end, and alone with ``--judge``, verdicts are judged from what is kept: docs/evidence/verdict.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "evidence" / "verdict"
NOW, LATER = "30s", "300s"


@dataclass(frozen=True)
class Set:
    """One set of data: a folder of the data sets, or a kind of ``data make``; and options of ``compare``."""

    folder: str = ""
    made: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def source(self, data: Path, work: Path) -> str:
        """Return the path of the data; made where they are synthetic, nothing for the bundled plays."""
        from chainrule import api
        from chainrule.data import plays

        if not self.made:
            return str(data / self.folder) if self.folder else str(plays())
        place = work / f"made-{self.made}"
        if not place.exists():
            api.make_data(self.made, out=str(place))  # type: ignore[attr-defined]
        return str(place)


SETS = {
    "plays": Set(),
    "text_kjv": Set("text_kjv"),
    "text_ko_lohelp": Set("text_ko_lohelp"),
    "text_ko_krv": Set("text_ko_krv"),
    "music_oneill_abc": Set("music_oneill_abc"),
    "music_bach_chorales": Set("music_bach_chorales"),
    "pos_ud_en_ewt": Set("pos_ud_en_ewt", options={"task": "tag"}),
    "names_by_language": Set("names_by_language", options={"task": "classify", "columns": "text,label,-"}),
    "hmm": Set(made="hmm"),
    "copy": Set(made="copy"),
}
"""The sets that the figures are about: English and Korean text, symbols, tags, labels, two sources of known truth."""
TUNING = {
    "text_tinyshakespeare": Set("text_tinyshakespeare"),
    "names_makemore": Set("names_makemore", options={"unit": "lines"}),
    "tag_usaddress": Set("tag_usaddress", options={"task": "tag"}),
    "langid_udhr": Set("langid_udhr", options={"task": "classify", "columns": "label,text"}),
    "markov": Set(made="markov"),
}
"""Sets that the extrapolation of learning curves was chosen on; none of the figures is about them."""


def kept(name: str, seed: int, budget: str, folder: Path = KEPT) -> Path:
    """Return the file that keeps the results of one comparison."""
    return folder / f"{name}-seed{seed}-{budget}.json.gz"


def collect(name: str, seed: int, budget: str, data: Path, work: Path) -> None:
    """Run one comparison in processor time, or extend a shorter one, and keep its plan and result files."""
    from chainrule.experiment.run import Request, run
    from chainrule.tasks.board import board_of
    from chainrule.tasks.settings import RunConfig
    from chainrule.training import loop

    loop.clock = time.process_time
    chosen = (SETS | TUNING)[name]
    source = chosen.source(data, work)
    options = {"data": source, "model_type": "ngram", "budget": budget, "seed": seed, "threads": 1, **chosen.options}
    settings = RunConfig.make(options).infer_task()
    board = type(board_of(settings.task))
    board.row = lambda *_: {}  # type: ignore[method-assign]  # figures alone: nothing is drawn
    board.has_memory = False
    out = work / f"{name}-seed{seed}"
    run(Request(settings, None, out, folds="none"))
    found = {
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip(),
        "plan": json.loads((out / "plan.json").read_text(encoding="utf-8")),
        "results": {path.stem: json.loads(path.read_bytes()) for path in sorted((out / "results").glob("*.json"))},
    }
    text = json.dumps(_shorter(found), ensure_ascii=False)
    for place in sorted({source, str(data), str(data.resolve()), str(work)}, key=len, reverse=True):
        text = text.replace(place, "DATA")
    KEPT.mkdir(parents=True, exist_ok=True)
    partial = kept(name, seed, budget).with_suffix(".part")
    partial.write_bytes(gzip.compress(text.encode("utf-8", "surrogatepass"), mtime=0))
    partial.replace(kept(name, seed, budget))


def _shorter(value: Any) -> Any:
    """Numbers with 7 significant digits; they are most of a file."""
    if isinstance(value, dict):
        return {k: _shorter(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shorter(v) for v in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def collect_all(names: list[str], seeds: list[int], budgets: list[str], options: argparse.Namespace) -> None:
    """Run all comparisons that are not kept yet, some at a time, each in its own process; the shorter ones first."""
    todo = [(n, s, [b for b in budgets if not kept(n, s, b).exists()]) for s in seeds for n in names]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda one: _start(*one, options), [one for one in todo if one[2]]))


def _start(name: str, seed: int, budgets: list[str], options: argparse.Namespace) -> None:
    for budget in budgets:
        command = [sys.executable, __file__, "--data", str(options.data), "--work", str(options.work)]
        command += ["--one", f"{name},{seed},{budget}"]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
        told = "kept" if done.returncode == 0 else f"failed: {done.stderr[-2000:]}"
        print(f"{time.strftime('%H:%M')} {name} seed {seed} {budget}: {told}", flush=True)


def judge_kept(names: list[str], seeds: list[int], budgets: tuple[str, str], folder: Path, page: Path) -> None:
    """Write the page of the evidence from the pairs of comparisons that are kept."""
    from verdict_judge import as_markdown, as_svg, judge, read_pair

    short, long = budgets
    files = {(n, s): (kept(n, s, short, folder), kept(n, s, long, folder)) for n in names for s in seeds}
    pairs = [read_pair(two, *key) for key, two in files.items() if all(path.exists() for path in two)]
    if not pairs:
        print("no pair of comparisons is kept yet")
        return
    found = judge(pairs)
    page.with_suffix(".md").write_text(as_markdown(found, short, long), encoding="utf-8")
    page.with_suffix(".json").write_text(json.dumps(_shorter(found), indent=1) + "\n", encoding="utf-8")
    page.with_suffix(".svg").write_text(as_svg(found), encoding="utf-8")
    for method, regret in found["mean_regret"].items():
        print(f"{method}: mean regret {100 * regret:.2f} %, at most 2 % in {found['within_2_percent'][method]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "verdict")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--judge", action="store_true", help="judge what is kept, and run nothing")
    parser.add_argument(
        "--budgets", default=f"{NOW},{LATER}", help="of the comparisons, rising; the last two are judged"
    )
    parser.add_argument("--page", type=Path, default=KEPT, help="the page that is written, without suffix")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of the kept comparisons")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.one:
        name, seed, budget = options.one.split(",")
        collect(name, int(seed), budget, options.data, options.work)
        return
    seeds = [int(seed) for seed in options.seeds.split(",")]
    names = options.sets.split(",")
    budgets = options.budgets.split(",")
    if not options.judge:
        collect_all(names, seeds, budgets, options)
    judge_kept(names, seeds, (budgets[-2], budgets[-1]), options.kept, options.page)


if __name__ == "__main__":
    main()
