"""Tasks with known answers: the facts to be remembered are planted, and the score of guessing is known.

| kind        | task      | a record                                       | to be remembered              | guessing |
|-------------|-----------|------------------------------------------------|-------------------------------|----------|
| `copy`      | translate | 1 to 10 of ten symbols, and the same           | all, in order                 | .1 each  |
| `reverse`   | translate | the same read backwards                        | all, the last first           | .1 each  |
| `sort`      | translate | the same in ascending order                    | the count of each symbol      | (truth)  |
| `recall`    | classify  | 8 pairs of key and value, and one of the keys  | 8 pairs                       | 1/8      |
| `parity`    | tag       | bits, each tagged by the parity of all so far  | one bit, changed at each step | 1/2      |
| `adding`    | (none)    | 100 numbers, two of them marked, and their sum | two numbers                   | MSE 1/6  |
| `agreement` | generate  | a sentence; its reflexive agrees with one noun | that noun, not the others     | 1/3      |
| `rainbow`   | draw      | a caption of six attributes, and its image     | the look of each word         | (truth)  |

Sources: adding as in Arjovsky, Shah & Bengio (2016), one marker in each half; recall as in Arora et al., Zoology
(2023), with one question and all values of a record distinct; parity as in Grazzi et al. (2024), tested at a length
never trained on; reverse as in JoeyNMT (Kreutzer et al., 2019); attractors of agreement as in Linzen, Dupoux &
Goldberg (2016). `chainrule.data.rainbow` makes the images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from chainrule.core import UserError
from chainrule.data.split import text_hashes
from chainrule.data.synthetic import Contents, Files, Sizes, facts, json_lines, made_by

SYMBOLS, LONGEST = "0123456789", 10
PAIRS = 8
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
KEYS, VALUES = BASE64[:32], BASE64[32:]
"""One byte each, so that models over bytes read a record in as few steps as possible."""
TRAINED, TESTED = (2, 40), (256, 256)
"""Shortest and longest sequence of bits in train and valid, and in test."""
Draw = Callable[[int, np.random.Generator], list[str]]
"""From a number to that many records, without their answers."""


# -------------------------------------------------------------------------------------------------------- known answers


def alignment(kind: str, source: str) -> list[int]:
    """Return the position in ``source`` of each symbol of the answer, which an explanation must point at.

    Reverse: the anti-diagonal; copy: the diagonal; sort: the stable permutation (equal symbols keep their order; any
    of them would do). Recall and agreement: the one position of the value, or of the antecedent.

    >>> alignment("reverse", "7 1 4"), alignment("sort", "7 1 4")
    ([2, 1, 0], [1, 2, 0])

    Args:
        kind: copy, reverse, sort, recall or agreement.
        source: a record without its answer.

    Raises:
        UserError: a kind whose answer is not part of its source.
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
    raise UserError(f"no alignment for '{kind}': its answer is not part of the source")


def answer(kind: str, source: str) -> str:
    """Return the target of a pair, the value of the key, the tags of bits, or the reflexive of a sentence.

    >>> answer("sort", "7 1 4"), answer("parity", "1 0 1"), answer("recall", "A x B y ? B")
    ('1 4 7', 'odd odd even', 'y')

    Args:
        kind: any kind but adding and rainbow.
        source: a record without its answer.
    """
    words = source.split()
    if kind == "parity":
        totals = itertools.accumulate(map(int, words))
        return " ".join(("even", "odd")[total % 2] for total in totals)
    if kind == "agreement":
        return words[mentions(source)[0]]
    return " ".join(words[place] for place in alignment(kind, source))


def mentions(sentence: str) -> tuple[int, int, list[int]]:
    """Return the positions of the reflexive, of its antecedent, and of the other nouns before it, in words from 0.

    A reflexive is bound in its own clause: by the first noun after the last ``that``, whatever modifies that noun.

    >>> mentions("the king said that the girl near the boys saw herself .")
    (10, 5, [1, 8])

    Args:
        sentence: a sentence of the kind agreement.
    """
    words = sentence.split()
    pronoun = next(place for place, word in enumerate(words) if word in REFLEXIVES)
    clause = max((place for place, word in enumerate(words) if word == "that"), default=-1)
    nouns = [place for place, word in enumerate(words[:pronoun]) if word in NOUNS]
    antecedent = next(place for place in nouns if place > clause)
    return pronoun, antecedent, [place for place in nouns if place != antecedent]


# ---------------------------------------------------------------------------------------------------------------- parts


