"""Latent autoregression: a hidden state carries the past, and the present depends on that state alone."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chainrule.claims.claim import claim
from chainrule.claims.finding import Finding, Holds, Said, Strip, Table, say
from chainrule.claims.held_out import asked, held_out, tokens
from chainrule.claims.runs import Runs
from chainrule.core import Batch, HiddenStates, model_type
from chainrule.data import SymbolTokenizer, plays
from chainrule.explanation.belief import BeliefFacts, belief
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.settings import RunConfig

TRAIN = "chainrule train DATA --model hmm --tokenizer char --set model.states=2 --budget 60s --out runs/hmm"
ANY = ("hmm", "markov", "ngram", "rnn", "lstm", "gru", "gpt", "window")
LETTERS = "abcdefghijklmnopqrstuvwxyz "
VOWELS = "aeiou"
READ, ROW, STEPS, SEEDS = 16_000, 40, 60, (1, 2, 3)
"""Letters that are read, in rows of so many; iterations of expectation-maximisation; starts."""
SHORT, SENTENCE, STRETCH = 10, 120, 256
"""Letters whose hidden paths are enumerated, letters of the strip, and tokens of a loaded HMM."""
EXACT, CLOSE = 1e-9, 1e-4
"""Largest differences that are rounding, in float64 and in float32."""
PURE = 0.9


@claim(2)
def latent(runs: Runs) -> Finding:
    """Return whether the belief of a hidden Markov model is what enumeration gives, and whether two states find vowels
    and consonants.

    Args:
        runs: the loaded runs.
    """
    run = runs.need(*ANY, command=TRAIN)
    letters, source = _letters(run)
    found = [fit(letters, seed) for seed in SEEDS]
    shuffled = fit(np.random.default_rng(0).permutation(letters), SEEDS[0])
    best = max(found, key=lambda one: one.nats)
    beliefs, exact = filtered(best.model, letters[:SENTENCE]), enumerated(best.model, letters[:SHORT])
    gap = float(np.abs(beliefs.predicted[:SHORT] - exact).max())
    off = float(np.abs(beliefs.predicted.sum(1) - 1).max())
    told = [
        say(
            "belief" if gap <= EXACT else "belief_differs", letters=SHORT, paths=2**SHORT, gap=f"{gap:.1g}",
            off=f"{off:.1g}", sentence=SENTENCE,
        ),
        say("recursion"),
        say(
            "vowels" if best.purity > PURE else "no_vowels", seeds=len(SEEDS), text=source, read=f"{len(letters):,}",
            purity=f"{best.purity:.1%}", letters=" ".join(best.vowel_letters), shuffled=f"{shuffled.purity:.1%}",
            majority=f"{majority(letters):.1%}", moves=f"{best.moves:.2f}",
        ),
    ]  # fmt: skip
    figures: list[Strip | Table] = [_strip(letters, beliefs, best), _emissions(best), _starts(found, shuffled)]
    inspect: dict[str, Any] = {}
    loaded = [one for one in runs.of("hmm") if isinstance(one.model, HiddenStates)]
    if loaded:
        hmm = loaded[0]
        facts, differs = loaded_belief(hmm)
        told.append(_told_loaded(runs.named(hmm), facts, differs))
        inspect = {"run": [runs.named(hmm)], "text": "".join(held_out(hmm, 160).texts)}
        gap = max(gap, 0.0 if differs <= CLOSE else differs)
    return Finding(verdict(gap, best.purity, shuffled.purity), told, figures, inspect=inspect, command=TRAIN)


def verdict(gap: float, purity: float, shuffled: float) -> Holds:
    """Return ``yes`` where the belief is exact and the states are vowels and consonants, ``partly`` where only the
    belief is what it should be.

    Args:
        gap: largest difference of the belief from enumeration.
        purity: share of the letters whose state tells whether they are vowels.
        shuffled: the same, learnt from the same letters in random order.
    """
    if gap > EXACT:
        return "no"
    return "yes" if purity > PURE and purity > shuffled else "partly"


# ------------------------------------------------------------------------------------------------------------- letters


def _letters(run: Run) -> tuple[np.ndarray, Said]:
    """Letters a to z and spaces of the data of a run, and their source; those of the bundled plays where the data are
    not such letters."""
    if not isinstance(run.processor.tokenizer, SymbolTokenizer):
        sample = tokens(run, "train", 4 * READ)
        text = run.processor.tokenizer.decode(sample.ids).decode(errors="replace")
        if len(found := as_letters(text)) >= READ and len(found) > 0.8 * len(text):
            return found[:READ], sample.told
    task: Any = find_task("generate")
    dataset = task.read(RunConfig(data=str(plays()), model_type="hmm"))
    processor = task.fit_processor(dataset, None, RunConfig(data=str(plays()), model_type="hmm"))
    part = task.encode(dataset, processor).parts["valid"]
    return as_letters(processor.tokenizer.decode(part.ids[: 4 * READ]).decode(errors="replace"))[:READ], say("plays")


def as_letters(text: str) -> np.ndarray:
    """Return a text in lower case as numbers of letters a to z, everything between them as one space.

    Args:
        text: the text.

    >>> as_letters("A, b!").tolist()
    [0, 26, 1, 26]
    """
    return np.array([LETTERS.index(letter) for letter in re.sub("[^a-z]+", " ", text.lower())], np.int64)


def majority(letters: np.ndarray) -> float:
    """Return the share of the letters that are vowels, or not, whichever is larger: one state for all reaches it."""
    share = float(_vowel()[letters[letters < 26]].mean())
    return max(share, 1 - share)


def _vowel() -> np.ndarray:
    return np.array([letter in VOWELS for letter in LETTERS])


# --------------------------------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class Fitted:
    """A hidden Markov model of two states over letters.

    Args:
        model: the model.
        nats: mean log p of a letter in training.
        vowel_state: the state that emits most vowels.
        vowel_letters: the letters that are more probable in that state, a space as ␣.
        purity: share of the letters of the text whose more probable state tells whether they are vowels.
        moves: mean probability of moving to the other state.
    """

    model: Any
    nats: float
    vowel_state: int
    vowel_letters: Sequence[str]
    purity: float
    moves: float


def fit(letters: np.ndarray, seed: int) -> Fitted:
    """Train a hidden Markov model of two states by expectation-maximisation.

    Args:
        letters: numbers of letters.
        seed: seed of the start.
    """
    chosen = model_type("hmm")
    model: Any = chosen.build(chosen.configure(vocab_size=len(LETTERS), states=2)).double()
    rows_BT = torch.from_numpy(letters[: len(letters) // ROW * ROW].reshape(-1, ROW))
    batch = Batch(torch.cat([torch.full((len(rows_BT), 1), model.start_id), rows_BT[:, :-1]], 1), rows_BT)
    model.initialise(batch, seed)
    for _ in range(STEPS):
        found = model.summarize(batch)
        model.update(found)
    return _described(model, letters, float(found.nats) / rows_BT.numel())


def _described(model: Any, letters: np.ndarray, nats: float) -> Fitted:
    p_NV, step_NN = model.log_emissions().exp().detach().numpy(), model.tables()["transmat"].numpy()
    vowel, seen = _vowel(), letters[letters < 26]
    states = []
    for state in range(2):  # which of the two is the state of the vowels
        there = p_NV[state] > p_NV[1 - state]
        states.append(float((there[seen] == vowel[seen]).mean()))
    state = int(np.argmax(states))
    there = [LETTERS[k].replace(" ", "␣") for k in np.unique(letters) if p_NV[state, k] > p_NV[1 - state, k]]
    return Fitted(model, nats, state, there, states[state], float((step_NN[0, 1] + step_NN[1, 0]) / 2))


# -------------------------------------------------------------------------------------------------------------- belief


@dataclass(frozen=True)
class FilteredBelief:
    """Distributions over the hidden states of each letter, T x N.

    Args:
        predicted: before the letter was seen: h_t = p(z_t | x_<t).
        after: after it was seen: p(z_t | x_<=t).
    """

    predicted: np.ndarray
    after: np.ndarray


@torch.no_grad()
def filtered(model: Any, letters: np.ndarray) -> FilteredBelief:
    """Return the belief of a model along a text, as its probes show it.

    Args:
        model: a hidden Markov model.
        letters: the tokens.
    """
    inputs_1T = torch.from_numpy(np.concatenate([[model.start_id], letters]))[None]
    with Recorder(model.eval(), "predicted_belief", "belief") as seen:
        model(inputs_1T)
    predicted_TN, after_TN = (seen[name][0][0].double().numpy() for name in ("predicted_belief", "belief"))
    return FilteredBelief(predicted_TN[:-1], after_TN[1:])


def enumerated(model: Any, letters: np.ndarray) -> np.ndarray:
    """Return p(z_t | x_<t) of each letter by adding up the probabilities of all paths of hidden states, T x N.

    Args:
        model: a hidden Markov model of few states.
        letters: few tokens.
    """
    tables = model.tables()
    first_N, step_NN = tables["startprob"].double().numpy(), tables["transmat"].double().numpy()
    p_NV = model.log_emissions().exp().detach().double().numpy()
    found = np.zeros((len(letters), len(first_N)))
    for t in range(len(letters)):
        for path in itertools.product(range(len(first_N)), repeat=t + 1):
            p = first_N[path[0]]
            for k in range(t):
                p *= p_NV[path[k], letters[k]] * step_NN[path[k], path[k + 1]]
            found[t, path[-1]] += p
    return found / found.sum(1, keepdims=True)


def recursion(model: Any, ids: np.ndarray) -> np.ndarray:
    """Return p(z_t | x_<t) of each token by h_t = g(h_{t-1}, x_{t-1}): weigh the states by what they emit, and move.

    Args:
        model: a hidden Markov model.
        ids: the tokens.
    """
    tables = model.tables()
    h_N, step_NN = tables["startprob"].double().numpy(), tables["transmat"].double().numpy()
    p_NV, found = model.log_emissions().exp().detach().double().numpy(), []
    for k in ids:
        found.append(h_N)
        h_N = (h_N * p_NV[:, k]) @ step_NN
        h_N = h_N / h_N.sum()
    return np.array(found)


def loaded_belief(run: Run) -> tuple[BeliefFacts, float]:
    """Return the belief of a loaded hidden Markov model along held-out text, and its largest difference from the
    recursion.

    Args:
        run: the run.
    """
    given = held_out(run, STRETCH)
    facts = belief(given, asked(given))
    exact_TN = recursion(copy.deepcopy(run.model).cpu(), given.ids)
    return facts, float(np.abs(np.array(facts.predicted.p) - exact_TN[:, facts.states]).max())


# ------------------------------------------------------------------------------------------------------------- figures


def _told_loaded(name: str, facts: BeliefFacts, differs: float) -> Said:
    sums = [sum(p) + rest for p, rest in zip(facts.predicted.p, facts.predicted.rest)]
    peak = float(np.mean([max(p) for p in facts.predicted.p]))
    return say(
        "loaded", run=name, states=facts.size, tokens=len(sums), off=f"{max(abs(one - 1) for one in sums):.1g}",
        gap=f"{differs:.1g}", peak=f"{peak:.2f}",
    )  # fmt: skip


def _strip(letters: np.ndarray, beliefs: FilteredBelief, best: Fitted) -> Strip:
    texts = [LETTERS[k] for k in letters[:SENTENCE]]
    rows = [
        (say("before_seen"), beliefs.predicted[:, best.vowel_state].tolist()),
        (say("after_seen"), beliefs.after[:, best.vowel_state].tolist()),
        (say("is_vowel"), _vowel()[letters[:SENTENCE]].astype(float).tolist()),
    ]
    return Strip(say("strip"), texts, rows)


def _emissions(best: Fitted) -> Table:
    p_NV = best.model.log_emissions().exp().detach().numpy()
    order = np.argsort(-p_NV.max(0), kind="stable")[:16]
    columns = [say("letter"), say("vowel_state"), say("other_state")]
    name = lambda k: LETTERS[k].replace(" ", "␣")  # noqa: E731
    rows = [[name(k), float(p_NV[best.vowel_state, k]), float(p_NV[1 - best.vowel_state, k])] for k in order]
    return Table(say("emissions"), columns, rows)


def _starts(found: Sequence[Fitted], shuffled: Fitted) -> Table:
    columns = [say("start"), say("log_p"), say("purity"), say("letters")]
    named = [*((say("seed", seed=seed), one) for seed, one in zip(SEEDS, found)), (say("shuffled"), shuffled)]
    rows = [[name, one.nats, one.purity, " ".join(one.vowel_letters)] for name, one in named]
    return Table(say("starts"), columns, rows)
