"""Attribution in taggers, classifiers and masked models: completeness, and tables that were changed by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from chainrule.api import Run
from chainrule.core import TaggedBatch, TextBatch
from tests.explain.labelled_runs import task_run

LINE = "3 the cat sat on a mat"
CASES: dict[str, tuple[str, int]] = {
    "fill bert": ("3 the c[MASK]t sat on", 7), "classify transformer": (LINE, 4), "classify bert": (LINE + LINE, 36),
    "classify gru": (LINE, 4), "tag transformer": (LINE, 2), "tag bert": (LINE, 2), "tag lstm": (LINE, 2),
}  # fmt: skip


def shaken(case: str) -> Run:
    """Return a run in float64 whose weights are far from those that it began with."""
    run = task_run(*case.split())
    model = copy.deepcopy(run.model).double()
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return replace(run, model=model.eval())


def tables(model: Any) -> Iterator[torch.nn.Embedding]:
    """Yield the tables of tokens."""
    for name in ("embedding", "inputs.embedding", "inputs.words.embedding", "inputs.reader.embedding"):
        if name in dict(model.named_modules()):
            yield model.get_submodule(name)


@contextmanager
def without(run: Run, *tokens: int) -> Iterator[None]:
    """The rows of some tokens, or of all but the start token, are the mean of their table, and no word has letters."""
    inner, kept = getattr(run.model, "inputs", run.model), {n: w.clone() for n, w in run.model.state_dict().items()}
    spelling = getattr(getattr(inner, "words", inner), "spelling", None)
    handle = spelling and not tokens and spelling.register_forward_hook(lambda _m, _i, out: torch.zeros_like(out))
    with torch.no_grad():
        for table in tables(run.model):
            mean_D = table.weight.mean(0)
            start = getattr(getattr(inner, "reader", inner), "start_id", -1)
            chosen = [*tokens] or [k for k in range(len(table.weight)) if k != start]
            table.weight[chosen] = mean_D
    yield
    if handle:
        handle.remove()
    run.model.load_state_dict(kept)


def log_p(run: Run, case: str, answer: str) -> float:
    """log p of an answer, by the calls of the model."""
    text, _ = CASES[case]
    label = run.processor.labels.index(answer)
    if case.startswith("classify"):
        batch = run.processor.reader.read(TextBatch(torch.zeros(1, 0), torch.zeros(1, 0), texts=(text,)))
        return run.model.classify(batch)[0, label].item()
    batch = run.processor.reader.read(TaggedBatch(torch.zeros(1, 0), torch.zeros(1, 0), words=(tuple(text.split()),)))
    return run.model(batch).logits()[0, 2].log_softmax(-1)[label].item()


@pytest.mark.parametrize("case", CASES)
def test_scores_add_up_within_one_percent(case: str) -> None:
    run, (text, at) = shaken(case), CASES[case]
    trace = run.explain(text, at=at, view=["integrated_gradients", "occlusion"])["trace"]
    found, other = trace["integrated_gradients"], trace["occlusion"]
    assert abs(found["total"]) > 1e-3 and sum(found["scores"]) == pytest.approx(found["total"], rel=0.01)
    assert found["total"] == pytest.approx(other["total"], abs=1e-9) and found["first"] == other["first"] == 0
    assert len(found["scores"]) == len(other["scores"]) == len(trace["tokens"])


@pytest.mark.parametrize("case", ["classify transformer", "classify bert", "tag transformer", "tag bert"])
def test_the_total_is_the_change_to_tables_of_means(case: str) -> None:
    run, (text, at) = shaken(case), CASES[case]
    found = run.explain(text, at=at, view="integrated_gradients")["trace"]["integrated_gradients"]
    answer = run.explain(text, at=at, view="attention")["trace"]["attention"]["answer"]
    known = log_p(run, case, answer)
    with without(run):
        nothing = log_p(run, case, answer)
    assert found["total"] == pytest.approx(known - nothing, abs=1e-9)


def test_occlusion_of_a_token_that_occurs_once_is_the_change_of_its_row() -> None:
    run = shaken("classify transformer")
    found = run.explain(LINE, view="occlusion")["trace"]["occlusion"]["scores"]
    answer = run.explain(LINE, view="attention")["trace"]["attention"]["answer"]
    known = log_p(run, "classify transformer", answer)
    for token in "3hcm":
        assert LINE.count(token) == 1
        (k,) = run.processor.reader.tokenizer.encode(token.encode()).ids
        with without(run, int(k)):
            score = known - log_p(run, "classify transformer", answer)
        assert found[LINE.index(token)] == pytest.approx(score, abs=1e-9) and abs(score) > 1e-4
