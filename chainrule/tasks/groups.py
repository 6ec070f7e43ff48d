"""Options that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from chainrule.core.errors import UserError
from chainrule.core.precisions import TRAINED, USED
from chainrule.options import Options, argument, option

FILE_NAME = re.compile(r"\S+\.(txt|csv|tsv|jsonl|conllu|png|jpe?g|webp|bmp|gif|tiff?)(\.gz)?", re.IGNORECASE)
"""One word that ends in the suffix of a file, and so is hardly meant as a text."""


class Columns(Options):
    columns: str | None = option(
        "names of the columns of a table, in order, or those to pick by their names; '-' skips one",
        metavar="a,b",
        group="data",
        joined=True,
    )


class OnBad(Options):
    on_bad: str | None = option(
        "what to do with lines that are not UTF-8, damaged rows and damaged images (default: stop)",
        choices=("stop", "skip"),
        group="data",
    )


class Encoding(Options):
    encoding: str | None = option(
        "encoding of files of text, such as cp949, latin-1, utf-16 or shift-jis (default: utf-8)",
        metavar="NAME",
        group="data",
    )


class Seed(Options):
    seed: int | None = option("seed of all random numbers (default: 42)", metavar="N")


class Overwrite(Options):
    overwrite: bool = option("replace the run or board that --out holds", False)


class Language(Options):
    lang: str | None = option("language of the page (default: en)", choices=("en", "ko"))


class Split(Options):
    split: Any = option(
        "shares of train, valid and test (default: by the task; 0.9/0.05/0.05 for text)",
        metavar="0.9/0.05/0.05",
        group="data",
    )


class Records(Columns, OnBad, Encoding):
    """Options of the commands that read records."""

    normalize: str | None = option(
        "Unicode normalisation: nfc composes characters, none keeps them (default: nfc where words or labels are "
        "compared, none for text as bytes)",
        choices=("nfc", "none"),
        group="data",
    )
    group: str | None = option(
        "keep all rows with the same value in the same split; where a row is a step, they become one record",
        metavar="COLUMN",
        group="data",
    )
    time: str | None = option(
        "order the rows of a record, or of a series, by this column: numbers or ISO dates",
        metavar="COLUMN",
        group="data",
    )
    gap: str | None = option(
        "end a record where --time shows a longer pause: 45s, 30min, 2h, 1d (a visit, not a user)",
        metavar="30min",
        group="data",
    )
    unit: str | None = option(
        "what a record is (default: stream, one long text)", choices=("stream", "lines", "docs"), group="data"
    )


class DataOptions(Records, Split):
    """Options of the commands that read DATA and split them."""

    tokenizer: str | None = option(
        "byte, char, char:complete, word[:types], bpe[:size], the path of a tokenizer.json, or none (symbols "
        "without bytes) (default: byte for text, none for symbols; to classify, char for short texts, else bpe)",
        metavar="byte|char|word|bpe|none",
        group="data",
    )
    image_size: int | None = option(
        "resize images to N × N pixels (default: small square images keep their size, others become 32 × 32)",
        metavar="N",
        group="data",
    )


class Plugin(Options):
    plugin: str | None = option(
        "load a file, or a folder with __init__.py, that registers model types or tasks of your own",
        metavar="FILE.py",
        group="machine",
    )


class Machine(Plugin):
    device: str | None = option("where to compute: auto (default), cpu or cuda", group="machine")
    precision: str | None = option(
        "number format; auto (default): bf16 where the processor is faster with it, else fp32",
        choices=TRAINED,
        group="machine",
    )
    threads: int | None = option("processor threads (default: all)", metavar="N", group="machine")


class Training(DataOptions, Machine, Seed, Overwrite):
    """Options of the commands that train."""

    task: str | None = option(
        "what to learn: generate (text, symbols), fill (masked text), series (numbers), translate (pairs), tag, "
        "classify, codes (images), draw (images with captions); default: follows from the data"
    )
    budget: str | None = option(
        "training budget of each model: 60s (default), 5min, 3epochs, 2e6bytes; also 1e7tokens (compare: of symbols) "
        "or 2000steps (not compare)",
        example="60s",
    )
    params: float | None = option("choose the largest width with at most N parameters", metavar="N")
    pretrained: str | None = option(
        "tag and classify with bert: fine-tune RUN, a run of fill; draw: use the codec of RUN, a run of codes",
        flag="--from",
        metavar="RUN",
    )
    memory: str | None = option(
        "keep n-gram tables beyond this size in temporary files (short for --set model.memory)", metavar="2G"
    )
    context: int | None = option(
        "context length in tokens; with --task classify, tokens read of each text", metavar="N"
    )
    set: Any = option(
        "change a setting: model.layers=2, train.lr=1e-3, size=base (may be repeated)",
        (),
        metavar="key=value",
        many=True,
    )
    config: str | None = option("settings in a YAML file, such as the config.yaml of a run", metavar="FILE")


class Speculation(Options):
    """Options of the commands that generate step by step."""

    speculate: str | None = option(
        "speculative decoding: verify tokens that the run's n-gram table drafts, several in one pass (the same "
        "samples, faster); auto (default): on in int8 and int4, and in bf16 where kernels are compiled, as passes "
        "over several tokens are rounded there as those over one",
        choices=("auto", "on", "off"),
    )


class UsesRun(Machine):
    """Options of the commands that take a run. By default, a function of the run's task answers."""

    run: Any = argument("the folder of a run", first=True)
    precision: str | None = option(
        "number format; int8, int4: weights of 8 or 4 bits, to generate faster (gpt, rnn, lstm, gru); auto (default): "
        "bf16 where the processor is faster with it, else fp32",
        choices=USED,
        group="machine",
    )

    def call(self) -> dict[str, Any]:
        """Return the answer of the run's task: of the function that it registered for this command."""
        from chainrule.tasks.inference import answered

        return answered(self)


class ReadsText(UsesRun, Encoding):
    """Options of the commands that read lines of text by a run."""


class ByLine(ReadsText):
    """Options of the commands that answer each line of their input by itself."""

    by_line = "input"


def paths_among(given: Any, command: str) -> Any:
    """Return arguments that are texts or files, the names of files as paths.

    Args:
        given: the arguments, or a path that stands for all of them.
        command: the name of the command, for errors.

    Raises:
        UserError: an argument that is a file's name by its suffix, without such a file.
    """
    if not isinstance(given, tuple | list):
        return given
    for text in given:
        if isinstance(text, str) and FILE_NAME.fullmatch(text) and not os.path.isfile(text):
            raise UserError(
                f"{text}: no such file; if it is a text, give it by standard input: echo {text} | chainrule {command} …"
            )
    return [Path(x) if os.path.isfile(x) else x for x in given]


class Sampling(Seed):
    temperature: float | None = option(
        "sampling temperature; 0 is greedy (default: 1; with draw: tuned on validation)", metavar="T"
    )
    top_k: int | None = option("sample from the K most probable tokens", metavar="K")
    top_p: float | None = option("sample from the most probable tokens whose probabilities sum to P", metavar="P")


class Constraints(Options):
    must: tuple[str, ...] = option(
        "text that every result of beam search must contain (may be repeated)", (), metavar="TEXT"
    )
    forbid: tuple[str, ...] = option(
        "text that no result of beam search may contain (may be repeated)", (), metavar="TEXT"
    )
