"""Options that several commands share."""

from __future__ import annotations

from typing import Any

from chainrule.options import Options, argument, option


class Columns(Options):
    columns: str | None = option(
        "what the columns of a table hold, in order; '-' skips one", metavar="a,b", group="data", joined=True
    )


class OnBad(Options):
    on_bad: str | None = option(
        "lines that are not UTF-8, damaged images (default: stop)", choices=("stop", "skip"), group="data"
    )


class Seed(Options):
    seed: int | None = option("default 42", metavar="N")


class Overwrite(Options):
    overwrite: bool = option("replace what --out holds", False)


class Split(Options):
    split: Any = option("shares of train, valid and test", metavar="0.9/0.05/0.05", group="data")


class Records(Columns, OnBad):
    """Options of the commands that read records."""

    group: str | None = option(
        "keep all rows with the same value together: one record, in one split", metavar="COLUMN", group="data"
    )
    time: str | None = option(
        "order the rows of a record, or of a series, by this column: numbers or ISO dates",
        metavar="COLUMN",
        group="data",
    )
    unit: str | None = option(
        "what a record is (default: stream, one long text)", choices=("stream", "lines", "docs"), group="data"
    )


class DataOptions(Records, Split):
    """Options of the commands that read DATA and split them."""

    tokenizer: str | None = option(
        "tokens: byte, char, char:complete, word[:types], bpe[:size], a tokenizer.json, or none: symbols without bytes "
        "(default: byte for text, none for symbols; to classify, char if texts are short, else bpe)",
        metavar="byte|char|word|bpe|none",
        group="data",
    )
    image_size: int | None = option(
        "resize images to N × N pixels (default: their own size, or 32)", metavar="N", group="data"
    )


class Plugin(Options):
    plugin: str | None = option(
        "load a file, or a folder with __init__.py, that registers model types or tasks of your own",
        metavar="FILE.py",
        group="machine",
    )


class Machine(Plugin):
    device: str | None = option("auto (default), cpu or cuda", group="machine")
    precision: str | None = option(
        "auto (default): bf16 if this CPU and model type are faster with it",
        choices=("auto", "fp32", "bf16"),
        group="machine",
    )
    threads: int | None = option("processor threads (default: all)", metavar="N", group="machine")


class Training(DataOptions, Machine, Seed, Overwrite):
    """Options of the commands that train."""

    task: str | None = option(
        "generate (text), fill (text with gaps), series (numbers), translate (pairs), tag, classify, codes (images), "
        "draw (images with captions); default: by what DATA is"
    )
    budget: str | None = option("for each model: 60s (default), 3epochs, 2e6bytes, 1e7tokens, 2000steps")
    params: float | None = option("make every model about this many parameters", metavar="N")
    pretrained: str | None = option(
        "tag and classify with bert: start from the weights and the tokenizer of RUN, a run of fill; draw: the codec",
        flag="--from",
        metavar="RUN",
    )
    memory: str | None = option("keep n-gram tables beyond this size in temporary files: model.memory", metavar="2G")
    context: int | None = option(
        "context length in tokens; of a text to classify, how many tokens are read", metavar="N"
    )
    set: Any = option("any setting: model.layers=2, train.lr=1e-3, size=base", (), metavar="key=value", many=True)
    config: str | None = option("settings as YAML (a run's config.yaml will do)", metavar="FILE")


class UsesRun(Machine):
    """Options of the commands that take a run. By default, a function of the run's task answers."""

    run: Any = argument("the folder of a run", first=True)

    def call(self) -> dict[str, Any]:
        """Return the answer of the run's task: of the function that it registered for this command."""
        from chainrule.tasks.inference import answered

        return answered(self)


class Sampling(Seed):
    temperature: float | None = option("0 is greedy (default: 1; draw: as tuned on validation)", metavar="T")
    top_k: int | None = option("sample from the K most probable tokens", metavar="K")
    top_p: float | None = option("sample from the most probable tokens that sum to P", metavar="P")


class Constraints(Options):
    must: tuple[str, ...] = option("text that every result of beam search contains", (), metavar="TEXT")
    forbid: tuple[str, ...] = option("text that no result of beam search contains", (), metavar="TEXT")
