"""Laws of predictions: they are distributions, do not depend on the future, and samples follow them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from chainrule.core import IGNORED, Autoregressive
from chainrule.laws.subject import LawBroken, Subject, differentiable_inputs, same


def sums_to_one(subject: Subject) -> None:
    """sum p = 1, and log_prob, logits, top, select and IGNORED agree with one another."""
    rows = subject.rows(5, 7, salt=40)
    with torch.no_grad():
        prediction, _ = subject.model(rows, subject.started(*range(5)))
        table = subject.table(prediction, rows)
        logits = prediction.logits().log_softmax(-1)
        values, index = prediction.top(3)
        targets = subject.rows(5, 7, salt=41)
        targets[:, 2] = IGNORED
        some = prediction.log_prob(targets)
        time = torch.tensor([6, 0, 3, 3, 1])
        chosen = subject.table(prediction.select(time), time[:, None])
    same(table.logsumexp(-1), torch.zeros(5, 7), "log of the sum of p")
    same(table, logits, "log_prob against logits")
    same(values, table.topk(3, dim=-1).values, "top(3) against the three largest log_prob")
    same(values, table.gather(-1, index), "log p of top(3) against log_prob of its tokens")
    same(some[:, 2], torch.zeros(5), "log_prob of an ignored target", 0)
    kept = torch.arange(7) != 2
    want = table.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    same(some[:, kept], want[:, kept], "log_prob beside an ignored target")
    same(chosen[:, 0], table[torch.arange(5), time], "select(time) against the whole")


def all_strings(subject: Subject) -> str:
    """The probabilities of all strings of length 4 that may be sum to 1: 256 over an alphabet of 4."""
    model, choices = subject.build(vocab_size=4), subject.choices()
    assert isinstance(model, Autoregressive)
    strings = torch.tensor(list(itertools.product(*choices)))
    with torch.no_grad():
        first, state = subject.begin(model, [0])
        everyone = state.reorder(torch.zeros(len(strings), dtype=torch.long))
        rest, _ = model(strings[:, :3], everyone)
        p_first = {v: first.log_prob(torch.tensor([[v]]))[0, 0] for v in choices[0]}
        log_p = torch.stack([p_first[v] for v in strings[:, 0].tolist()]) + rest.log_prob(strings[:, 1:]).sum(1)
    sum_p = log_p.double().exp().sum()
    same(sum_p, torch.ones_like(sum_p), "sum of p over all strings of length 4")
    return f"sum {float(sum_p):.12f}"


def causality(subject: Subject) -> None:
    """Another token at time t changes no prediction before t."""
    time = 11
    one = subject.rows(1, time, salt=42)
    rows = torch.cat([one] * time)
    changed, cut, diagonal = rows.clone(), rows.clone(), torch.arange(time)
    changed[diagonal, diagonal] = subject.other(one)[0]
    cut[diagonal, diagonal] = subject.start_rows(1)[0]
    want, _ = subject.read(rows, subject.started(*[0] * time))
    for what, inputs in (("another token", changed), ("the start token", cut)):
        got, _ = subject.read(inputs, subject.started(*[0] * time))
        for t in range(time):
            same(got[t, :t], want[t, :t], f"predictions before time {t} with {what} there", 1e-12)


def causality_of_gradients(subject: Subject) -> None:
    """The gradient of log p at time t with respect to any later input (or its embedding) is exactly zero."""
    rows, targets = subject.rows(3, 7, salt=44), subject.rows(3, 7, salt=45)
    prediction, ways = differentiable_inputs(subject.model, rows, subject.started(0, 1, 2))
    log_p_BT = prediction.log_prob(targets)
    for steps in ways:
        for t in range(7):
            gradients = torch.autograd.grad(log_p_BT[:, t].sum(), steps, retain_graph=True, materialize_grads=True)
            future = torch.cat(gradients, dim=1)[:, t + 1 :]
            same(future, torch.zeros_like(future), f"gradient of log p at time {t} in later inputs", 0)


def sampling(subject: Subject) -> str:
    """Frequencies of 4,000 draws fit p (chi-square, fixed seed), and a seed gives the same draws again."""
    draws, (_, state) = 4000, subject.read(subject.rows(1, 3, salt=46), subject.started(0))
    last = subject.rows(1, 1, salt=47).repeat(draws, 1)
    with torch.no_grad():
        prediction, _ = subject.model(last, state.reorder(torch.zeros(draws, dtype=torch.long)))
        samples = prediction.sample(subject.rng(48))
        again = prediction.sample(subject.rng(48))
        p_V = subject.table(prediction, last)[0, 0].double().exp()
    if samples.shape != last.shape or int(samples.min()) < 0 or int(samples.max()) >= subject.vocab_size:
        raise LawBroken(f"sample gives shape {tuple(samples.shape)}, from {samples.min()} to {samples.max()}")
    same(again, samples, "a second draw from the same seed", 0)
    return follow(torch.bincount(samples.flatten(), minlength=subject.vocab_size).double(), p_V)


def follow(counts: Tensor, p: Tensor) -> str:
    """Return the chi-square of counts against probabilities; LawBroken where it is beyond chance."""
    if bool((counts[p == 0] > 0).any()):
        raise LawBroken("a symbol of probability 0 was drawn")
    expected = counts.sum() * p
    # Cells expected fewer than 5 times are pooled, as usual for the chi-square approximation.
    rare = expected < 5
    seen = torch.cat([counts[~rare], counts[rare].sum().view(1)])
    wanted = torch.cat([expected[~rare], expected[rare].sum().view(1)])
    chi = float(((seen - wanted) ** 2 / wanted.clamp(min=1e-300)).sum())
    freedom = max(1, int((~rare).sum()) - 1 + int(rare.any()))
    # Wilson & Hilferty (1931): the 1 - 1e-5 quantile of chi-square.
    limit = freedom * (1 - 2 / (9 * freedom) + 4.265 * (2 / (9 * freedom)) ** 0.5) ** 3
    if chi > limit:
        raise LawBroken(
            f"draws do not follow p: chi-square {chi:.1f} with {freedom} degrees of freedom, below {limit:.1f}"
        )
    return f"chi-square {chi:.1f}, {freedom} degrees of freedom"
