"""What commands print for people. Answers go to standard output, notes to standard error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chainrule import commands
from chainrule.cli.winner import uses
from chainrule.options import Options

Answer = dict[str, Any]


def completed(options: Options) -> Options:
    """The options with what only the command line adds: a default file, and inputs that are the names of files."""
    if isinstance(options, commands.Draw) and options.out is None:
        return replace(options, out="drawn.png")
    if isinstance(options, commands.Classify) and isinstance(options.input, tuple | list):
        return replace(options, input=[Path(x) if os.path.isfile(x) else x for x in options.input])
    return options


def notes(options: Options, answer: Answer) -> Iterable[str]:
    """Notes for standard error, printed beside the answer."""
    if isinstance(options, commands.Evaluate | commands.Export):
        yield from answer.get("notes", [])
    if answer.get("cut"):
        yield f"{answer['cut']} sources were too long and were read up to 256 tokens"
    if short := answer.get("left_out"):
        yield f"{short} of {short + len(answer['ids'])} sequences end before their image and are left out"


def hints(options: Options) -> Iterable[str]:
    """Lines for standard error, printed before an error."""
    if isinstance(options, commands.MakeData) and options.kind is not None:
        from chainrule.api import make_data

        known = make_data()["kinds"]
        if options.kind not in {found["kind"] for found in known}:
            yield from kinds(known)


def failure(options: Options, answer: Answer) -> str | None:
    """The error of a command that has an answer and failed all the same."""
    if isinstance(options, commands.Compare):
        errors = [f"{row['label']}: {row['error']}" for row in answer["rows"] if row["status"] == "failed"]
        return f"no model could be trained: {errors[0]}" if len(errors) == len(answer["rows"]) else None
    if not isinstance(options, commands.Laws):
        return None
    broken = [f"{name}: {v['law']}" for name, found in answer["model_types"].items() for v in found if not v["ok"]]
    return f"{len(broken)} law(s) broken: {'; '.join(broken)}" if broken else None


def show(options: Options, answer: Answer) -> None:
    """Print the answer of a command."""
    for line in LINES[type(options)](options, answer):
        print(line)


def compare(o: commands.Compare, board: Answer) -> Iterable[str]:
    from chainrule.core.metric import Metric

    metric = Metric.from_json(board["metrics"][0])
    width = max(len(row["label"]) for row in board["rows"])
    for row in board["rows"]:
        value = metric.said(row[metric.name]) if metric.name in row else f"failed: {row['error']}"
        yield f"{row['label']:<{width}}  {value}"
    yield f"\n{board['verdict']['text_ko' if o.lang == 'ko' else 'text']}"
    yield f"report: {Path(o.out) / 'report.html'}"
    if ready := uses(o, board):
        yield "\n이렇게 사용합니다:" if o.lang == "ko" else "\nTo use it:"
        yield from (f"  {command}" for command in ready)


def train(o: commands.Train, a: Answer) -> Iterable[str]:
    from chainrule.core.metric import Metric

    best = Metric.from_json(a["metric"]).said(a["best"] or 0.0)
    found = f"{best} on validation, best at step {a['best_step']} of {a['steps']}"
    yield f"{a['run']}: {found}, {a['seconds']:.0f} s"


def make_data(o: commands.MakeData, a: Answer) -> Iterable[str]:
    if "kinds" in a:
        yield from kinds(a["kinds"])
    elif "chance" in a:
        guesses = ", ".join(f"{what.replace('_', ' ')} {value:.4g}" for what, value in a["chance"].items())
        yield f"{a['out']}: {a['description']}; guessing reaches: {guesses}"
    else:
        yield f"{a['out']}: {a['description']}; entropy rate {a['entropy_rate']} bits per symbol"


def kinds(known: list[Answer]) -> Iterable[str]:
    yield "  KIND       --task     what is made (--task is needed only for the second copy)"
    for found in known:
        yield f"  {found['kind']:<11}{found['task'] or '-':<11}{found['summary']}"


def laws(o: commands.Laws, a: Answer) -> Iterable[str]:
    from chainrule.laws import Verdict, report

    for name, found in a["model_types"].items():
        yield f"{name}\n{report([Verdict(**v) for v in found])}"


def evaluate(o: commands.Evaluate, a: Answer) -> Iterable[str]:
    for name, value in a.items():
        if name != "notes":
            yield f"{name:<14} {f'{value:.6g}' if isinstance(value, float) else value}"


def score(o: commands.Score, a: Answer) -> Iterable[str]:
    for line in a["lines"]:
        yield f"{line['nats']:.4f}"


def generate(o: commands.Generate, a: Answer) -> Iterable[str]:
    if "quantiles" in a:
        yield from forecast(a)
    elif "written" in a:
        yield from a["written"]
    else:
        prompts = o.prompt or ("",)
        for k, text in enumerate(a["texts"]):
            yield ("\n---\n" if k else "") + prompts[k // (o.n or 1)] + text


def forecast(a: Answer) -> Iterable[str]:
    for name, steps in zip(a["columns"], a["quantiles"]):
        yield f"{name}\n{'step':>6} {'10 %':>12} {'median':>12} {'90 %':>12}"
        for t, (low, middle, high) in enumerate(steps, 1):
            yield f"{t:>6} {low:>12.6g} {middle:>12.6g} {high:>12.6g}"


def predict(o: commands.Predict, a: Answer) -> Iterable[str]:
    for row in a["predictions"]:
        yield "  ".join(f"{json.dumps(found['token'], ensure_ascii=False)} {found['p']:.3f}" for found in row)


def translate(o: commands.Translate, a: Answer) -> Iterable[str]:
    if "n_best" not in a:
        yield from a["translations"]
        return
    for k, row in enumerate(a["n_best"]):
        yield ("\n" if k else "") + "\n".join(f"{h['nats']:.3f}\t{h['text']}" for h in row)


def tag(o: commands.Tag, a: Answer) -> Iterable[str]:
    for k, (words, tags) in enumerate(zip(a["tokens"], a["tags"])):
        yield ("\n" if k else "") + "\n".join(f"{w}\t{t}" for w, t in zip(words, tags))


def classify(o: commands.Classify, a: Answer) -> Iterable[str]:
    for label, p, given in zip(a["labels"], a["p"], a["inputs"]):
        yield f"{label}\t{p[label]:.4f}\t{given}"


def fill(o: commands.Fill, a: Answer) -> Iterable[str]:
    for found in a["texts"]:
        yield found["filled"]
        for k, candidates in enumerate(found["masks"], 1):
            shown = "  ".join(f"{json.dumps(c['text'], ensure_ascii=False)} {c['p']:.3f}" for c in candidates)
            yield f"  {a['unit']} {k}: {shown}"


def embed(o: commands.Embed, a: Answer) -> Iterable[str]:
    yield f"{a['out']}: {a['count']} vectors of {a['width']} numbers, one a {'line' if a['per'] == 'text' else 'token'}"


def draw(o: commands.Draw, a: Answer) -> Iterable[str]:
    yield f"{a['out']}: {len(a['images'])} image{'s' * (len(a['images']) > 1)}, {a['seconds']:.2f} s"


def export(o: commands.Export, a: Answer) -> Iterable[str]:
    if "images" in a:
        sizes = ", ".join(f"{count:,} {part}" for part, count in a["images"].items())
        yield f"{a['out']}: images ({sizes}) of {a['codes_per_image']} tokens each"
    else:
        yield f"{a['out']}: written"


def import_run(o: commands.Import, a: Answer) -> Iterable[str]:
    yield f"{a['run']}: {a['ngrams']:,} n-grams of at most {a['n']} words over {a['words']:,}"


# --- data cards -------------------------------------------------------------------------------------------------------


def data(o: commands.Data, card: Answer) -> Iterable[str]:
    """The card of any task: what each part holds, and the lines for which it has the figures."""
    yield f"{card['name']}: {', '.join([card['unit'], *_about(card)])}"
    for name, part in card["parts"].items():
        yield f"  {name:<6}" + ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in part.items() if n)
    for name, mean, scale in zip(card.get("columns", []), card.get("mean", []), card.get("scale", [])):
        yield f"  {name}: mean {mean:.6g}, standard deviation {scale:.6g} (training part)"
    if "labels" in card:
        shown = ", ".join(f"{x['label']} {x['train']:.1%}" for x in card["labels"][:12])
        yield f"  labels of train: {shown}{' …' if len(card['labels']) > 12 else ''}"
    if card.get("entropy") is not None:
        xz = f"; xz needs {card['xz']['bits_per_byte']:.3f} bits per byte" if card.get("xz") else ""
        yield f"  entropy of single tokens {card['entropy']:.3f} bits{xz}"
    if "duplicates" in card:
        held_out = "test part" if card["task"] in ("generate", "fill") else "held-out records"
        yield f"  {card['duplicates']:.1%} of the {held_out} also occur in the training part"
    if "unseen" in card:
        yield f"  {_unseen(card['unseen'])} do not occur in the training part"
    if "image" in card:
        yield from (f"  for example: {text}" for text in card.get("examples", []))
        yield from overview(card)
    for note in card["notes"]:
        yield f"  note: {note}"


def _about(card: Answer) -> Iterable[str]:
    if card.get("tokenizer"):
        yield str(card["tokenizer"])
    if "vocab_size" in card:
        joint = card.get("joint")
        source = "" if joint is not False else f"{card['source_vocab_size']:,} source and "
        yield f"{source}{card['vocab_size']:,} {'target ' if joint is False else ''}tokens" + (
            " in one vocabulary" if joint else ""
        )
    if "image" in card:
        rows, columns, channels = card["image"]
        yield f"{columns} x {rows} pixels, {channels} channel{'s' * (channels > 1)}"
    yield f"for --task {card['task']}"
    if "labels" in card:
        yield f"{len(card['labels'])} labels"


def _unseen(unseen: Any) -> str:
    if not isinstance(unseen, dict):
        return f"{unseen:.1%} of the held-out tokens"
    return " and ".join(f"{share:.1%} of the held-out words ({side}s)" for side, share in unseen.items())


def overview(card: Answer) -> Iterable[str]:
    """Where the images are to be seen, or how."""
    if "sheet" not in card:
        yield "  to see them: --sheet FILE.png"
        return
    rows = card["sheet"]["rows"]
    shown = f"{', '.join(rows[:12])}{' …' if len(rows) > 12 else ''}"
    told = f"a row for each label, from the top: {shown}" if rows else "some of them, taken evenly"
    yield f"  {card['sheet']['file']}: {told}"


LINES: dict[type[Options], Callable[[Any, Answer], Iterable[str]]] = {
    commands.Compare: compare,
    commands.Train: train,
    commands.Data: data,
    commands.MakeData: make_data,
    commands.Laws: laws,
    commands.Evaluate: evaluate,
    commands.Score: score,
    commands.Generate: generate,
    commands.Predict: predict,
    commands.Translate: translate,
    commands.Tag: tag,
    commands.Classify: classify,
    commands.Fill: fill,
    commands.Embed: embed,
    commands.Draw: draw,
    commands.Export: export,
    commands.Import: import_run,
}
