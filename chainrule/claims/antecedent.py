"""Attention of a reflexive to its antecedent: sentences of a grammar in which the antecedent is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chainrule.claims.runs import reads_text
from chainrule.data.synthetic import make
from chainrule.data.synthetic_tasks import NOUNS, REFLEXIVES, mentions
from chainrule.explanation.attending import attends, attention_layers
from chainrule.inference.sampling import pad
from chainrule.nn.probes import Recorder
from chainrule.runs.run import Run

SENTENCES, SEED = 160, 7
COMMANDS = (
    "chainrule data make agreement --out agreement",
    "chainrule train agreement --model gpt --unit lines --tokenizer word --budget 4min --out runs/agreement",
)


@dataclass(frozen=True)
class Sentence:
    """The words before a reflexive, the reflexive, and the places of its antecedent and of the other nouns."""

    words: list[str]
    reflexive: str
    antecedent: int
    others: list[int]


@dataclass(frozen=True)
class Found:
    """The share of sentences in which the place that predicts the reflexive weighs the antecedent most.

    Args:
        sentences: sentences that are scored.
        layer: layer of the head that did best on as many other sentences.
        head: the head.
        share: how often this head weighs the antecedent most.
        chance: the same for a noun that is taken at random.
        nearest: the same for the noun just before.
        right: how often the reflexive that agrees is the most probable of the three.
        example: a scored sentence.
        weights: weights of its words at this place, of this head.
    """

    sentences: int
    layer: int
    head: int
    share: float
    chance: float
    nearest: float
    right: float
    example: Sentence
    weights: list[float]


def knows_grammar(run: Run) -> bool:
    """Return whether a run attends, and each noun and reflexive of the grammar is a token of its vocabulary."""
    if not (attends(run) and reads_text(run)):
        return False
    words, tokenizer = [*NOUNS, *REFLEXIVES], run.processor.tokenizer
    ids = tokenizer.encode(" ".join(words).encode()).ids
    return len(ids) == len(words) == len({*ids.tolist()}) and tokenizer.unknown not in ids


def sentences() -> list[Sentence]:
    """Return held-out sentences of the grammar that have more than one noun before the reflexive."""
    return [one for one in map(_parsed, _lines()) if one.others][:SENTENCES]


def _lines() -> Iterable[str]:
    text = make("agreement", size=20 * 2 * SENTENCES, seed=SEED).files["test.txt"]
    assert isinstance(text, str)
    return text.splitlines()


def _parsed(line: str) -> Sentence:
    pronoun, antecedent, others = mentions(line)
    words = line.split()
    return Sentence(words[:pronoun], words[pronoun], antecedent, others)


@torch.no_grad()
def antecedents(run: Run, given: Sequence[Sentence]) -> Found:
    """Return which head attends to antecedents, chosen on one half of the sentences and scored on the other half.

    Args:
        run: a run that knows the grammar.
        given: sentences.
    """
    weights, right_B = _read(run, given)
    hits_BLH = torch.stack([_hits(one, weights_LHS) for one, weights_LHS in zip(given, weights)]).double()
    chosen, scored = slice(0, None, 2), slice(1, None, 2)
    heads = hits_BLH.shape[2]
    layer, head = divmod(int(hits_BLH[chosen].mean(0).argmax()), heads)
    tested, example = given[scored], given[scored][0]
    return Found(
        sentences=len(tested),
        layer=layer,
        head=head,
        share=float(hits_BLH[scored, layer, head].mean()),
        chance=sum(1 / (1 + len(one.others)) for one in tested) / len(tested),
        nearest=sum(one.antecedent > max(one.others) for one in tested) / len(tested),
        right=float(right_B[scored].double().mean()),
        example=example,
        weights=weights[1][layer, head, : len(example.words)].tolist(),
    )


def _hits(one: Sentence, weights_LHS: Tensor) -> Tensor:
    """True where a head weighs the antecedent more than any other noun."""
    return weights_LHS[..., one.antecedent] > weights_LHS[..., one.others].amax(-1)


def _read(run: Run, given: Sequence[Sentence]) -> tuple[list[Tensor], Tensor]:
    """The weights of the words (L x H x S) where each reflexive is predicted, and whether the one that agrees is the
    most probable of the three."""
    model, tokenizer = run.model.eval(), run.processor.tokenizer
    ids = [tokenizer.encode(" ".join(one.words).encode()).ids.tolist() for one in given]
    inputs_BT, lengths_B = (x.to(run.compute.device) for x in pad(ids, model.start_id))
    layers = attention_layers(model)
    with Recorder(model, *(f"{layer.name}.weights" for layer in layers)) as seen, run.compute.autocast():
        prediction, _ = model(inputs_BT, None, lengths_B)
        scores_B3 = torch.stack([_at_end(prediction, inputs_BT, lengths_B, k) for k in _reflexives(run)], 1)
    recorded = [seen[f"{layer.name}.weights"][0].float().cpu() for layer in layers]
    last = (lengths_B - 1).tolist()
    weights = [torch.stack([w_BHTS[b, :, t, 1 : t + 1] for w_BHTS in recorded]) for b, t in enumerate(last)]
    wanted_B = torch.tensor([REFLEXIVES.index(one.reflexive) for one in given])
    return weights, scores_B3.argmax(1).cpu() == wanted_B


def _reflexives(run: Run) -> list[int]:
    return [int(run.processor.tokenizer.encode(word.encode()).ids[0]) for word in REFLEXIVES]


def _at_end(prediction, inputs_BT: Tensor, lengths_B: Tensor, token: int) -> Tensor:
    log_p_BT = prediction.log_prob(torch.full_like(inputs_BT, token))
    return log_p_BT.gather(1, lengths_B[:, None] - 1)[:, 0]
