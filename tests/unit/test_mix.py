"""Mixtures of finished runs: weights, laws, folders, refusals, and the row of a board."""

from __future__ import annotations

import pytest
import torch

from chainrule.core import Counting, SequenceModel, model_type, model_types
from chainrule.laws.subject import Subject
from chainrule.laws.suite import Law, apply, applying
from chainrule.models.mix import Mix

PARTS = {
    "ngram + gru": None,
    "gpt + lstm": {
        "parts": [
            {"model_type": "gpt", "model": {"width": 16, "layers": 1, "heads": 2, "context": 32}},
            {"model_type": "lstm", "model": {"embedding": 8, "width": 8, "layers": 1}},
        ],
    },
    "hmm + markov + ngram": {
        "parts": [
            {"model_type": "hmm", "model": {"states": 3}},
            {"model_type": "markov", "model": {}},
            {"model_type": "ngram", "model": {"n": 4}},
        ],
    },
}


class MixSubject(Subject):
    """A mixture of a preset or of these parts; counting parts are fitted, and the weights are not equal."""

    def build(self, vocab_size: int | None = None) -> SequenceModel:
        model = super().build(vocab_size)
        assert isinstance(model, Mix)
        for part in model.parts:
            if isinstance(part, Counting):
                part.update(part.summarize(self.training(1, vocab_size)))
        noise = torch.randn(model.log_weights_K.shape, generator=self.rng(5), dtype=torch.float64)
        model.log_weights_K.copy_(noise.log_softmax(-1))
        return model


SUBJECTS = {name: MixSubject(model_type("mix", trained=False), settings=parts) for name, parts in PARTS.items()}
CASES = [
    pytest.param(SUBJECTS[name], law, id=f"{name}: {law.name}") for name in PARTS for law in applying(SUBJECTS[name])
]


@pytest.mark.parametrize(("subject", "law"), CASES)
def test_laws_of_autoregressive_models_hold(subject: Subject, law: Law) -> None:
    verdict = apply(subject, law)
    assert verdict.ok, verdict.detail


def test_laws_of_training_do_not_apply() -> None:
    for subject in SUBJECTS.values():
        names = {law.name for law in applying(subject)}
        assert {"p of all strings sums to 1", "generated alone = among others", "state: where"} <= names
        assert not names & {"every parameter learns", "1 x 8 rows = 8 x 1 rows", "statistics add up"}
    assert "mix" not in [found.name for found in model_types()]
