"""The options of every command, declared once: flags, help and Python keywords follow from these classes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import Any, ClassVar

from chainrule import results
from chainrule.options import Options, Result, argument, option

# --- shared by several commands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Columns(Options):
    columns: str | None = option(
        "what the columns of a table hold, in order; '-' skips one", metavar="a,b", group="data", joined=True
    )


@dataclass(frozen=True, kw_only=True)
class OnBad(Options):
    on_bad: str | None = option(
        "lines that are not UTF-8, damaged images (default: stop)", choices=("stop", "skip"), group="data"
    )


@dataclass(frozen=True, kw_only=True)
class Seed(Options):
    seed: int | None = option("default 42", metavar="N")


@dataclass(frozen=True, kw_only=True)
class Overwrite(Options):
    overwrite: bool = option("replace what --out holds", False)


@dataclass(frozen=True, kw_only=True)
class Split(Options):
    split: Any = option("shares of train, valid and test", metavar="0.9/0.05/0.05", group="data")


@dataclass(frozen=True, kw_only=True)
class Records(Columns, OnBad):
    """Options of the commands that read records."""

    group: str | None = option(
        "all rows with the same value belong together: one record, in one split", metavar="COLUMN", group="data"
    )
    time: str | None = option(
        "order the rows of a record, or of a series, by this column: numbers or ISO dates",
        metavar="COLUMN",
        group="data",
    )
    unit: str | None = option(
        "what a record is (default: stream, one long text)", choices=("stream", "lines", "docs"), group="data"
    )


@dataclass(frozen=True, kw_only=True)
class Dataset(Records, Split):
    """Options of the commands that read DATA and split them."""

    tokenizer: str | None = option(
        "tokens: byte, char, char:complete, word[:types], bpe[:size], a tokenizer.json, or none: symbols without bytes "
        "(default: byte for text, none for symbols; to classify, char where texts are short, else bpe)",
        metavar="byte|char|word|bpe|none",
        group="data",
    )
    image_size: int | None = option(
        "resize images to N × N pixels (default: their own size, or 32)", metavar="N", group="data"
    )


@dataclass(frozen=True, kw_only=True)
class Machine(Options):
    device: str | None = option("auto (default), cpu or cuda", group="machine")
    precision: str | None = option(
        "auto (default): bf16 where this CPU and model type gain by it",
        choices=("auto", "fp32", "bf16"),
        group="machine",
    )
    threads: int | None = option("processor threads (default: all)", metavar="N", group="machine")
    plugin: str | None = option("load a model type of your own first", metavar="FILE.py", group="machine")


@dataclass(frozen=True, kw_only=True)
class Training(Dataset, Machine, Seed, Overwrite):
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
    context: int | None = option("context length in tokens; of a text to classify, how much of it is read", metavar="N")
    set: Any = option("any setting: model.layers=2, train.lr=1e-3, size=base", (), metavar="key=value", many=True)
    config: str | None = option("settings as YAML (a run's config.yaml will do)", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class UsesRun(Machine):
    """Options of the commands that take a run."""

    run: Any = argument("the folder of a run", first=True)


@dataclass(frozen=True, kw_only=True)
class Sampling(Seed):
    temperature: float | None = option("0 is greedy (default: 1; draw: as tuned on validation)", metavar="T")
    top_k: int | None = option("sample from the K most probable tokens", metavar="K")
    top_p: float | None = option("sample from the most probable tokens that sum to P", metavar="P")


@dataclass(frozen=True, kw_only=True)
class Constraints(Options):
    must: tuple[str, ...] = option("text that every result of beam search contains", (), metavar="TEXT")
    forbid: tuple[str, ...] = option("text that no result of beam search contains", (), metavar="TEXT")


# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Compare(Training):
    """which sequence model to use on this data, and why: the main job"""

    command: ClassVar[str] = "compare"
    result: ClassVar[type[Result]] = results.Compare

    data: Any = argument("a text file or a folder (default: the plays that ship with the package)", nargs="?")
    out: str = option(
        "folder for board.json, report.html, runs/ and best", "runs/compare", metavar="DIR", place=True, required=True
    )
    models: Any = option(
        "a,b:setting=1+other=2,file.py (default for text: markov,ngram,rnn,lstm,gru,gpt)", metavar="a,b"
    )
    seeds: int | None = option("how many seeds each model is trained from (default: 1)", metavar="N")
    workers: int | None = option(
        "train so many rows at once, each in a process of its own (default: in turns in one process)", metavar="N"
    )
    lang: str | None = option("language of the report (default: en)", choices=("en", "ko"))


@dataclass(frozen=True, kw_only=True)
class Train(Training):
    """train one model into a run folder"""

    command: ClassVar[str] = "train"
    result: ClassVar[type[Result]] = results.Train

    data: Any = argument("a text file, a table or a folder")
    model: str = option(
        "markov, ngram, rnn, lstm, gru, gpt, bert …, or a file of your own", MISSING, metavar="NAME", place=True
    )
    out: str = option("the run folder", MISSING, metavar="RUN", place=True)
    resume: str | None = option("continue what --out holds (default: never)", metavar="auto|never|PATH")
    save_every: str | None = option("how often a checkpoint is written (default: 30s)", metavar="30s|50steps")


@dataclass(frozen=True, kw_only=True)
class Data(Dataset):
    """the data card: what was understood, split, duplicates, entropy; or: data make KIND --out DIR"""

    command: ClassVar[str] = "data"
    function: ClassVar[str] = "data_card"  # chainrule.data is a package
    result: ClassVar[type[Result]] = results.Data

    data: Any = argument("a file or a folder; or the word make, for data with a known truth: data make --help")
    task: str | None = option("what the data are for, where the columns do not say so")
    sheet: str | None = option("also write an overview of the images: a row for each label", metavar="FILE.png")


@dataclass(frozen=True, kw_only=True)
class MakeData(Seed):
    """make data with a known truth"""

    command: ClassVar[str] = "data make"
    function: ClassVar[str] = "make_data"
    result: ClassVar[type[Result]] = results.MakeData

    kind: str | None = argument(
        "a stream (markov, hmm, copy, uniform) or a task (copy with --task translate, reverse, sort, recall, parity, "
        "adding, agreement, rainbow); without it, all are listed",
        nargs="?",
    )
    out: str | None = option("the folder to write", metavar="DIR", place=True)
    task: str | None = option("of copy: generate or translate")
    size: float | None = option("training symbols (default: 1e6), or records of a task", metavar="N")


@dataclass(frozen=True, kw_only=True)
class Laws(Options):
    """conformance tests of a model type, by name or from a file of your own"""

    command: ClassVar[str] = "laws"
    function: ClassVar[str] = "check_laws"  # chainrule.laws is a package
    result: ClassVar[type[Result]] = results.Laws

    name: str = argument("a model type, or a file that registers one", metavar="FILE.py|NAME")


@dataclass(frozen=True, kw_only=True)
class Evaluate(UsesRun, Records):
    """all metrics of a run on a held-out file"""

    command: ClassVar[str] = "evaluate"
    result: ClassVar[type[Result]] = results.Evaluate

    data: Any = argument("held-out data of the kind that the run was trained on")
    predictions: str | None = option("also write every record's own result", metavar="FILE.jsonl")


@dataclass(frozen=True, kw_only=True)
class Score(UsesRun):
    """joint log-probability, line by line or of the whole"""

    command: ClassVar[str] = "score"
    result: ClassVar[type[Result]] = results.Score

    input: Any = argument("default: standard input; in Python also a list of lines", metavar="FILE", stdin=True)
    tokens: bool = option("also every token with its own nats", False)
    unit: str | None = option(
        "lines (default): every line by itself, its end counted; stream: one sequence", choices=("lines", "stream")
    )


@dataclass(frozen=True, kw_only=True)
class Generate(UsesRun, Sampling, Constraints):
    """continue a sequence"""

    command: ClassVar[str] = "generate"
    result: ClassVar[type[Result]] = results.Generate

    prompt: tuple[str, ...] = option("text to continue (may be given several times)", (), metavar="TEXT", place=True)
    max_tokens: int | None = option("length (default: 200 tokens, 24 values of a series)", metavar="N")
    n: int | None = option("continuations of each prompt (default: 1)", metavar="N")
    min_p: float | None = option("drop tokens below P times the most probable one", metavar="P")
    stop: tuple[str, ...] = option("end the text where this appears", (), metavar="TEXT")
    beams: int | None = option("search for the most probable instead of sampling; -n: the best n", metavar="N")


@dataclass(frozen=True, kw_only=True)
class Predict(UsesRun):
    """the most probable next tokens of every sequence, with probabilities"""

    command: ClassVar[str] = "predict"
    result: ClassVar[type[Result]] = results.Predict

    input: Any = argument(
        "a sequence a line; default: standard input; in Python also a list", metavar="FILE", stdin=True
    )
    top_k: int | None = option("how many tokens (default: 5)", metavar="K")


@dataclass(frozen=True, kw_only=True)
class Translate(UsesRun, Constraints):
    """write the target of every source: one line in, one line out"""

    command: ClassVar[str] = "translate"
    result: ClassVar[type[Result]] = results.Translate

    input: Any = argument("a source a line; default: standard input; in Python also a list", metavar="FILE", stdin=True)
    beams: int | None = option("hypotheses kept at once (default: 4; 1 is greedy)", metavar="N")
    n_best: int | None = option("list so many of each source, with log p", metavar="K")
    length_penalty: float | None = option("0: none; larger: longer (default: as tuned on validation)", metavar="A")
    coverage_penalty: float | None = option("coverage penalty (Wu et al. 2016; rnn, lstm, gru)", metavar="B")
    min_length: int | None = option("tokens that a translation has at least", metavar="N")
    max_length: int | None = option("tokens at most (default: by the source's length)", metavar="N")
    no_repeat_ngram: int | None = option("no sequence of N tokens occurs twice", metavar="N")
    diverse: int | None = option("G groups of beams that avoid each other's tokens", metavar="G")
    mbr: bool = option("minimum Bayes risk (MBR) decoding with chrF", False)


@dataclass(frozen=True, kw_only=True)
class Tag(UsesRun):
    """give every token its tag"""

    command: ClassVar[str] = "tag"
    result: ClassVar[type[Result]] = results.Tag

    input: Any = argument(
        "a sequence a line, or a token a line with blank lines between sequences; default: standard input; "
        "in Python also a list",
        metavar="FILE",
        stdin=True,
    )


@dataclass(frozen=True, kw_only=True)
class Classify(UsesRun):
    """give every text or image its label"""

    command: ClassVar[str] = "classify"
    result: ClassVar[type[Result]] = results.Classify

    input: Any = argument(
        "texts, files whose lines are texts, or image files; default: lines of standard input",
        nargs="*",
        metavar="INPUT",
        stdin=True,
    )


@dataclass(frozen=True, kw_only=True)
class Fill(UsesRun):
    """predict the token at every [MASK] of a text"""

    command: ClassVar[str] = "fill"
    result: ClassVar[type[Result]] = results.Fill

    text: Any = argument(
        '"The [MASK] sat": a mask is one token of the run; default: lines of standard input',
        nargs="*",
        metavar="TEXT",
        stdin=True,
    )
    top_k: int | None = option("candidates for each mask (default: 5)", metavar="K")


@dataclass(frozen=True, kw_only=True)
class Embed(UsesRun):
    """write a vector for every line of a text"""

    command: ClassVar[str] = "embed"
    result: ClassVar[type[Result]] = results.Embed

    input: Any = argument("default: standard input; in Python also a list of lines", metavar="FILE", stdin=True)
    out: str | None = option("where the array is written, float32", metavar="x.npy", required=True)
    per: str | None = option("a vector for every text (default) or for every token", choices=("text", "token"))


@dataclass(frozen=True, kw_only=True)
class Draw(UsesRun, Sampling):
    """draw images from captions, or from the tokens of a codec"""

    command: ClassVar[str] = "draw"
    result: ClassVar[type[Result]] = results.Draw

    caption: tuple[str, ...] = argument('"a red circle"; several captions draw a row of images each', nargs="*")
    symbols: str | None = option(
        "instead of captions, RUN being a codec: sequences of its tokens, as export --to symbols writes them or "
        "generate prints them (-: standard input)",
        metavar="FILE.jsonl",
    )
    n: int | None = option(
        "images of each caption (default: 1); of symbols, images in a row (default: a square)", metavar="N"
    )
    out: str | None = option(
        "one PNG, a row for each caption (default on the command line: drawn.png)", metavar="grid.png"
    )
    each: str | None = option("also every image by itself, numbered", metavar="DIR")
    begin: str | None = option("keep the upper half of this image, and draw the lower one", metavar="FILE")
    best_of: int | None = option("draw K of each, show the -n that fit the caption best, the best first", metavar="K")
    guidance: float | None = option(
        "more than 1 follows captions more closely (default: as tuned on validation)", metavar="G"
    )


@dataclass(frozen=True, kw_only=True)
class Export(UsesRun, Columns, Split, OnBad):
    """write a run in another format: arpa (word n-grams); or images as the tokens of a codec"""

    command: ClassVar[str] = "export"
    result: ClassVar[type[Result]] = results.Export

    to: str = option(
        "arpa: the n-grams of RUN; symbols: the images of --data, a line of JSON each, to compare, train and generate "
        "from",
        MISSING,
        metavar="arpa|symbols",
        place=True,
    )
    out: str = argument("the file; gzipped where its name ends in .gz", metavar="OUT")
    data: Any = option(
        "with --to symbols, RUN being a codec: images as --task codes reads them, split as the codec's data were",
        metavar="IMAGES",
    )


@dataclass(frozen=True, kw_only=True)
class Import(Overwrite):
    """make a run of an ARPA file, plain or .gz"""

    command: ClassVar[str] = "import"
    function: ClassVar[str] = "import_run"
    result: ClassVar[type[Result]] = results.Import

    path: str = argument("the ARPA file", metavar="PATH")
    out: str = option("the run folder", MISSING, metavar="RUN", place=True)


COMMANDS: dict[str, type[Options]] = {
    kind.command: kind
    for kind in (
        Compare, Train, Data, MakeData, Laws, Evaluate, Score, Generate, Predict, Translate, Tag, Classify, Fill, Embed,
        Draw, Export, Import,
    )
}  # fmt: skip
