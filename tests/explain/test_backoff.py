"""Back-off: equal to counts by hand, and shares that give the probability of the token."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule
from chainrule.api import Run
from chainrule.core import UserError, model_type
from tests.explain.made import batch_of, made_run, trace_of, with_model
from tests.explain.runs import small_run

CORPUS, TEXT = "abracadabra", "cabrazab"
START, V, N = 256, 256, 3
LINE = "3 the cat sat on a mat, not né, and then the dog zat on a hat"
Ngram = tuple[int, ...]


def counted(smoothing: str, n: int = N) -> Run:
    """Return a run whose n-grams were counted in the corpus."""
    chosen = model_type("ngram")
    model: Any = chosen.build(chosen.config.make({"vocab_size": V, "n": n, "smoothing": smoothing}))
    return with_model(model.update(model.summarize(batch_of(CORPUS.encode()))))


def ngrams(text: str) -> list[list[Ngram]]:
    """Return, for each token, the n-grams of 1 to N tokens that end with it; the start token may be the first."""
    ids = (START, *text.encode())
    return [[ids[t + 1 - m : t + 1] for m in range(1, min(N, t + 1) + 1)] for t in range(1, len(ids))]


COUNTS = Counter(gram for row in ngrams(CORPUS) for gram in row)


def witten_bell(gram: Ngram) -> tuple[float, float]:
    """Return the share of the counts of an n-gram, and what its context reserves."""
    many = {g[-1]: c for g, c in COUNTS.items() if g[:-1] == gram[:-1]}
    return many.get(gram[-1], 0) / (sum(many.values()) + len(many)), len(many) / (sum(many.values()) + len(many))


def continuations(gram: Ngram) -> int:
    """Return how often an n-gram counts in Kneser-Ney: below the highest order, by the tokens seen before it."""
    if len(gram) == N or gram[0] == START:
        return COUNTS[gram]
    return sum(g[1:] == gram for g in COUNTS)


def kneser_ney(gram: Ngram) -> tuple[float, float]:
    every = [continuations(g) for g in COUNTS if len(g) == len(gram)]
    n = [every.count(j) for j in range(5)]
    discount = [0.0, 0.5, 1.0, 1.5]
    if all(n[1:4]):
        y = n[1] / (n[1] + 2 * n[2])
        found = [0.0, *(j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3))]
        discount = found if min(found[1:]) > 0 else discount
    many = {g[-1]: continuations(g) for g in COUNTS if g[:-1] == gram[:-1]}
    own, whole = many.get(gram[-1], 0), sum(many.values())
    return (own - discount[min(own, 3)]) / whole, sum(discount[min(c, 3)] for c in many.values()) / whole


@pytest.mark.parametrize("by_hand", [witten_bell, kneser_ney])
def test_contexts_and_what_they_contribute_are_those_of_counts_by_hand(by_hand: Any) -> None:
    found = trace_of(counted(by_hand.__name__), TEXT, "backoff")["backoff"]
    assert found["begin"] == 0 and found["uniform"] == 1 / V and found["interpolated"]
    for token, row in zip(found["tokens"], ngrams(TEXT), strict=True):
        known = [gram for gram in reversed(row) if any(g[:-1] == gram[:-1] for g in COUNTS)]
        assert token["order"] == max((len(gram) for gram in known if gram in COUNTS), default=0)
        p, wanted, through = 1 / V, [], 1.0
        for gram in reversed(known):
            own, reserved = by_hand(gram)
            p = own + reserved * p
            wanted.append((gram, own, reserved, p))
        for one, (gram, own, reserved, p) in zip(token["contexts"], reversed(wanted), strict=True):
            start = gram[0] == START and len(gram) > 1
            assert (one["length"], one["start"], one["seen"]) == (len(gram) - 1, start, gram in COUNTS)
            assert one["text"] == bytes(gram[start:-1]).decode()
            assert one["reserved"] == pytest.approx(reserved) and one["p"] == pytest.approx(p)
            assert one["share"] == pytest.approx(through * own, abs=1e-12)
            through *= reserved
        assert token["share"] == pytest.approx(through / V)


def multiplied(token: dict[str, Any], uniform: float) -> float:
    """Return p of a token: that of the longest context which has seen it, times what the longer ones reserve."""
    p = 1.0
    for one in token["contexts"]:
        if one["seen"]:
            return p * one["p"]
        p *= one["reserved"]
    return p * uniform


SETTINGS: dict[str, dict[str, Any]] = {
    "markov": {}, "kneser_ney": {"n": 4}, "witten_bell": {"n": 4, "smoothing": "witten_bell"},
    "add_k": {"n": 3, "smoothing": "add_k", "k": 0.3}, "pruned": {"n": 4, "prune": (0, 0, 1)}, "unigram": {"n": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_what_contexts_reserve_multiplies_out_to_the_surprise(name: str) -> None:
    run = made_run("markov" if name == "markov" else "ngram", **SETTINGS[name])
    trace = run.explain(LINE, view=["backoff", "surprise"], begin=1, end=60)["trace"]
    found, nats = trace["backoff"], [one["nats"] for one in trace["surprise"]["tokens"]]
    assert len({token["order"] for token in found["tokens"]}) >= (2 if name == "unigram" else 3 - (name == "markov"))
    for token, cost in zip(found["tokens"], nats, strict=True):
        assert multiplied(token, found["uniform"]) == pytest.approx(np.exp(-cost), rel=1e-9)
        shares = [token["share"], *(one["share"] for one in token["contexts"])]
        assert sum(shares) == pytest.approx(np.exp(-cost), rel=1e-9) and min(shares) > -1e-15
        for one, shorter in itertools.pairwise(token["contexts"]):
            assert one["length"] > shorter["length"]
            assert one["p"] >= one["reserved"] * shorter["p"] - 1e-15


def test_maximum_likelihood_reserves_nothing() -> None:
    run = counted("ml", n=2)
    (a, b) = trace_of(run, "ab", "backoff")["backoff"]["tokens"]
    assert [(one["length"], one["start"], one["p"], one["reserved"]) for one in a["contexts"]] == [(1, True, 1.0, 0.0)]
    assert [(one["text"], one["p"], one["share"]) for one in b["contexts"]] == [("a", 0.5, 0.5)] and b["share"] == 0
    (impossible,) = trace_of(run, "aa", "backoff", begin=1)["backoff"]["tokens"]
    assert impossible["order"] == 0 and impossible["contexts"][0]["p"] == 0 == impossible["share"]
    with pytest.raises(UserError, match="no estimate after a context that was never seen"):
        trace_of(run, "za", "backoff")


ARPA = r"""\data\
ngram 1=5
ngram 2=2

