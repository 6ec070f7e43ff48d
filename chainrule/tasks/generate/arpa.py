"""ARPA files: word n-grams of a run as one, and a run from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import ChainruleError, DataError, UserError, model_type
from chainrule.counting.counts import levels
from chainrule.counting.words import END, UNKNOWN, Vocabulary
from chainrule.data import WordTokenizer
from chainrule.data.processors import TextProcessor
from chainrule.data.source import locate, read_file
from chainrule.data.text_encoding import Decoding
from chainrule.inference.word_scorer import WordScorer
from chainrule.interop.arpa import RESERVED, Arpa, read_arpa, write_arpa
from chainrule.runs import RunFolder
from chainrule.runs.run import Run
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import load, machine


def export_arpa(run: Run, out: Path | str) -> dict[str, Any]:
    """Write the n-grams of a run as an ARPA file.

    Raises:
        UserError: ARPA cannot hold them.
    """
    write_arpa(out, arpa_of(run))
    return {"out": str(out), "format": "arpa"}


def arpa_of(run: Run) -> Arpa:
    """Return a word n-gram as KenLM reads it: a line is a sentence from <s> to </s>.

    Raises:
        UserError: the run is no such model.
    """
    tables, units = run.model.state_dict(), run.processor.tokenizer
    if run.task != "generate" or not {"keys", "log_table", "log_backoff"} <= tables.keys():
        raise UserError(f"ARPA holds n-grams; this run is {run.name} for {run.task}")
    if not (isinstance(units, WordTokenizer) and units.lines):
        raise UserError("ARPA holds words of lines: train with --tokenizer word --unit lines")
    if run.model.smoothing in ("ml", "add_k"):
        raise UserError(f"ARPA cannot hold smoothing={run.model.smoothing}: train with kneser_ney or witten_bell")
    ended = run.processor.terminator.decode()
    _check_words(run, [word for word in units.words if word != ended])
    words = [END if word == ended else word.encode() for word in units.words] + [UNKNOWN]
    vocabulary = Vocabulary(words, len(words) - 1, words.index(END))
    keys, log_prob, log_backoff = (tables[name].cpu().numpy() for name in ("keys", "log_table", "log_backoff"))
    return Arpa(vocabulary, run.config["model"]["n"], keys, log_prob, log_backoff[: _contexts(keys, words, run)])


def _check_words(run: Run, words: Sequence[str]) -> None:
    """Raise UserError for a word that means something else in an ARPA file; the message names its first line."""
    reserved = next((word for word in words if word.encode() in RESERVED), None)
    if reserved is None:
        return
    other = f"({reserved.strip('<>/')})"
    raise UserError(
        f"ARPA reserves the word {reserved}{_place(run, reserved)}: write another word in its place, such as {other}, "
        "and train again"
    )


def _place(run: Run, word: str) -> str:
    """Return the file and the first line of the run's data that hold a word; nothing where they are gone."""
    try:
        files = [path for paths in locate(run.settings["data"]).parts.values() for path in paths]
        for file in files:
            for number, line in enumerate(read_file(file, Decoding("skip"), []).tobytes().split(b"\n"), 1):
                if word.encode() in line.split():
                    return f" ({file}: line {number})"
    except ChainruleError:
        pass
    return ""


def _contexts(keys: np.ndarray, words: Sequence[bytes], run: Run) -> int:
    """Return the number of windows that are shorter than n."""
    return levels(keys, len(words) + 1, run.config["model"]["n"])[-1].start


def word_scorer(source: Run | Path | str, *, base: float | None = 10.0, threads: int = 1) -> WordScorer:
    """Return a scorer of many sentences at once, by a word n-gram that was trained here or by an ARPA file.

    Args:
        source: a run, its folder, or an ARPA file.
        base: of the logarithm: 10 as KenLM; None: nats.
        threads: processor threads.
    """
    if isinstance(source, Run):
        arpa = arpa_of(source)
    else:
        arpa = arpa_of(load(source)) if Path(source).is_dir() else read_arpa(source)
    return WordScorer(arpa.vocabulary, arpa.n, arpa.tables, base=base, threads=threads)


def import_arpa(path: Path | str, out: Path | str, *, overwrite: bool = False) -> dict[str, Any]:
    """Make a run of an ARPA file; an unknown word costs p(<unk>) alone.

    Args:
        path: the ARPA file.
        out: the run folder.
        overwrite: replace a run in ``out``.

    Returns:
        The folder, the order, and the numbers of words and n-grams.

    Raises:
        DataError: the file is not UTF-8, or not an ARPA file.
    """
    arpa = read_arpa(path)
    try:
        words = ["\n" if word == END else word.decode() for word in arpa.vocabulary.words[:-1]]
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8: convert it, for example with iconv") from None
    chosen, model = model_type("ngram"), {"n": arpa.n, "smoothing": "backoff"}
    config = chosen.configure(vocab_size=len(arpa.vocabulary), **model)
    settings = RunConfig.make({"data": str(path), "model_type": chosen.name, "unit": "lines", "tokenizer": "word"})
    recipe = {**chosen.recipe.model_dump(), "betas": list(chosen.recipe.betas)}
    folder = RunFolder.create(out, overwrite=overwrite)
    folder.write_description(
        {**settings.model_dump(mode="json"), "model": model, "train": recipe},
        {"model_type": chosen.name, "task": chosen.task, "model": config.model_dump()},
        {
            "data.json": {"unit": "lines", "counted": "byte", "notes": [f"imported from {Path(path).name}"]},
            "processor.json": TextProcessor(WordTokenizer(words, lines=True), "lines", b"\n").to_json(),
        },
        machine(),
    )
    tables = {"keys": arpa.keys, "log_table": arpa.log_prob, "log_backoff": arpa.log_backoff}
    folder.write_model({name: torch.from_numpy(x) for name, x in tables.items()})
    return {"run": str(out), "n": arpa.n, "words": len(arpa.vocabulary), "ngrams": len(arpa.keys) - 1}
