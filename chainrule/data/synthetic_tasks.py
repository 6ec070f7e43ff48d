"""Tasks with known answers: what a model must remember is planted, and what guessing reaches is known in closed form.

| kind        | task      | a record                                          | to be remembered              | guessing    |
|-------------|-----------|---------------------------------------------------|-------------------------------|-------------|
| `copy`      | translate | 1 to 10 of ten symbols, and the same              | all, in order                 | .1 a symbol |
| `reverse`   | translate | the same read backwards                           | all, the last first           | .1 a symbol |
| `sort`      | translate | the same in ascending order                       | how often each symbol came    | see truth   |
| `recall`    | classify  | 8 pairs of a key and a value, and one of the keys | 8 pairs                       | 1/8         |
| `parity`    | tag       | bits, each tagged by the parity of all so far     | one bit, changed at each step | 1/2         |
| `adding`    | (none)    | 100 numbers, two of them marked, and their sum    | two numbers                   | MSE 1/6     |
| `agreement` | generate  | a sentence whose reflexive agrees with a far noun | that noun, not the others     | 1/3         |
| `rainbow`   | draw      | a caption of six attributes, and its picture      | what each word looks like     | see truth   |

Sources: adding as in Arjovsky, Shah & Bengio (2016), one marker in each half; recall as in Arora et al., Zoology (2023), with
one question and all values of a record distinct; parity as in Grazzi et al. (2024), tested at a length never trained on;
reverse as in JoeyNMT (Kreutzer et al., 2019); attractors of agreement as in Linzen, Dupoux & Goldberg (2016).

``copy`` is also a source of ``chainrule.data.synthetic``, a stream for ``--task generate``: a kind is told by its name and its
task, and the stream is meant where no task is named. A further kind is one function with ``@made_by(kind, task, ...)``.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import UserError, nearest
from chainrule.data import rainbow
from chainrule.data.split import text_hashes
from chainrule.data.synthetic import generators, summaries

LEAST = 100
"""Fewest records of training that a task is made with."""
SYMBOLS, LONGEST = "0123456789", 10
PAIRS = 8
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
KEYS, VALUES = BASE64[:32], BASE64[32:]
"""One byte each, so that models over bytes read a record in as few steps as may be."""
TRAINED, TESTED = (2, 40), (256, 256)
"""Shortest and longest sequence of bits in train and valid, and in test."""


@dataclass(frozen=True)
class Made:
    """The files of a task by name, and ``truth``: what is known about it, as in ``truth.json``."""

    files: Mapping[str, str | bytes]
    truth: dict[str, Any]


Sizes = dict[str, int]
Contents = tuple[Mapping[str, str | bytes], dict[str, Any]]
"""Files by name, and what is known."""
Maker = Callable[[Sizes, np.random.Generator], Contents]
Draw = Callable[[int, np.random.Generator], list[str]]
"""So many records, before their answers."""


@dataclass(frozen=True)
class Kind:
    summary: str
    size: int
    """Training records where nobody says how many."""
    make: Maker


tasks: dict[tuple[str, str], Kind] = {}
"""By name and task; the task is "" where no command trains on it yet."""


def made_by(kind: str, task: str, summary: str, size: int) -> Callable[[Maker], Maker]:
    """Decorator: announce a function from (records in each part, random numbers) to (files, what is known)."""

    def announce(function: Maker) -> Maker:
        tasks[kind, task] = Kind(summary, size, function)
        return function

    return announce


def kinds() -> dict[tuple[str, str], str]:
    """One line about all that can be made, by (kind, task): the sources first, so that ``copy`` alone means the stream."""
    sources = {(kind, "generate"): summaries.get(kind, "") for kind in generators}
    return sources | {key: found.summary for key, found in tasks.items()}


def task_of(kind: str, task: str | None = None) -> str:
    """The task that a kind is made for; ``task`` says which where a kind has two. Raises UserError."""
    known = [t for name, t in kinds() if name == kind]
    if not known:
        raise UserError(f"data make {kind}: no such kind; {nearest(kind, {name for name, _ in kinds()})}")
    if task is not None and task not in known:
        allowed = " or ".join(f"--task {t}" if t else "no task yet" for t in known)
        raise UserError(f"data make {kind} --task {task}: {kind} is for {allowed}")
    return known[0] if task is None else task


def make(kind: str, task: str | None = None, *, size: int | None = None, seed: int = 42) -> Made:
    """``size`` records for training, a twentieth of that for validation and as much for the test: a pure function of all four.

    Raises UserError: no such task, or fewer than ``LEAST`` records.
    """
    known = [t for name, t in tasks if name == kind]
    if task not in (None, *known) or not known:
        raise UserError(f"unknown task '{kind}': {nearest(kind, {name for name, _ in tasks})}")
    wanted = known[0] if task is None else task
    found = tasks[kind, wanted]
    size = found.size if size is None else size
    if size < LEAST:
        raise UserError(f"--size {size}: a task needs at least {LEAST} records")
    sizes: Sizes = {"train": size, "valid": size // 20, "test": size // 20}
    files, facts = found.make(sizes, np.random.default_rng([seed, zlib.crc32(f"{kind} {wanted}".encode())]))
    told = {"format": 1, "kind": kind, "task": wanted or None, "size": size, "seed": seed, "records": sizes}
    return Made(files, told | {"description": found.summary} | facts)


def write(made: Made, directory: Path) -> None:
    """The files of a task and ``truth.json`` in ``directory``, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in made.files.items():
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (directory / "truth.json").write_text(json.dumps(made.truth, indent=1) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ known answers


def alignment(kind: str, source: str) -> list[int]:
    """For each symbol of the answer, the position in ``source`` where it stands: what an explanation must point at.

    Reverse: the anti-diagonal; copy: the diagonal; sort: the stable permutation (equal symbols keep their order; any of them
    would do). Recall and agreement: the one place of the value, or of the antecedent.

    Raises UserError for a kind whose answer stands nowhere in its source.
    """
    words = source.split()
    places = list(range(len(words)))
    if kind == "copy":
        return places
    if kind == "reverse":
        return places[::-1]
    if kind == "sort":
        return sorted(places, key=words.__getitem__)
    if kind == "recall":
        return [words.index(words[-1]) + 1]
    if kind == "agreement":
        return [mentions(source)[1]]
    raise UserError(f"no alignment for '{kind}': its answer does not stand in the source")


def answer(kind: str, source: str) -> str:
    """The target of a pair, the value that was asked for, the tags of bits, or the reflexive of a sentence."""
    words = source.split()
    if kind == "parity":
        totals = itertools.accumulate(map(int, words))
        return " ".join(("even", "odd")[total % 2] for total in totals)
    if kind == "agreement":
        return words[mentions(source)[0]]
    return " ".join(words[place] for place in alignment(kind, source))


def mentions(sentence: str) -> tuple[int, int, list[int]]:
    """(position of the reflexive, of its antecedent, of the other nouns before it), in words counted from 0.

    A reflexive is bound in its own clause: by the first noun after the last ``that``, whatever modifies that noun.
    """
    words = sentence.split()
    pronoun = next(place for place, word in enumerate(words) if word in REFLEXIVES)
    clause = max((place for place, word in enumerate(words) if word == "that"), default=-1)
    nouns = [place for place, word in enumerate(words[:pronoun]) if word in NOUNS]
    antecedent = next(place for place in nouns if place > clause)
    return pronoun, antecedent, [place for place in nouns if place != antecedent]


# -------------------------------------------------------------------------------------------------------------------- parts


def divided(draw: Draw, sizes: Sizes, rng: np.random.Generator) -> dict[str, list[str]]:
    """Draws until every part is full. The hash of a record decides its part, so that nothing held out stands in train, of
    whatever seed; held-out records are distinct, training records may repeat.
    """
    parts: dict[str, list[str]] = {part: [] for part in sizes}
    held: set[str] = set()
    while any(len(parts[part]) < size for part, size in sizes.items()):
        texts = draw(4_096, rng)
        for text, number in zip(texts, (text_hashes(texts) % np.uint64(22)).tolist()):
            part = {0: "test", 1: "valid"}.get(number, "train")
            if text not in held and len(parts.get(part, ())) < sizes.get(part, 0):
                parts[part].append(text)
                if part != "train":
                    held.add(text)
    return parts


def _seen(parts: dict[str, list[str]]) -> dict[str, int]:
    """How many held-out records stand in the training part, counted."""
    train = set(parts["train"])
    return {f"{part}_in_train": sum(text in train for text in parts[part]) for part in ("valid", "test")}


def _table(header: str, rows: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{a}\t{b}\n" for a, b in [tuple(header.split()), *rows])


def _answered(kind: str, header: str, parts: dict[str, list[str]]) -> Contents:
    """``train.tsv`` and so on with each record's answer beside it, and how many held-out records training has seen."""
    files = {f"{part}.tsv": _table(header, [(x, answer(kind, x)) for x in rows]) for part, rows in parts.items()}
    return files, _seen(parts)


def _known(value: float, how: str) -> dict[str, Any]:
    return {"value": value, "how": how}


# -------------------------------------------------------------------------------------------------------------------- pairs


def _symbols(count: int, rng: np.random.Generator) -> list[str]:
    """Lengths from 1 to LONGEST are equally likely, and so are the symbols."""
    lengths = rng.integers(1, LONGEST + 1, count).tolist()
    rows = rng.integers(len(SYMBOLS), size=(count, LONGEST)).tolist()
    return [" ".join(SYMBOLS[i] for i in row[:length]) for row, length in zip(rows, lengths)]


def sorted_symbol_guess(length: int) -> list[float]:
    """The probability of the likeliest symbol at each place of ``length`` sorted ones: order statistics of uniform symbols.

    P(place j <= s) is that of j or more of ``length`` symbols being <= s, a binomial tail.
    """
    best = []
    for place in range(1, length + 1):
        below = [0.0]
        for share in ((s + 1) / len(SYMBOLS) for s in range(len(SYMBOLS))):
            terms = (math.comb(length, i) * share**i * (1 - share) ** (length - i) for i in range(place, length + 1))
            below.append(sum(terms))
        best.append(max(b - a for a, b in itertools.pairwise(below)))
    return best


def _pairs(kind: str, places: str, remember: str, sizes: Sizes, rng: np.random.Generator) -> Contents:
    parts = divided(_symbols, sizes, rng)
    files, facts = _answered(kind, "source target", parts)
    lengths = [len(source.split()) for source in parts["test"]]
    if kind == "sort":
        whole = [math.factorial(n) / len(SYMBOLS) ** n for n in lengths]
        symbol = sum(sum(sorted_symbol_guess(n)) for n in lengths) / sum(lengths)
        how = ("L distinct symbols: L!/10^L", "the likeliest order statistic at each place")
    else:
        whole, symbol = [len(SYMBOLS) ** -n for n in lengths], 1 / len(SYMBOLS)
        how = ("any L symbols: 10^-L", "any symbol: 1/10")
    chance = {
        "exact_match": _known(math.fsum(whole) / len(whole), f"knowing the length L only; {how[0]}; mean over test"),
        "symbol_accuracy": _known(symbol, f"knowing the length L only; {how[1]}"),
    }
    known = {"symbols": len(SYMBOLS), "lengths": [1, LONGEST], "alignment": places, "remember": remember}
    return files, known | {"chance": chance} | facts


made_by("copy", "translate", "pairs: the source again", 20_000)(
    partial(_pairs, "copy", "target t is source t", "every symbol and its place")
)
made_by("reverse", "translate", "pairs: the source read backwards", 20_000)(
    partial(_pairs, "reverse", "target t is source L - 1 - t", "every symbol and its place; the last is needed first")
)
made_by("sort", "translate", "pairs: the symbols of the source in ascending order", 20_000)(
    partial(_pairs, "sort", "target t is source argsort(source)[t], stable", "how often each symbol came, no order")
)


# ----------------------------------------------------------------------------------------------------------- recall, parity


def _recalls(count: int, rng: np.random.Generator) -> list[str]:
    """Keys, and values, are distinct within a record; any of the pairs is asked for."""
    keys = rng.random((count, len(KEYS))).argsort(1)[:, :PAIRS].tolist()
    values = rng.random((count, len(VALUES))).argsort(1)[:, :PAIRS].tolist()
    asked = rng.integers(PAIRS, size=count).tolist()
    return [
        " ".join(f"{KEYS[k]} {VALUES[v]}" for k, v in zip(ks, vs)) + f" ? {KEYS[ks[a]]}"
        for ks, vs, a in zip(keys, values, asked)
    ]


@made_by("recall", "classify", f"associative recall: {PAIRS} pairs of key and value, and one key to give the value of", 100_000)  # fmt: skip
def _recall(sizes: Sizes, rng: np.random.Generator) -> Contents:
    files, facts = _answered("recall", "text label", divided(_recalls, sizes, rng))
    chance = {
        "in_context": _known(1 / PAIRS, f"one of the {PAIRS} values of the record, which are distinct: 1/{PAIRS}"),
        "blind": _known(1 / len(VALUES), f"one of the {len(VALUES)} values: 1/{len(VALUES)}"),
    }
    known = {"pairs": PAIRS, "keys": KEYS, "values": VALUES, "alignment": "the word after the key that is asked for"}
    known |= {"remember": f"all {PAIRS} pairs: which is asked for is known at the end only"}
    return files, known | {"chance": chance} | facts


def _bits(span: tuple[int, int], count: int, rng: np.random.Generator) -> list[str]:
    lengths = rng.integers(span[0], span[1] + 1, count).tolist()
    rows = rng.integers(2, size=(count, span[1])).tolist()
    return [" ".join(map(str, row[:length])) for row, length in zip(rows, lengths)]


@made_by("parity", "tag", f"running parity of bits: trained on {TRAINED[0]} to {TRAINED[1]}, tested at {TESTED[0]}", 20_000)  # fmt: skip
def _parity(sizes: Sizes, rng: np.random.Generator) -> Contents:
    held = {"test": sizes["test"]}
    learned = {part: size for part, size in sizes.items() if part not in held}
    parts = divided(partial(_bits, TRAINED), learned, rng) | divided(partial(_bits, TESTED), held, rng)
    files, facts = _answered("parity", "tokens tags", parts)
    how = "bits are fair, so a parity is fair whatever is known of all bits so far but one"
    known = {"lengths": {"train": TRAINED, "valid": TRAINED, "test": TESTED}, "alignment": None}
    known |= {"remember": "one bit, which each 1 turns over; no window that is shorter than the prefix helps"}
    return files, known | {"chance": {"accuracy": _known(0.5, how)}} | facts


# ------------------------------------------------------------------------------------------------------------------- adding


def adding(count: int, rng: np.random.Generator, length: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """The adding problem as arrays: (inputs count x length x 2, targets count).

    ``inputs[..., 0]`` are uniform in [0, 1) in steps of .0001, ``inputs[..., 1]`` is 1 at one place of each half and else 0; a
    target is the sum of the two values marked.
    """
    half, rows = length // 2, np.arange(count)
    inputs = np.zeros((count, length, 2))
    inputs[..., 0] = np.round(rng.integers(10_000, size=(count, length)) / 10_000, 4)
    marks = np.stack([rng.integers(half, size=count), rng.integers(half, length, size=count)], 1)
    inputs[rows[:, None], marks, 1] = 1
    return inputs, inputs[rows[:, None], marks, 0].sum(1)


@made_by("adding", "", "the sum of the two marked numbers of 100 (arrays or JSON lines; no command trains on it yet)", 10_000)  # fmt: skip
def _adding(sizes: Sizes, rng: np.random.Generator) -> Contents:
    files = {}
    for part, size in sizes.items():
        inputs, targets = adding(size, rng)
        files[f"{part}.jsonl"] = "".join(
            json.dumps({"values": x[:, 0].tolist(), "marks": np.flatnonzero(x[:, 1]).tolist(), "target": round(y, 4)})
            + "\n"
            for x, y in zip(inputs, targets.tolist())
        )
    chance = {"mse": _known(1 / 6, "predict 1, the mean: the variance of two uniform numbers, 2/12")}
    known = {
        "length": 100,
        "marks": "positions from 0, one in each half",
        "remember": "the first of two marked numbers",
    }
    known |= {
        "note": "a number for a whole sequence is no task of any verb yet; train on the arrays of adding() in Python"
    }
    return files, known | {"alignment": "the two marks", "chance": chance}


# ------------------------------------------------------------------------------------------------------------------ rainbow


@made_by("rainbow", "draw", f"captioned images of {len(rainbow.COMBINATIONS):,} shapes, 7 in 10 of them seen", 6451)
def _rainbow(sizes: Sizes, rng: np.random.Generator) -> Contents:
    combinations = rainbow.COMBINATIONS
    if sum(sizes.values()) > len(combinations):
        raise UserError(
            f"--size {sizes['train']}: there are {len(combinations):,} combinations, of which some are held out"
        )
    chosen = rng.permutation(len(combinations))[: sum(sizes.values())].tolist()
    parts = [part for part, size in sizes.items() for _ in range(size)]
    lines = [
        json.dumps({"i": i, "text": rainbow.caption(*combinations[c]), "split": part}) + "\n"
        for i, (c, part) in enumerate(zip(chosen, parts))
    ]
    content = io.BytesIO()
    np.savez_compressed(content, images=np.stack([rainbow.picture(*combinations[c]) for c in chosen]))
    share = nearest_caption(
        [combinations[c] for c in chosen[: sizes["train"]]], [combinations[c] for c in chosen[-sizes["test"] :]]
    )
    how = "the picture of the training caption that shares most attributes: share of test pictures that are the same, pixel by pixel"
    known = {
        "combinations": len(combinations),
        "alignment": None,
        "remember": "what each word looks like, whatever stands beside it",
    }
    return {"captions.jsonl": "".join(lines), "images32.npz": content.getvalue()}, known | {
        "chance": {"exact_match": _known(share, how)}
    }


def nearest_caption(train: Sequence[tuple[str, ...]], test: Sequence[tuple[str, ...]]) -> float:
    """How often the picture of the nearest training combination is the picture that was asked for."""
    numbers = [{value: k for k, value in enumerate(dict.fromkeys(column))} for column in zip(*rainbow.COMBINATIONS)]
    coded = [np.array([[n[v] for n, v in zip(numbers, row)] for row in rows]) for rows in (train, test)]
    nearest_T = [int((coded[0] == row).sum(1).argmax()) for row in coded[1]]
    same = [np.array_equal(rainbow.picture(*train[k]), rainbow.picture(*row)) for k, row in zip(nearest_T, test)]
    return float(np.mean(same))


# ---------------------------------------------------------------------------------------------------------------- agreement

AGREEING = {
    "himself": "boy man king uncle father brother son prince actor waiter monk wizard",
    "herself": "girl woman queen aunt mother sister daughter princess actress waitress nun witch",
    "themselves": "boys men kings uncles friends brothers girls women queens aunts children nuns",
}
REFLEXIVES = tuple(AGREEING)
NOUNS = {noun: reflexive for reflexive, nouns in AGREEING.items() for noun in nouns.split()}
"""Which reflexive agrees with a noun: as many nouns for each."""
VERBS = ("saw", "blamed", "praised", "helped", "hurt", "admired", "defended", "taught", "watched", "called", "followed")
SPOKE, NEAR = ("said", "knew", "thought", "wrote"), ("near", "behind", "beside", "with")
TAILS = (".", "again .", "twice .")
"""No word but a noun has number or gender, so that nothing nearer gives the answer away."""


def _sentences(count: int, rng: np.random.Generator) -> list[str]:
    """``[the N spoke that]* the N [near the N | who saw the N | who the N saw]* saw REFLEXIVE``."""
    return [_sentence(iter(row)) for row in rng.random((count, 32)).tolist()]


def _sentence(lots: Iterator[float]) -> str:
    def one(choices: Sequence[str]) -> str:
        return choices[int(next(lots) * len(choices))]

    nouns = tuple(NOUNS)
    speakers, modifiers = int(next(lots) * 3), int(next(lots) * 5)
    told = [f"the {one(nouns)} {one(SPOKE)} that" for _ in range(speakers)]
    subject = one(nouns)
    told.append(f"the {subject}")
    for _ in range(modifiers):
        form = one(("{near} the {noun}", "who {verb} the {noun}", "who the {noun} {verb}"))
        told.append(form.format(near=one(NEAR), verb=one(VERBS), noun=one(nouns)))
    return " ".join([*told, one(VERBS), NOUNS[subject], one(TAILS)])


@made_by("agreement", "generate", "sentences whose reflexive agrees with a noun some way back (--unit lines)", 20_000)
def _agreement(sizes: Sizes, rng: np.random.Generator) -> Contents:
    parts = divided(_sentences, sizes, rng)
    files = {f"{part}.txt": "".join(f"{line}\n" for line in lines) for part, lines in parts.items()}
    found = [mentions(line) for line in parts["test"]]
    files["answers.jsonl"] = "".join(
        json.dumps({"line": n, "pronoun": p, "antecedent": a, "distractors": d, "answer": answer("agreement", line)})
        + "\n"
        for n, (line, (p, a, d)) in enumerate(zip(parts["test"], found), 1)
    )
    bare = sum(not any(place > a for place in d) for _, a, d in found) / len(found)
    first = sum(not any(place < a for place in d) for _, a, d in found) / len(found)
    share = "where it is another noun, that agrees by chance, 1/3; share of test sentences where it is the antecedent: "
    chance = {
        "accuracy": _known(1 / 3, "the three reflexives are equally likely"),
        "nearest_noun": _known((1 + 2 * bare) / 3, f"the noun before the reflexive; {share}{bare:.4f}"),
        "first_noun": _known((1 + 2 * first) / 3, f"the first noun of the sentence; {share}{first:.4f}"),
    }
    known = {"distance": [min(p - a for p, a, _ in found), max(p - a for p, a, _ in found)], "reflexives": REFLEXIVES}
    known |= {"answers": "answers.jsonl: for each line of test.txt, positions in words from 0"}
    known |= {"alignment": "the antecedent: the first noun after the last 'that'"}
    known |= {"remember": "number and gender of the subject, past the nouns that modify it"}
    return files, known | {"unit": "lines", "chance": chance} | _seen(parts)
