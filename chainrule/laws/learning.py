"""Laws of building, saving, recording and learning: deterministic, lossless, every parameter trained, sums exact."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load, save
from torch import Tensor

from chainrule.core import Autoregressive, Batch, Counting, SequenceModel, total
from chainrule.laws.subject import LawBroken, Subject, same
from chainrule.nn.probes import Recorder


def sizes(subject: Subject) -> str:
    """The presets exist, parameters are counted without allocating, and ``sized`` stays within its bound."""
    model_type = subject.model_type
    config = subject.configure(subject.vocab_size)
    counted, held = model_type.parameters(config), sum(p.numel() for p in subject.raw().parameters())
    if counted != held:
        raise LawBroken(f"{held} parameters when built, {counted} when built without memory")
    if model_type.width is None:
        return f"{held} parameters, no width to vary"
    small, large = (
        model_type.parameters(model_type.sized(bound, "tiny", **subject.shape(subject.vocab_size)))
        for bound in (20 * held, 80 * held)
    )
    if not held <= small <= 20 * held or not small < large <= 80 * held:
        raise LawBroken(f"sized({20 * held}) has {small} parameters and sized({80 * held}) has {large}")
    return f"{held} parameters; sized({80 * held:,}) has {large:,}"


def deterministic(subject: Subject) -> None:
    """The same seed builds the same model, and the same inputs give the same predictions, bit for bit."""
    one, other = subject.build(), subject.build()
    for (name, mine), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        same(mine, theirs, f"{name} of two builds with one seed", 0)
    first = subject.answers(one)
    same(subject.answers(one), first, "the second predictions of one model", 0)
    same(subject.answers(other), first, "the predictions of two builds with one seed", 0)


def saved(subject: Subject) -> str:
    """A model rebuilt from its config as JSON and its weights as safetensors gives bit-equal predictions."""
    model = subject.build()
    values = json.loads(json.dumps(model.config.model_dump()))
    config = type(model.config).make(values)
    if config != model.config:
        raise LawBroken(f"the config does not survive JSON: {values}")
    stored = save({name: t.detach().contiguous().clone() for name, t in model.state_dict().items()})
    with torch.random.fork_rng():
        torch.manual_seed(subject.seed + 1)
        copy = subject.model_type.build(config).double().eval()
    copy.load_state_dict(load(stored))
    same(subject.answers(copy), subject.answers(model), "after saving and loading", 0)
    return f"{len(stored)} bytes"


def _gradients(model: SequenceModel) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def every_parameter_learns(subject: Subject) -> str:
    """Every parameter gets a finite gradient, not all zero, from a random batch."""
    model = subject.build()
    subject.loss(model).backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None or not bool(parameter.grad.any()):
            raise LawBroken(f"{name} gets no gradient from a random batch")
        if not bool(parameter.grad.isfinite().all()):
            raise LawBroken(f"{name} gets a gradient that is not finite")
    return f"{sum(p.requires_grad for p in model.parameters())} tensors"


def gradients_pass_through_state(subject: Subject) -> None:
    """Only detach() cuts the graph: start() and chunks give the gradient of the whole sequence."""
    model = subject.build()
    assert isinstance(model, Autoregressive)
    rows, found = subject.rows(3, 11, salt=66), []
    for sizes in ([10], [4, 1, 1, 4]):
        model.zero_grad()
        subject.nats_through_state(model, rows, sizes).backward()
        found.append(_gradients(model))
    for (name, _), whole, parts in zip(model.named_parameters(), *found, strict=True):
        same(parts, whole, f"gradient of {name} through chunks against all at once")


def accumulation(subject: Subject) -> None:
    """A batch of 8 ragged rows and 8 batches of one give one gradient: each term is divided by its global count."""
    model = subject.build()
    objective, batch = subject.objective(model), subject.batch(8, 13, salt=63)

    def gradients(parts: list[Batch], counts: dict[str, Tensor]) -> list[Tensor]:
        model.zero_grad()
        for part in parts:
            terms, _ = objective(part)
            total(terms, counts).backward()
        return _gradients(model)

    counts = objective.counts(batch)
    together = gradients([batch], counts)
    apart = gradients([batch.rows(b, b + 1) for b in range(8)], counts)
    for (name, _), one, eight in zip(model.named_parameters(), together, apart, strict=True):
        same(eight, one, f"gradient of {name} in 8 x 1 rows against 1 x 8")


def recorded(subject: Subject) -> str:
    """Recording every probe changes no prediction (an observed layer may take its explicit path)."""
    model = subject.build()
    plain = subject.answers(model)
    with Recorder(model) as seen:
        same(subject.answers(model), plain, "with every probe recorded")
    silent = [name for name, values in seen.values.items() if not values and not name.startswith(subject.resting)]
    if silent:
        raise LawBroken(f"nothing passes through the probe {silent[0]}")
    same(subject.answers(model), plain, "after the recorder was removed", 0)
    return f"{len(seen.values)} probes"


def _counted(subject: Subject, *batches: Batch) -> SequenceModel:
    """A new model updated once, from the sum of the statistics of the batches."""
    model = subject.raw()
    assert isinstance(model, Counting)
    stats = model.summarize(batches[0])
    for batch in batches[1:]:
        stats = stats + model.summarize(batch)
    updated = model.update(stats)
    assert isinstance(updated, SequenceModel)
    return updated.eval()


def statistics_add_up(subject: Subject) -> None:
    """Statistics of parts, in any order, are the statistics of the whole; padding is not counted."""
    batch = subject.training(salt=64)
    rows = len(batch.targets_BT)
    one, two, three = (batch.rows(rows * a // 7, rows * z // 7) for a, z in ((0, 3), (3, 4), (4, 7)))
    whole = subject.answers(_counted(subject, batch))
    same(subject.answers(_counted(subject, one, two, three)), whole, "a model of summed statistics")
    same(subject.answers(_counted(subject, three, one, two)), whole, "a model of statistics summed in another order")
    other = subject.other_pads(batch)
    same(subject.answers(_counted(subject, other)), whole, "a model of the same rows with other padding")


def counting_is_deterministic(subject: Subject) -> None:
    """Two updates from the same statistics give the same model, bit for bit."""
    batch = subject.training(salt=65)
    same(
        subject.answers(_counted(subject, batch)),
        subject.answers(_counted(subject, batch)),
        "two models updated from the same statistics",
        0,
    )
