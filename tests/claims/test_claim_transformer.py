"""The Transformer: codes and cells against a GPT written out by hand, and models without attention."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from chainrule.api import Run
from chainrule.claims import Runs, antecedent
from chainrule.claims.antecedent import Sentence, antecedents, knows_grammar, sentences
from chainrule.claims.cell_by_hand import checked, in_double
from chainrule.claims.neighbours import codes, spread
from chainrule.data.synthetic_tasks import AGREEING, NOUNS, REFLEXIVES
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.views import Asked
from chainrule.nn.attention import Attention
from tests.claims.loaded import claim, loaded, table
from tests.explain.decoders import KINDS, random_run, read_by_hand
from tests.explain.labelled_runs import task_run
from tests.explain.runs import small_run

IDS = [*b"a cat, a hat"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_code_gives_the_prediction_of_a_model_written_out(kind: str) -> None:
    run, target = random_run(kind), 5
    *_, last = codes(run, [IDS], len(IDS))
    model = run.model
    matrix = model.embedding.weight[: model.vocab_size] if model.head is None else model.head.weight
    log_p = (last[0] @ matrix.T).log_softmax(-1)[target].detach()
    assert float(log_p) == pytest.approx(float(read_by_hand(run, IDS, target).log_p.detach()), abs=1e-9)


def asked(**more: Any) -> Asked:
    return Asked(**{"at": 10, "top_k": 1, "layer": 1, "head": 2, "begin": 0, "end": len(IDS), **more})


def given(run: Run) -> ModelInput:
    return in_double(ModelInput(run, np.array(IDS, np.int64), [chr(k) for k in IDS]))


@pytest.mark.parametrize("kind", KINDS)
def test_plain_formulas_agree_with_every_kind_of_attention(kind: str) -> None:
    cell, steps = checked(given(random_run(kind)), asked())
    assert max(step.apart for step in steps) < 1e-12 and {step.name for step in steps} >= {"score", "output"}
    weights = read_by_hand(random_run(kind), IDS[:10], 5).weights[1][2, -1]
    assert cell.weight == pytest.approx(float(weights.detach().max()), abs=1e-12)


def test_a_wrong_scale_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Attention.attention_weights
    monkeypatch.setattr(Attention, "attention_weights", lambda self, q, k, bias: right(self, q * 1.01, k, bias))
    assert max(step.apart for step in checked(given(random_run("rotary")), asked())[1]) > 1e-6
    assert claim("transformer").measure(loaded("gpt")).holds == "no"


def test_the_table_stays_and_codes_move() -> None:
    found = claim("transformer").measure(loaded("gpt", "gru", filler=task_run("fill", "bert")))
    assert found.holds == "yes"
    lines = {said.values["run"]: values for said, values in table(found, "codes") if said.key == "line_same"}
    assert {*lines} == {"gpt", "filler"} and all(line[0] == 0 for line in lines.values())
    depth = {name: counts for name, *counts in table(found, "depth")}
    assert depth == {"gpt": [1, 1], "gru": [16, 64]}
    for _, *shares in table(found, "heads"):
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_codes_stay_where_nothing_is_attended_to() -> None:
    model = copy.deepcopy(small_run("gpt").model)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.out.weight)
    found = claim("transformer").measure(Runs({"made": replace(small_run("gpt"), model=model)}))
    assert found.holds == "no" and found.told[0].key == "still"


def test_spread_is_the_mean_distance_of_pairs() -> None:
    code_ND = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [(a - b).norm() for k, a in enumerate(code_ND) for b in code_ND[:k]]
    assert spread(code_ND) == pytest.approx(float(sum(pairs) / len(pairs) / code_ND.norm(dim=1).mean()))


# --------------------------------------------------------------------------------------------------------- the grammar


def test_sentences_have_the_antecedent_in_the_clause_of_the_reflexive() -> None:
    found = sentences()
    assert len(found) == antecedent.SENTENCES
    for one in found:
        clause = one.words[len(one.words) - one.words[::-1].index("that") :] if "that" in one.words else one.words
        first = next(word for word in clause if word in NOUNS)
        assert one.words[one.antecedent] == first in AGREEING[one.reflexive].split()
        assert [k for k, word in enumerate(one.words) if word in NOUNS and k != one.antecedent] == one.others


def test_a_head_that_points_at_antecedents_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(run: Run, given: list[Sentence]) -> tuple[list[torch.Tensor], torch.Tensor]:
        weights = [torch.rand(2, 3, len(one.words), generator=rng) for one in given]
        for one, weights_LHS in zip(given, weights):
            weights_LHS[1, 2, one.antecedent] = 2.0
        return weights, torch.tensor([one.reflexive == REFLEXIVES[0] for one in given])

    rng, given = torch.Generator().manual_seed(0), sentences()
    monkeypatch.setattr(antecedent, "_read", read)
    found = antecedents(small_run("gpt"), given)
    assert (found.layer, found.head, found.share) == (1, 2, 1.0)
    tested = given[1::2]
    assert found.right == sum(one.reflexive == REFLEXIVES[0] for one in tested) / len(tested)
    assert found.nearest == sum(max(one.others) < one.antecedent for one in tested) / len(tested)


def test_an_untrained_run_of_words_does_not_find_antecedents() -> None:
    run = grammar_run()
    assert knows_grammar(run) and not knows_grammar(small_run("gpt")) and not knows_grammar(small_run("gru"))
    found = claim("transformer").measure(Runs({"grammar": run}))
    (scored,) = [said for said in found.told if said.key.startswith("attends")]
    assert scored.values["share"] < 70 and found.command == ""


def grammar_run() -> Run:
    """A run of random weights over the words of the grammar."""
    from chainrule.core import model_type
    from chainrule.data.processors import TextProcessor
    from chainrule.data.words import WordTokenizer

    tokenizer = WordTokenizer([*NOUNS, *REFLEXIVES, "the", "that", "who"], True)
    chosen = model_type("gpt")
    torch.manual_seed(0)
    model = chosen.build(chosen.configure("tiny", vocab_size=tokenizer.vocab_size))
    return replace(small_run("gpt"), model=model, processor=TextProcessor(tokenizer, "lines", b"\n"))