def divided(draw: Draw, sizes: Sizes, rng: np.random.Generator) -> dict[str, list[str]]:
    """Draw records until every split is full.

    The hash of a record decides its split, so that no held-out record occurs in train, of any seed; held-out records
    are distinct, training records may repeat.

    Args:
        draw: draws a number of records.
        sizes: records of each split.
        rng: random numbers.
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


def _answered(kind: str, header: str, parts: dict[str, list[str]]) -> Files:
    """``train.tsv`` and so on, each record with its answer."""
    first, second = header.split()
    return {
        f"{part}.tsv": f"{first}\t{second}\n" + "".join(f"{record}\t{answer(kind, record)}\n" for record in records)
        for part, records in parts.items()
    }


def _rows(letters: str, span: tuple[int, int], count: int, rng: np.random.Generator) -> list[str]:
    """Sequences of equally likely letters, of equally likely lengths."""
    lengths = rng.integers(span[0], span[1] + 1, count).tolist()
    rows = rng.integers(len(letters), size=(count, span[1])).tolist()
    return [" ".join(letters[i] for i in row[:length]) for row, length in zip(rows, lengths)]


# ---------------------------------------------------------------------------------------------------------------- pairs


def sorted_symbol_guess(length: int) -> list[float]:
    """Return the probability of the likeliest symbol at each position of sorted ones: order statistics of uniform
    symbols.

    P(position j <= s) is that of j or more of ``length`` symbols being <= s, a binomial tail.

    >>> [round(p, 2) for p in sorted_symbol_guess(2)]
    [0.19, 0.19]

    Args:
        length: number of symbols.
    """
    best = []
    for place in range(1, length + 1):
        below = [0.0]
        for share in ((s + 1) / len(SYMBOLS) for s in range(len(SYMBOLS))):
            terms = (math.comb(length, i) * share**i * (1 - share) ** (length - i) for i in range(place, length + 1))
            below.append(sum(terms))
        best.append(max(b - a for a, b in itertools.pairwise(below)))
    return best


def _pair_kind(kind: str, summary: str, place: str, remember: str) -> None:
    """Register a kind of pairs; target t is ``place``."""

    @made_by(kind, "translate", f"pairs: {summary}", 20_000)
    def _(sizes: Sizes, rng: np.random.Generator) -> Contents:
        parts = divided(partial(_rows, SYMBOLS, (1, LONGEST)), sizes, rng)
        lengths = [len(source.split()) for source in parts["test"]]
        whole, symbol = [len(SYMBOLS) ** -n for n in lengths], 1 / len(SYMBOLS)
        how = ("any L symbols: 10^-L", "any symbol: 1/10")
        if kind == "sort":
            whole = [math.factorial(n) / len(SYMBOLS) ** n for n in lengths]
            symbol = sum(sum(sorted_symbol_guess(n)) for n in lengths) / sum(lengths)
            how = ("L distinct symbols: L!/10^L", "the likeliest order statistic at each place")
        chance = {
            "exact_match": (math.fsum(whole) / len(whole), f"knowing the length L only; {how[0]}; mean over test"),
            "symbol_accuracy": (symbol, f"knowing the length L only; {how[1]}"),
        }
        known = facts(f"target t is {place}", remember, chance, symbols=len(SYMBOLS), lengths=[1, LONGEST])
        return _answered(kind, "source target", parts), known


_pair_kind("copy", "the target repeats the source", "source t", "every symbol and its place")
_pair_kind(
    "reverse", "the target is the source reversed", "source L - 1 - t", "every symbol and its place, the last first"
)
_pair_kind(
    "sort",
    "the target is the source in ascending order",
    "source argsort(source)[t], stable",
    "the count of each symbol",
)


# ------------------------------------------------------------------------------------------------------- recall, parity


def _recalls(count: int, rng: np.random.Generator) -> list[str]:
    """Keys, and values, are distinct within a record; any of the pairs is asked for."""
    keys = rng.random((count, len(KEYS))).argsort(1)[:, :PAIRS].tolist()
    values = rng.random((count, len(VALUES))).argsort(1)[:, :PAIRS].tolist()
    asked = rng.integers(PAIRS, size=count).tolist()
    return [
        " ".join(f"{KEYS[k]} {VALUES[v]}" for k, v in zip(ks, vs)) + f" ? {KEYS[ks[a]]}"
        for ks, vs, a in zip(keys, values, asked)
    ]


@made_by("recall", "classify", f"associative recall: {PAIRS} pairs of key and value, and one key to look up", 100_000)
def _recall(sizes: Sizes, rng: np.random.Generator) -> Contents:
    files = _answered("recall", "text label", divided(_recalls, sizes, rng))
    chance = {
        "in_context": (1 / PAIRS, f"one of the {PAIRS} values of the record, which are distinct: 1/{PAIRS}"),
        "blind": (1 / len(VALUES), f"one of the {len(VALUES)} values: 1/{len(VALUES)}"),
    }
    remember = f"all {PAIRS} pairs: the key that is asked for is known at the end only"
    where = "the word after the key that is asked for"
    return files, facts(where, remember, chance, pairs=PAIRS, keys=KEYS, values=VALUES)


@made_by(
    "parity", "tag", f"running parity: trained on {TRAINED[0]} to {TRAINED[1]} bits, tested on {TESTED[0]}", 20_000
)
def _parity(sizes: Sizes, rng: np.random.Generator) -> Contents:
    learned = {part: size for part, size in sizes.items() if part != "test"}
    parts = divided(partial(_rows, "01", TRAINED), learned, rng)
    parts |= divided(partial(_rows, "01", TESTED), {"test": sizes["test"]}, rng)
    how = "bits are fair, so a parity is fair whatever is known of all bits so far but one"
    remember = "one bit, which each 1 turns over; no window that is shorter than the prefix helps"
    lengths = {"train": TRAINED, "valid": TRAINED, "test": TESTED}
    return _answered("parity", "tokens tags", parts), facts(None, remember, {"accuracy": (0.5, how)}, lengths=lengths)


# --------------------------------------------------------------------------------------------------------------- adding


def adding(count: int, rng: np.random.Generator, length: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return the adding problem as arrays.

    Args:
        count: records.
        rng: random numbers.
        length: numbers of a record.

    Returns:
        Inputs count × length × 2: ``[..., 0]`` uniform in [0, 1) in steps of .0001, ``[..., 1]`` 1 at one position of
        each
        half and else 0. Targets: the sum of the two marked values of each record.
    """
    half, rows = length // 2, np.arange(count)
    inputs = np.zeros((count, length, 2))
    inputs[..., 0] = np.round(rng.integers(10_000, size=(count, length)) / 10_000, 4)
    marks = np.stack([rng.integers(half, size=count), rng.integers(half, length, size=count)], 1)
    inputs[rows[:, None], marks, 1] = 1
    return inputs, inputs[rows[:, None], marks, 0].sum(1)


