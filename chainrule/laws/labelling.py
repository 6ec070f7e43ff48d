"""Laws of taggers, classifiers and codecs: rows are independent, labels are not read, answers are probabilities."""

from __future__ import annotations

import math

import torch

from chainrule.core import IGNORED, ChainruleError, Classifier, Codec, TaggedBatch, Tagger
from chainrule.laws.labelled import SPELLINGS, STRANGE, Coded, Labelling
from chainrule.laws.subject import TOLERANCE, LawBroken, same

LONG = 1031
"""Words of a row longer than a network is made to read at once."""


@torch.no_grad()
def rows_alone(asked: Labelling) -> None:
    """A row's prediction is the same alone, among longer rows, and among them in another order."""
    rows = [*asked.words(5, 13, salt=70), STRANGE, (SPELLINGS[1],)]
    order = [3, 6, 0, 4, 2, 5, 1]
    together = asked.judge(asked.labeller, asked.pack(rows))
    permuted = asked.judge(asked.labeller, asked.pack([rows[b] for b in order]))
    for b, row in enumerate(rows):
        alone = asked.judge(asked.labeller, asked.pack([row]))[0]
        same(together[b], alone, f"row {b} in a ragged batch against alone")
        same(permuted[order.index(b)], alone, f"row {b} in a batch of another order against alone")


@torch.no_grad()
def labels_are_not_read(asked: Labelling) -> None:
    """Labels and further columns of a batch are for training and evaluation only."""
    batch = asked.batch(5, 13, salt=71)
    want = asked.judge(asked.labeller, batch)
    for b, got in enumerate(asked.judge(asked.labeller, asked.relabelled(batch))):
        same(got, want[b], f"row {b} of a batch with other labels", 0)


@torch.no_grad()
def strange_rows(asked: Labelling) -> str:
    """Unseen words, rows of one word and of none, alone and among others, have finite predictions."""
    rows = [STRANGE, (), *((word,) for word in STRANGE), (SPELLINGS[0],), SPELLINGS[:3], ()]
    for batch in (rows, [()], [(), ()], *([row] for row in rows)):
        for row, answer in zip(batch, asked.judge(asked.labeller, asked.pack(batch)), strict=True):
            if bool(answer.isnan().any()) or bool((answer == math.inf).any()):
                raise LawBroken(f"the row {' '.join(row)[:40]!a} has the prediction {answer.tolist()[:3]}")
    return f"{len(rows)} rows"


@torch.no_grad()
def long_rows(asked: Labelling) -> str | None:
    """A very long row has a prediction, or is refused in one line."""
    row = tuple(word for part in asked.words(1, LONG, salt=72) for word in part)
    try:
        answer = asked.judge(asked.labeller, asked.pack([row]))[0]
    except ChainruleError as error:
        return f"refuses {len(row)} words: {error}"
    if not bool(answer.isfinite().all()):
        raise LawBroken(f"{len(row)} words have the prediction {answer.tolist()[:3]}")
    return None


@torch.no_grad()
def coded_alone(subject: Coded) -> str:
    """Image tokens are in the codebook; they and the reconstruction do not depend on the batch or its order."""
    model = subject.build()
    assert isinstance(model, Codec)
    rows = [*subject.words(5, 13, salt=76), STRANGE]
    ids_BP, images = subject.coded(model, rows)
    low, high, shape = int(ids_BP.min()), int(ids_BP.max()), tuple(ids_BP.shape)
    if shape != (len(rows), model.side**2) or low < 0 or high >= model.codebook_size:
        raise LawBroken(f"image tokens {shape} from {low} to {high}, of {model.codebook_size}")
    turned = subject.coded(model, rows[::-1])
    for b, row in enumerate(rows):
        alone = subject.coded(model, [row])
        for k, (kind, whole) in enumerate((("tokens", ids_BP), ("image", images))):
            same(alone[k][0], whole[b], f"{kind} {b} alone against among others")
            same(turned[k][len(rows) - 1 - b], whole[b], f"{kind} {b} in another order")
    return f"{len(ids_BP.unique())} of {model.codebook_size} tokens"


@torch.no_grad()
def one_tag_a_token(asked: Labelling) -> None:
    """Every token has one tag of the label set; IGNORED fills the places after a row's end."""
    model, batch = asked.labeller, asked.pack([*asked.words(5, 13, salt=73), (), STRANGE])
    assert isinstance(model, Tagger) and isinstance(batch, TaggedBatch)
    tags_BT, nats_B = model.tag(batch)
    found, rows, longest = (tuple(tags_BT.shape), tuple(nats_B.shape)), len(batch.words), max(map(len, batch.words))
    if found != ((rows, longest), (rows,)):
        raise LawBroken(f"tags {found[0]} and nats {found[1]} for {rows} rows of up to {longest} words")
    for b, (tags, row) in enumerate(zip(tags_BT.tolist(), batch.words)):
        wrong = [t for t, tag in enumerate(tags[: len(row)]) if not 0 <= tag < asked.vocab_size]
        wrong += [t for t, tag in enumerate(tags) if t >= len(row) and tag != IGNORED]
        if wrong:
            raise LawBroken(f"row {b} of {len(row)} words has the tag {tags[wrong[0]]} at {wrong[0]}")


@torch.no_grad()
def tags_are_probable(asked: Labelling) -> str:
    """log p(tags | tokens) is at most 0, is 0 without tokens, and the best tag of one token has p >= 1 / C; p(tag |
    tokens) sums to 1 over the tags of each token, and is 0 beyond a row's end."""
    rows = [*asked.words(5, 13, salt=74), (), *((word,) for word in (*SPELLINGS, *STRANGE))]
    batch = asked.pack(rows)
    assert isinstance(asked.labeller, Tagger)
    sums_BT = asked.labeller.posteriors(batch).double().sum(-1)
    for b, row in enumerate(rows):
        want_T = (torch.arange(sums_BT.shape[1]) < len(row)).double()
        same(sums_BT[b].cpu(), want_T, f"sum of p over the tags at each place of row {b} of {len(row)} words")
    nats = [float(answer[0]) for answer in asked.judge(asked.labeller, batch)]
    for row, value in zip(rows, nats):
        least = {0: 0.0, 1: -math.log(asked.vocab_size)}.get(len(row), -math.inf)
        if not least - TOLERANCE <= value <= TOLERANCE:
            raise LawBroken(f"log p of the tags of {len(row)} words is {value:.6g}, not within {least:.6g} and 0")
    return f"log p from {min(nats):.3g} to {max(nats):.3g}"


@torch.no_grad()
def labels_sum_to_one(asked: Labelling) -> str:
    """``classify`` returns B x C, and each row's probabilities sum to 1."""
    rows = [*asked.words(7, 13, salt=75), STRANGE, (SPELLINGS[0],), ()]
    model = asked.labeller
    assert isinstance(model, Classifier)
    log_p_BC = model.classify(asked.pack(rows)).double()
    if log_p_BC.shape != (len(rows), asked.vocab_size):
        raise LawBroken(f"shape {tuple(log_p_BC.shape)} for {len(rows)} rows and {asked.vocab_size} labels")
    same(log_p_BC.exp().sum(1), torch.ones(len(rows), dtype=torch.float64), "sum of p over the labels")
    return f"p from {float(log_p_BC.min().exp()):.2g} to {float(log_p_BC.max().exp()):.2g}"
