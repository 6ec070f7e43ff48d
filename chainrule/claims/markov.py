"""Markov: what comes depends on the last token alone, so that the joint probability is a product of table look-ups."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Said, Table, say
from chainrule.claims.held_out import model_input, tokens
from chainrule.claims.runs import Runs
from chainrule.core import Batch, model_type
from chainrule.data.encoding import Part
from chainrule.data.synthetic import make
from chainrule.data.token_texts import token_name
from chainrule.inference.scoring import token_nats
from chainrule.runs.run import Run

TRAIN = "chainrule train DATA --model markov --out runs/markov"
LARGER = (
    "chainrule data make markov --out source --size 1000000\n"
    "chainrule compare source --models ngram:n=2,ngram:n=3,ngram:n=4,ngram:n=5 --budget 60s --out board"
)
ORDERS = range(1, 9)
SCORED, COUNTED, HELD = 400, 200_000, 20_000
"""Tokens whose look-ups are added up; tokens that the ladder counts, and is measured on."""
SMALL, LARGE = 3_000, 100_000
"""Symbols of the source of known entropy that are counted."""
SHUFFLES = 19
TESTED = 20_000
"""Tokens of the test of the Markov assumption."""
SHOWN = 12


@claim(1)
def markov(runs: Runs) -> Finding:
    """Return whether log p of a text is the sum of table look-ups, and what the assumption costs on the data.

    Args:
        runs: the loaded runs.
    """
    run = runs.need("markov", command=TRAIN)
    sample, train = tokens(run, "test", HELD), tokens(run, "train", COUNTED)
    table_WV, score = lookup_table(run), scored(run, sample.ids[:SCORED])
    looked = lookups(table_WV, sample.ids[:SCORED])
    gap = abs(float(looked.sum()) - float(score.sum()))
    equal = gap <= 1e-6 * max(1.0, abs(float(score.sum())))
    data = ladder(train.ids, sample.ids, run.model.vocab_size)
    known = known_source()
    tests = [further_past(train.ids[:TESTED], k) for k in (1, 2, 3)]
    forgets = tests[0].bits > tests[0].most
    best = min(data, key=data.__getitem__)
    pair = two_pasts(train.ids)
    told = [
        say(
            "product", n=len(looked), text=sample.told, sum=f"{looked.sum():.2f}", score=f"{score.sum():.2f}",
            gap=f"{gap:.1g}",
        ),
        say(
            "forgets" if forgets else "forgets_nothing", bits=f"{tests[0].bits:.3g}", chance=f"{tests[0].chance:.3g}",
            shuffles=SHUFFLES,
        ),
        say("ladder_told", two=f"{data[2]:.3g}", best=best, value=f"{data[best]:.3g}", counted=f"{len(train.ids):,}"),
        say(
            "known_told", rate=f"{known.exact[3]:.3g}", lost=f"{known.exact[1] - known.exact[3]:.3g}",
            small=f"{known.small[7] - known.exact[3]:.3g}", large=f"{known.large[7] - known.exact[3]:.3g}",
            few=f"{SMALL:,}", many=f"{LARGE:,}",
        ),
    ]  # fmt: skip
    if pair is not None:
        told.append(_told_pair(run, pair))
    holds = "no" if not equal else "yes" if forgets else "partly"
    given = model_input(run, sample.ids[:SCORED])
    figures = [_factors(run, sample.ids, looked), _ladder_chart(data), _known_chart(known), _tests_table(tests)]
    inspect = {"run": [runs.named(run)], "text": "".join(given.texts[:200])}
    return Finding(holds, told, figures, inspect=inspect, command=LARGER)


# ------------------------------------------------------------------------------------------------------------- product


@torch.no_grad()
def lookup_table(run: Run) -> Tensor:
    """Return log p of each token after each single token, and after the start token: (V + 1) x V.

    Args:
        run: a run whose predictions depend on the last token alone.
    """
    before_W1 = torch.arange(run.model.vocab_size + 1)[:, None]
    return run.model.eval()(before_W1)[0].logits()[:, 0].double().log_softmax(-1)


def lookups(table_WV: Tensor, ids: np.ndarray) -> np.ndarray:
    """Return the entry of each token in the row of the token before it; the first one's is that of the start token.

    Args:
        table_WV: log p.
        ids: the tokens.
    """
    return table_WV[np.concatenate([[table_WV.shape[1]], ids[:-1]]), ids].numpy()


def scored(run: Run, ids: np.ndarray) -> np.ndarray:
    """Return log p of each token as ``chainrule score`` has it, in nats.

    Args:
        run: the run.
        ids: the tokens, read as one record.
    """
    return -token_nats(run.model, part_of(ids), run.compute)[0]


def part_of(ids: np.ndarray) -> Part:
    """Return tokens as a split of one record."""
    none = np.zeros(0, np.int64)
    return Part(ids, np.array([0]), np.array([len(ids)]), "stream", len(ids), len(ids), none, none)


# -------------------------------------------------------------------------------------------------------------- ladder


def ladder(train: np.ndarray, held: np.ndarray, vocab_size: int) -> dict[int, float]:
    """Return bits per token of n-gram models of every n, counted on one text and measured on another.

    Args:
        train: tokens that are counted.
        held: tokens that are predicted.
        vocab_size: number of tokens of the vocabulary.
    """
    chosen = model_type("ngram")
    top = chosen.build(chosen.configure(vocab_size=vocab_size, n=ORDERS[-1]))
    models = top.ladder(top.summarize(_batch(train, vocab_size)), ORDERS)  # type: ignore[attr-defined]
    batch = _batch(held, vocab_size)
    bits = (-float(model(batch.inputs_BT)[0].log_prob(batch.targets_BT).mean()) / math.log(2) for model in models)
    return dict(zip(ORDERS, bits))


def _batch(ids: np.ndarray, start_id: int) -> Batch:
    told = torch.from_numpy(np.concatenate([[start_id], ids]).astype(np.int64))[None]
    return Batch(told[:, :-1], told[:, 1:])


@dataclass(frozen=True)
class KnownSource:
    """Bits per symbol of a Markov source of order 3.

    Args:
        exact: conditional entropy with 0, 1, … symbols visible: what any model with so short a past loses.
        small: of n-gram models, n = 1 … 8, counted on a few symbols.
        large: the same counted on many.
    """

    exact: Sequence[float]
    small: Sequence[float]
    large: Sequence[float]


def known_source() -> KnownSource:
    """Return the ladder on a generated source of known entropy, counted on a small text and on a large one."""
    made = make("markov", "generate", size=LARGE, seed=1)
    train, test = (_symbols(made.files[f"{part}.txt"]) for part in ("train", "test"))
    exact = [entry["value"] for entry in made.truth["memory"]]
    exact += [exact[-1]] * (len(ORDERS) - len(exact))
    small, large = (
        list(ladder(train[:most], test[:HELD], made.truth["vocab_size"]).values()) for most in (SMALL, LARGE)
    )
    return KnownSource(exact, small, large)


def _symbols(text: str | bytes) -> np.ndarray:
    """A stream of letters as numbers, a as 0."""
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - ord("a")


# -------------------------------------------------------------------------------------------------------------- a test


@dataclass(frozen=True)
class Dependence:
    """Information in a token further back about the next one, when the last ``known`` tokens are known.

    Args:
        known: number of tokens that are known.
        bits: estimate of the conditional mutual information.
        chance: mean of the same estimate where the token further back is shuffled among equal recent histories.
        most: the largest of these.
    """

    known: int
    bits: float
    chance: float
    most: float


def further_past(ids: np.ndarray, known: int) -> Dependence:
    """Test whether the next token depends on the token before the last ``known`` ones.

    The token further back is shuffled among all places with the same recent history: under the Markov assumption of
    that order nothing changes but by chance, so that this is an exact test.

    Args:
        ids: the tokens.
        known: order of the assumption.
    """
    windows = np.lib.stride_tricks.sliding_window_view(ids, known + 2)
    further, next_N = windows[:, 0], windows[:, -1]
    recent = np.unique(windows[:, 1:-1], axis=0, return_inverse=True)[1].ravel()
    rng, order = np.random.default_rng(0), np.argsort(recent, kind="stable")
    shuffled = []
    for _ in range(SHUFFLES):
        mixed = further.copy()
        mixed[order] = further[np.lexsort((rng.random(len(recent)), recent))]
        shuffled.append(conditional_information(mixed, recent, next_N))
    bits = conditional_information(further, recent, next_N)
    return Dependence(known, bits, float(np.mean(shuffled)), max(shuffled))


def conditional_information(a: np.ndarray, given: np.ndarray, b: np.ndarray) -> float:
    """Return the mutual information of two variables given a third, in bits, from counts.

    Args:
        a: values of the first.
        given: values of the third.
        b: values of the second.
    """
    entropy = lambda *of: _entropy_of_counts(of)  # noqa: E731
    return entropy(a, given) + entropy(b, given) - entropy(a, b, given) - entropy(given)


def _entropy_of_counts(of: Sequence[np.ndarray]) -> float:
    key = np.zeros(len(of[0]), np.int64)
    for values in of:
        key = key * (int(values.max()) + 1) + values
    counts = np.unique(key, return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


@dataclass(frozen=True)
class Pasts:
    """Two pasts that end in the same token, and how often each token follows.

    Args:
        pasts: the two tokens of each past.
        counts_2V: how often each token follows.
    """

    pasts: tuple[tuple[int, int], tuple[int, int]]
    counts_2V: np.ndarray


def two_pasts(ids: np.ndarray, least: int = 100) -> Pasts | None:
    """Return the two frequent pasts of two tokens that end alike and differ most in what follows; None: there are none.

    Args:
        ids: the tokens.
        least: how often a past must occur.
    """
    size = int(ids.max()) + 1
    pasts, index, many = np.unique(ids[:-2] * size + ids[1:-1], return_inverse=True, return_counts=True)
    frequent = np.argsort(-many, kind="stable")[:200]
    frequent = frequent[many[frequent] >= least]
    counts_PV = np.zeros((len(pasts), size))
    np.add.at(counts_PV, (index, ids[2:]), 1)
    p_PV = counts_PV / many[:, None]
    pairs = [(a, b) for a, b in itertools.combinations(frequent, 2) if pasts[a] % size == pasts[b] % size]
    if not pairs:
        return None
    a, b = max(pairs, key=lambda pair: np.abs(p_PV[pair[0]] - p_PV[pair[1]]).sum())
    told = lambda k: (int(pasts[k] // size), int(pasts[k] % size))  # noqa: E731
    return Pasts((told(a), told(b)), counts_PV[[a, b]])


def _told_pair(run: Run, pair: Pasts) -> Said:
    name = lambda k: token_name(run.processor.tokenizer, int(k))  # noqa: E731
    table_WV, shown = lookup_table(run), {}
    for which, (past, counts_V) in zip("ab", zip(pair.pasts, pair.counts_2V)):
        top = int(counts_V.argmax())
        shown[f"past_{which}"] = repr("".join(map(name, past)))
        shown[f"next_{which}"], shown[f"share_{which}"] = repr(name(top)), f"{counts_V[top] / counts_V.sum():.0%}"
    top = int(table_WV[pair.pasts[0][1]].argmax())
    return say("pair", last=repr(name(pair.pasts[0][1])), next=repr(name(top)), **shown)


# ------------------------------------------------------------------------------------------------------------- figures


def _factors(run: Run, ids: np.ndarray, looked: np.ndarray) -> Table:
    name = lambda k: token_name(run.processor.tokenizer, int(k)).replace(" ", "␣").replace("\n", "↵")  # noqa: E731
    before = [say("start"), *map(name, ids[: SHOWN - 1])]
    sums = looked.cumsum()
    rows = [[before[t], name(ids[t]), float(np.exp(looked[t])), float(sums[t])] for t in range(min(SHOWN, len(looked)))]
    return Table(say("factors"), [say("before_token"), say("next_token"), say("entry"), say("running")], rows)


def _ladder_chart(data: dict[int, float]) -> Chart:
    return Chart(say("ladder"), list(data), {"n-gram": list(data.values())}, say("ladder_x"), say("ladder_y"))


def _known_chart(known: KnownSource) -> Chart:
    series = [
        (say("exact"), known.exact),
        (say("counted", n=f"{SMALL:,}"), known.small),
        (say("counted", n=f"{LARGE:,}"), known.large),
    ]
    return Chart(say("known"), list(ORDERS), series, say("ladder_x"), say("known_y"))


def _tests_table(tests: Sequence[Dependence]) -> Table:
    rows = [[say("order", k=one.known), one.bits, one.chance, one.most] for one in tests]
    return Table(
        say("tests"), [say("order_column"), say("bits_column"), say("chance_column"), say("most_column")], rows
    )