@made_by(
    "adding", "", "the sum of the two marked numbers of 100 (arrays or JSON lines; no command trains on it)", 10_000
)
def _adding(sizes: Sizes, rng: np.random.Generator) -> Contents:
    files = {}
    for part, size in sizes.items():
        inputs, targets = adding(size, rng)
        records = [
            {"values": x[:, 0].tolist(), "marks": np.flatnonzero(x[:, 1]).tolist(), "target": round(y, 4)}
            for x, y in zip(inputs, targets.tolist())
        ]
        files[f"{part}.jsonl"] = json_lines(records)
    chance = {"mse": (1 / 6, "predict 1, the mean: the variance of two uniform numbers, 2/12")}
    note = "no command trains on a number for a whole sequence yet; use the arrays of adding() in Python"
    marks = "positions from 0, one in each half"
    return files, facts("the two marks", "the first of two marked numbers", chance, length=100, marks=marks, note=note)


# ------------------------------------------------------------------------------------------------------------ agreement

AGREEING = {
    "himself": "boy man king uncle father brother son prince actor waiter monk wizard",
    "herself": "girl woman queen aunt mother sister daughter princess actress waitress nun witch",
    "themselves": "boys men kings uncles friends brothers girls women queens aunts children nuns",
}
REFLEXIVES = tuple(AGREEING)
NOUNS = {noun: reflexive for reflexive, nouns in AGREEING.items() for noun in nouns.split()}
"""The reflexive that agrees with each noun; every reflexive has as many nouns."""
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


@made_by(
    "agreement", "generate", "sentences whose reflexive pronoun agrees with an earlier noun (--unit lines)", 20_000
)
def _agreement(sizes: Sizes, rng: np.random.Generator) -> Contents:
    parts = divided(_sentences, sizes, rng)
    files = {f"{part}.txt": "".join(f"{line}\n" for line in lines) for part, lines in parts.items()}
    found = [mentions(line) for line in parts["test"]]
    files["answers.jsonl"] = json_lines(
        {"line": n, "pronoun": p, "antecedent": a, "distractors": d, "answer": answer("agreement", line)}
        for n, (line, (p, a, d)) in enumerate(zip(parts["test"], found), 1)
    )
    bare = sum(not any(place > a for place in d) for _, a, d in found) / len(found)
    first = sum(not any(place < a for place in d) for _, a, d in found) / len(found)
    share = "where it is another noun, that agrees by chance, 1/3; share of test sentences where it is the antecedent: "
    chance = {
        "accuracy": (1 / 3, "the three reflexives are equally likely"),
        "nearest_noun": ((1 + 2 * bare) / 3, f"the noun before the reflexive; {share}{bare:.4f}"),
        "first_noun": ((1 + 2 * first) / 3, f"the first noun of the sentence; {share}{first:.4f}"),
    }
    distances = [pronoun - antecedent for pronoun, antecedent, _ in found]
    return files, facts(
        "the antecedent: the first noun after the last 'that'",
        "number and gender of the subject, past the nouns that modify it",
        chance,
        distance=[min(distances), max(distances)],
        reflexives=REFLEXIVES,
        answers="answers.jsonl: for each line of test.txt, positions in words from 0",
        unit="lines",
    )
