"""Taggers and classifiers: every row is judged by itself, by what is known when it is used, and by probabilities."""

from __future__ import annotations

import math

import torch

from chainrule.core import IGNORED, ChainruleError, Classifier, Codec, TaggedBatch, Tagger
from chainrule.laws.subject import SPELLINGS, STRANGE, TOLERANCE, Coded, Labelling, LawBroken, Subject, same

LONG = 1031
"""Words: beyond what a network is made to read at once."""


def _labelling(subject: Subject) -> Labelling:
    assert isinstance(subject, Labelling)
    return subject


@torch.no_grad()
def rows_alone(subject: Subject) -> None:
    """A row's answer is the same alone, among longer rows, and among them in another order."""
    asked = _labelling(subject)
    rows = [*asked.words(5, 13, salt=70), STRANGE, (SPELLINGS[1],)]
    order = [3, 6, 0, 4, 2, 5, 1]
    together = asked.judge(asked.labeller, asked.pack(rows))
    permuted = asked.judge(asked.labeller, asked.pack([rows[b] for b in order]))
    for b, row in enumerate(rows):
        alone = asked.judge(asked.labeller, asked.pack([row]))[0]
        same(together[b], alone, f"row {b} in a ragged batch against alone")
        same(permuted[order.index(b)], alone, f"row {b} in a batch of another order against alone")


@torch.no_grad()
def labels_are_not_read(subject: Subject) -> None:
    """Labels that come with a batch, and what stands beside them, are for training and for judging only."""
    asked = _labelling(subject)
    batch = asked.batch(5, 13, salt=71)
    want = asked.judge(asked.labeller, batch)
    for b, got in enumerate(asked.judge(asked.labeller, asked.relabelled(batch))):
        same(got, want[b], f"row {b} when it comes with other labels", 0)


@torch.no_grad()
def strange_rows(subject: Subject) -> str:
    """Words never seen, rows of one word and of none, alone and among others: an answer that is a number."""
    asked = _labelling(subject)
    rows = [STRANGE, (), *((word,) for word in STRANGE), (SPELLINGS[0],), SPELLINGS[:3], ()]
    for batch in (rows, [()], [(), ()], *([row] for row in rows)):
        for row, answer in zip(batch, asked.judge(asked.labeller, asked.pack(batch)), strict=True):
            if bool(answer.isnan().any()) or bool((answer == math.inf).any()):
                raise LawBroken(f"the row {' '.join(row)[:40]!a} is answered by {answer.tolist()[:3]}")
    return f"{len(rows)} rows"


@torch.no_grad()
def long_rows(subject: Subject) -> str | None:
    """Far more words than usual are answered, or refused in one line."""
    asked = _labelling(subject)
    row = tuple(word for part in asked.words(1, LONG, salt=72) for word in part)
    try:
        answer = asked.judge(asked.labeller, asked.pack([row]))[0]
    except ChainruleError as error:
        return f"refuses {len(row)} words: {error}"
    if not bool(answer.isfinite().all()):
        raise LawBroken(f"{len(row)} words are answered by {answer.tolist()[:3]}")
    return None


@torch.no_grad()
def coded_alone(subject: Subject) -> str:
    """A picture's symbols are of the set, and they and what they stand for are the same alone and among others in another order."""
    assert isinstance(subject, Coded)
    model = subject.build()
    assert isinstance(model, Codec)
    rows = [*subject.words(5, 13, salt=76), STRANGE]
    ids_BP, pictures = subject.coded(model, rows)
    if ids_BP.shape != (len(rows), model.side**2) or int(ids_BP.min()) < 0 or int(ids_BP.max()) >= model.codebook_size:
        raise LawBroken(
            f"symbols {tuple(ids_BP.shape)} from {int(ids_BP.min())} to {int(ids_BP.max())}, of {model.codebook_size}"
        )
    turned = subject.coded(model, rows[::-1])
    for b, row in enumerate(rows):
        for k, whole in enumerate((ids_BP, pictures)):
            same(
                subject.coded(model, [row])[k][0],
                whole[b],
                f"{('symbols', 'picture')[k]} {b} alone against among others",
            )
            same(turned[k][len(rows) - 1 - b], whole[b], f"{('symbols', 'picture')[k]} {b} in another order")
    return f"{len(ids_BP.unique())} of {model.codebook_size} symbols"


@torch.no_grad()
def one_tag_a_token(subject: Subject) -> None:
    """Every token has one tag out of the set; IGNORED stands beyond a row's end."""
    asked = _labelling(subject)
    model, batch = asked.labeller, asked.pack([*asked.words(5, 13, salt=73), (), STRANGE])
    assert isinstance(model, Tagger) and isinstance(batch, TaggedBatch)
    tags_BT, nats_B = model.tag(batch)
    longest = max(map(len, batch.words))
    if tags_BT.shape != (len(batch.words), longest) or nats_B.shape != (len(batch.words),):
        raise LawBroken(
            f"tags {tuple(tags_BT.shape)} and nats {tuple(nats_B.shape)} for {len(batch.words)} rows of up to {longest} words"
        )
    for b, (tags, row) in enumerate(zip(tags_BT.tolist(), batch.words)):
        wrong = [t for t, tag in enumerate(tags[: len(row)]) if not 0 <= tag < asked.vocab_size]
        wrong += [t for t, tag in enumerate(tags) if t >= len(row) and tag != IGNORED]
        if wrong:
            raise LawBroken(f"row {b} of {len(row)} words has the tag {tags[wrong[0]]} at {wrong[0]}")


@torch.no_grad()
def tags_are_probable(subject: Subject) -> str:
    """log p(tags | tokens) is never above 0, is 0 where there is no token, and one token's best tag has p >= 1 / C."""
    asked = _labelling(subject)
    rows = [*asked.words(5, 13, salt=74), (), *((word,) for word in (*SPELLINGS, *STRANGE))]
    nats = [float(answer[0]) for answer in asked.judge(asked.labeller, asked.pack(rows))]
    for row, value in zip(rows, nats):
        least = {0: 0.0, 1: -math.log(asked.vocab_size)}.get(len(row), -math.inf)
        if not least - TOLERANCE <= value <= TOLERANCE:
            raise LawBroken(f"log p of the tags of {len(row)} words is {value:.6g}, not within {least:.6g} and 0")
    return f"log p from {min(nats):.3g} to {max(nats):.3g}"


@torch.no_grad()
def labels_sum_to_one(subject: Subject) -> str:
    """classify gives B x C, and each row's probabilities sum to 1."""
    asked = _labelling(subject)
    rows = [*asked.words(7, 13, salt=75), STRANGE, (SPELLINGS[0],), ()]
    model = asked.labeller
    assert isinstance(model, Classifier)
    log_p_BC = model.classify(asked.pack(rows)).double()
    if log_p_BC.shape != (len(rows), asked.vocab_size):
        raise LawBroken(f"shape {tuple(log_p_BC.shape)} for {len(rows)} rows and {asked.vocab_size} labels")
    same(log_p_BC.exp().sum(1), torch.ones(len(rows), dtype=torch.float64), "sum of p over the labels")
    return f"p from {float(log_p_BC.min().exp()):.2g} to {float(log_p_BC.max().exp()):.2g}"
