"""What every command answers: the keys of the object that ``--json`` prints and that the Python function returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from chainrule.options import Result, key


@dataclass(frozen=True, kw_only=True)
class Compare(Result):
    more: ClassVar[str] = "the rest of board.json"

    budget: dict[str, Any] = key("what every model was given", always=True)
    data: dict[str, Any] = key("the data card", always=True)
    machine: dict[str, Any] = key("what was measured on", always=True)
    rows: list[dict[str, Any]] = key("one a model: its metrics and interval, or its error", always=True)
    verdict: dict[str, Any] = key("text, best, tie, confidence", always=True)


@dataclass(frozen=True, kw_only=True)
class Train(Result):
    run: str = key("the run folder", always=True)
    steps: int = key("steps taken", always=True)
    tokens: int = key("tokens learnt from", always=True)
    seconds: float = key("seconds of training", always=True)
    best: float | None = key("the best value on validation")
    best_step: int = key("the step of these weights", always=True)
    metric: dict[str, Any] = key("what best is: name, unit, direction", always=True)


@dataclass(frozen=True, kw_only=True)
class Data(Result):
    more: ClassVar[str] = "what the task says of its data"

    task: str = key("what they are read for", always=True)
    name: str = key("the name of the data", always=True)
    unit: str = key("what a record is", always=True)
    parts: dict[str, Any] = key("sizes of train, valid and test", always=True)
    notes: list[str] = key("what was guessed, repaired or left out", always=True)
    sheet: dict[str, Any] | None = key("where the overview of the images is, and the labels of its rows")


@dataclass(frozen=True, kw_only=True)
class MakeData(Result):
    kinds: list[dict[str, Any]] | None = key("without a kind: all kinds")
    out: str | None = key("the folder")
    kind: str | None = key("what was made")
    task: str | None = key("what it is for")
    description: str | None = key("the same in words")
    entropy_rate: float | None = key("of a stream: bits per symbol")
    lag: int | None = key("of a stream: how far back a symbol depends")
    chance: dict[str, float] | None = key("of a task: what guessing reaches, by metric")


@dataclass(frozen=True, kw_only=True)
class Laws(Result):
    model_types: dict[str, list[dict[str, Any]]] = key("a verdict for each law, by model type", always=True)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Result):
    more: ClassVar[str] = "the metrics of the run's task"

    task: str = key("the run's task", always=True)
    model: str = key("the run's model type", always=True)
    notes: list[str] | None = key("what was repaired or left out")


@dataclass(frozen=True, kw_only=True)
class Score(Result):
    nats: float = key("log p of all, negative", always=True)
    bytes: int | None = key("bytes scored, where data have bytes")
    symbols: int | None = key("symbols scored, where data have none")
    lines: list[dict[str, Any]] = key("nats, bytes and tokens of each line", always=True)


@dataclass(frozen=True, kw_only=True)
class Generate(Result):
    texts: list[str] | None = key("continuations, without their prompts")
    sequences: list[Any] | None = key("of symbols and series: whole records as lists")
    written: list[str] | None = key("of symbols: the same as they would stand in a file")
    nats: list[float] = key("log p of each", always=True)
    tokens_per_second: float = key("speed", always=True)
    columns: list[str] | None = key("of a series: the name of each")
    levels: list[float] | None = key("of a series: the probabilities of the quantiles")
    quantiles: list[Any] | None = key("of a series: quantiles at each step")


@dataclass(frozen=True, kw_only=True)
class Predict(Result):
    predictions: list[list[dict[str, Any]]] = key(
        "for each sequence: token (None: the end of the record) and p, most probable first", always=True
    )
    unknown: list[int] = key("for each sequence: tokens that the run does not know", always=True)


@dataclass(frozen=True, kw_only=True)
class Translate(Result):
    translations: list[str] = key("one a source", always=True)
    nats: list[float] = key("log p of each", always=True)
    tokens_per_second: float = key("speed", always=True)
    n_best: list[list[dict[str, Any]]] | None = key("with --n-best: text, nats and score of each")
    cut: int | None = key("how many sources were too long")


@dataclass(frozen=True, kw_only=True)
class Tag(Result):
    tokens: list[list[str]] = key("the tokens of each sequence", always=True)
    tags: list[list[str]] = key("their tags", always=True)
    nats: list[float] = key("log p of the tags of each sequence", always=True)


@dataclass(frozen=True, kw_only=True)
class Classify(Result):
    inputs: list[str] = key("the texts or files, in order", always=True)
    labels: list[str] = key("the label of each", always=True)
    p: list[dict[str, float]] = key("the probability of every label", always=True)


@dataclass(frozen=True, kw_only=True)
class Fill(Result):
    unit: str = key("what a mask stands for", always=True)
    texts: list[dict[str, Any]] = key("text, masks with their candidates, filled", always=True)


@dataclass(frozen=True, kw_only=True)
class Embed(Result):
    vectors: Any = key("the array, float32", always=True, python=True)
    count: int = key("how many vectors", always=True)
    width: int = key("numbers of each", always=True)
    per: str = key("text or token", always=True)
    tokens: list[int] = key("tokens of each text", always=True)
    out: str | None = key("where the array was written")


@dataclass(frozen=True, kw_only=True)
class Draw(Result):
    images: Any = key("N × Y × X × C bytes", always=True, python=True)
    ids: Any = key("their tokens, N × P", always=True, python=True)
    captions: list[str] | None = key("the caption of each")
    nats: list[float] | None = key("log p of each, given its caption")
    nearness: list[float] | None = key("cosine of each to its caption")
    left_out: int | None = key("with --symbols: sequences that end before their image")
    seconds: float = key("time to draw", always=True)
    out: str | None = key("where the images were written")


@dataclass(frozen=True, kw_only=True)
class Export(Result):
    out: str = key("the file", always=True)
    format: str = key("arpa or symbols", always=True)
    images: dict[str, int] | None = key("of symbols: images of each part")
    codebook_size: int | None = key("of symbols: how many there are")
    codes_per_image: int | None = key("of symbols: tokens of each image")
    notes: list[str] | None = key("what was repaired or left out")


@dataclass(frozen=True, kw_only=True)
class Import(Result):
    run: str = key("the run folder", always=True)
    n: int = key("the order of the n-grams", always=True)
    words: int = key("words of the vocabulary", always=True)
    ngrams: int = key("n-grams", always=True)
