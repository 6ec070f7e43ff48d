"""The command line: parse, call, print. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from chainrule.training.tasks import Loaded

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Usage(Exception):
    """A command line that cannot be understood; one line, exit status 2."""


class Formatter(argparse.HelpFormatter):
    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        self._action_max_length = max(self._action_max_length, 13)  # else the longest verb stands on a line of its own


class Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any):
        super().__init__(**{"formatter_class": Formatter, **options})

    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message} (see: {self.prog} --help)")


def data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--tokenizer",
        metavar="byte|char|word|bpe|none",
        help="units: byte, char, char:complete, word[:types], bpe[:size], a tokenizer.json, or none: symbols without bytes "
        "(default: byte for text, none for the rest; to classify, char where texts are short, else bpe)",
    )
    group.add_argument("--columns", metavar="a,b", help="what the columns of a table hold, in order; '-' skips one")
    group.add_argument("--group", metavar="COLUMN", help="rows of one value stay on one side of the split")
    group.add_argument("--unit", metavar="stream|lines|docs", help="what a record is (default: stream, one long text)")
    group.add_argument("--split", metavar="0.9/0.05/0.05", help="shares of train, valid and test")
    group.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="pixels of a side that pictures are brought to (default: their own, or 32)",
    )
    group.add_argument(
        "--on-bad", choices=["stop", "skip"], help="lines that are not UTF-8, damaged pictures (default: stop)"
    )


def machine_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument("--device", help="auto, cpu or cuda")
    group.add_argument("--precision", metavar="auto|fp32|bf16", help="auto: bf16 where this CPU and family gain by it")
    group.add_argument("--threads", type=int, help="processor threads (default: all)")
    group.add_argument("--family", metavar="FILE.py", help="load a family of your own first")


def training_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        help="generate (text), fill (text with gaps), series (numbers), translate (pairs), tag, classify; default: by what DATA is",
    )
    parser.add_argument("--budget", help="for each model: 60s (default), 2000steps, 1e7tokens, 3epochs")
    parser.add_argument("--params", type=float, help="make every model about this many parameters")
    parser.add_argument(
        "--from",
        dest="pretrained",
        metavar="RUN",
        help="tag and classify with bert: begin with the weights and units of RUN, a run of fill",
    )
    parser.add_argument("--memory", metavar="2G", help="n-gram tables beyond this lie in temporary files: model.memory")
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="symbols a windowed model sees at once; of a text to classify, how many are read",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help="any setting: model.layers=2, recipe.rate=1e-3, size=base",
    )
    parser.add_argument("--config", metavar="FILE", help="settings as YAML (a run's config.yaml will do)")
    parser.add_argument("--seed", type=int, help="default 42")
    parser.add_argument("--overwrite", action="store_true", help="replace what --out holds")


def make_parser() -> Parser:
    parser = Parser(
        prog="chainrule",
        description="Train, compare and use sequence models on your own data, from a Markov chain to a Transformer.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    p = verbs.add_parser("compare", help="which sequence model to use on this data, and why: the main job")
    p.add_argument("data", nargs="?", help="a text file or a folder (default: the plays that ship with the package)")
    p.add_argument("--models", help="a,b:setting=1+other=2,file.py (default for text: markov,ngram,rnn,lstm,gru,gpt)")
    p.add_argument("--seeds", type=int, default=1, help="how many seeds each model is trained from")
    p.add_argument("--lang", default="en", help="language of the report: en or ko")
    training_flags(p)
    p.add_argument("--out", required=True, help="folder for board.json, report.html, runs/ and best")

    p = verbs.add_parser("train", help="train one model into a run folder")
    p.add_argument("data")
    p.add_argument("--model", required=True, help="markov, ngram, rnn, lstm, gru, gpt, bert …, or a file of your own")
    training_flags(p)
    p.add_argument("--resume", default="never", metavar="auto|never|PATH", help="continue what --out holds")
    p.add_argument("--save-every", metavar="30s|50steps", help="how often a checkpoint is written (default: 30s)")
    p.add_argument("--out", required=True, help="the run folder")

    p = verbs.add_parser("data", help="the data card; or: data make KIND --out DIR, data with known truth")
    p.add_argument("data", help="a file or a folder, or the word make")
    p.add_argument(
        "--task", help="what it is for, where the columns do not say so; after make copy: generate, translate"
    )
    p.add_argument(
        "kind",
        nargs="?",
        help="after make: a stream (markov, hmm, copy, uniform) or a task (copy with --task translate, reverse, sort, "
        "recall, parity, adding, agreement, rainbow); without it, all are listed",
    )
    p.add_argument("--out", help="after make: the folder to write")
    p.add_argument("--sheet", metavar="FILE.png", help="also write a picture of the pictures: a row for each label")
    p.add_argument("--size", type=float, help="after make: training symbols (default: 1e6), or records of a task")
    p.add_argument("--seed", type=int, help="after make: default 42")

    p = verbs.add_parser("laws", help="grade a family (by name, or a file of your own) by the law suite")
    p.add_argument("name", metavar="FILE.py|FAMILY")

    p = verbs.add_parser("evaluate", help="all metrics of a run on a held-out file")
    p.add_argument("run")
    p.add_argument("data")
    p.add_argument("--predictions", metavar="FILE.jsonl", help="also write every record's own result")

    p = verbs.add_parser("score", help="joint log-probability, line by line or of the whole")
    p.add_argument("run")
    p.add_argument("file", nargs="?", help="default: standard input")
    p.add_argument("--tokens", action="store_true", help="also every symbol with its own nats")

    p = verbs.add_parser("generate", help="continue a sequence")
    p.add_argument("run")
    p.add_argument("--prompt", action="append", help="text to continue (may be given several times)")
    p.add_argument("--max-tokens", type=int, metavar="N", help="how far (default: 200 symbols, 24 values of a series)")
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument("--top-k", type=int, default=0)
    p.add_argument("--top-p", type=float, default=1.0)
    p.add_argument("--min-p", type=float, default=0.0)
    p.add_argument("--stop", action="append", default=[], help="end the text where this appears")
    p.add_argument(
        "--beams",
        type=int,
        default=0,
        metavar="N",
        help="search for the most probable instead of drawing; -n: the best n",
    )
    p.add_argument("--must", action="append", default=[], help="with --beams: appears in every continuation")
    p.add_argument("--forbid", action="append", default=[], help="with --beams: appears in none")
    p.add_argument("--seed", type=int)
    p.add_argument("-n", type=int, default=1, help="continuations of each prompt")

    p = verbs.add_parser("translate", help="write the target of every source: one line in, one line out")
    p.add_argument("run")
    p.add_argument("file", nargs="?", help="a source a line; default: standard input")
    p.add_argument(
        "--beams", type=int, default=4, metavar="N", help="hypotheses kept at once (default: 4; 1 is greedy)"
    )
    p.add_argument("--n-best", type=int, default=1, metavar="K", help="list so many of each source, with log p")
    p.add_argument("--must", action="append", default=[], help="appears in every translation")
    p.add_argument("--forbid", action="append", default=[], help="appears in none")
    p.add_argument(
        "--length-penalty",
        type=float,
        metavar="A",
        help="0: none; larger: longer (default: as long as validation targets are)",
    )
    p.add_argument(
        "--coverage-penalty",
        type=float,
        default=0.0,
        metavar="B",
        help="costs what of the source is not looked at (rnn, lstm, gru)",
    )
    p.add_argument("--min-length", type=int, default=0, metavar="N", help="symbols that a translation has at least")
    p.add_argument("--max-length", type=int, metavar="N", help="symbols at most (default: by the source's length)")
    p.add_argument("--no-repeat", type=int, default=0, metavar="N", help="no N symbols in a row come twice")
    p.add_argument(
        "--diverse", type=int, default=1, metavar="G", help="G groups of beams that avoid each other's symbols"
    )
    p.add_argument(
        "--least-risk", action="store_true", help="of what was found, what is closest to all the rest by chrF"
    )

    p = verbs.add_parser("tag", help="give every token its tag")
    p.add_argument("run")
    p.add_argument(
        "file", nargs="?", help="a sequence a line, or a token a line and a blank line between; default: standard input"
    )

    p = verbs.add_parser("classify", help="give every text or picture its label")
    p.add_argument("run")
    p.add_argument(
        "input",
        nargs="*",
        help="texts, files whose lines are texts, or picture files; default: lines of standard input",
    )

    p = verbs.add_parser("fill", help="tell what is hidden at every [MASK] of a text")
    p.add_argument("run")
    p.add_argument(
        "text", nargs="*", help='"The [MASK] sat": a mask is one unit of the run; default: lines of standard input'
    )
    p.add_argument("--top-k", type=int, default=5, help="candidates for each mask (default: 5)")

    p = verbs.add_parser("embed", help="write a vector for every line of a text")
    p.add_argument("run")
    p.add_argument("file", nargs="?", help="default: standard input")
    p.add_argument("--per", default="text", metavar="text|token", help="a vector a line (default), or a symbol")
    p.add_argument("--out", required=True, metavar="x.npy", help="where the array is written, float32")

    p = verbs.add_parser("draw", help="draw pictures of a caption, or of symbols")
    p.add_argument("run")
    caption = p.add_argument("caption", nargs="+", help='"a red circle"; several captions draw a row of pictures each')
    caption.required = False  # nargs="*" would allow captions before flags only
    p.add_argument(
        "--symbols",
        metavar="FILE.jsonl",
        help="instead of captions, RUN being a codec: sequences of symbols, as export --to symbols writes them or generate prints "
        "them (-: standard input)",
    )
    p.add_argument(
        "-n", type=int, help="pictures of each caption (default: 1); of symbols, pictures in a row (default: a square)"
    )
    p.add_argument(
        "--out", default="drawn.png", metavar="grid.png", help="one PNG, a row for each caption (default: drawn.png)"
    )
    p.add_argument("--each", metavar="DIR", help="also every picture by itself, numbered")
    p.add_argument("--begin", metavar="FILE", help="keep the upper half of this picture, and draw the lower one")
    p.add_argument(
        "--best-of", type=int, metavar="K", help="draw K of each, show the -n that fit the caption best, the best first"
    )
    p.add_argument(
        "--guidance",
        type=float,
        metavar="G",
        help="more than 1 follows captions more closely (default: as settled on validation)",
    )
    p.add_argument("--temperature", type=float, help="default: as settled on validation")
    p.add_argument("--top-k", type=int, default=0)
    p.add_argument("--top-p", type=float, default=1.0)
    p.add_argument("--seed", type=int)

    p = verbs.add_parser(
        "export", help="write a run in another format: arpa (word n-grams); or pictures as a codec's symbols"
    )
    p.add_argument("run")
    p.add_argument(
        "--to",
        required=True,
        metavar="arpa|symbols",
        help="arpa: the n-grams of RUN; symbols: the pictures of --data, a line of JSON each, to compare, train and generate from",
    )
    p.add_argument(
        "--data",
        metavar="PICTURES",
        help="with --to symbols, RUN being a codec: whatever --task codes reads; it is split as the codec's data were",
    )
    p.add_argument("out", help="the file; gzipped where its name ends in .gz")

    p = verbs.add_parser("import", help="make a run of an ARPA file, plain or .gz")
    p.add_argument("path")
    p.add_argument("--out", required=True, help="the run folder")
    p.add_argument("--overwrite", action="store_true", help="replace what --out holds")

    for p in verbs.choices.values():
        p.add_argument("--json", action="store_true", help="one JSON object on standard output and nothing else there")
        data_flags(p)
        machine_flags(p)
    return parser


# --- verbs ------------------------------------------------------------------------------------------------------------


def run_settings(a: argparse.Namespace, **fixed: Any) -> dict[str, Any]:
    """Settings of a run: the config file, then flags, then --set."""
    from chainrule.core import UserError
    from chainrule.core.config import parse_settings, read_yaml
    from chainrule.data.recognise import as_meant

    values: dict[str, Any] = read_yaml(read_text(a.config), a.config) if a.config else {}
    flags = {
        "tokenizer",
        "columns",
        "group",
        "unit",
        "on_bad",
        "budget",
        "params",
        "context",
        "image_size",
        "seed",
        "device",
        "precision",
        "threads",
        "save_every",
        "task",
        "pretrained",
    }
    values |= {k: v for k, v in vars(a).items() if k in flags and v is not None}
    if a.split:
        values["split"] = split_shares(a.split)
    if a.memory:
        values["model"] = {**(values.get("model") or {}), "memory": memory_size(a.memory)}
    if "task" not in values:
        values["task"] = task_of(a.data, values.get("columns"), values.get("group"))
        if values["task"] == "generate" and a.data is not None and not Path(a.data).exists():
            raise UserError(f"{a.data}: no such file or folder")
    elif a.data is not None:
        values["task"] = as_meant(values["task"], a.data, values.get("columns"))
    for key, value in parse_settings(a.set).items():
        under = values.get(key)
        values[key] = {**under, **value} if isinstance(under, dict) and isinstance(value, dict) else value
    return values | fixed


def task_of(path: str | None, columns: str | None, group: str | None = None) -> str:
    """What DATA is, where no task is named: labels or tags by their columns, one column of numbers is a series, else text or
    symbols.
    """
    from chainrule.data.recognise import task_of_table
    from chainrule.data.series import looks_like_series

    if path is None:
        return "generate"
    found = task_of_table(Path(path), columns)
    return found or ("series" if not group and looks_like_series(Path(path), columns) else "generate")


def split_shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(x) for x in text.split("/"))
    except ValueError:
        raise Usage(f"--split {text}: expected three shares such as 0.9/0.05/0.05") from None


def memory_size(text: str) -> str:
    from chainrule.core import UserError
    from chainrule.layers.counts import parse_memory

    try:
        parse_memory(text)
    except UserError as error:
        raise Usage(f"--{error}".replace("=", " ", 1)) from None
    return text


def read_text(path: str) -> str:
    from chainrule.core import UserError

    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def compare(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.report.compare import compare
    from chainrule.training.tasks import find_task

    values = run_settings(a)
    for key in ("data", "family"):
        values.pop(key, None)
    board = compare(a.data, a.out, models=a.models, seeds=a.seeds, lang=a.lang, overwrite=a.overwrite, **values)
    if not a.json:
        counted = board["data"].get("counted", board["unit_name"])
        metric, words = find_task(board["task"]).metric(counted)
        width = max(len(row["label"]) for row in board["rows"])
        for row in board["rows"]:
            value = f"{row[metric]:.4f} {words}" if metric in row else f"failed: {row['error']}"
            print(f"{row['label']:<{width}}  {value}")
        print(f"\n{board['verdict']['text_ko' if a.lang == 'ko' else 'text']}\nreport: {Path(a.out) / 'report.html'}")
    return board


def train(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.core import family
    from chainrule.training.settings import RunConfig
    from chainrule.training.tasks import find_task
    from chainrule.training.train import train

    values = run_settings(a, data=a.data)
    task = find_task(values["task"])
    settings = RunConfig.make({**values, "family": family(a.model, task.name).name})
    trainer = train(settings, a.out, resume=a.resume, overwrite=a.overwrite)
    p, counted = trainer.progress, trainer.run.read_json("data.json")["counted"]
    if not a.json:
        best, words = task.validated(p.best or 0.0, counted)
        print(f"{a.out}: {best:.4f} {words} on validation, best at step {p.best_step} of {p.step}, {p.seconds:.0f} s")
    return {
        "run": str(a.out),
        "steps": p.step,
        "tokens": p.tokens,
        "seconds": p.seconds,
        "best": p.best,
        "best_step": p.best_step,
    }


def data(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.data.recognise import as_meant

    if a.data == "make":
        return make_data(a)
    task = as_meant(a.task, a.data, a.columns) if a.task else task_of(a.data, a.columns, a.group)
    if a.sheet:
        check_sheet(a, task)
    if task == "series":
        return series_card(a)
    if task in ("tag", "classify", "classify-images"):
        return labelled_card(a, task)
    if task == "translate":
        return pairs_card(a)
    if task in ("codes", "draw"):
        return pictures_card(a, task)
    from chainrule.data import read

    options: dict[str, Any] = {"on_bad": a.on_bad or "stop", "columns": a.columns, "group": a.group}
    if a.split:
        options["split"] = split_shares(a.split)
    card = read(a.data, tokenizer=a.tokenizer, unit=a.unit, **options).card()
    if not a.json:
        print_card(card)
    return card


def print_card(card: dict[str, Any]) -> None:
    print(f"{card['name']}: {card['unit']}, {card['tokenizer']}, {card['symbols']} symbols")
    for name, part in card["parts"].items():
        text = f"{part['bytes']:>14,} bytes {part['chars']:>14,} characters" if "bytes" in part else ""
        print(f"  {name:<6}{text}{part['symbols']:>14,} symbols {part['records']:>9,} records")
    xz = f"; xz needs {card['xz']['bits_per_byte']:.3f} bits per byte" if card["xz"] else ""
    print(f"  entropy of single symbols {card['entropy']:.3f} bits{xz}")
    print(f"  {card['duplicates']:.1%} of the test part stands in the training part too")
    print("".join(f"  note: {note}\n" for note in card["notes"]), end="")


def series_card(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.data.series import read_series

    card = read_series(a.data, a.columns, *([split_shares(a.split)] if a.split else [])).card()  # type: ignore[arg-type]
    if not a.json:
        print(f"{card['name']}: a series of numbers, {', '.join(card['columns'])}")
        for name, part in card["parts"].items():
            print(f"  {name:<6}{part['values']:>14,} values")
        for name, mean, scale in zip(card["columns"], card["mean"], card["scale"]):
            print(f"  {name}: mean {mean:.6g}, standard deviation {scale:.6g} (training part)")
        print("".join(f"  note: {note}\n" for note in card["notes"]), end="")
    return card


def check_sheet(a: argparse.Namespace, task: str) -> None:
    """Said before anything is read; of what is not there, the reader tells."""
    from chainrule.core import UserError

    place = Path(a.sheet)
    if task not in ("classify-images", "codes", "draw") and Path(a.data).exists():
        raise UserError(f"--sheet {a.sheet}: {a.data} holds no pictures; leave it out")
    if not place.parent.is_dir():
        raise UserError(f"{place.parent}: no such folder; make it first")
    if place.is_dir():
        raise UserError(f"--sheet {a.sheet}: a folder; name a file, {place / 'sheet.png'}")


def write_sheet(a: argparse.Namespace, data: Any) -> dict[str, Any]:
    """The contact sheet, where it is asked for, as an entry of the card."""
    from chainrule.checkpoint import write_file
    from chainrule.data.pictures import as_png

    if not a.sheet:
        return {}
    pixels, labels = data.sheet()
    write_file(Path(a.sheet), as_png(pixels))
    return {"sheet": {"file": a.sheet, "rows": labels}}


def print_sheet(card: dict[str, Any]) -> None:
    """Where the pictures are to be seen, or how."""
    if "sheet" not in card:
        print("  to see them: --sheet FILE.png")
        return
    rows = card["sheet"]["rows"]
    shown = f"{', '.join(rows[:12])}{' …' if len(rows) > 12 else ''}"
    print(
        f"  {card['sheet']['file']}: {f'a row for each label, from the top: {shown}' if rows else 'some of them, taken evenly'}"
    )


def card_of(a: argparse.Namespace, task: str, **values: Any) -> dict[str, Any]:
    from chainrule.training.settings import RunConfig
    from chainrule.training.tasks import find_task

    values |= {"columns": a.columns, "split": split_shares(a.split) if a.split else None, "on_bad": a.on_bad}
    values["image_size"] = a.image_size
    given = {k: v for k, v in values.items() if v is not None}
    data = find_task(task).read(RunConfig.make({"data": a.data, "family": "", "task": task, **given}))
    return data.card() | write_sheet(a, data)


def pairs_card(a: argparse.Namespace) -> dict[str, Any]:
    card = card_of(a, "translate", tokenizer=a.tokenizer, group=a.group)
    if not a.json:
        each = f"{card['source_symbols']:,} source and {card['symbols']:,} target symbols"
        shared = f"one vocabulary of {card['symbols']:,} symbols"
        print(f"{card['name']}: {card['unit']}, {card['tokenizer']}, {shared if card['joint'] else each}")
        for name, part in card["parts"].items():
            print(
                f"  {name:<6}{part['records']:>9,} pairs {part['source_symbols']:>12,} source symbols {part['symbols']:>12,} target symbols"
            )
        print(f"  {card['duplicates']:.1%} of the held-out sources stand in the training part too")
        unseen = card["unseen"]
        print(
            f"  of the held-out words {unseen['source']:.1%} (sources) and {unseen['target']:.1%} (targets) do not occur there"
        )
        print("".join(f"  note: {note}\n" for note in card["notes"]), end="")
    return card


def labelled_card(a: argparse.Namespace, task: str) -> dict[str, Any]:
    card = card_of(a, task)
    if not a.json:
        print(f"{card['name']}: {card['unit']}, for --task {task}, {len(card['labels'])} labels")
        for name, part in card["parts"].items():
            print(
                f"  {name:<6}"
                + ", ".join(f"{n:,} {'tokens' if what == 'symbols' else what}" for what, n in part.items())
            )
        shown = ", ".join(f"{x['label']} {x['train']:.1%}" for x in card["labels"][:12])
        print(f"  labels of train: {shown}{' …' if len(card['labels']) > 12 else ''}")
        print(f"  {card['duplicates']:.1%} of the held-out records stand in the training part too")
        if "unseen" in card:
            print(f"  {card['unseen']:.1%} of the held-out tokens do not occur in the training part")
        if "image" in card:
            print_sheet(card)
        print("".join(f"  note: {note}\n" for note in card["notes"]), end="")
    return card


def pictures_card(a: argparse.Namespace, task: str) -> dict[str, Any]:
    card = card_of(a, task)
    if not a.json:
        rows, columns, channels = card["image"]
        print(
            f"{card['name']}: {card['unit']} of {columns} x {rows} pixels, {channels} channel{'s' * (channels > 1)}, for --task {task}"
        )
        print("".join(f"  {name:<6}{part['records']:>9,} pictures\n" for name, part in card["parts"].items()), end="")
        print(f"  {card['duplicates']:.1%} of the held-out pictures stand in the training part too")
        print("".join(f"  for example: {text}\n" for text in card.get("examples", [])), end="")
        print_sheet(card)
        print("".join(f"  note: {note}\n" for note in card["notes"]), end="")
    return card


def make_data(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.core import UserError
    from chainrule.data import synthetic, synthetic_tasks

    known = synthetic_tasks.kinds()
    if a.kind is None:
        if not a.json:
            print(list_of_kinds(known))
        return {"kinds": [{"kind": k, "task": task or None, "summary": text} for (k, task), text in known.items()]}
    if a.kind not in {kind for kind, _ in known}:
        print(list_of_kinds(known), file=sys.stderr)
    task = synthetic_tasks.task_of(a.kind, a.task)
    if not a.out:
        raise UserError(f"data make {a.kind}: say where to, with --out DIR")
    seed = 42 if a.seed is None else a.seed
    size = None if a.size is None else int(a.size)
    if (a.kind, task) in synthetic_tasks.tasks:
        made = synthetic_tasks.make(a.kind, task, size=size, seed=seed)
        synthetic_tasks.write(made, Path(a.out))
        chance = {what: found["value"] for what, found in made.truth["chance"].items()}
        if not a.json:
            guesses = ", ".join(f"{what.replace('_', ' ')} {value:.4g}" for what, value in chance.items())
            print(f"{a.out}: {made.truth['description']}; guessing reaches: {guesses}")
        return {"out": a.out, "kind": a.kind, "task": task or None, "chance": chance}
    source = synthetic.make(a.kind, seed=seed, **({} if size is None else {"size": size}))
    synthetic.write(source, Path(a.out))
    if not a.json:
        print(f"{a.out}: {source.description}; entropy rate {source.entropy_rate} bits per symbol")
    return {"out": a.out, "kind": a.kind, "task": task, "entropy_rate": source.entropy_rate, "lag": source.lag}


def list_of_kinds(known: dict[tuple[str, str], str]) -> str:
    rows = [f"  {kind:<11}{task or '-':<11}{summary}" for (kind, task), summary in known.items()]
    return "\n".join(["  KIND       --task     what is made (--task is needed only for the second copy)", *rows])


def laws(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.core import UserError
    from chainrule.laws import check, named, report

    results = {}
    for chosen in named(a.name):
        verdicts = check(chosen)
        label = chosen.name if chosen.task == "generate" else f"{chosen.name} ({chosen.task})"
        if not a.json:
            print(f"{label}\n{report(verdicts)}")
        results[label] = [{"law": v.law, "ok": v.ok, "detail": v.detail} for v in verdicts]
    broken = [f"{name}: {v['law']}" for name, found in results.items() for v in found if not v["ok"]]
    if broken:
        if a.json:
            print(json.dumps({"families": results}))
        raise UserError(f"{len(broken)} law(s) broken: {'; '.join(broken)}")
    return {"families": results}


def load(a: argparse.Namespace) -> Loaded:
    from chainrule.using import load

    return load(a.run, device=a.device or "auto", precision=a.precision or "auto", threads=a.threads)


def evaluate(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import evaluate

    predictions = Path(a.predictions) if a.predictions else None
    told = {"unit": a.unit, "columns": a.columns, "group": a.group}
    result = evaluate(load(a), a.data, on_bad=a.on_bad or "stop", predictions=predictions, **told)
    for note in result.get("notes", []):
        print(f"note: {note}", file=sys.stderr)
    if not a.json:
        shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in result.items() if k != "notes"}
        print("\n".join(f"{k:<14} {v}" for k, v in shown.items()))
    return result


def score(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import score_bytes

    text = sys.stdin.buffer.read() if a.file in (None, "-") else read_bytes(a.file)
    result = score_bytes(load(a), text, unit=a.unit or "lines", tokens=a.tokens, where=a.file or "standard input")
    if not a.json:
        for line in result["lines"]:
            print(f"{line['nats']:.4f}")
    return result


def read_bytes(path: str) -> bytes:
    from chainrule.core import UserError

    try:
        content = Path(path).read_bytes()
        if path.endswith(".gz"):
            import gzip

            content = gzip.decompress(content)
        return content
    except (OSError, EOFError) as error:
        shown = path if len(path) <= 80 else f"{path[:80]}…"
        told = "" if Path(path).suffix else "; text itself is given on standard input: echo … | chainrule …"
        raise UserError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}{told}") from None


def generate(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.decoding.sample import Filters
    from chainrule.using import generate

    loaded = load(a)
    if loaded.task == "series":
        return continue_series(loaded, a)
    filters = Filters(a.temperature, a.top_k, a.top_p, a.min_p)
    prompts, seed = a.prompt or [""], 42 if a.seed is None else a.seed
    length = 200 if a.max_tokens is None else a.max_tokens
    search = {"beams": a.beams, "must": a.must, "forbid": a.forbid}
    result = generate(loaded, prompts, max_tokens=length, filters=filters, seed=seed, stop=a.stop, count=a.n, **search)
    if not a.json and "written" in result:
        print("\n".join(result["written"]))
    elif not a.json:
        for k, text in enumerate(result["texts"]):
            print(("\n---\n" if k else "") + prompts[k // a.n] + text)
    return result


def continue_series(loaded: Loaded, a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.core import UserError
    from chainrule.using import forecast

    drawn = (a.temperature, a.top_k, a.top_p, a.min_p, a.stop, a.beams, a.must, a.forbid)
    if drawn != (1.0, 0, 1.0, 0.0, [], 0, [], []):
        raise UserError(
            "a series is drawn from the model as it is: leave out --temperature, --top-k, --top-p, --min-p, --stop, --beams, "
            "--must, --forbid"
        )
    length, seed = 24 if a.max_tokens is None else a.max_tokens, 42 if a.seed is None else a.seed
    result = forecast(loaded, length, prompts=a.prompt or [], count=a.n, seed=seed)
    if not a.json:
        for name, steps in zip(result["columns"], result["quantiles"]):
            print(f"{name}\n{'step':>6} {'10 %':>12} {'median':>12} {'90 %':>12}")
            print(
                "\n".join(
                    f"{t:>6} {low:>12.6g} {middle:>12.6g} {high:>12.6g}"
                    for t, (low, middle, high) in enumerate(steps, 1)
                )
            )
    return result


def translate(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import read_lines, translate

    text = sys.stdin.buffer.read() if a.file in (None, "-") else read_bytes(a.file)
    search: dict[str, Any] = {
        **({} if a.length_penalty is None else {"length_penalty": a.length_penalty}),
        "coverage_penalty": a.coverage_penalty,
        "min_length": a.min_length,
        "no_repeat": a.no_repeat,
        "groups": a.diverse,
    }
    result = translate(
        load(a), read_lines(text, a.file or "standard input", blank=True), n_best=a.n_best, must=a.must, forbid=a.forbid,
        least_risk=a.least_risk, width=a.beams, **search, **({"max_length": a.max_length} if a.max_length else {}),
    )  # fmt: skip
    if result.get("cut"):
        print(f"note: {result['cut']} sources were too long and were read up to 256 symbols", file=sys.stderr)
    if not a.json and a.n_best > 1:
        print("\n\n".join("\n".join(f"{h['nats']:.3f}\t{h['text']}" for h in row) for row in result["n_best"]))
    elif not a.json:
        print("\n".join(result["translations"]))
    return result


def tag(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import read_sequences, tag

    text = sys.stdin.buffer.read() if a.file in (None, "-") else read_bytes(a.file)
    result = tag(load(a), read_sequences(text, a.file or "standard input"))
    if not a.json:
        rows = zip(result["tokens"], result["tags"])
        print("\n\n".join("\n".join(f"{w}\t{t}" for w, t in zip(words, tags)) for words, tags in rows))
    return result


def classify(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import classify, read_lines

    loaded = load(a)
    if loaded.task == "classify-images":
        return classify_images(loaded, a)
    texts: list[str] = [] if a.input else read_lines(sys.stdin.buffer.read(), "standard input")
    for given in a.input:
        texts += read_lines(read_bytes(given), given) if os.path.isfile(given) else [given]
    result = classify(loaded, texts)
    if not a.json:
        for label, p, text in zip(result["labels"], result["p"], texts):
            print(f"{label}\t{p[label]:.4f}\t{text}")
    return result


def classify_images(loaded: Loaded, a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.core import UserError
    from chainrule.using import classify_images

    if not a.input:
        raise UserError("classify: this run labels pictures: name their files")
    result = classify_images(loaded, a.input)
    if not a.json:
        for label, p, file in zip(result["labels"], result["p"], a.input):
            print(f"{label}\t{p[label]:.4f}\t{file}")
    return result


def fill(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import fill, read_lines

    texts = a.text or read_lines(sys.stdin.buffer.read(), "standard input")
    result = fill(load(a), texts, top=a.top_k)
    if not a.json:
        for found in result["texts"]:
            print(found["filled"])
            for k, candidates in enumerate(found["masks"], 1):
                shown = "  ".join(f"{json.dumps(c['text'], ensure_ascii=False)} {c['p']:.3f}" for c in candidates)
                print(f"  {result['unit']} {k}: {shown}")
    return result


def embed(a: argparse.Namespace) -> dict[str, Any]:
    import io

    import numpy as np

    from chainrule.checkpoint import write_file
    from chainrule.using import embed, read_lines

    text = sys.stdin.buffer.read() if a.file in (None, "-") else read_bytes(a.file)
    result = embed(load(a), read_lines(text, a.file or "standard input"), per=a.per)
    content = io.BytesIO()
    np.save(content, result["vectors"], allow_pickle=False)
    write_file(Path(a.out), content.getvalue())
    count, width = result["vectors"].shape
    if not a.json:
        print(f"{a.out}: {count} vectors of {width} numbers, one a {'line' if a.per == 'text' else 'symbol'}")
    return {"out": a.out, "per": a.per, "vectors": count, "width": width, "tokens": result["tokens"]}


def draw(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.checkpoint import write_file
    from chainrule.core import UserError
    from chainrule.data.pictures import as_png, grid

    if a.n is not None and not 1 <= a.n <= 1024:
        raise UserError(f"-n {a.n}: allowed is 1 to 1024")
    if bool(a.caption) == bool(a.symbols):
        told = "captions and --symbols exclude each other: leave out one of them"
        raise UserError(f"draw: {told if a.caption else 'give a caption, or --symbols FILE.jsonl with a codec'}")
    for place in (Path(a.out).parent, *([Path(a.each)] if a.each else [])):
        if not place.is_dir():
            raise UserError(f"{place}: no such folder; make it first")
    result = of_symbols(a) if a.symbols else of_captions(a)
    pictures, _ = list(result.pop("images")), result.pop("ids")
    square = math.isqrt(len(pictures) - 1) + 1 if a.symbols else 1
    write_file(Path(a.out), as_png(grid(pictures, min(a.n or square, len(pictures)))))
    if a.each:
        for k, picture in enumerate(pictures):
            write_file(Path(a.each) / f"{k:04}.png", as_png(picture))
    if not a.json:
        print(f"{a.out}: {len(pictures)} picture{'s' * (len(pictures) > 1)}, {result['seconds']:.2f} s")
    return {"out": a.out, **result}


def of_captions(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.decoding.sample import Filters
    from chainrule.training.tasks.draw import settled
    from chainrule.using import draw_captions

    loaded = load(a)
    warmth = settled(loaded)[1] if a.temperature is None else a.temperature
    begin = loaded.source_tokenizer.open(Path(a.begin)) if a.begin and loaded.task == "draw" else None
    return draw_captions(
        loaded, a.caption, count=a.n or 1, best_of=a.best_of, filters=Filters(warmth, a.top_k, a.top_p), guidance=a.guidance,
        seed=42 if a.seed is None else a.seed, begin=begin,
    )  # fmt: skip


def of_symbols(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.core import UserError
    from chainrule.using import draw_symbols, read_lines

    if (a.begin, a.best_of, a.guidance, a.temperature, a.top_k, a.top_p, a.seed) != (
        None,
        None,
        None,
        None,
        0,
        1.0,
        None,
    ):
        raise UserError(
            "--symbols: nothing is left to draw by: leave out --begin, --best-of, --guidance, --temperature, --top-k, --top-p, "
            "--seed; generate takes most of them, and --prompt for a beginning"
        )
    where = "standard input" if a.symbols == "-" else a.symbols
    text = sys.stdin.buffer.read() if a.symbols == "-" else read_bytes(a.symbols)
    result = draw_symbols(load(a), read_lines(text, where, blank=True), where)
    if short := result["left_out"]:
        print(
            f"note: {short} of {short + len(result['ids'])} sequences end before their picture and are left out",
            file=sys.stderr,
        )
    return result


def export(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import export

    split = split_shares(a.split) if a.split else None
    result = export(load(a), a.to, a.out, data=a.data, columns=a.columns, split=split, on_bad=a.on_bad or "stop")  # type: ignore[arg-type]
    for note in result.get("notes", []):
        print(f"note: {note}", file=sys.stderr)
    if not a.json and "pictures" in result:
        sizes = ", ".join(f"{count:,} {part}" for part, count in result["pictures"].items())
        print(f"{a.out}: pictures ({sizes}) of {result['codes_per_image']} symbols each")
    elif not a.json:
        print(f"{a.out}: written")
    return result


def import_(a: argparse.Namespace) -> dict[str, Any]:
    from chainrule.using import import_arpa

    result = import_arpa(a.path, a.out, overwrite=a.overwrite)
    if not a.json:
        print(f"{a.out}: {result['ngrams']:,} n-grams of at most {result['n']} words over {result['words']:,}")
    return result


VERBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "compare": compare, "train": train, "data": data, "laws": laws, "evaluate": evaluate, "score": score, "generate": generate,
    "translate": translate, "tag": tag, "classify": classify, "fill": fill, "embed": embed, "draw": draw,
    "export": export, "import": import_,
}  # fmt: skip


# --- errors -----------------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str]) -> argparse.Namespace | None:
    parser = make_parser()
    first = argv[0] if argv else ""
    if first and not first.startswith("-") and first not in VERBS:
        from chainrule.core.errors import nearest

        raise Usage(f"unknown verb '{first}': {nearest(first, VERBS)}")
    a = parser.parse_args(_joined_columns(argv))
    if a.version:
        from chainrule import __version__

        print(__version__)
        return None
    if a.verb is None:
        parser.print_help()
        return None
    return a


def _joined_columns(argv: Sequence[str]) -> list[str]:
    """``--columns -,text`` as one word: argparse takes what begins with a dash for another flag."""
    words = list(argv)
    for k in range(len(words) - 1, 0, -1):
        if words[k - 1] == "--columns" and words[k].startswith("-,"):
            words[k - 1 : k + 1] = [f"--columns={words[k]}"]
    return words


def run(a: argparse.Namespace) -> int:
    import torch  # noqa: F401  (before the errors below: its own allocation failures are RuntimeErrors)

    from chainrule.core import ChainruleError

    try:
        if a.family:
            from chainrule.core import load_file

            load_file(Path(a.family))
        result = VERBS[a.verb](a)
    except ChainruleError as error:
        return complain(str(error), error.exit_status)
    except MemoryError:
        return complain("out of memory: give a smaller --params, --context or --set recipe.rows", 3)
    except RuntimeError as error:
        if "allocate" in str(error):
            return complain(
                f"out of memory ({str(error).splitlines()[0]}): give a smaller --params, --context or --set recipe.rows",
                3,
            )
        raise
    except PermissionError as error:
        return complain(f"{error.filename}: no permission: choose another place, or change its rights", 3)
    except OSError as error:
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            return complain(
                f"{error.filename or 'the disk'}: disk full: free some space; what was saved before is intact", 3
            )
        raise
    if a.json:
        print(json.dumps(result, ensure_ascii=False, default=float))
    return 0


def complain(message: str, status: int) -> int:
    print(f"chainrule: {message}", file=sys.stderr)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    try:
        a = parse(sys.argv[1:] if argv is None else argv)
    except Usage as error:
        return complain(str(error), 2)
    if a is None:
        return 0
    try:
        return run(a)
    except Usage as error:
        return complain(str(error), 2)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
