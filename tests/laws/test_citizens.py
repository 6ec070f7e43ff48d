"""The awkward citizens keep the laws and agree with oracles: enumeration, direct formulas, hand arithmetic."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from citizens import (
    AR,
    BIDIRECTIONAL,
    GAUSSIAN_HMM,
    TRANSLATOR,
    VOICES,
    WORDS,
    Autoregression,
    AutoregressionConfig,
    Bidirectional,
    GaussianHMM,
    InVoices,
    MixtureConfig,
    SmallConfig,
    Translator,
    Voices,
    WithSources,
    Words,
    WordsConfig,
)
from torch import Tensor
from torch.distributions import Normal as TorchNormal
from torch.utils._python_dispatch import TorchDispatchMode
from verdicts import applications

from chainrule.core import Autoregressive, Batch, SequenceModel, UserError, model_types
from chainrule.core import model_type as by_name
from chainrule.laws import Law, Numbers, Subject, apply, applying, examine

SUBJECTS = {
    "words": Subject(WORDS),
    "gaussian hmm": Numbers(GAUSSIAN_HMM),
    "ar": Numbers(AR),
    "translator without a source": Subject(TRANSLATOR),
    "translator": WithSources(TRANSLATOR),
    "voices": InVoices(VOICES),
}


@pytest.mark.parametrize(("name", "law"), applications(SUBJECTS))
def test_citizen_keeps_law(name: str, law: Law) -> None:
    verdict = apply(SUBJECTS[name], law)
    if name == "translator without a source" and law.name == "every parameter learns":
        assert verdict.detail == "source_embedding.weight gets no gradient from a random batch"
        return
    assert verdict.ok, verdict.detail


@pytest.mark.parametrize(
    ("name", "laws"),
    [
        ("words", 28),
        ("gaussian hmm", 25),
        ("ar", 25),
        ("translator without a source", 29),
        ("translator", 32),
        ("voices", 25),
    ],
)
def test_no_law_about_a_citizen_is_lost(name: str, laws: int) -> None:
    assert len(applying(SUBJECTS[name])) >= laws


# ------------------------------------------------------------------------------------------------ words, V = 28,000


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in torch.utils._pytree.tree_leaves(result):
            if isinstance(item, Tensor):
                self.numel = max(self.numel, item.numel())
        return result


def fitted_words(rows: int, length: int) -> tuple[Words, Batch]:
    targets = torch.randint(28_000, (rows, length), generator=torch.Generator().manual_seed(5))
    targets[:, 3::3] = targets[:, 0:1]
    inputs = torch.cat([torch.full((rows, 1), 28_000), targets[:, :-1]], dim=1)
    model, batch = Words(WordsConfig()), Batch(inputs, targets)
    return model.update(model.summarize(batch)), batch


def test_word_trigram_counts_and_scores_without_an_array_of_rows_by_time_by_vocabulary() -> None:
    with Largest() as largest:
        model, batch = fitted_words(7, 11)
        prediction, _ = model(batch.inputs_BT)
        log_p = prediction.log_prob(batch.targets_BT)
    assert log_p.shape == (7, 11)
    assert largest.numel < 28_000
    with Largest() as largest:
        torch.stack([torch.zeros(7, 1)] * 28_000, dim=-1).exp()
    assert largest.numel == 7 * 28_000  # the observer does see such an array where there is one


def test_word_trigram_agrees_with_hand_arithmetic() -> None:
    """Counted: 'a b c' and 'a b d' as two records, strength 2, V = 28,000; asked: p(c | a b)."""
    a, b, c, d, start = 17, 19, 23, 29, 28_000
    model = Words(WordsConfig())
    targets = torch.tensor([[a, b, c], [a, b, d]])
    model.update(model.summarize(Batch(torch.tensor([[start, a, b], [start, a, b]]), targets)))
    prediction, _ = model(torch.tensor([[start, a, b]]))
    unigram = (1 + 2 / 28_000) / (6 + 2)
    bigram = (1 + 2 * unigram) / (2 + 2)
    trigram = (1 + 2 * bigram) / (2 + 2)
    assert float(prediction.log_prob(targets[:1])[0, 2]) == pytest.approx(math.log(trigram), abs=1e-12)


# ------------------------------------------------------------------------------------------------ real numbers


def test_gaussian_hmm_agrees_with_a_sum_over_all_hidden_paths() -> None:
    torch.manual_seed(11)
    model = GaussianHMM(MixtureConfig(states=3)).double()
    with torch.no_grad():
        model.pi += torch.randn(3)
        x = torch.randn(1, 5, dtype=torch.float64)
        first, state = model.start(batch=1)
        rest, _ = model(x[:, :-1], state)
        got = float(first.log_prob(x[:, :1]).sum() + rest.log_prob(x[:, 1:]).sum())
        pi, transition = model.pi.softmax(0).tolist(), model.transition.softmax(-1).tolist()
        emission = TorchNormal(model.mean, model.log_scale.exp())
        density = [emission.log_prob(value).exp().tolist() for value in x[0]]
    p = 0.0
    for path in itertools.product(range(3), repeat=5):
        one = pi[path[0]] * density[0][path[0]]
        for t in range(1, 5):
            one *= transition[path[t - 1]][path[t]] * density[t][path[t]]
        p += one
    assert got == pytest.approx(math.log(p), abs=1e-12)


def test_autoregression_agrees_with_the_direct_formula() -> None:
    model = Autoregression(AutoregressionConfig(order=2)).double()
    x = torch.tensor([[0.7, -1.1, 0.4, 2.3]], dtype=torch.float64)
    with torch.no_grad():
        model.phi.copy_(torch.tensor([0.6, -0.3], dtype=torch.float64))
        model.intercept.fill_(0.25)
        model.log_scale.fill_(math.log(0.8))
        first, state = model.start(batch=1)
        rest, _ = model(x[:, :-1], state)
        got = [float(first.log_prob(x[:, :1])), *rest.log_prob(x[:, 1:])[0].tolist()]
    means = [0.25, 0.25 + 0.6 * 0.7, 0.25 + 0.6 * -1.1 - 0.3 * 0.7, 0.25 + 0.6 * 0.4 - 0.3 * -1.1]
    want = [-0.5 * ((v - m) / 0.8) ** 2 - math.log(0.8 * math.sqrt(2 * math.pi)) for v, m in zip(x[0].tolist(), means)]
    assert got == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("name", ["gaussian hmm", "ar"])
def test_densities_integrate_to_one_and_draws_have_their_mean(name: str) -> None:
    subject = SUBJECTS[name]
    grid = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    with torch.no_grad():
        prediction, _ = subject.model(subject.rows(1, 5, salt=7))
        last = prediction.select(torch.tensor([4]))
        density = torch.stack([last.log_prob(value.view(1, 1))[0, 0] for value in grid]).exp()
        rows, _ = subject.model(subject.rows(1, 5, salt=7).repeat(2000, 1))
        draws = rows.select(torch.full((2000,), 4)).sample(torch.Generator().manual_seed(3))
    mean = torch.trapezoid(grid * density, grid)
    deviation = (torch.trapezoid(grid**2 * density, grid) - mean**2).sqrt()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-9)
    assert abs(float(draws.mean() - mean)) < 4 * float(deviation) / math.sqrt(2000)


# ------------------------------------------------------------------------------------------------ a beam


def beam(model: SequenceModel, source: Tensor, lengths: Tensor, width: int, steps: int) -> tuple[Tensor, Tensor]:
    """The ``width`` best sequences of ``steps`` symbols for every source: (B x W x T, log p B x W).

    It knows start, forward and State.reorder, nothing of the model.
    """
    if not isinstance(model, Autoregressive):
        raise UserError(f"a beam needs p(x_t | x_<t), and a {type(model).__name__} is not autoregressive")
    batch, found = len(source), torch.zeros(len(source), 1, 0, dtype=torch.long)
    prediction, state = model.start(source, lengths, batch=batch)
    score_BW = torch.zeros(batch, 1, dtype=torch.float64)
    for t in range(steps):
        kept, V = score_BW.shape[1], model.vocab_size
        step_BWV = prediction.logits()[:, -1].log_softmax(-1).view(batch, kept, V)
        score_BW, index_BW = (score_BW[..., None] + step_BWV).flatten(1).topk(min(width, kept * V), dim=1)
        parent_BW, symbol_BW = index_BW // V, index_BW % V
        rows_BW = parent_BW + kept * torch.arange(batch)[:, None]
        found = found.view(batch * kept, t)[rows_BW]
        found = torch.cat([found, symbol_BW[..., None]], dim=-1)
        if t + 1 < steps:
            prediction, state = model(symbol_BW.reshape(-1, 1), state.reorder(rows_BW.flatten()))
    return found, score_BW


def translator() -> tuple[Translator, Tensor, Tensor]:
    torch.manual_seed(13)
    model = Translator(SmallConfig(vocab_size=3, width=7)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2  # sharper than at initialisation, so that the order is decided
    return model, torch.tensor([[0, 2, 1, 1, 0], [1, 1, 2, 0, 0]]), torch.tensor([5, 3])


def every_string(model: Translator, source: Tensor, length: int) -> list[tuple[float, tuple[int, ...]]]:
    """All strings with their log p given one source, most probable first, each by one forward of its own."""
    ranked = []
    for string in itertools.product(range(3), repeat=length):
        first, state = model.start(source, batch=1)
        x = torch.tensor([string])
        rest, _ = model(x[:, :-1], state)
        ranked.append((float(first.log_prob(x[:, :1]).sum() + rest.log_prob(x[:, 1:]).sum()), string))
    return sorted(ranked, reverse=True)


@torch.no_grad()
def test_a_beam_as_wide_as_the_space_is_enumeration() -> None:
    model, sources, lengths = translator()
    found, scores = beam(model, sources, lengths, width=81, steps=4)
    for b, n in enumerate(lengths.tolist()):
        want = every_string(model, sources[b : b + 1, :n], 4)
        assert scores[b].tolist() == pytest.approx([p for p, _ in want], abs=1e-10)
        assert [tuple(s) for s in found[b].tolist()] == [s for _, s in want]
    assert found[0].tolist() != found[1].tolist()


@torch.no_grad()
def test_scores_of_a_narrow_beam_are_the_probabilities_of_its_strings() -> None:
    model, sources, lengths = translator()
    found, scores = beam(model, sources, lengths, width=5, steps=4)
    for b, n in enumerate(lengths.tolist()):
        p = {string: log_p for log_p, string in every_string(model, sources[b : b + 1, :n], 4)}
        assert scores[b].tolist() == pytest.approx([p[tuple(s)] for s in found[b].tolist()], abs=1e-10)


# ------------------------------------------------------------------------------------------------ voices, an encoder


@torch.no_grad()
def test_probabilities_of_all_chords_sum_to_one() -> None:
    model = Voices(SmallConfig(vocab_size=3)).double()
    chords = torch.tensor(list(itertools.product(range(3), repeat=4)))
    prediction, state = model.start(batch=len(chords))
    after, _ = model(torch.tensor([2, 0, 1, 1]).expand(len(chords), 1, 4), state)
    for each in (prediction, after):
        assert float(each.log_prob(chords[:, None]).exp().sum()) == pytest.approx(1, abs=1e-9)


def test_the_encoder_is_no_autoregressive_model_and_is_refused_by_what_needs_one() -> None:
    verdicts = examine(Subject(BIDIRECTIONAL))
    assert [v.law for v in verdicts] == ["sizes"]
    assert all(v.ok for v in verdicts)
    model, source = Bidirectional(SmallConfig()), torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(UserError, match="a Bidirectional is not autoregressive"):
        beam(model, source, torch.tensor([3]), width=2, steps=2)


def test_model_types_of_another_task_are_not_offered_for_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    from chainrule.core import registry

    model_types()
    monkeypatch.setitem(registry._model_types, (BIDIRECTIONAL.name, BIDIRECTIONAL.task), BIDIRECTIONAL)
    assert [f.name for f in model_types("encode")] == ["bidirectional"]
    assert "bidirectional" not in [f.name for f in model_types()]
    with pytest.raises(UserError, match="unknown model 'bidirectional' for generate"):
        by_name("bidirectional")


@torch.no_grad()
def test_the_encoder_sees_what_follows_and_no_pad() -> None:
    torch.manual_seed(17)
    model = Bidirectional(SmallConfig()).double()
    rows, lengths = torch.randint(5, (3, 7)), torch.tensor([7, 2, 5])
    out = model(rows, lengths)
    for b, n in enumerate(lengths.tolist()):
        assert torch.allclose(out[b : b + 1, :n], model(rows[b : b + 1, :n], torch.tensor([n])), atol=1e-12)
        assert bool((out[b, n:] == 0).all())
    changed = rows.clone()
    changed[0, 6] = (changed[0, 6] + 1) % 5
    assert not torch.allclose(model(changed, lengths)[0, 0], out[0, 0])