\1-grams:
-1.0 <unk>
-99 <s> -0.2
-0.7 </s>
-0.5 cat -0.3
-0.6 sat -0.1

\2-grams:
-0.25 <s> cat
-0.125 cat sat

\end\
"""


def test_imported_tables_are_replaced_by_longer_contexts(tmp_path: Path) -> None:
    (tmp_path / "words.arpa").write_text(ARPA)
    chainrule.import_run(str(tmp_path / "words.arpa"), str(tmp_path / "run"))
    run = chainrule.load(str(tmp_path / "run"), threads=1, precision="fp32")
    found = run.explain("cat sat cat", view="backoff")["trace"]["backoff"]
    assert not found["interpolated"]
    sat, cat = found["tokens"][1:3]
    p = [10**-0.125, 10**-0.6]
    assert [one["p"] for one in sat["contexts"]] == pytest.approx(p) and sat["order"] == 2
    assert [one["share"] for one in sat["contexts"]] == pytest.approx([p[0], 0]) and sat["share"] == 0
    assert [one["text"] for one in sat["contexts"]] == ["cat", ""]
    p = [10 ** (-0.1 - 0.5), 10**-0.5]
    assert [one["p"] for one in cat["contexts"]] == pytest.approx(p) and cat["order"] == 1
    assert [one["share"] for one in cat["contexts"]] == pytest.approx([0, p[0]]) and cat["share"] == 0
    assert cat["contexts"][0]["reserved"] == pytest.approx(10**-0.1)
    (line,) = run.score(["cat sat cat"], unit="stream", tokens=True)["lines"]
    assert [multiplied(token, found["uniform"]) for token in found["tokens"]] == pytest.approx(
        np.exp(line["token_nats"])
    )


def test_bytes_of_a_context_that_are_no_character_are_numbers() -> None:
    found = small_run("ngram").explain("not né", view="backoff", begin=6)["trace"]["backoff"]
    assert [one["text"] for one in found["tokens"][0]["contexts"]] == ["n\\xc3", "\\xc3", ""]
