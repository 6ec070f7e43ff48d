"""Draw the pictures of the docs from models trained here, on the bundled plays (matplotlib is no dependency: pip
install it).

python docs/figures/draw.py
"""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from pathlib import Path

import matplotlib
import numpy as np
import torch

import chainrule
from chainrule.core import Batch, model_type

matplotlib.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
LINE = "to be or not to be that is the question"
plt.rcParams.update({"font.size": 9, "svg.hashsalt": "chainrule", "svg.fonttype": "path"})


def plays() -> str:
    """Lower case, every run of anything but letters one space."""
    text = gzip.decompress((files("chainrule.data") / "plays" / "train.txt.gz").read_bytes()).decode()
    return re.sub("[^a-z]+", " ", text.lower())


def save(figure: plt.MetricValue, name: str) -> None:
    figure.savefig(HERE / name, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def heat(axes: plt.Axes, table: np.ndarray, rows: list[str], columns: list[str], title: str) -> None:
    """Probabilities: white is 0, the darkest blue 1."""
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title, loc="left", fontsize=9)


def shown(symbol: str) -> str:
    return "␣" if symbol == " " else symbol


def hidden(text: str) -> None:
    """The tables of two hidden states, and what is believed of them along a line."""
    model = chainrule.HMM(2, n_iter=200, tol=0, seed=1).fit(text[:50_000])
    space = list(model.symbols_).index(" ")
    order = np.argsort(-model.emissionprob_[:, space])
    states = ["state 1", "state 2"]
    letters = [shown(s) for s in model.symbols_]

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 1.7), width_ratios=(1, 6), layout="constrained")
    heat(left, model.transmat_[np.ix_(order, order)], ["from 1", "from 2"], ["to 1", "to 2"], "p(next state | state)")
    emission = model.emissionprob_[order]
    heat(right, emission / emission.sum(0), states, letters, "p(state | letter), if both were equally frequent")
    save(figure, "hmm-tables.svg")

    figure, axes = plt.subplots(figsize=(9, 1.4))
    line = " " + LINE  # the text that was learned from is one sequence: its only beginning says nothing about lines
    heat(axes, model.predict_proba(line).T[order], states, [shown(c) for c in line], "p(state | the whole line)")
    save(figure, "hmm-belief.svg")


def backoff(text: str) -> None:
    """How long a context answered for each letter of a line, and how much the letter surprised."""
    symbols, ids = np.unique(list(text), return_inverse=True)
    chosen, n = model_type("ngram"), 6
    model = chosen.build(chosen.configure("small", vocab_size=len(symbols), n=n))
    start = torch.tensor([len(symbols)])
    row = torch.from_numpy(ids)
    model.update(model.summarize(Batch(torch.cat([start, row[:-1]])[None], row[None])))

    line = torch.from_numpy(np.searchsorted(symbols, list(LINE)))[None]
    inputs = torch.cat([start[None], line[:, :-1]], 1)
    prediction, _ = model(inputs)
    bits = -prediction.log_prob(line)[0].numpy() / np.log(2)
    entries = prediction.tables.child(prediction.contexts_BTm[0], line[0][:, None].expand(-1, n))
    used = [n - 1 - int((row >= 0).nonzero()[0]) for row in entries]

    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 2.6), sharex=True)
    above.bar(range(len(LINE)), used, color="#2b6cb0")
    above.set_ylabel("letters of\ncontext")
    below.bar(range(len(LINE)), bits, color="#c05621")
    below.set_ylabel("bits")
    below.set_xticks(range(len(LINE)), [shown(c) for c in LINE])
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, "backoff.svg")


if __name__ == "__main__":
    torch.manual_seed(1)
    words = plays()
    hidden(words)
    backoff(words[:200_000])
